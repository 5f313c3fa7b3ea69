"""What `eval tables` prints."""

import json as json_
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from .report import console, text

VERDICTS = {"reproduced": "green", "not reproduced": "red", "not run": "dim"}


def tables(place: Path, found: dict[str, Any], json: bool = False) -> None:
    """The paper's claims beside what was measured."""
    if json:
        sys.stdout.write(json_.dumps(found, indent=2) + "\n")
        return
    table = Table("table", "the paper's claim", "difference", "95% interval", "items", "verdict", box=None)
    table.pad_edge = False
    for column in table.columns[2:5]:
        column.justify = "right"
    table.columns[1].overflow = "fold"
    for one in found["tables"]:
        for claim in one["claims"]:
            numbers = ["", "", ""]
            if claim["difference"] is not None:
                interval = f"{100 * claim['low']:+.1f} to {100 * claim['high']:+.1f}"
                numbers = [f"{100 * claim['difference']:+.1f}", interval, f"{claim['n']:,}"]
            verdict = text(claim["verdict"], style=VERDICTS.get(claim["verdict"], "yellow"))
            table.add_row(text(one["name"]), text(claim["says"]), *numbers, verdict)
    console.print(table)
    missing = dict.fromkeys(why for one in found["tables"] for why in one["missing"])
    for why in missing:
        console.print(text(f"not run: {why}", style="yellow"), soft_wrap=True)
    if found["is_small"]:
        size = f"{found['parameters'] / 1e6:,.0f} million parameters"
        console.print(text(f"The policy has {size}: this tests the plumbing."))
    console.print(text(f"{place}/README.md", style="dim"), soft_wrap=True)
