"""What `show` prints of a trained model: what was looked at, what came of it."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from ..cards.markdown import clean, short
from ..datasets.manifest import Manifest
from .report import text


def tables(one: Manifest) -> Iterator[Table]:
    """The tables of what a recipe measured; those without a row are empty."""
    found = one.diagnostics
    report = found.get("report") or {}
    yield _preflight(found.get("preflight") or [])
    yield _accuracy("subset", report.get("subsets") or [])
    yield _accuracy("by length", report.get("buckets") or [])
    yield _facts(report)
    yield _rewards(found.get("rewards") or [])
    yield _numbers("last logged", found.get("metrics") or {})
    yield _numbers("speed", found.get("speed") or {})


def _table(*columns: str, words: int = 1) -> Table:
    """A plain table, all but the first columns of it numbers."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[words:]:
        column.justify = "right"
    return table


def _preflight(checks: list[dict[str, Any]]) -> Table:
    table = _table("preflight", "verdict", "rows", "finding")
    table.columns[1].justify = table.columns[3].justify = "left"
    styles = {"fatal": "red", "warn": "yellow"}
    for one in checks:
        rows = "" if one.get("rows") is None else f"{one['rows']:,}"
        verdict = text(one["level"], style=styles.get(one["level"], ""))
        table.add_row(text(one["check"]), verdict, rows, text(short(one["sentence"], 200)))
    return table


def _accuracy(what: str, rows: list[dict[str, Any]]) -> Table:
    """Accuracy with its interval, and what it is to be compared with, where that was measured."""
    others = {"always_longer": "longer", "probe": "surface", "random_head": "untrained"}
    there = {key: name for key, name in others.items() if any(one.get(key) is not None for one in rows)}
    table = _table(what, "rows", "accuracy", "95% interval", *there.values())
    for one in rows:
        interval = f"{_share(one['low'])} to {_share(one['high'])}"
        measured = [_share(one.get(key)) for key in there]
        table.add_row(text(one["name"]), f"{one['rows']:,}", _share(one["accuracy"]), interval, *measured)
    return table


def _facts(report: dict[str, Any]) -> Table:
    table = _table("reward model", "value")
    if report.get("left_out_pair"):
        table.add_row("left out of training", text(report["left_out_pair"]))
    if report.get("calibration"):
        table.add_row("expected calibration error", _share(report["calibration"]["ece"]))
    if report.get("rewards"):
        rewards = report["rewards"]
        table.add_row("scores, mean", _number(rewards["mean"]))
        table.add_row("scores, standard deviation", _number(rewards["std"]))
    return table


def _rewards(rows: list[dict[str, Any]]) -> Table:
    table = _table("rewards on prompts", "n", "before", "after", "gain", "95% interval", "tokens")
    for one in rows:
        interval = f"{_number(one['low'])} to {_number(one['high'])}"
        means = [_number(number) for number in (one["before"]["mean"], one["after"]["mean"], one["gain"])]
        tokens = f"{_number(one['before']['tokens'])} to {_number(one['after']['tokens'])}"
        table.add_row(text(one["prompts"]), f"{one['n']:,}", *means, interval, tokens)
    return table


def _numbers(what: str, numbers: dict[str, float | str | None]) -> Table:
    table = _table(what, "value")
    for name, value in numbers.items():
        if value is not None:
            table.add_row(clean(name), text(value) if isinstance(value, str) else _number(value))
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
