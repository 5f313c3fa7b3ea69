"""Benchmarks: speed as ratios against the plain way of doing the same, in the same run. No test.

A module `bench_NAME` has a function `run`, which `python -m tests.bench NAME` calls.
"""

import contextlib
import io
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One line of the table; `plain` is the same work done plainly, where there is such a way."""

    label: str
    unit: str
    ours: float
    plain: float | None
    target: str


def in_process(
    work: Callable[..., Any], *arguments: Any, before: Callable[[], Any] | None = None
) -> tuple[float, float]:
    """Seconds and peak MiB of a function in a process of its own. What `before` does is not timed."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        if before:
            pool.submit(before).result()
        return pool.submit(_timed, work, *arguments).result()


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        work(*arguments)
    seconds = time.perf_counter() - start
    # ru_maxrss would count what the process that started this one held.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return seconds, int(status["VmHWM"].split()[0]) / 1024
