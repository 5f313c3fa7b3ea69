"""Ratings: every response of the ladder scored by a reward model, or by a language model as judge.

A judge reads one response at a time (`points`), or every two responses to a query in both orders (`pairs`),
and gives each from 1 to 10. The paper has no ratings: its only label is the ladder.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from ...datasets.builder import Builder, Built, Estimate, Parents, Progress, RewardModel, Work, pin_model
from ...datasets.config import Config, Positive, Source, Temperature, source_name
from ...datasets.digest import first_queries, ranges
from ...datasets.filters import Filter
from ...datasets.ledger import Entry
from ...datasets.spool import Spool, tables_of
from ...errors import InputError
from ...generation import Generator, Model, Sampling, Usage
from ...models.chat import assistant_turn
from ...scoring import MAX_TOKENS, Dialogue, Scorer, fake_name, verdicts
from ..responses import ladder_rows
from .judged import Judge, RatedResponses, Row, judge_each, judge_pairs, judging_ledger, place_bias
from .report import figures, report
from .tables import TABLES, UNREAD

PART = 50_000
"""Responses that are in memory at a time, about."""

NOTED_SHARE = 0.1
"""Share of verdicts without a score above which the dataset says so."""


class RatingsConfig(Config, frozen=True, kw_only=True):
    """One rater: a reward model (`rm`), or a language model (`judge`)."""

    rm: Source | None = None
    """Reward model that rates: `name@version` in the store, `ORG/NAME[@REVISION]`, or a local folder."""
    rm_max_tokens: Positive = MAX_TOKENS
    """Most tokens of a dialogue that it reads."""
    judge: Source | None = None
    """Chat model that rates, run by the engine: named as the model of a responder is."""
    judging: Literal["points", "pairs"] = "points"
    """`points`: the judge scores each response by itself; `pairs`: every two responses, in both orders."""
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the judge's chat template takes besides the messages, such as `enable_thinking = false`."""
    max_new_tokens: Positive = verdicts.TOKENS
    """New tokens of one verdict at most."""
    temperature: Temperature = 0.0
    """Sampling temperature of verdicts."""
    seed: int = 0
    """Seed of the sampling; each verdict has a seed of its own, made from it."""
    limit: Positive | None = None
    """Rate only the responses to the first queries by query_id; `run.limit` sets it."""


def build(
    config: RatingsConfig,
    parents: Parents,
    generator: Generator,
    progress: Progress,
    folder: Path,
    scorer: Scorer | None = None,
) -> Built:
    """Rate the responses to some queries after those to others; rows wait in files of `folder`."""
    responses = _responses(config, parents)
    total, done = int(responses.select(pl.len()).collect().item()), 0
    spools = {name: Spool(folder / name, table) for name, table in TABLES.items()}
    counts, usages = Counter[str](), dict[str, Usage]()
    rate: Callable[[Sequence[Row]], RatedResponses]
    if scorer:
        model, rate = scorer.model, partial(_score, scorer, progress)
    else:
        model, sampling = _judge(config, generator), Sampling(config.max_new_tokens, config.temperature)
        judge = Judge(model, generator, sampling, config.chat_template_kwargs, config.seed, progress)
        judging = judge_each if config.judging == "points" else judge_pairs
        rate, usages = partial(judging, judge), {"judge": judge.usage}
    rater = {"rater": source_name(model.id), "rater_revision": model.revision}
    for part in ranges(responses, PART):
        rows = part.collect().sort("query_id", "rank").rows(named=True)
        judged = rate(rows)
        rated = [row | judged.rated[row["reply_id"]] for row in rows if row["reply_id"] in judged.rated]
        tables = {"default": rated, "pairs": judged.pairs}
        tables |= {"rejected": judged.rejected, "rejected_pairs": judged.rejected_pairs}
        for name, table_rows in tables.items():
            spools[name].extend(row | rater for row in table_rows)
        counts.update(judged.counts)
        done += len(rows)
        if len(rows) < total:
            progress("responses", done, total, 0)
    numbers = ("query_id", "responder", "rank", "rating", pl.col("response").str.len_chars().alias("length"))
    ratings = ranges(spools["default"].scan().select(numbers), PART)
    diagnostics = report(part.collect() for part in ratings)
    if scorer:
        ledger = [SCORED.entry("scoring", total, total)]
        diagnostics["truncated_responses"] = counts["truncated"]
    else:
        ledger = judging_ledger(config.judging, spools)
        diagnostics |= place_bias(counts) if config.judging == "pairs" else {}
    return Built(tables_of(spools), ledger, diagnostics, _unread_notes(ledger), usages)


def _unread_notes(ledger: Sequence[Entry]) -> list[str]:
    """Says so where many verdicts have no score; they are no failed requests, so they stop no run."""
    count = sum(entry.dropped.get(name, 0) for entry in ledger for name in UNREAD)
    if count <= NOTED_SHARE * ledger[0].n_in:
        return []
    return [
        f"Of {ledger[0].n_in:,} {ledger[0].unit}s, {count:,} have no rating, as no score could be read in a "
        "verdict: the ratings are of the rest. What the judge wrote is kept with the dropped rows."
    ]


def _responses(config: RatingsConfig, parents: Parents) -> pl.LazyFrame:
    """The responses of the ladder to the first queries; comparisons read no others."""
    columns = ("query_id", "prompt", "responder", "rank", "response", "reply_id")
    ladder = parents["responses"]("default").filter(pl.col("rank").is_not_null())
    return first_queries(ladder.select(columns), config.limit)


SCORED = Filter("scored", "response", "The reward model scores every response.", "almost_data")


def _score(scorer: Scorer, progress: Progress, rows: Sequence[Row]) -> RatedResponses:
    """The reward model's score of each response."""
    judged, tokens = RatedResponses(), 0
    dialogues = (Dialogue(row["reply_id"], (*row["prompt"], assistant_turn(row["response"]))) for row in rows)
    stage = f"ratings by {scorer.model.id}"
    progress(stage, 0, len(rows), 0)
    for done, score in enumerate(scorer.score(dialogues), start=1):
        judged.rated[score.id] = {"rating": score.value}
        judged.counts["truncated"] += score.truncated
        tokens += score.tokens
        progress(stage, done, len(rows), tokens)
    return judged


def _judge(config: RatingsConfig, generator: Generator) -> Model:
    """The model that judges. Raises InputError where no rater is named."""
    if config.judge is None:
        raise InputError(
            "ratings.judge, ratings.rm: name a rater: a chat model that judges, or a reward model (of the "
            "store, name@version)"
        )
    return generator.resolve(Model(config.judge))


def _pins(config: RatingsConfig, generator: Generator) -> dict[str, Any]:
    """The judge's revision and prompt. Raises InputError where there is no rater, or two."""
    if config.rm is None:
        prompt = verdicts.prompt(1 if config.judging == "points" else 2)
        resolved = {"judge": pin_model(_judge(config, generator))}
        return {"resolved": resolved, "prompts": {"judge": prompt}}
    if config.judge is not None:
        raise InputError(
            "ratings.judge, ratings.rm: a dataset has one rater: leave one out, and build another version "
            "for the other"
        )
    return {}


def _reward_models(config: RatingsConfig) -> dict[str, RewardModel]:
    if config.rm is None:
        return {}
    return {"scorer": RewardModel(config.rm, config.rm_max_tokens)}


def _estimate(config: RatingsConfig, parents: Mapping[str, Estimate]) -> Estimate:
    """A judge of pairs reads each two responses to a query twice."""
    responses = parents["responses"]
    responders = responses.rows_per_query
    rows = min(responses.rows, config.limit * responders if config.limit else responses.rows)
    text = responses.text_tokens or MAX_TOKENS
    if config.rm:
        work = Work("ratings: reward model", config.rm, "score", rows, min(text, config.rm_max_tokens))
    elif config.judge:
        are_pairs = config.judging == "pairs"
        requests, answers = (rows * (responders - 1), 2) if are_pairs else (rows, 1)
        shared = len(verdicts.prompt(answers)) // 4
        tokens = (answers * text + shared, 0, config.max_new_tokens)
        work = Work("ratings: judge", config.judge, "generate", requests, *tokens)
    else:
        return Estimate(rows)
    return Estimate(rows, (work,), responses.text_tokens)


def _paper_facts(config: RatingsConfig) -> list[str]:
    rater = "a reward model" if config.rm else f"a judge, by {config.judging}"
    return [f"Responses are rated by {rater}; the paper's only label is the ladder."]


BUILDER = Builder(
    name="ratings",
    logic_version=3,
    doc="Every response of the ladder rated by a reward model, or by a language model as judge.",
    config=RatingsConfig,
    tables=TABLES,
    parents=("responses",),
    build=build,
    uses_folder=True,
    pins=_pins,
    reward_models=_reward_models,
    as_fake=lambda config: msgspec.structs.replace(config, rm=fake_name(config.rm)),
    estimate=_estimate,
    flags=("rm", "judge", "judging"),
    tags=("synthetic", "ratings", "llm-as-judge", "reward-model"),
    card="ratings.md.jinja",
    card_values=lambda manifest, sources: {"ladder": ladder_rows(sources)},
    paper_facts=_paper_facts,
    figures=figures,
)
