"""Tasks of lm-evaluation-harness, and what alignment cost on them (the paper's Appendix F: MMLU, LAMBADA).

The library loads the data, asks and counts; its standard errors make the intervals. The difference from the
model before alignment is taken item by item. Prompts are the tasks' own, without a chat template. The journal
keeps the answers.
"""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from ..errors import InputError, one_line
from ..registry import installed_version
from . import stats
from .evaluation import EvalSession, Evaluation, ItemValue, ModelOptions
from .lm_eval_data import Tasks, load_tasks
from .lm_eval_model import journaled_model, quiet
from .result import LESS, EvalPlan, Line, Measurement
from .subject import Likelihood, Subject, harness, network_settings

BOOTSTRAPS = 1000
"""For a metric whose standard error has no formula."""
ROLES = ("model", "before")


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    tasks: str
    """Tasks of lm-evaluation-harness, as mmlu,lambada_openai."""
    include: Path | None = None
    """Folder of your own task files."""
    before: str | None = None
    """The model before alignment: the difference from it is the alignment tax."""
    shots: int | None = None
    """Examples in each prompt; by default as the task says."""
    limit: int | None = None
    """Only the first so many items of each task."""

    @property
    def names(self) -> list[str]:
        return [name.strip() for name in self.tasks.split(",") if name.strip()]


@dataclass(frozen=True)
class Number:
    """One metric of one model on one task or group."""

    name: str
    metric: str
    n: int
    value: float
    error: float | None
    """Standard error."""
    items: list[float] | None
    """One value for each item, where `value` is their mean."""
    is_top: bool
    """Whether the task is in no other group."""
    chance: float | None = None
    """What guessing gives, where an item has choices."""

    @property
    def is_line(self) -> bool:
        """Whether it is a share of a task in no group: others are in a table beside the lines."""
        return self.is_top and self.items is not None and all(0 <= value <= 1 for value in self.items)

    def interval(self) -> tuple[float, float | None, float | None]:
        """The share with its 95% interval: Wilson's where all items agree, as the standard error is 0."""
        if self.error is None:
            return self.value, None, None
        if self.error == 0 and self.items:
            return stats.share(self.items)
        half = 1.96 * self.error
        return self.value, round(max(0.0, self.value - half), 4), round(min(1.0, self.value + half), 4)


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """The evaluation of the model, and of the one before. Raises InputError for unknown tasks or no data."""
    subject = session.subject(options)
    before = session.model(options.before, options, "eval.before") if options.before else None
    return plan_subjects(session, options, subject, before)


def plan_subjects(
    session: EvalSession, options: Options, subject: Subject, before: Subject | None = None
) -> EvalPlan:
    subjects = [subject, *([before] if before else [])]
    for model in subjects:
        if model.kind != "language":
            raise InputError(
                f"{model.pinned.id}: lm-eval needs a language model, and this one scores dialogues"
            )
    if before and before.pinned == subject.pinned:
        raise InputError(f"eval.before {before.pinned.id}: the same model as eval.model, so no difference")
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
            answers = [_evaluate(session, model, tasks, options) for model in subjects]
        names = [model.pinned.id for model in subjects]
        return _measurement(names, [numbers for numbers, _ in answers], answers[0][1])

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


def _measurement(names: list[str], numbers: list[list[Number]], environment: dict[str, Any]) -> Measurement:
    """Lines of shares, differences between the two models, and a table of all other numbers."""
    lines = [
        Line(name, number.metric, number.name, number.n, *number.interval(), chance=number.chance)
        for name, of_model in zip(names, numbers, strict=True)
        for number in of_model
        if number.is_line
    ]
    columns, rows = ["task", "metric", "items", *names], []
    if len(names) > 1:
        columns.append("difference")
    for same in zip(*numbers, strict=True):
        first = same[0]
        if not first.is_line:
            cells = [_value_text(number.value, number.error) for number in same]
            cells += [_value_text(first.value - same[1].value, None)] if len(same) > 1 else []
            rows.append([first.name, first.metric, first.n, *cells])
        elif len(same) > 1:
            who = LESS.join(names)
            lines.append(Line(who, first.metric, first.name, first.n, *difference(first, same[1])))
    parts = {"title": "Parts, and what is no share", "columns": columns, "rows": rows}
    items = [
        {"model": name, "subset": number.name, "metric": number.metric, "item": place, "value": value}
        for name, of_model in zip(names, numbers, strict=True)
        for number in of_model
        for place, value in enumerate(number.items or [])
    ]
    return Measurement(
        lines,
        items,
        key=("model", "subset", "metric", "item"),
        details={"parts": parts} if rows else {},
        environment=environment,
    )


def difference(a: Number, b: Number) -> tuple[float, float | None, float | None]:
    """How far `a` is above `b`, with its 95% interval: by the differences of the same items."""
    gaps = np.subtract(a.items or [], b.items or []).tolist()
    if len(gaps) < 2:
        return a.value - b.value, None, None
    return stats.paired(gaps)


def item_value(row: dict[str, Any], line: Line) -> ItemValue | None:
    """The value of an item of this model, task and metric."""
    if (row["model"], row["subset"], row["metric"]) != (line.who, line.subset, line.metric):
        return None
    return ItemValue(str(row["item"]), row["value"], str(row["item"]))


def _value_text(value: float, error: float | None) -> str:
    return f"{value:.4f}" + (f" ± {1.96 * error:.4f}" if error is not None else "")


def _evaluate(
    session: EvalSession, subject: Subject, tasks: Tasks, options: Options
) -> tuple[list[Number], dict[str, Any]]:
    """Every number of one model, and how it ran."""
    import lm_eval

    scorer = cast(Likelihood, subject.scorer)
    network = harness(scorer.folder, scorer.model, scorer.max_tokens, scorer.options)
    try:
        results = lm_eval.simple_evaluate(
            journaled_model(session, subject, network),
            tasks=list(tasks.names),
            task_manager=tasks.manager,
            num_fewshot=options.shots,
            limit=options.limit,
            log_samples=True,
            bootstrap_iters=BOOTSTRAPS,
        )
    except Exception as error:
        raise RuntimeError(f"{subject.pinned.id} cannot be asked: {one_line(error)}") from error
    samples = results["samples"]
    numbers = [
        _number(tasks, name, metric, answers, value, row.get(f"{metric}_stderr,{answers}"), samples)
        for name, row in {**results.get("groups", {}), **results["results"]}.items()
        for key, value in row.items()
        for metric, comma, answers in [key.partition(",")]
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float)
    ]
    return numbers, network_settings(network)


def _number(
    tasks: Tasks, name: str, metric: str, answers: str, value: float, error: Any, samples: dict[str, Any]
) -> Number:
    """One of the library's numbers, with the items that it is a mean of.

    `answers` is the library's filter, which reads answers out of replies.
    """
    rows = [row for task in tasks.leaves[name] for row in samples[task] if row["filter"] == answers]
    values = [row.get(metric) for row in rows]
    items = None
    if values and all(isinstance(item, int | float | np.number) for item in values):
        floats = [float(item) for item in values]
        items = floats if math.isclose(float(np.mean(floats)), value, abs_tol=1e-6) else None
    if name not in tasks.top and name not in tasks.recorded:
        items = None  # of an inner group: its tasks have the same items
    choices = [len(row["resps"]) for row in rows]
    has_chance = metric in ("acc", "acc_norm") and choices and min(choices) > 1
    return Number(
        name=name,
        metric=metric if answers == "none" else f"{metric} ({answers})",
        n=len({(row["doc_hash"], row["doc_id"]) for row in rows}) if items is None else len(items),
        value=float(value),
        error=float(error) if isinstance(error, int | float) and math.isfinite(error) else None,
        items=items,
        is_top=name in tasks.top,
        chance=float(np.mean([1 / count for count in choices])) if has_chance else None,
    )


EVALUATION = Evaluation(
    name="lm-eval",
    logic_version=4,
    options=Options,
    plan=plan,
    description="Tasks of lm-evaluation-harness, and what alignment cost on them.",
    item_value=item_value,
)
