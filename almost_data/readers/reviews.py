"""A judge's preferences between answers: scores of both by responder, or any layout of preferences."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import msgspec
import polars as pl

from ..datasets.builder import prompt_id
from ..diagnostics.agreement import Verdicts
from ..errors import InputError
from . import files
from .conversations import read_prompt, stripped
from .fastchat import is_fastchat
from .formats import Row
from .layout import number_of
from .preferences import ReadRow, Rejected, read_preferences
from .reasons import Unusable

_SCHEMA = {"query_id": pl.String, "a": pl.String, "b": pl.String, "gap": pl.Float64}


class Review(msgspec.Struct, frozen=True):
    """One row: two responders' answers to a prompt (text or messages), and the score of each."""

    prompt: Any
    responder_a: str
    responder_b: str
    score_a: float | str
    score_b: float | str


def read(source: str, columns: Mapping[str, str] | None = None) -> Verdicts:
    """The verdicts of a file with the columns of `Review`, or of preferences in any layout.

    `columns` say which hold prompt, chosen and rejected, as in `read_preferences`. Raises InputError.
    """
    if not columns and not is_fastchat(source):
        rows = files.read_rows(source, files.TABLE_SUFFIXES, Review.__struct_fields__.__contains__)
        first = next(rows, None)
        if first and "responder_a" in first[1]:
            return _by_responder(chain([first], rows))
    return _by_text(source, read_preferences(source, columns).rows)


def _by_responder(rows: Iterable[Row]) -> Verdicts:
    verdicts = []
    for place, row in rows:
        try:
            review = msgspec.convert(row, Review, strict=False)
            query = prompt_id(stripped(read_prompt(review.prompt)))
        except (msgspec.ValidationError, Unusable) as error:
            needs = ", ".join(Review.__struct_fields__)
            raise InputError(f"{place}: not a review ({error}); it needs {needs}") from None
        first, second = number_of(review.score_a), number_of(review.score_b)
        if first is None or second is None:
            raise InputError(f"{place}: score_a and score_b must be numbers: write two, or delete the row")
        verdicts.append((query, review.responder_a, review.responder_b, first - second))
    return Verdicts(pl.DataFrame(verdicts, schema=_SCHEMA, orient="row"), "responder")


def _by_text(source: str, rows: Iterable[ReadRow]) -> Verdicts:
    verdicts: list[tuple[str, str, str, float]] = []
    problems: list[str] = []
    reasons: Counter[str] = Counter()
    for row in rows:
        if isinstance(row.result, Rejected):
            problems.append(f"{row.place}: {row.result.detail}")
            reasons[row.result.reason] += 1
            continue
        for preference in row.result:
            query = prompt_id(stripped(preference.prompt))
            verdicts.append((query, preference.chosen.text.strip(), preference.rejected.text.strip(), 1.0))
    if not verdicts:
        raise InputError(problems[0] if problems else f"{source}: no preference in it")
    return Verdicts(pl.DataFrame(verdicts, schema=_SCHEMA, orient="row"), "text", reasons)
