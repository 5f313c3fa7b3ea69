"""What all builders share: the shape of one, and the ids and seeds of rows.

A builder is a function from a frozen config, parent tables and an engine to tables and a ledger. It
touches no disk and no network of its own.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import msgspec
import polars as pl

from ..generation import Generator, Usage
from .digest import Rows
from .manifest import Entry

Parents = Mapping[str, Callable[[str], pl.LazyFrame]]
"""Dataset name -> a function from config to its rows."""


NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=10)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What settings derive from: frozen data, where an unknown key or a wrong type is an error."""


class NothingLeft(RuntimeError):
    """Every row was dropped, so there is no dataset to write."""


class Progress(Protocol):
    """Called as replies arrive: what is going on, rows done, rows wanted, tokens written so far."""

    def __call__(self, stage: str, done: int, total: int, tokens: int) -> None: ...


def silent(stage: str, done: int, total: int, tokens: int) -> None:
    """A Progress that shows nothing."""


@dataclass(frozen=True)
class Built:
    """What a builder returns."""

    tables: Mapping[str, Rows]
    """Stored configs by name."""
    ledger: list[Entry]
    diagnostics: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What the reader of summary and card must know of this run, one sentence each."""
    usage: dict[str, Usage] = field(default_factory=dict)
    """What the engine's replies cost, by responder; `queries` has one, by its own name."""


@dataclass(frozen=True)
class RewardModel:
    """A reward model that a builder asks."""

    id: str
    revision: str | None
    max_tokens: int


@dataclass(frozen=True)
class BuilderSpec:
    """One line of the table of builders (`pipeline.BUILDERS`)."""

    name: str
    logic_version: int
    config: type[Config]
    parents: tuple[str, ...]
    build: Callable[..., Built]
    """(config, parents, generator, progress) -> Built; and a scorer for each reward model, by name."""
    pins: Callable[[Any, Generator], dict[str, Any]]
    """What decides the rows besides the settings: resolved models, the prompts' texts."""
    reward_models: Callable[[Any], dict[str, RewardModel]] = lambda config: {}
    """By the name of the builder's argument; `scorer` is the one that decides."""

    def defaults(self) -> dict[str, Any]:
        """The settings that have a default."""
        fields = msgspec.structs.fields(self.config)
        return {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}


def text_id(text: str) -> str:
    """First 16 hex digits of the sha256 of the text.

    >>> text_id("How do I keep basil alive indoors?")
    '29b96e1ccfe1b398'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reply_id(query_id: str, responder: str) -> str:
    """Names one response of a dataset."""
    return text_id(f"{query_id}\0{responder}")


def row_seed(seed: int, builder: str, row_id: str) -> int:
    """A seed for one row, whatever the order, the batch or the engine. 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{builder}\0{row_id}".encode()).digest()[:8]) >> 1
