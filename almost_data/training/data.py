"""A recipe's dataset: opened from the store or the Hub, pinned, and counted in a ledger.

`shapes` turns its rows into messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from .. import hub
from ..datasets.config import HUB_ID
from ..datasets.filters import Filter, chain
from ..datasets.ledger import Entry, Unit
from ..datasets.manifest import Manifest, Parent
from ..errors import InputError
from ..readers.files import hub_commit, hub_splits
from ..readers.preferences import ROLES, parse_columns
from ..store.names import parse_ref
from ..store.store import Store
from .arguments import Inputs

RULES = {
    "no_dialogue": ("The row has no dialogue that can be read.", "almost_data"),
    "several_turns": (
        "Its prompt has more than one user turn, and `single_turn` keeps one; such rows are not judged on.",
        "paper, Table 3",
    ),
    "held_out": (
        "The dataset has no test split, and a hash of the prompt holds the row out.",
        "almost_data",
    ),
    "repeated": ("An earlier row has the same prompt.", "almost_data"),
    "left_out_pair": ("The row is of the responder pair that is kept to judge the model on.", "almost_data"),
    "too_long": ("A side has more tokens than the model is trained on.", "TRL"),
    "no_room": ("Its prompt leaves no room for a reply.", "TRL"),
    "prompt_too_long": ("Its prompt has more tokens than `max_prompt_length`.", "almost_data"),
    "over_limit": ("The seed draws `limit` rows, and this is not one of them.", "almost_data"),
}
"""Rules that take rows out of a train split: name, sentence and source."""
CONFIGS = {"recipe": "recipe.dataset_config", "eval": "eval.hub_config"}
"""Section of a setting -> the setting of a Hub dataset's config in it."""


@dataclass(frozen=True)
class Splits:
    """Which config and which two splits of a dataset are read."""

    config: str | None
    train: str
    test: str
    setting: str = "recipe.dataset_train_split"
    """Names the train split in errors."""

    @property
    def section(self) -> str:
        return self.setting.partition(".")[0]


@dataclass(frozen=True)
class Source:
    """Two splits of one dataset, with what identifies them."""

    parent: Parent
    """`name@version`; a foreign Hub dataset is `ORG/NAME@COMMIT`, with the commit as its digest."""
    revision: str | None
    """Commit on the Hub."""
    config: str | None
    train: pl.DataFrame
    test: pl.DataFrame
    columns: frozenset[str]
    """Columns of the train split as it was read."""
    manifest: Manifest | None = None
    """Only for a dataset of almost_data."""
    has_test: bool = True
    """Whether the dataset has a test split; otherwise a hash of the prompt makes one."""
    read: int = 0
    """What the rows of the train split came to, unreadable rows included."""
    unusable: tuple[int, str] = (0, "")
    """Number of unreadable rows in the train split, and why the first is unreadable."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of unreadable rows in the train split."""
    read_as: str = ""
    """The layout of its rows, and the columns that are read."""
    leaked: int = 0
    """Rows removed from the test split because their prompt is in the train split."""
    splits: tuple[str, str] = ("train", "test")
    """Names of the two splits in messages."""
    single_turn: bool = False
    """Whether both splits keep only rows whose prompt is one user turn."""
    several_turns: int = 0
    """Rows that `single_turn` removed from the train split."""
    assignments: Mapping[str, str] = field(default_factory=dict)
    """What its columns hold, where the user says so: `prompt`, `system`, `response`, `chosen` -> column."""
    repeated: int = 0
    """Rows removed from the train split because an earlier row has the same prompt."""

    @property
    def rejects(self) -> str:
        """Why rows of the train split are unreadable: how many by reason, and the first of them."""
        counts = ", ".join(f"{reason} {n:,}" for reason, n in self.reasons.items())
        return f"{counts}; the first is {self.unusable[1]}"

    @property
    def language(self) -> str | None:
        return self.manifest.config["card"]["language"] if self.manifest else None

    def record(self) -> dict[str, Any]:
        """The dataset's entry in a model's manifest."""
        return {
            "ref": self.parent.ref,
            "config": self.config,
            "revision": self.revision,
            **({"columns": dict(self.assignments)} if self.assignments else {}),
        }


def open_dataset(inputs: Inputs) -> Source:
    """The rows of `name@version` in the store, or of `ORG/NAME@REVISION` on the Hub.

    Raises InputError where there is no such dataset.
    """
    splits = Splits(inputs.dataset_config, inputs.dataset_train_split, inputs.dataset_test_split)
    is_hub = "/" in inputs.dataset and HUB_ID.fullmatch(inputs.dataset)
    source = (from_hub if is_hub else from_store)(inputs.store, inputs.dataset, splits)
    assignments = parse_columns(inputs.columns, (*ROLES, "response"))
    return replace(source, single_turn=inputs.single_turn, assignments=assignments)


def from_store(store: Store, ref: str, splits: Splits) -> Source:
    """Two splits of a dataset in the store.

    Raises InputError where `ref` is no dataset, or its train split is missing or empty.
    """
    parse_ref(ref)
    manifest = store.manifest(ref)
    if manifest.kind != "dataset":
        raise InputError(f"{splits.section}.dataset: {ref} is {manifest.kind_phrase}: name a dataset")
    config = splits.config or "default"
    if config not in manifest.counts:
        raise InputError(f"{ref} has no config {config!r}; it has: {', '.join(manifest.counts)}")
    if config in manifest.dropped_configs:
        raise InputError(
            f"{ref}: config {config!r} holds rows that were dropped: nothing is learned from them"
        )
    rows = {split: _rows(store, manifest, config, split) for split in (splits.train, splits.test)}
    if not len(rows[splits.train]):
        present = [f"{split} ({n:,} rows)" for split, n in manifest.counts[config].items() if n]
        problem = f"{ref}: no rows in split {splits.train!r} of config {config!r}"
        values = " or ".join(present) or "nothing, as it is empty"
        raise InputError(f"{problem}: set {splits.setting} to {values}")
    return Source(
        parent=Parent(ref, manifest.digest, manifest.fingerprint, manifest.sha256),
        revision=None,
        config=config,
        train=rows[splits.train],
        test=rows[splits.test],
        columns=frozenset(rows[splits.train].columns),
        manifest=manifest,
    )


def _rows(store: Store, manifest: Manifest, config: str, split: str) -> pl.DataFrame:
    """The rows of a split, of an unnamed one all; none where the dataset has no such split."""
    is_absent = split and split not in manifest.splits(config)
    rows = store.scan(manifest.ref, config, None if is_absent or not split else split)
    return (rows.clear() if is_absent else rows).collect()


def from_hub(store: Store, ref: str, splits: Splits) -> Source:
    """Two splits of `ORG/NAME@REVISION`. If almost_data pushed it, it is pulled into the store and verified.

    Raises InputError where it has no revision, cannot be loaded or has no train split.
    """
    name, at, revision = ref.partition("@")
    if not at:
        raise InputError(f"{splits.section}.dataset {ref}: name a tag or a commit, as {ref}@REVISION")
    commit = hub_commit(name, revision)
    try:
        pulled = hub.pull(store, f"{name}@{commit}", wait=True)  # with several GPUs, each process pulls
        return replace(from_store(store, pulled.ref, splits), revision=commit)
    except hub.HubError as error:
        raise InputError(str(error)) from None
    except hub.NotOurs:
        pass
    loaded = hub_splits(f"{name}@{commit}", splits.config, CONFIGS[splits.section])
    if splits.train not in loaded:
        present = ", ".join(loaded)
        raise InputError(f"{ref}: no split {splits.train!r}; it has: {present}: see {splits.setting}")
    train = loaded[splits.train].to_polars()
    has_test = splits.test in loaded
    return Source(
        parent=Parent(f"{name}@{commit}", f"commit:{commit}", ""),
        revision=commit,
        config=splits.config,
        train=train,
        test=loaded[splits.test].to_polars() if has_test else train.clear(),
        columns=frozenset(train.columns),
        has_test=has_test,
    )


def dropped(rule: str, fits: pl.Series, used: int) -> dict[str, int]:
    """Rows that `rule` drops, where `fits` is false, and then `limit`, which keeps `used` rows."""
    return {rule: len(fits) - int(fits.sum()), "over_limit": int(fits.sum()) - used}


def account(unit: Unit, source: Source, **dropped: int) -> list[Entry]:
    """The ledger of a train split: the rows that each rule of `RULES` was first to drop, in order."""
    unreadable, several_turns = source.unusable[0], source.several_turns
    shaping = {
        "no_dialogue": unreadable,
        "several_turns": several_turns,
        "held_out": source.read - unreadable - several_turns - source.repeated - len(source.train),
        "repeated": source.repeated,
    }
    counts = {
        rule: n for rule, n in shaping.items() if n or (rule == "several_turns" and source.single_turn)
    } | dropped
    return chain("training rows", [Filter(rule, unit, *RULES[rule]) for rule in counts], source.read, counts)
