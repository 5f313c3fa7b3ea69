"""The verb `import`: queries, responses and preferences of files and Hub datasets, brought into the store."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter

from ..builders.responses import ResponsesConfig
from ..datasets.manifest import Manifest
from ..readers.files import HubPart
from ..readers.preferences import ROLES, parse_columns
from ..run import importing, presets
from ..run.plan import Step
from ..store.store import Store
from .console import print_line
from .options import ROOT, Reading, Root, Version
from .summary import summary

app = App(name="import", version_flags=())
LADDER: presets.PresetName = "delta"
"""The preset that is an example of a ladder for imported queries."""


_SOURCE = "File, folder of files of one format, or Hub dataset ORG/NAME[@REVISION]: {}."
Pairs = Annotated[str, Parameter(help=_SOURCE.format("pairs.jsonl"))]
Answers = Annotated[str, Parameter(help=_SOURCE.format("answers.jsonl"))]
Questions = Annotated[str, Parameter(help=_SOURCE.format("questions.txt"))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportOptions(Reading):
    """Options of every import."""

    version: Version
    license: Annotated[
        str | None, Parameter(help="Licence of the data, as the Hub spells it: cc-by-4.0.")
    ] = None
    language: Annotated[str | None, Parameter(help="ISO 639 code of the data's language: en.")] = None
    root: Root = ROOT

    def options(self, *roles: str) -> importing.Options:
        columns, part = parse_columns(self.columns, roles), HubPart(self.hub_config, self.split)
        return importing.Options(columns, part, presets.card(self.license, self.language))


@app.command
def preferences(file: Pairs, /, *, options: ImportOptions) -> None:
    """Import comparisons: chosen and rejected replies, in any usual layout of .jsonl, .json, .csv, .tsv or
    .parquet (text also .gz or .zst), of a folder, or of a Hub id."""
    settings = options.options(*ROLES)
    store = Store(options.root)
    _import(store, lambda: importing.import_preferences(store, file, options.version, settings))


@app.command
def queries(file: Questions, /, *, options: ImportOptions) -> None:
    """Import queries: a text file (one a line), or a table or Hub id with a column `query`, `prompt`,
    `question`, `instruction`, `text`, `messages` or `conversation`."""
    store = Store(options.root)
    settings = options.options("query", "system")
    _import(store, lambda: importing.import_queries(store, file, options.version, settings))


@app.command
def responses(
    file: Answers,
    /,
    *,
    ladder: Annotated[
        str | None,
        Parameter(
            help="Responders, best first, with commas between: large,medium,small. "
            "large=Qwen/Qwen3-8B gives a responder of the file a name without slash or colon. "
            "Required: without it, an error names those of the file."
        ),
    ] = None,
    options: ImportOptions,
) -> None:
    """Import responses: a table or Hub id with a prompt and a column per responder, or long rows of prompt,
    `responder` and `response` (or --columns responder=NAME,response=NAME)."""
    settings = options.options("prompt", "system", "responder", "response", "finish_reason")
    store, names = Store(options.root), [name.strip() for name in ladder.split(",")] if ladder else []
    _import(store, lambda: importing.import_responses(store, file, names, options.version, settings))


def _import(store: Store, read: Callable[[], Manifest]) -> None:
    """Import, and print what was read, or that it was there."""
    present = store.refs()
    manifest = read()
    for entry in manifest.ledger:
        if entry.filter == "layout":
            print_line(entry.description.removeprefix("Rows are ").removesuffix("."))
    ladder = ["--config", "ladder.toml"] if manifest.name == "queries" else []
    step = Step("reuse" if manifest.ref in present else "build", manifest)
    summary(store, [step], [*ladder, "--version", manifest.version])
    if ladder:
        config = presets.load(LADDER).configs["responses"]
        assert isinstance(config, ResponsesConfig)
        names = " and ".join(responder.model for responder in config.responders)
        print_line(
            "Write your models into ladder.toml, best first, each as a table [[responses.responders]] with "
            f'name, model and style = "chat"; --preset {LADDER} in place of the file asks {names}.',
            "dim",
        )
