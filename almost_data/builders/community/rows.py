"""The rows of community comparisons, from the pairs that were decided."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from ...datasets.builder import text_id
from ...datasets.digest import RANGE_ROWS, Blocks
from . import votes
from .tables import TABLES

POSTS = ("question", "chosen", "rejected")
"""The posts of a pair."""


def comparisons(kept: pl.DataFrame, sites: list[str]) -> pl.DataFrame:
    """The table `default`: the pairs that are kept, as messages."""

    def message(role: str, text: str) -> pl.Expr:
        return pl.concat_list(pl.struct(pl.lit(role).alias("role"), pl.col(text).alias("content")))

    return (
        kept.select(
            *(f"{post}_{name}" for post in POSTS for name in ("url", "author", "license")),
            *("query_id", "chosen_score", "rejected_score"),
            comparison_id=_names(sites)["comparison_id"],
            prompt=message("user", "question_text"),
            chosen=message("assistant", "chosen_text"),
            rejected=message("assistant", "rejected_text"),
        )
        .select(TABLES["default"].names)
        .cast({"chosen_score": pl.Int64, "rejected_score": pl.Int64})
        .sort("query_id", "comparison_id")
    )


def _names(sites: list[str]) -> dict[str, pl.Expr]:
    """Columns of ids and addresses -> the text that the numbers of site and posts make."""
    site = pl.col("site").replace_strict(dict(enumerate(sites)), return_dtype=pl.String)
    return {
        "comparison_id": pl.format("{}/{}-{}", site, "chosen", "rejected"),
        "question_url": pl.format("https://{}/questions/{}", site, "question"),
        "answer_url": pl.format("https://{}/a/{}", site, "answer"),
    }


def rejected(
    name: str, rows: pl.DataFrame, query_ids: pl.DataFrame, sites: list[str], stages: dict[str, str]
) -> Blocks:
    """A table of dropped rows, made in blocks: a large dump has many more of them than of kept rows.

    They are sorted as numbers, and get ids and addresses as text a block at a time. A question whose text
    was not read has the hash of its address as query_id. `stages` has the stage of each reason.
    """
    table = TABLES[name]
    rows = rows.filter(pl.col("reason").is_not_null())
    hashes = _query_hashes(rows.select(votes.QUESTION).unique(), query_ids, sites)
    columns = [column for column in (*votes.PAIR_COLUMNS, "answer") if column in rows.columns]
    dropped = rows.select(columns).join(hashes, on=votes.QUESTION).sort("query_hash")
    dropped = dropped.with_columns(pl.col("reason").cast(pl.Enum(list(stages))))
    texts = [text.alias(column) for column, text in _names(sites).items() if column in table.names]

    def block(part: pl.DataFrame) -> pl.DataFrame:
        with_texts = part.with_columns(
            pl.Series("query_id", [f"{query:016x}" for query in part["query_hash"]], dtype=pl.String),
            *texts,
            reason=pl.col("reason").cast(pl.String),
            stage=pl.col("reason").cast(pl.String).replace_strict(stages, return_dtype=pl.String),
        )
        scores = pl.selectors.ends_with("_score")
        return with_texts.with_columns(scores.cast(pl.Int64)).select(table.names).sort(table.key)

    def blocks() -> Iterator[pl.DataFrame]:
        start = 0
        while start < len(dropped):
            last = dropped["query_hash"][min(start + RANGE_ROWS, len(dropped)) - 1]
            end = int(dropped["query_hash"].search_sorted(last, side="right"))
            yield block(dropped[start:end])
            start = end

    return Blocks(blocks)


def _query_hashes(questions: pl.DataFrame, query_ids: pl.DataFrame, sites: list[str]) -> pl.DataFrame:
    """The query_id of each question as a number: of its text where that was read, else of its address."""
    urls = (f"https://{sites[site]}/questions/{question}" for site, question in questions.iter_rows())
    of_urls = np.fromiter((int(text_id(url), 16) for url in urls), np.uint64, len(questions))
    of_texts = query_ids.select(
        *votes.QUESTION, of_text=pl.col("query_id").str.to_integer(base=16, dtype=pl.UInt64)
    )
    return (
        questions.with_columns(of_url=pl.Series(of_urls))
        .join(of_texts, on=votes.QUESTION, how="left")
        .select(*votes.QUESTION, query_hash=pl.coalesce("of_text", "of_url"))
    )
