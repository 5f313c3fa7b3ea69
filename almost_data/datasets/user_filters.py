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
"""

import hashlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from msgspec import Meta

from ..errors import InputError
from .builder import Config
from .filters import Filter

SOURCE = "user filter"
COLUMNS: dict[str, dict[str, Any]] = {
    "response": {
        "prompt": "Is tea a fruit?",
        "response": "No, it is made from the leaves of a shrub.",
        "responder": "large",
        "rank": 0,
        "finish_reason": "stop",
        "length": 42,
    },
    "pair": {
        "prompt": "Is tea a fruit?",
        "chosen": "No, it is made from the leaves of a shrub.",
        "rejected": "Yes, it is.",
        "chosen_responder": "large",
        "rejected_responder": "small",
        "chosen_rank": 0,
        "rejected_rank": 1,
        "chosen_finish_reason": "stop",
        "rejected_finish_reason": "stop",
        "chosen_length": 42,
        "rejected_length": 11,
    },
}
"""What a filter can read, with an example; lengths are in characters, ranks from 0, the best."""


class UserFilter(Config, frozen=True, kw_only=True):
    """One entry of `comparisons.filters`; either `drop` or `python`."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    """The reason that its dropped rows have."""
    description: Annotated[str, Meta(min_length=1, max_length=500)]
    """One sentence, as the card prints it."""
    unit: Literal["response", "pair"] = "response"
    drop: str | None = None
    """Polars SQL, true where a row is dropped; null keeps it."""
    python: str | None = None
    """`FILE.py:FUNCTION`."""


def load(given: UserFilter) -> Filter:
    """The filter that a config describes. Raises InputError where it cannot be one."""
    if (given.drop is None) == (given.python is None):
        raise _wrong(given, "give it either `drop`, an SQL expression, or `python`, FILE.py:FUNCTION")
    if given.drop is not None:
        params = {"drop": given.drop}
        drop, reads = _expression(given, given.drop)
    else:
        source, path, name = _source(given)
        params = {"python": f"{path.name}:{name}", "sha256": hashlib.sha256(source).hexdigest()}
        drop, reads = _function(given, source, path, name)
    return Filter(given.name, given.unit, given.description, SOURCE, drop, params, tuple(sorted(reads)))


Drop = Callable[[pl.DataFrame], pl.Series]


def _expression(given: UserFilter, sql: str) -> tuple[Drop, set[str]]:
    """The user's expression as a function of rows, and the columns that it reads."""
    known = COLUMNS[given.unit]

    def decide(rows: pl.DataFrame) -> pl.Series:
        try:
            return rows.select(drop=expression)["drop"]
        except pl.exceptions.PolarsError as error:
            why = " ".join(str(error).partition("\n")[0].split())[:200]
            raise _wrong(given, f"{sql!r} fails on some rows ({why})") from None

    try:
        expression = drop = pl.sql_expr(sql)
        unknown = sorted(set(drop.meta.root_names()) - set(known))
        if unknown or not drop.meta.root_names():
            which = f"no column {unknown[0]!r}" if unknown else "it reads no column"
            raise _wrong(given, f"{which}; columns of a {given.unit}: {', '.join(known)}")
        if not _by_row(drop):
            raise _wrong(given, "it looks at more than one row; a filter decides each row by itself")
        made = pl.DataFrame([known]).select(drop=drop)["drop"]
    except pl.exceptions.PolarsError as error:
        raise _wrong(
            given, f"{sql!r} is no Polars SQL expression ({str(error).partition(chr(10))[0]})"
        ) from None
    if made.dtype != pl.Boolean:
        raise _wrong(given, f"{sql!r} gives {made.dtype}, not true or false")
    return decide, set(drop.meta.root_names())


def _by_row(expression: pl.Expr) -> bool:
    """Whether no part of it looks at other rows (an aggregate, a window, a row number)."""
    if expression.meta.is_literal():  # the list of IN (...)
        return True
    try:
        alone = expression.meta.is_row_separable()
    except pl.exceptions.ColumnNotFoundError:  # IN itself, which would need the schema
        alone = True
    return alone and all(_by_row(part) for part in expression.meta.pop())


def _function(given: UserFilter, source: bytes, path: Path, name: str) -> tuple[Drop, set[str]]:
    """The user's function as one of rows, and the columns that it reads."""
    space: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), space)
        function: Callable[..., bool] = space[name]
        reads = list(inspect.signature(function).parameters)
    except (KeyError, TypeError):
        raise _wrong(given, f"{path} has no function {name!r}") from None
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise _wrong(given, f"{path} cannot be run: {type(error).__name__}: {error}") from None
    unknown = [column for column in reads if column not in COLUMNS[given.unit]]
    if unknown or not reads:
        which = f"no column {unknown[0]!r}" if unknown else f"{name}() has no parameter"
        raise _wrong(given, f"{which}; name its parameters as columns: {', '.join(COLUMNS[given.unit])}")

    def drop(rows: pl.DataFrame) -> pl.Series:
        verdicts = []
        for row in rows.select(reads).iter_rows(named=True):
            try:
                verdict = function(**row)
            except (Exception, SystemExit) as error:
                at = str(row[reads[0]])[:60]
                raise _wrong(given, f"{name}() raised {type(error).__name__}: {error} (at {at!r})") from None
            if not isinstance(verdict, bool):
                raise _wrong(given, f"{name}() returned {type(verdict).__name__}, not True or False")
            verdicts.append(verdict)
        return pl.Series(verdicts, dtype=pl.Boolean)

    return drop, set(reads)


def _source(given: UserFilter) -> tuple[bytes, Path, str]:
    path, colon, name = (given.python or "").rpartition(":")
    if not colon or not path.endswith(".py") or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise _wrong(given, f"python = {given.python!r}: write FILE.py:FUNCTION")
    try:
        return Path(path).expanduser().read_bytes(), Path(path), name
    except OSError as error:
        raise _wrong(given, f"{path}: cannot be read: {error.strerror}") from None


def _wrong(given: UserFilter, what: str) -> InputError:
    return InputError(f"comparisons.filters, {given.name}: {what}")
