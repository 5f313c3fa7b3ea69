"""Import queries, responses or preferences from a file, a folder or a Hub dataset, checked row by row.

A mistake in the file is an InputError that names file, line and fix; nothing is written then. Rows
that are well-formed but cannot be used (duplicates, empty text) are dropped with a reason and kept.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain as chained
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ..builders import queries
from ..builders import responses as responses_
from ..builders.comparisons import imported
from ..builders.responses import check_names, finish
from ..datasets.builder import Builder, Built, prompt_id, reply_id
from ..datasets.filters import Filter, chain
from ..datasets.manifest import BuilderId, Manifest, Unit
from ..datasets.tables import frame
from ..errors import InputError
from ..models.chat import Messages
from ..readers import files
from ..readers.conversations import REASONS, Unusable, read_reply
from ..readers.files import TABLE_SUFFIXES, WHOLE, HubPart
from ..readers.formats import Row
from ..readers.preferences import read_preferences
from ..readers.queries import COLUMNS, PromptColumn, find_column
from ..store.publish import existing, new_manifest
from ..store.store import Store
from . import presets
from .build import publish_dataset

QUERY_SUFFIXES = (".txt", *TABLE_SUFFIXES)
SAMPLE = 200
"""Rows by which columns are told."""


@dataclass(frozen=True)
class Options:
    """What a user says of a source besides its name."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """What a column holds -> its name; decides where it is given."""
    part: HubPart = WHOLE
    """Config and split of a Hub dataset."""
    card: presets.CardConfig = field(default_factory=presets.CardConfig)


@dataclass(frozen=True)
class _Source:
    """A source that was opened: its rows are read once."""

    name: str
    record: dict[str, str]
    options: Options
    columns: list[str]
    rows: Iterator[Row]


def import_preferences(store: Store, file: str, version: str, options: Options = Options()) -> Manifest:
    """`comparisons@version` from preferences in any layout of `readers.layouts`, or by named columns."""
    record = files.record(file, TABLE_SUFFIXES, options.part)
    preferences = read_preferences(file, options.columns, options.part)
    settings = {"layout": preferences.layout.name, "columns": dict(options.columns)}
    builder = imported.BUILDER
    draft = _draft(builder, version, record, settings, options)
    with store.lock(draft.ref):
        if present := existing(store, draft):
            return present
        with tempfile.TemporaryDirectory(prefix=".import-", dir=store.root) as folder:
            built = imported.build(preferences, Path(folder), file)
            return publish_dataset(store, builder, draft, [], built, {})


def import_queries(store: Store, file: str, version: str, options: Options = Options()) -> Manifest:
    """`queries@version` from a text file (one a line), or a table with a column of prompts.

    A prompt is text, or a list of turns that ends in the user's.
    """
    source = _open(file, QUERY_SUFFIXES, COLUMNS, options)
    column = find_column(source.columns, file, options.columns.get("query"))
    accepted: dict[str, dict[str, Any]] = {}
    rejected: list[dict[str, Any]] = []
    rows = 0
    for number, row in enumerate(source.rows):
        rows += 1
        prompt, reason = _prompt(column, row)
        query_id = prompt_id(prompt)
        values = {"query_id": query_id, "source": "import"}
        if not reason and query_id not in accepted:
            accepted[query_id] = values | {"prompt": prompt}
            continue
        query = _as_text(row[1][column.name] if reason else prompt)
        nearest = {"nearest": None, "score": None} if reason else {"nearest": query, "score": 1.0}
        dropped = {"query": query, "candidate": number, "reason": reason or "duplicate"}
        rejected.append(values | nearest | dropped)
    if not accepted:
        raise InputError(f"{file}: no query in it: {_why_none(rejected)}")
    tables = {"default": frame(queries.TABLES["default"], list(accepted.values()))}
    if rejected:
        tables["rejected"] = frame(queries.TABLES["rejected"], rejected)
    filters = _filters(
        rejected,
        "query",
        empty="The row has no text.",
        duplicate="An earlier row has the same text; a repeated prompt is one query.",
    )
    counts = {rule.name: sum(row["reason"] == rule.name for row in rejected) for rule in filters}
    prompts = [row["prompt"] for row in accepted.values()]
    characters = sum(len(turn["content"]) for prompt in prompts for turn in prompt)
    diagnostics = {
        "several_turns": sum(len(prompt) > 1 for prompt in prompts) / len(prompts),
        "mean_prompt_chars": characters / len(prompts),
    }
    built = Built(tables, chain("import", filters, rows, counts), diagnostics)
    return _publish_once(store, queries.BUILDER, version, source, {}, built)


def import_responses(
    store: Store, file: str, ladder: list[str], version: str, options: Options = Options()
) -> Manifest:
    """`responses@version` from a table, wide or long.

    Wide rows have a prompt and one column per responder of `ladder`; long rows have a prompt, `responder` and
    `response`. `ladder` names the responders, best first. A reply is text, or a turn of the assistant.
    """
    _check_ladder(ladder)
    source = _open(file, TABLE_SUFFIXES, COLUMNS | {*ladder, "responder", "response"}, options)
    is_long = {"responder", "response"} <= set(source.columns)
    prompts = [name for name in source.columns if name not in (*ladder, "responder", "response")]
    column = find_column(prompts, file, options.columns.get("prompt"), "prompt")
    for name in [] if is_long else ladder:
        if name not in source.columns:
            columns = ", ".join(sorted(source.columns))
            raise InputError(f"{file}: no column {name!r}, a responder of import.ladder; it has: {columns}")
    accepted: dict[str, list[dict[str, Any]]] = {name: [] for name in ladder}
    rejected: list[dict[str, Any]] = []
    responders: set[str] = set()
    reply_ids: set[str] = set()
    for response in _responses(source.rows, column, ladder, is_long):
        responders.add(response["responder"])
        response["reason"] = response["reason"] or (
            "duplicate" if response["reply_id"] in reply_ids else None
        )
        if response["reason"]:
            rejected.append(response)
        else:
            reply_ids.add(response["reply_id"])
            accepted[response["responder"]].append(response)
    if absent := next((name for name in ladder if name not in responders), None):
        raise InputError(f"{file}: no row of responder {absent!r}, which import.ladder names")
    if not reply_ids:
        raise InputError(f"{file}: no usable response in it: {_why_none(rejected)}")
    table = responses_.TABLES["default"]
    frames = {
        name: frame(table, [{column: row[column] for column in table.names} for row in rows])
        for name, rows in accepted.items()
    }
    filters = _filters(
        rejected,
        "response",
        not_in_ladder="The row's responder is not one that the ladder names.",
        no_prompt="The row's prompt is empty.",
        missing="The responder has no text for this prompt.",
        duplicate="An earlier row has the same prompt and responder.",
    )
    built = finish(frames, rejected, filters, "import")
    return _publish_once(store, responses_.BUILDER, version, source, {"ladder": ladder}, built)


def _check_ladder(ladder: list[str]) -> None:
    check_names(ladder)
    if clash := {"prompt", "responder", "response"} & set(ladder):
        raise InputError(f"import.ladder: {min(clash)!r} is a column of its own: name responders")
    if len(ladder) < 2:
        raise InputError("import.ladder: name at least two responders, best first")


def _open(file: str, suffixes: tuple[str, ...], needed: frozenset[str], options: Options) -> _Source:
    """A source of which the columns are known. Raises InputError where it has no row."""
    record = files.record(file, suffixes, options.part)
    needed = needed | set(options.columns.values())
    rows = files.read_rows(file, suffixes, needed.__contains__, part=options.part)
    sample = list(islice(rows, SAMPLE))
    if not sample:
        raise InputError(f"{file}: no row in it")
    names = [*files.column_names(file, suffixes), *(name for _, row in sample for name in row)]
    return _Source(file, record, options, list(dict.fromkeys(names)), chained(sample, rows))


def _prompt(column: PromptColumn, row: Row) -> tuple[Messages, str | None]:
    """A row's prompt, and why it cannot be used, or None."""
    try:
        turns = column.read(*row)
    except Unusable as error:
        return (), "empty" if error.reason == "no_prompt" else error.reason
    return tuple({"role": turn["role"], "content": turn["content"].strip()} for turn in turns), None


def _as_text(prompt: Any) -> str:
    """A prompt, or a cell that is none, as text: a single turn's text, else JSON."""
    if isinstance(prompt, tuple) and len(prompt) == 1:
        return str(prompt[0]["content"])
    return (
        prompt.strip() if isinstance(prompt, str) else msgspec.json.encode(prompt).decode() if prompt else ""
    )


def _responses(
    rows: Iterator[Row], column: PromptColumn, ladder: list[str], is_long: bool
) -> Iterator[dict[str, Any]]:
    """Each response in the file, with its row's number, and the reason why it cannot be used, or None."""
    for number, row in enumerate(rows):
        prompt, reason = _prompt(column, row)
        for name in ["response"] if is_long else ladder:
            responder = _text(row, "responder") if is_long else name
            text, problem = _reply(row, name)
            if responder not in ladder:
                drop_reason: str | None = "not_in_ladder"
            else:
                drop_reason = ("no_prompt" if reason == "empty" else reason) or problem
            query_id = prompt_id(prompt)
            yield {
                "query_id": query_id,
                "prompt": prompt,
                "responder": responder,
                "rank": ladder.index(responder) if responder in ladder else None,
                "response": text,
                "finish_reason": None,
                "reply_id": reply_id(query_id, responder),
                "row": number,
                "reason": drop_reason,
            }


def _reply(row: Row, column: str) -> tuple[str | None, str | None]:
    """A reply's text, and why it cannot be used, or None."""
    place, values = row
    if column not in values:
        raise InputError(f"{place}: no column {column!r}; columns here: {', '.join(sorted(values))}")
    try:
        text = read_reply(values[column], _ANY_PROMPT).reply.strip()
    except Unusable as error:
        if error.reason == "not_text":
            kind = type(values[column]).__name__
            raise InputError(f"{place}: {column} must be text, not {kind}: write a string") from None
        return None, "missing" if error.reason == "no_reply" else error.reason
    return text, None if text else "missing"


_ANY_PROMPT: Messages = ({"role": "user", "content": "?"},)
"""Stands for the prompt where a reply is read by itself; a whole conversation is no reply to it."""


def _text(row: Row, column: str) -> str:
    place, values = row
    value = values.get(column)
    if not isinstance(value, str):
        raise InputError(f"{place}: {column} must be text, not {type(value).__name__}: write a string")
    return value


def _filters(rejected: list[dict[str, Any]], unit: Unit, **descriptions: str) -> list[Filter]:
    """The rules of an import that always hold, and those by which a row was rejected."""
    sentences = {**REASONS, **descriptions}
    names = dict.fromkeys([*descriptions, *(row["reason"] for row in rejected)])
    return [Filter(name, unit, sentences[name], "almost_data") for name in names]


def _why_none(rejected: list[dict[str, Any]]) -> str:
    reasons = dict.fromkeys(row["reason"] for row in rejected)
    return f"every row is rejected ({', '.join(reasons)})"


def _draft(
    builder: Builder, version: str, record: dict[str, str], settings: dict[str, Any], options: Options
) -> Manifest:
    config = {"settings": settings, "file": record, "card": msgspec.to_builtins(options.card)}
    made_by = BuilderId(f"import-{builder.name}", 1)
    return new_manifest("dataset", f"{builder.name}@{version}", made_by, config, [], builder.tables)


def _publish_once(
    store: Store, builder: Builder, version: str, source: _Source, settings: dict[str, Any], built: Built
) -> Manifest:
    named = {"columns": dict(source.options.columns)} if source.options.columns else {}
    draft = _draft(builder, version, source.record, settings | named, source.options)
    with store.lock(draft.ref):
        return existing(store, draft) or publish_dataset(store, builder, draft, [], built, {})
