"""Publishing: what a push takes, and what is sent of a version of which one row in a hundred is another.

A Hub of the tests' own runs in another process; uploads go the Xet way, in chunks. The texts are random
words, which compress like text. MB of Parquet files by argument:

python -m tests.bench hub                 # 100 MB
python -m tests.bench.bench_hub 1000
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from almost_data.datasets.builder import Built
from almost_data.datasets.digest import Blocks
from almost_data.datasets.ledger import Entry
from almost_data.datasets.manifest import BuilderId
from almost_data.datasets.tables import polars_schema
from almost_data.models.chat import user_turn
from almost_data.run.build import publish_dataset
from almost_data.store.publish import new_manifest
from almost_data.store.store import Store
from tests import schema
from tests.bench import Result
from tests.hub_server import TOKEN

MEGABYTES = 100
ROW_BYTES = 1170
"""Of a row in a file, about."""
WORDS = 330
BLOCK = 20_000
REPO = "ORG/responses"
LADDER = ["better", "worse"]
RUN = """
import json, sys, time
from almost_data.cli.app import main
start = time.perf_counter()
main(sys.argv[1:])
seconds = time.perf_counter() - start
# ru_maxrss would count what the process that started this one held.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"seconds": seconds, "peak": int(status["VmHWM"].split()[0]) * 1024}))
"""
Choose = Callable[[np.ndarray], np.ndarray]
"""Places of rows -> which of them are another row than in the first version."""


def changes(rows: int) -> dict[str, Choose]:
    """1% of the rows: in a row in the middle, and anywhere."""
    middle, changed = rows // 2, np.random.default_rng(2).random(rows) < 0.01
    return {
        "changed, in a row": lambda at: (at >= middle) & (at < middle + rows // 100),
        "changed, scattered": lambda at: changed[at],
    }


def run(megabytes: int = MEGABYTES) -> list[Result]:
    results: list[Result] = []
    queries = megabytes * 1_000_000 // (ROW_BYTES * len(LADDER))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, chunks = Store(folder / "build"), folder / "chunks"
        chunks.mkdir()
        write(store, "1.0.0", queries, lambda at: at < 0)
        size = sum(file.stat().st_size for file in store.path("responses@1.0.0").rglob("*.parquet"))
        mb = f"{size / 1e6:,.0f} MB of Parquet"
        words = [sys.executable, "-m", "tests.hub_server", str(chunks)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin and server.stdout
            environment = os.environ | {
                "HF_ENDPOINT": server.stdout.readline().strip(),
                "HF_TOKEN": TOKEN,
                "HF_HOME": str(folder / "home"),
                "HF_HUB_DISABLE_XET": "0",
            }
            root = ("--root", str(store.root))
            first = command(environment, "push", "responses@1.0.0", "--repo", REPO, *root)
            results += [
                Result(f"push {mb}", "s", first["seconds"], None, ""),
                Result(f"push {mb}: peak memory", "MiB", first["peak"] / 2**20, None, "bounded"),
                Result(f"push {mb}: progress", "lines", first["lines"], None, "shown"),
                Result(f"push {mb}: sent", "MB", sent(chunks) / 1e6, None, ""),
            ]
            for label, command_ in {
                "verify": ("verify", "responses@1.0.0", *root),
                "pull": ("pull", f"{REPO}@v1.0.0", "--root", str(folder / "other")),
            }.items():
                done = command(environment, *command_)
                results += [
                    Result(f"{label} {mb}", "s", done["seconds"], None, ""),
                    Result(f"{label} {mb}: peak memory", "MiB", done["peak"] / 2**20, None, "bounded"),
                ]
            for minor, (label, choose) in enumerate({**changes(queries), "added": None}.items(), 1):
                version = f"1.{minor}.0"
                if choose:
                    write(store, version, queries, choose, minor)
                else:
                    write(store, version, queries + queries // 100, lambda at: at < 0)
                before = sent(chunks)
                command(environment, "push", f"responses@{version}", "--repo", REPO, *root)
                share = 100 * (sent(chunks) - before) / size
                target = "a few" if "in a row" in label else ""
                results.append(Result(f"push {mb}, 1% of rows {label}: sent", "% of it", share, None, target))
            server.stdin.close()
    return results


def sent(chunks: Path) -> int:
    return sum(file.stat().st_size for file in chunks.rglob("default.*"))


def command(environment: dict[str, str], *words: str) -> dict[str, float]:
    """Seconds, peak bytes and lines of progress of a command in a process of its own."""
    call = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(call, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    measured: dict[str, float] = json.loads(last)
    return measured | {"lines": sum(" of " in line and line.endswith(" MB") for line in lines)}


def write(store: Store, version: str, queries: int, choose: Choose, seed: int = 0) -> None:
    """A dataset of two responders; the text of a row goes by its place, and by `seed` where it is chosen."""
    # A larger set has those of a smaller one, and its others lie anywhere between them, as hashes do.
    numbers = np.random.default_rng(3).integers(0, 2**64, queries, np.uint64)
    order = np.argsort(numbers)
    letters = np.random.default_rng(0).integers(97, 123, (20_000, 12)).astype("u1").tobytes().decode()
    sizes = np.random.default_rng(1).integers(2, 11, 20_000)
    words = np.array([letters[12 * n : 12 * n + size] for n, size in enumerate(sizes)], dtype=object)

    def text(number: int, rank: int, changed: bool) -> str:
        draw = np.random.default_rng([number, rank, seed if changed else 0])
        # As in a language, few words are frequent.
        return " ".join(words[(20_000 * draw.random(WORDS) ** 2).astype(int)]).capitalize() + "."

    def rows(rank: int) -> Iterator[pl.DataFrame]:
        for start in range(0, queries, BLOCK):
            places = np.arange(start, min(start + BLOCK, queries))
            sampled = order[places]
            ids = [f"{numbers[result]:016x}" for result in sampled]
            texts = zip(sampled.tolist(), choose(places).tolist(), strict=True)
            yield pl.DataFrame(
                {
                    "query_id": ids,
                    "prompt": [
                        user_turn(f"What would you answer to question number {result}?") for result in ids
                    ],
                    "responder": LADDER[rank],
                    "rank": rank,
                    "response": [text(number, rank, changed) for number, changed in texts],
                    "reasoning": None,
                    "finish_reason": "stop",
                    "reply_id": [f"{int(numbers[result]) ^ (rank + 1):016x}" for result in sampled],
                },
                schema=polars_schema(schema.table("responses", "default")),
            )

    frames = {name: Blocks(partial(rows, rank), None) for rank, name in enumerate(LADDER)}
    config = {
        "settings": {"ladder": LADDER, "seed": seed, "queries": queries},
        "file": {"name": "bench"},
        "card": {"license": None, "language": None},
    }
    count = queries * len(LADDER)
    entry = Entry("import", "rows", "response", "A row of the file.", {}, "almost_data", count, count, {})
    ref, made_by = f"responses@{version}", BuilderId("import-responses", 1)
    draft = new_manifest("dataset", ref, made_by, config, [], schema.TABLES["responses"])
    facts = {"responses": queries, "mean_chars": 0.0, "share_cut_at_token_limit": 0.0}
    diagnostics = {"responders": dict.fromkeys(LADDER, facts)}
    built = Built(frames, [entry], diagnostics)
    publish_dataset(store, schema.builder("responses"), draft, [], built, {})


if __name__ == "__main__":
    for result in run(int(sys.argv[1])):
        print(f"{result.label}: {result.ours:,.2f} {result.unit}")
