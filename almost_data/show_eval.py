"""What the command line prints of an evaluation."""

import sys

import msgspec
from rich.table import Table

from .evals.result import Result, folder
from .report import console, text
from .store import Store


def result(store: Store, one: Result, json: bool = False) -> None:
    """A result as a table, or as its JSON."""
    if json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(one), indent=2).decode() + "\n")
        return
    for model in one.models:
        console.print(text(f"{model.role} {model.id} at {model.revision}"), soft_wrap=True)
    for data in one.data:
        console.print(text(f"{data.role} {data.id}, {data.revision[:23]}"), soft_wrap=True)
    console.print(lines(one))
    for note in one.notes:
        console.print(text(note, style="yellow"))
    console.print(text(f"{folder(store, one)}/README.md", style="dim"), soft_wrap=True)


def lines(one: Result) -> Table:
    """Its numbers with their intervals."""
    table = Table("who", "metric", "on", "items", "ties", "value", "95% interval", "chance", box=None)
    table.pad_edge = False
    for column in table.columns[3:]:
        column.justify = "right"
    for at in one.lines:
        interval = f"{at.low:.1%} to {at.high:.1%}" if at.low is not None and at.high is not None else ""
        value = "n/a" if at.value is None else f"{at.value:.1%}"
        chance = "" if at.chance is None else f"{at.chance:.1%}"
        cells = (at.who, at.metric, at.subset)
        table.add_row(*map(text, cells), f"{at.n:,}", f"{at.ties:,}", value, interval, chance)
    return table
