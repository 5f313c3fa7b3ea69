"""Import queries or responses from a file or a Hub dataset, checked row by row.

A mistake in the file is an InputError that names file, line and fix; nothing is written then. Rows
that are well-formed but cannot be used (duplicates, empty text) are dropped with a reason and kept.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from ..builders import queries
from ..builders import responses as responses_
from ..builders.responses import check_names, finish
from ..datasets.builder import Builder, Built, reply_id, text_id
from ..datasets.filters import Filter, chain
from ..datasets.manifest import BuilderId, Manifest, Unit
from ..datasets.tables import frame
from ..errors import InputError
from ..readers import files
from ..readers.files import Row
from ..store.publish import existing, new_manifest
from ..store.store import Store
from . import presets
from .build import publish_dataset
from .command import shown_command

TABLE_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
QUERY_SUFFIXES = (".txt", *TABLE_SUFFIXES)
QUERY_COLUMNS = ("query", "prompt", "question", "text")
"""Names of a query's column, in our own files and those of others."""


def import_queries(store: Store, file: str, version: str, card: presets.CardConfig | None = None) -> Manifest:
    """`queries@version` from a text file (one a line), or JSONL, Parquet or a Hub dataset.

    Its column is the first of `QUERY_COLUMNS` that every row has.
    """
    rows, record = _read(file, QUERY_SUFFIXES)
    column = next((name for name in QUERY_COLUMNS if all(name in row for _, row in rows)), "query")
    accepted: dict[str, dict[str, Any]] = {}
    rejected: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        query = _text(row, column).strip()
        query_id = text_id(query)
        values = {"query_id": query_id, "query": query, "source": "import"}
        if query and query_id not in accepted:
            accepted[query_id] = values
            continue
        nearest = {"nearest": query, "score": 1.0} if query else {"nearest": None, "score": None}
        rejected.append(values | nearest | {"candidate": number, "reason": "duplicate" if query else "empty"})
    if not accepted:
        raise InputError(f"{file}: no query in it: every row is empty")
    tables = {"default": frame(queries.TABLES["default"], list(accepted.values()))}
    if rejected:
        tables["rejected"] = frame(queries.TABLES["rejected"], rejected)
    filters = [
        _filter("empty", "query", "The row has no text."),
        _filter("duplicate", "query", "An earlier row has the same text; a repeated prompt is one query."),
    ]
    dropped = {rule.name: sum(row["reason"] == rule.name for row in rejected) for rule in filters}
    built = Built(tables, chain("import", filters, len(rows), dropped), {})
    return _publish(store, queries.BUILDER, version, record, {}, card, built)


def import_responses(
    store: Store, file: str, ladder: list[str], version: str, card: presets.CardConfig | None = None
) -> Manifest:
    """`responses@version` from JSONL, Parquet or a Hub dataset, wide or long.

    Wide rows have `prompt` and one text column per responder of `ladder`; long rows have `prompt`,
    `responder` and `response`. `ladder` names the responders, best first.
    """
    _check_ladder(ladder)
    rows, record = _read(file, TABLE_SUFFIXES)
    columns = {name for _, row in rows for name in row}
    is_long = {"responder", "response"} <= columns
    for name in ["prompt"] if is_long else ["prompt", *ladder]:
        if name not in columns:
            role = "" if name == "prompt" else ", a responder of import.ladder"
            raise InputError(f"{file}: no column {name!r}{role}; it has: {', '.join(sorted(columns))}")
    if is_long:
        responders = {_text(row, "responder") for row in rows}
        for name in ladder:
            if name not in responders:
                raise InputError(f"{file}: no row of responder {name!r}, which import.ladder names")
    accepted: dict[str, list[dict[str, Any]]] = {name: [] for name in ladder}
    rejected: list[dict[str, Any]] = []
    reply_ids: set[str] = set()
    for number, prompt, responder, text in _responses(rows, ladder, is_long):
        query_id = text_id(prompt)
        response: dict[str, Any] = {
            "query_id": query_id,
            "prompt": prompt,
            "responder": responder,
            "rank": ladder.index(responder) if responder in ladder else None,
            "response": text,
            "finish_reason": None,
            "reply_id": reply_id(query_id, responder),
        }
        if drop_reason := _drop_reason(response, reply_ids):
            rejected.append(response | {"row": number, "reason": drop_reason})
        else:
            reply_ids.add(response["reply_id"])
            accepted[responder].append(response)
    if not reply_ids:
        raise InputError(f"{file}: no usable response in it: every prompt or response is empty")
    frames = {name: frame(responses_.TABLES["default"], responses) for name, responses in accepted.items()}
    filters = [
        _filter("not_in_ladder", "response", "The row's responder is not one that the ladder names."),
        _filter("no_prompt", "response", "The row's prompt is empty."),
        _filter("missing", "response", "The responder has no text for this prompt."),
        _filter("duplicate", "response", "An earlier row has the same prompt and responder."),
    ]
    built = finish(frames, rejected, filters, "import")
    return _publish(store, responses_.BUILDER, version, record, {"ladder": ladder}, card, built)


def _check_ladder(ladder: list[str]) -> None:
    check_names(ladder)
    if clash := {"prompt", "responder", "response"} & set(ladder):
        raise InputError(f"import.ladder: {min(clash)!r} is a column of its own: name responders")
    if len(ladder) < 2:
        raise InputError("import.ladder: name at least two responders, best first")


def _read(file: str, suffixes: tuple[str, ...]) -> tuple[list[Row], dict[str, str]]:
    """All rows of a file or Hub dataset, and its identity. Raises InputError for a file without rows."""
    record = files.record(file, suffixes)
    rows = list(files.read_rows(file, suffixes))
    if not rows:
        raise InputError(f"{file}: no row in it")
    return rows, record


def _responses(
    rows: list[Row], ladder: list[str], is_long: bool
) -> Iterator[tuple[int, str, str, str | None]]:
    """Row number, prompt, responder and text (None for a missing one) of each response in the file."""
    for number, row in enumerate(rows):
        for column in ["response"] if is_long else ladder:
            text = None if row[1].get(column) is None else _text(row, column).strip()
            responder = _text(row, "responder") if is_long else column
            yield number, _text(row, "prompt").strip(), responder, text


def _drop_reason(response: dict[str, Any], reply_ids: set[str]) -> str | None:
    """Why a response cannot be used; None where it can."""
    if response["rank"] is None:
        return "not_in_ladder"
    if not response["prompt"]:
        return "no_prompt"
    if not response["response"]:
        return "missing"
    return "duplicate" if response["reply_id"] in reply_ids else None


def _text(row: Row, column: str) -> str:
    place, values = row
    if column not in values:
        raise InputError(f"{place}: no column {column!r}; columns here: {', '.join(sorted(values))}")
    value = values[column]
    if not isinstance(value, str):
        raise InputError(f"{place}: {column} must be text, not {type(value).__name__}: write a string")
    return value


def _filter(name: str, unit: Unit, description: str) -> Filter:
    return Filter(name, unit, description, "almost_data")


def _publish(
    store: Store,
    builder: Builder,
    version: str,
    record: dict[str, str],
    settings: dict[str, Any],
    card: presets.CardConfig | None,
    built: Built,
) -> Manifest:
    card_config = msgspec.to_builtins(card or presets.CardConfig())
    config = {"settings": settings, "file": record, "card": card_config}
    made_by = BuilderId(f"import-{builder.name}", 1)
    draft = new_manifest("dataset", f"{builder.name}@{version}", made_by, config, [], builder.tables)
    with store.lock(draft.ref):
        if present := existing(store, draft):
            return present
        command = shown_command(["import", builder.name, record["name"], "--version", version])
        return publish_dataset(store, builder, draft, [], built, {"command": command})
