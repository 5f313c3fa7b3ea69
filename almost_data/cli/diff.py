"""The verb `diff`: what two versions of a dataset do not share, and why."""

from rich.text import Text

from ..cards.markdown import clean, short
from ..store.diff import Diff
from ..store.diff import diff as compare
from ..store.store import Store
from .console import console, grid, print_json, print_line, print_markdown, print_tables, text
from .options import ROOT, Json, Markdown, Ref, Root


def diff(a: Ref, b: Ref, /, *, markdown: Markdown = False, json: Json = False, root: Root = ROOT) -> None:
    store = Store(root)
    difference = compare(store, store.resolve(a), store.resolve(b))
    if json:
        print_json(difference)
    elif markdown:
        print_markdown("diff", vars(difference))
    else:
        _print(difference)


def _print(difference: Diff) -> None:
    """Settings that differ, rows by reason and by responder pair, and examples."""
    changed = f" ({difference.changed:,} of them with another content)" if difference.changed else ""
    console.print(Text(f"{difference.a} to {difference.b}", style="bold"))
    console.print(
        f"{difference.kept:,} rows in both{changed}, {difference.lost:,} lost, {difference.gained:,} gained\n"
    )
    for line in difference.changes or ["the same recipe"]:
        print_line(f"  {line}")
    console.print()
    print_tables(
        grid("why the other version dropped it", ">lost", ">gained", rows=difference.reasons),
        grid("chosen > rejected", ">in both", ">lost", ">gained", "why", rows=difference.pairs),
    )
    for side, examples in difference.examples.items():
        for example in examples:
            console.print(Text.assemble((f"{side} ", "bold"), clean(f"{example.reason}  {example.id}")))
            console.print(text(short(example.text, 1200)), end="\n\n")
