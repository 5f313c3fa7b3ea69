"""The tables of the built-in builders by name, as tests ask for them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from almost_data import registry
from almost_data.datasets import tables
from almost_data.datasets.builder import AUTO, Builder
from almost_data.datasets.digest import RowHasher, Rows, frames, splits
from almost_data.datasets.tables import Table, table_of


def builder(dataset: str) -> Builder:
    builder: Builder = registry.load("builders", dataset)
    return builder


TABLES = {name: dict(builder(name).tables) for name in registry.BUILT_IN["builders"]}


def with_defaults(config: Any, dataset: str = "comparisons") -> Any:
    """The config with the paper's value in place of each that the parents would decide."""
    auto = builder(dataset).auto
    values = {name: auto[name].default for name in auto if getattr(config, name) == AUTO}
    return msgspec.structs.replace(config, **values)


def table(dataset: str, config: str) -> Table:
    return tables.table_of(TABLES[dataset], config)


def digest(tables: Mapping[str, Table], rows: Mapping[str, Rows]) -> str:
    """The digest that a dataset of these rows has."""
    hasher = RowHasher(tables)
    for config, content in rows.items():
        for part in frames(content):
            for split, split_rows in splits(part, table_of(tables, config).split_key).items():
                hasher.add(config, split, split_rows)
    return hasher.digest()


def frame(dataset: str, config: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return tables.frame(table(dataset, config), rows)
