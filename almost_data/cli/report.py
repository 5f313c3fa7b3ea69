"""What the command line prints: progress, summaries, listings. Text of models and users is never markup."""

from __future__ import annotations

import shlex
import sys
import time
from collections import deque
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..cards.markdown import clean, short
from ..errors import InputError

if TYPE_CHECKING:
    from ..datasets.manifest import Entry, Manifest
    from ..run.build import BuildRun
    from ..run.cost import Line
    from ..run.plan import Plan, Step
    from ..store.store import Store

console = Console(highlight=False, markup=False)
WINDOW = 60.0
"""Seconds over which rates are taken."""
QUIET_SECONDS = 30
"""Where the output is no terminal, one line of progress in this time."""


class Bars:
    """A Progress with one bar a stage: rows, rate, tokens a second, elapsed, time left."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._recent: dict[str, deque[tuple[float, int, int]]] = {}
        self._done: dict[str, int] = {}
        self._printed = 0.0

    def __enter__(self) -> Bars:
        if console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if console.is_terminal:  # elsewhere it would print an empty line
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int, tokens: int) -> None:
        now = time.monotonic()
        if done < self._done.get(stage, 0):  # begun anew, as for another model
            self._bars.remove_task(self._tasks.pop(stage))
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, rate="")
            self._recent[stage] = deque()
        self._done[stage] = done
        recent = self._recent[stage]
        # What came from the journal comes at once, and says nothing of what is to come.
        while recent and now - recent[0][0] > WINDOW:
            recent.popleft()
        if not recent or now - recent[-1][0] > 0.1 or done == total:
            recent.append((now, done, tokens))
        seconds = max(now - recent[0][0], 1e-9)
        rows, words = done - recent[0][1], tokens - recent[0][2]
        rate = f"{rows / seconds:,.1f} rows/s" if rows else "" if done else "nothing yet"
        rate += f"  {words / seconds:,.0f} tok/s" if words else ""
        self._bars.update(self._tasks[stage], completed=done, total=total, rate=rate)
        if not console.is_terminal and (done == total or now - self._printed > QUIET_SECONDS):
            left = f", {seconds / rows * (total - done):,.0f} s left" if rows and done < total else ""
            console.print(f"{stage}: {done:,} of {total:,}{rate and ', '}{rate}{left}", soft_wrap=True)
            self._printed = now


def text(content: str, style: str = "") -> Text:
    """Text of users and models, without the sequences that a terminal obeys."""
    return Text(clean(content), style=style)


def line(content: str) -> None:
    """One dim line, as before a build starts."""
    console.print(text(content, style="dim"), soft_wrap=True)


def plan(plan: Plan, run: BuildRun) -> None:
    """What a build would do."""
    from ..run.cost import lines

    table = Table("dataset", "what happens", box=None, pad_edge=False)
    for step in plan.steps:
        table.add_row(step.manifest.ref, "exists" if step.action == "reuse" else "would be built")
    console.print(table)
    if costs := lines(plan, run.store):
        console.print()
        _costs(costs)
    writes = any(step.builder and step.builder.uses_engine for step in plan.steps)
    engine = f"engine {run.generator.name}, " if writes else ""
    console.print(f"\n{engine}version {run.version}; nothing was built", style="dim")


def loop(lines: list[Line], checkpoints: int, assumed: str) -> None:
    """What the whole loop would cost, and what that rests on."""
    _costs(lines)
    console.print(text(assumed, style="dim"))
    console.print(f"While a recipe trains, its checkpoints take up to {_size(checkpoints)}.", style="dim")


def _costs(lines: list[Line]) -> None:
    """Requests, tokens, disk and GPU-hours of the models that would be asked, about."""
    from ..run.cost import FLOPS, Line

    table = Table("about", "requests", "tokens in", "tokens out", "disk", "GPU-hours")
    table.box, table.pad_edge = None, False
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for dataset, group in groupby(lines, lambda one: one.what.rpartition(": ")[0]):
        if dataset:
            table.add_row(clean(dataset))
        for one in group:
            table.add_row("  " * bool(dataset) + clean(one.what.rpartition(": ")[2]), *_numbers(one))
    if len(lines) > 1:
        keys = ("requests", "tokens_in", "tokens_out", "disk")
        sums = {key: sum(getattr(one, key) for one in lines) for key in keys}
        known = [one.gpu_hours for one in lines if one.gpu_hours is not None]
        hours = sum(known) if len(known) == len(lines) else None
        table.add_row("all", *_numbers(Line("all", "", gpu_hours=hours, **sums)))
    console.print(table)
    console.print(text(f"\nModels: {', '.join(sorted({one.model for one in lines}))}"))
    console.print(
        "Rules of thumb: replies at their longest, tokens by characters (shared ones once), "
        f"one GPU that does {FLOPS:.0e} operations a second.",
        style="dim",
    )


def _numbers(one: Line) -> list[str]:
    tokens = (f"{n:,}" if n < 1e6 else f"{n / 1e6:,.1f} M" for n in (one.tokens_in, one.tokens_out))
    hours = "?" if one.gpu_hours is None else f"{one.gpu_hours:,.2f}"
    return [f"{one.requests:,}", *tokens, _size(one.disk), hours]


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count > 1e9 else f"{count / 1e6:,.1f} MB"


def summary(store: Store, steps: list[Step]) -> None:
    """After a build or an import: the funnel of rows, examples, where the files are, what to do next."""
    last = steps[-1].manifest
    funnel = Table(
        "",
        "rows in",
        "kept",
        "dropped",
        "why",
        box=None,
        pad_edge=False,
        title="Rows",
        title_justify="left",
        title_style="bold",
    )
    for column in funnel.columns[1:4]:
        column.justify = "right"
    for step in steps:
        funnel.add_row(Text(step.manifest.ref, style="bold"), style=None)
        for cells in _folded(step.manifest.ledger):
            funnel.add_row(*cells)
    console.print()
    console.print(funnel)
    if last.name in ("comparisons", "community"):
        console.print()
        examples = store.scan(last.ref).head(100).unique("query_id", keep="first", maintain_order=True)
        for row in examples.head(2).collect().iter_rows(named=True):
            console.print(_example(row))
    if last.name == "demonstrations":
        console.print()
        for row in store.scan(last.ref).head(2).collect().iter_rows(named=True):
            console.print(_dialogue(row))
    console.print()
    where = Table("dataset", "rows", "folder", "", box=None, pad_edge=False)
    where.columns[2].overflow = "fold"
    for step in steps:
        rows = ", ".join(f"{n:,} {split}" for split, n in step.manifest.counts["default"].items())
        done = "was there" if step.action == "reuse" else f"built in {_seconds(step.manifest)}"
        replies = step.manifest.environment.get("engine", {}).get("replies", {})
        if step.action == "build" and replies.get("from_journal"):
            done += f", {replies['from_journal']:,} replies from the journal"
        where.add_row(step.manifest.ref, rows, str(store.path(step.manifest.ref)), Text(done, style="dim"))
    console.print(where)
    _price(last, steps)
    for note in last.diagnostics["notes"]:
        console.print(
            Panel(text(note), title="note", title_align="left", border_style="yellow", width=_width())
        )
    if last.is_fake:
        warning = "Made by the fake engine: the text means nothing and cannot be published."
        console.print(
            Panel(Text(warning), title="note", title_align="left", border_style="yellow", width=_width())
        )
    console.print(Text("Next", style="bold"))
    for line in _next(store, last):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _price(last: Manifest, steps: list[Step]) -> None:
    """Tokens and engine time of all the steps, for each row of the last."""
    from ..datasets.manifest import total_usage

    usage = total_usage([step.manifest for step in steps])
    if usage.get("completion_tokens") and usage["seconds"] and not last.is_fake:
        rows = sum(last.counts["default"].values())
        tokens, seconds = usage["completion_tokens"], usage["seconds"]
        console.print(
            f"{tokens:,} tokens in {seconds:,.1f} engine-seconds ({tokens / seconds:,.0f} tok/s): "
            f"{tokens / rows:,.0f} tokens and {seconds / rows:,.2f} s for each row of {last.ref}",
            soft_wrap=True,
        )


def _folded(ledger: list[Entry]) -> list[tuple[str, str, str, str, str]]:
    """One line a stage: rows into its first filter, out of its last, and the reasons of what went."""
    lines = []
    for stage in dict.fromkeys(entry.stage for entry in ledger):
        entries = [entry for entry in ledger if entry.stage == stage]
        reasons = [(reason, n) for entry in entries for reason, n in entry.dropped.items()]
        failed = sum(entry.failed for entry in entries)
        reasons += [("failed", failed)] if failed else []
        lines.append(
            (
                f"  {stage}, {entries[0].unit}",
                f"{entries[0].n_in:,}",
                f"{entries[-1].kept:,}",
                f"{sum(n for _, n in reasons):,}",
                ", ".join(f"{reason}\u00a0{n:,}" for reason, n in reasons),
            )
        )
    return lines


def _example(row: dict[str, Any]) -> Panel:
    def part(side: str, style: str) -> Text:
        by = row.get(f"{side}_responder") or f"score {row[f'{side}_score']}, {row[f'{side}_url']}"
        head = (f"{side} ", f"bold {style}"), (clean(f"{by}\n"), "dim")
        return Text.assemble(*head, clean(short(row[side][0]["content"])))

    return Panel(
        Group(
            text(short(row["prompt"][0]["content"], 300), style="bold"),
            Text(),
            part("chosen", "green"),
            Text(),
            part("rejected", "red"),
        ),
        title=Text(f"comparison {row['comparison_id']}"),
        title_align="left",
        border_style="dim",
        width=_width(),
    )


def _dialogue(row: dict[str, Any]) -> Panel:
    styles = {"user": "bold", "assistant": "bold green"}
    turns = [
        Text.assemble((f"{turn['role']} ", styles[turn["role"]]), clean(short(turn["content"])))
        for turn in row["messages"]
    ]
    score = "" if row["rm_score"] is None else f", score {row['rm_score']:.3f}, best of {row['n']}"
    return Panel(
        Group(*turns),
        title=Text(f"demonstration {row['query_id']}{score}"),
        title_align="left",
        border_style="dim",
        width=_width(),
    )


def _next(store: Store, last: Manifest) -> list[str]:
    root = "" if str(store.root) == "build" else f" --root {shlex.quote(str(store.root))}"
    here = Path(sys.prefix).parent == Path.cwd()
    python = f"{Path(sys.prefix).name}/bin/python" if here else "python"
    verbs = [f"{verb} {last.ref}" for verb in ("show", "lineage")]
    if last.name not in ("comparisons", "community", "demonstrations"):
        asked = last.environment["command"].partition(f" build {last.name}")[2]
        asked = f" --version {last.version}" if last.is_import else asked
        verbs.insert(0, f"build comparisons{asked}")
    code = f"import datasets; print(datasets.load_dataset({str(store.path(last.ref))!r}))"
    quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
    return [f"{python} -m almost_data {verb}{root}" for verb in verbs] + [f"{python} -c {quoted}"]


def listing(store: Store) -> None:
    """Every artifact, a line each (a model's rows: trained on); a damaged one says what is wrong with it."""
    refs = store.refs()
    if not refs:
        if not any((store.root / "evals").glob("*/*/result.json")):
            console.print(f"nothing under {store.root}; start with: python -m almost_data build comparisons")
        return
    table = Table("ref", "kind", "rows", "made by", "created", "digest", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    damaged = []
    for ref in refs:
        try:
            one = store.manifest(ref)
        except InputError as error:
            table.add_row(ref, "", "", "damaged", "", "")
            damaged.append(str(error))
            continue
        by_split = one.counts["default"]
        rows = by_split.get("train", 0) if one.kind == "model" else sum(by_split.values())
        made = f"{one.builder.name}{' (fake)' if one.is_fake else ''}"
        day = one.created[:16].replace("T", " ")
        table.add_row(ref, one.kind, f"{rows:,}", clean(made), clean(day), clean(one.digest[:12]))
    console.print(table)
    for line in damaged:
        console.print(text(line, style="red"), soft_wrap=True)


def _seconds(one: Manifest) -> str:
    seconds = one.environment.get("seconds")
    return "a moment" if seconds is None else f"{seconds:,.1f} s"


def _width() -> int:
    return min(console.width, 110)
