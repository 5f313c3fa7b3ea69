"""Demonstrations by RMSP: N replies, of which a reward model picks one; then the user's turn (paper 2.2).

With N=1 this is Self-Play, which needs no reward model. Deviations from the paper:
- `conversations_per_query` is our reading of "about 20k demonstrations" from 10k queries.
- Empty replies are never picked. The response checks of comparisons are applied to candidates only where
  `checks` is on.
- A conversation ends before a user's turn that is empty, a repetition or a goodbye.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from msgspec import structs

from ...datasets.builder import Builder, Built, Estimate, Parents, Progress, RewardModel, Work
from ...datasets.digest import first_queries, ranges
from ...datasets.filters import Filter, chain, chain_stages
from ...datasets.ledger import Entry
from ...datasets.spool import Spool, tables_of
from ...datasets.user_filters import filter_hashes, load_filters
from ...errors import InputError
from ...generation import Generator
from ...models.chat import assistant_turn
from ...scoring import Scorer, fake_name
from ..checks import PAPER, response_checks
from ..responder import check_user, fake_responder, pin_responders, reply_work
from ..responses import FAILED, QUERY_TOKENS, REASONING_ONLY
from .best_of_n import report
from .config import DemonstrationsConfig, assistant
from .figures import figures
from .self_play import NO_CANDIDATE, UNANSWERED, Conversation, Row, SelfPlay, ongoing
from .tables import HOOKS, TABLES

OURS = "almost_data"
ROUND_TOKENS = 400
"""Tokens that a user's turn and a reply add to a dialogue, roughly."""
END = "turns"
"""The `end` of a conversation that ran its whole length."""
PART = 50_000
"""Replies to a turn that are in memory at a time, about: the conversations of a part end before the next."""


def build(
    config: DemonstrationsConfig,
    parents: Parents,
    generator: Generator,
    progress: Progress,
    folder: Path,
    scorer: Scorer | None = None,
    second: Scorer | None = None,
) -> Built:
    """Play the conversations of some queries after those of others; rows wait in files of `folder`.

    `scorer` picks the best of N replies; `second` scores them too, for the card alone.
    """
    queries = first_queries(parents["queries"]("default").select("query_id", "prompt"), config.limit)
    count = int(queries.select(pl.len()).collect().item())
    size = max(1, PART // (config.n * config.conversations_per_query))
    spools = {name: Spool(folder / name, table) for name, table in TABLES.items()}
    play = SelfPlay(config, _reply_filters(config), generator, progress, scorer)
    done = 0
    sorted_ranges = (rows.collect().sort("query_id") for rows in ranges(queries))
    parts = (part for rows in sorted_ranges for part in rows.iter_slices(size))
    for part in parts:
        conversations = [
            Conversation(query_id, number, tuple(prompt))
            for query_id, prompt in part.iter_rows()
            for number in range(config.conversations_per_query)
        ]
        answered = _converse(play, config.turns, conversations, second)
        spools["default"].extend(_dialogue(config, conversation) for conversation in answered)
        if config.preference:
            spools["preference"].extend(_preference(config.n, answered, play.candidates))
        spools["candidates"].extend(play.candidates)
        spools["rejected"].extend(play.dropped)
        play.forget_rows()
        done += len(part)
        if len(part) < count:
            progress("queries", done, count, 0)
    total = count * config.conversations_per_query
    tables = tables_of(spools)
    return Built(
        tables, _ledger(config, spools, play, total), _diagnostics(config, spools, scorer), usage=play.usage
    )


def _converse(
    play: SelfPlay, turns: int, conversations: list[Conversation], second: Scorer | None
) -> list[Conversation]:
    """Extend all conversations round by round: N replies to each, the best of them, the user's next turn.

    Returns those that have a reply.
    """
    for turn in range(1, turns, 2):
        if turn > 1:
            play.add_user_turns(ongoing(conversations), turn)
        play.answer(ongoing(conversations), turn)
    answered = [conversation for conversation in conversations if conversation.added]
    if second and answered:
        play.second_opinion(second, conversations)
    for conversation in answered:
        conversation.end = conversation.end or END
    return answered


def _diagnostics(
    config: DemonstrationsConfig, spools: Mapping[str, Spool], scorer: Scorer | None
) -> dict[str, Any]:
    candidates = spools["candidates"].scan()
    mean_chars = candidates.filter(rank=0).select(pl.col("response").str.len_chars().mean())
    is_picked = scorer and config.n > 1 and spools["default"].rows
    parts = (part.collect() for part in ranges(candidates, PART))
    return {
        "ends": spools["default"].counts("end"),
        "turns_written": spools["candidates"].rows // config.n,
        "mean_chars": mean_chars.collect(engine="streaming").item(),
        "best_of_n": report(parts, config.n, scorer.reward_stats) if scorer and is_picked else None,
    }


EMPTY = Filter("empty", "response", "The reply has no text.", OURS, pl.col("response") == "")


def _reply_filters(config: DemonstrationsConfig) -> list[Filter]:
    """Filters that drop a reply before one is picked."""
    checks = response_checks()
    reserved = {REASONING_ONLY.name, EMPTY.name, "not_best", NO_CANDIDATE, UNANSWERED, *checks}
    user_filters = load_filters(config.filters, HOOKS, "demonstrations", reserved)
    reasoning = [REASONING_ONLY] if config.assistant.style == "chat" else []
    return [*reasoning, EMPTY, *(checks[name] for name in PAPER if config.checks), *user_filters]


def _selection_filters(config: DemonstrationsConfig) -> list[Filter]:
    """Filters on replies, the last of which picks one."""
    description = (
        f"The reward model scores another of the {config.n} replies higher (of equals, the first is taken)."
        if config.n > 1
        else "With one reply a turn (N=1), nothing is dropped."
    )
    best = Filter("not_best", "response", description, "arXiv 2305.13735, 2.2, RMSP", params={"n": config.n})
    return [*_reply_filters(config), best]


def _no_candidate(config: DemonstrationsConfig) -> Filter:
    no_reply, params = "No reply to the query can be used.", {"turns": config.turns}
    return Filter(NO_CANDIDATE, "demonstration", no_reply, OURS, params=params)


def _ledger(
    config: DemonstrationsConfig, spools: Mapping[str, Spool], play: SelfPlay, conversations: int
) -> list[Entry]:
    candidates, user_turns = spools["candidates"], USER_TURNS if play.user_turns else []
    of_replies = {"generation": [FAILED], "selection": _selection_filters(config)}
    return [
        *chain_stages(of_replies, candidates.rows, candidates.counts("reason")),
        *chain("user's turns", user_turns, play.user_turns, spools["rejected"].counts("reason")),
        _no_candidate(config).entry("conversations", conversations, spools["default"].rows),
    ]


USER_TURNS = [
    Filter("failed", "query", "The engine gave an error instead of the user's turn.", OURS),
    Filter("user_empty", "query", "The user's turn has no text.", OURS),
    Filter("user_repeated", "query", "The user said the same before.", OURS),
    Filter("user_closing", "query", "The user says goodbye, and nothing else.", OURS),
    Filter(UNANSWERED, "query", "No reply to the user's turn can be used.", OURS),
]


def _dialogue(config: DemonstrationsConfig, conversation: Conversation) -> Row:
    return {
        "messages": conversation.messages(),
        "query_id": conversation.query_id,
        "conversation": conversation.number,
        "rm_score": conversation.score,
        "n": config.n,
        "end": conversation.end,
    }


def _preference(n: int, answered: list[Conversation], candidates: list[Row]) -> Iterator[Row]:
    """Best and worst of each turn's `n` replies, where the reward model tells them apart."""
    by_key = {conversation.key: conversation for conversation in answered}
    for start in range(0, len(candidates), n):
        scored = [row for row in candidates[start : start + n] if row.get("score") is not None]
        ranked = sorted(scored, key=lambda row: row["rank"])
        if not ranked or ranked[0]["score"] == ranked[-1]["score"]:
            continue
        best, worst = ranked[0], ranked[-1]
        query_id, number, turn = (best[name] for name in ("query_id", "conversation", "turn"))
        yield {
            "prompt": by_key[query_id, number].messages(turn),
            "chosen": [assistant_turn(best["response"])],
            "rejected": [assistant_turn(worst["response"])],
            "comparison_id": f"{query_id}-{number}-{turn}",
            "query_id": query_id,
            "chosen_score": best["score"],
            "rejected_score": worst["score"],
        }


def _pins(config: DemonstrationsConfig, generator: Generator) -> dict[str, Any]:
    """Models, prompts and token limits. Raises InputError for settings that contradict each other."""
    if config.preference and config.n == 1:
        raise InputError(
            "demonstrations.preference sets the best of N against the worst, and demonstrations.n is 1: make "
            "it 2 or more"
        )
    if config.n > 1 and config.rm is None:
        raise InputError(
            f"demonstrations.rm: to pick the best of {config.n} takes a reward model: train one "
            "(python recipes/rm.py --config recipes/tiny.yaml --dataset comparisons@V --artifact rm@V), or "
            "set demonstrations.n to 1, which is Self-Play"
        )
    responders = [assistant(config), *([config.user] if config.turns > 2 else [])]
    if config.turns > 2:
        check_user(config.user)
    if len({responder.name for responder in responders}) < len(responders):
        raise InputError(f"responder {config.user.name!r} is both assistant and user: give each its own name")
    return pin_responders(config, responders, generator) | filter_hashes(_reply_filters(config))


def _reward_models(config: DemonstrationsConfig) -> dict[str, RewardModel]:
    """The reward model that picks, and the second one."""
    models = {"scorer": config.rm, "second": config.second_rm}
    return {name: RewardModel(id, config.rm_max_tokens) for name, id in models.items() if id}


def _as_fake(config: DemonstrationsConfig) -> DemonstrationsConfig:
    return structs.replace(
        config,
        assistant=fake_responder(config.assistant),
        user=fake_responder(config.user),
        rm=fake_name(config.rm),
        second_rm=fake_name(config.second_rm),
    )


def _estimate(config: DemonstrationsConfig, parents: Mapping[str, Estimate]) -> Estimate:
    queries = min(parents["queries"].rows, config.limit or parents["queries"].rows)
    conversations, rounds = queries * config.conversations_per_query, config.turns // 2
    # The dialogue before a turn: half of the whole, on average over the rounds.
    dialogue = (parents["queries"].text_tokens or QUERY_TOKENS) + (rounds - 1) * ROUND_TOKENS // 2
    replies = conversations * rounds * config.n
    work = [reply_work("demonstrations", assistant(config), replies, dialogue)]
    reply_tokens = work[0].reply_tokens
    if rounds > 1:
        user_turns = conversations * (rounds - 1)
        work.append(reply_work("demonstrations", config.user, user_turns, dialogue))
    read = min(dialogue + reply_tokens, config.rm_max_tokens)
    judges = (("reward model", config.rm), ("second reward model", config.second_rm))
    work += [Work(f"demonstrations: {name}", rm, "score", replies, read) for name, rm in judges if rm]
    return Estimate(conversations, tuple(work))


BUILDER = Builder(
    name="demonstrations",
    doc="Dialogues of a responder and a user, each reply the one that a reward model picked.",
    config=DemonstrationsConfig,
    tables=TABLES,
    parents=("queries",),
    build=build,
    uses_folder=True,
    pins=_pins,
    reward_models=_reward_models,
    hooks=HOOKS,
    as_fake=_as_fake,
    estimate=_estimate,
    flags=("rm", "second_rm", "n", "turns", "prompt", "preference"),
    tags=("synthetic", "sft", "instructions", "conversational", "almost"),
    card="demonstrations.md.jinja",
    figures=figures,
)
