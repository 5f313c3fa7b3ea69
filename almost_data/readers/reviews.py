"""Reviews: a judge, a model or a person, gave both answers of a pair a score. Do comparisons agree?"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..diagnostics.probe import wilson
from ..errors import InputError

COLUMNS = {
    "prompt": pl.String,
    "responder_a": pl.String,
    "responder_b": pl.String,
    "score_a": pl.Float64,
    "score_b": pl.Float64,
}


@dataclass(frozen=True)
class Agreement:
    """Of the comparisons that were reviewed: the judge agreed, disagreed, or gave both the same score."""

    agree: int
    disagree: int
    tie: int

    @property
    def share(self) -> float | None:
        """Of those without a tie."""
        decided = self.agree + self.disagree
        return self.agree / decided if decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% of the share, by Wilson's formula."""
        return None if self.share is None else wilson(self.share, self.agree + self.disagree)

    def __str__(self) -> str:
        if self.share is None or self.interval is None:
            return "n/a"
        low, high = self.interval
        return f"{self.share:.0%} [{100 * low:.0f},{100 * high:.0f}]"


def read(file: Path) -> pl.DataFrame:
    """Reviews from JSONL or Parquet with the columns of `COLUMNS`, which it returns.

    Raises InputError where the file cannot be read, lacks a column, or has a score that is no number.
    """
    if file.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"{file}: give reviews as .jsonl or .parquet, with columns {', '.join(COLUMNS)}")
    try:
        rows = (
            pl.read_ndjson(file, infer_schema_length=None)
            if file.suffix == ".jsonl"
            else pl.read_parquet(file)
        )
    except OSError:
        raise InputError(f"{file}: no such file, or no right to read it") from None
    except (pl.exceptions.PolarsError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read ({str(error).partition(chr(10))[0]})") from None
    if rows.is_empty():
        raise InputError(f"{file}: no review in it")
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise InputError(f"{file}: no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
    for name, kind in COLUMNS.items():
        found = rows[name].dtype
        if not (found == kind if kind == pl.String else found.is_numeric()) or rows[name].null_count():
            what = "text" if kind == pl.String else "a number"
            raise InputError(f"{file}: column {name!r} must have {what} in every row")
    return rows.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


def agreement(comparisons: pl.LazyFrame, reviews: pl.DataFrame) -> Agreement:
    """How the judge sees those comparisons of which it saw both answers.

    Reviews in either order count; several of one pair are averaged.
    """
    turned = {
        "responder_a": "responder_b",
        "responder_b": "responder_a",
        "score_a": "score_b",
        "score_b": "score_a",
    }
    both = pl.concat([reviews, reviews.rename(turned).select(reviews.columns)])
    both = both.with_columns(prompt=pl.col("prompt").str.strip_chars())
    keys = ["prompt", "responder_a", "responder_b"]
    gaps = both.group_by(keys).agg(gap=pl.col("score_a").mean() - pl.col("score_b").mean())
    seen = comparisons.select(
        pl.col("prompt").list.last().struct.field("content").alias("prompt"),
        responder_a="chosen_responder",
        responder_b="rejected_responder",
    )
    found = seen.join(gaps.lazy(), on=keys).select("gap").collect()["gap"]
    return Agreement(int((found > 0).sum()), int((found < 0).sum()), int((found == 0).sum()))
