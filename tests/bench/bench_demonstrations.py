"""What N samples of a prompt cost, and what scoring them costs inside the builder, in one run.

    python -m tests.bench demonstrations
    python -m tests.bench.bench_demonstrations [--prompts 8] [--samples 4] [--new 64] [--queries 10]

Samples: our transformers engine with SmolLM2-135M, few-shot prompts that share about 1000 tokens, as in
`bench_transformers`. N samples of some prompts are timed against as many prompts that differ, and against
one sample of each. A further run of one new token each says how much of that is reading the prompts.
Likewise with dialogues of about 150 words before the question, as a fourth turn has. And with the vLLM
engine, where it is installed: samples are requests of their own there, and its prefix cache is on.

Scores: the builder answers queries with the fake engine, and a `JournaledScorer` around the reward model of
`bench_scoring` scores the replies. What that takes, journal included, is timed from within; the plain way
is sorted batches of the same network on the same dialogues. They take turns, a whole pass each.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from almost_data.builders.demonstrations import builder as demonstrations
from almost_data.datasets.builder import silent, text_id
from almost_data.generation import Model, Request
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal_file import JournalSession
from almost_data.generation.transformers import TransformersEngine
from almost_data.generation.vllm import CPU_CACHE_BYTES, VLLMEngine
from almost_data.models import weights
from almost_data.models.chat import user_turn
from almost_data.scoring import Dialogue, Score, load
from almost_data.scoring.journaled import JournaledScorer
from tests import schema
from tests.bench import Result, bench_scoring
from tests.bench.bench_transformers import MODEL, SHARED, requests_for, time_engine
from tests.settings import fake_tiny, with_settings

console = Console()
DIALOGUE = 150
"""Words of a dialogue before the question."""
PASSES = 2
"""Each way is timed so often, in turns; the mean counts."""


def sampled(requests: list[Request], samples: int) -> list[Request]:
    """Each request so often, with its samples beside each other, as the builder asks."""
    return [
        replace(request, id=f"{request.id}:{at}", sample=at, seed=at * 10_000 + int(request.id))
        for request in requests
        for at in range(samples)
    ]


def talked(requests: list[Request], words: int) -> list[Request]:
    """Each with a dialogue of its own before the question, of about so many words."""
    vocabulary = "The tallest tree in the garden is an oak, and nobody knows how old it really is.".split()
    dialogue = " ".join(vocabulary[at % len(vocabulary)] for at in range(words))
    return [
        replace(request, text=f"\n\nHuman: {request.id} {dialogue}{request.text}") for request in requests
    ]


def measure_samples(engine: Any, requests: list[Request], prompts: int, samples: int) -> dict[str, float]:
    """Seconds of each way; `read` is that of one new token to each of the many prompts.

    Each time the prompts begin with other words, so that none is in a cache from before.
    """
    first = [replace(request, sampling=replace(request.sampling, max_new_tokens=1)) for request in requests]
    ways = {"samples": requests[:prompts], "prompts": requests, "one": requests[:prompts], "read": first}
    time_engine(engine, first[:4])
    seconds = dict.fromkeys(ways, 0.0)
    for number in range(PASSES):
        for name, group in ways.items():
            opening = f"Human: ({name} {number})"
            turned = [replace(request, text=request.text.replace("Human:", opening, 1)) for request in group]
            turned = sampled(turned, samples) if name == "samples" else turned
            tokens, spent = time_engine(engine, turned)
            console.print({"what": name, "requests": len(turned), "tokens": tokens, "seconds": spent})
            seconds[name] += spent / PASSES
    return seconds


class Endless(VLLMEngine):
    """No reply ends early, as in the other engine's runs here."""

    def _sampling(self, request: Request, turn_end: int | None) -> Any:
        sampling = super()._sampling(request, turn_end)
        sampling.ignore_eos = True
        return sampling


@dataclass
class Timed:
    """A scorer with a clock: what the builder waits for it."""

    inner: Any
    seconds: float = 0.0
    dialogues: list[Dialogue] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model, self.max_tokens, self.reward_stats = (
            self.inner.model,
            self.inner.max_tokens,
            self.inner.reward_stats,
        )

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


def build(queries: int, samples: int, scorer: Timed, folder: Path) -> None:
    """Demonstrations of so many queries, the replies the fake engine's; rows wait in `folder`."""
    preset = with_settings(fake_tiny(), "demonstrations", n=samples, rm="rm")
    config = preset.settings(schema.builder("demonstrations"))
    texts = [f"How do I do number {number}, and why?" for number in range(queries)]
    rows = [{"query_id": text_id(text), "prompt": user_turn(text), "source": "import"} for text in texts]
    frame = schema.frame("queries", "default", rows)
    demonstrations.build(config, {"queries": lambda _: frame.lazy()}, FakeEngine(), silent, folder, scorer)


def measure_scores(folder: Path, queries: int, samples: int) -> tuple[str, float, float]:
    """What was run, and dialogues per second, ours and plain."""
    inner: Any = load(str(bench_scoring.make(folder / "rm")))
    list(inner.score(bench_scoring.dialogues_of(4)))  # loads, and warms up
    loaded = inner.loaded
    ours = plain = 0.0
    for number in range(PASSES):
        scorer = Timed(JournaledScorer(inner, JournalSession(folder / f"journal-{number}", "bench@0.1.0")))
        build(queries, samples, scorer, folder / f"rows-{number}")
        ours += scorer.seconds
        dialogues = scorer.dialogues
        assert (
            scorer.inner.counts.computed + scorer.inner.counts.from_journal
            == len(dialogues)
            == queries * samples
        )
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
    return label, PASSES * len(dialogues) / ours, PASSES * len(dialogues) / plain


def compared(label: str, seconds: dict[str, float], prompts: int, samples: int, new: int) -> list[Result]:
    """Lines of the table."""
    many, total = f"{samples} samples of {prompts} prompts", prompts * samples
    where = f"{label}SmolLM2-135M, {SHARED} tokens shared, {new} new: "
    rates = total / seconds["samples"], total / seconds["prompts"]
    return [
        Result(f"{where}{many} against {total} prompts", "replies/s", *rates, ""),
        Result(f"{where}{many} against one of each", "s", seconds["samples"], seconds["one"], ""),
        Result(
            f"{where}of {total} prompts, reading them against all",
            "s",
            seconds["read"],
            seconds["prompts"],
            "",
        ),
    ]


def run(prompts: int = 8, samples: int = 4, new: int = 64, queries: int | None = None) -> list[Result]:
    """For `python -m tests.bench`."""
    model = weights.locate(Model(MODEL))
    engine = TransformersEngine()
    loaded = engine.load(model)
    loaded.eos = frozenset()  # no row ends early
    requests = requests_for(model, loaded.tokenizer, prompts * samples, new)
    del loaded
    long = f"{DIALOGUE} words of dialogue, "
    results = [
        *compared("", measure_samples(engine, requests, prompts, samples), prompts, samples, new),
        *compared(
            long, measure_samples(engine, talked(requests, DIALOGUE), prompts, samples), prompts, samples, new
        ),
    ]
    engine.close()
    if find_spec("vllm"):
        fast = Endless(kv_cache_memory_bytes=CPU_CACHE_BYTES)
        for label, batch in (("vLLM, ", requests), (f"vLLM, {long}", talked(requests, DIALOGUE))):
            results += compared(label, measure_samples(fast, batch, prompts, samples), prompts, samples, new)
        fast.close()
    with tempfile.TemporaryDirectory() as name:
        number = queries or (1024 if torch.cuda.is_available() else 10)
        label, scored, plain = measure_scores(Path(name), number, samples)
    return [
        *results,
        Result(
            f"scores inside the builder ({label}): against sorted batches",
            "dialogues/s",
            scored,
            plain,
            "0.9x",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--queries", type=int)
    args = parser.parse_args()
    for result in run(args.prompts, args.samples, args.new, args.queries):
        ratio = f" ({result.ours / result.plain:.2f}x of {result.plain:.2f})" if result.plain else ""
        print(f"{result.label}: {result.ours:,.2f} {result.unit}{ratio}")


if __name__ == "__main__":
    main()
