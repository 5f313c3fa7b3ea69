"""Comparisons from responses: the decisions against a row-at-a-time loop, and the whole command.

python -m tests.bench comparisons
"""

import os
import random
import re
import tempfile
import time
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from almost_data.builders.checks import PAPER, response_checks
from almost_data.builders.comparisons.config import ComparisonsConfig
from almost_data.builders.comparisons.decisions import decide_responses
from almost_data.builders.comparisons.ranking import length_rule, rank_pairs
from almost_data.cli import app
from almost_data.datasets.builder import reply_id, text_id
from almost_data.generation.fake import answer
from almost_data.models.chat import user_turn
from almost_data.store.store import Store
from tests import schema
from tests.bench import Result, in_process
from tests.bench.stored import Responses, store_responses

QUERIES = 200_000
SIZES = (1_000_000, 5_000_000)
BLOCK = 100_000
LADDER = [f"model-{size}" for size in ("e", "d", "c", "b", "a")]


def run() -> list[Result]:
    """Decisions only, as the loop makes them; then the command, with Parquet, digest, figures and card."""
    frame = _responses()
    config = schema.with_defaults(ComparisonsConfig())
    named = response_checks(config.min_chars)
    start = time.perf_counter()
    rated = frame.with_columns(rating=pl.lit(None, pl.Float64))
    decided = decide_responses(rated, [named[name] for name in PAPER], config)
    pairs = rank_pairs(decided.filter(pl.col("reason").is_null()), [length_rule(0.5, "survivors")], "first")
    ours = time.perf_counter() - start
    kept = pairs["reason"].null_count()
    start = time.perf_counter()
    assert _loop(frame) == kept
    plain = time.perf_counter() - start
    n = len(frame)
    del frame, decided, pairs
    results = [Result(f"decisions on {n:,} responses", "responses/s", n / ours, n / plain, "15x")]
    for size in SIZES:
        seconds, peak = build(size)
        label = f"build comparisons from {size:,} stored responses"
        results += [
            Result(label, "s", seconds, None, "60 s" if size == SIZES[0] else ""),
            Result(f"{label}: peak memory", "MiB", peak, None, "4,096"),
        ]
    return results


def build(size: int) -> tuple[float, float]:
    """Seconds and peak MiB of `build comparisons` on so many stored responses, with a threshold changed."""
    queries = np.unique(np.random.default_rng(0).integers(0, 2**64, size // len(LADDER), np.uint64))
    texts = np.array([answer(random.Random(n)).partition("\n\n")[0] for n in range(50_000)])

    def responses(rank: int) -> Responses:
        rng = np.random.default_rng(rank)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            yield block, texts[rng.integers(0, len(texts), len(block))]

    with tempfile.TemporaryDirectory() as root:
        store_responses(Store(root), "responses@1.0.0", LADDER, len(queries), responses)
        os.sync()  # what is measured does not wait for these to reach the disk
        how = ["--from", "responses@1.0.0", "--root", root, "--checks", "paper"]
        how += ["--set", "comparisons.min_chars=60", "--version", "1.0.0"]
        return in_process(app.main, ["build", "comparisons", *how])


def _responses() -> pl.DataFrame:
    rng = random.Random(0)
    texts = [answer(rng).partition("\n\n")[0] for _ in range(50_000)]
    rows = []
    for number in range(QUERIES):
        query = text_id(str(number))
        for rank in range(5):
            prompt = user_turn(f"Query {number}?")
            row = {"query_id": query, "prompt": prompt, "responder": "ABCDE"[rank], "rank": rank}
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
