"""The content of an artifact: a dataset's splits and counts, and one hash of all rows."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from .filters import count_reasons
from .tables import TEST_SHARE, Table, table_of

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "test")
MAX_REASONS = 10_000
OFFSET = 4
"""Bytes in memory beside those of a text or a list: where it ends."""
RANGE_ROWS = 250_000
"""Rows of a range of queries, about: those of a large table that are in memory at a time."""


@dataclass(frozen=True)
class Blocks:
    """Rows that may be too many for memory, as frames in the order of their `query_id`.

    All rows of a query are in one frame. The frames are computed again at every pass.
    """

    make: Callable[[], Iterator[pl.DataFrame]]
    sample: pl.DataFrame | None = None
    """Rows for card and figures: all where they are few; None where no card shows them."""

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self.make()


Rows = pl.DataFrame | Blocks
"""The rows of one config."""


def frames(rows: Rows) -> Iterator[pl.DataFrame]:
    """The rows, a frame at a time."""
    return iter(rows) if isinstance(rows, Blocks) else iter([rows])


def first_queries(rows: pl.LazyFrame, limit: int | None) -> pl.LazyFrame:
    """The rows of the first `limit` queries by `query_id`; all rows without a limit."""
    if limit is None:
        return rows
    last = rows.select(pl.col("query_id").unique().sort().head(limit).max()).collect().item()
    return rows.filter(pl.col("query_id") <= last)


def ranges(rows: pl.LazyFrame, most: int = RANGE_ROWS) -> Iterator[pl.LazyFrame]:
    """The rows in ranges of `query_id`, in its order, about `most` rows in each.

    No range is longer than `most` rows and those of the ids that share their first digits. Where files are
    sorted by query_id, reading a range reads little more than its rows.
    """
    starts: list[str] = []
    ids = pl.col("query_id")
    numbers = rows.select(pl.len(), first=ids.min(), last=ids.max()).collect(engine="streaming")
    count, first, last = numbers.row(0)
    if count > most:
        # Ids are hashes: by four digits after those that all share they make thousands of groups.
        pairs = enumerate(zip(first, last, strict=False))
        digits = 4 + next((place for place, (low, high) in pairs if low != high), 0)
        groups = rows.group_by(ids.str.head(digits)).len("rows").sort("query_id").collect(engine="streaming")
        place = (groups["rows"].cum_sum() - 1) // most
        starts = groups["query_id"].filter(place > place.shift()).to_list()
    for low, high in zip([None, *starts], [*starts, None], strict=True):
        part = rows if low is None else rows.filter(pl.col("query_id") >= low)
        yield part if high is None else part.filter(pl.col("query_id") < high)


def splits(rows: pl.DataFrame, split_key: str | None = "query_id") -> dict[str, pl.DataFrame]:
    """The rows by split, by hash of the split key: no prompt is in both. A split without rows is left out.

    A row without a value of the split key is in `train`. Raises ValueError for a query_id that is not a hash.
    """
    if split_key is None:
        return {"train": rows} if len(rows) else {}
    keys = rows[split_key].cast(pl.String)
    # A query_id is a hash already: its first 8 hex digits are uniform.
    digits = keys if split_key == "query_id" else keys.map_elements(_hash_digits, return_dtype=pl.String)
    hashes = digits.str.slice(0, 8).str.to_integer(base=16, dtype=pl.Int64, strict=False)
    if hashes.null_count() > keys.null_count():
        wrong = keys.filter(hashes.is_null() & keys.is_not_null())[0]
        raise ValueError(f"query_id {wrong!r} is not a hash: make it with text_id, or name another split key")
    is_test = (hashes < round(TEST_SHARE * 2**32)).fill_null(False)
    by_split = {"train": rows.filter(~is_test), "test": rows.filter(is_test)}
    return {split: part for split, part in by_split.items() if len(part)}


def _hash_digits(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:8]


class RowHasher:
    """Counts and hashes rows as they pass, a frame at a time.

    The rows of each config and split are hashed in the order of their key: the validity, the lengths
    and the bytes of each column have a hash of their own, so it does not matter where frames end.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = tables
        self.reasons: Counter[str] = Counter()
        """Reason -> rows that were dropped for it."""
        self._rows: dict[tuple[str, str], int] = {}
        self._bytes: dict[tuple[str, str], int] = {}
        self._hashes: dict[tuple[str, str, str], hashlib._Hash] = {}
        self._last: dict[tuple[str, str], Any] = {}

    def add(self, config: str, split: str, rows: pl.DataFrame) -> None:
        """Take rows in. Raises ValueError where two have the same key, or a frame comes out of order."""
        table = table_of(self.tables, config)
        # A dropped row may lack the text that would name it.
        if "reason" not in table.names and any(rows[name].null_count() for name in table.key):
            raise ValueError(f"{config}: a row has no value of its key {', '.join(table.key)}")
        is_repeated = rows.select(table.key).is_duplicated()
        if is_repeated.any():
            values = ", ".join(
                repr(value)[:40] for value in rows.filter(is_repeated).select(table.key).row(0)
            )
            raise ValueError(f"{config}: two rows have the same key {', '.join(table.key)} ({values})")
        if "reason" in table.names:
            self.reasons.update(count_reasons(rows["reason"]))
            if len(self.reasons) > MAX_REASONS:
                raise ValueError(f"over {MAX_REASONS:,} reasons for dropping a row")
        part = (config, split)
        first_key = rows[table.key[0]]
        if part in self._last and not self._last[part] < first_key.min():
            raise ValueError(f"{config}: a frame begins before the one before it ends")
        self._last[part] = first_key.max()
        self._rows[part] = self._rows.get(part, 0) + len(rows)
        # One chunk a column, so that chunk borders are not hashed.
        arrow = rows.sort(table.key).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        for column in table.columns:
            self._add(part, f"{column.name}:{column.type}", arrow[column.name].combine_chunks())

    def digest(self) -> str:
        """sha256 of the rows, independent of their order, their files and library versions."""
        counts = [f"{config}/{split}:{rows}" for (config, split), rows in self._rows.items()]
        hashes = [f"{'/'.join(path)}:{hash_.hexdigest()}" for path, hash_ in self._hashes.items()]
        return hashlib.sha256("\n".join(sorted(counts + hashes)).encode()).hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """Config -> split -> rows, `default` first; of a config that is not stored, the sum of its parts."""
        return self._by_config(self._rows)

    def sizes(self) -> dict[str, dict[str, int]]:
        """The same of the bytes that the rows have in memory, as Arrow without bitmaps of nulls."""
        return self._by_config(self._bytes)

    def _by_config(self, numbers: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
        by_config: dict[str, dict[str, int]] = {}
        for (config, split), number in numbers.items():
            unions = {name for name, table in self.tables.items() if table.parts is not None}
            for name in {config} if config in self.tables else {config, *unions}:
                by_split = by_config.setdefault(name, {})
                by_split[split] = by_split.get(split, 0) + number
        if "default" in self.tables:
            by_config.setdefault("default", {})
        order = sorted(by_config, key=lambda config: config != "default")
        return {
            config: {split: by_config[config][split] for split in SPLITS if split in by_config[config]}
            for config in order
        }

    def _add(self, part: tuple[str, str], at: str, array: "pa.Array") -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        def update(aspect: str, content: memoryview | bytes) -> None:
            self._hashes.setdefault((*part, f"{at}:{aspect}"), hashlib.sha256()).update(content)

        def numbers(aspect: str, values: "pa.Array", dtype: str) -> None:
            update(aspect, values.to_numpy(zero_copy_only=False).astype(dtype).tobytes())

        def size(width: int) -> None:
            self._bytes[part] = self._bytes.get(part, 0) + width

        numbers("valid", array.is_valid(), "u1")
        if pa.types.is_struct(array.type):
            for i in range(array.type.num_fields):
                self._add(part, f"{at}.{array.type[i].name}", pc.struct_field(array, [i]))
        elif pa.types.is_large_list(array.type):
            numbers("lengths", pc.fill_null(pc.list_value_length(array), 0), "<i8")
            size(OFFSET * len(array))
            self._add(part, f"{at}[]", pc.list_flatten(array))
        elif pa.types.is_large_string(array.type):
            filled = pc.fill_null(array, "")
            numbers("lengths", pc.binary_length(filled), "<i8")
            _, ends, text = filled.buffers()
            size(OFFSET * len(array))
            if text is not None:
                offsets = np.frombuffer(ends, "<i8")[filled.offset : filled.offset + len(filled) + 1]
                update("bytes", memoryview(text)[offsets[0] : offsets[-1]])
                size(int(offsets[-1] - offsets[0]))
        else:
            size(len(array) if pa.types.is_boolean(array.type) else 8 * len(array))
            array = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
            dtype = "<f8" if pa.types.is_floating(array.type) else "<i8"
            numbers("values", pc.fill_null(array, 0), dtype)
