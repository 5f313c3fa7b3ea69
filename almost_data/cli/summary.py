"""What `build` and `import` print: the plan of a dry run with its cost, and the summary of what was built."""

import shlex
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..cards.markdown import clean, short
from ..datasets.manifest import Manifest, total_usage
from ..run.build import BuildRun
from ..run.cost import FLOPS, Line, lines
from ..run.plan import Plan, Step
from ..store.store import Store
from .console import console, grid, panel, print_line, text


def plan(plan: Plan, run: BuildRun) -> None:
    """What a build would do, and what it would ask of models."""
    actions = {"reuse": "exists", "build": "would be built"}
    rows = [(step.manifest.ref, actions[step.action]) for step in plan.steps]
    console.print(grid("dataset", "what happens", rows=rows))
    if costs := lines(plan, run.store):
        console.print()
        _costs(costs)
    asks_models = any(step.builder and step.builder.uses_engine for step in plan.steps)
    engine = f"engine {run.generator.name}, " if asks_models else ""
    console.print(f"\n{engine}version {run.version}; nothing was built", style="dim")


def loop(lines: list[Line], checkpoints: int, assumed: str) -> None:
    """What all datasets and recipes would cost, and which assumptions that rests on."""
    _costs(lines)
    console.print(text(assumed, style="dim"))
    console.print(f"While a recipe trains, its checkpoints take up to {_size(checkpoints)}.", style="dim")


def _costs(lines: list[Line]) -> None:
    table = grid("about", ">requests", ">tokens in", ">tokens out", ">disk", ">GPU-hours")
    for dataset, group in groupby(lines, lambda line: line.what.rpartition(": ")[0]):
        if dataset:
            table.add_row(clean(dataset))
        for line in group:
            table.add_row(text("  " * bool(dataset) + line.what.rpartition(": ")[2]), *_numbers(line))
    if len(lines) > 1:
        sums = {
            key: sum(getattr(line, key) for line in lines)
            for key in ("requests", "tokens_in", "tokens_out", "disk")
        }
        hours = [line.gpu_hours for line in lines if line.gpu_hours is not None]
        total = sum(hours) if len(hours) == len(lines) else None
        table.add_row("all", *_numbers(Line("all", "", gpu_hours=total, **sums)))
    console.print(table)
    console.print(text(f"\nModels: {', '.join(sorted({line.model for line in lines}))}"))
    console.print(
        "Rules of thumb: replies at their longest, tokens by characters (shared ones once), "
        f"one GPU that does {FLOPS:.0e} operations a second.",
        style="dim",
    )


def _numbers(line: Line) -> list[str]:
    tokens = (f"{n:,}" if n < 1e6 else f"{n / 1e6:,.1f} M" for n in (line.tokens_in, line.tokens_out))
    hours = "?" if line.gpu_hours is None else f"{line.gpu_hours:,.2f}"
    return [f"{line.requests:,}", *tokens, _size(line.disk), hours]


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count > 1e9 else f"{count / 1e6:,.1f} MB"


def summary(store: Store, steps: list[Step]) -> None:
    """The funnel of rows, examples, folders, cost and notes, and the commands to go on with."""
    last = steps[-1].manifest
    console.print()
    console.print(_funnel([step.manifest for step in steps]))
    console.print()
    if examples := list(_examples(store, last)):
        console.print(*examples, sep="\n")
        console.print()
    folders = grid("dataset", "rows", "folder", "")
    folders.columns[2].no_wrap = True
    for step in steps:
        rows = ", ".join(f"{n:,} {split}" for split, n in step.manifest.counts["default"].items())
        folder = str(store.path(step.manifest.ref))
        folders.add_row(step.manifest.ref, rows, text(folder), Text(_outcome(step), style="dim"))
    console.print(folders)
    _print_usage(last, steps)
    notes = [clean(note) for note in last.diagnostics["notes"]]
    if last.is_fake:
        notes.append("Made by the fake engine: the text means nothing and cannot be published.")
    for note in notes:
        console.print(panel(Text(note), "note", "yellow"))
    console.print(Text("Next", style="bold"))
    for command in _next_commands(store, last):
        print_line(f"  {command}")


def _funnel(manifests: list[Manifest]) -> Table:
    """A line for each stage: rows into its first filter, out of its last, and why rows were dropped."""
    table = grid("", ">rows in", ">kept", ">dropped", "why", title="Rows")
    for manifest in manifests:
        table.add_row(Text(manifest.ref, style="bold"))
        for stage in dict.fromkeys(entry.stage for entry in manifest.ledger):
            entries = [entry for entry in manifest.ledger if entry.stage == stage]
            reasons = [(reason, n) for entry in entries for reason, n in entry.dropped.items()]
            failed = sum(entry.failed for entry in entries)
            reasons += [("failed", failed)] if failed else []
            numbers = (entries[0].n_in, entries[-1].kept, sum(n for _, n in reasons))
            why = text(", ".join(f"{reason}\u00a0{n:,}" for reason, n in reasons))
            table.add_row(f"  {stage}, {entries[0].unit}", *[f"{n:,}" for n in numbers], why)
    return table


def _outcome(step: Step) -> str:
    if step.action == "reuse":
        return "was there"
    environment = step.manifest.environment
    seconds = environment.get("seconds")
    duration = "a moment" if seconds is None else f"{seconds:,.1f} s"
    from_journal = environment.get("engine", {}).get("replies", {}).get("from_journal")
    return f"built in {duration}" + (f", {from_journal:,} replies from the journal" if from_journal else "")


def _print_usage(last: Manifest, steps: list[Step]) -> None:
    """Tokens and engine time of all steps, and for each row of the last."""
    usage = total_usage([step.manifest for step in steps])
    if usage.get("completion_tokens") and usage["seconds"] and not last.is_fake:
        rows = sum(last.counts["default"].values())
        tokens, seconds = usage["completion_tokens"], usage["seconds"]
        print_line(
            f"{tokens:,} tokens in {seconds:,.1f} engine-seconds ({tokens / seconds:,.0f} tok/s): "
            f"{tokens / rows:,.0f} tokens and {seconds / rows:,.2f} s for each row of {last.ref}"
        )


def _examples(store: Store, last: Manifest) -> Iterator[Panel]:
    """Two rows of distinct queries: those with a chosen reply, or with a dialogue."""
    if last.kind != "dataset":
        return
    columns = store.scan(last.ref).collect_schema()
    if not {"query_id", "chosen"} <= columns.keys() and "messages" not in columns:
        return
    rows = store.scan(last.ref).head(100).unique("query_id", keep="first", maintain_order=True).head(2)
    for row in rows.collect().iter_rows(named=True):
        yield _comparison(row) if "chosen" in row else _demonstration(row)


def _comparison(row: dict[str, Any]) -> Panel:
    def reply(side: str, style: str) -> Text:
        author = row.get(f"{side}_responder") or f"score {row[f'{side}_score']}, {row[f'{side}_url']}"
        heading = (f"{side} ", f"bold {style}"), (clean(f"{author}\n"), "dim")
        return Text.assemble(*heading, clean(short(row[side][0]["content"])))

    prompt = text(short(row["prompt"][0]["content"], 300), style="bold")
    content = Group(prompt, Text(), reply("chosen", "green"), Text(), reply("rejected", "red"))
    return panel(content, f"comparison {row['comparison_id']}")


def _demonstration(row: dict[str, Any]) -> Panel:
    styles = {"user": "bold", "assistant": "bold green"}
    turns = [
        Text.assemble((f"{turn['role']} ", styles[turn["role"]]), clean(short(turn["content"])))
        for turn in row["messages"]
    ]
    score = "" if row["rm_score"] is None else f", score {row['rm_score']:.3f}, best of {row['n']}"
    return panel(Group(*turns), f"demonstration {row['query_id']}{score}")


def _next_commands(store: Store, last: Manifest) -> list[str]:
    root = "" if str(store.root) == "build" else f" --root {shlex.quote(str(store.root))}"
    is_local = Path(sys.prefix).parent == Path.cwd()
    python = f"{Path(sys.prefix).name}/bin/python" if is_local else "python"
    verbs = [f"{verb} {last.ref}" for verb in ("show", "lineage")]
    if last.name in ("queries", "responses"):
        options = last.environment["command"].partition(f" build {last.name}")[2]
        options = f" --version {last.version}" if last.is_import else options
        verbs.insert(0, f"build comparisons{options}")
    code = f"import datasets; print(datasets.load_dataset({str(store.path(last.ref))!r}))"
    quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
    return [f"{python} -m almost_data {verb}{root}" for verb in verbs] + [f"{python} -c {quoted}"]
