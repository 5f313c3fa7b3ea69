"""The formats of files: JSONL, JSON, CSV, TSV, text and Parquet, as rows with their place.

Whatever cannot be read is an InputError that names the place and says what to write instead. Rows are
streamed, but for a JSON array, which is read whole.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec

from ..errors import InputError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Text may be packed: `.jsonl.gz`, `.csv.zst`."""
_HEADS = {
    b"\x1f\x8b": "packed by gzip: end its name in .gz",
    b"(\xb5/\xfd": "packed by Zstandard: end its name in .zst",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"PAR1": "Parquet: end its name in .parquet",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"version https://git-lfs": "a Git LFS pointer without the data: run `git lfs pull`",
    b"<!DOCTYPE html": "a web page: download the file itself",
}
"""How files begin that are not what their name says, and what to do."""
_NAMED = {".gz": b"\x1f\x8b", ".zst": b"(\xb5/\xfd", ".parquet": b"PAR1"}
"""Suffix -> the head that it announces."""
MAX_LINE = 64 << 20
"""Bytes of a line; the longest dialogues are far shorter."""
_CONTAINERS = (dict, list)
_KEY = re.compile(r'"\s*:')
"""The end of a key, or text that looks like it."""
_SURROGATE = re.compile(r"\\u[dD][89aAbB]")
"""The first half of a pair, which the decoder takes for the end of the text near it."""

TICK = 256
"""Rows of which progress is told at once."""

Row = tuple[str, dict[str, Any]]
"""Place and values."""
Tick = Callable[[int, int], None]
"""Called with how many rows were read, and of about how many."""


def file_rows(
    path: Path,
    needs: Callable[[str], bool] = lambda column: True,
    tick: Tick = lambda done, total: None,
) -> Iterator[Row]:
    """The rows of a file. Raises InputError."""
    _check_head(path)
    suffix = file_format(path)
    return _parquet_rows(path, needs, tick) if suffix == ".parquet" else _READERS[suffix](path, tick)


def _check_head(path: Path) -> None:
    """Raise InputError for a file that is of another kind than its name says."""
    with path.open("rb") as file:
        head = file.read(max(map(len, _HEADS)))
    for start, problem in _HEADS.items():
        if head.startswith(start) and start != _NAMED.get(path.suffix.lower()):
            raise InputError(f"{path}: {problem}")


def file_format(path: Path) -> str:
    """The suffix that says how a file is read, whether it is packed or not.

    >>> file_format(Path("pairs.jsonl.gz"))
    '.jsonl'
    """
    name = Path(path.stem) if path.suffix.lower() in COMPRESSIONS else path
    return name.suffix.lower()


def _parquet_rows(path: Path, needs: Callable[[str], bool], tick: Tick) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows_read = 0
    try:
        with pq.ParquetFile(path) as file:
            names = list(filter(needs, file.schema_arrow.names))
            if len(set(names)) < len(names):
                raise InputError(f"{path}: two columns have the same name: rename one")
            for batch in file.iter_batches(batch_size=TICK, columns=names):
                for row in batch.to_pylist():
                    rows_read += 1
                    yield f"{path}: row {rows_read}", row
                tick(rows_read, file.metadata.num_rows)
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        fix = "write it again, or give JSONL"
        raise InputError(f"{path}: cannot be read as Parquet ({reason}): {fix}") from None


@contextmanager
def _unpacked(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """The text of an open file, unpacked as it is read."""
    if (compression := COMPRESSIONS.get(path.suffix.lower())) is None:
        yield raw
        return
    import pyarrow as pa

    try:
        yield io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), compression))
    except OSError as error:
        fix = f"download or pack it again, or name it without {path.suffix}"
        raise InputError(f"{path}: cannot be unpacked ({error}): {fix}") from None


def _lines(path: Path, tick: Tick) -> Iterator[tuple[str, str]]:
    """Place and text of each line."""
    # Only "\n" ends a line: str.splitlines would also cut at characters that JSON allows inside a string.
    size, number = path.stat().st_size, 0
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        while line := file.readline(MAX_LINE):
            number += 1
            place = f"{path}:{number}"
            if len(line) == MAX_LINE:
                raise InputError(f"{place}: a line of {MAX_LINE >> 20} MiB or more: end each row with a line")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{place}: not UTF-8 text ({error.reason}): save it as UTF-8") from None
            if text.startswith("\ufeff") and number > 1:
                raise InputError(f"{place}: a byte order mark, as in files that were joined: delete it")
            if "\0" in text:
                raise InputError(f"{place}: a NUL character, as UTF-16 text has: save it as UTF-8")
            yield place, text
            if number % TICK == 0:
                tick(number, number * size // max(1, raw.tell()))
        tick(number, number)


def _text_rows(path: Path, tick: Tick) -> Iterator[Row]:
    lines = ((place, line) for place, line in _lines(path, tick) if line.strip())
    for number, (place, line) in enumerate(lines):
        if number == 0 and _object(line.encode()) is not None:
            raise InputError(f"{place}: a JSON object in a text file: name the file .jsonl")
        yield place, {"text": line}


JSON_FORM = "a list of texts or objects, or JSONL"
NO_ROWS = f"one JSON object, and no list of rows: write {JSON_FORM}"
JSONL_FORM = "one {...} a line, or name a list of them .json"


def _jsonl_rows(path: Path, tick: Tick) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for place, line in _lines(path, tick):
        if line.isspace():
            continue
        try:
            row = decoder.decode(line)
            key = _repeated_key(line, row)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"{place}: {_json_problem(error, line, JSONL_FORM)}") from None
        if key is not None:
            raise InputError(f"{place}: two values of {key!r}: rename one")
        yield place, row


def _repeated_key(text: str, value: Any) -> str | None:
    """A key that an object of JSON has twice, at any depth: the decoder has kept its last value only.

    The text has as many keys as the value, or it has a key twice, or a string that looks like a key.
    """
    keys = _count_keys(value)
    if text.count(":") <= keys or len(_KEY.findall(text)) <= keys:
        return None
    repeated: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        repeated.extend(name for name, count in counts.items() if count > 1)

    json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    return repeated[0] if repeated else None


def _count_keys(value: Any) -> int:
    """The keys of all objects in a decoded value."""
    count, items = (len(value), value.values()) if isinstance(value, dict) else (0, value)
    for item in items:
        if isinstance(item, _CONTAINERS):  # a generator and `sum` take three times as long
            count += _count_keys(item)
    return count


def _json_problem(error: Exception, text: str, form: str) -> str:
    """What is wrong with JSON text, and what to write instead."""
    if isinstance(error, RecursionError):
        return "JSON that is nested too deep: leave that value out, or write it as text"
    without_texts = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text[:MAX_LINE])
    if constant := re.search(r"[\[,:]\s*(NaN|-?Infinity)\b", without_texts):
        return f"{constant[1]} is not JSON: write null"
    if "out of range" in str(error):
        return "a number too large for a float, such as 1e999: write null, or text"
    if "surrogate" in str(error) or ("truncated" in str(error) and _SURROGATE.search(text[-40:])):
        return "half of a surrogate pair, such as \\ud83d: leave it out"
    if isinstance(error, msgspec.ValidationError):
        return f"not a JSON object: write {form}"
    return f"broken JSON ({error}): write {form}"


def _json_rows(path: Path, tick: Tick) -> Iterator[Row]:
    """The items of an array, or of the list in a `_RowList`, or JSONL under the name of JSON."""
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        start = file.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n") if isinstance(file, io.BufferedReader) else b""
        first = _object(file.readline(MAX_LINE)) if start.startswith(b"{") else None
        if first is not None and (file.read(1_000).strip() or _is_row(path, first)):
            yield from _jsonl_rows(path, tick)
            return
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason}): save it as UTF-8") from None
    is_object = start.startswith(b"{")
    kind: Any = _RowList if is_object else list[str | dict[str, Any]]
    try:
        content = msgspec.json.decode(text.strip() or "[]", type=kind)
        rows: list[Any] = [*content.examples, *content.data] if is_object else content
        key = _repeated_key(text, rows)
    except (msgspec.DecodeError, RecursionError) as error:
        if is_object and isinstance(error, msgspec.ValidationError):
            raise InputError(f"{path}: {NO_ROWS}") from None
        raise InputError(f"{path}: {_json_problem(error, text, JSON_FORM)}") from None
    if is_object and not rows:
        raise InputError(f"{path}: {NO_ROWS}")
    if key is not None:
        raise InputError(f"{path}: two values of {key!r}: rename one")
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", {"text": row} if isinstance(row, str) else row


class _RowList(msgspec.Struct):
    """An object that holds rows: `examples` of a BIG-bench task, `data` as the Hub's JSON loader reads it."""

    examples: list[dict[str, Any]] = []
    data: list[dict[str, Any]] = []


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None for any other text, such as the head of a large object."""
    try:
        value = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_row(path: Path, row: dict[str, Any]) -> bool:
    """Whether the only object of a file is a row, and does not hold the rows. Raises InputError."""
    values = list(row.values())
    is_nested = bool(values) and all(isinstance(value, dict) for value in values)
    if len(values) > 1 and all(isinstance(value, list) for value in values):
        has_objects = any(isinstance(item, dict) for value in values for item in value)
        if not has_objects and len({len(value) for value in values}) == 1:
            raise InputError(f"{path}: a list for each column: write {JSON_FORM}")
    if isinstance(row.get("columns"), list) and isinstance(row.get("data"), list):
        raise InputError(f"{path}: columns, and rows as lists in data: write {JSON_FORM}")
    if is_nested and ("0" in row or all("0" in value for value in values)):
        fix = 'write rows: `frame.to_json(path, orient="records", lines=True)`'
        raise InputError(f"{path}: columns or rows by number, as pandas writes them: {fix}")
    if is_nested and len(values) > 3 and len(set(map(frozenset, values))) < len(values):
        raise InputError(f"{path}: rows by their names, and no list of them: write {JSON_FORM}")
    lists = [
        value for name in ("examples", "data", "rows", "train") if isinstance(value := row.get(name), list)
    ]
    return not any(isinstance(item, dict) for values in lists for item in values[:1])


def _delimited_rows(marks: str, path: Path, tick: Tick) -> Iterator[Row]:
    """The rows under a header, in cells that the mark parts which it has most, or Excel's `sep=` names."""
    header = next((line for _, line in _lines(path, lambda done, total: None) if line.strip()), "")
    excel = re.fullmatch(r"sep=(.)\s*", header)
    delimiter = excel[1] if excel else max(marks, key=header.count)
    reader = csv.reader((line for _, line in _lines(path, tick)), delimiter=delimiter, strict=True)
    names: list[str] | None = []
    while names is not None and (not any(names) or names[0] == "sep="):
        names = _next_cells(reader, path)
    titles = [name for name in names or () if name]
    if len(set(titles)) < len(titles):
        raise InputError(f"{path}:1: two columns have the same name: rename one")
    while names:
        place = f"{path}:{reader.line_num + 1}"
        if (cells := _next_cells(reader, path)) is None:
            return
        if not cells:
            continue
        if delimiter == "\t" and _are_lines(cells, len(names)):
            fix = "double it within a quoted cell, or give JSONL"
            raise InputError(f"{place}: a quote that opens a cell joins lines: {fix}")
        if cells == names:
            raise InputError(f"{place}: the header again, as in files that were joined: delete this line")
        while len(cells) > len(names) and not cells[-1]:  # spreadsheets end rows in empty cells
            cells.pop()
        if len(cells) != len(names):
            counts = f"{len(cells)} cells under {len(names)} column names"
            fix = f"quote cells that hold {delimiter!r}"
            if len(cells) < len(names):
                fix = "quote cells that hold a line break, or write the cells that are missing"
            elif len(names) == 1:
                fix += f", or delete {names[0]!r:.40}, if that is a title above the names of the columns"
            raise InputError(f"{place}: {counts}: {fix}")
        yield place, dict(zip(names, cells, strict=True))


def _are_lines(cells: list[str], size: int) -> bool:
    """Whether each line of a row with a line break has all cells: a quote is text where cells have none."""
    if size < 2 or not any("\n" in cell for cell in cells):
        return False
    lines = "\t".join(cells).split("\n")
    return all(line.count("\t") == size - 1 for line in lines)


def _next_cells(reader: Any, path: Path) -> list[str] | None:
    limit = csv.field_size_limit(MAX_LINE)  # of the whole process
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        fix = "correct it, or give JSONL"
        if "new-line" in str(error):
            error, fix = csv.Error("lines end in a carriage return alone"), "save it with line feeds"
        raise InputError(f"{path}:{reader.line_num}: broken CSV ({error}): {fix}") from None
    finally:
        csv.field_size_limit(limit)
    return cells


_READERS: dict[str, Callable[[Path, Tick], Iterator[Row]]] = {
    ".txt": _text_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": partial(_delimited_rows, ",;\t|"),
    ".tsv": partial(_delimited_rows, "\t,;|"),
}
