"""Prompts that a benchmark has too, by the runs of words that they share."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from ..errors import InputError
from .overlap import Numbers, Places, arrow, grams, words

RUN, LEAST = 8, 4
"""Words in a row that two prompts must share; a prompt of fewer than LEAST words is not compared."""
COLUMNS = ("prompt", "question", "query", "input", "instruction", "text", "messages")
"""Where a benchmark's prompt may stand, in letters of any case: the first of these that is not empty."""
CHUNK = 100_000
"""Prompts whose words are in memory at once."""


def contaminated(prompts: pl.DataFrame, benchmarks: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Per benchmark, how many of its prompts and of our queries (`query_id`, `prompt`) overlap, and which.

    Two prompts overlap where they share 8 words in a row, case and punctuation aside. A prompt of 4 to
    7 words counts as one run, which only a prompt of the same words shares; one of fewer words is not
    compared. No text of a benchmark is returned: what is meant for evaluation must not enter a card.
    """
    names = sorted(benchmarks)
    texts = pl.Series("text", [text for name in names for text in benchmarks[name]], pl.String)
    owner = np.repeat(np.arange(len(names)), [len(benchmarks[name]) for name in names])
    vocabulary, counts = words(texts)
    vocabulary = vocabulary.unique(maintain_order=True)
    every, rows = _runs(texts, vocabulary)
    theirs, places = np.unique(every, return_inverse=True)
    has = np.zeros((len(names), len(theirs) + 1), bool)
    has[owner[rows], places] = True
    seen = np.zeros(len(theirs) + 1, bool)
    ours: list[set[str]] = [set() for _ in names]
    for start in range(0, len(prompts), CHUNK):
        some = prompts[start : start + CHUNK]
        runs, at = _runs(some["prompt"], vocabulary)
        shared = np.isin(runs, theirs)
        which, at = np.searchsorted(theirs, runs[shared]), at[shared]
        seen[which] = True
        for number, mine in enumerate(ours):
            mine.update(some["query_id"][np.unique(at[has[number, which]])])
    hit = owner[np.unique(rows[seen[places]])]
    return [
        {
            "benchmark": name,
            "n": RUN,
            "prompts": len(benchmarks[name]),
            "compared": int((counts[owner == number] >= LEAST).sum()),
            "overlapping_prompts": int((hit == number).sum()),
            "queries": prompts["query_id"].n_unique(),
            "overlapping_queries": len(ours[number]),
            "query_ids": sorted(ours[number])[:5],
        }
        for number, name in enumerate(names)
    ]


def read_benchmark(path: str) -> tuple[list[str], str]:
    """The prompts of a benchmark's file, and its sha256. Raises InputError.

    `.txt` has one a line. `.jsonl`, `.json` (a list), `.csv` and `.parquet` have them in the first
    column of COLUMNS that is not empty, as text or as a list of messages, of which the user's turns are
    read; the items of a `.json` list may be texts themselves.
    """
    file = Path(path)
    if file.suffix not in _READERS:
        raise InputError(f"{path}: cannot tell its format: name it one of {', '.join(_READERS)}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}: name a benchmark's file") from None
    prompts = []
    for place, row in _READERS[file.suffix](path, data):
        prompts += [text.strip() for text in _texts(place, row) if text.strip()]
    if not prompts:
        raise InputError(f"{path}: no prompt in it")
    return prompts, hashlib.sha256(data).hexdigest()


def _runs(texts: pl.Series, vocabulary: pl.Series) -> tuple[Numbers, Places]:
    """The runs of words of each text, and the text each is in; words not of the vocabulary match nothing."""
    import pyarrow.compute as pc

    every, counts = words(texts)
    ids = pc.fill_null(pc.index_in(arrow(every), arrow(vocabulary)), -1).to_numpy().astype(np.int64)
    ids = np.where(ids < 0, len(vocabulary) + np.arange(len(ids)), ids)
    pieces = [grams(ids, counts, n, counts == n) for n in range(LEAST, RUN)]
    pieces.append(grams(ids, counts, RUN, counts >= RUN))
    return np.concatenate([runs for runs, _ in pieces]), np.concatenate([rows for _, rows in pieces])


_Rows = Iterator[tuple[str, Any]]
"""Each row of a file with its place, for an error message."""


def _lines(path: str, data: bytes) -> Iterator[tuple[str, str]]:
    # Only "\n" ends a line: str.splitlines would also cut at characters that JSON allows inside a string.
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: not UTF-8 text ({error.reason}): save it as UTF-8") from None
        if text.strip():
            yield f"{path}:{number}", text


def _text(path: str, data: bytes) -> _Rows:
    return _lines(path, data)


def _jsonl(path: str, data: bytes) -> _Rows:
    for place, line in _lines(path, data):
        try:
            yield place, msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.ValidationError:
            raise InputError(f"{place}: not a JSON object: write one {{...}} a line") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"{place}: broken JSON ({error}): write one {{...}} a line") from None


def _json(path: str, data: bytes) -> _Rows:
    try:
        rows = msgspec.json.decode(data, type=list[str | dict[str, Any]])
    except msgspec.ValidationError:
        raise InputError(f"{path}: not a list of texts or of objects: write [...], or JSONL") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON ({error}): write [...], or JSONL") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", row


def _csv(path: str, data: bytes) -> _Rows:
    list(_lines(path, data))  # for the line of a byte that is no text
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    usual = csv.field_size_limit(min(len(data) + 1, 2**31 - 1))  # of the whole process; a C long
    try:
        rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise InputError(
            f"{path}:{reader.reader.line_num}: broken CSV ({error}): mend it, or give JSONL"
        ) from None
    finally:
        csv.field_size_limit(usual)
    yield from rows


def _parquet(path: str, data: bytes) -> _Rows:
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as Parquet ({why}): write it anew, or give JSONL") from None
    frame = frame.select(_named(path, frame.columns))
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        yield f"{path}: row {number}", row


_READERS = {".txt": _text, ".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}


def _texts(place: str, row: Any) -> list[str]:
    """The prompt of a row, or each of its user's turns."""
    if isinstance(row, str):
        return [row]
    there = _named(place, row)
    name, value = next(((name, row[name]) for name in there if row[name]), (there[0], ""))
    if isinstance(value, str):
        return [value]
    try:
        turns = msgspec.convert(value, list[_Message])
    except msgspec.ValidationError:
        raise InputError(f"{place}: {name} must be text or a list of {{role, content}}") from None
    return [turn.content for turn in turns if turn.role == "user"]


def _named(place: str, names: Iterable[str | None]) -> list[str]:
    """Those of COLUMNS that are there, in that order; csv gives what has no header the name None."""
    found = [(COLUMNS.index(name.lower()), name) for name in names if name and name.lower() in COLUMNS]
    if not found:
        raise InputError(f"{place}: no column for the prompt: name it one of {', '.join(COLUMNS)}")
    return [name for _, name in sorted(found)]


class _Message(msgspec.Struct):
    role: str
    content: str
