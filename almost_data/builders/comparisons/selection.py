"""Filters that look at the whole set, on the pairs that every other filter kept.

The order of the queries is drawn by hash of their ids, so the order of the rows decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from ...datasets.filters import Filter
from ...diagnostics.probe import draw
from .config import PairConfig
from .parts import Part
from .twins import NEAR_TWIN_PAIR, NEAR_TWIN_PROMPT, without_twins

LENGTH_BALANCE = "length_balance"
NOT_NEEDED = "not_needed"
REASONS = {NEAR_TWIN_PROMPT.name, NEAR_TWIN_PAIR.name, LENGTH_BALANCE, NOT_NEEDED}
_RESPONDERS = ("chosen_rank", "rejected_rank")


@dataclass(frozen=True)
class PairSelection:
    """What is selected of the pairs that are left, and these pairs, a part of a large set at a time."""

    config: PairConfig
    _pairs: list[pl.DataFrame] = field(default_factory=list)

    @property
    def filters(self) -> list[Filter]:
        config, seed = self.config, self.config.seed
        rules = [
            NEAR_TWIN_PROMPT if config.dedup_prompts else None,
            NEAR_TWIN_PAIR if config.dedup_pairs else None,
            length_balance(config.balance_length, seed) if config.balance_length is not None else None,
            not_needed(config.target, seed) if config.target is not None else None,
        ]
        return [rule for rule in rules if rule]

    def add(self, texts: pl.DataFrame, pairs: pl.DataFrame) -> None:
        """Add the pairs that are left of the next part; without their texts, to hold many."""
        if not self.filters:
            return
        pairs = pairs.with_row_index("pair").filter(pl.col("reason").is_null())
        lengths = pl.col("chosen_length", "rejected_length").cast(pl.Int32)
        rows = pl.col("chosen_row", "rejected_row").cast(pl.UInt32)
        columns: list[Any] = [pl.lit(len(self._pairs)).alias("part"), "pair", rows, *_RESPONDERS, lengths]
        query_id = texts["query_id"].gather(pairs["chosen_row"])
        self._pairs.append(pairs.select(*columns).hstack([query_id]))

    def apply(self, parts: Sequence[Part]) -> tuple[list[Part], pl.DataFrame | None]:
        """The parts with the reasons of the pairs that are not selected, and these pairs, if it selects."""
        if not any(map(len, self._pairs)):
            return list(parts), None
        config = self.config
        pairs = seeded_order(pl.concat(self._pairs), config.seed)
        if config.dedup_prompts or config.dedup_pairs:
            pairs = without_twins(parts, pairs, config.dedup_prompts, config.dedup_pairs)
        dropped = select(pairs, config.balance_length, config.target).filter(pl.col("reason").is_not_null())
        by_part = {number: rows for (number,), rows in dropped.partition_by("part", as_dict=True).items()}
        parts = [
            _without(part, by_part[number]) if number in by_part else part
            for number, part in enumerate(parts)
        ]
        return parts, dropped

    def notes(self, kept: int, text: Mapping[str, Any]) -> list[str]:
        """How much length and surface still show in the comparisons, and whether the target was reached."""
        notes = []
        if self.config.balance_length is not None:
            accuracy = text["probe"]["accuracy"]
            missing = f"was not fitted ({text['probe'].get('reason')})"
            surface = missing if accuracy is None else f"is right in {accuracy:.1%}"
            notes.append(
                f"Length was balanced: the longer reply is right in {text['always_longer']:.1%} of the "
                f"comparisons. A model that sees only the surface of the replies {surface}."
            )
        if (target := self.config.target) is not None and kept < target:
            notes.append(f"The target of {target:,} comparisons was not reached: {kept:,} are left.")
        return notes


def _without(part: Part, dropped: pl.DataFrame) -> Part:
    reason = part.pairs["reason"]
    reasons = reason.cast(pl.String).scatter(dropped["pair"], dropped["reason"]).cast(reason.dtype)
    return replace(part, pairs=part.pairs.with_columns(reasons))


def length_balance(share: float, seed: int) -> Filter:
    """Keep a seeded subset in which length decides no more than `share` of the pairs, see `select`."""
    return Filter(
        LENGTH_BALANCE,
        "pair",
        "Of the pairs of two responders that differ in length, the longer reply may be chosen in at most "
        f"{share:.0%}, and the shorter one likewise; a seeded draw decides which pairs stay.",
        "almost_data",
        params={"balance_length": share, "seed": seed},
    )


def not_needed(target: int, seed: int) -> Filter:
    """Keep the first `target` pairs, in a seeded order of the queries."""
    return Filter(
        NOT_NEEDED,
        "pair",
        f"{target:,} comparisons are enough: queries are taken in a seeded order until there are as many.",
        "almost_data",
        params={"target": target, "seed": seed},
    )


def seeded_order(pairs: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The pairs in the order of a draw of their query_id, with an empty `reason`."""
    query_ids = pairs["query_id"].unique()
    draws = [draw(query_id, seed, "comparisons") for query_id in query_ids]
    order = pairs["query_id"].replace_strict(query_ids, draws, return_dtype=pl.Float64)
    pairs = pairs.with_columns(order.alias("draw"), reason=pl.lit(None, pl.String))
    return pairs.sort("draw", "query_id", *_RESPONDERS).drop("draw")


def select(pairs: pl.DataFrame, balance: float | None, target: int | None) -> pl.DataFrame:
    """The pairs with the `reason` why each is dropped; null where it is kept.

    `pairs` has ranks, lengths and earlier reasons, in a seeded order. However low the target is, the pairs
    that it leaves keep the balance.
    """
    if balance is not None:
        is_left = pl.col("reason").is_null()
        pairs = pl.concat([pairs.filter(~is_left), _balanced(pairs.filter(is_left), balance)])
    if target is not None:
        is_left = pl.col("reason").is_null()
        is_late = is_left & (is_left.cum_sum() > target)
        pairs = pairs.with_columns(reason=pl.when(is_late).then(pl.lit(NOT_NEEDED)).otherwise("reason"))
    return pairs


def _balanced(pairs: pl.DataFrame, share: float) -> pl.DataFrame:
    """The pairs in the order in which the balance lets them in; those that it never lets in have a reason.

    Among the pairs of two responders, the i-th whose chosen is longer comes in with the k-th whose chosen is
    shorter, k being i * (1 - share) / share rounded up; and the other way round.
    """
    side = (pl.col("chosen_length").cast(pl.Int64) - pl.col("rejected_length").cast(pl.Int64)).sign()
    pairs = pairs.with_row_index("place").with_columns(side=side)
    number = pl.col("place").cum_count().over(*_RESPONDERS, "side").cast(pl.Int64)
    partner = (number * ((1 - share) / share) - 1e-9).ceil().cast(pl.Int64)
    pairs = pairs.with_columns(number=number, partner=partner)
    partners = pairs.select(*_RESPONDERS, side=-pl.col("side"), partner="number", entry="place")
    pairs = pairs.join(partners, on=[*_RESPONDERS, "side", "partner"], how="left")
    entry = pl.when(pl.col("side") == 0).then("place").otherwise(pl.max_horizontal("place", "entry"))
    is_short = (pl.col("side") != 0) & pl.col("entry").is_null()
    reason = pl.when(is_short).then(pl.lit(LENGTH_BALANCE)).otherwise("reason")
    # Where a pair enters with its partner, the partner comes first.
    order = [pl.col("entry"), pl.col("place")]
    pairs = pairs.with_columns(entry=entry, reason=reason).sort(order, descending=[False, True])
    return pairs.drop("place", "side", "number", "partner", "entry")
