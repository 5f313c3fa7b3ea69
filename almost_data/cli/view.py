"""The verb `view`: a page that shows the rows of a dataset, of two versions, or of a file, in a browser."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..arguments import check_count
from ..errors import InputError
from ..readers.preferences import parse_columns
from ..store import samples
from ..store.diff import difference_page
from ..store.sources import stored_ref
from ..store.store import Store
from ..viewer.preferences import preferences_page
from .console import print_line
from .options import ROOT, Columns, Root

LIMIT = 5_000


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
    n: Annotated[int, Parameter(name=["--n", "-n"], help="Rows at most; more are sampled.")] = LIMIT,
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
        page = samples.overview(store, stored, n, seed)
    name = page.title.replace("@", "-").replace(" ", "-")
    file = page.save(out or Path(f"{name}.html"))
    print_line(f"{file}: {page.about}")
    print_line(f"  open {file.resolve().as_uri()}", "dim")
