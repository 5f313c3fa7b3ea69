"""The machine record of an artifact: its identity, how and from what it was made, its row accounting.

`fingerprint` is a hash of the recipe (what would change the rows), `digest` a hash of the rows.
"""

import hashlib
import re
from typing import Any, Literal

import msgspec

from ..errors import InputError, did_you_mean
from . import records
from .ledger import Entry
from .tables import CONFIG_NAME, Table, table_of, table_problem

MAX_BYTES = 100_000_000
"""Of `manifest.json`."""
_PATH = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,2}", re.ASCII)


class Parent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An artifact that this one was made from."""

    ref: str
    digest: str
    fingerprint: str
    manifest: str | None = None
    """`sha256` of its manifest; None where it has none, as a dataset of somebody else's on the Hub."""


class BuilderId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What made an artifact: a builder, an import, a recipe, an evaluation.

    `logic_version` goes up whenever the same config would give other rows.
    """

    name: str
    logic_version: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `manifest.json`."""

    kind: Literal["dataset", "model", "evaluation"]
    """`dataset`, `model` or `evaluation`."""
    name: str
    """Name of the artifact, such as `comparisons`."""
    version: str
    """`N.N.N`, with a `-suffix` or not."""
    builder: BuilderId
    """What made it: the name of a builder, an import, a recipe or an evaluation, and its `logic_version`."""
    config: dict[str, Any]
    """Effective settings, resolved models, prompts, file hashes: fingerprinted with the parents."""
    fingerprint: str
    """Hash of the recipe: of what would change the rows."""
    digest: str
    """Hash of the rows, whatever their order."""
    parents: list[Parent]
    """The artifacts that it was made from, with their hashes."""
    tables: dict[str, Table]
    """Config -> its columns: the rows are readable where the builder is not installed. A model has none."""
    ledger: list[Entry]
    """The account of each filter: rows in, kept, dropped by reason, failed."""
    counts: dict[str, dict[str, int]]
    """Config -> split -> rows."""
    diagnostics: dict[str, Any]
    """What was measured of the rows, and the notes of the card."""
    environment: dict[str, Any]
    """Python, packages, engine and its settings: where it was made, which decides no fingerprint."""
    created: str
    """Date and time (UTC) at which it was published."""
    sizes: dict[str, dict[str, int]] = {}
    """Config -> split -> bytes of its rows in memory."""
    files: dict[str, records.FileRecord] = {}
    """Path -> size and hash of every file of the artifact beside this one. A card may be renewed later."""
    sha256: str = ""
    """Hash of all other values here (`seal`). Children, and the commit on the Hub, record it."""

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def kind_phrase(self) -> str:
        """`a dataset`, `a model`, `an evaluation`."""
        return f"an {self.kind}" if self.kind == "evaluation" else f"a {self.kind}"

    @property
    def is_fake(self) -> bool:
        """Whether any text in it is the fake engine's."""
        return any(model["id"].startswith("fake/") for model in self.diagnostics.get("models", []))

    def table(self, config: str) -> Table:
        """The columns of a config. Raises InputError where the manifest has no such config."""
        try:
            return table_of(self.tables, config)
        except (KeyError, TypeError):
            configs, hint = ", ".join(self.counts) or "none", did_you_mean(config, self.counts)
            raise InputError(f"{self.ref} has no config {config!r}{hint}; its configs: {configs}") from None

    def check_split(self, config: str, split: str | None) -> None:
        """Raise InputError where it has no such config, or the config no such split."""
        self.table(config)
        splits = list(self.splits(config)) or ["train"]
        if split is not None and split not in splits:
            hint = did_you_mean(split, splits)
            raise InputError(f"{self.ref} has no split {split!r}{hint}; its splits: {', '.join(splits)}")

    @property
    def dropped_configs(self) -> list[str]:
        """The configs that hold dropped rows."""
        return [name for name in self.counts if name != "default" and "reason" in self.table(name).names]

    @property
    def usage(self) -> dict[str, dict[str, Any]]:
        """What the engine's replies cost by responder (`generation.Usage`); nothing where none were asked."""
        engine = self.environment.get("engine") or {} if self.kind == "dataset" else {}
        usage: dict[str, dict[str, Any]] = engine.get("usage", {})
        return usage

    @property
    def rows(self) -> int:
        """Rows of `default`; of a model, those that it was trained on."""
        splits = self.counts.get("default", {})
        return splits.get("train", 0) if self.kind == "model" else sum(splits.values())

    def __repr__(self) -> str:
        return f"<{self.ref}: {self.kind}, {self.rows:,} rows>"

    def splits(self, config: str = "default") -> dict[str, int]:
        """Split -> rows of a config, also of a split that has none."""
        is_split = self.kind != "model" and self.table(config).split_key is not None
        empty = {"train": 0, "test": 0} if is_split else {}
        return empty | self.counts.get(config, {})

    @property
    def is_empty(self) -> bool:
        """Whether it is a dataset of which every row was dropped; it holds the dropped ones."""
        return self.kind == "dataset" and not self.counts["default"]

    @property
    def is_import(self) -> bool:
        return self.builder.name.startswith("import-")


def total_usage(manifests: list[Manifest]) -> dict[str, Any]:
    """What the engine's replies cost in all of them together; `{}` where none were asked."""
    usages = [usage for manifest in manifests for usage in manifest.usage.values()]
    return {key: sum(usage.get(key, 0) for usage in usages) for key in (usages[0] if usages else ())}


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys: the same bytes for the same value. Raises TypeError for a function.

    >>> canonical_json({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return msgspec.json.encode(value, order="deterministic")


def fingerprint(builder: BuilderId, config: dict[str, Any], parents: list[Parent]) -> str:
    """sha256 of what decides the rows: builder and its logic version, config, parents' digests."""
    recipe = {"builder": builder, "config": config, "parents": [parent.digest for parent in parents]}
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


def seal(manifest: Manifest) -> str:
    """sha256 of all values of a manifest but its `sha256`: it tells that one was edited."""
    return hashlib.sha256(canonical_json(msgspec.structs.replace(manifest, sha256=""))).hexdigest()


def check_parts(manifest: Manifest) -> None:
    """Raise msgspec.ValidationError, with the path, where a part that is read back has another type."""
    parts = {name: getattr(manifest, name) for name in ("config", "diagnostics", "environment")}
    records.check(manifest.kind, **parts)


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read `manifest.json`; InputError names `where` and the field that does not fit."""
    try:
        if len(data) > MAX_BYTES:
            raise msgspec.ValidationError(f"over {MAX_BYTES / 1e6:,.0f} MB")
        manifest = msgspec.json.decode(data, type=Manifest)
        check_parts(manifest)
        if "default" not in manifest.counts:
            raise msgspec.ValidationError("`counts` has no `default`")
        if manifest.kind != "model":
            _check_tables(manifest)
        for config, splits in manifest.counts.items():
            if not CONFIG_NAME.fullmatch(config) or not splits.keys() <= {"train", "test"}:
                raise msgspec.ValidationError(f"{config!r} with splits {sorted(splits)} cannot be a folder")
            if min(splits.values(), default=0) < 0:
                raise msgspec.ValidationError(f"`counts` of {config!r} are negative")
        for path in manifest.files:
            if not _PATH.fullmatch(path):
                raise msgspec.ValidationError(f"{path!r} cannot be a file of an artifact")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where}: not a manifest of almost_data: {error}") from None
    return manifest


def _check_tables(manifest: Manifest) -> None:
    """Raise msgspec.ValidationError where the tables are not those of the counts, or name no columns."""
    for config in manifest.counts:
        try:
            table_of(manifest.tables, config)
        except KeyError:
            raise msgspec.ValidationError(f"no columns of config {config!r}") from None
    for config, table in manifest.tables.items():
        if problem := table_problem(config, table):
            raise msgspec.ValidationError(problem)
        if set(table.parts or ()) & manifest.tables.keys():
            raise msgspec.ValidationError(f"config {config!r}: a part of it has a table of its own")


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: readable, keys in the order of the class."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
