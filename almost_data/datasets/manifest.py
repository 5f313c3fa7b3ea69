"""The machine record of an artifact: its identity, how and from what it was made, its row accounting.

`fingerprint` is a hash of the recipe (what would change the rows), `digest` a hash of the rows.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..errors import InputError, did_you_mean
from . import records
from .tables import CONFIG_NAME, Table, table_of, table_problem

MAX_BYTES = 100_000_000
"""Of `manifest.json`."""
MAX_NAME = 40
"""Most characters of a value in a list of changes."""
_PATH = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,2}", re.ASCII)
Unit = str
"""What the rows of a ledger entry are, in the singular: `query`, `response`, `pair`, `demonstration`, ..."""


class Count(msgspec.Struct, frozen=True, rename={"n_in": "in"}):
    """Rows into one filter, and out of it, for one responder pair."""

    n_in: int
    kept: int
    dropped: dict[str, int]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"n_in": "in"}):
    """One filter's account: always `in = kept + sum(dropped) + failed`."""

    stage: str
    filter: str
    unit: Unit
    description: str
    """One sentence, as the card prints it."""
    params: dict[str, Any]
    source: str
    """The paper's section, or another source."""
    n_in: int
    kept: int
    dropped: dict[str, int]
    """Reason -> rows."""
    failed: int = 0
    by_pair: dict[str, Count] = {}
    """`chosen > rejected` -> the same account for that responder pair, where it applies."""

    @property
    def heading(self) -> str:
        """The stage, and what its rows are where its name does not say that: `survivors (responses)`."""
        return self.stage if self.unit in self.stage else f"{self.stage} ({plural(self.unit)})"


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
        except KeyError:
            configs, hint = ", ".join(self.counts) or "none", did_you_mean(config, self.counts)
            raise InputError(f"{self.ref} has no config {config!r}{hint}; its configs: {configs}") from None

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
    def disk_bytes(self) -> int:
        """Its size on disk, without the manifest."""
        return sum(record.bytes for record in self.files.values())

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


def plural(unit: Unit) -> str:
    """The word for several rows of a unit of the ledger."""
    return "queries" if unit == "query" else f"{unit}s"


def rules(ledger: Iterable[Entry]) -> dict[str, str]:
    """Reason -> the sentence of the filter that drops rows for it."""
    sentences = {reason: entry.description for entry in ledger for reason in entry.dropped}
    return {"failed": "The request failed."} | sentences


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


def check_ledger(ledger: list[Entry]) -> None:
    """Raise ValueError for the first entry whose rows do not add up, alone or with the entry before it."""
    last: Entry | None = None
    for entry in ledger:
        out = entry.kept + sum(entry.dropped.values()) + entry.failed
        if entry.n_in != out or min([entry.kept, entry.failed, *entry.dropped.values()]) < 0:
            raise ValueError(f"ledger: {entry.filter}: {entry.n_in} rows in, {out} accounted for")
        if last and last.unit == entry.unit and last.kept != entry.n_in:
            raise ValueError(f"ledger: {last.filter} kept {last.kept} rows, {entry.filter} got {entry.n_in}")
        counts = entry.by_pair.values()
        split = (sum(c.n_in for c in counts), sum(c.kept for c in counts))
        if counts and split != (entry.n_in, entry.kept):
            raise ValueError(f"ledger: {entry.filter}: its responder pairs do not add up to its rows")
        if any(c.n_in != c.kept + sum(c.dropped.values()) for c in counts):
            raise ValueError(f"ledger: {entry.filter}: a responder pair loses rows")
        last = entry


def ledger_problems(
    ledger: Sequence[Entry], kept: Mapping[str, int], dropped: Mapping[str, int]
) -> list[str]:
    """The ledger against the rows: those of `default` that its last entry kept, and those of each reason."""
    rows, problems = sum(kept.values()), []
    if not ledger:
        problems.append(f"ledger: it has no entry, and default has {rows} rows")
    elif ledger[-1].kept != rows:
        problems.append(f"ledger: its last entry keeps {ledger[-1].kept} rows, and default has {rows}")
    accounted: Counter[str] = Counter()
    for entry in ledger:
        accounted.update(entry.dropped)
        accounted["failed"] += entry.failed
    return problems + [
        f"ledger: {accounted[reason]} rows {reason}, {dropped.get(reason, 0)} in the files"
        for reason in sorted(accounted.keys() | dropped.keys())
        if accounted[reason] != dropped.get(reason, 0)
    ]


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


def changes(old: Any, new: Any, at: str = "") -> list[str]:
    """What differs between two recipes, one `path: old -> new` each.

    >>> changes({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c: 2 -> 3']
    >>> changes({"checks": ["too_short", "unfinished"]}, {"checks": ["too_short"]})
    ['checks: - unfinished']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted(old.keys() | new.keys()):
            sides = old.get(key, _ABSENT), new.get(key, _ABSENT)
            lines += changes(*sides, f"{at}.{key}" if at else key)
        return lines
    if isinstance(old, list) and isinstance(new, list) and (items := _item_changes(old, new)):
        return [f"{at}: {item}" for item in items]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for place, pair in pairs for line in changes(*pair, f"{at}[{place}]")]
    before, after = _short(old), _short(new)
    same = _ABSENT not in (old, new) and canonical_json(old) == canonical_json(new)
    return [] if same else [f"{at}: {before} -> {after}"]


def _item_changes(old: list[Any], new: list[Any]) -> list[str]:
    """The items that only one of two lists of settings has; of named ones the names."""
    before, after = ([_item_name(item) for item in items] for items in (old, new))
    removed = [f"- {name}" for name in before if name not in after]
    return removed + [f"+ {name}" for name in after if name not in before]


def _item_name(item: Any) -> str:
    name = item["name"] if isinstance(item, dict) and "name" in item else item
    return name if isinstance(name, str) and len(name) <= MAX_NAME else _short(name)


_ABSENT = object()
"""Stands for a key that one side lacks, as distinct from a key whose value is null."""


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = "none" if value is None else canonical_json(value).decode()
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."


def recipe(manifest: Manifest) -> dict[str, Any]:
    """What `changes` compares to say why two fingerprints differ: settings by the names that set them."""
    section = {"dataset": manifest.builder.name, "model": "recipe", "evaluation": "eval"}[manifest.kind]
    section = "import" if manifest.is_import else section
    return {
        "builder": msgspec.to_builtins(manifest.builder),
        **{f"{section}.{name}": value for name, value in manifest.config["settings"].items()},
        **{name: value for name, value in manifest.config.items() if name != "settings"},
        "parents": {parent.ref.split("@")[0]: parent.digest[:12] for parent in manifest.parents},
    }
