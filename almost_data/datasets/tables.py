"""The columns of a dataset's configs: name, type, meaning, and a literal example.

Cards print these tables, the store writes Parquet by them, the manifest holds them, `verify` checks files
against them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Type = Literal["string", "int64", "float64", "bool", "messages"]
"""`messages` is a list of `{role, content}`."""

MAX_TEXT = 2_000
"""Most characters of a column's name, or of a sentence about a table or a column."""
TEST_SHARE = 0.05
"""Share of the rows, by hash of the split key, that make the `test` split."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column: its example stands in cards, and `null` as an example means that most rows have none."""

    name: str
    type: Type
    doc: str
    example: Any = None
    compared: bool = True
    """Whether `diff` counts a row as changed where it differs: not for scores, which machines round."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of one config of a dataset."""

    doc: str
    """What one row is."""
    key: tuple[str, ...]
    """Columns that name a row; the digest sorts by them. Rows in blocks come in the order of the first."""
    columns: tuple[Column, ...]
    split_key: str | None = "query_id"
    """Column whose hash decides between `train` and `test`; None puts every row in `train`.

    A table without a column `query_id` has to set it.
    """
    parts: tuple[str, ...] | None = None
    """Configs with these columns whose rows together are this one, so that it is not stored itself.

    A builder declares `()`: every table that it builds under another name is a part. None: it is stored.
    """

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def example(self) -> dict[str, Any]:
        return {column.name: column.example for column in self.columns}


def string(name: str, doc: str, example: str | None = None) -> Column:
    """A column of text."""
    return Column(name, "string", doc, example)


def integer(name: str, doc: str, example: int | None = None) -> Column:
    """A column of whole numbers."""
    return Column(name, "int64", doc, example)


def number(name: str, doc: str, example: float | None = None) -> Column:
    """A column of numbers."""
    return Column(name, "float64", doc, example)


def score(name: str, doc: str, example: float | None = None) -> Column:
    """A column of numbers that a model computes: `diff` does not compare them."""
    return Column(name, "float64", doc, example, compared=False)


def messages(name: str, doc: str, example: list[dict[str, str]]) -> Column:
    """A column of lists of `{role, content}`."""
    return Column(name, "messages", doc, example)


def reply(name: str, doc: str, example: str) -> Column:
    """A column of a reply, as a list of the assistant's one turn."""
    return messages(name, doc, [{"role": "assistant", "content": example}])


QUERY_ID = string(
    "query_id",
    "first 16 hex digits of the sha256 of the prompt: of its text, or of its turns as JSON if several",
    "29b96e1ccfe1b398",
)
PROMPT = messages(
    "prompt",
    "the conversation up to the user's turn that is answered; a system turn comes first",
    [{"role": "user", "content": "Is tea a fruit?"}],
)
REASON = string("reason", "why the row was dropped", "too_short")
ERROR = string("error", "what the engine said, where the request failed; else null")


def last_turn(column: str = "prompt") -> "pl.Expr":
    """The text of the last turn of a column of messages, under the name of the column.

    Of a prompt that is the user's turn that is answered.
    """
    import polars as pl

    return pl.col(column).list.last().struct.field("content").alias(column)


def all_turns(column: str = "prompt") -> "pl.Expr":
    """The text of all turns of a column of messages, with blank lines between."""
    import polars as pl

    contents = pl.element().struct.field("content")
    return pl.col(column).list.eval(contents).list.join("\n\n").alias(column)


CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""The name of a config, which is a folder."""


def table_problem(config: str, table: Table) -> str:
    """Why a dataset cannot have this table; empty where it can."""
    names = table.names
    if not all(map(CONFIG_NAME.fullmatch, (config, *(table.parts or ())))):
        return f"table {config!r}, or a part of it, cannot be a folder"
    if problem := _key_problem(table):
        return f"table {config!r} has {problem}"
    if len(set(names)) < len(names):
        return f"table {config!r} has two columns of one name"
    if max(map(len, [table.doc, *names, *(column.doc for column in table.columns)])) > MAX_TEXT:
        return f"table {config!r} has a name or a doc of over {MAX_TEXT:,} characters"
    return ""


def _key_problem(table: Table) -> str:
    if not table.key:
        return "no key: name the columns that tell its rows apart"
    if absent := [name for name in table.key if name not in table.names]:
        return f"no column {absent[0]!r}, which is in its key"
    if table.split_key is None or table.split_key in table.names:
        return ""
    return (
        f"no column {table.split_key!r}, by which rows are split: give split_key=COLUMN, or split_key=None "
        "for no test split"
    )


def table_of(tables: Mapping[str, Table], config: str) -> Table:
    """The table of a config: its own, or the one that it is a part of. Raises KeyError where it has none."""
    if config in tables:
        return tables[config]
    union = next((table for table in tables.values() if table.parts is not None), None)
    if union is None or (union.parts and config not in union.parts):
        raise KeyError(config)
    return union


def with_parts(tables: Mapping[str, Table], configs: Iterable[str]) -> dict[str, Table]:
    """A builder's tables as a manifest holds them: the parts of the one that is a union are named.

    Raises ValueError for a config without a table.
    """
    parts = tuple(config for config in configs if config not in tables)
    if parts and all(table.parts is None for table in tables.values()):
        raise ValueError(f"rows of {parts[0]!r}, which is not a table of the builder: {', '.join(tables)}")
    return {
        name: table if table.parts is None else msgspec.structs.replace(table, parts=parts)
        for name, table in tables.items()
    }


def stored_configs(tables: Mapping[str, Table], config: str) -> tuple[str, ...]:
    """The configs whose files hold the rows of a config: itself, or its parts."""
    table = table_of(tables, config)
    return (table.parts or ()) if config in tables and table.parts is not None else (config,)


def arrow_schema(table: Table, is_large: bool = False) -> "pa.Schema":
    """The Arrow schema of the Parquet files of this table; a large one for over 2 GB of text."""
    import pyarrow as pa

    text = pa.large_string() if is_large else pa.string()
    turn = pa.struct([("role", text), ("content", text)])
    types = {
        "string": text,
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "messages": pa.large_list(turn) if is_large else pa.list_(turn),
    }
    return pa.schema([(column.name, types[column.type]) for column in table.columns])


def polars_schema(table: Table) -> "dict[str, pl.DataType]":
    """The same columns as Polars types."""
    import polars as pl

    text = pl.String()
    types: dict[Type, pl.DataType] = {
        "string": text,
        "int64": pl.Int64(),
        "float64": pl.Float64(),
        "bool": pl.Boolean(),
        "messages": pl.List(pl.Struct({"role": text, "content": text})),
    }
    return {column.name: types[column.type] for column in table.columns}


def frame(table: Table, rows: "Iterable[Mapping[str, Any]]") -> "pl.DataFrame":
    """Rows as a frame with the columns, order and types of a table; an absent value is null.

    Raises pyarrow.ArrowException for a value of another type.
    """
    import polars as pl
    import pyarrow as pa

    # Column by column through Arrow, which is many times faster than Polars is with rows of dictionaries.
    rows = list(rows)
    schema = arrow_schema(table, is_large=True)
    columns = [
        pa.array([row.get(name) for row in rows], type_)
        for name, type_ in zip(schema.names, schema.types, strict=True)
    ]
    return pl.DataFrame(pa.Table.from_arrays(columns, schema=schema))


def features(table: Table) -> list[dict[str, Any]]:
    """The `features` of `dataset_info` in a card, as the Hub's viewer and `datasets` read them."""
    message = [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]
    return [
        {"name": column.name, "list": message}
        if column.type == "messages"
        else {"name": column.name, "dtype": column.type}
        for column in table.columns
    ]
