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
from pathlib import Path
from typing import IO, Any

import msgspec

from ..errors import InputError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Text may be packed: `.jsonl.gz`, `.csv.zst`."""
MAX_LINE = 64 << 20
"""Bytes of a line; the longest dialogues are far shorter."""
_CONTAINERS = (dict, list)
_KEY = re.compile(r'"\s*:')
"""The end of a key, or text that looks like it."""

Row = tuple[str, dict[str, Any]]
"""Place and values."""
Tick = Callable[[int, int], None]
"""Called with how many rows were read, and of about how many."""


def file_rows(path: Path, needs: Callable[[str], bool], tick: Tick) -> Iterator[Row]:
    """The rows of a file."""
    suffix = file_format(path)
    return _parquet_rows(path, needs, tick) if suffix == ".parquet" else _READERS[suffix](path, tick)


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
            for batch in file.iter_batches(batch_size=256, columns=names):
                for row in batch.to_pylist():
                    rows_read += 1
                    yield f"{path}: row {rows_read}", row
                tick(rows_read, file.metadata.num_rows)
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        raise _broken_parquet(path, error) from None


def parquet_columns(path: Path) -> list[str]:
    """The names in a Parquet file's schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise _broken_parquet(path, error) from None


def _broken_parquet(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0]
    return InputError(f"{path}: cannot be read as Parquet ({reason}): write it again, or give JSONL")


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
        raise InputError(f"{path}: cannot be unpacked ({error}): pack it again") from None


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
            yield place, text
            tick(number, number * size // max(1, raw.tell()))


def _text_rows(path: Path, tick: Tick) -> Iterator[Row]:
    lines = ((place, line) for place, line in _lines(path, tick) if line.strip())
    for number, (place, line) in enumerate(lines):
        if number == 0 and _is_object(line.encode()):
            raise InputError(f"{place}: a JSON object in a text file: name the file .jsonl")
        yield place, {"text": line}


def _jsonl_rows(path: Path, tick: Tick) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for place, line in _lines(path, tick):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
            key = _repeated_key(line, row)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"{place}: {_json_problem(error, line, 'one {...} a line')}") from None
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
    if isinstance(error, msgspec.ValidationError):
        return f"not a JSON object: write {form}"
    return f"broken JSON ({error}): write {form}"


def _json_rows(path: Path, tick: Tick) -> Iterator[Row]:
    """The items of an array, the `examples` of a BIG-bench task, or JSONL under the name of JSON."""
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        start = file.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n") if isinstance(file, io.BufferedReader) else b""
        if start.startswith(b"{") and _is_object(file.readline(MAX_LINE)):
            yield from _jsonl_rows(path, tick)
            return
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        text = file.read().removeprefix(b"\xef\xbb\xbf")
    kind: Any = _Examples if start.startswith(b"{") else list[str | dict[str, Any]]
    try:
        content = msgspec.json.decode(text, type=kind)
        rows = content.examples if isinstance(content, _Examples) else content
        key = _repeated_key(text.decode(), rows)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        form = "a list of texts or objects, or JSONL"
        if kind is _Examples and isinstance(error, msgspec.ValidationError):
            raise InputError(f"{path}: one JSON object, and no list of rows: write {form}") from None
        problem = _json_problem(error, text.decode(errors="replace"), form)
        raise InputError(f"{path}: {problem}") from None
    if key is not None:
        raise InputError(f"{path}: two values of {key!r}: rename one")
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", {"text": row} if isinstance(row, str) else row


class _Examples(msgspec.Struct):
    examples: list[dict[str, Any]]


def _is_object(line: bytes) -> bool:
    """Whether a first line is a row of JSONL, and not the head of one large object."""
    try:
        row = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(row, dict) and not isinstance(row.get("examples"), list)


def _csv_rows(path: Path, tick: Tick) -> Iterator[Row]:
    """The rows under a header that has commas, else semicolons, else tabs."""
    header = next((line for _, line in _lines(path, lambda done, total: None)), "")
    return _delimited_rows(path, tick, next((mark for mark in ",;\t" if mark in header), ","))


def _tsv_rows(path: Path, tick: Tick) -> Iterator[Row]:
    return _delimited_rows(path, tick, "\t")


def _delimited_rows(path: Path, tick: Tick, delimiter: str) -> Iterator[Row]:
    reader = csv.reader((line for _, line in _lines(path, tick)), delimiter=delimiter, strict=True)
    names = _next_cells(reader, path) or []
    if len(set(names)) < len(names):
        raise InputError(f"{path}:1: two columns have the same name: rename one")
    while True:
        place = f"{path}:{reader.line_num + 1}"
        if (cells := _next_cells(reader, path)) is None:
            return
        if not cells:
            continue
        if len(cells) != len(names):
            counts = f"{len(cells)} cells under {len(names)} column names"
            raise InputError(f"{place}: {counts}: quote cells that hold {delimiter!r}")
        yield place, dict(zip(names, cells, strict=True))


def _next_cells(reader: Any, path: Path) -> list[str] | None:
    limit = csv.field_size_limit(MAX_LINE)  # of the whole process
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        fix = "correct it, or give JSONL"
        raise InputError(f"{path}:{reader.line_num}: broken CSV ({error}): {fix}") from None
    finally:
        csv.field_size_limit(limit)
    return cells


_READERS = {
    ".txt": _text_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
}
