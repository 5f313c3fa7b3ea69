"""Demonstrations by RMSP: N replies, of which a reward model picks one; then the user's turn (paper 2.2).

With N=1 this is Self-Play, which needs no reward model. Deviations from the paper:
- `conversations_per_query` is our reading of "about 20k demonstrations" from 10k queries.
- Empty replies are never picked. The response checks of comparisons are applied to candidates only where
  `checks` is on.
- A conversation ends before a user's turn that is empty, a repetition or a goodbye.
"""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
from msgspec import Meta, structs

from ...datasets.builder import (
    BuilderSpec,
    Built,
    Config,
    NothingLeft,
    Parents,
    Positive,
    Progress,
    RewardModel,
    Share,
    Temperature,
)
from ...datasets.filters import Filter, chain, response_checks
from ...datasets.manifest import Entry
from ...datasets.schema import frame
from ...errors import InputError
from ...generation import Generator
from ...scoring import Scorer
from ..responses import FAILED, Responder, pin_responders
from .best_of_n import report
from .self_play import NO_CANDIDATE, UNANSWERED, SelfPlay, Talk

OURS = "almost_data"
MIN_CHARS = 50
"""As in comparisons: a response under this is dropped."""
END = "turns"
"""Why a conversation ended that ran its whole length."""


class DemonstrationsConfig(Config, frozen=True, kw_only=True):
    """Defaults are the paper's (2.2); responders have none."""

    assistant: Responder
    """Who answers: the best responder of the ladder."""
    user: Responder
    """Who writes the user's next turn, where `turns` is over 2."""
    prompt: str | None = None
    """Another prompt for the assistant, such as `hhh` (the paper's Table 5)."""
    n: Positive = 4
    """Replies that the reward model picks from; 1 is Self-Play."""
    turns: Annotated[int, Meta(ge=2, multiple_of=2)] = 2
    """User's and assistant's turns together, at most."""
    conversations_per_query: Positive = 2
    """How often each query is answered: our reading of about 20k demonstrations from 10k queries."""
    rm: str | None = None
    """Reward model: `name@version` in the store, Hub id, or local folder; what `--rm` sets."""
    rm_revision: str | None = None
    """Its commit; None takes the current one, and the manifest pins it. In the store, the version says it."""
    rm_max_tokens: Positive = 1024
    """What it reads of a dialogue; the paper's RM was trained on as many."""
    second_rm: str | None = None
    """A reward model that picks nothing: how far it agrees is told; what `--second-rm` sets."""
    second_rm_revision: str | None = None
    """Its commit, likewise."""
    checks: bool = False
    """Whether candidates must pass the response checks of comparisons."""
    preference: bool = False
    """Whether best and worst of N make a config `preference`, for DPO."""
    temperature: Temperature = 1.0
    top_p: Share = 0.9
    seed: int = 0
    limit: Positive | None = None
    """Use only the first queries by query_id; what `--limit` sets."""


def build(
    config: DemonstrationsConfig,
    parents: Parents,
    generator: Generator,
    progress: Progress,
    scorer: Scorer | None = None,
    second: Scorer | None = None,
) -> Built:
    """All conversations a round at a time: N replies to each, the best of them, and the user's next turn."""
    queries = parents["queries"]("default").sort("query_id").collect()[: config.limit].rows(named=True)
    talks = [
        Talk(query["query_id"], number, [query["query"]])
        for query in queries
        for number in range(config.conversations_per_query)
    ]
    play = SelfPlay(
        config,
        assistant(config),
        config.user,
        config.n,
        config.seed,
        _checks(config),
        generator,
        progress,
        scorer,
    )
    for turn in range(1, config.turns, 2):
        live = [talk for talk in talks if not talk.end]
        if turn > 1:
            play.go_on(live, turn)
            live = [talk for talk in live if not talk.end]
        play.answer(live, turn)
    told = [talk for talk in talks if len(talk.turns) > 1]
    if not told:
        raise NothingLeft("no demonstration: no conversation got a reply that could be used")
    if second:
        play.second_opinion(second, {(talk.query_id, talk.number): talk for talk in talks})
    candidates = frame("demonstrations", "candidates", play.candidates)
    ends: dict[str, int] = {}
    for talk in told:
        talk.end = talk.end or END
        ends[talk.end] = ends.get(talk.end, 0) + 1
    found = {
        "ends": ends,
        "turns_written": candidates.select("query_id", "conversation", "turn").n_unique(),
        "mean_chars": candidates.filter(rank=0)["response"].str.len_chars().mean(),
        "best_of_n": report(candidates, config.n, scorer.reward_stats) if scorer and config.n > 1 else None,
    }
    return Built(
        _tables(config, told, candidates, play.dropped),
        _ledger(config, candidates, play, len(talks), len(told)),
        found,
        usage=play.usage,
    )


def assistant(config: DemonstrationsConfig) -> Responder:
    """Who answers, with the prompt that the config gives it."""
    one = config.assistant
    if config.prompt is None or config.prompt == one.prompt:
        return one
    # Not the whole path: the name is fingerprinted, and a machine's folders are no recipe.
    return structs.replace(one, prompt=config.prompt, name=f"{one.name}-as-{Path(config.prompt).stem}")


def _checks(config: DemonstrationsConfig) -> list[Filter]:
    empty = Filter("empty", "response", "The reply has no text.", OURS, pl.col("response") == "")
    return [empty, *(response_checks(MIN_CHARS) if config.checks else [])]


def _ledger(
    config: DemonstrationsConfig, candidates: pl.DataFrame, play: SelfPlay, talks: int, told: int
) -> list[Entry]:
    dropped = dict(candidates["reason"].drop_nulls().value_counts().iter_rows())
    failed = dropped.pop(FAILED.name, 0)
    n_in = len(candidates)
    words = (
        f"The reward model scores another of the {config.n} replies higher (of equals, the first is taken)."
        if config.n > 1
        else "There is one reply, so nothing is left to pick from."
    )
    best = Filter("not_best", "response", words, "paper 2.2, RMSP", params={"n": config.n})
    none = Filter(
        NO_CANDIDATE,
        "demonstration",
        "No reply to the query can be used.",
        OURS,
        params={"turns": config.turns},
    )
    return [
        FAILED.entry("generation", n_in, n_in - failed, failed=failed),
        *chain("selection", [*_checks(config), best], n_in - failed, dropped),
        *_user_ledger(play),
        none.entry("conversations", talks, told),
    ]


def _user_ledger(play: SelfPlay) -> list[Entry]:
    """What became of the turns that the user responder was asked for."""
    if not play.user_turns:
        return []
    dropped: dict[str, int] = {}
    for row in play.dropped:
        dropped[row["reason"]] = dropped.get(row["reason"], 0) + 1
    failed = dropped.pop(FAILED.name, 0)
    asked = Filter("failed", "query", "The engine gave an error instead of the user's turn.", OURS)
    rules = [
        Filter("user_empty", "query", "The user's turn has no text.", OURS),
        Filter("user_repeated", "query", "The user said the same before.", OURS),
        Filter("user_closing", "query", "The user says goodbye, and nothing else.", OURS),
        Filter(UNANSWERED, "query", "No reply to the user's turn can be used.", OURS),
    ]
    n_in = play.user_turns
    return [
        asked.entry("user's turns", n_in, n_in - failed, failed=failed),
        *chain("user's turns", rules, n_in - failed, dropped),
    ]


def _messages(turns: list[str]) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]


def _tables(
    config: DemonstrationsConfig,
    told: list[Talk],
    candidates: pl.DataFrame,
    lost: list[dict[str, Any]],
) -> dict[str, pl.DataFrame]:
    rows = [
        {
            "messages": _messages(talk.turns),
            "query_id": talk.query_id,
            "conversation": talk.number,
            "rm_score": talk.score,
            "n": config.n,
            "end": talk.end,
        }
        for talk in told
    ]
    tables = {"default": frame("demonstrations", "default", rows), "candidates": candidates}
    if lost:
        tables["rejected"] = frame("demonstrations", "rejected", lost)
    if config.preference:
        tables["preference"] = _preference(told, candidates)
    return tables


def _preference(told: list[Talk], candidates: pl.DataFrame) -> pl.DataFrame:
    """Best and worst of each turn's replies, where the reward model tells them apart."""
    talks = {(talk.query_id, talk.number): talk for talk in told}
    ranked = candidates.filter(pl.col("score").is_not_null())
    rows = []
    for (query_id, number, turn), some in ranked.group_by(
        "query_id", "conversation", "turn", maintain_order=True
    ):
        by_rank = some.sort("rank").rows(named=True)
        best, worst = by_rank[0], by_rank[-1]
        if best["score"] == worst["score"]:
            continue
        sides = {
            side: [{"role": "assistant", "content": one["response"]}]
            for side, one in (("chosen", best), ("rejected", worst))
        }
        rows.append(
            {
                "prompt": _messages(talks[query_id, number].turns[:turn]),
                **sides,
                "comparison_id": f"{query_id}-{number}-{turn}",
                "query_id": query_id,
                "chosen_score": best["score"],
                "rejected_score": worst["score"],
            }
        )
    return frame("demonstrations", "preference", rows)


def pins(config: DemonstrationsConfig, generator: Generator) -> dict[str, Any]:
    """Models, prompts and token limits. Raises InputError where replies are to be picked by nobody."""
    if config.preference and config.n == 1:
        raise InputError(
            "--preference sets the best of N against the worst, and --n 1 has one: give --n 2 or more"
        )
    if config.n > 1 and config.rm is None:
        raise InputError(
            f"demonstrations: to pick the best of {config.n} takes a reward model: train one "
            "(python recipes/rm.py --config recipes/tiny.yaml --dataset comparisons@V --artifact rm@V) and "
            "give --rm rm@V; or --n 1, which is Self-Play"
        )
    everyone = [assistant(config), *([config.user] if config.turns > 2 else [])]
    if len({one.name for one in everyone}) < len(everyone):
        raise InputError(f"responder {config.user.name!r} is assistant and user: name each one once")
    return pin_responders(config, everyone, generator)


def reward_models(config: DemonstrationsConfig) -> dict[str, RewardModel]:
    """The reward model that picks, and the one that is asked for its opinion."""
    both = {
        "scorer": (config.rm, config.rm_revision),
        "second": (config.second_rm, config.second_rm_revision),
    }
    return {name: RewardModel(id, at, config.rm_max_tokens) for name, (id, at) in both.items() if id}


SPEC = BuilderSpec("demonstrations", 1, DemonstrationsConfig, ("queries",), build, pins, reward_models)
