"""The verb `sample`: rows of a dataset with their texts, kept or dropped, in the terminal."""

from typing import Annotated

from cyclopts import Parameter

from ..datasets.ledger import rules
from ..store.samples import Selection
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
    for note in selected.notes:
        print_line(note, "yellow")
    order = f"the largest {selection.sort} first" if selection.sort else f"drawn by seed {selection.seed}"
    print_line(f"{len(selected.rows):,} of {selected.matching:,} rows that match in {ref}, {order}", "dim")
