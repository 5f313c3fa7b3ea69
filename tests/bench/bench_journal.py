"""What the journal and the builder cost around an engine: on the fake one, and on one that costs nothing.

python -m tests.bench journal
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from almost_data.generation import Model, Reply, Request, Sampling
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession, open_journal
from almost_data.run import build, importing
from almost_data.store.store import Store
from tests.bench import Result, in_process

SIZES = (100, 1_000, 10_000)
LARGE = 1_000_000
LARGEST = 2_500_000
"""Only its memory is told."""
PREFIX = "A talk of two people, one of whom asks.\n\n-----\n\n" * 60


TEXT = " Start with what you already have at hand. Take it one step at a time, and write down what works."
CONSTANT = f"{__file__}:Constant"


class Constant:
    """An engine that always says the same: what is timed is all that is around it."""

    name = "constant"
    honours_seed = True
    load_seconds = 0.0

    def resolve(self, model: Model) -> Model:
        return Model(model.id, "1")

    def settings(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            yield Reply(request.id, TEXT, "stop", 600, 20)


def requests_of(count: int) -> list[Request]:
    sampling = Sampling(384, 1.0, 0.9, ("Human:",))
    return [
        Request(str(n), Model("fake/m", "1"), PREFIX, f"Human: {n}?\n\nAssistant:", sampling, n)
        for n in range(count)
    ]


def measure(folder: Path, requests: int, engine: str = "fake") -> tuple[float, float, float]:
    """Seconds, peak MiB, and journal bytes a reply besides its text, of `build responses` in a process."""
    root = folder / f"{engine.rpartition(':')[2]}-{requests}"
    for version, queries in (("0.0.1", 1), ("0.1.0", requests // 5)):
        file = folder / f"{queries}.txt"
        file.write_text("".join(f"How do I count up to {n} without a mistake?\n" for n in range(queries)))
        importing.import_queries(Store(root), str(file), version)
    # The small version imports whatever is imported at its first use.
    small = partial(build_responses, root, "0.0.1", engine)
    seconds, peak = in_process(build_responses, root, "0.1.0", engine, before=small)
    journal = Store(root).journal
    with open_journal(journal) as database:
        JournalSession(journal).register(database, "reply", ())  # the keys of the last window
        size = "SELECT sum(length(CAST(text AS BLOB))), count(*) FROM reply"
        text, replies = database.execute(size).fetchone()
    return seconds, peak, (journal.stat().st_size - text) / replies


def build_responses(root: Path, version: str, engine: str) -> None:
    build.prepare(engine, root=root, version=version).build("responses")


def run() -> list[Result]:
    results = []
    requests = requests_of(10_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        assert len(list(FakeEngine().generate(requests))) == len(requests)
        bare = time.perf_counter() - start
        start = time.perf_counter()
        assert len(
            list(JournaledGenerator(FakeEngine(), JournalSession(folder / "j")).generate(requests))
        ) == len(requests)
        kept = time.perf_counter() - start
        start = time.perf_counter()
        again = JournaledGenerator(FakeEngine(), JournalSession(folder / "j"))
        assert len(list(again.generate(requests))) == again.counts.from_journal == len(requests)
        resumed = time.perf_counter() - start
        each = (kept - bare) / len(requests)
        results += [
            Result("journal: time added to each reply", "microseconds", each * 1e6, None, "see vllm"),
            Result("journal: replies read back", "replies/s", len(requests) / resumed, None, ""),
        ]
        for size in SIZES:
            label = f"build responses on the fake engine, {size:,} requests"
            results.append(Result(label, "rows/s", size / measure(folder, size)[0], None, "flat"))
        seconds, peak, added = measure(folder, LARGE)
        label = f"build responses on the fake engine, {LARGE:,} requests"
        results += [
            Result(label, "rows/s", LARGE / seconds, None, "flat"),
            Result(f"{label}: peak memory", "MiB", peak, None, "bounded"),
            Result("journal: bytes of a reply besides its text", "bytes", added, None, ""),
        ]
        rate = LARGE / measure(folder, LARGE, CONSTANT)[0]
        label = f"build responses on an engine that costs nothing, {LARGE:,} requests"
        results.append(Result(label, "rows/s", rate, None, "15,000"))
        label = f"build responses on the fake engine, {LARGEST:,} requests: peak memory"
        results.append(Result(label, "MiB", measure(folder, LARGEST)[1], None, "bounded"))
    return results
