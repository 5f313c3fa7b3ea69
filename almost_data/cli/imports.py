"""The verb `import`: queries and responses of files and of Hub datasets, brought into the store."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from .options import ROOT, Root, Version

if TYPE_CHECKING:
    from pathlib import Path

    from ..datasets.manifest import Manifest

app = App(name="import", help="Import queries or responses from a file or a Hub dataset.")

License = Annotated[str | None, Parameter(help="Licence of the data, as the Hub spells it.")]
Language = Annotated[str | None, Parameter(help="ISO 639 code of the data's language.")]


@app.command
def queries(
    file: str, /, *, version: Version, license: License = None, language: Language = None, root: Root = ROOT
) -> None:
    """Import queries: a text file (one a line), or JSONL, Parquet or a Hub id with a column `query`,
    `prompt`, `question` or `text`."""
    from ..run import importing, presets
    from ..store.store import Store

    card = presets.card(license, language)
    _print(root, importing.import_queries(Store(root), file, version, card))


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
    from ..run import importing, presets
    from ..store.store import Store

    card = presets.card(license, language)
    names = [name.strip() for name in ladder.split(",")]
    _print(root, importing.import_responses(Store(root), file, names, version, card))


def _print(root: "Path", manifest: "Manifest") -> None:
    from ..run.plan import Step
    from ..store.store import Store
    from .screens import build as screen

    screen.summary(Store(root), [Step("build", manifest)])
