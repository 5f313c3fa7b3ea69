"""The account of a dataset's filters: rows in, kept, dropped by reason, failed; and that it adds up."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

Unit = str
"""What the rows of a ledger entry are, in the singular: `query`, `response`, `pair`, `demonstration`, ..."""


class Count(msgspec.Struct, frozen=True, rename={"n_in": "in"}):
    """Rows into one filter, and out of it, for one responder pair."""

    n_in: int
    kept: int
    dropped: dict[str, int]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"n_in": "in"}):
    """One filter's account: always `in = kept + sum(dropped) + failed`."""

    stage: str
    filter: str
    unit: Unit
    description: str
    """One sentence, as the card prints it."""
    params: dict[str, Any]
    source: str
    """The paper's section, or another source."""
    n_in: int
    kept: int
    dropped: dict[str, int]
    """Reason -> rows."""
    failed: int = 0
    by_pair: dict[str, Count] = {}
    """`chosen > rejected` -> the same account for that responder pair, where it applies."""
    undecided: int = 0
    """Kept rows for which a user's expression was null."""

    @property
    def heading(self) -> str:
        """The stage, and what its rows are where its name does not say that: `survivors (responses)`."""
        return self.stage if self.unit in self.stage else f"{self.stage} ({plural(self.unit)})"


def plural(unit: Unit) -> str:
    """The word for several rows of a unit of the ledger."""
    return "queries" if unit == "query" else f"{unit}s"


def rules(ledger: Iterable[Entry]) -> dict[str, str]:
    """Reason -> the sentence of the filter that drops rows for it."""
    sentences = {reason: entry.description for entry in ledger for reason in entry.dropped}
    return {"failed": "The request failed."} | sentences


def undecided_notes(ledger: Iterable[Entry]) -> list[str]:
    """A sentence for each filter that was null for some rows, and kept these."""
    return [
        f"{entry.filter} could not be decided for {entry.undecided:,} of {entry.n_in:,} "
        f"{plural(entry.unit)}, which were kept: it is null there, as a column that it reads may be."
        for entry in ledger
        if entry.undecided
    ]


def check_ledger(ledger: list[Entry]) -> None:
    """Raise ValueError for the first entry whose rows do not add up, alone or with the entry before it."""
    last: Entry | None = None
    for entry in ledger:
        out = entry.kept + sum(entry.dropped.values()) + entry.failed
        if entry.n_in != out or min([entry.kept, entry.failed, *entry.dropped.values()]) < 0:
            raise ValueError(f"ledger: {entry.filter}: {entry.n_in} rows in, {out} accounted for")
        if last and last.unit == entry.unit and last.kept != entry.n_in:
            raise ValueError(f"ledger: {last.filter} kept {last.kept} rows, {entry.filter} got {entry.n_in}")
        counts = entry.by_pair.values()
        split = (sum(c.n_in for c in counts), sum(c.kept for c in counts))
        if counts and split != (entry.n_in, entry.kept):
            raise ValueError(f"ledger: {entry.filter}: its responder pairs do not add up to its rows")
        if any(c.n_in != c.kept + sum(c.dropped.values()) for c in counts):
            raise ValueError(f"ledger: {entry.filter}: a responder pair loses rows")
        last = entry


def ledger_problems(
    ledger: Sequence[Entry], kept: Mapping[str, int], dropped: Mapping[str, int]
) -> list[str]:
    """The ledger against the rows: those of `default` that its last entry kept, and those of each reason."""
    rows, problems = sum(kept.values()), []
    if not ledger:
        problems.append(f"ledger: it has no entry, and default has {rows} rows")
    elif ledger[-1].kept != rows:
        problems.append(f"ledger: its last entry keeps {ledger[-1].kept} rows, and default has {rows}")
    accounted: Counter[str] = Counter()
    for entry in ledger:
        accounted.update(entry.dropped)
        accounted["failed"] += entry.failed
    return problems + [
        f"ledger: {accounted[reason]} rows {reason}, {dropped.get(reason, 0)} in the files"
        for reason in sorted(accounted.keys() | dropped.keys())
        if accounted[reason] != dropped.get(reason, 0)
    ]
