"""Conditions on rows: the responders of a pair, which side is longer, and any Polars SQL."""

from collections.abc import Iterable
from typing import Literal

import polars as pl

from ..errors import InputError, did_you_mean
from ..viewer.rows import PAIR

LENGTHS = {"chosen": "chosen_length", "rejected": "rejected_length", "response": "length"}
"""Text -> the column of its characters, which conditions see besides the stored ones."""
EXAMPLE = "prompt LIKE '%tea%'"
"""A condition, for errors."""
_PLACE, _ORDER = "__place", "__order"
_STORED = "__stored"
"""Suffix of a column as it is stored, beside its text."""


def matching(
    rows: pl.LazyFrame,
    ref: str,
    where: str | None = None,
    pair: str | None = None,
    longer: Literal["chosen", "rejected"] | None = None,
) -> pl.LazyFrame:
    """The rows of a dataset that fit all conditions. Raises InputError where one fits no column.

    `where` is Polars SQL over the columns, messages as text, and `LENGTHS`; `pair` is `CHOSEN>REJECTED`.
    """
    conditions = []
    if pair:
        conditions += _responders(rows, ref, pair)
    if longer:
        if "chosen" not in rows.collect_schema():
            raise InputError(f"{ref}: these rows are no pairs, so that no side is longer")
        shorter = PAIR[1 - PAIR.index(longer)]
        conditions.append(pl.col(LENGTHS[longer]) > pl.col(LENGTHS[shorter]))
    if where:
        conditions.append(_sql(where, flat(rows, with_lengths=True), ref))
    if not conditions:
        return rows
    messages = message_columns(rows)
    stored = rows.with_columns(pl.col(messages).name.suffix(_STORED))
    kept = flat(stored, messages, with_lengths=True).filter(*conditions)
    kept = kept.with_columns(pl.col(f"{name}{_STORED}").alias(name) for name in messages)
    return kept.select(rows.collect_schema().names())


def largest(rows: pl.LazyFrame, ref: str, column: str, n: int) -> tuple[pl.DataFrame, int]:
    """The `n` rows with the largest values of a column, largest first; and how many rows there are.

    Columns are those that conditions see. Raises InputError for another.
    """
    values = flat(rows, with_lengths=True)
    if column not in (schema := values.collect_schema()):
        hint, columns = did_you_mean(column, schema), ", ".join(schema)
        raise InputError(f"sample.sort: no column {column!r} in {ref}{hint}; it has: {columns}")
    order = (
        values.select(column).collect(engine="streaming")[column].arg_sort(descending=True, nulls_last=True)
    )
    places = pl.DataFrame({_PLACE: order.head(n)}).with_row_index(_ORDER)
    indexed = rows.with_row_index(_PLACE).filter(pl.col(_PLACE).is_in(places[_PLACE].implode()))
    picked = indexed.collect(engine="streaming").join(places, on=_PLACE).sort(_ORDER)
    return picked.drop(_PLACE, _ORDER), len(order)


def message_columns(rows: pl.LazyFrame) -> list[str]:
    """The columns that hold lists of messages."""
    return [name for name, kind in rows.collect_schema().items() if isinstance(kind, pl.List)]


def flat(
    rows: pl.LazyFrame, columns: Iterable[str] | None = None, *, with_lengths: bool = False
) -> pl.LazyFrame:
    """The rows with text for messages: its text of one, `role: text` of each of several."""
    role, content = (pl.element().struct.field(name) for name in ("role", "content"))
    rows = rows.with_columns(
        pl.when(pl.col(name).list.len() == 1)
        .then(pl.col(name).list.eval(content).list.first())
        .otherwise(pl.col(name).list.eval(pl.concat_str(role, pl.lit(": "), content)).list.join("\n\n"))
        .alias(name)
        for name in (message_columns(rows) if columns is None else columns)
    )
    if not with_lengths:
        return rows
    names = set(rows.collect_schema())
    return rows.with_columns(
        pl.col(name).str.len_chars().cast(pl.Int64).alias(length)
        for name, length in LENGTHS.items()
        if name in names and length not in names
    )


def _responders(rows: pl.LazyFrame, ref: str, pair: str) -> list[pl.Expr]:
    """That a row is of this responder pair. Raises InputError where none is, naming those that there are."""
    columns = [f"{side}_responder" for side in PAIR]
    if not set(columns) <= set(rows.collect_schema()):
        raise InputError(f"{ref}: these rows are no pairs of responders")
    responders = [name.strip() for name in pair.split(">")]
    names = rows.select(columns).unique().drop_nulls().sort(columns).collect()
    if tuple(responders) not in names.rows():
        pairs = [" > ".join(row) for row in names.rows()]
        hint = did_you_mean(" > ".join(responders), pairs)
        raise InputError(f"{ref} has no such rows of the pair {pair!r}{hint}; it has: {', '.join(pairs)}")
    return [pl.col(column) == name for column, name in zip(columns, responders, strict=True)]


def _sql(where: str, rows: pl.LazyFrame, ref: str) -> pl.Expr:
    """The condition, tried on all rows. Raises InputError."""
    schema = rows.collect_schema()
    try:
        condition = pl.sql_expr(where)
        if unknown := sorted(set(condition.meta.root_names()) - set(schema)):
            hint = did_you_mean(unknown[0], schema) or " (a text stands in single quotes)"
            columns = ", ".join(schema)
            raise InputError(f"where {where!r}: no column {unknown[0]!r} in {ref}{hint}; it has: {columns}")
        verdict = rows.select(condition.alias("verdict")).collect(engine="streaming")["verdict"]
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).partition("\n")[0].split())[:200]
        raise InputError(
            f"where {where!r} is no Polars SQL condition ({reason}): write one such as {EXAMPLE}"
        ) from None
    if verdict.dtype != pl.Boolean:
        raise InputError(f"where {where!r} gives {verdict.dtype}, not true or false")
    return condition
