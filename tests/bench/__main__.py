"""`make bench`: run the benchmarks and write the table to tests/bench/RESULTS.md."""

import importlib
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

NAMES = ("comparisons", "novelty", "journal", "vllm", "transformers")


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    results = [r for name in chosen for r in importlib.import_module(f"tests.bench.bench_{name}").run()]
    header = ("what", "unit", "ours", "plain", "ratio", "must reach")
    rows = [
        (
            r.what,
            r.unit,
            f"{r.ours:,.1f}",
            f"{r.plain:,.1f}" if r.plain else "",
            f"{r.ours / r.plain:,.1f}x" if r.plain else "",
            r.target,
        )
        for r in results
    ]
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if chosen == NAMES:
        lines = [
            "# Benchmarks",
            "",
            f"`make bench` on {os.cpu_count()} cores ({platform.processor() or platform.machine()}), "
            f"Python {platform.python_version()}. Each ratio is against the plain way, in the same run.",
            "",
            *("| " + " | ".join(cells) + " |" for cells in (header, ("---",) * len(header), *rows)),
            "",
        ]
        Path(__file__).with_name("RESULTS.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
