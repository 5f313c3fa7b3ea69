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
Revision = Annotated[str | None, Parameter(help="Tag or commit of a model on the Hub.")]
Limit = Annotated[int | None, Parameter(help="Only so many items, drawn by the seed.")]
Seed = Annotated[int, Parameter(help="Of what is shuffled and drawn.")]
Json = Annotated[bool, Parameter(negative=(), help="Print result.json.")]
Device = Annotated[str | None, Parameter(help="cpu, cuda or mps; a GPU where there is one.")]
Dtype = Annotated[str | None, Parameter(help="float32, bfloat16 or float16.")]
Root = Annotated[Path, Parameter(name="--root", help="Folder of the store.")]
ROOT = Path("build")


@evaluate.command
def preference(
    *,
    model: ModelName,
    data: Annotated[
        str, Parameter(help="name@version, ORG/NAME@REVISION, or a JSONL or Parquet file: any TRL format.")
    ],
    revision: Revision = None,
    config: Annotated[str | None, Parameter(help="Config of the dataset, if not the default.")] = None,
    split: Annotated[str, Parameter(help="Split of the dataset to judge on.")] = "test",
    versus: Annotated[
        tuple[str, ...],
        Parameter(negative=(), help="Another model on the same comparisons; repeatable."),
    ] = (),
    seed: Seed = 0,
    limit: Limit = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Accuracy on comparisons, beside always-longer, a model of the surface, and other models."""
    from .evals import preference as benchmark
    from .report import Bars
    from .store import Store

    with Bars() as bars:
        result = benchmark.run(
            Store(root),
            model,
            data,
            revision=revision,
            config=config,
            split=split,
            versus=versus,
            limit=limit,
            seed=seed,
            options=_options(device, dtype),
            progress=None if json else bars,
        )
    _shown(result, json, root)


def _options(device: str | None, dtype: str | None) -> "Options":
    from .scoring import check_options

    given = {"device": device, "dtype": dtype}
    return check_options({key: value for key, value in given.items() if value is not None})


def _shown(result: "Result", json: bool, root: Path) -> None:
    from . import show_eval
    from .store import Store

    show_eval.result(Store(root), result, json)
