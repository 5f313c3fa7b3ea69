"""The verb `eval`: one command a benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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


@evaluate.command
def static_hhh(
    *,
    model: ModelName,
    data: Data,
    revision: Revision = None,
    metric: Annotated[
        Literal["ab", "likelihood", "reward"] | None,
        Parameter(help="Of a language model ab or likelihood, of a reward model reward."),
    ] = None,
    seed: Seed = 0,
    limit: Limit = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Static HHH: which of two replies is more helpful, honest and harmless, beside always-longer."""
    from .evals import static_hhh as benchmark
    from .evals.subject import find
    from .report import Bars
    from .store import Store

    store = Store(root)
    with Bars() as bars:
        subject = find(store, model, revision, _options(device, dtype))
        result = benchmark.run(store, subject, data, metric, seed, limit, None if json else bars)
    _shown(result, json, root)


@evaluate.command
def truthfulqa(
    *,
    model: ModelName,
    data: Data,
    revision: Revision = None,
    metric: Annotated[
        Literal["true", "likelihood", "reward"] | None,
        Parameter(help="Of a language model true or likelihood, of a reward model reward."),
    ] = None,
    seed: Seed = 0,
    limit: Limit = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """TruthfulQA, MC1: which of the answers to a question is true, beside the longest and the shortest."""
    from .evals import truthfulqa as benchmark
    from .evals.subject import find
    from .report import Bars
    from .store import Store

    store = Store(root)
    with Bars() as bars:
        subject = find(store, model, revision, _options(device, dtype))
        result = benchmark.run(store, subject, data, metric, seed, limit, None if json else bars)
    _shown(result, json, root)


@evaluate.command
def lm_eval(
    *,
    model: ModelName,
    tasks: Annotated[str, Parameter(help="Tasks of lm-evaluation-harness, as mmlu,lambada_openai.")],
    include: Annotated[Path | None, Parameter(help="Folder of task files of your own.")] = None,
    revision: Revision = None,
    before: Annotated[
        str | None, Parameter(help="The model before alignment: the difference from it is the alignment tax.")
    ] = None,
    shots: Annotated[int | None, Parameter(help="Examples in each prompt; as the task says.")] = None,
    limit: Annotated[int | None, Parameter(help="Only the first so many items of each task.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Tasks of lm-evaluation-harness, and with --before what alignment cost on them."""
    from .evals import lm_eval_tasks
    from .evals.subject import find
    from .store import Store

    store = Store(root)
    options = _options(device, dtype)
    subject = find(store, model, revision, options)
    base = find(store, before, None, options, flag="--before") if before else None
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    result = lm_eval_tasks.run(store, subject, names, include, base, shots, limit)
    _shown(result, json, root)


def _options(device: str | None, dtype: str | None) -> "Options":
    from .scoring import check_options

    given = {"device": device, "dtype": dtype}
    return check_options({key: value for key, value in given.items() if value is not None})


def _shown(result: "Result", json: bool, root: Path) -> None:
    from . import show_eval
    from .store import Store

    show_eval.result(Store(root), result, json)
