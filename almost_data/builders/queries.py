"""Queries by Self-Instruct style mining: a few seeds, few-shot prompts, novelty by ROUGE-L.

Deviations from the paper and its released code:
- one prompt gives one candidate, the first line the model writes (the released parser keeps the second);
- a candidate cut at the token limit is dropped, since half a question is no query;
- ROUGE-L is that of the `rouge-score` library (its tokenizer, no stemming, F1);
- the seed queries and the instruction are the project's own;
- there is no upper length rule (the released one has a double negation and drops nothing it means to).
"""

import random
from typing import Any

import polars as pl

from ..datasets.builder import (
    BuilderSpec,
    Built,
    Config,
    NotNegative,
    Parents,
    Positive,
    Progress,
    Share,
    Temperature,
    row_seed,
    text_id,
)
from ..datasets.filters import Filter, account, chain, first_reason
from ..datasets.manifest import Entry
from ..datasets.schema import frame
from ..diagnostics.novelty import Novelty
from ..generation import Generator, Model, Reply, Request, Sampling, Usage, prompts

MARK = "Query:"
OURS = "almost_data"
"""The source of a rule that neither the paper nor its code has."""


class QueriesConfig(Config, frozen=True, kw_only=True):
    """Defaults are the paper's (2.1, appendix C); the model has none."""

    model: str
    """Hub id, local folder or `pypi:PACKAGE` of the model that writes the queries."""
    revision: str | None = None
    """Commit of the model; None takes the current one, and the manifest pins it."""
    target: Positive = 10_000
    """Accepted queries to stop at."""
    limit: Positive | None = None
    """Caps `target`; what `--limit` sets."""
    shots: Positive = 10
    """Queries in a prompt, drawn from seeds and accepted ones."""
    seeds: str | None = None
    """File of an instruction and seed queries; None takes the shipped ones."""
    temperature: Temperature = 1.2
    top_p: Share = 0.9
    max_new_tokens: Positive = 64
    max_rouge_l: Share = 0.5
    """A candidate at or above this ROUGE-L F1 with a known query is dropped."""
    min_chars: NotNegative = 30
    """A candidate under this without final punctuation is dropped."""
    round_size: Positive = 256
    """Prompts a round; they decide which queries later shots are drawn from, so it is fingerprinted."""
    max_rounds: Positive = 1000
    """Stop here even below `target`, and say so."""
    seed: int = 0


def build(config: QueriesConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Mine queries round by round: prompts of a round in parallel, admission in order."""
    target = min(config.target, config.limit or config.target)
    instruction, seeds = prompts.seeds(config.seeds)
    known = Novelty()
    for seed in seeds:
        known.add(seed)
    ids = {text_id(seed) for seed in seeds}
    accepted: list[str] = []
    rejected: list[dict[str, Any]] = []
    usage = Usage()
    failed = rounds = 0
    progress("queries", 0, target, 0)
    while len(accepted) < target and rounds < config.max_rounds:
        replies: dict[str, Reply] = {}
        wanted = _round(config, rounds, instruction, [*seeds, *accepted], generator)
        for reply in generator.generate(wanted):
            replies[reply.id] = reply
            usage.add(reply)
            progress("queries", len(accepted), target, usage.completion_tokens)
        answers = [replies[request.id] for request in wanted]
        for place, (reply, flaw) in enumerate(zip(answers, _flaws(answers, config), strict=True)):
            query = reply.text.strip()
            nearest, score = known.nearest(query)
            reason = "failed" if reply.error else flaw
            if reason is None and text_id(query) in ids:
                reason = "duplicate"
            if reason is None and score >= config.max_rouge_l:
                reason = "not_novel"
            if reason is None and len(accepted) >= target:
                reason = "target_reached"
            if reason is None:
                accepted.append(query)
                ids.add(text_id(query))
                known.add(query)
                progress("queries", len(accepted), target, usage.completion_tokens)
            else:
                failed += reason == "failed"
                row = {"query": query, "reason": reason, "error": reply.error, "nearest": nearest}
                rejected.append(row | {"score": score, "candidate": rounds * config.round_size + place})
        rounds += 1
        if failed == rounds * config.round_size:
            raise RuntimeError(f"every request failed, the last one with: {answers[-1].error}")
    ledger = _ledger(config, target, rounds * config.round_size, failed, rejected)
    if not accepted:
        raise RuntimeError(
            f"no query was accepted ({account(ledger)}): loosen a filter with --set, or change the model"
        )
    notes = []
    if len(accepted) < target:
        notes.append(
            f"Stopped after {rounds} rounds with {len(accepted)} of {target} queries: "
            "raise queries.max_rounds, or use a model that writes more varied text."
        )
    return Built(
        tables=_tables(accepted, rejected),
        ledger=ledger,
        diagnostics={
            "rounds": rounds,
            "acceptance": len(accepted) / (rounds * config.round_size),
            "mean_chars": sum(map(len, accepted)) / len(accepted),
        },
        notes=notes,
        usage={"queries": usage},
    )


def _round(
    config: QueriesConfig, number: int, instruction: str, pool: list[str], generator: Generator
) -> list[Request]:
    model = generator.resolve(Model(config.model, config.revision))
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, ("\n", MARK))
    requests = []
    for place in range(config.round_size):
        row = f"{number}:{place}"
        rng = random.Random(row_seed(config.seed, "queries.shots", row))
        shots = rng.sample(pool, min(config.shots, len(pool)))
        text = "".join(f"\n{MARK} {shot}" for shot in shots) + f"\n{MARK}"
        requests.append(
            Request(row, model, f"{instruction}\n", text, sampling, row_seed(config.seed, "queries", row))
        )
    return requests


def _flaws(replies: list[Reply], config: QueriesConfig) -> list[str | None]:
    """Why a candidate is dropped for itself, whatever is known: the first of the text filters."""
    rows = [(reply.text.strip(), reply.finish_reason) for reply in replies]
    frame = pl.DataFrame(rows, schema=["query", "finish_reason"], orient="row")
    return frame.select(first_reason(_text_filters(config))).to_series().to_list()


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
            (text.str.len_chars() < config.min_chars) & ~text.str.contains(r"[[:punct:]]$"),
            {"min_chars": config.min_chars},
        ),
    ]


def _order_filters(config: QueriesConfig, target: int) -> list[Filter]:
    """What depends on the queries known by then; decided in the walk of `build`."""
    return [
        Filter("duplicate", "query", "The same text as a seed or an accepted query.", OURS),
        Filter(
            "not_novel",
            "query",
            f"ROUGE-L F1 of {config.max_rouge_l:g} or more with a seed or an accepted query.",
            "paper appendix C; Self-Instruct",
            params={"max_rouge_l": config.max_rouge_l},
        ),
        Filter(
            "target_reached",
            "query",
            "Good enough, but its round had already filled the target.",
            OURS,
            params={"target": target},
        ),
    ]


def _ledger(
    config: QueriesConfig, target: int, n_in: int, failed: int, rejected: list[dict[str, Any]]
) -> list[Entry]:
    dropped: dict[str, int] = {}
    for row in rejected:
        dropped[str(row["reason"])] = dropped.get(str(row["reason"]), 0) + 1
    generated = Filter(
        "failed",
        "query",
        "The engine gave an error instead of a candidate.",
        OURS,
        params={"round_size": config.round_size},
    )
    rules = [*_text_filters(config), *_order_filters(config, target)]
    asked = generated.entry("generation", n_in, n_in - failed, failed=failed)
    return [asked, *chain("admission", rules, n_in - failed, dropped)]


def _tables(accepted: list[str], rejected: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    tables: dict[str, list[dict[str, Any]]] = {
        "default": [{"query_id": text_id(q), "query": q, "source": "mined"} for q in accepted],
        "rejected": [row | {"query_id": text_id(str(row["query"])), "source": "mined"} for row in rejected],
    }
    return {config: frame("queries", config, rows) for config, rows in tables.items()}


def pins(config: QueriesConfig, generator: Generator) -> dict[str, object]:
    instruction, seeds = prompts.seeds(config.seeds)
    model = generator.resolve(Model(config.model, config.revision))
    return {
        "resolved": {"queries": {"id": model.id, "revision": model.revision}},
        "prompts": {"seeds": "\n".join([instruction, "", *(f"{MARK} {seed}" for seed in seeds), MARK])},
    }


SPEC = BuilderSpec("queries", 1, QueriesConfig, (), build, pins)
