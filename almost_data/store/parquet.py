"""Parquet files read in bounded memory, whoever wrote them.

What a footer says of sizes may be a lie, and few bytes may stand for many: one repeated byte, an entry of a
dictionary, a prefix. So the header of every page is read before any value is: it has the size that the page
is unpacked to. Only encodings of which that bounds the values are taken, and they come a few rows at a time.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FOOTER = 16_000_000
MOST_ROWS = 20_000
"""Of a row group; as many as the store writes."""
MOST_GROUP = 600_000_000
"""Bytes of a row group, decoded; the store writes at most half of that."""
MOST_ROW, FREE = 1_000_000, 16_000_000
"""Bytes of a row in the mean, and what a row group may have beyond that."""
GROWTH = 100
"""Or so many times the bytes of the file: text packs to a tenth at best, whatever its rows are."""
MOST_VALUES = 100
"""Of a list, where all rows have such."""
STEP = 2_000
"""Rows that are decoded at a time."""

_PLAIN, _RLE = 0, 3
_BY_DICTIONARY = (2, 8)
_LONGEST_HEADER = 1_000_000


@dataclass(frozen=True)
class Group:
    """A row group of a file, whose pages were checked."""

    file: Path
    number: int
    rows: int
    bytes: int
    """Decoded, about."""

    def read(self, columns: list[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """Its rows, a few at a time."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file, pre_buffer=False) as file:
            how = {"row_groups": [self.number], "columns": columns, "use_threads": False}
            yield from file.iter_batches(STEP, **how)


def groups(file: Path, schema: "pa.Schema", rows: int) -> list[Group]:
    """The row groups of a file, checked before any value is read.

    Raises ValueError where it has other columns or more than `rows` rows, or could take more memory than the
    bounds above.
    """
    import pyarrow.parquet as pq

    with file.open("rb") as handle:
        size = file.stat().st_size
        handle.seek(max(0, size - 8))
        tail = handle.read(8)
        if len(tail) < 8 or tail[4:] != b"PAR1":
            raise ValueError(f"{file.name}: no Parquet file")
        if (footer := int.from_bytes(tail[:4], "little")) > min(size, MOST_FOOTER):
            raise ValueError(f"{file.name}: a footer of {footer:,} bytes")
        said = pq.read_metadata(file)
        if not said.schema.to_arrow_schema().equals(schema):
            raise ValueError(f"{file.name}: columns are not those of the schema")
        if said.num_rows > rows:
            raise ValueError(f"{file.name}: {said.num_rows:,} rows, where all files are to have {rows:,}")
        return [_checked(file, handle, said.row_group(n), n) for n in range(said.num_row_groups)]


def _checked(file: Path, handle: Any, group: Any, number: int) -> Group:
    where = f"{file.name}: row group {number}"
    on_disk = os.stat(handle.fileno()).st_size
    most = min(MOST_GROUP, max(FREE + MOST_ROW * group.num_rows, GROWTH * on_disk))

    def fits(size: int) -> None:
        if size > most:
            raise ValueError(
                f"{where} would take {size / 1e6:,.0f} MB or more, and {most / 1e6:,.0f} is the most"
            )

    if not 0 < group.num_rows <= MOST_ROWS:
        raise ValueError(f"{where}: {group.num_rows:,} rows, and {MOST_ROWS:,} is the most")
    unpacked = packed = 0
    repeating = []
    for n in range(group.num_columns):
        column = group.column(n)
        values = entries = 0
        for page in _pages(handle, column, where):
            packed += page.packed
            unpacked += page.unpacked
            if page.is_dictionary:
                entries += page.unpacked
            else:
                values += page.values
        if column.file_path or values > MOST_VALUES * group.num_rows:
            raise ValueError(f"{where}: {values:,} values of {column.path_in_schema}")
        fits(max(packed, unpacked))
        if "." in column.path_in_schema:  # of roles, which are short
            fits(values * entries)
        elif entries:
            repeating.append(column.path_in_schema)
    size = unpacked + _repeated(file, number, repeating)
    fits(size)
    return Group(file, number, group.num_rows, size)


def _repeated(file: Path, number: int, columns: list[str]) -> int:
    """Bytes of the texts in columns that have a dictionary, found out without writing them out."""
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


@dataclass(frozen=True)
class _Page:
    packed: int
    unpacked: int
    values: int
    is_dictionary: bool


def _pages(handle: Any, column: Any, where: str) -> Iterator[_Page]:
    """The pages of a column in a row group, by their headers (Thrift's compact protocol)."""
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < at:
        at = column.dictionary_page_offset
    end = at + column.total_compressed_size
    while at < end:
        handle.seek(at)
        try:
            try:
                header, length = _struct(handle.read(500), 0)
            except IndexError:  # it holds the least and the greatest value, which may be long
                handle.seek(at)
                header, length = _struct(handle.read(_LONGEST_HEADER), 0)
            kind, unpacked, packed = header[1], header[2], header[3]
            told, encoding = {0: (5, 2), 2: (7, 2), 3: (8, 4)}[kind]
            values, encoding = header[told][1], header[told][encoding]
            allowed = (_PLAIN, 2) if kind == 2 else (_PLAIN, _RLE, *_BY_DICTIONARY)
            if min(unpacked, packed, values) < 0 or encoding not in allowed:
                raise ValueError
        except (IndexError, KeyError, TypeError, ValueError):
            raise ValueError(f"{where}: a page of {column.path_in_schema} that nobody wrote so") from None
        yield _Page(length + packed, unpacked, values, kind == 2)
        at += length + packed


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Field -> value of the integers and structs in a struct; and where it ends."""
    found: dict[int, Any] = {}
    name = 0
    while byte := data[at]:
        at += 1
        kind = byte & 15
        if byte >> 4:
            name += byte >> 4
        else:
            name, at = _integer(data, at)
        if kind == 3:
            at += 1
        elif kind in (4, 5, 6):
            found[name], at = _integer(data, at)
        elif kind == 8:
            size, at = _varint(data, at)
            at += size
        elif kind == 12 and depth < 3:
            found[name], at = _struct(data, at, depth + 1)
        elif kind not in (1, 2):
            raise ValueError
    return found, at + 1


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
