"""Admits mined candidates in order: by their own text, then against the seeds and the queries before them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from ..datasets.builder import text_id
from ..datasets.filters import Filter, chain_stages, with_reason
from ..datasets.ledger import Entry
from ..diagnostics.novelty import Novelty
from ..generation import Reply

OURS = "almost_data"
"""The source of a rule that neither the paper nor its code has."""
FAILED = Filter("failed", "query", "The engine gave an error instead of a candidate.", OURS)


def order_filters(max_rouge_l: float, target: int) -> list[Filter]:
    """Filters that depend on the queries accepted so far: `Admission` decides them in order."""
    return [
        Filter("duplicate", "query", "The same text as a seed or an accepted query.", OURS),
        Filter(
            "not_novel",
            "query",
            f"ROUGE-L F1 of {max_rouge_l:g} or more with a seed or an accepted query.",
            "paper appendix C; Self-Instruct",
            params={"max_rouge_l": max_rouge_l},
        ),
        Filter(
            "target_reached",
            "query",
            "It passed, but its round had already filled the target.",
            OURS,
            params={"target": target},
        ),
    ]


class Admission:
    """Admits candidates in order, each compared with the seeds and all queries admitted before."""

    def __init__(
        self, seeds: Sequence[str], text_filters: Sequence[Filter], max_rouge_l: float, target: int
    ) -> None:
        """`text_filters` judge a candidate by its own text; `target` queries are enough."""
        self.max_rouge_l, self.target = max_rouge_l, target
        self.accepted: list[str] = []
        self.rejected: list[dict[str, Any]] = []
        self.failed = 0
        self._candidates = 0
        self._novelty = Novelty()
        for seed in seeds:
            self._novelty.add(seed)
        self._ids = {text_id(seed) for seed in seeds}
        self._text_filters = list(text_filters)

    def add(self, replies: list[Reply]) -> None:
        """Admit the candidates in these replies, or note why not."""
        for reply, flaw in zip(replies, self._flaws(replies), strict=True):
            query = reply.text.strip()
            nearest, score = self._novelty.nearest(query)
            if reason := flaw or self._why_not(query, score):
                self.failed += reason == FAILED.name
                row = {"query": query, "reason": reason, "error": reply.error, "nearest": nearest}
                self.rejected.append(row | {"score": score, "candidate": self._candidates})
            else:
                self.accepted.append(query)
                self._ids.add(text_id(query))
                self._novelty.add(query)
            self._candidates += 1

    def ledger(self, round_size: int) -> list[Entry]:
        """The account of all candidates, which were asked for in rounds of so many."""
        dropped = Counter(str(row["reason"]) for row in self.rejected)
        rules = [*self._text_filters, *order_filters(self.max_rouge_l, self.target)]
        failures = replace(FAILED, params={"round_size": round_size})
        stages = {"generation": [failures], "admission": rules}
        return chain_stages(stages, self._candidates, dropped)

    def _flaws(self, replies: list[Reply]) -> list[str | None]:
        """Why each candidate is dropped by its own text: the first of the text filters."""
        rows = [
            (text, len(text), reply.finish_reason, FAILED.name if reply.error else None)
            for reply in replies
            for text in [reply.text.strip()]
        ]
        schema = {"query": pl.String, "length": pl.Int64, "finish_reason": pl.String, "reason": pl.String}
        candidates = pl.DataFrame(rows, schema, orient="row")
        decided = with_reason(candidates, self._text_filters, candidates["reason"])
        return decided["reason"].to_list()

    def _why_not(self, query: str, score: float) -> str | None:
        """Why a candidate is dropped, compared with the seeds and the queries accepted so far."""
        if text_id(query) in self._ids:
            return "duplicate"
        if score >= self.max_rouge_l:
            return "not_novel"
        return "target_reached" if len(self.accepted) >= self.target else None
