"""What `diff` prints: what two versions of a dataset do not share, and why."""

from typing import TYPE_CHECKING

from rich.text import Text

from ...cards.markdown import clean, short
from ..console import console, grid, print_line, text

if TYPE_CHECKING:
    from ...store.diff import Diff


def diff(difference: "Diff") -> None:
    """Settings that differ, rows by reason and by responder pair, and examples."""
    changed = f" ({difference.changed:,} of them with another content)" if difference.changed else ""
    console.print(Text(f"{difference.a} to {difference.b}", style="bold"))
    console.print(
        f"{difference.kept:,} rows in both{changed}, {difference.lost:,} lost, {difference.gained:,} gained\n"
    )
    for line in difference.changes or ["the same recipe"]:
        print_line(f"  {line}")
    reasons = grid("why the other version dropped it", ">lost", ">gained")
    for reason, *counts in difference.reasons:
        reasons.add_row(text(reason), *[f"{n:,}" for n in counts])
    pairs = grid("chosen > rejected", ">in both", ">lost", ">gained", "why")
    for pair, kept, lost, gained, why in difference.pairs:
        pairs.add_row(text(pair), f"{kept:,}", f"{lost:,}", f"{gained:,}", text(why))
    for table in (reasons, pairs):
        if table.row_count:
            console.print()
            console.print(table)
    for side, examples in difference.examples.items():
        for example in examples:
            console.print()
            console.print(Text.assemble((f"{side} ", "bold"), clean(f"{example.reason}  {example.id}")))
            console.print(text(short(example.text, 1200)))
