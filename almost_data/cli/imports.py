"""The verb `import`: queries and responses of files and of Hub datasets, brought into the store."""

from typing import Annotated

from cyclopts import App, Parameter

from ..run import importing, presets
from ..run.plan import Step
from ..store.store import Store
from .options import ROOT, Root, Version
from .summary import summary

app = App(name="import")

License = Annotated[str | None, Parameter(help="Licence of the data, as the Hub spells it.")]
Language = Annotated[str | None, Parameter(help="ISO 639 code of the data's language.")]


@app.command
def queries(
    file: str, /, *, version: Version, license: License = None, language: Language = None, root: Root = ROOT
) -> None:
    """Import queries: a text file (one a line), or JSONL, Parquet or a Hub id with a column `query`,
    `prompt`, `question` or `text`."""
    store, card = Store(root), presets.card(license, language)
    summary(store, [Step("build", importing.import_queries(store, file, version, card))])


@app.command
def responses(
    file: str,
    /,
    *,
    ladder: Annotated[str, Parameter(help="Responders, best first: best,...,worst.")],
    version: Version,
    license: License = None,
    language: Language = None,
    root: Root = ROOT,
) -> None:
    """Import responses: JSONL, Parquet or a Hub id; `prompt` and a column per responder, or long rows."""
    store, card = Store(root), presets.card(license, language)
    names = [name.strip() for name in ladder.split(",")]
    summary(store, [Step("build", importing.import_responses(store, file, names, version, card))])
