"""The As-is RM as a filter: a comparison stays only where a reward model trained on votes agrees."""

from typing import Any

import numpy as np
import polars as pl

from ...datasets.builder import Progress
from ...datasets.config import source_name
from ...datasets.filters import Filter
from ...models.chat import assistant_turn
from ...scoring import Dialogue, Scorer
from .ranking import AS_IS

SIDES = ("chosen", "rejected")


class AsIs:
    """Scores both sides of the remaining pairs, and drops those where chosen is not above rejected."""

    def __init__(self, scorer: Scorer | None, progress: Progress) -> None:
        self.scorer, self.progress = scorer, progress
        self.filter: Filter | None = None
        """As the ledger has it; None where there is no reward model."""
        if scorer:
            name = source_name(scorer.model.id)
            params = {"model": name, "revision": scorer.model.revision, "max_tokens": scorer.max_tokens}
            description = (
                f"`{name}` must score chosen above rejected. The paper's As-is RM is a reward model trained "
                "on StackExchange votes; what this one learned from is for its own card to say."
            )
            self.filter = Filter(AS_IS, "pair", description, "paper 2.1, as-is filter", params=params)
        self.total = self.done = self.tokens = self.truncated = self.pairs = self.agreed = 0

    def __call__(self, pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        """The pairs with `asis_chosen` and `asis_rejected`, null where a pair was dropped before.

        `chosen_row` and `rejected_row` are places in `texts`.
        """
        if self.scorer is None:
            return pairs.with_columns(pl.lit(None, pl.Float64).alias(f"asis_{side}") for side in SIDES)
        remaining = pairs["reason"].is_null()
        rows = [pairs[f"{side}_row"].filter(remaining) for side in SIDES]
        scores = self._scores(self.scorer, texts, pl.concat(rows).unique(maintain_order=True))
        chosen, rejected = (pl.Series(scores[pairs[f"{side}_row"].to_numpy()]) for side in SIDES)
        disagrees = remaining & ~(chosen > rejected)
        pairs = pairs.with_columns(
            asis_chosen=pl.when(remaining).then(chosen),
            asis_rejected=pl.when(remaining).then(rejected),
            reason=pl.when(disagrees).then(pl.lit(AS_IS)).otherwise("reason"),
        )
        self.pairs += int(remaining.sum())
        self.agreed += pairs["reason"].null_count()
        return pairs

    def _scores(self, scorer: Scorer, texts: pl.DataFrame, rows: pl.Series) -> "np.ndarray[Any, Any]":
        """The score of each text, NaN for those that are not among the rows."""
        turns = texts.select("messages", "response")[rows].iter_rows()
        dialogues = (
            Dialogue(str(row), (*prompt, assistant_turn(response)))
            for row, (prompt, response) in zip(rows, turns, strict=True)
        )
        scores = np.full(len(texts), np.nan)
        self.total += len(rows)
        for score in scorer.score(dialogues):
            scores[int(score.id)] = score.value
            self.tokens += score.tokens
            self.truncated += score.truncated
            self.done += 1
            self.progress("as-is rm", self.done, self.total, self.tokens)
        return scores

    def diagnostics(self) -> dict[str, Any]:
        """Share of the pairs on which the reward model agreed, and how many responses it scored."""
        if self.scorer is None:
            return {}
        return {
            "asis_agreement": self.agreed / self.pairs if self.pairs else None,
            "asis_scored_responses": self.done,
            "asis_truncated_responses": self.truncated,
        }
