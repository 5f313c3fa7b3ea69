"""Untrusted Parquet files, read in bounded memory.

The sizes in a footer may be false, and a few bytes may expand to many: one repeated byte, an entry of a
dictionary, a prefix. So every page's header is read before any value: it holds the size that the page
decompresses to. Only encodings whose values that size bounds are accepted, and rows are decoded a few at a
time.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

MAX_FOOTER = 16_000_000
MAX_ROWS = 20_000
"""Most rows of a row group; the store writes as many."""
MAX_GROUP = 600_000_000
"""Most decoded bytes of a row group; the store writes at most half of that."""
MAX_ROW, ALLOWANCE = 1_000_000, 16_000_000
"""Most bytes of a row on average, and what a row group may have beyond that."""
MAX_GROWTH = 100
"""Or this many times the bytes of the file, if more: text compresses to a tenth at best."""
MAX_VALUES = 100
"""Most values of a list on average."""
STEP = 2_000
"""Rows that are decoded at a time."""

_PLAIN, _RLE = 0, 3
_BY_DICTIONARY = (2, 8)
_LONGEST_HEADER = 1_000_000


@dataclass(frozen=True)
class Group:
    """A row group whose pages were checked."""

    file: Path
    number: int
    rows: int
    bytes: int
    """Estimated, decoded."""
    bounds: tuple[Any, Any] | None = None
    """Least and greatest key, where the keys were read."""

    def overlaps(self, low: Any, high: Any) -> bool:
        """Whether it can have a key from `low` on and before `high`, where these are no None."""
        if self.bounds is None:
            return True
        least, greatest = self.bounds
        return not ((low is not None and greatest < low) or (high is not None and least >= high))

    def read(self, columns: list[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """Its rows, a few at a time."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file, pre_buffer=False) as file:
            yield from file.iter_batches(STEP, row_groups=[self.number], columns=columns, use_threads=False)


def groups(file: Path, schema: "pa.Schema", rows: int) -> list[Group]:
    """The row groups of a file, checked before any value is read.

    Raises ValueError where the file has other columns or more than `rows` rows, or could take more memory
    than the bounds of this module.
    """
    import pyarrow.parquet as pq

    with file.open("rb") as handle:
        size = file.stat().st_size
        handle.seek(max(0, size - 8))
        tail = handle.read(8)
        if len(tail) < 8 or tail[4:] != b"PAR1":
            raise ValueError(f"{file.name}: not a Parquet file")
        if (footer := int.from_bytes(tail[:4], "little")) > min(size, MAX_FOOTER):
            raise ValueError(f"{file.name}: its footer claims {footer:,} bytes")
        metadata = pq.read_metadata(file)
        if not metadata.schema.to_arrow_schema().equals(schema):
            raise ValueError(f"{file.name}: columns are not those of the schema")
        if metadata.num_rows > rows:
            raise ValueError(
                f"{file.name}: {metadata.num_rows:,} rows; the manifest has {rows:,} in all files"
            )
        return [_check_group(file, handle, metadata.row_group(n), n) for n in range(metadata.num_row_groups)]


def _check_group(file: Path, handle: BinaryIO, group: Any, number: int) -> Group:
    """Check a row group by its pages' headers. Raises ValueError where it could take too much memory."""
    where = f"{file.name}: row group {number}"
    on_disk = os.stat(handle.fileno()).st_size
    limit = min(MAX_GROUP, max(ALLOWANCE + MAX_ROW * group.num_rows, MAX_GROWTH * on_disk))

    def check_size(size: int) -> None:
        if size > limit:
            raise ValueError(
                f"{where} would take {size / 1e6:,.0f} MB or more; the limit is {limit / 1e6:,.0f} MB"
            )

    if not 0 < group.num_rows <= MAX_ROWS:
        raise ValueError(f"{where}: {group.num_rows:,} rows; the limit is {MAX_ROWS:,}")
    unpacked = packed = 0
    with_dictionary = []
    for n in range(group.num_columns):
        column = group.column(n)
        values = entries = 0
        for on_page, packed_bytes, unpacked_bytes, is_dictionary in _pages(handle, column, where):
            packed += packed_bytes
            unpacked += unpacked_bytes
            if is_dictionary:
                entries += unpacked_bytes
            else:
                values += on_page
        if column.file_path or values > MAX_VALUES * group.num_rows:
            raise ValueError(f"{where}: {values:,} values of {column.path_in_schema}")
        check_size(max(packed, unpacked))
        if "." in column.path_in_schema:  # roles of messages, which are short
            check_size(values * entries)
        elif entries:
            with_dictionary.append(column.path_in_schema)
    size = unpacked + _dictionary_text_bytes(file, number, with_dictionary)
    check_size(size)
    return Group(file, number, group.num_rows, size)


def _dictionary_text_bytes(file: Path, number: int, columns: list[str]) -> int:
    """Bytes of the texts in columns with a dictionary, computed without expanding them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    size = 0
    with pq.ParquetFile(file, read_dictionary=columns, pre_buffer=False) as read:
        for column in read.read_row_group(number, columns, use_threads=False).columns if columns else ():
            for chunk in column.chunks:
                if pa.types.is_dictionary(chunk.type) and pa.types.is_string(chunk.type.value_type):
                    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
                    size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return size


# --- pages -----------------------------------------------------------------------------------------------


def _pages(handle: BinaryIO, column: Any, where: str) -> Iterator[tuple[int, int, int, bool]]:
    """Values, packed and unpacked bytes of each page of a column in a row group, and whether it is a
    dictionary, from the pages' headers (Thrift's compact protocol)."""
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < at:
        at = column.dictionary_page_offset
    end = at + column.total_compressed_size
    while at < end:
        handle.seek(at)
        try:
            try:
                header, length = _struct(handle.read(500), 0)
            except IndexError:  # the header holds the column's minimum and maximum, which may be long
                handle.seek(at)
                header, length = _struct(handle.read(_LONGEST_HEADER), 0)
            kind, unpacked, packed = header[1], header[2], header[3]
            details, encoding = {0: (5, 2), 2: (7, 2), 3: (8, 4)}[kind]
            values, encoding = header[details][1], header[details][encoding]
            allowed = (_PLAIN, 2) if kind == 2 else (_PLAIN, _RLE, *_BY_DICTIONARY)
            if min(unpacked, packed, values) < 0 or encoding not in allowed:
                raise ValueError
        except (IndexError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"{where}: a page of {column.path_in_schema} is malformed or in an encoding not accepted here"
            ) from None
        yield values, length + packed, unpacked, kind == 2
        at += length + packed


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Read a Thrift struct: its integers and nested structs by field number, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while byte := data[at]:
        at += 1
        kind = byte & 15
        if byte >> 4:  # the difference from the field before
            number += byte >> 4
        else:
            number, at = _integer(data, at)
        if kind == 3:  # a byte
            at += 1
        elif kind in (4, 5, 6):  # an integer of 16, 32 or 64 bits
            fields[number], at = _integer(data, at)
        elif kind == 8:  # bytes
            size, at = _varint(data, at)
            at += size
        elif kind == 12 and depth < 3:  # a struct
            fields[number], at = _struct(data, at, depth + 1)
        elif kind not in (1, 2):  # true and false, which have no bytes
            raise ValueError
    return fields, at + 1


def _integer(data: bytes, at: int) -> tuple[int, int]:
    raw, at = _varint(data, at)
    return (raw >> 1) ^ -(raw & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError
