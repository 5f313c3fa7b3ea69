"""Comparisons: the ladder is the label, after the heuristic filter.

Response checks, then two survivors a query, then the pair rule with the length rule, then the agreement of
the ratings where there are any, as the paper filters by its As-is RM. Defaults follow the released code
where it and the paper's text differ: `pairing="first"` (the text: every ordered pair),
`length_over="survivors"` and "at least as long" (the text: over all of Y, and "longer than").
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ...cards.figures import comparison_figures
from ...datasets.builder import AUTO, Builder, Built, Estimate, Parents, Progress
from ...datasets.digest import RANGE_ROWS, ranges
from ...datasets.filters import Filter, with_reason
from ...datasets.manifest import Manifest
from ...datasets.tables import all_turns, last_turn
from ...datasets.user_filters import load_filters, of_unit
from ...diagnostics import shortcuts
from ...diagnostics.contamination import contamination
from ...errors import InputError
from ...generation import Generator
from ...readers import benchmark_file
from ..checks import check_names, of_chosen, response_checks
from ..responses import ladder_rows
from . import by_ratings
from .accounts import FEW_SURVIVORS, Accounts
from .config import (
    BY_PARENTS,
    PAIR_FLAGS,
    ComparisonsConfig,
    as_fake,
    length_gaps,
    needs_ratings,
    pair_pins,
    paper_facts,
    unread_settings,
)
from .decisions import decide_responses, few_survivors, pair_up
from .decontamination import CONTAMINATED, contaminated
from .parts import Part, compact, comparisons, decision_texts, prompts_of, rejected_tables
from .ranking import EQUAL_SIDES, LENGTH_GAP, LENGTH_RULE, WALKS, length_rule
from .selection import REASONS, PairSelection
from .tables import HOOKS, TABLES, TEXT_TABLES

SMALL_SET = 50_000
"""Responses up to which `drops_with_text = "auto"` stores the texts of dropped rows."""


def build(config: ComparisonsConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Decide every response, then every ordered pair of a query's survivors."""
    responses = _responses(parents)
    benchmarks = {Path(file).name: benchmark_file.read_prompts(file) for file in config.benchmarks}
    checks, rules = _filters(config)
    if config.decontaminate:
        checks = {"decontamination": [contaminated(responses, benchmarks)], **checks}
    on_responses = [rule for stage in checks.values() for rule in stage]
    agreement = [by_ratings.agreement(config.margin, _rater(parents))] if config.label == "both" else []
    selection = PairSelection(config)
    accounts = Accounts(
        {**checks, "survivors": [few_survivors(config)]},
        {"pairs": [WALKS[config.pairing], *rules], "agreement": agreement, "selection": selection.filters},
    )
    total = int(responses.select(pl.len()).collect().item())
    progress("comparisons", 0, total, 0)
    parts: list[Part] = []
    for rows in ranges(responses, RANGE_ROWS):
        texts = decision_texts(rows, [*on_responses, *rules])
        decided = decide_responses(texts, on_responses, config)
        if config.limit is not None:
            decided = decided.filter(pl.col("query") < config.limit - accounts.queries)
        pairs = pair_up(texts, decided, rules, config.pairing, agreement)
        accounts.add(texts, decided, pairs)
        parts.append(compact(rows, decided, pairs, list(accounts.stages)))
        selection.add(texts, pairs)
        progress("comparisons", accounts.responses, total, 0)
        if accounts.queries == config.limit:
            break
    parts, not_selected = selection.apply(parts)
    if not_selected is not None:
        accounts.drop(not_selected)
    schemas = by_ratings.schemas("ratings" in parents, TEXT_TABLES if _with_text(config, total) else {})
    tables = {**TABLES, **schemas}
    rejected = rejected_tables(parts, accounts.stages, tables)
    ledger = accounts.ledger()
    if not accounts.kept:
        return Built(rejected, ledger, {}, schemas=schemas)
    queries = accounts.by_query()
    blocks, sample = comparisons(parts, queries, tables["default"])
    diagnostics = accounts.diagnostics() | {"text": shortcuts.diagnose(shortcuts.plain(sample))}
    for entry in ledger:
        if entry.filter == by_ratings.DISAGREE:
            diagnostics["rating_agreement"] = entry.kept / entry.n_in
    if benchmarks:
        prompts = prompts_of(parts, queries["query_id"])
        diagnostics["contamination"] = contamination(prompts, benchmarks)
    notes = [
        *_notes(config, accounts),
        *_unchecked_notes(config, parts),
        *selection.notes(accounts.kept, diagnostics["text"]),
    ]
    return Built({"default": blocks, **rejected}, ledger, diagnostics, notes, schemas=schemas)


def _with_text(config: ComparisonsConfig, responses: int) -> bool:
    """Whether dropped rows are stored with their texts."""
    return responses <= SMALL_SET if config.drops_with_text == AUTO else bool(config.drops_with_text)


def _responses(parents: Parents) -> pl.LazyFrame:
    """The responses of the ladder, with their `rating`, null where there is none."""
    responses = parents["responses"]("default").filter(pl.col("rank").is_not_null())
    if "ratings" not in parents:
        return responses.with_columns(rating=pl.lit(None, pl.Float64))
    return by_ratings.with_ratings(responses, parents["ratings"]("default"))


def _rater(parents: Parents) -> str:
    """The model that gave the ratings."""
    [rater] = parents["ratings"]("default").select("rater").head(1).collect()["rater"]
    return str(rater)


def _notes(config: ComparisonsConfig, accounts: Accounts) -> list[str]:
    """What the length rule does where most queries have two survivors: M - S/2 is above the shorter text."""
    if config.length_over == "all" or 2 * accounts.pairs_of_two <= accounts.compared:
        return []
    if config.length_sd is None:
        return ["No length rule: of two responses it would keep only pairs whose chosen is the longer one."]
    share = accounts.pairs_of_two / accounts.compared
    return [
        f"In {share:.0%} of the queries that make pairs, two responses survive: there the length rule keeps "
        "only pairs whose chosen is the longer one."
    ]


def _unchecked_notes(config: ComparisonsConfig, parts: Sequence[Part]) -> list[str]:
    """How many rejected responses would fail a check, where only the chosen ones are checked."""
    if config.check_sides != "chosen":
        return []
    reasons = []
    for part in parts:
        rejected = part.pairs.filter(pl.col("reason").is_null())["rejected_row"]
        context = all_turns().alias("context")
        texts = part.rows.select(last_turn(), context, "response", "finish_reason").collect()
        reasons.append(with_reason(texts[rejected], _checks(config))["reason"])
    failed = pl.concat(reasons)
    counts = failed.drop_nulls().value_counts(sort=True, name="rows").iter_rows()
    names = ", ".join(f"{name} {rows:,}" for name, rows in counts)
    note = f"Only the chosen responses are checked: {failed.count():,} of the {len(failed):,} rejected ones "
    return [f"{note}would fail a check ({names})."] if names else []


def _checks(config: ComparisonsConfig) -> list[Filter]:
    by_name = response_checks(config.min_chars)
    return [by_name[name] for name in check_names(config.checks)]


def _filters(config: ComparisonsConfig) -> tuple[dict[str, list[Filter]], list[Filter]]:
    """Filters on responses by stage, and those on pairs."""
    checks = _checks(config)
    user_filters = load_filters(config.filters, HOOKS, "comparisons", _reserved_names())
    length_sd = config.length_sd
    length = [length_rule(length_sd, config.length_over)] if isinstance(length_sd, int | float) else []
    length += length_gaps(config)
    length += by_ratings.thresholds(
        config.min_rejected_rating, config.min_rejected_chars, config.max_rating_gap
    )
    labels = [by_ratings.rated_higher(config.margin)] if config.label == "ratings" else []
    is_both = config.check_sides != "chosen"
    by_stage = {
        **({"ratings": [by_ratings.UNRATED]} if needs_ratings(config) else {}),
        "response checks": checks if is_both else [],
        "user filters": of_unit(user_filters, "response"),
    }
    of_pairs = [] if is_both else [of_chosen(check) for check in checks]
    return by_stage, [EQUAL_SIDES, *labels, *of_pairs, *length, *of_unit(user_filters, "pair")]


def _reserved_names() -> set[str]:
    names = {
        FEW_SURVIVORS,
        EQUAL_SIDES.name,
        LENGTH_RULE,
        LENGTH_GAP,
        CONTAMINATED,
        *(walk.name for walk in WALKS.values()),
    }
    return names | {*response_checks()} | REASONS | by_ratings.REASONS


def _pins(config: ComparisonsConfig, generator: Generator) -> dict[str, Any]:
    """Hashes of the files of filters and benchmarks."""
    checks = ", ".join(check_names(config.checks)) or "none"
    if unread := unread_settings(config):
        setting, rule = next(iter(unread.items()))
        raise InputError(
            f"comparisons.{setting} is read by {rule} alone, which is not in use here (checks: {checks}; "
            f"label: {config.label}): leave the setting out, or use that rule"
        )
    user_filters = load_filters(config.filters, HOOKS, "comparisons", _reserved_names())
    return pair_pins(config, "comparisons", user_filters)


def _estimate(config: ComparisonsConfig, parents: Mapping[str, Estimate]) -> Estimate:
    """The paper keeps 1.3 comparisons of a query's five responses."""
    responses = parents["responses"]
    return Estimate(responses.rows // responses.rows_per_query * 13 // 10)


def _card_values(manifest: Manifest, sources: Sequence[Manifest]) -> dict[str, Any]:
    names, matrix = pair_matrix(manifest)
    rows = [{"responder": name, "counts": counts} for name, counts in zip(names, matrix, strict=True)]
    dropped = [manifest.table(name) for name in TEXT_TABLES if name in manifest.counts]
    is_by_id = any("prompt" not in table.names for table in dropped)
    return {"ladder": ladder_rows(sources), "matrix": rows, "dropped_by_id": is_by_id}


def pair_matrix(manifest: Manifest) -> tuple[list[str], list[list[int | None]]]:
    """Responders, best first, and how many comparisons chose row over column; None where that cannot be.

    Counts are those of the last filter on pairs; of the diagnostics, where no filter on pairs ran.
    """
    names = [str(row["responder"]) for row in manifest.diagnostics["responders"]]
    counts = {
        f"{row['chosen_responder']} > {row['rejected_responder']}": int(row["comparisons"])
        for row in manifest.diagnostics["responder_pairs"]
    }
    for entry in manifest.ledger:
        if entry.by_pair:
            counts = {pair: count.kept for pair, count in entry.by_pair.items()}
    grid = [
        [counts.get(f"{chosen} > {rejected}", 0 if i < j else None) for j, rejected in enumerate(names)]
        for i, chosen in enumerate(names)
    ]
    return names, grid


BUILDER = Builder(
    name="comparisons",
    doc="Chosen over rejected responses, labelled by the ladder, by ratings or by both, after filters.",
    logic_version=9,
    config=ComparisonsConfig,
    tables=TABLES,
    parents=("responses",),
    optional={"ratings": needs_ratings},
    build=build,
    uses_engine=False,
    pins=_pins,
    auto=BY_PARENTS,
    hooks=HOOKS,
    as_fake=as_fake,
    estimate=_estimate,
    flags=("checks", "check_sides", "label", "margin", "pairing", *PAIR_FLAGS),
    tags=("synthetic", "preference", "rlhf", "dpo", "reward-model", "almost"),
    card="comparisons.md.jinja",
    card_values=_card_values,
    paper_facts=paper_facts,
    figures=comparison_figures,
)
