"""How the patterns of the chat checks are put together and searched."""

from collections.abc import Mapping, Sequence

import polars as pl

CODE = r"(?s)```.*?(?:```|\z)|`[^`\n]*`"
"""Code between fences, also behind one that is open, and within a line."""


def any_of(*patterns: str) -> str:
    """One pattern. Its word boundaries are those of ASCII, which are found many times faster."""
    return f"(?i)({'|'.join(patterns)})".replace(r"\b", r"(?-u:\b)")


def words(text: str) -> tuple[str, ...]:
    """The words of a list with bars between, blanks included."""
    return tuple(text.split("|"))


def find(texts: pl.DataFrame, patterns: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """The rows whose `text` matches one of the patterns.

    Each pattern has words, in lower case, one of which stands in every text that it matches: a search for
    words is many times faster than one for a long pattern.
    """
    lower = texts.with_columns(lower=pl.col("text").str.to_lowercase())
    return pl.concat(
        lower.filter(pl.col("lower").str.contains_any(list(marks))).filter(
            pl.col("text").str.contains(pattern)
        )
        for pattern, marks in patterns.items()
    )


def matching(rows: pl.DataFrame, index: pl.Series) -> pl.Series:
    """Whether each of the rows has its number in `index`."""
    return pl.int_range(len(rows), dtype=pl.UInt32, eager=True).is_in(index.implode())
