"""The paper's tables and Figure 3 from the models of one version: what each claim needs and gets.

A claim whose model, benchmark or judge is missing is `not run`, and says which.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from claims import (
    HHH,
    LEAST,
    NOTES,
    PEOPLE,
    PREFERENCE,
    TAX,
    TRUE,
    VICUNA,
    Measure,
    Outcome,
    judge,
)
from responder_claims import BASELINE, claims

from almost_data import InputError, Manifest, Store
from almost_data.datasets.records import Pinned
from almost_data.datasets.tables import stored_configs
from almost_data.evals import evaluation, preference, static_hhh, truthfulqa, vicuna
from almost_data.evals.result import Line, Result

ROLES = {
    "rm": "rm@{}",
    "asis": "asis@{}",
    "sft": "sft@{}",
    "dpo": "dpo@{}",
    "ppo": "ppo@{}",
    "rm without filters": "rm@{}-no-filter",
    "rm without heuristics": "rm@{}-agreed",
    "rm without as-is": "rm@{}-heuristic",
    "rm by ratings": "rm@{}-label-ratings",
    "rm upper": "rm@{}-upper",
    "rm single-turn": "rm@{}-single-turn",
    "sft self-play": "sft@{}-self-play",
    "sft hhh": "sft@{}-hhh",
}
"""Role of a model in the claims -> its place in the store. `base` is what `sft` was trained from."""
DATA = {
    HHH: f"Static HHH (--hhh {static_hhh.HUB})",
    TRUE: f"TruthfulQA (--truthfulqa {truthfulqa.HUB})",
    PREFERENCE: f"HH-RLHF helpful-base (--preference {preference.HH_RLHF}), or another preference set",
    TAX: "tasks of lm-evaluation-harness (--tasks mmlu,lambada_openai)",
}
BENCHMARK = {HHH: "Static HHH", TRUE: "TruthfulQA's MC1", VICUNA: "the Vicuna Questions"}
SMALL = 1e9
"""Parameters below which a report is called a test of the plumbing."""
UNLIKE = ", on other data or terms"
"""Ending of a table's name whose claims were measured on other data than the paper's benchmark, or with
answers under other settings."""

Evaluate = Callable[[str, Pinned], Result]
"""(task, model) -> its result; a model without a revision is in the store, or a responder.
Raises InputError where it cannot be evaluated."""
Compare = Callable[[Pinned, Pinned], Result]
"""(side, side) -> a judged comparison; a side is a model, or named by a responder, or `baseline`.
Raises InputError where there is none."""


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    name: str
    lines: list[tuple[str, Line]] = field(default_factory=list)
    """Role and number, everything that was measured for it."""
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        return list(dict.fromkeys(outcome.missing for outcome in self.outcomes if outcome.missing))


@dataclass
class Study:
    """The models of a version, and how they are evaluated. Each evaluation is run once."""

    store: Store
    version: str
    evaluate: Evaluate
    compare: Compare | None
    """None without questions and a judge."""
    people: Compare
    """Finds people's judgments in the store."""
    measurable: frozenset[str]
    """Tasks whose data is there."""
    has_baseline: bool = False
    _outcomes: dict[tuple[str, ...], Result | Exception] = field(default_factory=dict)

    @property
    def results(self) -> list[Result]:
        return [outcome for outcome in self._outcomes.values() if isinstance(outcome, Result)]

    def model(self, role: str) -> Pinned:
        """The model of a role. Raises InputError, naming what is missing."""
        if role == "base":
            base = self._manifest("sft").config["base"]
            return Pinned(str(base["id"]), str(base["revision"]))
        if role == BASELINE:
            if not self.has_baseline:
                raise InputError("a baseline's answers (--baseline)")
            return Pinned(role, "")
        if role in ROLES:
            return Pinned(self._manifest(role).ref, "")
        if role in self.responders():
            return Pinned(role, "")
        raise InputError(f"the responders' answers, responses@{self.version}-vicuna")

    def _manifest(self, role: str) -> Manifest:
        ref = ROLES[role].format(self.version)
        if not self.store.has(ref):
            raise InputError(f"the model {ref}")
        return self.store.manifest(ref)

    def responders(self) -> list[str]:
        """The responders whose answers to the benchmark's questions are in the store, best first."""
        ref = f"responses@{self.version}-vicuna"
        if not self.store.has(ref):
            return []
        return list(stored_configs(self.store.manifest(ref).tables, "default"))

    def result(self, measure: Measure) -> Result:
        """The result that has a number, measured if it is not yet. InputError names what is missing."""
        if measure.task in (VICUNA, PEOPLE):
            sides = tuple(map(self.model, measure.role.split(" against ")))
            compare = self.people if measure.task == PEOPLE else self.compare
            if compare is None:
                raise InputError("a judge and the Vicuna questions (--vicuna, --judge)")
            return self._once(lambda: compare(*sides), measure.task, *(side.id for side in sides))
        model = self.model(measure.role)
        if measure.task not in self.measurable:
            raise InputError(DATA[measure.task])
        return self._once(lambda: self.evaluate(measure.task, model), measure.task, model.id)

    def _once(self, measure: Callable[[], Result], *key: str) -> Result:
        """The result under a key, or the error of the first attempt again."""
        if key not in self._outcomes:
            try:
                self._outcomes[key] = measure()
            except (InputError, RuntimeError) as error:
                self._outcomes[key] = error
        outcome = self._outcomes[key]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def line(self, measure: Measure) -> Line:
        """The number. Raises InputError, naming what is missing."""
        result = self.result(measure)
        who = measure.who or result.models[0].id
        for line in result.lines:
            if (line.metric, line.subset, line.who) == (measure.metric, measure.subset, who):
                return line
        raise InputError(f"{measure.task}: no {measure.metric} of {who} on {measure.subset}")


def measure(study: Study) -> list[Table]:
    """Every table, its claims judged by the rule of `claims.judge`.

    A claim that was measured on other data or terms than the paper's is in a table of its own.
    """
    tables: dict[str, Table] = {}
    for claim in claims(study.responders()):
        table = tables.setdefault(claim.table, Table(claim.table))
        try:
            measures = [measure for _, measure in claim.terms]
            lines = [study.line(measure) for measure in measures]
        except (InputError, RuntimeError) as error:
            table.outcomes.append(Outcome(claim, "not run", missing=str(error)))
            continue
        evaluated = [study.result(measure) for measure in measures]
        values = [
            _item_values(study.store, result, line) for result, line in zip(evaluated, lines, strict=True)
        ]
        outcome = judge(claim, lines, values)
        if why := next(filter(None, map(unlike, evaluated)), None):
            table.outcomes.append(Outcome(claim, "not run", missing=why))
            table = tables.setdefault(claim.table + UNLIKE, Table(claim.table + UNLIKE))
        table.outcomes.append(outcome)
        for term, line, result in zip(measures, lines, evaluated, strict=True):
            for number in [(str(term), line), *_doubts(term, result)]:
                if number not in table.lines:
                    table.lines.append(number)
    names = dict.fromkeys(name.removesuffix(UNLIKE) for name in tables)
    return [tables[key] for name in names for key in (name, name + UNLIKE) if key in tables]


def _item_values(store: Store, result: Result, line: Line) -> dict[str, evaluation.ItemValue]:
    """The items that a line is a mean of, by id; none where they are not stored as such."""
    kind = evaluation.installed_evaluation(result.task)
    if kind is None or kind.item_value is None or not store.has(result.ref):
        return {}
    values = (kind.item_value(row, line) for row in store.scan(result.ref).collect().iter_rows(named=True))
    return {value.id: value for value in values if value is not None}


def _doubts(measure: Measure, result: Result) -> Iterator[tuple[str, Line]]:
    """What a judge's preference owes to length and place."""
    judges = [model.id for model in result.models if model.role == "judge"]
    for line in result.lines:
        if judges and line.who == "judge" and line.chance is not None:
            yield f"the judge of {measure.role}", msgspec.structs.replace(line, who=judges[0])


def unlike(result: Result) -> str | None:
    """How a result is not on the paper's benchmark and terms; None where it is."""
    data = [pinned for pinned in result.data if pinned.role == "data"]
    task = VICUNA if result.task == PEOPLE else result.task
    if task in BENCHMARK:
        for pinned in data:
            if not evaluation.load(task).is_official(pinned):
                why = _unofficial(pinned) or f"{pinned.id} is not known as {BENCHMARK[task]}"
                return f"the paper's data: {why}"
    if task == VICUNA:
        for name in ("max_new_tokens", "temperature"):
            paper = getattr(vicuna.Options, name)
            if (value := result.settings.get(name, paper)) != paper:
                return f"the paper's terms: answers with {name} {paper}, not {value}"
    if task == PREFERENCE:
        name, _, commit = preference.HH_RLHF.partition("@")
        if (data[0].id, result.settings.get("config")) != (name, preference.HELPFUL_BASE):
            return f"the paper's data: {data[0].id} is not HH-RLHF helpful-base"
        if data[0].revision != commit:
            return f"the paper's data: {_unofficial(data[0])}"
    return None


def _unofficial(data: Pinned) -> str | None:
    """How data under the benchmark's name on the Hub differ from it."""
    if data.revision.endswith(evaluation.OTHER_ITEMS):
        return f"{data.id}: not the items of Static HHH, by their checksum"
    if data.id in {truthfulqa.HUB.partition("@")[0], preference.HH_RLHF.partition("@")[0]}:
        return f"commit {data.revision[:12]} of {data.id} is not the one known here"
    return None


def report(
    study: Study, tables: list[Table], parameters: float | None, limit: int | None = None
) -> dict[str, Any]:
    """The report as JSON data: tables with numbers and verdicts, and what bounds them."""
    measured = study.results
    return {
        "version": study.version,
        "parameters": parameters,
        "is_small": parameters is not None and parameters < SMALL,
        "is_fake": any(result.is_fake for result in measured),
        "least": LEAST,
        "limit": limit,
        "tables": [
            {
                "name": table.name,
                "note": NOTES.get(table.name.removesuffix(UNLIKE), ""),
                "missing": table.missing,
                "lines": [{"role": role, **msgspec.structs.asdict(line)} for role, line in table.lines],
                "claims": list(map(_row, table.outcomes)),
            }
            for table in tables
        ],
        "results": [
            {
                "task": result.task,
                "models": [f"{model.id} ({model.revision[:16]})" for model in result.models],
                "data": [f"{data.id} ({data.revision[:23]})" for data in result.data],
                "settings": result.settings,
                "notes": result.notes,
                "fingerprint": result.fingerprint[:16],
            }
            for result in measured
        ],
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    claim = {name: getattr(outcome.claim, name) for name in ("says", "formula", "paper")}
    return claim | {name: value for name, value in vars(outcome).items() if name != "claim"}
