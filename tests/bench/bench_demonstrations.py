"""What N samples of a prompt cost, and what scoring them costs inside the builder, in one run.

    python -m tests.bench demonstrations

Samples: our transformers engine with SmolLM2-135M, few-shot prompts that share about 1000 tokens, as in
`bench_transformers`. N samples of some prompts are timed against as many prompts that differ; likewise with
dialogues of about 150 words before the question, as a fourth turn has.

Scores: the builder answers queries with the fake engine, and a `JournaledScorer` around the reward model of
`bench_scoring` scores the replies. What that takes, journal included, is timed from within; the plain way
is sorted batches of the same network on the same dialogues. They take turns, a whole pass each.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from almost_data.builders.demonstrations import builder as demonstrations
from almost_data.datasets.builder import silent, text_id
from almost_data.generation import Model, Request
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal_file import JournalSession
from almost_data.generation.transformers import TransformersEngine
from almost_data.models import weights
from almost_data.models.chat import user_turn
from almost_data.scoring import Dialogue, Score, load
from almost_data.scoring.journaled import JournaledScorer
from tests import schema
from tests.bench import Result, bench_scoring
from tests.bench.bench_transformers import MODEL, SHARED, requests_for, time_engine
from tests.settings import fake_tiny, with_settings

PROMPTS, SAMPLES, NEW = 8, 4, 64
DIALOGUE = 150
"""Words of a dialogue before the question."""
PASSES = 2
"""Each way is timed so often, in turns; the mean counts."""


def sampled(requests: list[Request]) -> list[Request]:
    """Each request so often, with its samples beside each other, as the builder asks."""
    return [
        replace(request, id=f"{request.id}:{at}", sample=at, seed=at * 10_000 + int(request.id))
        for request in requests
        for at in range(SAMPLES)
    ]


def with_dialogue(requests: list[Request]) -> list[Request]:
    """Each with a dialogue of its own before the question."""
    vocabulary = "The tallest tree in the garden is an oak, and nobody knows how old it really is.".split()
    dialogue = " ".join(vocabulary[at % len(vocabulary)] for at in range(DIALOGUE))
    return [
        replace(request, text=f"\n\nHuman: {request.id} {dialogue}{request.text}") for request in requests
    ]


def measure_samples(engine: TransformersEngine, requests: list[Request], label: str) -> Result:
    """Samples of few of the prompts against all of them.

    Each time the prompts begin with other words, so that none is in a cache from before.
    """
    ways = {"samples": sampled(requests[:PROMPTS]), "prompts": requests}
    time_engine(engine, requests[:4])
    seconds = dict.fromkeys(ways, 0.0)
    for number in range(PASSES):
        for name, group in ways.items():
            opening = f"Human: ({name} {number})"
            turned = [replace(request, text=request.text.replace("Human:", opening, 1)) for request in group]
            seconds[name] += time_engine(engine, turned)[1]
    rates = {name: PASSES * len(requests) / spent for name, spent in seconds.items()}
    label += f"SmolLM2-135M, {SHARED} tokens shared, {NEW} new: {SAMPLES} samples of {PROMPTS} prompts"
    return Result(
        f"{label} against {len(requests)} prompts", "replies/s", rates["samples"], rates["prompts"], ""
    )


@dataclass
class Timed:
    """A scorer with a clock: what the builder waits for it."""

    inner: Any
    seconds: float = 0.0
    dialogues: list[Dialogue] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model, self.max_tokens = self.inner.model, self.inner.max_tokens
        self.reward_stats = self.inner.reward_stats

    def settings(self) -> dict[str, Any]:
        return dict(self.inner.settings())

    def close(self) -> None:
        self.inner.close()

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        self.dialogues = list(dialogues)
        start = time.perf_counter()
        scores = list(self.inner.score(self.dialogues))
        self.seconds += time.perf_counter() - start
        yield from scores


def build(queries: int, scorer: Timed, folder: Path) -> None:
    """Demonstrations of so many queries, the replies the fake engine's; rows wait in `folder`."""
    preset = with_settings(fake_tiny(), "demonstrations", n=SAMPLES, rm="rm")
    config = preset.settings(schema.builder("demonstrations"))
    texts = [f"How do I do number {number}, and why?" for number in range(queries)]
    rows = [{"query_id": text_id(text), "prompt": user_turn(text), "source": "import"} for text in texts]
    frame = schema.frame("queries", "default", rows)
    demonstrations.build(config, {"queries": lambda _: frame.lazy()}, FakeEngine(), silent, folder, scorer)


def measure_scores(folder: Path, queries: int) -> Result:
    """Dialogues per second, in the builder and plain."""
    inner: Any = load(str(bench_scoring.make(folder / "rm")))
    list(inner.score(bench_scoring.dialogues_of(4)))  # loads, and warms up
    loaded = inner.loaded
    ours = plain = 0.0
    for number in range(PASSES):
        scorer = Timed(JournaledScorer(inner, JournalSession(folder / f"journal-{number}", "bench@0.1.0")))
        build(queries, scorer, folder / f"rows-{number}")
        ours += scorer.seconds
        dialogues = scorer.dialogues
        counts = scorer.inner.counts
        assert counts.computed + counts.from_journal == len(dialogues) == queries * SAMPLES
        # The journal scores a text once; so does the plain way here.
        unique = list({str(dialogue.messages): dialogue for dialogue in dialogues}.values())
        rows = loaded.reader.read(unique)
        tokens = sum(len(row.tokens) for row in rows)
        batch = max(1, inner.settings()["batch_tokens"] * len(unique) // tokens)
        start = time.perf_counter()
        list(bench_scoring.plain(inner, unique, batch, ordered=True))
        plain += time.perf_counter() - start
    size = sum(weights.numel() for weights in loaded.network.parameters()) / 1e6
    where = f"{size:,.0f}M parameters, {loaded.device}"
    label = f"{where}, {len(dialogues)} replies of {tokens // len(unique)} tokens"
    rates = PASSES * len(dialogues) / ours, PASSES * len(dialogues) / plain
    return Result(
        f"scores inside the builder ({label}): against sorted batches", "dialogues/s", *rates, "0.9x"
    )


def run() -> list[Result]:
    model = weights.locate(Model(MODEL))
    engine = TransformersEngine()
    loaded = engine.load(model)
    loaded.eos = frozenset()  # no row ends early
    requests = requests_for(model, loaded.tokenizer, PROMPTS * SAMPLES, NEW)
    del loaded
    results = [
        measure_samples(engine, requests, ""),
        measure_samples(engine, with_dialogue(requests), f"{DIALOGUE} words of dialogue, "),
    ]
    engine.close()
    with tempfile.TemporaryDirectory() as name:
        queries = 1024 if torch.cuda.is_available() else 10
        return [*results, measure_scores(Path(name), queries)]
