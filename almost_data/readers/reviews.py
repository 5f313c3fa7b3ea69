"""Reviews: the scores that a judge, a model or a person, gave to both answers of a pair."""

from pathlib import Path

import msgspec
import polars as pl

from ..errors import InputError
from . import files

SUFFIXES = (".jsonl", ".parquet")


class Review(msgspec.Struct, frozen=True):
    """One row: two responders' answers to a prompt, and the score of each."""

    prompt: str
    responder_a: str
    responder_b: str
    score_a: float
    score_b: float


def read(file: Path) -> pl.DataFrame:
    """Reviews from JSONL or Parquet with the columns of `Review`. Raises InputError."""
    columns = Review.__struct_fields__
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file}: give reviews as .jsonl or .parquet, with columns {', '.join(columns)}")
    reviews = []
    for place, row in files.read_rows(str(file), SUFFIXES, needs=columns.__contains__):
        try:
            reviews.append(msgspec.structs.astuple(msgspec.convert(row, Review)))
        except msgspec.ValidationError as error:
            raise InputError(f"{place}: not a review ({error}); it needs {', '.join(columns)}") from None
    if not reviews:
        raise InputError(f"{file}: no review in it")
    types = [pl.String] * 3 + [pl.Float64] * 2
    return pl.DataFrame(reviews, schema=dict(zip(columns, types, strict=True)), orient="row")
