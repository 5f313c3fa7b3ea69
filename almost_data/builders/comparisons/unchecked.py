"""What rejected responses would be dropped for, where only the chosen ones are checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from ...datasets.filters import Filter, with_reason
from .parts import Part


@dataclass(frozen=True)
class Unchecked:
    """The checks that rejected responses would fail, a part of a large set at a time."""

    checks: Sequence[Filter]
    """Those of the chosen side; none where both sides are checked."""
    _failed: list[pl.Series] = field(default_factory=list)

    def add(self, texts: pl.DataFrame, pairs: pl.DataFrame) -> None:
        """Add the next part: of each pair that is kept, the first check that its rejected side fails."""
        if not self.checks:
            return
        places = pairs["reason"].is_null().arg_true()
        rows = texts.select("prompt", "response", "finish_reason")[pairs["rejected_row"].gather(places)]
        failed = pl.Series([None], dtype=pl.String).new_from_index(0, len(pairs))
        failed = failed.scatter(places, with_reason(rows, self.checks)["reason"])
        self._failed.append(failed.cast(pl.Enum([check.name for check in self.checks])))

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """How many of the rejected responses would fail; `parts` have the reasons of all filters."""
        kept = [
            failed.filter(part.pairs["reason"].is_null())
            for failed, part in zip(self._failed, parts, strict=bool(self.checks))
        ]
        rejected = pl.concat(kept) if kept else pl.Series(dtype=pl.String)
        failed = rejected.drop_nulls()
        if failed.is_empty():
            return []
        counts = failed.value_counts(sort=True, name="rows").iter_rows()
        reasons = ", ".join(f"{name} {rows:,}" for name, rows in counts)
        return [
            f"Only the chosen responses are checked: {len(failed):,} of the {len(rejected):,} rejected ones "
            f"would fail a check ({reasons})."
        ]
