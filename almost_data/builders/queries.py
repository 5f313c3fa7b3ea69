"""Queries by Self-Instruct style mining: a few seeds, few-shot prompts, novelty by ROUGE-L.

Deviations from the paper and its released code:
- one prompt gives one candidate, the first line the model writes (the released parser keeps the second);
- a candidate cut at the token limit is dropped, since half a question is no query;
- ROUGE-L is that of the `rouge-score` library (its tokenizer, no stemming, F1);
- the seed queries and the instruction are the project's own;
- there is no upper length rule (the released one has a double negation and never drops a candidate).
"""

import random
from collections.abc import Mapping
from typing import Any

import polars as pl

from ..cards.figures import draw_lengths, drawn_funnel, new_figure
from ..datasets.builder import (
    Builder,
    Built,
    Estimate,
    Figures,
    Parents,
    Progress,
    Work,
    pin_model,
    row_seed,
    text_id,
)
from ..datasets.config import Config, NamedFile, NotNegative, Positive, Share, Source, Temperature
from ..datasets.filters import Filter
from ..datasets.manifest import Manifest
from ..datasets.tables import (
    ERROR,
    PROMPT,
    QUERY_ID,
    REASON,
    Table,
    all_turns,
    frame,
    integer,
    number,
    string,
)
from ..datasets.user_filters import UserFilter, filter_hashes, load_filters
from ..generation import Generator, Model, Reply, Request, Sampling, Usage, prompts
from ..models.chat import user_turn
from .admission import FAILED, OURS, Admission, order_filters

MARK = "Query:"

_SOURCE = string("source", "`mined` by few-shot generation, or `import`", "mined")
TABLES = {
    "default": Table("one accepted query a row", ("query_id",), (QUERY_ID, PROMPT, _SOURCE)),
    "rejected": Table(
        "one dropped candidate a row",
        ("candidate",),
        (
            QUERY_ID,
            string("query", "the text that was dropped; of several turns their JSON", "Water basil?"),
            _SOURCE,
            integer("candidate", "place in the order of admission", 17),
            REASON,
            ERROR,
            string("nearest", "the most similar seed or earlier query", "How do I water basil?"),
            number("score", "ROUGE-L F1 of the two", 0.71),
        ),
    ),
}
HOOKS = {"query": {"query": "How do I water basil?", "finish_reason": "stop", "length": 21}}
"""`query` is the text of the candidate."""


class QueriesConfig(Config, frozen=True, kw_only=True):
    """Defaults are the paper's (2.1, appendix C); the model has none."""

    model: Source
    """Model that writes the queries: `ORG/NAME[@REVISION]` on the Hub, local folder or `pypi:PACKAGE`."""
    target: Positive = 10_000
    """Accepted queries to stop at."""
    limit: Positive | None = None
    """Caps `target`; `run.limit` sets it."""
    shots: Positive = 10
    """Queries in a prompt, drawn from seeds and accepted ones."""
    seeds: NamedFile = "seeds"
    """`seeds`, `everyday` (simple ones, for the smallest models), or the path of a file in the same form."""
    temperature: Temperature = 1.2
    """Sampling temperature; 0 takes the likeliest token."""
    top_p: Share = 0.9
    """Nucleus sampling: only the likeliest tokens with this share of the probability are drawn."""
    max_new_tokens: Positive = 64
    """Most tokens that the model writes for one query."""
    max_rouge_l: Share = 0.5
    """A candidate at or above this ROUGE-L F1 with a seed or an accepted query is dropped."""
    min_chars: NotNegative = 30
    """A candidate under this without final punctuation is dropped."""
    round_size: Positive = 256
    """Prompts a round; they decide which queries later shots are drawn from, so it is fingerprinted."""
    max_rounds: Positive = 1000
    """Most rounds, even if `target` is not reached; a note then says so."""
    filters: tuple[UserFilter, ...] = ()
    """User-defined filters on candidates, after the text filters."""
    seed: int = 0
    """Seed of the shots and of the sampling."""


def build(config: QueriesConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Mine queries round by round: prompts of a round in parallel, admission in order."""
    instruction, seeds = prompts.seeds(config.seeds)
    text_filters = [*_text_filters(config), *load_filters(config.filters, HOOKS, "queries")]
    admission = Admission(seeds, text_filters, config.max_rouge_l, target(config))
    usage = Usage()
    rounds = 0
    progress("queries", 0, admission.target, 0)
    while len(admission.accepted) < admission.target and rounds < config.max_rounds:
        requests = _requests(config, rounds, instruction, [*seeds, *admission.accepted], generator)
        replies: dict[str, Reply] = {}
        for reply in generator.generate(requests):
            replies[reply.id] = reply
            usage.add(reply)
            progress("queries", len(admission.accepted), admission.target, usage.completion_tokens)
        admission.add([replies[request.id] for request in requests])
        progress("queries", len(admission.accepted), admission.target, usage.completion_tokens)
        rounds += 1
        if admission.failed == rounds * config.round_size:
            error = replies[requests[-1].id].error
            raise RuntimeError(f"every request failed, the last one with: {error}")
    accepted, ledger = admission.accepted, admission.ledger(config.round_size)
    if not accepted:
        return Built(_tables(admission), ledger, {}, usage={"queries": usage})
    notes = []
    if len(accepted) < admission.target:
        notes.append(
            f"Stopped after {rounds} rounds with {len(accepted)} of {admission.target} queries: "
            "raise queries.max_rounds, or use a model that writes more varied text."
        )
    diagnostics = {
        "rounds": rounds,
        "acceptance": len(accepted) / (rounds * config.round_size),
        "mean_prompt_chars": sum(map(len, accepted)) / len(accepted),
    }
    return Built(_tables(admission), ledger, diagnostics, notes, usage={"queries": usage})


def _requests(
    config: QueriesConfig, round_number: int, instruction: str, pool: list[str], generator: Generator
) -> list[Request]:
    """The prompts of one round, each with shots of its own from the pool."""
    model = generator.resolve(Model(config.model))
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, ("\n", MARK))
    requests = []
    for place in range(config.round_size):
        row = f"{round_number}:{place}"
        rng = random.Random(row_seed(config.seed, "queries.shots", row))
        shots = rng.sample(pool, min(config.shots, len(pool)))
        text = "".join(f"\n{MARK} {shot}" for shot in shots) + f"\n{MARK}"
        seed = row_seed(config.seed, "queries", row)
        requests.append(Request(row, model, f"{instruction}\n", text, sampling, seed))
    return requests


def _tables(admission: Admission) -> dict[str, pl.DataFrame]:
    accepted = [
        {"query_id": text_id(query), "prompt": user_turn(query), "source": "mined"}
        for query in admission.accepted
    ]
    rejected = [row | {"query_id": text_id(row["query"]), "source": "mined"} for row in admission.rejected]
    return {"default": frame(TABLES["default"], accepted), "rejected": frame(TABLES["rejected"], rejected)}


def target(config: QueriesConfig) -> int:
    """Queries to stop at."""
    return min(config.target, config.limit or config.target)


def _text_filters(config: QueriesConfig) -> list[Filter]:
    text = pl.col("query")
    return [
        Filter("empty", "query", "The model wrote no text before the end of the line.", OURS, text == ""),
        Filter(
            "cut_at_limit",
            "query",
            f"The candidate did not end within {config.max_new_tokens} tokens.",
            OURS,
            pl.col("finish_reason") == "length",
            {"max_new_tokens": config.max_new_tokens},
        ),
        Filter(
            "too_short",
            "query",
            f"A candidate under {config.min_chars} characters without final punctuation is a fragment.",
            "released code",
            (text.str.len_chars() < config.min_chars) & ~text.str.contains(r"[[:punct:]\p{P}]$"),
            {"min_chars": config.min_chars},
        ),
    ]


def _pins(config: QueriesConfig, generator: Generator) -> dict[str, Any]:
    instruction, seeds = prompts.seeds(config.seeds)
    reserved = {rule.name for rule in (FAILED, *_text_filters(config), *order_filters(config.max_rouge_l, 1))}
    return {
        "resolved": {"queries": pin_model(generator.resolve(Model(config.model)))},
        "prompts": {"seeds": "\n".join([instruction, "", *(f"{MARK} {seed}" for seed in seeds), MARK])},
        **filter_hashes(load_filters(config.filters, HOOKS, "queries", reserved)),
    }


def _estimate(config: QueriesConfig, parents: Mapping[str, Estimate]) -> Estimate:
    """About half of the candidates are kept; the rest are near-duplicates and fragments."""
    rows = target(config)
    work = Work(
        task="queries",
        model=config.model,
        kind="generate",
        requests=2 * rows,
        prompt_tokens=config.shots * 15,
        shared_tokens=50,
        reply_tokens=config.max_new_tokens,
    )
    return Estimate(rows, (work,))


def figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    """Length of the accepted queries; what each filter left."""
    if (accepted := tables.get("default")) is not None and len(accepted):
        figure, ax = new_figure(3.0)
        lengths = accepted.select(all_turns().str.len_chars())["prompt"]
        draw_lengths(ax, {"": lengths}, "query", "queries")
        ax.set_title(f"Length of the {len(accepted):,} accepted queries (dashed: median)")
        yield "query_lengths", figure
    yield from drawn_funnel(manifest, ["query"])


BUILDER = Builder(
    name="queries",
    doc="Queries such as a user would put to an assistant, mined by few-shot generation.",
    config=QueriesConfig,
    tables=TABLES,
    build=build,
    pins=_pins,
    hooks=HOOKS,
    estimate=_estimate,
    tags=("synthetic", "queries", "instructions", "almost"),
    card="queries.md.jinja",
    paper_facts=lambda config: (
        "One prompt gives one candidate query, the first line that the model writes; the released parser "
        "keeps the second.",
        "A candidate cut at the token limit is dropped, since half a question is no query.",
        "ROUGE-L is that of the `rouge-score` library (its tokenizer, no stemming, F1).",
        "The seed queries and the instruction are the project's own, unless a file of seeds was given.",
        "There is no upper length rule: the released one has a double negation and drops nothing that it "
        "means to.",
    ),
    figures=figures,
)
