"""What the command line prints of an evaluation."""

import sys
from collections.abc import Callable
from itertools import groupby

from rich.table import Table

from ..datasets.manifest import Manifest
from ..evals.on_card import A, B, evaluations
from ..evals.result import Result, encode, folder, results
from ..store.store import Store
from .console import console, text


def result(store: Store, one: Result, json: bool = False) -> None:
    """A result as a table, or as its JSON."""
    if json:
        sys.stdout.write(encode(one).decode())
        return
    for model in one.models:
        console.print(text(f"{model.role} {model.id} at {model.revision}"), soft_wrap=True)
    for data in one.data:
        console.print(text(f"{data.role} {data.id}, {data.revision[:23]}"), soft_wrap=True)
    console.print(lines(one))
    for note in one.notes:
        console.print(text(note, style="yellow"))
    console.print(text(f"{folder(store, one)}/README.md", style="dim"), soft_wrap=True)


def listing(store: Store) -> None:
    """Every result, a line each, with its overall number; a damaged one says what is wrong with it.

    A replay without questions is `on` its file of reviews. `(older)` is a result of a task that counts
    otherwise by now: cards leave it out.
    """
    wrong: list[str] = []
    table = _table("eval", "model", "on", "metric", "value", "result", numbers=2)
    for one in results(store, wrong):
        for at in [line for line in one.lines if line.subset == "overall"][:1] or one.lines[:1]:
            task = f"{one.task}{' (fake)' if one.is_fake else ''}{' (older)' if one.is_older else ''}"
            on = one.on or _of("judge", one)
            who = f"{at.who} against {_of(B, one)}" if at.who == _of(A, one) else at.who
            names = map(text, (task, who, on, at.metric))
            table.add_row(*names, _share(at.value), one.fingerprint[:16])
    if table.row_count:
        console.print()
        console.print(table)
    _damaged(wrong)


def of_model(store: Store, made: Manifest) -> None:
    """What the results in the store say of a model; its card has the baselines beside it."""
    wrong: list[str] = []
    table = _table("eval", "data", "metric", "items", "value", "95% interval", words=3)
    for row in evaluations(store, made, wrong):
        at = row["line"]
        what = row["metric"] if at.subset == "overall" else f"{row['metric']}, {at.subset}"
        form = _points if row["is_difference"] else _share
        numbers = (f"{at.n:,}", form(at.value), _interval(at.low, at.high, form))
        table.add_row(text(row["task"]), text(row["data"]), text(what), *numbers)
    if table.row_count:
        console.print(table)
    _damaged(wrong)


def lines(one: Result) -> Table:
    """Its numbers with their intervals, below whose they are."""
    table = _table("metric", "on", "items", "ties", "value", "95% interval", "chance", numbers=5, words=2)
    for who, some in groupby(one.lines, lambda at: at.who):
        table.add_row(text(who, style="bold"))
        for at in some:
            numbers = (f"{at.n:,}", f"{at.ties:,}", _share(at.value), _interval(at.low, at.high))
            chance = _share(at.chance) if at.chance is not None else ""
            table.add_row(text(f"  {at.metric}"), text(at.subset), *numbers, chance)
    return table


def _table(*columns: str, words: int = 4, numbers: int = 3) -> Table:
    """A plain table: `words` columns of words, then `numbers` columns of numbers, then words."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for column in table.columns[words : words + numbers]:
        column.justify, column.no_wrap = "right", True
    return table


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _points(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:+.1f}"


def _interval(low: float | None, high: float | None, form: Callable[[float | None], str] = _share) -> str:
    return "" if low is None or high is None else f"{form(low)} to {form(high)}"


def _of(role: str, one: Result) -> str:
    return next((model.id for model in one.models if model.role == role), "")


def _damaged(wrong: list[str]) -> None:
    for line in wrong:
        console.print(text(line, style="red"), soft_wrap=True)
