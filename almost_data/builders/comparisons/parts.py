"""Ranges of queries that were decided, and the tables that are written from them.

Queries are independent of each other, so a large set is decided a range of query ids at a time, and
only what was decided is kept; the texts are read again when the rows are written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ...datasets.digest import Blocks, Rows
from ...datasets.filters import Filter
from ...datasets.tables import Table, all_turns, last_turn
from ...diagnostics.shortcuts import SAMPLE, sampled_queries
from ...readers.layout import SIDES

_TEXTS = ("prompt", "response", "finish_reason")


@dataclass(frozen=True)
class Part:
    """A range of queries, with the decisions on its responses and pairs."""

    rows: pl.LazyFrame
    """Its responses; collected again, they come in the same order."""
    dropped: pl.DataFrame
    """`row` among the responses and `reason` of those that were dropped, by query and rank."""
    pairs: pl.DataFrame
    """`chosen_row` and `rejected_row` among the responses, and `reason`."""

    def texts(self, *columns: str) -> pl.DataFrame:
        """Ids, responder and rating of its responses, and further columns."""
        return self.rows.select("query_id", "reply_id", "responder", "rating", *columns).collect()


def decision_texts(rows: pl.LazyFrame, rules: Sequence[Filter]) -> pl.DataFrame:
    """The responses as they are decided.

    Where a rule reads them, with `prompt`, the text of its last turn, and `context`, that of all its turns.
    """
    reads = {
        name
        for rule in rules
        for name in (rule.drop.meta.root_names() if isinstance(rule.drop, pl.Expr) else rule.reads)
    }
    prompt = [last_turn()] if "prompt" in reads else []
    prompt += [all_turns().alias("context")] if "context" in reads else []
    names = ["query_id", "responder", "rank", "rating", "response", "finish_reason", "reply_id"]
    return rows.select(*names, *prompt).collect()


def compact(rows: pl.LazyFrame, decided: pl.DataFrame, pairs: pl.DataFrame, reasons: list[str]) -> Part:
    """The part without what can be recomputed."""
    reason = pl.col("reason").cast(pl.Enum(reasons))
    dropped = decided.filter(pl.col("reason").is_not_null()).select("row", reason)
    return Part(rows, dropped, pairs.select("chosen_row", "rejected_row", reason))


def comparisons(parts: Sequence[Part], queries: pl.DataFrame, table: Table) -> tuple[Blocks, pl.DataFrame]:
    """The comparisons, and a sample of them; `queries` has the number of comparisons of each, `pairs`."""
    is_large = int(queries["pairs"].sum()) > SAMPLE
    sampled = sampled_queries(queries) if is_large else None
    sample = pl.concat(_comparisons(part, table.names, sampled) for part in parts)
    return Blocks(lambda: (_comparisons(part, table.names) for part in parts), sample), sample


def rejected_tables(
    parts: Sequence[Part], stages: dict[str, str], columns: Mapping[str, Table]
) -> dict[str, Rows]:
    """The configs of dropped pairs and responses, as far as they have rows; `stages` is reason -> stage.

    `columns` are their tables, with texts or without.
    """
    of_pairs, of_responses = (columns[name].names for name in ("rejected", "rejected_responses"))
    rows: dict[str, Rows] = {}
    if any(part.pairs["reason"].count() for part in parts):
        rows["rejected"] = Blocks(lambda: (_rejected_pairs(part, stages, of_pairs) for part in parts))
    if any(len(part.dropped) for part in parts):
        rows["rejected_responses"] = Blocks(
            lambda: (_rejected_responses(part, stages, of_responses) for part in parts)
        )
    return rows


def prompts_of(parts: Sequence[Part], query_ids: pl.Series) -> pl.DataFrame:
    """`query_id` and `prompt`, the text of all turns, of the named queries."""

    def of_part(part: Part) -> pl.DataFrame:
        texts = part.rows.select("query_id", "prompt").collect()
        unique = texts.unique("query_id", keep="first", maintain_order=True)
        return unique.filter(pl.col("query_id").is_in(query_ids)).with_columns(all_turns())

    return pl.concat(of_part(part) for part in parts)


def _comparisons(part: Part, names: list[str], query_ids: pl.Series | None = None) -> pl.DataFrame:
    """The comparisons with their texts; those of the named queries only, where some are named."""
    texts = part.texts("prompt", "response")
    pairs = part.pairs.filter(pl.col("reason").is_null())
    if query_ids is not None:
        pairs = pairs.filter(texts["query_id"].gather(pairs["chosen_row"]).is_in(query_ids))
    comparison_id = pl.concat_str("chosen_reply_id", pl.lit("-"), "rejected_reply_id")
    rows = _with_ids(_with_messages(pairs, texts), texts).with_columns(comparison_id=comparison_id)
    return rows.select(names)


def _with_messages(pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """The pairs with prompt and both sides as messages."""

    def reply(side: str) -> pl.Expr:
        text = texts["response"].gather(pairs[f"{side}_row"])
        return pl.concat_list(pl.struct(pl.lit("assistant").alias("role"), text.alias("content")))

    prompt = texts["prompt"].gather(pairs["chosen_row"])
    return pairs.with_columns(prompt=prompt, chosen=reply("chosen"), rejected=reply("rejected"))


def _rejected_pairs(part: Part, stages: dict[str, str], names: list[str]) -> pl.DataFrame:
    has_text = "prompt" in names
    texts = part.texts(*(_TEXTS if has_text else ()))
    pairs = part.pairs.filter(pl.col("reason").is_not_null())
    if has_text:
        ended = texts["finish_reason"].gather(pairs["chosen_row"]).alias("chosen_finish_reason")
        pairs = _with_messages(pairs, texts).with_columns(ended)
    return _with_stage(_with_ids(pairs, texts), stages).select(names)


def _rejected_responses(part: Part, stages: dict[str, str], names: list[str]) -> pl.DataFrame:
    texts = part.texts(*(_TEXTS if "prompt" in names else ()))
    dropped = texts[part.dropped["row"]].hstack([part.dropped["reason"]])
    return _with_stage(dropped, stages).select(names)


def _with_ids(pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """The pairs with the ids, responders and ratings of their sides."""
    names = ("reply_id", "responder", "rating")
    sides = {side: texts.select(names)[pairs[f"{side}_row"]] for side in SIDES}
    columns = [sides[side][name].alias(f"{side}_{name}") for side in SIDES for name in names]
    return pairs.with_columns(texts["query_id"].gather(pairs["chosen_row"]), *columns)


def _with_stage(rows: pl.DataFrame, stages: dict[str, str]) -> pl.DataFrame:
    reason = pl.col("reason").cast(pl.String)
    return rows.with_columns(reason, stage=reason.replace_strict(stages, return_dtype=pl.String))
