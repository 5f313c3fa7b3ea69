"""Progress while a command works: bars in a terminal, elsewhere a line now and then."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich import progress

from ..cards.markdown import clean
from ..datasets.builder import Progress
from .console import console, print_line

WIDE = 100
"""Columns of a terminal from which a line has room for a bar."""
WINDOW = 60.0
"""Seconds over which rates are measured, at least, once a stage has lasted as long."""
SECONDS = 0.1
"""Between two updates of a bar, at least: replies may come by the ten thousand a second."""
QUIET_SECONDS = 30
"""Where the output is no terminal, one line of progress in this time."""


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A Progress with a line a stage: rows, rate, tokens a second, time left; where it fits, a bar."""
    is_wide = console.width >= WIDE
    bars = progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description:<10}", markup=False),
        *([progress.BarColumn(bar_width=24)] if is_wide else []),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}", style="dim"),
        *([progress.TimeElapsedColumn()] if is_wide else []),
        progress.TextColumn("left", style="dim"),
        progress.TimeRemainingColumn(),
        console=console,
    )
    line = _Line()
    tasks: dict[str, progress.TaskID] = {}
    recent: dict[str, deque[tuple[float, int, int]]] = {}

    def report(stage: str, done: int, total: int, tokens: int) -> None:
        now = time.monotonic()
        last_call = recent[stage][-1] if stage in recent else None
        if last_call and last_call[1] <= done < total and now - last_call[0] < SECONDS:
            return
        is_start = stage not in tasks and not done
        if stage not in tasks:
            tasks[stage] = bars.add_task(clean(stage), total=total, rate="")
        elif last_call and done < last_call[1]:  # begun anew, as for another model
            bars.reset(tasks[stage])
            recent[stage].clear()
        calls = recent.setdefault(stage, deque())
        # Replies from the journal arrive at once, and predict nothing.
        while len(calls) > 1 and now - calls[1][0] > WINDOW:
            calls.popleft()
        calls.append((now, done, tokens))
        seconds = max(now - calls[0][0], 1e-9)
        rows, new_tokens = done - calls[0][1], tokens - calls[0][2]
        speed = (
            f"{rows / seconds:,.1f} rows/s"
            if rows > 0.1 * seconds
            else f"{seconds / max(1, rows):,.0f} s a row"
        )
        rate = speed if rows else "" if done else "loading"
        rate += f"  {new_tokens / seconds:,.0f} tok/s" if new_tokens else ""
        bars.update(tasks[stage], completed=done, total=total, rate=rate)
        remaining = f", {seconds / rows * (total - done):,.0f} s left" if rows and done < total else ""
        content = f"{stage}: {done:,} of {total:,}{rate and ', '}{rate}{remaining}"
        line.print(content, is_start or done == total)

    with bars if console.is_terminal else nullcontext():
        yield report


@contextmanager
def byte_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes that are sent or fetched."""
    bars = progress.Progress(
        progress.TextColumn(label),
        progress.BarColumn(bar_width=24),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
    )
    line, task = _Line(), bars.add_task(label, total=None)

    def report(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total)
        line.print(f"{label}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB", done == total)

    with bars if console.is_terminal else nullcontext():
        yield report


class _Line:
    """The line where the output is no terminal: where a stage starts or ends, and now and then between."""

    def __init__(self) -> None:
        self.printed = time.monotonic()

    def print(self, content: str, is_due: bool) -> None:
        now = time.monotonic()
        if not console.is_terminal and (is_due or now - self.printed > QUIET_SECONDS):
            print_line(content)
            self.printed = now
