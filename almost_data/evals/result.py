"""An evaluation before it runs (`EvalPlan`), what comes of it (`Measurement`), what is stored (`Result`)."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from ..datasets.manifest import Manifest
from ..datasets.records import Number, Pinned
from ..errors import InputError

SIDE_A, SIDE_B = "model a", "model b"
"""Roles of the models of a comparison. Its lines are numbers of side a."""
AHEAD = "ahead of "
"""Start of the metric of a difference."""
READ_AS = "Rows are read as: "
"""Start of the note on the layout of the data."""
LESS = " less "
"""Between the models of a difference that neither of them has alone."""
_MIRRORED = {"win": "lose", "tie": "tie", "lose": "win"}
"""A share of side a -> what it is of side b. Of a win rate, side b has the rest."""


class Line(Number, frozen=True, forbid_unknown_fields=True):
    """One number of a result."""

    @classmethod
    def of(
        cls,
        who: str,
        metric: str,
        values: Sequence[float],
        subset: str = "overall",
        chance: float | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> "Line":
        """The mean of values from 0 to 1 with `stats.share`'s interval; a tie is 0.5. None of no values."""
        from .stats import share

        if not values:
            return cls(who, metric, subset, n=0, value=None, chance=chance)
        ties = sum(value == 0.5 for value in values)
        return cls(who, metric, subset, len(values), *share(values, groups), ties, chance)

    @property
    def is_difference(self) -> bool:
        """Whether the value is a difference of two shares, to be told in percentage points."""
        return AHEAD in self.metric or LESS in self.who

    def as_text(self, value: float | None) -> str:
        """A number of this line: a share as percent, a difference in percentage points.

        >>> Line("m", "accuracy", "overall", 10, 0.7).as_text(0.7)
        '70.0%'
        """
        if value is None:
            return "n/a"
        return f"{100 * value:+.1f}" if self.is_difference else f"{value:.1%}"

    @property
    def interval(self) -> str:
        """Both ends of the interval; empty without one."""
        is_known = self.low is not None and self.high is not None
        return f"{self.as_text(self.low)} to {self.as_text(self.high)}" if is_known else ""

    def mirrored(self, who: str) -> "Line | None":
        """The same number for side b, of a line of side a; None where the line is no comparison."""
        if metric := _MIRRORED.get(self.metric):
            return replace(self, who=who, metric=metric)
        if not self.metric.startswith("win rate"):
            return None
        value, low, high = (
            None if number is None else 1 - number for number in (self.value, self.high, self.low)
        )
        return replace(self, who=who, value=value, low=low, high=high)


class Result(msgspec.Struct, frozen=True):
    """A finished evaluation, as its manifest in the store records it."""

    ref: str
    task: str
    """Name of the evaluation."""
    logic_version: int
    models: list[Pinned]
    data: list[Pinned]
    prompts: dict[str, str]
    """Name -> text."""
    settings: dict[str, Any]
    """What decides the numbers besides: seed, limit, metric, sampling."""
    lines: list[Line]
    details: dict[str, Any]
    """Further tables: name -> `{title, columns, rows}`."""
    notes: list[str]
    failed: int
    """Requests without an answer. Evaluating again asks for them."""
    is_fake: bool
    """Whether text of the fake engine is in it."""
    fingerprint: str
    digest: str
    """Hash of the items."""
    environment: dict[str, Any]
    """How it ran: device, dtype, versions, seconds."""
    created: str

    @property
    def data_name(self) -> str:
        """What it was evaluated on, in a few words."""
        name = self.data[0].id if self.data else ""
        return name if len(self.data) < 2 else f"{name} and {len(self.data) - 1} more"

    def by_role(self, role: str) -> str:
        """Id of the model of a role; empty where there is none."""
        return next((model.id for model in self.models if model.role == role), "")


@dataclass(frozen=True)
class Measurement:
    """What comes of an evaluation."""

    lines: list[Line]
    items: list[dict[str, Any]] = field(default_factory=list)
    """A row for each item: what names it, and what came of it. Texts of a benchmark stay out of it."""
    key: tuple[str, ...] = ("id",)
    """Columns that name an item."""
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What a reader must know beside the numbers, one sentence each."""
    failed: int = 0
    """Requests without an answer: evaluating again asks for them."""
    environment: dict[str, Any] = field(default_factory=dict)
    """How it ran: device, dtype, ..."""


@dataclass(frozen=True)
class EvalPlan:
    """What decides the numbers of an evaluation, and the function that measures them."""

    models: list[Pinned]
    data: list[Pinned]
    settings: dict[str, Any]
    measure: Callable[[], Measurement]
    prompts: dict[str, str] = field(default_factory=dict)
    """Name -> text."""


def read(manifest: Manifest) -> Result:
    """The result that a manifest of an evaluation records."""
    content = {
        **manifest.config,
        **manifest.diagnostics,
        "ref": manifest.ref,
        "task": manifest.name,
        "logic_version": manifest.builder.logic_version,
        "is_fake": manifest.is_fake,
        "fingerprint": manifest.fingerprint,
        "digest": manifest.digest,
        "environment": manifest.environment,
        "created": manifest.created,
        "models": manifest.config.get("models"),
    }
    try:
        return msgspec.convert(content, Result)
    except msgspec.ValidationError as error:
        raise InputError(f"{manifest.ref}: not the result of an evaluation ({error})") from None


def read_all(manifests: Iterable[Manifest]) -> list[Result]:
    """The results among manifests, by task and fingerprint: last attempts."""
    results: dict[tuple[str, str], Result] = {}
    for manifest in manifests:
        if manifest.kind == "evaluation":
            results[manifest.name, manifest.fingerprint] = read(manifest)
    return [results[key] for key in sorted(results)]
