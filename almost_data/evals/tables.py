"""The paper's tables and Figure 3 from the models of one version, each claim beside what was measured.

Whatever evaluation a table needs is run, unless it was run before. What cannot be, because a model, a
benchmark or a judge is not there, is told as `not run` with what is missing; nothing else takes its place.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .. import evals
from ..datasets.manifest import Manifest
from ..datasets.schema import RESERVED
from ..errors import InputError
from ..store.store import Store
from . import items, sources, vicuna
from .claims import (
    CLAIMS,
    HHH,
    LEAST,
    PEOPLE,
    PREFERENCE,
    TAX,
    TRUE,
    VICUNA,
    WIN,
    Claim,
    Measure,
    Outcome,
    judge,
)
from .result import Line, Pinned, Result, folder, results

ROLES = {
    "rm": "rm@{}",
    "asis": "asis@{}",
    "sft": "sft@{}",
    "ppo": "ppo@{}",
    "rm without filters": "rm@{}-no-filter",
    "rm without heuristics": "rm@{}-asis",
    "rm without as-is": "rm@{}-heuristic",
    "rm upper": "rm@{}-upper",
    "rm single-turn": "rm@{}-single-turn",
    "sft self-play": "sft@{}-self-play",
    "sft hhh": "sft@{}-hhh",
}
"""What the claims call a model, and its place in the store. `base` is what `sft` was trained from."""
DATA = {
    HHH: f"Static HHH (--hhh {evals.HHH})",
    TRUE: f"TruthfulQA (--truthfulqa {evals.TRUTHFULQA})",
    PREFERENCE: f"HH-RLHF helpful-base (--preference {evals.HH_RLHF}), or another preference set",
    TAX: "tasks of lm-evaluation-harness (--tasks mmlu,lambada_openai)",
}
BENCHMARK = {HHH: "Static HHH", TRUE: "TruthfulQA's MC1", VICUNA: "the Vicuna Questions"}
SMALL = 1e9
"""Parameters below which a result is called a test of the plumbing."""
_RESPONDER = re.compile(r"(?P<size>\d+(?:\.\d+)?)(?P<unit>[MB])-(?P<prompt>.+)-(?P<shots>\d+)shot")
_UNIT = {"M": 1e6, "B": 1e9}

OTHER = ", on other data or terms"
"""What a table's name ends in, where a claim was measured on something else than the paper's benchmark, or
with answers that were written otherwise."""

Evaluate = Callable[[str, Pinned], Result]
"""(task, model) -> its result; a model without a revision is one of the store, or a responder.
Raises InputError where it cannot be."""
Compare = Callable[[Pinned, Pinned], Result]
"""(side, side) -> a judged comparison; a side is a model, or the name of a responder, or `baseline`.
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
        return list(dict.fromkeys(one.missing for one in self.outcomes if one.missing))


@dataclass
class Study:
    """A version's models, and the ways to ask. A way that is None was not given."""

    store: Store
    version: str
    evaluate: Evaluate
    compare: Compare | None
    people: Compare
    """Finds what people said; it asks nobody."""
    given: frozenset[str]
    """Tasks whose data was given."""
    has_baseline: bool = False
    _kept: dict[tuple[str, ...], Result] = field(default_factory=dict)
    _failed: dict[tuple[str, ...], InputError | RuntimeError] = field(default_factory=dict)

    def model(self, role: str) -> Pinned:
        """What stands for a role. Raises InputError, naming what is missing."""
        if role == "base":
            base = self._manifest("sft").config["base"]
            return Pinned(str(base["id"]), str(base["revision"]))
        if role == "baseline":
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
        """The responders of the answers to the benchmark's questions, best first."""
        ref = f"responses@{self.version}-vicuna"
        if not self.store.has(ref):
            return []
        return [one for one in self.store.configs(ref) if one not in RESERVED]

    def result(self, measure: Measure) -> Result:
        """The result that a number stands in, measured where it was not; InputError names what is missing."""
        if measure.task in (VICUNA, PEOPLE):
            sides = tuple(map(self.model, measure.role.split(" against ")))
            compare = self.people if measure.task == PEOPLE else self.compare
            if compare is None:
                raise InputError("a judge and the Vicuna questions (--vicuna, --judge)")
            return self._once(lambda: compare(*sides), measure.task, *(side.id for side in sides))
        model = self.model(measure.role)
        if measure.task not in self.given:
            raise InputError(DATA[measure.task])
        return self._once(lambda: self.evaluate(measure.task, model), measure.task, model.id)

    def _once(self, ask: Callable[[], Result], *key: str) -> Result:
        """What was measured under a key, or why it could not be, whichever it was the first time."""
        if key in self._failed:
            raise self._failed[key]
        if key not in self._kept:
            try:
                self._kept[key] = ask()
            except (InputError, RuntimeError) as error:
                self._failed[key] = error
                raise
        return self._kept[key]

    def line(self, measure: Measure) -> Line:
        """The number. Raises InputError, naming what is missing."""
        found = self.result(measure)
        who = measure.who or found.models[0].id
        for one in found.lines:
            if (one.metric, one.subset, one.who) == (measure.metric, measure.subset, who):
                return one
        raise InputError(f"{measure.task}: no {measure.metric} of {who} on {measure.subset}")


def claims(responders: list[str]) -> Iterator[Claim]:
    """Every claim; those of Table 2 are made of the responders that are there.

    >>> [one.says for one in claims(["30B-HHH-5shot", "13B-HHH-5shot"]) if one.table == "Table 2"]
    ['30B-HHH-5shot is better than 13B-HHH-5shot: a larger model']
    """
    first = [one for one in CLAIMS if one.table.startswith(("Table 1", "Figure 3"))]
    yield from first
    known = [(name, found) for name in responders if (found := _RESPONDER.fullmatch(name))]

    def against(name: str) -> Measure:
        return Measure(f"{name} against baseline", VICUNA, metric=WIN)

    def claim(better: str, worse: str, why: str) -> Claim:
        return Claim("Table 2", f"{better} is better than {worse}: {why}", against(better), against(worse))

    def step(says: str, *names: str) -> Claim:
        large, middle, small = map(against, names)
        return Claim("Table 2", says, large, middle, part=2.0, plus=small)

    for name, a in known:
        for other, b in known:
            size = _size(a) - _size(b)
            if a["prompt"] == b["prompt"]:
                if size > 0 and a["shots"] == b["shots"]:
                    yield claim(name, other, "a larger model")
                if size == 0 and int(a["shots"]) > int(b["shots"]):
                    yield claim(name, other, "more shots")
            elif a["prompt"] == "Faithful" and size < 0:
                yield claim(name, other, "a better prompt beats a larger model")
    alike: dict[str, list[re.Match[str]]] = {}
    for name, one in sorted(known, key=lambda both: -_size(both[1])):
        alike.setdefault(name[one.end("unit") + 1 :], []).append(one)
    for how, every in alike.items():
        for some in zip(every, every[1:], every[2:], strict=False):
            large, middle, small = (one["size"] + one["unit"] for one in some)
            says = f"{how}: {middle} to {large} is a larger step than {small} to {middle}"
            yield step(says, *(one[0] for one in some))
    if len(known) < 2:
        large, middle, small = (f"{size}-Faithful-3shot" for size in ("30B", "13B", "7B"))
        says = "the win rate over a baseline grows with the model's size"
        yield Claim("Table 2", says, against(large), against(middle))
        yield step("13B to 30B is a larger step than 7B to 13B", large, middle, small)
    yield from (one for one in CLAIMS if one not in first)


def _size(found: "re.Match[str]") -> float:
    return float(found["size"]) * _UNIT[found["unit"]]


def measure(study: Study) -> list[Table]:
    """Every table, its claims judged by the rule of `claims.judge`.

    A claim that was measured on other data or terms than the paper's stands in a table of its own, so named.
    """
    tables: dict[str, Table] = {}
    for claim in claims(study.responders()):
        table = tables.setdefault(claim.table, Table(claim.table))
        try:
            sides = [one for _, one in claim.terms]
            lines = [study.line(one) for one in sides]
        except (InputError, RuntimeError) as error:
            table.outcomes.append(Outcome(claim, "not run", missing=str(error)))
            continue
        found = [study.result(one) for one in sides]
        values = [items.values(study.store, one, line) for one, line in zip(found, lines, strict=True)]
        outcome = judge(claim, lines, values)
        if why := next((why for one in found if (why := unlike(study.store, one))), None):
            table.outcomes.append(Outcome(claim, "not run", missing=why))
            table = tables.setdefault(claim.table + OTHER, Table(claim.table + OTHER))
        table.outcomes.append(outcome)
        for side, line, one in zip(sides, lines, found, strict=True):
            for number in [(str(side), line), *_doubts(side, one)]:
                if number not in table.lines:
                    table.lines.append(number)
    return [
        one
        for name in dict.fromkeys(name.removesuffix(OTHER) for name in tables)
        for one in (tables.get(name), tables.get(name + OTHER))
        if one
    ]


def _doubts(side: Measure, found: Result) -> Iterator[tuple[str, Line]]:
    """What a judge's preference owes to length and place."""
    names = [one.id for one in found.models if one.role == "judge"]
    for line in found.lines:
        if names and line.who == "judge" and line.chance is not None:
            yield f"the judge of {side.role}", msgspec.structs.replace(line, who=names[0])


def unlike(store: Store, found: Result) -> str | None:
    """What is missing where a result is not on the paper's benchmark and terms; None where it is."""
    data = [one for one in found.data if one.role == "data"]
    task = VICUNA if found.task == PEOPLE else found.task
    if task in BENCHMARK:
        for one in data:
            if not sources.is_official(task, one):
                return f"the paper's data: {_other(one) or f'{one.id} is not known as {BENCHMARK[task]}'}"
    if task == VICUNA:
        written, paper = _settings(store, found), vicuna.Settings()
        for name in ("max_new_tokens", "temperature"):
            if (used := written.get(name, getattr(paper, name))) != getattr(paper, name):
                return f"the paper's terms: answers with {name} {getattr(paper, name)}, not {used}"
    if task == PREFERENCE:
        one = data[0]
        name, _, commit = evals.HH_RLHF.partition("@")
        if (one.id, found.settings.get("config")) != (name, evals.HELPFUL_BASE):
            return f"the paper's data: {one.id} is not HH-RLHF helpful-base"
        if one.revision != commit:
            return f"the paper's data: {_other(one)}"
    return None


def _other(data: Pinned) -> str | None:
    """How data of the benchmark's name on the Hub are others."""
    if data.revision.endswith(sources.OTHER_ITEMS):
        return f"{data.id}: not the items of Static HHH, by their checksum"
    known = {evals.TRUTHFULQA.partition("@")[0], evals.HH_RLHF.partition("@")[0]}
    return f"commit {data.revision[:12]} of {data.id} is not the one known here" if data.id in known else None


def _settings(store: Store, found: Result) -> dict[str, Any]:
    """How the answers were asked for; of people's judgments, in the comparison that they were exported of."""
    if found.task != PEOPLE:
        return found.settings
    asked = {one.id for one in found.data if one.role == "evaluation"}
    every = (one for one in results(store) if f"{one.task}/{folder(store, one).name}" in asked)
    return next((one.settings for one in every), {})


def report(
    study: Study, tables: list[Table], parameters: float | None, limit: int | None = None
) -> dict[str, Any]:
    """What the report says, as JSON data: tables with numbers and verdicts, and what bounds them."""
    rows = [
        {
            "name": table.name,
            "missing": table.missing,
            "lines": [{"role": role, **msgspec.structs.asdict(line)} for role, line in table.lines],
            "claims": [
                {
                    "says": one.claim.says,
                    "formula": one.claim.formula,
                    "paper": one.claim.paper,
                    "verdict": one.verdict,
                    "missing": one.missing,
                    "difference": one.difference,
                    "low": one.low,
                    "high": one.high,
                    "paired": one.paired,
                    "n": one.n,
                }
                for one in table.outcomes
            ],
        }
        for table in tables
    ]
    kept = list(study._kept.values())
    return {
        "version": study.version,
        "parameters": parameters,
        "is_small": parameters is not None and parameters < SMALL,
        "is_fake": any(one.is_fake for one in kept),
        "least": LEAST,
        "limit": limit,
        "tables": rows,
        "results": [
            {
                "task": one.task,
                "models": [f"{model.id} ({model.revision[:16]})" for model in one.models],
                "data": [f"{data.id} ({data.revision[:23]})" for data in one.data],
                "settings": one.settings,
                "notes": one.notes,
                "fingerprint": one.fingerprint[:16],
            }
            for one in kept
        ],
    }
