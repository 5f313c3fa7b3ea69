"""Ledger and diagnostics of comparisons, summed over the parts that a large set is decided in."""

from collections import Counter
from typing import Any

import polars as pl

from ...datasets.filters import Filter, chain_stages, count_reasons
from ...datasets.ledger import Count, Entry

FEW_SURVIVORS = "few_survivors"
_RANKS = ["chosen_rank", "rejected_rank"]


class Accounts:
    """Sums the decisions on responses and pairs over all parts."""

    def __init__(
        self, response_stages: dict[str, list[Filter]], pair_stages: dict[str, list[Filter]]
    ) -> None:
        self.response_stages = response_stages
        """Stage -> its filters, in the order in which they drop."""
        self.pair_stages = pair_stages
        self.responses = self.queries = self.kept = 0
        self.compared = self.pairs_of_two = 0
        """Queries with enough survivors, and those of them with two."""
        self.names: dict[int, str] = {}
        """Rank -> responder."""
        self._dropped: Counter[str] = Counter()
        self._partners: Counter[str] = Counter()
        """Reason -> responses dropped for it in queries that then had too few."""
        self._responders: list[pl.DataFrame] = []
        self._pairs: list[pl.DataFrame] = []
        self._kept: list[pl.DataFrame] = []

    @property
    def stages(self) -> dict[str, str]:
        """Reason -> the stage that gives it."""
        stages = {**self.response_stages, **self.pair_stages}
        return {rule.name: stage for stage, rules in stages.items() for rule in rules}

    def add(self, texts: pl.DataFrame, decided: pl.DataFrame, pairs: pl.DataFrame) -> None:
        self.responses += len(decided)
        self.queries += decided["query"].n_unique()
        self.names |= dict(texts.select("rank", "responder").unique().iter_rows())
        self._dropped.update(count_reasons(decided["reason"]))
        is_few = pl.col("reason") == FEW_SURVIVORS
        partners = decided.filter(is_few.any().over("query") & ~is_few)
        self._partners.update(count_reasons(partners["reason"]))
        alive = pl.col("reason").is_null()
        survivors = decided.filter(alive)["query"].rle().struct.field("len")  # sorted by query
        self.compared += len(survivors)
        self.pairs_of_two += int((survivors == 2).sum())
        responder = decided.group_by("rank").agg(
            responses=pl.len(),
            survivors=alive.sum(),
            with_finish_reason=pl.col("finish_reason").count(),
            cut=(pl.col("finish_reason") == "length").sum(),
        )
        self._responders.append(responder)
        sums = _sums(pl.col("chosen_length").filter(alive), pl.col("rejected_length").filter(alive))
        self._pairs.append(pairs.group_by(_RANKS).agg(n=pl.len(), **self._drops, **sums))
        by_query = pairs.filter(alive).group_by("query").agg(pairs=pl.len(), row=pl.col("chosen_row").first())
        self._kept.append(by_query.select(texts["query_id"].gather(by_query["row"]), "pairs"))
        self.kept += int(by_query["pairs"].sum())

    def drop(self, pairs: pl.DataFrame) -> None:
        """Take pairs back that were added as kept; `pairs` has query_id, ranks, lengths and reason."""
        sums = _sums(pl.col("chosen_length"), pl.col("rejected_length"))
        counts = pairs.group_by(_RANKS).agg(n=pl.lit(0), **self._drops, **sums)
        self._pairs.append(counts.with_columns(-pl.col(name).cast(pl.Int64) for name in sums))
        by_query = pairs.group_by("query_id").agg(pairs=-pl.len().cast(pl.Int64))
        by_query = pl.concat([*self._kept, by_query], how="vertical_relaxed").group_by("query_id").sum()
        self._kept = [by_query.filter(pl.col("pairs") > 0)]
        self.kept -= len(pairs)

    @property
    def _drops(self) -> dict[str, pl.Expr]:
        """How many pairs each rule drops."""
        names = [rule.name for rules in self.pair_stages.values() for rule in rules]
        return {f"dropped {name}": (pl.col("reason") == name).sum() for name in names}

    def by_query(self) -> pl.DataFrame:
        """query_id and its number of comparisons, `pairs`, where it has any."""
        return pl.concat(self._kept)

    def ledger(self) -> list[Entry]:
        return chain_stages(self.response_stages, self.responses, self._dropped) + self._pair_ledger()

    def _pair_ledger(self) -> list[Entry]:
        """Entries of the pair stages, split by responder pair, in the order of the walk."""
        rows = self._by_pair().rows(named=True)
        kept = {self._pair(row): row["n"] for row in rows}
        entries = []
        for stage, rules in self.pair_stages.items():
            for rule in rules:
                by_pair = {}
                for row in rows:
                    n_in, dropped = kept[pair := self._pair(row)], row[f"dropped {rule.name}"]
                    by_pair[pair] = Count(n_in, n_in - dropped, {rule.name: dropped} if dropped else {})
                total = sum(kept.values())
                kept = {pair: count.kept for pair, count in by_pair.items()}
                entries.append(rule.entry(stage, total, sum(kept.values()), by_pair=by_pair))
        return entries

    def diagnostics(self) -> dict[str, Any]:
        """Numbers of all rows, without reading their text again."""
        by_pair = self._by_pair()
        total = by_pair.drop(_RANKS).sum().row(0, named=True)
        responders = pl.concat(self._responders).group_by("rank").sum().sort("rank")
        return {
            **_shares(total),
            "share_equal_length": total["equal"] / total["comparisons"],
            "queries": self.queries,
            "queries_with_a_comparison": len(self.by_query()),
            "dropped_beside": {FEW_SURVIVORS: dict(self._partners.most_common())},
            "responder_pairs": [
                {
                    "chosen_responder": self.names[row["chosen_rank"]],
                    "rejected_responder": self.names[row["rejected_rank"]],
                    **_shares(row),
                }
                for row in by_pair.filter(pl.col("comparisons") > 0).rows(named=True)
            ],
            "responders": [
                {
                    "responder": self.names[row["rank"]],
                    "responses": row["responses"],
                    "survivors": row["survivors"],
                    "share_cut_at_token_limit": _share(row["cut"], row["with_finish_reason"]),
                }
                for row in responders.rows(named=True)
            ],
        }

    def _by_pair(self) -> pl.DataFrame:
        return pl.concat(self._pairs, how="vertical_relaxed").group_by(_RANKS).sum().sort(_RANKS)

    def _pair(self, row: dict[str, Any]) -> str:
        return f"{self.names[row['chosen_rank']]} > {self.names[row['rejected_rank']]}"


def _sums(chosen: pl.Expr, rejected: pl.Expr) -> dict[str, pl.Expr]:
    """Sums over the lengths of comparisons."""
    return {
        "comparisons": chosen.len(),
        "longer": (chosen > rejected).sum(),
        "equal": (chosen == rejected).sum(),
        "chosen_chars": chosen.sum(),
        "rejected_chars": rejected.sum(),
    }


def _share(part: int, total: int) -> float | None:
    return part / total if total else None


def _shares(sums: dict[str, Any]) -> dict[str, Any]:
    n = sums["comparisons"]
    return {
        "comparisons": n,
        "share_chosen_longer": sums["longer"] / n,
        "mean_chosen_chars": sums["chosen_chars"] / n,
        "mean_rejected_chars": sums["rejected_chars"] / n,
    }
