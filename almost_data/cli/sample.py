"""The verb `sample`: rows of a dataset with their texts, kept or dropped, in the terminal."""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from ..datasets.manifest import rules
from ..store.samples import Selection
from ..store.samples import sample as draw_sample
from ..store.store import Store
from .console import console, print_json, print_line
from .options import ROOT, Json, Ref, Root, Where
from .rows import row_panel


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Which rows are shown."""

    n: Annotated[int, Parameter(name=["--n", "-n"], help="Rows, or queries with all their responses.")] = 20
    dropped: Annotated[
        str | None, Parameter(help="Rows that were dropped for this reason, or for `any`.")
    ] = None
    where: Where = None
    pair: Annotated[str | None, Parameter(help="Pairs of these responders: 'CHOSEN>REJECTED'.")] = None
    longer: Annotated[
        Literal["chosen", "rejected"] | None, Parameter(help="Pairs of which this side is the longer one.")
    ] = None
    id: Annotated[
        str | None,
        Parameter(help="Rows with this id, or of this query: kept, with what they passed, or dropped."),
    ] = None
    sort: Annotated[
        str | None, Parameter(help="Column of which the largest values are shown, such as chosen_length.")
    ] = None
    config: Annotated[str, Parameter(help="Config that the rows are from.")] = "default"
    seed: Annotated[int, Parameter(help="Seed of the draw.")] = 0


def sample(
    ref: Ref, /, *, options: SampleOptions = SampleOptions(), json: Json = False, root: Root = ROOT
) -> None:
    store = Store(root)
    ref = store.resolve(ref)
    selected = draw_sample(store, ref, Selection(**asdict(options)))
    if json:
        print_json(selected.rows)
        return
    ledger = store.manifest(ref).ledger
    sentences = rules(ledger)
    for row in selected.rows:
        console.print(row_panel(row, sentences))
        if options.id and row.config == "default":
            passed = ", ".join(entry.filter for entry in ledger) or "no filter"
            print_line(f"kept: it passed {passed}", "green")
    for note in selected.notes:
        print_line(note, "yellow")
    order = f"the largest {options.sort} first" if options.sort else f"drawn by seed {options.seed}"
    print_line(f"{len(selected.rows):,} of {selected.matching:,} rows that match in {ref}, {order}", "dim")
