"""What `build` and `import` print: the plan of a dry run with its cost, and the summary of what was built."""

import shlex
import sys
from collections.abc import Callable
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from .. import registry
from ..cards.markdown import clean
from ..datasets.builder import Builder
from ..datasets.ledger import Entry
from ..datasets.manifest import Manifest, total_usage
from ..datasets.user_filters import SOURCE
from ..generation import answered, journal_file
from ..run.build import BuildRun
from ..run.cost import FLOPS, CostLine, lines
from ..run.plan import Plan, Step
from ..store.samples import examples
from ..store.store import Store
from .console import byte_size, console, grid, number, panel, print_line, print_rows, text
from .options import root_flag
from .rows import row_panel


def plan(plan: Plan, run: BuildRun) -> None:
    """What a build would do, and what it would ask of models."""
    actions = {"reuse": "exists", "build": "would be built"}
    rows = [(step.manifest.ref, actions[step.action]) for step in plan.steps]
    console.print(grid("dataset", "what happens", rows=rows))
    if costs := lines(plan, run.store, getattr(run.generator, "price", None)):
        console.print()
        print_costs(costs)
        _print_begun(plan, run.store, costs)
    asks_models = any(step.builder and step.builder.uses_engine for step in plan.steps)
    engine = f"engine {run.generator.name}, " if asks_models else ""
    console.print(f"\n{engine}version {run.version}; nothing was built", style="dim")


def _print_begun(plan: Plan, store: Store, costs: list[CostLine]) -> None:
    """What the journal holds of builds that were interrupted, as the costs count all requests."""
    begun = {build.name: build for build in journal_file.status(store.journal, store.refs())}
    for step in plan.steps:
        build, name = begun.get(step.manifest.ref), step.manifest.name
        requests = sum(line.requests for line in costs if line.task.rpartition(": ")[0] == name)
        if build and not build.published and build.answered and requests:
            unanswered = max(0, requests - build.answered)
            print_line(
                f"{build.name} was begun: {build.answered:,} answers are in the journal. With the same "
                f"settings {unanswered:,} of these {requests:,} requests are left, about "
                f"{unanswered / requests:.0%} of its cost.",
                "yellow",
            )


def print_costs(lines: list[CostLine]) -> None:
    """What models would be asked, a line each, under the dataset or the step that asks them."""
    columns = _cost_columns(lines)
    rows: list[tuple[str | int, ...]] = []
    for dataset, group in groupby(lines, lambda line: line.task.rpartition(": ")[0]):
        rows += [(dataset, *[""] * len(columns))] if dataset else []
        indent = "  " if dataset else ""
        for line in group:
            cells = [cell(line) for cell in columns.values()]
            rows.append((indent + line.task.rpartition(": ")[2], *cells))
    if len(lines) > 1:
        rows.append(("all", *[cell(_total(lines)) for cell in columns.values()]))
    print_rows("about", *(f">{heading}" for heading in columns), rows=rows)
    console.print(text(f"\nModels: {', '.join(sorted({line.model for line in lines}))}"))
    rules = "Rules of thumb: a reply to come is at its limit of tokens, and tokens are counted by characters"
    rules += (
        f" (shared ones once). A GPU does {FLOPS:.0e} operations a second." if "GPU-hours" in columns else "."
    )
    if "expected" in columns:
        rules += " Expected is what replies as long as those of the newest version here would cost."
    elif "cost, at most" in columns:
        rules += " Build with a small --limit first, and the next dry run says what is expected."
    if any(line.money is None and line.gpu_hours is None for line in lines):
        rules += " For the cost of models on a server, give engine.servers their price."
    if "cost, at most" in columns:
        rules += " Cost is in the currency of your prices; replies in the journal cost nothing again."
        rules += " A responder's max_new_tokens is its limit of tokens."
    console.print(rules, style="dim")


def _cost_columns(lines: list[CostLine]) -> dict[str, Callable[[CostLine], str | int]]:
    """Heading -> a line's cell; GPUs of servers with a price are not the user's."""
    columns: dict[str, Callable[[CostLine], str | int]] = {
        "requests": lambda line: line.requests,
        "tokens in": lambda line: _tokens(line.tokens_in),
        "tokens out": lambda line: _tokens(line.tokens_out),
        "disk": lambda line: byte_size(line.disk),
    }
    if any(line.money is None for line in lines):
        columns["GPU-hours"] = lambda line: "?" if line.gpu_hours is None else f"{line.gpu_hours:,.2f}"
    if any(line.money is not None for line in lines):
        columns["cost, at most"] = lambda line: number(line.money)
    if any(line.expected is not None for line in lines):
        columns["expected"] = lambda line: number(line.expected)
    return columns


def _total(lines: list[CostLine]) -> CostLine:
    requests, tokens_in, tokens_out, disk = (
        sum(getattr(line, key) for line in lines) for key in ("requests", "tokens_in", "tokens_out", "disk")
    )
    hours = [line.gpu_hours for line in lines]
    priced = [line for line in lines if line.money is not None]
    expected = [line.expected for line in priced]
    return CostLine(
        "all",
        "",
        requests,
        tokens_in,
        tokens_out,
        disk,
        gpu_hours=None if None in hours else sum(filter(None, hours)),
        money=sum(line.money or 0 for line in priced),
        expected=None if None in expected else sum(filter(None, expected)),
    )


def _tokens(count: int) -> str:
    return f"{count:,}" if count < 1e6 else f"{count / 1e6:,.1f} M"


def summary(store: Store, steps: list[Step], options: list[str]) -> None:
    """The funnel of rows, examples, folders, cost and notes, and the commands to go on with.

    `options` are those by which a build of a child finds what was made.
    """
    last = steps[-1].manifest
    console.print()
    console.print(_funnel([step.manifest for step in steps]))
    console.print()
    if rows := examples(store, last, 2):
        console.print(*(row_panel(row, {}, 420) for row in rows), sep="\n")
        console.print()
    _print_folders(store, steps)
    _print_usage(last, steps)
    _print_answered_names(steps)
    notes = [clean(note) for note in last.diagnostics["notes"]]
    if last.is_fake:
        notes.append("Made by the fake engine: the text means nothing and cannot be published.")
    if notes:
        console.print(panel(Text("\n".join(notes)), "note" if len(notes) == 1 else "notes", "yellow"))
    for finding in (last.diagnostics.get("text") or {}).get("findings", []):
        if finding["level"] == "worry":
            sentence = f"{finding['measure']}, {finding['value']}: {finding['sentence']}"
            console.print(Text.assemble(("worry ", "bold red"), clean(sentence)))
    console.print(Text("Next", style="bold"))
    for command in _next_commands(store, last, options):
        print_line(f"  {command}")


def _funnel(manifests: list[Manifest]) -> Table:
    """A line for each stage: rows into its first filter, out of its last, and why rows were dropped."""
    rows: list[tuple[Any, ...]] = []
    for manifest in manifests:
        rows.append((Text(manifest.ref, style="bold"),))
        for heading in dict.fromkeys(entry.heading for entry in manifest.ledger):
            entries = [entry for entry in manifest.ledger if entry.heading == heading]
            reasons = [(reason, n) for entry in entries for reason, n in _dropped(entry).items()]
            failed = sum(entry.failed for entry in entries)
            reasons += [("failed", failed)] if failed else []
            losses = ", ".join(f"{reason}\u00a0{n:,}{_partners(manifest, reason)}" for reason, n in reasons)
            dropped = sum(n for _, n in reasons)
            rows.append((f"  {heading}", entries[0].n_in, entries[-1].kept, dropped, losses))
    return grid("", ">rows in", ">kept", ">dropped", "why", rows=rows, title="Rows")


def _dropped(entry: Entry) -> dict[str, int]:
    """Rows by reason; a user's filter is named where it dropped none too."""
    return entry.dropped or ({entry.filter: 0} if entry.source == SOURCE else {})


def _partners(manifest: Manifest, reason: str) -> str:
    """Of responses that were left alone in their query: why the other responses to it were dropped."""
    reasons = manifest.diagnostics.get("dropped_beside", {}).get(reason)
    numbers = ", ".join(f"{name} {n:,}" for name, n in (reasons or {}).items())
    return f" (the other responses to those queries fell to {numbers})" if numbers else ""


def _print_folders(store: Store, steps: list[Step]) -> None:
    rows = []
    for step in steps:
        counts = ", ".join(f"{n:,} {split}" for split, n in step.manifest.splits().items())
        rows.append((counts, _outcome(step), str(store.path(step.manifest.ref))))
    print_rows("rows", "", "folder", rows=rows)


def _outcome(step: Step) -> str:
    if step.action == "reuse":
        return "was there"
    environment = step.manifest.environment
    seconds = environment.get("seconds")
    duration = "a moment" if seconds is None else f"{seconds:,.1f} s"
    from_journal = environment.get("engine", {}).get("replies", {}).get("from_journal")
    return f"built in {duration}" + (f", {from_journal:,} replies from the journal" if from_journal else "")


def _print_usage(last: Manifest, steps: list[Step]) -> None:
    """Tokens and engine time of what was built, and for each row of the last; the cost of all steps."""
    usage = total_usage([step.manifest for step in steps if step.action == "build"])
    if usage.get("completion_tokens") and usage["seconds"] >= 1 and not last.is_fake:
        rows, tokens, seconds = last.rows, usage["completion_tokens"], usage["seconds"]
        print_line(
            f"{tokens:,} tokens in {seconds:,.1f} engine-seconds ({tokens / seconds:,.0f} tok/s): "
            f"{tokens / rows:,.0f} tokens and {seconds / rows:,.2f} s for each row of {last.ref}"
        )
    if money := total_usage([step.manifest for step in steps]).get("cost"):
        built = [step.manifest.environment for step in steps if step.action == "build"]
        spent = sum(environment.get("engine", {}).get("spent", 0.0) for environment in built)
        part = "all in this run" if spent >= 0.9999 * money else f"{spent:,.4g} of that in this run"
        print_line(
            f"cost of the replies: {money:,.4g}, {part}, in the currency of your prices (engine.servers)"
        )


def _print_answered_names(steps: list[Step]) -> None:
    """The names by which servers answered; those of other models are in the notes."""
    built = [step.manifest.environment.get("engine", {}) for step in steps if step.action == "build"]
    by_model = {model: names for engine in built for model, names in engine.get("answered_as", {}).items()}
    for model, names in by_model.items():
        if usual := [name for name in names if not answered.may_be_another(model, name)]:
            print_line(answered.sentence(model, usual), "dim")


def _next_commands(store: Store, last: Manifest, options: list[str]) -> list[str]:
    root = root_flag(store.root)
    is_local = Path(sys.prefix).parent == Path.cwd()
    python = f"{Path(sys.prefix).name}/bin/python" if is_local else "python"
    verbs = [f"{verb} {last.ref}" for verb in ("show", "lineage")]
    if children := [name for name in registry.names("builders") if _goes_on(name, last)]:
        flags = list(zip(options[::2], options[1::2], strict=True))
        child = registry.load("builders", children[0])
        if last.name in child.optional:
            flags = [pair for pair in flags if not pair[1].startswith(f"{last.name}.")]
            flags.append((f"--{last.name}", last.ref))  # as it is: its settings need not be repeated
        if last.name in child.parents and store.has(f"{child.name}@{last.version}"):
            flags = [pair for pair in flags if pair != ("--from", last.ref)] + [("--from", last.ref)]
        if last.is_import and "checks" in child.flags and _has_rows_of(child, last):
            flags.append(("--checks", "chat"))  # without a rule it would be a copy
        flags = _needed(store, child, flags)
        verbs.insert(0, shlex.join(["build", child.name, *chain.from_iterable(flags)]))
    code = f"import datasets; print(datasets.load_dataset({str(store.path(last.ref))!r}))"
    quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
    return [f"{python} -m almost_data {verb}{root}" for verb in verbs] + [f"{python} -c {quoted}"]


def _needed(store: Store, child: Builder, flags: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The flags of a child's build; where all its parents are named, a free version and no idle engine."""
    sources = {value.partition("@")[0] for flag, value in flags if flag == "--from"}
    if not sources.issuperset(child.parents):
        return flags
    values = dict(flags)
    version = values["--version"]
    while store.has(f"{child.name}@{version}"):
        major, minor, patch = version.split(".", 2)
        _, hyphen, suffix = patch.partition("-")
        version = f"{major}.{int(minor) + 1}.0{hyphen}{suffix}"
    asks_no_model = not child.uses_engine and values.get("--engine") != "fake"
    unused = ("--engine", "--base-url", "--ray-address") if asks_no_model else ()
    return [(flag, version if flag == "--version" else value) for flag, value in flags if flag not in unused]


def _goes_on(builder: str, dataset: Manifest) -> bool:
    """Whether a builder makes something new of a dataset, or fewer rows of an import."""
    loaded = registry.load("builders", builder)
    reads = dataset.name in loaded.parents or dataset.name in loaded.optional
    return reads and (dataset.is_import or not _has_rows_of(loaded, dataset))


def _has_rows_of(builder: Builder, dataset: Manifest) -> bool:
    """Whether a row of what a builder makes is a row of the dataset."""
    return builder.tables["default"].key == dataset.tables["default"].key
