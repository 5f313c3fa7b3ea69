"""What the journal and the builder cost around an engine, on the fake one, which costs nothing itself.

python -m tests.bench journal
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from almost_data.generation import Model, Request, Sampling
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession
from almost_data.run import importing
from almost_data.store.store import Store
from tests.bench import Result

SIZES = (100, 1_000, 10_000)
LARGE = 1_000_000
LARGEST = 2_500_000
"""Only its memory is told."""
PREFIX = "A talk of two people, one of whom asks.\n\n-----\n\n" * 60
RUN = """
import json, sqlite3, sys, time
from almost_data.run import build as runs
from almost_data.store.store import Store
store = Store(sys.argv[1])
runs.prepare("fake", root=store.root, version="0.0.1").build("responses")  # what is imported at first use
run = runs.prepare("fake", root=store.root, version="0.1.0")
start = time.perf_counter()
run.build("responses")
seconds = time.perf_counter() - start
# ru_maxrss would count what the process that started this one held.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
size = "SELECT sum(length(CAST(text AS BLOB))), count(*) FROM reply"
text, replies = sqlite3.connect(store.journal).execute(size).fetchone()
added = (store.journal.stat().st_size - text) / replies
print(json.dumps({"seconds": seconds, "peak": int(status["VmHWM"].split()[0]) * 1024, "added": added}))
"""


def requests_of(count: int) -> list[Request]:
    sampling = Sampling(384, 1.0, 0.9, ("Human:",))
    return [
        Request(str(n), Model("fake/m", "1"), PREFIX, f"Human: {n}?\n\nAssistant:", sampling, n)
        for n in range(count)
    ]


def build(folder: Path, requests: int) -> dict[str, float]:
    """Seconds, peak bytes, and journal bytes a reply besides its text, of `build responses` in a process."""
    root = folder / f"of{requests}"
    for version, queries in (("0.0.1", 1), ("0.1.0", requests // 5)):
        file = folder / f"{queries}.txt"
        file.write_text("".join(f"How do I count up to {n} without a mistake?\n" for n in range(queries)))
        importing.import_queries(Store(root), str(file), version)
    command = [sys.executable, "-c", RUN, str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


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
            seconds = build(folder, size)["seconds"]
            label = f"build responses on the fake engine, {size:,} requests"
            results.append(Result(label, "rows/s", size / seconds, None, "flat"))
        large, largest = build(folder, LARGE), build(folder, LARGEST)
        label = f"build responses on the fake engine, {LARGE:,} requests"
        results += [
            Result(label, "rows/s", LARGE / large["seconds"], None, "flat"),
            Result(f"{label}: peak memory", "MiB", large["peak"] / 2**20, None, "bounded"),
            Result(
                label.replace(f"{LARGE:,}", f"{LARGEST:,}") + ": peak memory",
                "MiB",
                largest["peak"] / 2**20,
                None,
                "bounded",
            ),
            Result("journal: bytes of a reply besides its text", "bytes", large["added"], None, ""),
        ]
    return results
