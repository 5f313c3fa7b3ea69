"""What `eval`, `list` and `show` print of evaluations."""

from collections.abc import Iterable
from itertools import groupby

from ..datasets.manifest import Manifest
from ..evals.result import READ_AS, SIDE_A, SIDE_B, Result, read_all
from ..store.store import Store
from .console import console, print_line, print_rows, text


def print_result(store: Store, result: Result) -> None:
    """What was evaluated on what, how that was read, the numbers below whose they are, and notes."""
    for pinned in [*result.models, *result.data]:
        print_line(f"{pinned.role} {pinned.id} at {pinned.revision[:23]}")
    read_as = [note for note in result.notes if note.startswith(READ_AS)]
    for note in read_as:
        print_line(note.removeprefix("Rows are ").removesuffix("."))
    rows: list[tuple[str | int, ...]] = []
    for who, lines in groupby(result.lines, lambda line: line.who):
        rows.append((who, *[""] * 6))
        for line in lines:
            chance = "" if line.chance is None else line.as_text(line.chance)
            metric = f"  {line.metric}{', points' if line.is_difference else ''}"
            shares = (line.as_text(line.value), line.interval, chance)
            rows.append((metric, line.subset, line.n, line.ties, *shares))
    print_rows("metric", "on", ">items", ">ties", ">value", ">95% interval", ">chance", rows=rows)
    for note in result.notes:
        if note not in read_as:
            console.print(text(note, style="yellow"))
    print_line(f"{result.ref}: {store.path(result.ref)}/README.md", "dim")


def print_results(manifests: Iterable[Manifest]) -> None:
    """Each result with its overall number."""
    rows = []
    for result in read_all(manifests):
        overall = [line for line in result.lines if line.subset == "overall"] or result.lines
        for line in overall[:1]:
            is_comparison = line.who == result.by_role(SIDE_A)
            who = f"{line.who} against {result.by_role(SIDE_B)}" if is_comparison else line.who
            label = f"{result.ref}{' (fake)' if result.is_fake else ''}"
            rows.append((label, who, result.data_name, line.metric, line.as_text(line.value)))
    if rows:
        print_rows("evaluation", "model", "on", "metric", ">value", rows=rows)


def print_results_of(store: Store, manifest: Manifest) -> None:
    """What the results in the store say of a model; its card has the baselines beside it."""
    from ..evals.model_results import evaluations

    rows = list[tuple[str | int, ...]]()
    for result, line, metric, _ in evaluations(store, manifest):
        label = metric if line.subset == "overall" else f"{metric}, {line.subset}"
        rows.append((result.task, result.data_name, label, line.n, line.as_text(line.value), line.interval))
    if rows:
        console.print()
        print_rows("evaluation", "data", "metric", ">items", ">value", ">95% interval", rows=rows)
