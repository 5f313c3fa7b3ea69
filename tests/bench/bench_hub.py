"""Publishing: what a push takes, and what is sent of a version of which one row in a hundred is another.

python -m tests.bench hub

A Hub of the tests' own runs in another process; uploads go the Xet way, in chunks. The texts are random
words, which compress like text.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from almost_data.cli import app
from almost_data.store.store import Store
from tests.bench import Result, in_process
from tests.bench.stored import Responses, store_responses
from tests.hub_server import TOKEN

MEGABYTES = 100
"""Of Parquet."""
ROW_BYTES = 1170
"""Of a row in a file, about."""
WORDS = 330
BLOCK = 20_000
REPO = "ORG/responses"
LADDER = ["better", "worse"]
Choose = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Places of rows -> which of them are another row than in the first version."""


def changes(rows: int) -> dict[str, Choose]:
    """1% of the rows: in a row in the middle, and anywhere."""
    middle, changed = rows // 2, np.random.default_rng(2).random(rows) < 0.01
    return {
        "changed, in a row": lambda at: (at >= middle) & (at < middle + rows // 100),
        "changed, scattered": lambda at: changed[at],
    }


def run() -> list[Result]:
    results: list[Result] = []
    queries = MEGABYTES * 1_000_000 // (ROW_BYTES * len(LADDER))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, chunks = Store(folder / "build"), folder / "chunks"
        chunks.mkdir()
        write(store, "1.0.0", queries)
        size = sum(file.stat().st_size for file in store.path("responses@1.0.0").rglob("*.parquet"))
        mb = f"{size / 1e6:,.0f} MB of Parquet"
        with hub(folder, chunks):
            root = ("--root", str(store.root))
            for label, words in {
                "push": ("push", "responses@1.0.0", "--repo", REPO, *root),
                "verify": ("verify", "responses@1.0.0", *root),
                "pull": ("pull", f"{REPO}@v1.0.0", "--root", str(folder / "other")),
            }.items():
                seconds, peak = in_process(app.main, list(words))
                results += [
                    Result(f"{label} {mb}", "s", seconds, None, ""),
                    Result(f"{label} {mb}: peak memory", "MiB", peak, None, "bounded"),
                ]
            results.append(Result(f"push {mb}: sent", "MB", sent(chunks) / 1e6, None, ""))
            for minor, (label, choose) in enumerate({**changes(queries), "added": None}.items(), 1):
                version, before = f"1.{minor}.0", sent(chunks)
                if choose:
                    write(store, version, queries, choose, minor)
                else:
                    write(store, version, queries + queries // 100)
                in_process(app.main, ["push", f"responses@{version}", "--repo", REPO, *root])
                share = 100 * (sent(chunks) - before) / size
                target = "a few" if "in a row" in label else ""
                results.append(Result(f"push {mb}, 1% of rows {label}: sent", "% of it", share, None, target))
    return results


def sent(chunks: Path) -> int:
    return sum(file.stat().st_size for file in chunks.rglob("default.*"))


@contextmanager
def hub(folder: Path, chunks: Path) -> Iterator[None]:
    """A Hub that processes started meanwhile ask."""
    words = [sys.executable, "-m", "tests.hub_server", str(chunks)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        endpoint = server.stdout.readline().strip()
        variables = {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "home")}
        with patch.dict(os.environ, {**variables, "HF_HUB_DISABLE_XET": "0"}):
            yield
        server.stdin.close()


def write(
    store: Store, version: str, queries: int, choose: Choose = lambda at: at < 0, seed: int = 0
) -> None:
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

    def responses(rank: int) -> Responses:
        for start in range(0, queries, BLOCK):
            places = np.arange(start, min(start + BLOCK, queries))
            sampled = order[places]
            chosen = zip(sampled.tolist(), choose(places).tolist(), strict=True)
            yield numbers[sampled], [text(number, rank, changed) for number, changed in chosen]

    store_responses(store, f"responses@{version}", LADDER, queries, responses)
