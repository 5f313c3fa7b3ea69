"""The verbs `sample` and `view`: rows of a dataset in the terminal, and any preferences in a browser."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..arguments import check_count
from ..datasets.ledger import rules
from ..errors import InputError
from ..readers.preferences import parse_columns
from ..store.diff import difference_page
from ..store.samples import ANY, Selection, overview
from ..store.samples import sample as draw_sample
from ..store.sources import stored_ref
from ..store.store import Store
from ..viewer.preferences import preferences_page
from .console import console, print_json, print_line
from .options import ROOT, Columns, Json, Ref, Root
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
    hints = [] if selected.matching else _dropped_matches(store, ref, selection)
    for note in [*selected.notes, *hints]:
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


def view(
    ref: Annotated[
        str, Parameter(help="name@version, a name, or a file, folder or ORG/NAME[@REVISION] of preferences.")
    ],
    newer: Annotated[
        str | None, Parameter(help="Another version: show the rows that it lost and gained.")
    ] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="HTML file to write.")] = None,
    n: Annotated[int, Parameter(name=["--n", "-n"], help="Rows at most; more are sampled.")] = 5_000,
    seed: Annotated[int, Parameter(help="Seed of the sample.")] = 0,
    columns: Columns = None,
    root: Root = ROOT,
) -> None:
    check_count("view.n", n)
    store = Store(root)
    stored = stored_ref(store, ref)
    if stored and columns:
        raise InputError(f"{stored}: a dataset of the store: leave out view.columns")
    if newer and not stored:
        raise InputError(f"{ref} {newer}: two versions of a dataset can be compared, files cannot")
    if not stored:
        page = preferences_page(ref, parse_columns(columns), n, seed)
    elif newer:
        page = difference_page(store, stored, store.resolve(newer), n, seed)
    else:
        page = overview(store, stored, n, seed)
    name = page.title.replace("@", "-").replace(" ", "-")
    file = page.save(out or Path(f"{name}.html"))
    print_line(f"{file}: {page.about}")
    print_line(f"  open {file.resolve().as_uri()}", "dim")
