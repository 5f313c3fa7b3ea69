"""The verb `diff`: what two versions of a dataset do not share, and why."""

from typing import Annotated

from cyclopts import Parameter
from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from ..cards.markdown import short
from ..errors import InputError
from ..store.diff import Diff
from ..store.diff import diff as compare
from ..store.store import Store
from .console import console, grid, panel, print_json, print_line, print_markdown, print_tables, text
from .options import ROOT, Json, Markdown, Ref, Root

STYLES = {"lost": "red", "gained": "green"}

_SIGNS = {"-": STYLES["lost"], "+": STYLES["gained"]}


def diff(
    a: Ref,
    b: Annotated[
        str | None, Parameter(help="Another version; without it, A and the version before it are compared.")
    ] = None,
    /,
    *,
    markdown: Markdown = False,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    ref = store.resolve(a)
    versions = (ref, store.resolve(b)) if b else (_version_before(store, ref), ref)
    difference = compare(store, *versions)
    if json:
        print_json(difference)
    elif markdown:
        print_markdown("diff", vars(difference))
    else:
        _print(difference)


def _version_before(store: Store, ref: str) -> str:
    """The version before this one: of the same suffix, else without one, else any."""
    store.manifest(ref)  # raises where there is none
    versions = store.refs(ref.partition("@")[0])
    earlier = versions[: versions.index(ref)]
    same = [version for version in earlier if _suffix(version) == _suffix(ref)]
    plain = [version for version in earlier if not _suffix(version)]
    if not earlier:
        raise InputError(f"{ref}: there is no version before it: name another one to compare it with")
    return (same or plain or earlier)[-1]


def _suffix(ref: str) -> str:
    return ref.partition("@")[2].partition("-")[2]


def _print(difference: Diff) -> None:
    """Settings that differ, rows by reason and by responder pair, shortcuts, and examples."""
    changed = f" ({difference.changed:,} of them with another content)" if difference.changed else ""
    console.print(Text(f"{difference.a} to {difference.b}", style="bold"))
    console.print(
        Text.assemble(
            f"{difference.kept:,} rows in both{changed}, ",
            (f"{difference.lost:,} lost", STYLES["lost"]),
            ", ",
            (f"{difference.gained:,} gained\n", STYLES["gained"]),
        )
    )
    for line in difference.changes or ["the same recipe"]:
        print_line(f"  {line}", _change_style(line))
    console.print()
    # The reasons stand below the names, so that both are whole in a narrow terminal.
    pairs = grid("chosen > rejected", ">in both", ">lost", ">gained")
    for pair, *numbers, why in difference.pairs:
        reasons = [Padding(text(why), (0, 0, 0, 2))] if why else []
        pairs.add_row(Group(text(pair), *reasons), *(f"{n:,}" for n in numbers))
    # In no colour: a larger share is neither good nor bad in itself.
    shifts = [(shift.measure, shift.a, shift.b, shift.change) for shift in difference.shortcuts]
    shortcuts = grid("shortcut", ">before", ">after", ">change", rows=shifts)
    shortcuts.columns[0].no_wrap = True
    print_tables(grid("why the other version dropped it", ">lost", ">gained", rows=difference.reasons))
    for cause in difference.causes:
        print_line(cause)
    if difference.causes:
        console.print()
    print_tables(pairs, shortcuts)
    for side, examples in difference.examples.items():
        for example in examples:
            title = f"{side} {example.id}: {example.reason}"
            console.print(panel(text(short(example.text, 1200)), title, STYLES[side]))


def _change_style(line: str) -> str:
    """Red for an item that was taken out, green for one that was put in."""
    item = line.partition(": ")[2]
    return _SIGNS.get(item[:1], "") if item[1:2] == " " else ""
