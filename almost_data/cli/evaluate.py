"""The verb `eval`: one command a benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from ..evals import HH_RLHF, HHH, TRUTHFULQA
from .options import ROOT, Root

if TYPE_CHECKING:
    from ..evals.result import Result
    from ..scoring import Options

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


@evaluate.command
def static_hhh(
    *,
    model: ModelName,
    data: Data = HHH,
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
    from ..evals import static_hhh as benchmark
    from ..evals.subject import find
    from ..store.store import Store
    from .progress import progress_bars

    store = Store(root)
    with progress_bars() as bars:
        subject = find(store, model, revision, _options(device, dtype))
        result = benchmark.run(store, subject, data, metric, seed, limit, None if json else bars)
    _shown(result, json, root)


@evaluate.command
def truthfulqa(
    *,
    model: ModelName,
    data: Data = TRUTHFULQA,
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
    from ..evals import truthfulqa as benchmark
    from ..evals.subject import find
    from ..store.store import Store
    from .progress import progress_bars

    store = Store(root)
    with progress_bars() as bars:
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
    from ..evals import lm_eval_tasks
    from ..evals.subject import find
    from ..store.store import Store
    from .progress import progress_bars

    store = Store(root)
    options = _options(device, dtype)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    with progress_bars() as bars:
        subject = find(store, model, revision, options)
        base = find(store, before, None, options, flag="--before") if before else None
        shown = None if json else bars
        result = lm_eval_tasks.run(store, subject, names, include, base, shots, limit, shown)
    _shown(result, json, root)


@evaluate.command
def preference(
    *,
    model: ModelName,
    dataset: Annotated[
        str, Parameter(help="name@version, ORG/NAME@REVISION, or a JSONL or Parquet file: any TRL format.")
    ] = HH_RLHF,
    revision: Revision = None,
    config: Annotated[str | None, Parameter(help="Config of the dataset; of HH-RLHF helpful-base.")] = None,
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
    from ..evals import preference as benchmark
    from ..store.store import Store
    from .progress import progress_bars

    with progress_bars() as bars:
        result = benchmark.run(
            Store(root),
            model,
            dataset,
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


Answering = Annotated[
    str | None,
    Parameter(help="Model (name@version, Hub id, folder, pypi:PACKAGE), or .jsonl of its answers."),
]


@evaluate.command
def vicuna(
    *,
    a: Annotated[Answering, Parameter(name="--a")] = None,
    b: Annotated[Answering, Parameter(name="--b")] = None,
    data: Annotated[Path | None, Parameter(help="JSONL of questions: question_id, text, category.")] = None,
    judge: Annotated[
        str | None, Parameter(help="Address of an OpenAI-compatible chat server, to /v1.")
    ] = None,
    judge_model: Annotated[str | None, Parameter(help="Its name there, where there are several.")] = None,
    replay: Annotated[
        Path | None,
        Parameter(help="JSONL of saved reviews, read instead of asking: question_id, text, score."),
    ] = None,
    engine: Annotated[str | None, Parameter(help="What runs the models that answer.")] = None,
    base_url: Annotated[
        tuple[str, ...], Parameter(negative=(), help="Their server's address, asked by chat; repeatable.")
    ] = (),
    limit: Limit = None,
    seed: Seed = 0,
    max_new_tokens: Annotated[int, Parameter(help="Of an answer.")] = 1024,
    temperature: Annotated[float, Parameter(help="Of an answer.")] = 0.7,
    judge_temperature: Annotated[float, Parameter(help="Of a verdict.")] = 0.0,
    judge_tokens: Annotated[int, Parameter(help="Of a verdict, at most.")] = 1024,
    judge_timeout: Annotated[float, Parameter(help="Seconds that a verdict may take.")] = 120.0,
    max_failures: Annotated[
        float, Parameter(help="Share of answers, and of verdicts, that may fail before the run stops.")
    ] = 0.01,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Vicuna Questions: two models answer, a judge scores both in both orders; or saved reviews again."""
    from ..errors import InputError
    from ..evals import answers
    from ..evals import vicuna as benchmark
    from ..evals.judge import engine as judge_engine
    from ..evals.judge import only
    from ..store.store import Store
    from .progress import progress_bars

    store = Store(root)
    if replay is not None:
        if judge or judge_model or engine or base_url:
            raise InputError(
                "--replay asks nobody: leave out --judge, --judge-model, --engine and --base-url"
            )
        how = benchmark.Settings(limit, seed)
        _shown(benchmark.replay(store, replay, a, b, data, how), json, root)
        return
    if a is None or b is None or data is None or judge is None:
        raise InputError("eval vicuna needs --a, --b, --data and --judge; or --replay FILE")
    how = benchmark.Settings(limit, seed, max_new_tokens, temperature, judge_temperature, judge_tokens)
    asked = judge_engine(judge, judge_timeout)
    written = a.endswith(".jsonl") and b.endswith(".jsonl")
    generator = None if written else answers.engine(engine, base_url)
    with progress_bars() as bars:
        result = benchmark.run(
            store,
            a,
            b,
            data,
            judge_model or only(asked),
            asked,
            generator,
            how,
            max_failures,
            None if json else bars,
        )
    _shown(result, json, root)


def _options(device: str | None, dtype: str | None) -> "Options":
    from ..scoring import check_options

    given = {"device": device, "dtype": dtype}
    return check_options({key: value for key, value in given.items() if value is not None})


def _shown(result: "Result", json: bool, root: Path) -> None:
    from ..store.store import Store
    from . import show_eval

    show_eval.result(Store(root), result, json)
