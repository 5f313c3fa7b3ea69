"""The verb `sample`: rows of a dataset with their texts, kept or dropped, in the terminal."""

from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from ..datasets.ledger import rules
from ..errors import InputError
from ..store.samples import ANY, Selection
from ..store.samples import sample as draw_sample
from ..store.store import Store
from .console import console, print_json, print_line
from .options import ROOT, Json, Ref, Root
from .rows import row_panel

SELECTION = Selection()


def sample(
    ref: Ref,
    /,
    *,
    n: Annotated[int, Parameter(name=["--n", "-n"], help="Rows, or queries with all their responses.")] = 20,
    selection: Annotated[Selection, Parameter(name="*")] = SELECTION,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    ref = store.resolve(ref)
    selected = draw_sample(store, ref, selection, n)
    if json:
        print_json(selected.rows)
        return
    ledger = store.manifest(ref).ledger
    sentences = rules(ledger)
    for row in selected.rows:
        console.print(row_panel(row, sentences))
        if selection.id and row.config == "default":
            passed = ", ".join(entry.filter for entry in ledger) or "no filter"
            print_line(f"kept: it passed {passed}", "green")
    notes = (
        selected.notes if selected.matching else [*selected.notes, *_dropped_matches(store, ref, selection)]
    )
    for note in notes:
        print_line(note, "yellow")
    order = f"the largest {selection.sort} first" if selection.sort else f"drawn by seed {selection.seed}"
    counted = f"{len(selected.rows):,} of {selected.matching:,} {selected.unit} that match in {ref}"
    print_line(f"{counted}, {order}", "dim")


def _dropped_matches(store: Store, ref: str, selection: Selection) -> list[str]:
    """A hint for who looks among the kept rows for what was dropped."""
    if selection.dropped:
        return []
    try:
        matching = draw_sample(store, ref, replace(selection, dropped=ANY), 1).matching
    except InputError:  # It has no dropped rows, or they lack a column that the condition names.
        return []
    return [f"{matching:,} dropped rows match: --dropped {ANY} shows them"] if matching else []
