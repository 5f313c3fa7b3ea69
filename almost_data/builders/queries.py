"""Queries by Self-Instruct style mining: a few seeds, few-shot prompts, novelty by ROUGE-L.

Deviations from the paper and its released code:
- one prompt gives one candidate, the first line the model writes (the released parser keeps the second);
- a candidate cut at the token limit is dropped, since half a question is no query;
- ROUGE-L is that of the `rouge-score` library (its tokenizer, no stemming, F1);
- there is no upper length rule (the released one has a double negation and drops nothing it means to).
"""

import random
from typing import Any

import polars as pl

from .. import prompts
from ..filters import Filter, chain
from ..generation import Generator, Model, Reply, Request, Sampling
from ..manifest import Entry
from ..novelty import Novelty
from ..schema import frame
from . import BuilderSpec, Built, Config, Parents, Positive, Progress, Share, row_seed, text_id

MARK = "Query:"


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
    temperature: float = 1.2
    top_p: Share = 0.9
    max_new_tokens: Positive = 64
    max_rouge_l: Share = 0.5
    """A candidate at or above this ROUGE-L F1 with a known query is dropped."""
    min_chars: int = 30
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
    accepted: list[str] = []
    rejected: list[dict[str, Any]] = []
    tokens = failed = rounds = 0
    progress("queries", 0, target, 0)
    while len(accepted) < target and rounds < config.max_rounds:
        replies: dict[str, Reply] = {}
        wanted = _round(config, rounds, instruction, [*seeds, *accepted], generator)
        for reply in generator.generate(wanted):
            replies[reply.id] = reply
            tokens += reply.completion_tokens
            progress("queries", len(accepted), target, tokens)
        for place, request in enumerate(wanted):
            reply = replies[request.id]
            query = reply.text.strip()
            nearest, score = known.nearest(query)
            reason = "failed" if reply.error else _reason(query, reply, score, config)
            failed += reason == "failed"
            if reason is None and len(accepted) >= target:
                reason = "target_reached"
            if reason is None:
                accepted.append(query)
                known.add(query)
                progress("queries", len(accepted), target, tokens)
            else:
                row = {"query": reply.error or query, "reason": reason, "nearest": nearest, "score": score}
                rejected.append(row | {"candidate": rounds * config.round_size + place})
        rounds += 1
        if failed == rounds * config.round_size:
            raise RuntimeError(f"every request failed, the last one with: {reply.error}")
    notes = []
    if len(accepted) < target:
        notes.append(
            f"Stopped after {rounds} rounds with {len(accepted)} of {target} queries: "
            "raise queries.max_rounds, or use a model that writes more varied text."
        )
    return Built(
        tables=_tables(accepted, rejected),
        ledger=_ledger(config, target, rounds * config.round_size, failed, rejected),
        diagnostics={
            "rounds": rounds,
            "completion_tokens": tokens,
            "acceptance": len(accepted) / (rounds * config.round_size) if rounds else None,
            "mean_chars": sum(map(len, accepted)) / len(accepted) if accepted else None,
        },
        notes=notes,
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
            Request(row, model, instruction, text, sampling, row_seed(config.seed, "queries", row))
        )
    return requests


def _reason(query: str, reply: Reply, score: float, config: QueriesConfig) -> str | None:
    """Why a candidate is dropped: the first of the filters in `_filters` that it does not pass."""
    if not query:
        return "empty"
    if reply.finish_reason == "length":
        return "cut_at_limit"
    if len(query) < config.min_chars and query[-1] not in ".?!":
        return "too_short"
    if score >= config.max_rouge_l:
        return "not_novel"
    return None


def _filters(config: QueriesConfig, target: int) -> list[Filter]:
    text, reason = pl.col("query"), pl.col("reason")

    def rule(name: str, description: str, source: str, **params: object) -> Filter:
        return Filter(name, "query", description, source, reason == name, params)

    return [
        rule("empty", "The model wrote no text before the end of the line.", "almost_data"),
        rule(
            "cut_at_limit",
            f"The candidate did not end within {config.max_new_tokens} tokens.",
            "almost_data",
            max_new_tokens=config.max_new_tokens,
        ),
        Filter(
            "too_short",
            "query",
            f"A candidate under {config.min_chars} characters without final punctuation is a fragment.",
            "released code",
            (text.str.len_chars() < config.min_chars) & ~text.str.contains(r"[.?!]$"),
            {"min_chars": config.min_chars},
        ),
        rule(
            "not_novel",
            f"ROUGE-L F1 of {config.max_rouge_l:g} or more with a seed or an accepted query.",
            "paper appendix C; Self-Instruct",
            max_rouge_l=config.max_rouge_l,
        ),
        rule(
            "target_reached",
            "Good enough, but its round had already filled the target.",
            "almost_data",
            target=target,
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
        "almost_data",
        pl.col("reason") == "failed",
        {"round_size": config.round_size},
    )
    asked = generated.entry("generation", n_in, n_in - failed, failed=failed)
    return [asked, *chain("admission", _filters(config, target), n_in - failed, dropped)]


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
        "models": {config.model: {"id": model.id, "revision": model.revision}},
        "prompts": {"seeds": "\n".join([instruction, *(f"{MARK} {seed}" for seed in seeds), MARK])},
    }


SPEC = BuilderSpec("queries", 1, QueriesConfig, (), build, pins)
