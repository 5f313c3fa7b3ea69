"""The paper's tables and Figure 3 from the models of one version, each claim beside what was measured.

Whatever evaluation a table needs is run, unless it was run before. What cannot be, because a model, a
benchmark or a judge is not there, is told as `not run` with what is missing; nothing else takes its place.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..manifest import Manifest
from ..store import Store
from .claims import CLAIMS, HHH, PREFERENCE, TAX, TRUE, VICUNA, WIN, Claim, Measure, Outcome, judge
from .result import Line, Result

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
    HHH: "Static HHH (--hhh)",
    TRUE: "TruthfulQA (--truthfulqa)",
    PREFERENCE: "a preference set such as HH-RLHF helpful-base (--preference)",
    TAX: "tasks of lm-evaluation-harness (--tasks mmlu,lambada_openai)",
}
SMALL = 1e9
"""Parameters below which a result is called a test of the plumbing."""
_RESPONDER = re.compile(r"(?P<size>\d+(?:\.\d+)?)(?P<unit>[MB])-(?P<prompt>.+)-(?P<shots>\d+)shot")
_UNIT = {"M": 1e6, "B": 1e9}

Evaluate = Callable[[str, str], Result]
"""(task, model) -> its result. Raises InputError where it cannot be."""
Compare = Callable[[str, str], Result]
"""(side, side) -> a judged comparison; a side is a model, or the name of a responder, or `baseline`."""


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
    given: frozenset[str]
    """Tasks whose data was given."""
    has_baseline: bool = False
    _kept: dict[tuple[str, str], Result] = field(default_factory=dict)

    def model(self, role: str) -> str:
        """What stands for a role. Raises InputError, naming what is missing."""
        if role == "base":
            return str(self._manifest("sft").config["base"]["id"])
        if role == "baseline":
            if not self.has_baseline:
                raise InputError("a baseline's answers (--baseline)")
            return role
        if role in ROLES:
            return self._manifest(role).ref
        if role in self.responders():
            return role
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
        settings = self.store.manifest(ref).config["settings"]
        return [one["name"] for one in [*settings["responders"], *settings["probes"]]]

    def line(self, measure: Measure) -> Line:
        """The number. Raises InputError, naming what is missing."""
        if measure.task == VICUNA:
            return self._win(measure)
        model = self.model(measure.role)
        if measure.task not in self.given:
            raise InputError(DATA[measure.task])
        key = measure.task, model
        if key not in self._kept:
            self._kept[key] = self.evaluate(measure.task, model)
        found = self._kept[key]
        who = measure.who or model
        for one in found.lines:
            if (one.metric, one.subset, one.who) == (measure.metric, measure.subset, who):
                return one
        raise InputError(f"{measure.task}: no {measure.metric} of {who} on {measure.subset}")

    def _win(self, measure: Measure) -> Line:
        a, b = measure.role.split(" against ")
        sides = self.model(a), self.model(b)
        if self.compare is None:
            raise InputError("a judge and the Vicuna questions (--vicuna, --judge)")
        if sides not in self._kept:
            self._kept[sides] = self.compare(*sides)
        return next(
            one for one in self._kept[sides].lines if one.metric == WIN and one.subset == measure.subset
        )


def claims(responders: list[str]) -> Iterator[Claim]:
    """Every claim; those of Table 2 are made of the responders that are there.

    >>> [one.says for one in claims(["30B-HHH-5shot", "13B-HHH-5shot"]) if one.table == "Table 2"]
    ['30B-HHH-5shot is better than 13B-HHH-5shot: a larger model']
    """
    first = [one for one in CLAIMS if one.table in ("Table 1", "Figure 3")]
    yield from first
    known = [(name, found) for name in responders if (found := _RESPONDER.fullmatch(name))]

    def claim(better: str, worse: str, why: str) -> Claim:
        left, right = (Measure(f"{one} against baseline", VICUNA, metric=WIN) for one in (better, worse))
        return Claim("Table 2", f"{better} is better than {worse}: {why}", left, right)

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
    if len(known) < 2:
        places = Measure("30B-HHH-5shot against baseline", VICUNA, metric=WIN)
        lower = Measure("13B-HHH-5shot against baseline", VICUNA, metric=WIN)
        yield Claim("Table 2", "the win rate over a baseline grows with the model's size", places, lower)
    yield from (one for one in CLAIMS if one not in first)


def _size(found: "re.Match[str]") -> float:
    return float(found["size"]) * _UNIT[found["unit"]]


def measure(study: Study) -> list[Table]:
    """Every table, its claims judged by the rule of `claims.judge`."""
    tables: dict[str, Table] = {}
    for claim in claims(study.responders()):
        table = tables.setdefault(claim.table, Table(claim.table))
        try:
            left = study.line(claim.left)
            right = study.line(claim.right) if isinstance(claim.right, Measure) else None
        except InputError as error:
            table.outcomes.append(Outcome(claim, "not run", missing=str(error)))
            continue
        table.outcomes.append(judge(claim, left, right))
        sides = [(claim.left, left), (claim.right, right)]
        for one, line in sides:
            if isinstance(one, Measure) and line and (one.who or one.role, line) not in table.lines:
                table.lines.append((one.who or one.role, line))
    return list(tables.values())


def report(study: Study, tables: list[Table], parameters: float | None) -> dict[str, Any]:
    """What the report says, as JSON data: tables with numbers and verdicts, and what bounds them."""
    rows = [
        {
            "name": table.name,
            "missing": table.missing,
            "lines": [
                {"role": role, **{name: getattr(line, name) for name in line.__struct_fields__}}
                for role, line in table.lines
            ],
            "claims": [
                {
                    "says": one.claim.says,
                    "paper": one.claim.paper or "yes",
                    "verdict": one.verdict,
                    "missing": one.missing,
                    "difference": one.difference,
                    "low": one.low,
                    "high": one.high,
                    "n": one.left.n if one.left else None,
                }
                for one in table.outcomes
            ],
        }
        for table in tables
    ]
    results = [
        {"task": one.task, "models": [m.id for m in one.models], "fingerprint": one.fingerprint[:16]}
        for one in study._kept.values()
    ]
    return {
        "version": study.version,
        "parameters": parameters,
        "is_small": parameters is not None and parameters < SMALL,
        "is_fake": any(one.is_fake for one in study._kept.values()),
        "tables": rows,
        "results": results,
    }
