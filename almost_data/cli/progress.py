"""Progress while a command works: bars in a terminal, elsewhere a line now and then."""

import time
from collections import deque
from typing import Self

from rich import progress

from .console import console, print_line

WINDOW = 60.0
"""Seconds over which rates are measured."""
QUIET_SECONDS = 30
"""Where the output is no terminal, one line of progress in this time."""


class _Lines:
    """Lines of progress where the output is no terminal, unless the one before is recent."""

    def __init__(self) -> None:
        self._printed = 0.0

    def print(self, content: str, is_last: bool) -> None:
        now = time.monotonic()
        if not console.is_terminal and (is_last or now - self._printed > QUIET_SECONDS):
            print_line(content)
            self._printed = now


class Bars:
    """A Progress with one bar a stage: rows, rate, tokens a second, elapsed, time left."""

    def __init__(self) -> None:
        self._display = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description:<10}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}", style="dim"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left", style="dim"),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self._lines = _Lines()
        self._tasks: dict[str, progress.TaskID] = {}
        self._recent: dict[str, deque[tuple[float, int, int]]] = {}

    def __enter__(self) -> Self:
        _start(self._display)
        return self

    def __exit__(self, *exception: object) -> None:
        _stop(self._display)

    def __call__(self, stage: str, done: int, total: int, tokens: int) -> None:
        now = time.monotonic()
        if stage in self._recent and done < self._recent[stage][-1][1]:  # begun anew, as for another model
            self._display.remove_task(self._tasks.pop(stage))
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(stage, total=total, rate="")
            self._recent[stage] = deque()
        recent = self._recent[stage]
        # Replies from the journal arrive at once, and predict nothing.
        while recent and now - recent[0][0] > WINDOW:
            recent.popleft()
        if not recent or now - recent[-1][0] > 0.1 or done == total:
            recent.append((now, done, tokens))
        seconds = max(now - recent[0][0], 1e-9)
        rows, new_tokens = done - recent[0][1], tokens - recent[0][2]
        rate = f"{rows / seconds:,.1f} rows/s" if rows else "" if done else "nothing yet"
        rate += f"  {new_tokens / seconds:,.0f} tok/s" if new_tokens else ""
        self._display.update(self._tasks[stage], completed=done, total=total, rate=rate)
        remaining = f", {seconds / rows * (total - done):,.0f} s left" if rows and done < total else ""
        self._lines.print(f"{stage}: {done:,} of {total:,}{rate and ', '}{rate}{remaining}", done == total)


class Bytes:
    """A bar of bytes that are sent or fetched."""

    def __init__(self, label: str) -> None:
        self._display = progress.Progress(
            progress.TextColumn(label),
            progress.BarColumn(bar_width=24),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self._lines = _Lines()
        self._label = label
        self._task = self._display.add_task(label, total=None)

    def __enter__(self) -> Self:
        _start(self._display)
        return self

    def __exit__(self, *exception: object) -> None:
        _stop(self._display)

    def __call__(self, done: int, total: int) -> None:
        self._display.update(self._task, completed=done, total=total)
        self._lines.print(f"{self._label}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB", done == total)


def _start(display: progress.Progress) -> None:
    if console.is_terminal:
        display.start()


def _stop(display: progress.Progress) -> None:
    if console.is_terminal:  # elsewhere it would print an empty line
        display.stop()
