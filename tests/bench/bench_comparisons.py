"""Decisions over 1,000,000 responses: the builder against a row-at-a-time loop over the same rows."""

import random
import re
import time
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from almost_data import schema
from almost_data.builders import reply_id, silent, text_id
from almost_data.builders.comparisons import ComparisonsConfig, build, decide_responses
from almost_data.filters import response_checks
from almost_data.generation.fake import FakeEngine, _answer
from almost_data.ranking import length_rule, rank_pairs
from tests.bench import Result

QUERIES = 200_000


def run() -> list[Result]:
    """Decisions only, as the loop makes them, and the whole builder with tables, ledger and diagnostics."""
    frame = _responses()
    config = ComparisonsConfig()
    start = time.perf_counter()
    decided = decide_responses(frame.lazy(), response_checks(config.min_chars), config)
    pairs = rank_pairs(decided.filter(pl.col("reason").is_null()), length_rule(0.5, "survivors"), "first")
    ours = time.perf_counter() - start
    kept = pairs["reason"].null_count()
    start = time.perf_counter()
    assert _loop(frame) == kept
    plain = time.perf_counter() - start
    start = time.perf_counter()
    build(config, {"responses": lambda _: frame.lazy()}, FakeEngine(), silent)
    whole = time.perf_counter() - start
    n = len(frame)
    return [
        Result(f"decisions on {n:,} responses", "responses/s", n / ours, n / plain, "15x"),
        Result(f"comparisons builder, {n:,} responses", "responses/s", n / whole, None, "60 s"),
    ]


def _responses() -> pl.DataFrame:
    rng = random.Random(0)
    texts = [_answer(rng).partition("\n\n")[0] for _ in range(50_000)]
    rows = []
    for number in range(QUERIES):
        query = text_id(str(number))
        for rank in range(5):
            row = {"query_id": query, "prompt": f"Query {number}?", "responder": "ABCDE"[rank], "rank": rank}
            row |= {
                "response": rng.choice(texts),
                "finish_reason": "stop",
                "reply_id": reply_id(query, "ABCDE"[rank]),
            }
            rows.append(row)
    return schema.frame("responses", "default", rows)


def _loop(frame: pl.DataFrame) -> int:
    """Pairs kept by the rules as one writes them by hand, row by row, with NumPy's mean and std."""
    by_query: dict[str, list[dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        by_query.setdefault(row["query_id"], []).append(row)
    kept = 0
    for rows in by_query.values():
        survivors = [
            row for row in sorted(rows, key=lambda row: row["rank"]) if _reason(row["response"]) is None
        ]
        if len(survivors) < 2:
            continue
        lengths = [len(row["response"]) for row in survivors]
        floor = np.mean(lengths) - np.std(lengths) / 2
        already = set()
        for high, low in combinations(survivors, 2):
            if high["responder"] in already:
                continue
            if len(high["response"]) >= len(low["response"]) or len(high["response"]) >= floor:
                already.add(high["responder"])
                kept += 1
    return kept


def _reason(text: str) -> str | None:
    if len(text) < 50:
        return "too_short"
    if text.endswith(("?", ":")):
        return "ends_open"
    if text.lower().startswith("well"):
        return "starts_well"
    if not text.endswith((".", "!")):
        return "unfinished"
    if re.search("don['\u2019]t know|do not know", text, re.IGNORECASE):
        return "dont_know"
    if re.search("human:|<image>", text, re.IGNORECASE):
        return "turn_marker"
    return None
