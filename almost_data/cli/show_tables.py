"""What `eval tables` prints."""

import json as json_
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from .report import console, text

VERDICTS = {"reproduced": "green", "not reproduced": "red"}


def tables(place: Path, found: dict[str, Any], json: bool = False) -> None:
    """The paper's claims beside what was measured."""
    if json:
        sys.stdout.write(json_.dumps(found, indent=2) + "\n")
        return
    table = Table("the paper's claim", "here", "95% interval", "items", "verdict", box=None)
    table.pad_edge = False
    for column in table.columns[1:4]:
        column.justify, column.no_wrap = "right", True
    for one in found["tables"]:
        measured = [claim for claim in one["claims"] if claim["difference"] is not None]
        if measured:
            table.add_row(text(one["name"], style="bold"))
        for claim in measured:
            interval = f"{100 * claim['low']:+.1f} to {100 * claim['high']:+.1f}"
            numbers = [f"{100 * claim['difference']:+.1f}", interval, f"{claim['n']:,}"]
            verdict = text(claim["verdict"], style=VERDICTS.get(claim["verdict"], "yellow"))
            table.add_row(text(f"  {claim['says']}"), *numbers, verdict)
    if table.rows:
        console.print(table)
    for one in found["tables"]:
        left = sum(claim["difference"] is None for claim in one["claims"])
        if left:
            of = f"{left} of {len(one['claims'])} claims"
            why = "; ".join(one["missing"]) or "no number"
            console.print(
                text(f"{one['name']}: {of} not run; missing: {why}", style="yellow"), soft_wrap=True
            )
    if found["is_small"]:
        size = f"{found['parameters'] / 1e6:,.3g} million parameters"
        console.print(text(f"The largest model has {size}: this tests the plumbing."))
    if notes := sum(len(one["notes"]) for one in found["results"]):
        console.print(text(f"{notes} notes on {len(found['results'])} results are in the report."))
    console.print(text(f"{place}/README.md", style="dim"), soft_wrap=True)
