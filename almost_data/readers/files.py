"""Rows of files and Hub datasets, each with its place: `path:line`, or `name: row 3`.

Whatever cannot be read is an InputError that names the place and says what to do.
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
MAX_LINE = 64 << 20
"""Bytes of a line; the longest dialogues are far shorter."""

Row = tuple[str, dict[str, Any]]
"""Place and values."""
Tick = Callable[[int, int], None]
"""Called with how many rows were read, and of about how many."""


def read_rows(
    source: str,
    suffixes: tuple[str, ...],
    needs: Callable[[str], bool] = lambda column: True,
    tick: Tick = lambda done, total: None,
) -> Iterator[Row]:
    """The rows of a file with one of these suffixes, or of a Hub dataset `ORG/NAME[@REVISION]`.

    A line of text is a row with the column `text`. Of Parquet only the columns that `needs` are read.
    """
    if is_hub(source, suffixes):
        return _hub_rows(source, tick)
    path = check_file(source, suffixes)
    if path.suffix == ".parquet":
        return _parquet_rows(path, needs, tick)
    return _READERS[path.suffix](path, tick)


def is_hub(source: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a source names a Hub dataset: it has that form, and is no file."""
    path = Path(source)
    return not path.exists() and path.suffix not in suffixes and HUB_ID.fullmatch(source) is not None


def check_file(source: str, suffixes: tuple[str, ...]) -> Path:
    """The path of a file that can be opened and has one of the suffixes. Raises InputError."""
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{source}: {'not a file: give one file' if path.exists() else 'no such file'}")
    if path.suffix not in suffixes:
        raise InputError(f"{source}: cannot tell its format: name it one of {', '.join(suffixes)}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None
    return path


def record(source: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """What identifies a source: name and sha256 of a file, or id and commit of a Hub dataset."""
    if is_hub(source, suffixes):
        name, _, revision = source.partition("@")
        return {"name": name, "revision": hub_commit(name, revision or None)}
    path = check_file(source, suffixes)
    return {"name": path.name, "sha256": file_sha256(path)}


def file_sha256(path: Path) -> str:
    """The sha256 of a file, computed once for its size and time of change."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache
def hub_commit(name: str, revision: str | None) -> str:
    """The commit of a Hub dataset; a full commit is returned without a request."""
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # network, client and server each raise their own kinds
        raise _unavailable(name, error) from None


def _unavailable(name: str, error: Exception) -> InputError:
    reason = type(error).__name__  # messages may quote addresses and headers
    return InputError(f"{name}: no such file, and not available on the Hub ({reason}): check name and login")


def _hub_rows(source: str, tick: Tick) -> Iterator[Row]:
    import datasets

    name, _, revision = source.partition("@")
    commit = hub_commit(name, revision or None)
    try:
        splits = datasets.load_dataset(name, revision=commit)
    except Exception as error:  # network, Hub client and file readers each raise their own kinds
        raise _unavailable(source, error) from None
    total = sum(map(len, splits.values()))
    for number, row in enumerate((row for split in splits.values() for row in split), start=1):
        yield f"{source}: row {number}", row
        tick(number, total)


def _parquet_rows(path: Path, needs: Callable[[str], bool], tick: Tick) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows_read = 0
    try:
        with pq.ParquetFile(path) as file:
            names = list(filter(needs, file.schema_arrow.names))
            for batch in file.iter_batches(batch_size=256, columns=names):
                for row in batch.to_pylist():
                    rows_read += 1
                    yield f"{path}: row {rows_read}", row
                tick(rows_read, file.metadata.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: cannot be read as Parquet ({reason}): write it again, or give JSONL"
        ) from None


def _lines(path: Path, tick: Tick) -> Iterator[tuple[str, str]]:
    """Place and text of each line."""
    # Only "\n" ends a line: str.splitlines would also cut at characters that JSON allows inside a string.
    size, number, position = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            number, position = number + 1, position + len(line)
            place = f"{path}:{number}"
            if len(line) == MAX_LINE:
                raise InputError(f"{place}: a line of {MAX_LINE >> 20} MiB or more: end each row with a line")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{place}: not UTF-8 text ({error.reason}): save it as UTF-8") from None
            yield place, text
            tick(number, number * size // position)


def _text_rows(path: Path, tick: Tick) -> Iterator[Row]:
    return ((place, {"text": line}) for place, line in _lines(path, tick) if line.strip())


def _jsonl_rows(path: Path, tick: Tick) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for place, line in _lines(path, tick):
        if not line.strip():
            continue
        try:
            yield place, decoder.decode(line)
        except msgspec.ValidationError:
            raise InputError(f"{place}: not a JSON object: write one {{...}} a line") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"{place}: broken JSON ({error}): write one {{...}} a line") from None


def _json_rows(path: Path, tick: Tick) -> Iterator[Row]:
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=list[str | dict[str, Any]])
    except msgspec.ValidationError:
        raise InputError(f"{path}: not a list of texts or of objects: write [...], or JSONL") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON ({error}): write [...], or JSONL") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}: item {number}", {"text": row} if isinstance(row, str) else row


def _csv_rows(path: Path, tick: Tick) -> Iterator[Row]:
    text = "".join(line for _, line in _lines(path, tick))
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    limit = csv.field_size_limit(min(len(text) + 1, 2**31 - 1))  # of the whole process; a C long
    try:
        rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        line = reader.reader.line_num
        raise InputError(f"{path}:{line}: broken CSV ({error}): correct it, or give JSONL") from None
    finally:
        csv.field_size_limit(limit)
    yield from rows


_READERS = {
    ".txt": _text_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
}
