"""The verb `eval`: one command a benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from .evals.result import Result
    from .scoring import Options

evaluate = App(name="eval", help="Judge a model on a benchmark, beside the baselines that expose shortcuts.")

ModelName = Annotated[
    str,
    Parameter(help="name@version, Hub id, folder, pypi:PACKAGE, or baseline:longest, first, random."),
]
Data = Annotated[str, Parameter(help="Local file or folder, or ORG/NAME@REVISION on the Hub.")]
Limit = Annotated[int | None, Parameter(help="Only so many items, drawn by the seed.")]
Seed = Annotated[int, Parameter(help="Of what is shuffled and drawn.")]
Json = Annotated[bool, Parameter(negative=(), help="Print result.json.")]
Device = Annotated[str | None, Parameter(help="cpu, cuda or mps; a GPU where there is one.")]
Dtype = Annotated[str | None, Parameter(help="float32, bfloat16 or float16.")]
Root = Annotated[Path, Parameter(name="--root", help="Folder of the store.")]
ROOT = Path("build")


def _options(device: str | None, dtype: str | None) -> "Options":
    from .scoring import check_options

    given = {"device": device, "dtype": dtype}
    return check_options({key: value for key, value in given.items() if value is not None})


def _shown(result: "Result", json: bool, root: Path) -> None:
    from . import show_eval
    from .store import Store

    show_eval.result(Store(root), result, json)
