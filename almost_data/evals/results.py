"""Results as artifacts of the store, `NAME@LOGIC.ATTEMPT.0-FINGERPRINT`.

The fingerprint is a hash of what decides the numbers, so the same evaluation again is read and not run. A
result in which requests failed can be followed by another attempt, which takes its place.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..cards.front_matter import viewer, with_front_matter
from ..datasets.manifest import BuilderId, Manifest
from ..datasets.records import Pinned
from ..datasets.tables import Column, Table, Type, frame
from ..errors import InputError
from ..store.publish import Record, Tables, json_data, new_manifest, publish
from ..store.store import Store
from .result import EvalPlan, Line, Measurement, Result, read, read_all

DIGITS = 16
"""Of the fingerprint, in the version."""
_TYPES: tuple[tuple[tuple[type, ...], Type], ...] = (
    ((bool,), "bool"),
    ((int,), "int64"),
    ((int, float), "float64"),
    ((str,), "string"),
)


def new_draft(store: Store, name: str, logic_version: int, plan: EvalPlan) -> Manifest:
    """The manifest of an evaluation before it is measured: its identity."""
    builder = BuilderId(f"evals/{name}", logic_version)
    config = msgspec.to_builtins(
        {"settings": plan.settings, "models": plan.models, "data": plan.data, "prompts": plan.prompts}
    )
    parents = _parents(store, [*plan.models, *plan.data])
    draft = new_manifest("evaluation", f"{name}@{logic_version}.0.0", builder, config, parents)
    return msgspec.structs.replace(draft, version=f"{draft.version}-{draft.fingerprint[:DIGITS]}")


def _parents(store: Store, pins: Sequence[Pinned]) -> list[Manifest]:
    """The artifacts of the store among models and data."""
    refs = set(store.refs())
    manifests = [(store.manifest(pinned.id), pinned) for pinned in pins if pinned.id in refs]
    return [manifest for manifest, pinned in manifests if manifest.digest.startswith(pinned.revision)]


def find(store: Store, draft: Manifest) -> Result | None:
    """The finished result of the same evaluation: its last attempt. Raises InputError if it is damaged."""
    start, end = f"{draft.name}@", f"-{draft.fingerprint[:DIGITS]}"
    attempts = [ref for ref in store.refs() if ref.startswith(start) and ref.endswith(end)]
    if not attempts:
        store.check_place(draft.ref, draft.kind)
        return None
    result = read(store.manifest(attempts[-1]))
    if result.fingerprint != draft.fingerprint:
        raise InputError(f"{store.path(attempts[-1])}: not the result of that name: delete the folder")
    return result


def save(store: Store, draft: Manifest, measured: Measurement, environment: Mapping[str, Any]) -> Result:
    """Publish a result and return it.

    A result of the same evaluation, by another process perhaps, stays and is returned, unless fewer requests
    failed in this one: then this one takes its place.
    """
    lines = json_data([msgspec.structs.asdict(line) for line in measured.lines])
    msgspec.convert(lines, list[Line])  # of wrong types nothing is written
    table, rows = _table(measured, lines)
    pins = msgspec.convert([*draft.config["models"], *draft.config["data"]], list[Pinned])
    record = Record(
        diagnostics={"lines": lines, "details": measured.details, "failed": measured.failed},
        models=[
            {"id": pinned.id if pinned.id.startswith("fake/") else f"fake/{pinned.id}", "revision": None}
            for pinned in pins
            if pinned.is_fake
        ],
        notes=measured.notes,
        environment=environment,
    )
    parents = [store.manifest(parent.ref) for parent in draft.parents]
    with store.lock(f"eval-{draft.name}-{draft.fingerprint[:DIGITS]}", wait=True):
        existing = find(store, draft)
        if existing and existing.failed <= measured.failed:
            return existing
        version = next_ref(store, draft).partition("@")[2]
        draft = msgspec.structs.replace(draft, version=version, tables={"default": table})
        content = Tables(draft.tables, {"default": frame(table, rows)})
        manifest = publish(store, draft, content, record, parents, _render)
        if existing:
            store.discard(existing.ref)
    return read(manifest)


def _render(manifest: Manifest) -> dict[str, bytes]:
    from ..cards import card

    result = read(manifest)
    text = card.page("eval.md.jinja", result=result, ran=list(_environment_rows(result.environment)))
    head = {"pretty_name": manifest.ref, "tags": ["evaluation", "almost_data"], **viewer(manifest)}
    return {"README.md": with_front_matter(head, text).encode()}


def _environment_rows(environment: Mapping[str, Any], who: str = "") -> Iterator[tuple[str, str]]:
    """Versions, devices and dtypes, with whose they are."""
    for name, value in environment.items():
        if name == "packages":
            yield from value.items()
        elif isinstance(value, dict):
            yield from _environment_rows(value, name)
        elif name in ("python", "engine", "device", "dtype"):
            yield f"{who}: {name}" if who and who != name else name, str(value)


def next_ref(store: Store, draft: Manifest) -> str:
    """The reference under which another attempt at an evaluation would be saved."""
    existing = find(store, draft)
    attempt = int(existing.ref.split(".")[1]) + 1 if existing else 0
    return draft.ref.replace(".0.0-", f".{attempt}.0-", 1)


def results(store: Store) -> list[Result]:
    """Every result in the store. Damaged artifacts are left out: `list` names them."""
    contents = (store.read(ref) for ref in store.refs())
    return read_all(content for content in contents if isinstance(content, Manifest))


def _table(measured: Measurement, lines: list[dict[str, Any]]) -> tuple[Table, list[dict[str, Any]]]:
    """Columns and rows of the items, lists as JSON texts; of the lines, where there are no items."""
    rows, key = json_data(measured.items), measured.key
    if not rows:
        rows, key = lines, ("who", "metric", "subset")
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        kind = next((kind for types, kind in _TYPES if all(type(value) in types for value in values)), None)
        if kind is None or not values:
            kind = "string"
            rows = [row | {name: _text(row[name])} for row in rows]
        columns.append(Column(name, kind, "", values[0] if kind != "string" and values else None))
    return Table("An item, and what came of it.", key, tuple(columns), split_key=None), rows


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
