"""What a builder is: one object that describes one kind of dataset completely.

A builder function takes a frozen config, the tables of its parents, an engine, and a scorer for each reward
model, and returns tables and a ledger. It touches no disk and no network of its own.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import msgspec
import polars as pl

from .. import registry
from ..errors import InputError, source_file
from ..generation import Generator, Model, Usage
from .config import Config, source_name
from .digest import Rows
from .ledger import Entry, Unit
from .manifest import Manifest, canonical_json
from .settings_docs import documented
from .tables import Table, Type, table_problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ConfigReader = Callable[[str], pl.LazyFrame]
Parents = Mapping[str, ConfigReader]
"""Dataset name -> a function from config to its rows."""
Figures = Iterator[tuple[str, "Figure"]]
"""Name and figure, in the order of the card."""


class NothingLeft(RuntimeError):
    """Every row was dropped: the dataset `ref` holds the dropped rows only, most of them for `reason`."""

    def __init__(self, message: str, ref: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.ref, self.reason = ref, reason


class Progress(Protocol):
    """Called as replies arrive: the stage, rows done, rows in all, tokens written so far."""

    def __call__(self, stage: str, done: int, total: int, tokens: int) -> None: ...


def silent(stage: str, done: int, total: int, tokens: int) -> None:
    """A Progress that shows nothing."""


@documented
@dataclass(frozen=True)
class Built:
    """What `build` returns."""

    tables: Mapping[str, Rows]
    """Rows by stored config."""
    ledger: list[Entry]
    diagnostics: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What the reader of summary and card must know of this run, one sentence each."""
    usage: dict[str, Usage] = field(default_factory=dict)
    """What the engine's replies cost, by responder; a builder with one model uses its own name."""
    schemas: Mapping[str, Table] = field(default_factory=dict)
    """Tables whose columns are not those that the builder declares, by config."""


@dataclass(frozen=True)
class RewardModel:
    """A reward model that a builder uses."""

    id: str
    """`name@version` in the store, `ORG/NAME[@REVISION]` on the Hub, or a local folder."""
    max_tokens: int
    """Tokens of a dialogue that it reads."""


@dataclass(frozen=True)
class Work:
    """What one model would be asked for, estimated. Tokens are counted from characters."""

    task: str
    model: str
    kind: str
    """`generate`, `score` or `train`."""
    requests: int
    """Replies, dialogues scored, or examples trained on, each as often as it is read."""
    prompt_tokens: int
    """Tokens of one request's prompt, without what all requests share."""
    shared_tokens: int = 0
    """Tokens of the prompt that all requests share: they are computed once."""
    reply_tokens: int = 0
    """Tokens of one reply, at most."""


@dataclass(frozen=True)
class Estimate:
    """What a build would take: the rows that it would make, and the work of each model."""

    rows: int
    """Rows that datasets made from it read."""
    work: tuple[Work, ...] = ()
    text_tokens: int | None = None
    """Tokens of the text that a row holds, at most; of rows that exist, on average; None if not known."""
    rows_per_query: int = 1
    """Responders of the ladder, where rows are its responses."""


AUTO = "auto"
"""Value of a setting that follows from the parents of a build."""


@dataclass(frozen=True)
class Auto:
    """How a setting whose value is `AUTO` is decided."""

    default: Any
    """The paper's value, from which deviations are told."""
    resolve: Callable[[Mapping[str, Manifest]], Any]
    """Manifests of the parents by name -> the value; the parents may have no rows yet."""


RESERVED = ("note", "card", "engine", "scoring", "run", "import", "eval", "hub", "audit", "recipe")
"""Names that no builder can have: sections of presets, and of settings in error messages."""


def _no_reward_models(config: Any) -> dict[str, RewardModel]:
    return {}


@documented
@dataclass(frozen=True, kw_only=True)
class Builder:
    """One kind of dataset. Built-in builders and those of other packages are used alike."""

    name: str
    """Names the dataset, its folder, and its section in a preset."""
    doc: str
    """One sentence: what a row is and where it comes from."""
    logic_version: int = 1
    """Increased whenever the same config would give other rows."""
    config: type[Config]
    """Its settings: a frozen struct."""
    tables: Mapping[str, Table]
    """Its configs, `default` first. The manifest keeps them, so a dataset is readable without its builder."""
    build: Callable[..., Built]
    """`(config, parents, generator, progress)`, by keyword a scorer for each reward model, and `folder`."""
    parents: tuple[str, ...] = ()
    """Names of the datasets that it reads."""
    builds_parents: bool = True
    """Whether a parent that does not exist is built; if not, `run.from` has to name one."""
    optional: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    """Datasets that it also reads where they are named in `run.from`, or where its config needs them."""
    uses_engine: bool = True
    """Whether `build` uses the generator; if not, no engine is loaded."""
    uses_folder: bool = False
    """Whether `build` takes `folder`, an empty folder for rows that may be more than fit in memory."""
    pins: Callable[[Any, Generator], dict[str, Any]] = lambda config, generator: {}
    """What decides the rows besides the settings: resolved models, texts of prompts, hashes of files.

    Raises InputError for settings that do not go together. Models stand under `resolved`, by responder.
    """
    auto: Mapping[str, Auto] = field(default_factory=dict)
    """Settings whose default is `AUTO`; the manifest holds the values that they got."""
    reward_models: Callable[[Any], dict[str, RewardModel]] = _no_reward_models
    """Reward models by the keyword under which `build` takes their scorers."""
    hooks: Mapping[Unit, Mapping[str, Any]] = field(default_factory=dict)
    """Unit -> the columns that a user's filter of that unit sees, with an example value each."""
    as_fake: Callable[[Any], Any] = lambda config: config
    """The config as the fake engine runs it, with names that say so."""
    estimate: Callable[[Any, Mapping[str, Estimate]], Estimate] | None = None
    """`(config, estimates of its parents)` -> what a build would take; None where no model is asked."""
    flags: tuple[str, ...] = ()
    """Fields of the config that have a command-line flag of their own."""
    tags: tuple[str, ...] = ()
    """Tags of the card on the Hub."""
    card: str | Path = "dataset.md.jinja"
    """Template of the card: a shipped one, or a file."""
    card_values: Callable[[Manifest, Sequence[Manifest]], dict[str, Any]] = lambda manifest, line: {}
    """`(manifest, it and the datasets above it)` -> more values for the template."""
    paper_facts: Callable[[Any], Sequence[str]] = lambda config: ()
    """Sentences on how its method differs from the paper, for its card and those below it."""
    figures: Callable[[Manifest, Mapping[str, pl.DataFrame]], Figures] = lambda manifest, tables: iter(())

    def __post_init__(self) -> None:
        """Raise ValueError where the parts do not go together, so that a mistake shows before a build."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", self.name):
            raise ValueError(f"builder {self.name!r}: a name is small letters, digits, - and _")
        if self.name in RESERVED:
            raise ValueError(f"builder {self.name}: this name is a section of presets: choose another")
        if next(iter(self.tables), None) != "default":
            raise ValueError(f"builder {self.name}: the first table is `default`")
        for config, table in self.tables.items():
            if problem := table_problem(config, table):
                raise ValueError(f"builder {self.name}: {problem}")
            if wrong := [column for column in table.columns if column.type not in get_args(Type)]:
                raise ValueError(
                    f"builder {self.name}: table {config!r} has the column {wrong[0].name!r} of type "
                    f"{wrong[0].type!r}: choose of {', '.join(get_args(Type))}"
                )
        if self.hooks and "filters" not in self.config.__struct_fields__:
            raise ValueError(f"builder {self.name}: it has hooks, and no setting `filters` for them")
        if unknown := set(self.auto) - set(self.config.__struct_fields__):
            raise ValueError(f"builder {self.name}: no setting {min(unknown)!r} to decide by the parents")
        if unknown := set(self.flags) - set(self.config.__struct_fields__):
            raise ValueError(f"builder {self.name}: no setting {min(unknown)!r} to make a flag of")

    @property
    def file(self) -> str:
        """The file that it comes from."""
        return source_file(self.build)

    @property
    def asks_reward_models(self) -> bool:
        """Whether its settings can name a reward model."""
        return self.reward_models is not _no_reward_models

    def defaults(self) -> dict[str, Any]:
        """The settings that have a default."""
        fields = msgspec.structs.fields(self.config)
        defaults = {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}
        return defaults | {name: auto.default for name, auto in self.auto.items()}

    def resolve(self, config: Any, parents: Mapping[str, Manifest]) -> Any:
        """The config with each setting that is `AUTO` decided by the parents."""
        names = [name for name in self.auto if getattr(config, name) == AUTO]
        values = {name: self.auto[name].resolve(parents) for name in names}
        return msgspec.structs.replace(config, **values) if values else config


def load_builder(name: str) -> Builder:
    """The builder of that name, or in that file (`my_builder.py:BUILDER`). Raises InputError."""
    builder = registry.load("builders", name)
    if not isinstance(builder, Builder):
        raise InputError(f"{name}: not an almost_data.Builder, but {type(builder).__name__}")
    if name != builder.name and builder.name in registry.BUILT_IN["builders"]:
        raise InputError(f"{name}: a built-in builder is named {builder.name!r}: choose another name")
    return builder


def pin_model(model: Model) -> dict[str, Any]:
    """A resolved model as a manifest names it: `{id, revision}`, without a folder of this machine."""
    return {"id": source_name(model.id), "revision": model.revision}


def text_id(text: str) -> str:
    """First 16 hex digits of the sha256 of the text.

    >>> text_id("How do I keep basil alive indoors?")
    '29b96e1ccfe1b398'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompt_id(prompt: Sequence[Mapping[str, str]]) -> str:
    """Names a prompt: `text_id` of a single user turn's text, else of the turns as canonical JSON.

    >>> prompt_id([{"role": "user", "content": "How do I keep basil alive indoors?"}])
    '29b96e1ccfe1b398'
    """
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return text_id(prompt[0]["content"])
    return hashlib.sha256(canonical_json(prompt)).hexdigest()[:16]


def reply_id(query_id: str, responder: str) -> str:
    """Names one response of a dataset."""
    return text_id(f"{query_id}\0{responder}")


def row_seed(seed: int, builder: str, row_id: str) -> int:
    """A seed for one row, whatever the order, the batch or the engine.

    63 bits of the sha256 of the run's seed, of what draws, and of what names the row.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}\0{builder}\0{row_id}".encode()).digest()[:8]) >> 1
