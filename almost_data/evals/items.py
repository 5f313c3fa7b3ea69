"""What a line of a result is the mean of: one number an item, by the item's id, read from its items.parquet.

So two numbers on the same items are compared item by item. Items that belong together have one `group`.
"""

from dataclasses import dataclass
from typing import Any

from ..store.store import Store
from .choices import LONGEST
from .result import Line, Result, folder

WON = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True)
class Item:
    """The value of an item, from 0 to 1, and the dialogue or prompt that it is of."""

    value: float
    group: str


def values(store: Store, found: Result, line: Line) -> dict[str, Item]:
    """The items of a line of a stored result; none where the result does not have them."""
    import polars as pl

    file = folder(store, found) / "items.parquet"
    if not file.is_file():
        return {}
    rows = pl.read_parquet(file).rows(named=True)
    return {
        id: Item(value, group) for row in rows for id, value, group in [_read(found.task, row, line)] if id
    }


def _read(task: str, row: dict[str, Any], line: Line) -> tuple[str, float, str]:
    """Id, value and group of a row; without an id it is none of the line's."""
    none = "", 0.0, ""
    if task == "vicuna":
        if line.metric != "win rate" or row["winner"] not in WON:
            return none
        return row["question_id"], WON[row["winner"]], row["question_id"]
    if task == "lm-eval":
        if (row["model"], row["subset"], row["metric"]) != (line.who, line.subset, line.metric):
            return none
        return str(row["item"]), row["value"], str(row["item"])
    if task == "preference":
        what = "characters" if line.who == LONGEST else "score"
        if line.subset != "overall" or (what == "score" and row["who"] != line.who):
            return none
        gap = row[f"chosen_{what}"] - row[f"rejected_{what}"]
        return str(row["row"]), 0.5 if gap == 0 else float(gap > 0), row["query_id"]
    if line.subset not in (row["subset"], "overall"):
        return none
    credit = row.get(f"{line.who}: credit", row.get(f"{line.metric}: credit"))
    return none if credit is None else (row["id"], credit, row["group"])
