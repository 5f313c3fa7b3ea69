"""Filtered comparisons: those that exist, of any origin, with fewer pairs and a ledger that says why.

Reads comparisons that were imported, built or pulled. Texts and labels stay as they are: a rule drops a pair
or keeps it. Response checks look at the chosen reply alone, since a bad reply may well be a rejected one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from ..cards.figures import comparison_figures
from ..datasets.builder import Builder, Built, Parents, Progress
from ..datasets.digest import RANGE_ROWS, Blocks, Rows, first_queries, ranges
from ..datasets.filters import Filter, chain_stages, count_reasons, with_reason
from ..datasets.ledger import Entry
from ..datasets.tables import REASON, Table, all_turns, last_turn, string
from ..datasets.user_filters import load_filters
from ..diagnostics.contamination import contamination
from ..diagnostics.shortcuts import SAMPLE, sampled_queries
from ..errors import InputError
from ..generation import Generator
from ..readers import benchmark_file
from ..readers.layout import SIDES
from .checks import SETS, check_names, of_chosen, response_checks
from .comparisons import imported
from .comparisons.config import PAIR_FLAGS, PairConfig, as_fake, length_gaps, pair_pins
from .comparisons.decontamination import CONTAMINATED, contaminated
from .comparisons.parts import Part, prompts_of
from .comparisons.ranking import LENGTH_GAP
from .comparisons.selection import REASONS, PairSelection
from .comparisons.tables import RATED

DEFAULT = imported.TABLES["default"]
COLUMNS = {column.name: column for column in (*DEFAULT.columns, *RATED)}
"""The columns of comparisons that are kept, where the source has them."""
DROPPED = (string("stage", "where it was dropped", "response checks"), REASON)
HOOKS = {
    "pair": {
        "prompt": "Is tea a fruit?",
        "chosen": "No, it is made from the leaves of a shrub.",
        "rejected": "Yes, it is.",
        "chosen_length": 42,
        "rejected_length": 11,
        **{name: column.example for name, column in COLUMNS.items() if column.type != "messages"},
    }
}
"""As in comparisons: `prompt` is the text of the user's last turn, and lengths are in characters."""
Decided = Sequence[tuple[pl.LazyFrame, pl.Series]]
"""The pairs of each range of queries, with the reasons for which they are dropped."""


class FilteredConfig(PairConfig, frozen=True, kw_only=True):
    """Which pairs stay. Without a rule, all do."""

    checks: Annotated[str | tuple[str, ...], Meta(examples=list(SETS))] = "none"
    """Response checks on the chosen reply: the set `paper`, `chat` or `none`, or names of checks and sets
    with commas between, such as `chat,too_short`: `too_short` (under 50 characters), `ends_open` (ends in
    ? or :), `starts_well` (begins with "well"), `unfinished` (ends in no . or !), `dont_know` (says "don't
    know"), `turn_marker` (has Human: in it), `cut_off` (was cut), `refusal` (declines to answer),
    `identity` (talks of itself as an AI), `knowledge_cutoff` (talks of the end of its training data),
    `loop` (repeats itself), `reasoning_left` (shows marks of reasoning), `next_turn` (goes on with the next
    turn), `other_language` (is in another language than the prompt)."""


def _tables(names: Sequence[str]) -> dict[str, Table]:
    """The tables of kept and dropped pairs with these columns."""
    columns = tuple(COLUMNS[name] for name in names)
    dropped = (*columns, *DROPPED)
    return {
        "default": msgspec.structs.replace(DEFAULT, columns=columns),
        "rejected": msgspec.structs.replace(DEFAULT, doc="one dropped pair a row", columns=dropped),
    }


def build(config: FilteredConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Decide every pair by itself, then the set as a whole, a range of queries in memory at a time."""
    source = first_queries(parents["comparisons"]("default"), config.limit)
    names = [name for name in COLUMNS if name in source.collect_schema().names()]
    benchmarks = {Path(file).name: benchmark_file.read_prompts(file) for file in config.benchmarks}
    selection = PairSelection(config)
    stages = _stages(config, source, names, benchmarks) | {"selection": selection.filters}
    rules = [rule for stage, filters in stages.items() if stage != "selection" for rule in filters]
    stage_of = {rule.name: stage for stage, filters in stages.items() for rule in filters}
    responders = _responders(source)
    sources, parts = list(ranges(source.select(names), RANGE_ROWS // 4)), []
    total = int(source.select(pl.len()).collect().item())
    done = 0
    for rows in sources:
        texts = _texts(rows)
        pairs = _decided(texts, rules, responders)
        selection.add(texts, pairs)
        reason = pl.col("reason").cast(pl.Enum(list(stage_of)))
        parts.append(Part(_replies(rows), pl.DataFrame(), pairs.select("chosen_row", "rejected_row", reason)))
        progress("filtered", done := done + len(texts), total, 0)
    parts, _ = selection.apply(parts)
    decided = [(rows, part.pairs["reason"]) for rows, part in zip(sources, parts, strict=True)]
    schemas = _tables(names)
    ledger = _ledger(stages, [reason for _, reason in decided])
    tables: dict[str, Rows] = {}
    if any(reason.count() for _, reason in decided):
        tables["rejected"] = Blocks(lambda: _dropped(decided, stage_of))
    kept = sum(reason.null_count() for _, reason in decided)
    if not kept:
        return Built(tables, ledger, {}, schemas=schemas)
    sample = _sample(decided, kept)
    tables["default"] = Blocks(lambda: _kept(decided), sample)
    diagnostics = imported.preference_diagnostics(sample, kept, _query_ids(decided).lazy())
    if benchmarks:
        prompts = prompts_of(parts, _query_ids(decided)["query_id"].unique())
        diagnostics["contamination"] = contamination(prompts, benchmarks)
    notes = selection.notes(kept, diagnostics["text"])
    return Built(tables, ledger, diagnostics, notes, schemas=schemas)


def _stages(
    config: FilteredConfig, source: pl.LazyFrame, names: Sequence[str], benchmarks: dict[str, list[str]]
) -> dict[str, list[Filter]]:
    """Stage -> the filters that decide a pair by itself, in order."""
    by_name = response_checks()
    user_filters = load_filters(config.filters, HOOKS, "filtered", _reserved_names())
    for rule in user_filters:
        if missing := sorted(set(rule.reads) & set(COLUMNS) - set(names)):
            raise InputError(f"filtered.filters, {rule.name}: these comparisons have no {missing[0]!r}")
    decontamination = [replace(contaminated(source, benchmarks), unit="pair")] if config.decontaminate else []
    return {
        "decontamination": decontamination,
        "response checks": [of_chosen(by_name[name]) for name in check_names(config.checks)],
        "pairs": length_gaps(config),
        "user filters": user_filters,
    }


def _texts(rows: pl.LazyFrame) -> pl.DataFrame:
    """The pairs with prompt and sides as text, and what the rules read besides."""
    lengths = [pl.col(side).str.len_chars().cast(pl.Int64).alias(f"{side}_length") for side in SIDES]
    return (
        rows.with_columns(last_turn(), all_turns().alias("context"), *map(last_turn, SIDES))
        .with_columns(*lengths, chosen_finish_reason=pl.lit(None, pl.String))
        .collect()
    )


def _decided(texts: pl.DataFrame, rules: Sequence[Filter], responders: Mapping[str, int]) -> pl.DataFrame:
    """The pairs with their `reason`, as `PairSelection` takes them: sides by row, responders by number."""
    number = pl.int_range(pl.len(), dtype=pl.UInt32)
    ranks = [
        pl.col(f"{side}_responder")
        .fill_null("")
        .replace_strict(responders, return_dtype=pl.Int64)
        .alias(f"{side}_rank")
        for side in SIDES
    ]
    return with_reason(texts, rules).select(
        "reason",
        *(f"{side}_length" for side in SIDES),
        *ranks,
        chosen_row=number,
        rejected_row=number + len(texts),
    )


def _replies(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The replies of the pairs: all chosen ones, then all rejected ones."""
    sides = [rows.select("query_id", "prompt", last_turn(side).alias("response")) for side in SIDES]
    return pl.concat(sides)


def _responders(source: pl.LazyFrame) -> dict[str, int]:
    """Responder -> its number; one that is not known is the empty name."""
    names = [source.select(pl.col(f"{side}_responder").fill_null("").unique()).collect() for side in SIDES]
    unique = sorted({str(name) for column in names for name in column.to_series()})
    return {name: number for number, name in enumerate(unique)}


def _ledger(stages: Mapping[str, list[Filter]], reasons: Sequence[pl.Series]) -> list[Entry]:
    dropped = Counter[str]()
    for series in reasons:
        dropped.update(count_reasons(series))
    return chain_stages(stages, sum(map(len, reasons)), dropped)


def _kept(decided: Decided) -> Iterator[pl.DataFrame]:
    return (rows.collect().filter(reason.is_null()) for rows, reason in decided)


def _dropped(decided: Decided, stage_of: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    for rows, reason in decided:
        names = reason.cast(pl.String)
        dropped = rows.collect().with_columns(names.alias("reason")).filter(names.is_not_null())
        yield dropped.with_columns(stage=pl.col("reason").replace_strict(stage_of, return_dtype=pl.String))


def _query_ids(decided: Decided) -> pl.DataFrame:
    """`query_id` of each pair that is kept."""
    return pl.concat(_kept([(rows.select("query_id"), reason) for rows, reason in decided]))


def _sample(decided: Decided, kept: int) -> pl.DataFrame:
    """The kept pairs for card and figures: all where they are few."""
    if kept <= SAMPLE:
        return pl.concat(_kept(decided))
    counts = _query_ids(decided).group_by("query_id").agg(pairs=pl.len())
    is_sampled = pl.col("query_id").is_in(sampled_queries(counts).implode())
    return pl.concat(rows.filter(is_sampled) for rows in _kept(decided))


def _reserved_names() -> set[str]:
    return {*response_checks(), LENGTH_GAP, CONTAMINATED, *REASONS}


def _pins(config: FilteredConfig, generator: Generator) -> dict[str, Any]:
    check_names(config.checks)
    if config.length_tokenizer and config.max_length_gap is None:
        raise InputError("filtered.length_tokenizer is read by filtered.max_length_gap: set that too")
    return pair_pins(config, "filtered", load_filters(config.filters, HOOKS, "filtered", _reserved_names()))


BUILDER = Builder(
    name="filtered",
    doc="Comparisons that exist, imported, built or pulled, after filters.",
    logic_version=2,
    config=FilteredConfig,
    tables=_tables(list(COLUMNS)),
    parents=("comparisons",),
    builds_parents=False,
    build=build,
    uses_engine=False,
    pins=_pins,
    hooks=HOOKS,
    as_fake=as_fake,
    flags=("checks", *PAIR_FLAGS),
    tags=("preference", "rlhf", "dpo", "reward-model"),
    card="filtered.md.jinja",
    figures=comparison_figures,
)
