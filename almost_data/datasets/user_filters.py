"""Filters of the user's own: a Polars SQL expression, or a Python function in a file.

    [[comparisons.filters]]
    name = "no_apology"
    description = "A response that opens with an apology does not answer."
    drop = "STARTS_WITH(response, 'Sorry')"

    [[comparisons.filters]]
    name = "few_links"
    unit = "pair"
    description = "The chosen response of a pair must not have more links than the rejected one."
    python = "my_filters.py:more_links"

The expression is true where a row is dropped. The function is called with the columns that its
parameters name, and returns True to drop the row. Both see one row at a time, never its neighbours.
A builder says by its `hooks` which units can be filtered, and which columns a filter sees.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from msgspec import Meta

from .. import inputs
from ..errors import InputError
from .config import Config, FilePath
from .filters import FAILED, Filter

SOURCE = "user filter"
Hooks = Mapping[str, Mapping[str, Any]]
"""Unit -> the columns that a filter of that unit sees, with an example value each."""


class UserFilter(Config, frozen=True, kw_only=True):
    """One entry of a builder's `filters`: either `drop` or `python`."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9_]{0,23}$",
            description="1 to 24 lower-case letters, digits and '_', a letter first",
        ),
    ]
    """The reason that its dropped rows have."""
    description: Annotated[str, Meta(min_length=1, max_length=500)]
    """One sentence, as the card prints it."""
    unit: str | None = None
    """What it judges, such as `response` or `pair`; by default the builder's first unit."""
    drop: str | None = None
    """Polars SQL, true where a row is dropped; null keeps the row, and a note counts such rows."""
    python: FilePath | None = None
    """`FILE.py:FUNCTION`, true where a row is dropped."""


def load_filters(
    filters: Sequence[UserFilter], hooks: Hooks, builder: str, reserved: Collection[str] = ()
) -> list[Filter]:
    """The filters that a config describes, in its order.

    `hooks` are the builder's, `builder` its name, for errors, and `reserved` the names of its own filters.
    Raises InputError where one cannot be a filter of this builder, or its code cannot be run.
    """
    names = [user_filter.name for user_filter in filters]
    for place, name in enumerate(names):
        if name in (FAILED, *reserved, *names[:place]):
            raise InputError(f"{builder}.filters: another filter is named {name!r}: rename yours")
    return [_Loader(user_filter, hooks, builder).load() for user_filter in filters]


def filter_hashes(filters: Sequence[Filter]) -> dict[str, Any]:
    """What pins filters in files: `{"filters": {name: sha256}}`; empty where none is in a file."""
    hashes = {rule.name: rule.params["sha256"] for rule in filters if "sha256" in rule.params}
    return {"filters": hashes} if hashes else {}


def of_unit(filters: Sequence[Filter], unit: str) -> list[Filter]:
    """The filters that judge rows of that unit."""
    return [rule for rule in filters if rule.unit == unit]


Drop = Callable[[pl.DataFrame], pl.Series]


class _Expression:
    """A user's expression as a function of rows; `undecided` counts those for which it was null."""

    def __init__(self, expression: pl.Expr, error: Callable[[str], InputError], sql: str) -> None:
        self.expression, self.error, self.sql = expression, error, sql
        self.undecided = 0

    def __call__(self, rows: pl.DataFrame) -> pl.Series:
        try:
            verdict = rows.select(drop=self.expression)["drop"]
        except pl.exceptions.PolarsError as error:
            raise self.error(f"{self.sql!r} fails on some rows ({_why(error)})") from None
        self.undecided += verdict.null_count()
        return verdict


class _Loader:
    """One user's filter, checked against the hooks of its builder."""

    def __init__(self, user_filter: UserFilter, hooks: Hooks, builder: str) -> None:
        self.filter, self.builder = user_filter, builder
        self.unit = user_filter.unit or next(iter(hooks))
        if self.unit not in hooks:
            raise self._error(f"unit {self.unit!r}: {builder} filters by {', '.join(hooks)}")
        self.columns, self.hooks = hooks[self.unit], hooks

    def load(self) -> Filter:
        user_filter = self.filter
        if (user_filter.drop is None) == (user_filter.python is None):
            raise self._error("give it either `drop`, an SQL expression, or `python`, FILE.py:FUNCTION")
        if user_filter.drop is not None:
            params = {"drop": user_filter.drop}
            drop, reads = self._expression(user_filter.drop)
        else:
            source, path, name = self._source()
            params = {"python": f"{path.name}:{name}", "sha256": hashlib.sha256(source).hexdigest()}
            drop, reads = self._function(source, path, name)
        description = user_filter.description
        return Filter(user_filter.name, self.unit, description, SOURCE, drop, params, tuple(sorted(reads)))

    def _expression(self, sql: str) -> tuple[Drop, set[str]]:
        """The user's expression as a function of rows, and the columns that it reads."""

        try:
            expression = pl.sql_expr(sql)
            names = expression.meta.root_names()
            unknown = sorted(set(names) - set(self.columns))
            if unknown or not names:
                which = f"no column {unknown[0]!r}" if unknown else "it reads no column"
                columns = f"columns of a {self.unit}: {', '.join(self.columns)}"
                raise self._error(f"{which}; {columns}{self._other_unit(names)}")
            if not _by_row(expression):
                raise self._error("it looks at more than one row; a filter decides each row by itself")
            verdict = pl.DataFrame([dict(self.columns)]).select(drop=expression)["drop"]
        except pl.exceptions.PolarsError as error:
            raise self._error(f"{sql!r} is no Polars SQL expression ({_why(error)})") from None
        if verdict.dtype != pl.Boolean:
            raise self._error(f"{sql!r} gives {verdict.dtype}, not true or false")
        return _Expression(expression, self._error, sql), set(names)

    def _function(self, source: bytes, path: Path, name: str) -> tuple[Drop, set[str]]:
        """The user's function as one of rows, and the columns that it reads."""
        space: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
        try:
            exec(compile(source, str(path), "exec"), space)
            function: Callable[..., bool] = space[name]
            reads = list(inspect.signature(function).parameters)
        except (KeyError, TypeError):
            raise self._error(f"{path} has no function {name!r}") from None
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise self._error(f"{path} cannot be run: {type(error).__name__}: {error}") from None
        unknown = [column for column in reads if column not in self.columns]
        if unknown or not reads:
            which = f"no column {unknown[0]!r}" if unknown else f"{name}() has no parameter"
            columns = f"name its parameters as columns: {', '.join(self.columns)}"
            raise self._error(f"{which}; {columns}{self._other_unit(reads)}")

        def drop(rows: pl.DataFrame) -> pl.Series:
            verdicts = []
            for row in rows.select(reads).iter_rows(named=True):
                try:
                    verdict = function(**row)
                except (Exception, SystemExit) as error:
                    at = str(row[reads[0]])[:60]
                    raise self._error(
                        f"{name}() raised {type(error).__name__}: {error} (at {at!r})"
                    ) from None
                if not isinstance(verdict, bool | np.bool_):
                    raise self._error(f"{name}() returned {type(verdict).__name__}, not True or False")
                verdicts.append(bool(verdict))
            return pl.Series(verdicts, dtype=pl.Boolean)

        return drop, set(reads)

    def _source(self) -> tuple[bytes, Path, str]:
        path, colon, name = (self.filter.python or "").rpartition(":")
        if not colon or not path.endswith(".py") or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise self._error(f"python = {self.filter.python!r}: write FILE.py:FUNCTION")
        try:
            return inputs.read_bytes(Path(path).expanduser()), Path(path), name
        except InputError as error:
            raise self._error(str(error)) from None

    def _other_unit(self, names: Collection[str]) -> str:
        """The unit to set where rows of another one have all these columns."""
        units = [unit for unit, columns in self.hooks.items() if names and set(names) <= set(columns)]
        return f'; a filter with unit = "{units[0]}" sees what it reads' if units else ""

    def _error(self, problem: str) -> InputError:
        return InputError(f"{self.builder}.filters, {self.filter.name}: {problem}")


def _why(error: Exception) -> str:
    """All of an error in one line: of a pattern, the reason comes last."""
    return " ".join(str(error).split())[:300]


def _by_row(expression: pl.Expr) -> bool:
    """Whether no part of it looks at other rows (an aggregate, a window, a row number)."""
    if expression.meta.is_literal():  # the list of IN (...)
        return True
    try:
        is_separable = expression.meta.is_row_separable()
    except pl.exceptions.ColumnNotFoundError:  # IN itself, which would need the schema
        is_separable = True
    return is_separable and all(_by_row(part) for part in expression.meta.pop())
