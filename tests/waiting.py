"""Waiting for what must come. How soon it comes is no claim; that a test ends is all the bound is for."""

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice

SECONDS = 240
STEP = 0.02


def until(holds: Callable[[], object], state: str) -> None:
    """Return once `holds` says so; AssertionError with `what` if it never does."""
    for _ in range(round(SECONDS / STEP)):
        if holds():
            return
        time.sleep(STEP)
    raise AssertionError(f"in {SECONDS} s not: {state}")


class Clock:
    """Stands in for the module `time`, and moves only when told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def killed_after(lines: int, code: str) -> list[str]:
    """Run code, kill it with SIGKILL once it has printed so many lines; all numbers that it printed."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        printed = list(islice(process.stdout, lines))
        process.kill()
        printed += process.stdout
    return [line.strip() for line in printed if line.strip().isdigit()]
