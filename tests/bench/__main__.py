"""`make bench`: run the benchmarks, or those named, and write the table to tests/bench/RESULTS.md."""

import importlib
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("RESULTS.md")
NAMES = (
    *("comparisons", "community", "novelty", "journal", "scoring", "training", "vllm", "transformers"),
    *("demonstrations", "hub", "openai", "peers", "reading", "importing", "growth"),
)


def main() -> None:
    chosen = tuple(sys.argv[1:]) or NAMES
    results = [r for name in chosen for r in importlib.import_module(f"tests.bench.bench_{name}").run()]
    header = ("what", "unit", "ours", "plain", "ratio", "must reach")
    rows = [
        (
            r.label,
            r.unit,
            _number(r.ours),
            _number(r.plain) if r.plain else "",
            f"{_number(r.ours / r.plain)}x" if r.plain else "",
            r.target,
        )
        for r in results
    ]
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    # A benchmark that was not run keeps its lines from the last time, and other machines their sections.
    before, *sections = (RESULTS.read_text() if RESULTS.is_file() else "").split("\n## ")
    old = dict(_lines(before)) if chosen != NAMES else {}
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` on {os.cpu_count()} cores ({platform.processor() or platform.machine()}), "
        f"Python {platform.python_version()}. Each ratio is against the plain way, in the same run.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (header, ("---",) * len(header))),
        *(old | {row[0]: "| " + " | ".join(row) + " |" for row in rows}).values(),
        *(f"\n## {section.rstrip()}" for section in sections),
        "",
    ]
    RESULTS.write_text("\n".join(lines))


def _number(value: float) -> str:
    return f"{value:,.3g}" if value < 10 else f"{value:,.1f}"


def _lines(text: str) -> list[tuple[str, str]]:
    """What is measured, and its line in the table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [(line.split(" | ")[0].removeprefix("| "), line) for line in lines]


if __name__ == "__main__":
    main()
