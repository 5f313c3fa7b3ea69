"""What the rows of a dataset are: their splits, their counts, and one hash of them all."""

import hashlib
from typing import TYPE_CHECKING

from . import schema

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def splits(frame: "pl.DataFrame") -> "dict[str, pl.DataFrame]":
    """The rows by split, by hash of the query: no prompt is in two. A split without rows is left out."""
    import polars as pl

    # query_id is a hash already: its first 8 hex digits are uniform.
    draw = pl.col("query_id").str.slice(0, 8).str.to_integer(base=16, dtype=pl.Int64)
    is_test = draw < round(schema.TEST_SHARE * 2**32)
    both = {"train": frame.filter(~is_test), "test": frame.filter(is_test)}
    return {split: rows for split, rows in both.items() if len(rows)}


def counts(name: str, tables: "dict[str, pl.DataFrame]") -> dict[str, dict[str, int]]:
    """Config -> split -> rows, `default` first; for responses it is the sum over responders."""
    by_config = {
        config: {s: len(rows) for s, rows in splits(frame).items()} for config, frame in tables.items()
    }
    if name == "responses":
        total: dict[str, int] = {}
        for config, by_split in by_config.items():
            if config not in schema.RESERVED:
                total = {s: total.get(s, 0) + by_split.get(s, 0) for s in ("train", "test")}
        by_config["default"] = {split: rows for split, rows in total.items() if rows}
    order = sorted(by_config, key=lambda config: config != "default")
    return {config: by_config[config] for config in order if by_config[config]}


def digest(name: str, tables: "dict[str, pl.DataFrame]") -> str:
    """sha256 of the rows: no matter their order, the files they are in, or the library's version.

    Each config and split is sorted by its key and hashed column by column, from lengths and bytes.
    """
    import polars as pl

    lines = []
    for config, frame in tables.items():
        table = schema.table(name, config)
        for split, rows in splits(frame).items():
            hasher = hashlib.sha256()
            # One chunk a column, so that chunk borders are not hashed.
            arrow = rows.sort(table.key).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
            for column in table.columns:
                hasher.update(f"{column.name}:{column.type}:".encode())
                _hash_array(hasher, arrow[column.name].combine_chunks())
            lines.append(f"{config}/{split}:{len(rows)}:{hasher.hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _hash_array(hasher: "hashlib._Hash", array: "pa.Array") -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    def update(numbers: "pa.Array", dtype: str) -> None:
        hasher.update(numbers.to_numpy(zero_copy_only=False).astype(dtype).tobytes())

    update(array.is_valid(), "u1")
    if pa.types.is_struct(array.type):
        for i in range(array.type.num_fields):
            _hash_array(hasher, pc.struct_field(array, [i]))
    elif pa.types.is_large_list(array.type):
        update(pc.fill_null(pc.list_value_length(array), 0), "<i8")
        _hash_array(hasher, pc.list_flatten(array))
    elif pa.types.is_large_string(array.type):
        filled = pc.fill_null(array, "")
        update(pc.binary_length(filled), "<i8")
        _, ends, text = filled.buffers()
        if text is not None:
            at = np.frombuffer(ends, "<i8")[filled.offset : filled.offset + len(filled) + 1]
            hasher.update(memoryview(text)[at[0] : at[-1]])
    else:
        update(pc.fill_null(array, 0), "<f8" if pa.types.is_floating(array.type) else "<i8")
