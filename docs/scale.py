"""What ten thousand, a million and a hundred million queries need, by the estimates of `--dry-run`.

What was measured is read from `tests/bench/RESULTS.md`, so that each number stands in one place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from almost_data.builders.responses import BUILDER as RESPONSES
from almost_data.builders.responses import QUERY_TOKENS
from almost_data.datasets.builder import Estimate
from almost_data.run import presets
from almost_data.run.cost import CHARACTERS, FLOPS, CostLine, estimate
from almost_data.run.presets import PresetName

SIZES = {"10k": 10_000, "1M": 1_000_000, "100M": 100_000_000}
GPUS = (1, 8, 64)
RESULTS = Path(__file__).parents[1] / "tests" / "bench" / "RESULTS.md"
BUILD = "build responses on the fake engine, {:,} requests"
FREE = "build responses on an engine that costs nothing, {:,} requests"
MEASURED = (1_000_000, 2_500_000)
"""Requests of the two builds whose memory is in RESULTS.md, with five responders a query."""
RESPONDERS = 5


@dataclass(frozen=True)
class Ladder:
    title: str
    preset: PresetName
    assignments: tuple[str, ...] = ()

    def costs(self, queries: int) -> list[CostLine]:
        """The lines of `--dry-run` for responses to so many queries, which exist."""
        preset = presets.load(self.preset, assignments=self.assignments)
        return estimate(preset, RESPONSES, {"queries": Estimate(queries)})[1]


LADDERS = (
    Ladder("The paper's five responders (`--preset almost`)", "almost", ("responses.probes=[]",)),
    Ladder("A ladder of two chat models (`--preset delta`)", "delta"),
)


def measured(label: str) -> float:
    """A number of RESULTS.md, by the line that names it."""
    for line in RESULTS.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0] == label:
            return float(cells[2].replace(",", ""))
    raise LookupError(f"{RESULTS.name} has no line {label!r}")


def driver_memory(queries: int) -> tuple[float, bool]:
    """MiB of the process that builds, and whether they lie within what was measured."""
    small, large = (measured(f"{BUILD.format(requests)}: peak memory") for requests in MEASURED)
    first, last = (requests // RESPONDERS for requests in MEASURED)
    growth = (large - small) / (last - first)
    return max(small, large + growth * (queries - last)), queries <= last


def page() -> str:
    """What 10k, 1M and 100M queries need: requests, tokens, disk, memory, and hours of GPUs."""
    parts = [f"# Scale\n\n{page.__doc__}", _introduction()]
    for ladder in LADDERS:
        models = ", ".join(dict.fromkeys(line.model for line in ladder.costs(1)))
        parts += [f"## {ladder.title}", f"Models: {models}.", _table(ladder)]
    return "\n\n".join([*parts, _assumptions()])


def rows(ladder: Ladder) -> Iterator[tuple[str, ...]]:
    """What is needed, then its amount for each size."""
    costs = [ladder.costs(queries) for queries in SIZES.values()]
    requests = [sum(line.requests for line in lines) for lines in costs]
    written = [sum(line.tokens_out for line in lines) for lines in costs]
    added = measured("journal: bytes of a reply besides its text")
    journal = [count * added + tokens * CHARACTERS for count, tokens in zip(requests, written, strict=True)]
    rate = measured(f"{BUILD.format(MEASURED[0])}")
    yield "requests", *(amount(count) for count in requests)
    yield "tokens read", *(amount(sum(line.tokens_in for line in lines)) for lines in costs)
    yield "tokens written, at most", *map(amount, written)
    yield "journal, at most", *(f"{amount(size)}B" for size in journal)
    yield "dataset `responses`, at most", *(f"{amount(sum(line.disk for line in lines))}B" for lines in costs)
    for gpus in GPUS:
        hours = (sum(line.gpu_hours or 0 for line in lines) / gpus for lines in costs)
        yield f"hours on {gpus} GPU{'s' * (gpus > 1)}", *map(amount, hours)
    yield "hours of the building process itself", *(amount(count / rate / 3600) for count in requests)
    memory = [driver_memory(queries) for queries in SIZES.values()]
    yield "its memory", *(f"{amount(mib * 2**20)}B{'' if inside else ' *'}" for mib, inside in memory)


def amount(value: float) -> str:
    """Three digits, and a unit where it is large: `50 k`, `19.2 G`."""
    for unit, size in ((" T", 1e12), (" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if float(f"{value:.3g}") >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _table(ladder: Ladder) -> str:
    lines = [("queries", *SIZES), ("---", *(["---:"] * len(SIZES))), *rows(ladder)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _introduction() -> str:
    return (
        "For `build responses` on queries that exist. Requests, tokens, disk and GPU-hours are those of "
        "`--dry-run`; the rest follows from what `tests/bench/RESULTS.md` measured. This page is made from "
        "both when the site is built."
    )


def _assumptions() -> str:
    small, large = (measured(f"{BUILD.format(requests)}: peak memory") for requests in MEASURED)
    added, rate = measured("journal: bytes of a reply besides its text"), measured(BUILD.format(MEASURED[0]))
    free = measured(FREE.format(MEASURED[0]))
    engine = "transformers engine, Qwen3-0.6B's shape, 256 requests"
    chat = measured(f"{engine}, chat, 30 tokens shared, 128 new ones: against generate")
    raw = measured(f"{engine}, few-shot text, 1000 tokens shared, 128 new ones: against generate")
    novelty = measured("ROUGE-L, one query against 100,000")
    pairs = "build comparisons from 5,000,000 stored responses"
    pair_seconds, pair_memory = measured(pairs), measured(f"{pairs}: peak memory")
    status = measured("journal with a journal of 5,000,000 replies")
    return f"""## What is measured, and what is assumed

Measured:

- A build on an engine that costs nothing, on two cores: {free:,.0f} replies/s with {MEASURED[0]:,} requests.
- On the fake engine, which takes half of the time to write its texts: {rate:,.0f} replies/s, and {small:,.0f}
  and {large:,.0f} MiB of memory with {MEASURED[0]:,} and {MEASURED[1]:,} requests.
- The journal: {added:,.0f} bytes for a reply besides its text. With 5,000,000 replies, `almost-data journal`
  answers in {status:.1f} s.
- `build comparisons` from 5,000,000 stored responses: {pair_seconds:,.0f} s and {pair_memory:,.0f} MiB.

Assumed:

- Replies are at their longest, a query has {QUERY_TOKENS} tokens, and a token has {CHARACTERS} characters.
  What all requests of a responder share is read once.
- A GPU does {FLOPS:.0e} operations a second, and N GPUs take an N-th of the time. vLLM was not measured on a
  GPU. The `transformers` engine is far below that with small models: on one H100 it wrote {chat:,.0f}
  tokens/s of chats, and {raw:,.0f} on few-shot text, with Qwen3-0.6B's shape.
- The rate of the building process is the same for any number of requests.
- Memory for few queries is that for {MEASURED[0] // RESPONDERS:,}. \\* Beyond {MEASURED[1] // RESPONDERS:,}
  queries it grows as it does between the two.

Not known: no responses to more than {MEASURED[1]:,} requests were built, and no comparisons from more than
5,000,000 responses. Mining is not in the tables: each candidate is compared with all queries that are known
({novelty:,.0f} candidates a second with 100,000 known), so a million queries or more are imported."""
