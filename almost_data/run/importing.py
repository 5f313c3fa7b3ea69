"""Bring your own: queries or responses from a file or a Hub dataset, checked row by row.

A mistake in the file is an InputError that names file, line and mend; nothing is written then. Rows
that are well-formed but cannot be used (duplicates, empty text) are dropped with a reason and kept.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from ..builders.responses import check_names, finish
from ..datasets import recorded, schema
from ..datasets.builder import Built, reply_id, text_id
from ..datasets.filters import Filter, chain
from ..datasets.manifest import Builder, Manifest
from ..errors import InputError
from ..store import store
from . import pipeline, presets

SUFFIXES = (".txt", ".jsonl", ".ndjson", ".parquet")


COLUMNS = ("query", "prompt", "question", "text")
"""What queries stand under, in files of our own and of others."""


@dataclass(frozen=True)
class Source:
    """Rows of a file or a Hub dataset."""

    name: str
    """As the user gave it."""
    rows: list[dict[str, Any]]
    record: dict[str, str]
    """What the manifest keeps: name and sha256 of a file, or id and commit of a Hub dataset."""
    lines: list[int] | None
    """Line of each row in a text file; None for Parquet and Hub rows, which have numbers."""

    def place(self, row: int) -> str:
        """Where a row stands, for an error message."""
        return f"{self.name}:{self.lines[row]}" if self.lines else f"{self.name}: row {row + 1}"


def import_queries(
    into: store.Store, file: str, version: str, card: presets.CardConfig | None = None
) -> Manifest:
    """`queries@version` from a text file (one a line), or JSONL, Parquet or a Hub dataset.

    Its column is the first of `COLUMNS` that every row has.
    """
    source = read(file, text_column="query")
    column = next((name for name in COLUMNS if all(name in row for row in source.rows)), "query")
    accepted: dict[str, str] = {}
    rejected: list[dict[str, Any]] = []
    for number in range(len(source.rows)):
        query = _text(source, number, column).strip()
        query_id = text_id(query)
        reason = "empty" if not query else "duplicate" if query_id in accepted else None
        if reason is None:
            accepted[query_id] = query
        else:
            row = {
                "query_id": query_id,
                "query": query,
                "source": "import",
                "candidate": number,
                "reason": reason,
            }
            rejected.append(row | {"nearest": query if query else None, "score": 1.0 if query else None})
    if not accepted:
        raise InputError(f"{file}: no query in it: every row is empty")
    rows = [{"query_id": q, "query": text, "source": "import"} for q, text in accepted.items()]
    tables = {"default": schema.frame("queries", "default", rows)}
    if rejected:
        tables["rejected"] = schema.frame("queries", "rejected", rejected)
    filters = [
        _filter("empty", "query", "The row has no text."),
        _filter(
            "duplicate", "query", "The same text stands in an earlier row; a prompt that occurs twice is one."
        ),
    ]
    dropped = {f.name: sum(row["reason"] == f.name for row in rejected) for f in filters}
    built = Built(tables, chain("import", filters, len(source.rows), dropped), {})
    return _publish(into, "queries", version, source, {}, card, built)


def import_responses(
    into: store.Store, file: str, ladder: list[str], version: str, card: presets.CardConfig | None = None
) -> Manifest:
    """`responses@version` from JSONL, Parquet or a Hub dataset, wide or long.

    Wide rows have `prompt` and one text column per responder of `ladder`; long rows have `prompt`,
    `responder` and `response`. `ladder` names the responders, best first.
    """
    check_names(ladder)
    if clash := {"prompt", "responder", "response"} & set(ladder):
        raise InputError(f"--ladder: {min(clash)!r} is a column of its own: name the responders' columns")
    if len(ladder) < 2:
        raise InputError("--ladder: name at least two responders, best first, with commas between them")
    source = read(file)
    columns = {name for row in source.rows for name in row}
    long = {"responder", "response"} <= columns
    _require(
        columns,
        ["prompt", *([] if long else ladder)],
        file,
        "a responder named by --ladder" if not long else "",
    )
    if long:
        named = {_text(source, number, "responder") for number in range(len(source.rows))}
        missing = [name for name in ladder if name not in named]
        if missing:
            raise InputError(f"{file}: no row of responder {missing[0]!r}, which --ladder names")
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ladder}
    rejected: list[dict[str, Any]] = []
    seen: set[str] = set()
    row: dict[str, Any]
    for number, responder, text in _cells(source, ladder, long):
        prompt = _text(source, number, "prompt").strip()
        query_id = text_id(prompt)
        row = {
            "query_id": query_id,
            "prompt": prompt,
            "responder": responder,
            "rank": ladder.index(responder) if responder in ladder else None,
            "response": text,
            "finish_reason": None,
            "reply_id": reply_id(query_id, responder),
        }
        reason = _unusable(row, seen)
        if reason:
            rejected.append(row | {"row": number, "reason": reason})
        else:
            seen.add(row["reply_id"])
            tables[responder].append(row)
    filters = [
        _filter("not_in_ladder", "response", "The row's responder is not one that the ladder names."),
        _filter("no_prompt", "response", "The row's prompt is empty."),
        _filter("missing", "response", "The responder has no text for this prompt."),
        _filter("duplicate", "response", "An earlier row has the same prompt and responder."),
    ]
    if not seen:
        raise InputError(f"{file}: no usable response in it: every prompt or response is empty")
    frames = {name: schema.frame("responses", name, rows) for name, rows in tables.items()}
    built = finish(frames, rejected, filters, "import")
    return _publish(into, "responses", version, source, {"ladder": ladder}, card, built)


def read(file: str, text_column: str | None = None) -> Source:
    """The rows of a text, JSONL or Parquet file, or of a Hub dataset. Raises InputError."""
    path = Path(file)
    if not path.exists() and path.suffix not in SUFFIXES and store.HUB_ID.fullmatch(file):
        return _read_hub(file)
    if not path.is_file():
        raise InputError(f"{file}: {'not a file: give one file' if path.exists() else 'no such file'}")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{file}: cannot tell its format: name it one of {', '.join(SUFFIXES)}")
    try:
        record = {"name": path.name, "sha256": _sha256(path)}
        if path.suffix == ".parquet":
            rows, lines = _read_parquet(path), None
        elif path.suffix == ".txt":
            if text_column is None:
                raise InputError(f"{file}: a text file has no columns: give JSONL or Parquet")
            rows, lines = _read_text(path, text_column)
        else:
            rows, lines = _read_jsonl(path)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    if not rows:
        raise InputError(f"{file}: no row in it")
    return Source(file, rows, record, lines)


def _read_text(path: Path, column: str) -> tuple[list[dict[str, Any]], list[int]]:
    numbered = [(n, line) for n, line in enumerate(_decoded(path), start=1) if line.strip()]
    return [{column: line} for _, line in numbered], [n for n, _ in numbered]


def _read_jsonl(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    rows, lines = [], []
    for number, line in enumerate(_decoded(path), start=1):
        if not line.strip():
            continue
        try:
            rows.append(decoder.decode(line))
        except msgspec.ValidationError:
            raise InputError(f"{path}:{number}: not a JSON object: write one {{...}} a line") from None
        except msgspec.DecodeError as error:
            raise InputError(f"{path}:{number}: broken JSON: {error}") from None
        lines.append(number)
    return rows, lines


def _decoded(path: Path) -> Iterator[str]:
    # Only "\n" ends a line: str.splitlines would also cut at characters that JSON allows inside a string.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{path}:{number}: not UTF-8 text: {error.reason}") from None


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return pl.read_parquet(path, glob=False).rows(named=True)
    except pl.exceptions.PolarsError as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as Parquet ({why}): write it anew, or give JSONL") from None


def _read_hub(name: str) -> Source:
    import datasets
    from huggingface_hub import HfApi

    repo, _, revision = name.partition("@")
    try:
        commit = HfApi().dataset_info(repo, revision=revision or None).sha
        found = datasets.load_dataset(repo, revision=commit)
    except Exception as error:  # network, Hub client and file readers each raise kinds of their own
        why = type(error).__name__  # their messages may quote addresses and headers
        raise InputError(
            f"{name}: no such file, and not to be had from the Hub ({why}): check name and login"
        ) from None
    rows = [row for split in found.values() for row in split.to_list()]
    if not rows:
        raise InputError(f"{name}: no row in it")
    return Source(name, rows, {"name": repo, "revision": str(commit)}, None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cells(source: Source, ladder: list[str], long: bool) -> Iterator[tuple[int, str, str | None]]:
    """Row number, responder and stripped text (None where there is none) of each response in the file."""
    for number, row in enumerate(source.rows):
        for column in ["response"] if long else ladder:
            missing = row.get(column) is None
            text = None if missing else _text(source, number, column).strip()
            yield number, _text(source, number, "responder") if long else column, text


def _unusable(row: dict[str, Any], seen: set[str]) -> str | None:
    if row["rank"] is None:
        return "not_in_ladder"
    if not row["prompt"]:
        return "no_prompt"
    if not row["response"]:
        return "missing"
    return "duplicate" if row["reply_id"] in seen else None


def _text(source: Source, row: int, column: str) -> str:
    values = source.rows[row]
    if column not in values:
        raise InputError(
            f"{source.place(row)}: no column {column!r}; columns here: {', '.join(sorted(values))}"
        )
    value = values[column]
    if not isinstance(value, str):
        raise InputError(
            f"{source.place(row)}: {column} must be text, not {type(value).__name__}: write a string"
        )
    return value


def _require(columns: set[str], wanted: list[str], file: str, why: str) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        reason = f" ({why})" if why and missing[0] != "prompt" else ""
        raise InputError(f"{file}: no column {missing[0]!r}{reason}; it has: {', '.join(sorted(columns))}")


def _filter(name: str, unit: Any, description: str) -> Filter:
    return Filter(name, unit, description, "almost_data")


def _publish(
    into: store.Store,
    name: str,
    version: str,
    source: Source,
    settings: dict[str, Any],
    card: presets.CardConfig | None,
    built: Built,
) -> Manifest:
    config = {
        "settings": settings,
        "file": source.record,
        "card": msgspec.to_builtins(card or presets.CardConfig()),
    }
    draft = pipeline.draft(name, version, Builder(f"import-{name}", 1), config, [])
    with into.lock(draft.ref):
        if into.has(draft.ref):
            there = into.manifest(draft.ref)
            if there.fingerprint == draft.fingerprint:
                return there
            raise InputError(pipeline.conflict(there, draft, wanted=True))
        command = recorded.shown_command(["import", name, source.record["name"], "--version", version])
        return pipeline.publish(into, draft, [], built, {"command": command})
