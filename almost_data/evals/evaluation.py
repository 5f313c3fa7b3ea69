"""What an evaluation is: one object, from which command, result, card and listing are made.

Built-in evaluations are in the registry, those of other packages come by the entry point `almost_data.evals`,
and one in a file is named `eval my_eval.py:EVALUATION`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from .. import registry
from ..datasets.builder import Progress, silent
from ..datasets.manifest import Manifest
from ..datasets.records import Pinned
from ..datasets.settings_docs import documented
from ..errors import InputError
from ..generation.journal_file import JournalSession
from ..scoring import Dialogue
from ..scoring.journaled import JournaledScorer
from ..store.store import Store, check_store
from . import results, subject
from .result import EvalPlan, Line, Result
from .saved import pinned_file
from .subject import Subject

Options = TypeVar("Options")


class ItemValue(NamedTuple):
    """The share of one item that a line is a mean of, so that two lines can be compared item by item."""

    id: str
    value: float
    group: str
    """Items that are not independent have one group."""


@dataclass(frozen=True)
class EvalSession:
    """The store and the progress of one run of an evaluation, and what the measurement notes on its way."""

    store: Store
    evaluation: "Evaluation[Any]"
    progress: Progress = silent
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_store(self.store)

    def subject(
        self,
        options: "ModelOptions",
        name: str | None = None,
        setting: str = "eval.model",
        max_tokens: int | None = None,
    ) -> Subject:
        """The model that the options name, or another one of this name, to run as the options say.

        Raises InputError, which names the setting, where there is none.
        """
        runtime = {"device": options.device, "dtype": options.dtype}
        set_options = {key: value for key, value in runtime.items() if value is not None}
        return subject.find(self.store, name or options.model, set_options, max_tokens, setting)

    def scores(self, model: Subject, dialogues: Iterable[Dialogue]) -> dict[str, float]:
        """The model's score of each dialogue by its id. The journal keeps them as they come.

        `notes` get how many were too long to be read whole, if any were.
        """
        pending = list(dialogues)
        scorer = JournaledScorer(model.scorer, self.journal, [model.dtype] if model.dtype else [])
        values: dict[str, float] = {}
        tokens = truncated = 0
        stage = f"{self.evaluation.name}, {model.pinned.id}"
        self.progress(stage, 0, len(pending), 0)
        for score in scorer.score(pending):
            values[score.id] = score.value
            tokens += score.tokens
            truncated += score.truncated
            self.progress(stage, len(values), len(pending), tokens)
        if truncated:
            lost = "lost the middle of their long turns" if model.kind == "reward" else "were not read whole"
            self.notes.append(
                f"{truncated:,} of {len(pending):,} texts were longer than {model.pinned.id} reads, "
                f"{scorer.max_tokens:,} tokens at most, and {lost}."
            )
        return values

    @cached_property
    def journal(self) -> JournalSession:
        """Keeps what its models answer; it has the name of the result, so `prune` knows what that needs."""
        return JournalSession(self.store.journal, f"eval-{self.evaluation.name}", self.store.refs())

    def file(self, path: Path | str, role: str = "data") -> Pinned:
        """A file, pinned by name and sha256."""
        return pinned_file(Path(path), role)


@documented
@dataclass(frozen=True)
class Evaluation(Generic[Options]):
    """One kind of evaluation."""

    name: str
    """Command, and start of the result's place in the store: lower-case letters, digits and `-`."""
    logic_version: int
    """Goes up whenever the same answers would give other numbers."""
    options: type[Options]
    """A frozen dataclass. Command line flags have the names, types, defaults and docstrings of its fields."""
    plan: Callable[[EvalSession, Options], EvalPlan]
    """Checks the options, pins models and data, and says how to measure."""
    description: str
    """One sentence, for help."""
    official: frozenset[str] = frozenset()
    """Pins of the benchmark's own data: `ORG/NAME@COMMIT`, or sha256 of a file. Without any, all data count
    that are not marked as `OTHER_ITEMS`."""
    item_value: Callable[[dict[str, Any], Line], ItemValue | None] | None = None
    """What an item's row adds to a line; None where it has no part in it."""

    def is_official(self, data: Pinned) -> bool:
        """Whether these are the benchmark's own items."""
        if not self.official:
            return not data.revision.endswith(OTHER_ITEMS)
        return not {f"{data.id}@{data.revision}", data.revision.removeprefix("sha256:")}.isdisjoint(
            self.official
        )


OTHER_ITEMS = ", other items"
"""End of a revision whose data have the name of a benchmark, and not its items."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of every evaluation of one model."""

    model: str
    """name@version, ORG/NAME[@REVISION], folder, pypi:PACKAGE, or baseline:longest, first, random."""
    limit: int | None = None
    """Evaluate at most this many items, drawn by the seed."""
    seed: int = 0
    """Seed of the draw and of any shuffling."""
    device: str | None = None
    """cpu, cuda or mps; a GPU where there is one."""
    dtype: str | None = None
    """float32, bfloat16 or float16."""

    def __post_init__(self) -> None:
        check_limit(self.limit)


def check_limit(limit: int | None) -> None:
    """Raise InputError for a limit below 1, or of more than 64 bits."""
    if limit is not None and not 1 <= limit < 2**63:
        raise InputError(f"eval.limit {limit}: give 1 or more, below 2**63")


def evaluate(
    store: Store, evaluation: Evaluation[Options], options: Options, progress: Progress = silent
) -> Result:
    """The result of an evaluation: of the store where it is finished there, else measured and saved.

    Where requests failed, those are asked again. Raises InputError for what cannot be evaluated.
    """
    session = EvalSession(store, evaluation, progress)
    return carry_out(session, evaluation.plan(session, options))


def carry_out(session: EvalSession, plan: EvalPlan) -> Result:
    """The result of a plan: of the store where it is finished there, else measured and saved."""
    started = time.monotonic()
    draft = _draft(session, plan)
    existing = results.find(session.store, draft)
    if existing and not existing.failed:
        return existing
    session.journal.begin(results.next_ref(session.store, draft))
    measured = plan.measure()
    measured = replace(measured, notes=[*session.notes, *measured.notes])
    environment = {"seconds": round(time.monotonic() - started, 1), **measured.environment}
    result = results.save(session.store, draft, measured, environment)
    if result.ref == session.journal.build:
        session.journal.mark_published()
    return result


def find_result(session: EvalSession, plan: EvalPlan) -> Result | None:
    """The finished result of a plan, if it is in the store."""
    return results.find(session.store, _draft(session, plan))


def _draft(session: EvalSession, plan: EvalPlan) -> Manifest:
    return results.new_draft(session.store, session.evaluation.name, session.evaluation.logic_version, plan)


def load(name: str) -> Evaluation[Any]:
    """An evaluation by name, or by `FILE.py:NAME`. Raises InputError where there is none."""
    evaluation = registry.load("evals", name)
    if not isinstance(evaluation, Evaluation):
        raise InputError(f"{name}: not an Evaluation, but {type(evaluation).__name__}")
    return evaluation


def installed_evaluation(name: str) -> Evaluation[Any] | None:
    """The evaluation of a result's name; None where it is not installed here."""
    return load(name) if name in registry.names("evals") else None


def is_outdated(result: Result) -> bool:
    """Whether its evaluation counts in another way by now."""
    evaluation = installed_evaluation(result.task)
    return evaluation is not None and result.logic_version < evaluation.logic_version
