"""Comparisons: the ladder is the label, after the heuristic filter.

Response checks, then two survivors a query, then the pair rule with the length rule, then the As-is
RM where one is given. Defaults follow the released code where it and the paper's text differ:
`pairing="first"` (the text: every ordered pair), `length_over="survivors"` and "at least as long" (the
text: over all of Y, and "longer than").

Queries have nothing to do with each other, so a large set is decided a range of query ids at a time,
and only what was decided is kept; the texts are read again when the rows are written.
"""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from msgspec import Meta

from ...datasets import schema
from ...datasets.builder import (
    BuilderSpec,
    Built,
    Config,
    NothingLeft,
    Parents,
    Positive,
    Progress,
    RewardModel,
)
from ...datasets.digest import BLOCK, Blocks, Rows, ranges
from ...datasets.filters import Filter, account, first_reason, response_checks, with_reason
from ...datasets.user_filters import UserFilter, load
from ...diagnostics import shortcuts as diagnostics
from ...diagnostics.contamination import contamination
from ...errors import InputError
from ...generation import Generator
from ...readers import benchmark_file
from ...scoring import Scorer
from .accounts import Accounts
from .asis import AsIs
from .ranking import ALREADY_CHOSEN, AS_IS, LADDER, LENGTH_RULE, Pairing, length_rule, rank_pairs

Check = Literal["too_short", "ends_open", "starts_well", "unfinished", "dont_know", "turn_marker"]


class ComparisonsConfig(Config, frozen=True, kw_only=True):
    """Defaults are the released code's."""

    checks: tuple[Check, ...] = (
        "too_short",
        "ends_open",
        "starts_well",
        "unfinished",
        "dont_know",
        "turn_marker",
    )
    """Response checks to apply, a reason being the first that drops."""
    min_chars: Annotated[int, Meta(ge=0)] = 50
    """A response under this is dropped (`too_short`)."""
    min_survivors: Annotated[int, Meta(ge=2)] = 2
    """A query with fewer surviving responses makes no pair."""
    pairing: Pairing = "first"
    """`first`: a responder is chosen once, against the first partner that passes; `all`: every pair."""
    length_sd: Annotated[float, Meta(ge=0, le=100)] | None = 0.5
    """The length rule's M - length_sd * S; None leaves the rule out."""
    length_over: Literal["survivors", "all"] = "survivors"
    """Whose lengths M and S are taken over."""
    filters: tuple[UserFilter, ...] = ()
    """The user's own, after the checks (responses) and after the length rule (pairs)."""
    asis_rm: str | None = None
    """Reward model that must agree (As-is RM): `name@version` in the store, Hub id, or local folder; what
    `--asis-rm` sets."""
    asis_revision: str | None = None
    """Its commit; None takes the current one, and the manifest pins it. In the store, the version says it."""
    asis_max_tokens: Positive = 1024
    """What it reads of a dialogue; the paper's RM was trained on as many."""
    benchmarks: tuple[str, ...] = ()
    """Files of benchmark prompts that the queries are compared with; what `--benchmark` adds."""
    limit: Positive | None = None
    """Use only the first queries by query_id; what `--limit` sets."""


FEW_SURVIVORS = "few_survivors"
_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Part:
    """A range of queries, and what was decided of it."""

    rows: pl.LazyFrame
    """Its responses; collected again, they come in the same order."""
    dropped: pl.DataFrame
    """`row` among the responses and `reason` of those that were dropped, by query and rank."""
    pairs: pl.DataFrame
    """`chosen_row` and `rejected_row` among the responses, `reason`, `asis_chosen`, `asis_rejected`."""

    def texts(self) -> pl.DataFrame:
        return self.rows.collect()


def build(
    config: ComparisonsConfig,
    parents: Parents,
    generator: Generator,
    progress: Progress,
    scorer: Scorer | None = None,
) -> Built:
    """Decide every response, then every ordered pair of a query's survivors."""
    known = {rule.name: rule for rule in response_checks(config.min_chars)}
    own = [load(one) for one in config.filters]
    length = [] if config.length_sd is None else [length_rule(config.length_sd, config.length_over)]
    checks = {
        "response checks": [known[name] for name in config.checks],
        "user filters": [rule for rule in own if rule.unit == "response"],
    }
    rules = [*length, *(rule for rule in own if rule.unit == "pair")]
    walk = ALREADY_CHOSEN if config.pairing == "first" else LADDER
    asis = AsIs(scorer, progress)
    accounts = Accounts(
        {**checks, "survivors": [_few(config)]},
        {"pairs": [walk, *rules], "as-is rm": [asis.filter] if asis.filter else []},
    )
    responses = parents["responses"]("default").filter(pl.col("rank").is_not_null())
    total = int(responses.select(pl.len()).collect().item())
    progress("comparisons", 0, total, 0)
    parts: list[Part] = []
    for rows in ranges(responses, BLOCK):
        texts = rows.collect()
        decided = decide_responses(texts, [rule for some in checks.values() for rule in some], config)
        if config.limit is not None:
            decided = decided.filter(pl.col("query") < config.limit - accounts.queries)
        pairs = asis(pair_up(texts, decided, rules, config.pairing), texts)
        accounts.add(texts, decided, pairs)
        parts.append(_compact(rows, decided, pairs, list(accounts.stages)))
        progress("comparisons", accounts.responses, total, 0)
        if accounts.queries == config.limit:
            break
    if not accounts.kept:
        raise NothingLeft(
            f"no comparison is left ({account(accounts.ledger())}): take more queries, or loosen a filter "
            "with --set"
        )
    counts = accounts.by_query()
    some = diagnostics.sampled_queries(counts) if accounts.kept > diagnostics.SAMPLE else None
    sample = pl.concat(_default(part, some) for part in parts)
    tables: dict[str, Rows] = {"default": Blocks(lambda: (_default(part) for part in parts), sample)}
    if any(part.pairs["reason"].count() for part in parts):
        tables["rejected"] = Blocks(lambda: (_rejected(part, accounts.stages) for part in parts))
    if any(len(part.dropped) for part in parts):
        tables["rejected_responses"] = Blocks(
            lambda: (_rejected_responses(part, accounts.stages) for part in parts)
        )
    found = (
        accounts.diagnostics()
        | asis.diagnostics()
        | {"text": diagnostics.diagnose(diagnostics.plain(sample))}
    )
    if config.benchmarks:
        prompts = pl.concat(_prompts(part, counts["query_id"]) for part in parts)
        benchmarks = {Path(file).name: benchmark_file.read_prompts(file) for file in config.benchmarks}
        found["contamination"] = contamination(prompts, benchmarks)
    return Built(tables, accounts.ledger(), found)


def decide_responses(texts: pl.DataFrame, checks: list[Filter], config: ComparisonsConfig) -> pl.DataFrame:
    """One row per response, by query and rank, without its text, and the reason why it is dropped.

    `row` is its place in `texts`; `query` numbers the queries from 0. `n`, `total` and `squares` are of
    the lengths that the length rule is over.
    """
    length = pl.col("response").str.len_chars().cast(pl.Int64)
    plain = list(takewhile(lambda rule: isinstance(rule.drop, pl.Expr), checks))
    light = (
        texts.lazy()
        .select(
            # 16 hex digits are a number, and numbers sort and compare faster than strings.
            "rank",
            "finish_reason",
            number=pl.col("query_id").str.to_integer(base=16, dtype=pl.UInt64),
            length=length,
            reason=first_reason(plain),
        )
        .with_row_index("row")
        .collect()
    )
    if own := checks[len(plain) :]:
        rows = texts.hstack([light["length"]])
        light = light.with_columns(with_reason(rows, own, light["reason"])["reason"])
    light = light.sort("number", "rank").with_columns(query=pl.col("number").rle_id()).drop("number")
    alive = pl.col("reason").is_null()
    counted = pl.when(alive).then("length") if config.length_over == "survivors" else pl.col("length")
    sums = light.group_by("query", maintain_order=True).agg(
        survivors=alive.sum(),
        n=counted.count().cast(pl.Int64),
        total=counted.sum(),
        squares=(counted**2).sum(),
    )
    # Queries are numbered from 0 without a gap, so their sums are looked up by place.
    of_query = sums.drop("query")[light["query"]]
    few = alive & (pl.col("survivors") < config.min_survivors)
    return (
        light.hstack(of_query)
        .with_columns(reason=pl.when(few).then(pl.lit(FEW_SURVIVORS)).otherwise("reason"))
        .drop("survivors")
    )


def pair_up(
    texts: pl.DataFrame, decided: pl.DataFrame, rules: list[Filter], pairing: Pairing
) -> pl.DataFrame:
    """The pairs of the survivors, decided (`ranking.rank_pairs`), with the text that the rules read."""
    survivors = decided.filter(pl.col("reason").is_null())
    read = {name for rule in rules for name in rule.reads}
    sides = {name.removeprefix(f"{side}_") for side in _SIDES for name in read}
    more = {"response" if name in _SIDES else name for name in sides} & set(texts.columns) - {"rank"}
    taken = [texts[name].gather(survivors["row"]) for name in sorted(more)]
    return rank_pairs(survivors.drop("finish_reason").hstack(taken), rules, pairing)


def _few(config: ComparisonsConfig) -> Filter:
    return Filter(
        FEW_SURVIVORS,
        "response",
        f"A query needs {config.min_survivors} surviving responses to make a pair.",
        "released code",
        params={"min_survivors": config.min_survivors},
    )


def _compact(rows: pl.LazyFrame, decided: pl.DataFrame, pairs: pl.DataFrame, reasons: list[str]) -> Part:
    reason = pl.col("reason").cast(pl.Enum(reasons))
    scores = [f"asis_{side}" for side in _SIDES]
    dropped = decided.filter(pl.col("reason").is_not_null()).select("row", reason)
    return Part(rows, dropped, pairs.select("chosen_row", "rejected_row", reason, *scores))


def _named(texts: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with the ids and responders of their sides."""
    sides = {side: texts.select("reply_id", "responder")[pairs[f"{side}_row"]] for side in _SIDES}
    columns = [
        sides[side][name].alias(f"{side}_{name}") for side in _SIDES for name in ("reply_id", "responder")
    ]
    return pairs.with_columns(
        texts["query_id"].gather(pairs["chosen_row"]),
        *columns,
        asis_gap=pl.col("asis_chosen") - pl.col("asis_rejected"),
    )


def _default(part: Part, some: pl.Series | None = None) -> pl.DataFrame:
    """The comparisons with their texts; those of some queries only, where some are named."""
    texts = part.texts()
    kept = part.pairs.filter(pl.col("reason").is_null())
    if some is not None:
        kept = kept.filter(texts["query_id"].gather(kept["chosen_row"]).is_in(some))

    def message(role: str, text: pl.Series) -> pl.Expr:
        return pl.concat_list(pl.struct(pl.lit(role).alias("role"), text.alias("content")))

    chosen, rejected = (texts["response"].gather(kept[f"{side}_row"]) for side in _SIDES)
    return (
        _named(texts, kept)
        .with_columns(
            prompt=message("user", texts["prompt"].gather(kept["chosen_row"])),
            chosen=message("assistant", chosen),
            rejected=message("assistant", rejected),
            comparison_id=pl.concat_str("chosen_reply_id", pl.lit("-"), "rejected_reply_id"),
        )
        .select(schema.TABLES["comparisons"]["default"].names)
    )


def _rejected(part: Part, stages: dict[str, str]) -> pl.DataFrame:
    named = _named(part.texts(), part.pairs.filter(pl.col("reason").is_not_null()))
    return _with_stage(named, stages).select(schema.TABLES["comparisons"]["rejected"].names)


def _rejected_responses(part: Part, stages: dict[str, str]) -> pl.DataFrame:
    dropped = part.texts()[part.dropped["row"]].hstack([part.dropped["reason"]])
    return _with_stage(dropped, stages).select(schema.TABLES["comparisons"]["rejected_responses"].names)


def _with_stage(rows: pl.DataFrame, stages: dict[str, str]) -> pl.DataFrame:
    reason = pl.col("reason").cast(pl.String)
    return rows.with_columns(reason, stage=reason.replace_strict(stages, return_dtype=pl.String))


def _prompts(part: Part, of: pl.Series) -> pl.DataFrame:
    texts = part.texts().select("query_id", "prompt").unique("query_id", keep="first", maintain_order=True)
    return texts.filter(pl.col("query_id").is_in(of))


def pins(config: ComparisonsConfig, generator: Generator) -> dict[str, Any]:
    """Hashes of the files of filters and benchmarks. Raises InputError for a filter that cannot be one."""
    if len(set(config.checks)) < len(config.checks):
        raise InputError("comparisons.checks: a check stands twice")
    own = [load(one) for one in config.filters]
    names = [rule.name for rule in own]
    taken = {rule.name for rule in response_checks(0)} | {FEW_SURVIVORS, LENGTH_RULE, AS_IS}
    taken |= {ALREADY_CHOSEN.name, LADDER.name}
    for place, name in enumerate(names):
        if name in taken or name in names[:place]:
            raise InputError(f"comparisons.filters: there is another filter named {name!r}: rename yours")
    hashes = {rule.name: rule.params["sha256"] for rule in own if "sha256" in rule.params}
    files = {Path(file).name: benchmark_file.sha256(file) for file in config.benchmarks}
    if len(files) < len(config.benchmarks):
        raise InputError("comparisons.benchmarks: two files have the same name: rename one")
    return ({"filters": hashes} if hashes else {}) | ({"benchmarks": files} if files else {})


def reward_models(config: ComparisonsConfig) -> dict[str, RewardModel]:
    """The As-is RM that the config names."""
    if config.asis_rm is None:
        return {}
    return {"scorer": RewardModel(config.asis_rm, config.asis_revision, config.asis_max_tokens)}


SPEC = BuilderSpec("comparisons", 2, ComparisonsConfig, ("responses",), build, pins, reward_models)
