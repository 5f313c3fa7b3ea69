"""ROUGE-L against all accepted queries: ours against rouge-score, one query at a time."""

import random
import time

from rich.progress import track
from rouge_score import rouge_scorer

from almost_data.diagnostics.novelty import Novelty
from almost_data.generation.fake import question
from tests.bench import Result


def run() -> list[Result]:
    """Cost of one new query against 5,000 known ones, and its growth to 100,000."""
    rng = random.Random(0)
    texts = [question(rng) for _ in range(100_000)]
    accepted = Novelty()
    results = []
    for size in track((1_000, 5_000, 20_000, 100_000), "novelty", transient=True):
        for text in texts[len(accepted.texts) : size]:
            accepted.add(text)
        new = [question(rng) for _ in range(100)]
        start = time.perf_counter()
        ours = [accepted.nearest(text)[1] for text in new]
        seconds = (time.perf_counter() - start) / len(new)
        plain = None
        if size == 5_000:
            scorer = rouge_scorer.RougeScorer(["rougeL"])
            start = time.perf_counter()
            want = [
                max(scorer.score(earlier, text)["rougeL"].fmeasure for earlier in texts[:size])
                for text in new[:3]
            ]
            plain = (time.perf_counter() - start) / 3
            assert want == ours[:3]
        results.append(
            Result(
                f"ROUGE-L, one query against {size:,}", "queries/s", 1 / seconds, plain and 1 / plain, "200x"
            )
        )
    return results
