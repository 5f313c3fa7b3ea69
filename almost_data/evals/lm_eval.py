"""Tasks of lm-evaluation-harness, and what alignment cost on them (the paper's Appendix F: MMLU, LAMBADA).

The library loads the data, asks and counts; its standard errors make the intervals. The difference from the
model before alignment is taken item by item. Prompts are the tasks' own, without a chat template. The journal
keeps the answers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError, one_line
from ..registry import installed_version
from . import stats
from .evaluation import EvalSession, Evaluation, ItemValue, ModelOptions
from .lm_eval_data import Tasks, load_tasks
from .lm_eval_model import journaled_model, quiet
from .result import LESS, EvalPlan, Line, Measurement
from .subject import Subject

BOOTSTRAPS = 1000
"""For a metric whose standard error has no formula."""
ROLES = ("model", "before")


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    tasks: str
    """Tasks of lm-evaluation-harness, with commas between: mmlu,lambada_openai."""
    include: Path | None = None
    """Folder of your own task files."""
    before: str | None = None
    """The model before alignment: the difference from it is the alignment tax."""
    shots: int | None = None
    """Examples in each prompt; by default as the task says."""
    limit: int | None = None
    """Evaluate at most this many items of each task."""

    @property
    def names(self) -> list[str]:
        return [name.strip() for name in self.tasks.split(",") if name.strip()]


@dataclass(frozen=True)
class TaskNumber:
    """One metric of one model on one task or group."""

    line: Line
    error: float | None
    """Standard error."""
    items: list[float]
    """One value for each item, where the number is their mean; otherwise none."""
    is_share: bool
    """Whether it is a share of a task in no group: others are in a table beside the lines."""


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """The evaluation of the model, and of the one before. Raises InputError for unknown tasks or no data."""
    subjects = [session.subject(options)]
    if options.before:
        subjects.append(session.subject(options, options.before, "eval.before"))
    for model in subjects:
        if model.kind != "language":
            raise InputError(
                f"{model.pinned.id}: lm-eval needs a language model, and this one scores dialogues"
            )
    if options.before and subjects[1].pinned == subjects[0].pinned:
        raise InputError(
            f"eval.before {subjects[1].pinned.id}: the same model as eval.model, so no difference"
        )
    if options.shots is not None and options.shots < 0:
        raise InputError(f"eval.shots {options.shots}: give 0 or more")
    if not find_spec("lm_eval"):
        raise InputError("lm-eval runs lm-evaluation-harness: pip install 'almost_data[eval]'")
    with quiet():
        tasks = load_tasks(options.names, options.include)

    def measure() -> Measurement:
        if options.limit:
            session.notes.append(
                f"Only the first {options.limit} items of each task: not the numbers of whole tasks."
            )
        with quiet():
            numbers = [_evaluate(session, model, tasks, options) for model in subjects]
        return _measurement([model.pinned.id for model in subjects], numbers, subjects[0].scorer.settings())

    return EvalPlan(
        models=[msgspec.structs.replace(m.pinned, role=r) for m, r in zip(subjects, ROLES, strict=False)],
        data=tasks.pinned,
        settings={
            "tasks": tasks.recorded,
            "lm_eval": installed_version("lm_eval"),
            "shots": options.shots,
            "limit": options.limit,
            "max_tokens": [model.scorer.max_tokens for model in subjects],
            "dtype": [model.dtype for model in subjects],
            "chat_template": False,
        },
        measure=measure,
    )


def _measurement(
    names: list[str], numbers: list[list[TaskNumber]], environment: dict[str, Any]
) -> Measurement:
    """Lines of shares, differences between the two models, and a table of all other numbers."""
    lines = [number.line for of_model in numbers for number in of_model if number.is_share]
    rows: list[list[Any]] = []
    for same in zip(*numbers, strict=True):  # one number, of each model
        line = same[0].line
        if not same[0].is_share:
            rows.append([line.subset, line.metric, line.n, *_cells(same)])
        elif len(same) > 1:
            gaps = np.subtract(same[0].items, same[1].items).tolist()
            lines.append(Line(LESS.join(names), line.metric, line.subset, line.n, *stats.paired(gaps)))
    columns = ["task", "metric", "items", *names, *["difference"] * (len(names) > 1)]
    parts = {"title": "Parts, and what is no share", "columns": columns, "rows": rows}
    items = [
        {"model": line.who, "subset": line.subset, "metric": line.metric, "item": place, "value": value}
        for of_model in numbers
        for number in of_model
        for line in [number.line]
        for place, value in enumerate(number.items)
    ]
    return Measurement(
        lines,
        items,
        key=("model", "subset", "metric", "item"),
        details={"parts": parts} if rows else {},
        environment=environment,
    )


def item_value(row: dict[str, Any], line: Line) -> ItemValue | None:
    """The value of an item of this model, task and metric."""
    if (row["model"], row["subset"], row["metric"]) != (line.who, line.subset, line.metric):
        return None
    return ItemValue(str(row["item"]), row["value"], str(row["item"]))


def _cells(same: Sequence[TaskNumber]) -> list[str]:
    """One number of each model with its 95% margin, and the difference of two."""
    values = [float(number.line.value or 0) for number in same]
    errors = ["" if number.error is None else f" ± {1.96 * number.error:.4f}" for number in same]
    cells = [f"{value:.4f}{error}" for value, error in zip(values, errors, strict=True)]
    return [*cells, f"{values[0] - values[1]:.4f}"] if len(same) > 1 else cells


def _evaluate(session: EvalSession, subject: Subject, tasks: Tasks, options: Options) -> list[TaskNumber]:
    """Every number of one model."""
    import lm_eval

    model = journaled_model(session, subject)
    try:
        results = lm_eval.simple_evaluate(
            model,
            tasks=list(tasks.names),
            task_manager=tasks.manager,
            num_fewshot=options.shots,
            limit=options.limit,
            log_samples=True,
            bootstrap_iters=BOOTSTRAPS,
        )
    except Exception as error:
        raise RuntimeError(f"{subject.pinned.id} cannot be asked: {one_line(error)}") from error
    subject.scorer.close()
    return [
        _number(subject.pinned.id, tasks, name, key, row, results["samples"])
        for name, row in {**results.get("groups", {}), **results["results"]}.items()
        for key, value in row.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float)
    ]


def _number(
    who: str, tasks: Tasks, name: str, key: str, results: dict[str, Any], samples: dict[str, Any]
) -> TaskNumber:
    """One of the library's numbers, with the items that it is a mean of.

    `key` is a metric and the library's filter, which reads answers out of replies.
    """
    metric, _, answers = key.partition(",")
    value, error = float(results[key]), results.get(f"{metric}_stderr,{answers}")
    error = float(error) if isinstance(error, int | float) and math.isfinite(error) else None
    rows = [row for task in tasks.leaves[name] for row in samples[task] if row["filter"] == answers]
    values = [row.get(metric) for row in rows]
    items: list[float] = []
    # The tasks of an inner group have the same items.
    is_inner = name not in tasks.top and name not in tasks.recorded
    if values and not is_inner and all(isinstance(item, int | float | np.number) for item in values):
        items = list(map(float, values))
        items = items if math.isclose(float(np.mean(items)), value, abs_tol=1e-6) else []
    choices = [len(row["resps"]) for row in rows]
    has_chance = metric in ("acc", "acc_norm") and choices and min(choices) > 1
    line = Line(
        who,
        metric if answers == "none" else f"{metric} ({answers})",
        name,
        len(items) or len({(row["doc_hash"], row["doc_id"]) for row in rows}),
        *_interval(value, error, items),
        chance=float(np.mean([1 / count for count in choices])) if has_chance else None,
    )
    is_share = name in tasks.top and bool(items) and all(0 <= item <= 1 for item in items)
    return TaskNumber(line, error, items, is_share)


def _interval(
    value: float, error: float | None, items: list[float]
) -> tuple[float, float | None, float | None]:
    """A share with its 95% interval: Wilson's where all items agree, as the standard error is 0."""
    if error is None:
        return value, None, None
    if error == 0 and items:
        return stats.share(items)
    half = 1.96 * error
    return value, round(max(0.0, value - half), 4), round(min(1.0, value + half), 4)


EVALUATION = Evaluation(
    name="lm-eval",
    logic_version=4,
    options=Options,
    plan=plan,
    description="Tasks of lm-evaluation-harness, and what alignment cost on them.",
    item_value=item_value,
)
