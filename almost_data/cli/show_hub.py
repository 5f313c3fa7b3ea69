"""What `push` and `pull` print: bytes on their way, what would be done, what was done."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ..cards.markdown import clean
from ..hub import Plan, Pulled, Pushed
from ..store.store import Store
from .report import QUIET_SECONDS, console, line, text


class Bytes:
    """A bar of bytes; where the output is no terminal, a line now and then."""

    def __init__(self, what: str) -> None:
        self._what = what
        columns = (TextColumn(what), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task(what, total=None)
        self._printed = 0.0

    def __enter__(self) -> Bytes:
        if console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        if not console.is_terminal and (done == total or time.monotonic() - self._printed > QUIET_SECONDS):
            line(f"{self._what}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB")
            self._printed = time.monotonic()


def plan(one: Plan, private: bool) -> None:
    """The tree, the card and the operations of a push."""
    table = Table("path", "bytes", box=None, pad_edge=False)
    table.columns[0].overflow, table.columns[1].justify = "fold", "right"
    for path, size in one.tree.items():
        table.add_row(clean(path), f"{size:,}")
    console.print(text(one.card), soft_wrap=True)
    console.print(table)
    kind = f"{'private ' if private else ''}{one.kind} repository"
    for step in (
        f"make the {kind} {one.repo}, where it is not there",
        f"make one commit: add {len(one.tree)} files, {sum(one.tree.values()):,} bytes, without those that "
        "are there as they are; delete what only the version before has; keep what people wrote",
        "read back sizes and hashes",
        f"tag the commit {one.tag}; where that tag is there, nothing is done",
    ):
        console.print(text(f"would {step}"), soft_wrap=True)
    console.print("nothing was sent, and the Hub was not asked", style="dim")


def pushed(one: Pushed) -> None:
    """What was committed and tagged, and how others load it."""
    what = {
        "committed": f"one commit: {len(one.added)} files added or changed, {len(one.deleted)} deleted",
        "tagged": "it was committed before, and is tagged now",
        "card": "it is there already; one commit brings its card on main up to date, and the tag stays",
        "unchanged": "it is there already, with the same content: no commit",
    }[one.action]
    console.print(text(f"{one.ref}: {one.repo}@{one.tag}, {what}", style="bold"), soft_wrap=True)
    console.print(text(f"  commit {one.commit}", style="dim"), soft_wrap=True)
    if one.hidden:
        left = f"  not linked in the public card, as they are private: {', '.join(one.hidden)}"
        console.print(text(left), soft_wrap=True)
    load = f'load_dataset("{one.repo}", revision="{one.tag}")'
    load = load if one.kind == "dataset" else f'from_pretrained("{one.repo}", revision="{one.tag}")'
    console.print(text(f"  {load}", style="dim"), soft_wrap=True)


def pulled(store: Store, one: Pulled) -> None:
    """Where it is now, and the commit that it came from."""
    what = "unchanged" if one.action == "unchanged" else f"{one.bytes / 1e6:,.1f} MB, verified"
    console.print(text(f"{one.ref}: {store.path(one.ref)}, {what}", style="bold"), soft_wrap=True)
    console.print(text(f"  {one.place.repo} at commit {one.place.commit}", style="dim"), soft_wrap=True)
    console.print(text(f"  next: python -m almost_data show {one.ref}", style="dim"), soft_wrap=True)
