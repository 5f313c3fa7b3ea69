"""Our openai engine against other libraries that ask a server for many replies, on one that answers in 50 ms.

    BENCH_DISTILABEL=/path/to/python BENCH_DATA_DESIGNER=/path/to/python python -m tests.bench peers

A variable names the Python of an environment that has the library; without it, this Python is taken if it has
the library. Each library sends the same 5,000 chat requests from a process of its own, and writes its dataset
to disk: ours is `build responses`, with journal and card. They take turns, three times. What a library
imports or starts in its run is timed, what its script imports is not; processor time is that of the whole
process. With 64 requests at once, the server's own limit is 1,280 a second.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from tests.bench import Result
from tests.bench.bench_openai import slow_server

REQUESTS = 5000
SYSTEMS = ("Answer in one sentence.", "Answer at length.")
"""Each query is sent with each system text."""
AT_ONCE = 64
REPEATS = 3
SETTINGS = {
    "DISTILABEL_LOG_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "NEMO_TELEMETRY_ENABLED": "false",
    "OPENAI_API_KEY": "EMPTY",
}


@dataclass(frozen=True)
class Run:
    version: str
    rate: float
    """Requests a second."""
    processor: float
    """Microseconds of processor time a request."""


@dataclass(frozen=True)
class Library:
    name: str
    module: str

    @property
    def variable(self) -> str:
        return f"BENCH_{self.module.upper()}"

    def python(self) -> str | None:
        """The Python that has the library, if one is known."""
        return os.environ.get(self.variable) or (sys.executable if find_spec(self.module) else None)

    def send(self, url: str) -> Run:
        """Raises RuntimeError unless each request was sent and answered once."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "results")
            folder.mkdir()
            queries = Path(name, "queries.txt")
            queries.write_text("".join(f"What of {number}?\n" for number in range(REQUESTS // len(SYSTEMS))))
            script = Path(__file__).with_name(f"peer_{self.module}.py")
            arguments = [str(script), url, str(queries), str(AT_ONCE), str(folder), *SYSTEMS]
            before, worked = _answered(url), _processor_seconds()
            output = subprocess.check_output(
                [str(self.python()), *arguments], env=os.environ | SETTINGS, cwd=name, text=True
            )
            sent, worked = _answered(url) - before, _processor_seconds() - worked
        report = json.loads(output.splitlines()[-1])
        if sent != REQUESTS or report["replies"] != REQUESTS:
            raise RuntimeError(
                f"{self.name} sent {sent} of {REQUESTS} requests, and wrote {report['replies']}"
            )
        return Run(report["version"], REQUESTS / report["seconds"], worked / REQUESTS * 1e6)


OURS = Library("almost_data", "almost_data")
PEERS = (Library("distilabel", "distilabel"), Library("DataDesigner", "data_designer"))


def _answered(url: str) -> int:
    with urlopen(f"{url}/models") as answer:
        return int(json.load(answer)["answered"])


def _processor_seconds() -> float:
    """Of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run() -> list[Result]:
    peers = [peer for peer in PEERS if peer.python()]
    for peer in PEERS:
        if peer not in peers:
            print(f"{peer.name}: not installed; {peer.variable} names a Python that has it")
    if not peers:
        return []
    runs: dict[Library, list[Run]] = {library: [] for library in (OURS, *peers)}
    with slow_server() as url:
        for _ in range(REPEATS):
            for library, done in runs.items():
                done.append(library.send(url))
    for library, done in runs.items():
        rates = [run.rate for run in done]
        print(f"{library.name}: {min(rates):,.0f} to {max(rates):,.0f} requests/s")
    return [result for peer in peers for result in _compare(runs[OURS], peer.name, runs[peer])]


def _compare(ours: list[Run], name: str, theirs: list[Run]) -> list[Result]:
    label = f"build responses, a server that answers in 50 ms, {AT_ONCE} at once: against {name}"
    label += f" {theirs[0].version}"
    rate, peer_rate = (median(run.rate for run in runs) for runs in (ours, theirs))
    processor, peer_processor = (median(run.processor for run in runs) for runs in (ours, theirs))
    return [
        Result(label, "requests/s", rate, peer_rate, ""),
        Result(f"{label}, processor time", "microseconds", processor, peer_processor, ""),
    ]
