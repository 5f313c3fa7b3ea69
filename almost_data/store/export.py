"""Rows as a file for other programs and people: JSONL, CSV or Parquet."""

import re
from pathlib import Path

import polars as pl

from ..cards.markdown import clean
from ..errors import InputError
from ..outputs import replacing
from .conditions import flat, matching, message_columns
from .samples import Artifacts, dataset, with_texts

SUFFIXES = (".jsonl", ".csv", ".parquet")
_FORMULA = re.compile(r"(^|[;\t]|\n(?=\s*[=+@]))(?=\s*[=+\-@])")
"""Where a spreadsheet begins to calculate: at the front, and where it may see a new cell."""


def export(
    artifacts: Artifacts,
    ref: str,
    file: Path,
    *,
    config: str = "default",
    where: str | None = None,
    is_flat: bool = False,
) -> int:
    """Write the rows of a config that fit `where` (as in `matching`), with their split; returns how many.

    Texts are joined where the config holds ids alone. A flat file has text for messages, and of CSV no cell
    that a spreadsheet calculates. The file is replaced when it is whole. Raises InputError.
    """
    if file.suffix not in SUFFIXES:
        raise InputError(f"export.out {file}: the name decides the format: end it in {', '.join(SUFFIXES)}")
    rows = with_texts(artifacts, dataset(artifacts, ref), config).drop("config")
    rows = matching(rows, ref, where)
    if is_flat:
        rows = flat(rows)
    if file.suffix == ".csv":
        rows = _harmless(rows) if is_flat else _as_json(rows)
    with replacing(file, "export.out") as staging:
        if file.suffix == ".jsonl":
            rows.sink_ndjson(staging)
        elif file.suffix == ".csv":
            rows.sink_csv(staging, include_bom=is_flat, quote_style="non_numeric")
        else:
            rows.sink_parquet(staging)
    return int(rows.select(pl.len()).collect().item())


def escape_spreadsheet_cell(text: str) -> str:
    """A cell that no spreadsheet calculates and no terminal obeys.

    >>> escape_spreadsheet_cell("=1+1"), escape_spreadsheet_cell("- a\\n- b")
    ("'=1+1", "'- a\\n- b")
    """
    return _FORMULA.sub(r"\1'", clean(text))


def _harmless(rows: pl.LazyFrame) -> pl.LazyFrame:
    texts = [name for name, kind in rows.collect_schema().items() if kind == pl.String]
    return rows.with_columns(pl.col(texts).map_elements(escape_spreadsheet_cell, return_dtype=pl.String))


def _as_json(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with messages as JSON text, which is how a cell can hold them."""
    turn = pl.element().struct.json_encode()
    return rows.with_columns(
        pl.concat_str(pl.lit("["), pl.col(name).list.eval(turn).list.join(","), pl.lit("]")).alias(name)
        for name in message_columns(rows)
    )
