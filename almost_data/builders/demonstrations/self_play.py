"""Conversations of an assistant and a user, by rounds: N replies, the best of them, the next user turn."""

import re
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ...datasets.builder import Progress, row_seed
from ...datasets.filters import Filter, first_reason
from ...generation import Generator, Reply, Request, Usage
from ...scoring import Dialogue, Scorer
from ..responses import FAILED, Drawn, Responder, ask_how

CLOSING = re.compile(
    r"((ok(ay)?|great|perfect|nice|got it|thanks|thank you|a lot|so much|very much|again|cheers|good ?bye|bye"
    r"|that['\u2019]s all|(that|this) helps|for now|for (your|the|all your) (help|time|advice|answers?))"
    r"[\s,.!;:)-]*)+",
    re.IGNORECASE,
)
"""A user's turn of nothing but goodbyes."""
NO_CANDIDATE, UNANSWERED = "no_candidate", "unanswered"


@dataclass
class Talk:
    """One conversation as it grows."""

    query_id: str
    number: int
    turns: list[str]
    end: str = ""
    """Why it has ended; empty while it goes on."""
    score: float | None = None
    """Of the dialogue with its last reply."""

    @property
    def id(self) -> str:
        return f"{self.query_id}:{self.number}"

    def text(self) -> str:
        """The turns as few-shot prompts have them, the next one opened."""
        marks = [f"\n\n{('Human', 'Assistant')[at % 2]}:" for at in range(len(self.turns) + 1)]
        return "".join(f"{mark} {turn}" for mark, turn in zip(marks, self.turns, strict=False)) + marks[-1]


@dataclass
class SelfPlay:
    """Who talks, and what has been said so far."""

    drawn: Drawn
    assistant: Responder
    user: Responder
    n: int
    """Replies that the best is picked from."""
    seed: int
    checks: list[Filter]
    """What drops a reply before it can be picked."""
    generator: Generator
    progress: Progress
    scorer: Scorer | None
    usage: dict[str, Usage] = field(default_factory=dict)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `candidates`: every reply."""
    dropped: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `rejected`: user's turns that nobody answered, or that were none."""
    user_turns: int = 0
    """How many the user responder was asked for."""

    def answer(self, live: list[Talk], turn: int) -> None:
        """N replies to each conversation; the best becomes its next turn, or it ends where there is none."""
        sampling, model, head = ask_how(self.drawn, self.assistant, self.generator)
        requests = []
        for talk in live:
            for sample in range(self.n):
                row = f"{talk.id}:{turn}:{sample}"
                seed = row_seed(self.seed, "demonstrations", row)
                requests.append(Request(row, model, head, talk.text(), sampling, seed, sample))
        replies = self._ask(self.assistant.name, f"turn {turn + 1}", requests)
        rows: list[dict[str, Any]] = [
            {
                "query_id": talk.query_id,
                "conversation": talk.number,
                "turn": turn,
                "sample": sample,
                "response": None if reply.error else reply.text.strip(),
                "finish_reason": reply.finish_reason,
                "error": reply.error,
            }
            for talk in live
            for sample in range(self.n)
            for reply in [replies[f"{talk.id}:{turn}:{sample}"]]
        ]
        reasons = _flaws(self.checks, rows)
        usable = [place for place, reason in enumerate(reasons) if reason is None]
        scores = self._score(live, rows, usable)
        for number, talk in enumerate(live):
            mine = [
                place for place in range(number * self.n, (number + 1) * self.n) if reasons[place] is None
            ]
            # The first of equals, so that the pick does not depend on the order in which scores come.
            ranked = sorted(mine, key=lambda place: -(scores.get(place) or 0.0))
            for rank, place in enumerate(ranked):
                rows[place] |= {"score": scores.get(place), "rank": rank}
                reasons[place] = "not_best" if rank else None
            if ranked:
                talk.turns.append(rows[ranked[0]]["response"])
                talk.score = scores.get(ranked[0])
            else:
                talk.end = NO_CANDIDATE
                reason = UNANSWERED if turn > 1 else NO_CANDIDATE
                self.dropped.append(_lost(talk, turn - 1, talk.turns[-1], reason))
                if turn > 1:
                    talk.turns.pop()
        self.candidates += [row | {"reason": reason} for row, reason in zip(rows, reasons, strict=True)]

    def _score(self, live: list[Talk], rows: list[dict[str, Any]], usable: list[int]) -> dict[int, float]:
        if self.scorer is None:
            return {}
        talks = (
            Dialogue(str(place), (*live[place // self.n].turns, rows[place]["response"])) for place in usable
        )
        found: dict[int, float] = {}
        tokens = 0
        for score in self.scorer.score(talks):
            found[int(score.id)] = score.value
            tokens += score.tokens
            self.progress("reward model", len(found), len(usable), tokens)
        return found

    def second_opinion(self, second: Scorer, talks: dict[tuple[str, int], Talk]) -> None:
        """`second_score` of every candidate that has a rank."""
        asked = {str(place): row for place, row in enumerate(self.candidates) if row.get("rank") is not None}
        dialogues = (
            Dialogue(id, (*talks[row["query_id"], row["conversation"]].turns[: row["turn"]], row["response"]))
            for id, row in asked.items()
        )
        for done, score in enumerate(second.score(dialogues), start=1):
            asked[score.id]["second_score"] = score.value
            self.progress("second reward model", done, len(asked), 0)

    def go_on(self, live: list[Talk], turn: int) -> None:
        """The user's next turn of each conversation, or its end."""
        sampling, model, head = ask_how(self.drawn, self.user, self.generator)
        requests = [
            Request(
                f"{talk.id}:{turn}",
                model,
                head,
                talk.text(),
                sampling,
                row_seed(self.seed, "demonstrations.user", f"{talk.id}:{turn}"),
            )
            for talk in live
        ]
        replies = self._ask(self.user.name, f"turn {turn}", requests)
        for talk in live:
            reply = replies[f"{talk.id}:{turn}"]
            said = reply.text.strip()
            if reason := _why_no_turn(reply, said, talk.turns[::2]):
                talk.end = reason if reason.startswith("user_") else f"user_{reason}"
                self.dropped.append(_lost(talk, turn - 1, None if reply.error else said, reason, reply.error))
            else:
                talk.turns.append(said)
        self.user_turns += len(live)

    def _ask(self, name: str, stage: str, requests: list[Request]) -> dict[str, Reply]:
        usage = self.usage.setdefault(name, Usage())
        replies: dict[str, Reply] = {}
        self.progress(stage, 0, len(requests), 0)
        tokens = 0
        for reply in self.generator.generate(requests):
            replies[reply.id] = reply
            usage.add(reply)
            tokens += reply.completion_tokens
            self.progress(stage, len(replies), len(requests), tokens)
        return replies


def _why_no_turn(reply: Reply, said: str, before: list[str]) -> str | None:
    """Why what the user responder wrote is no turn; None where it is one."""
    if reply.error:
        return FAILED.name
    if not said:
        return "user_empty"
    if said in before:
        return "user_repeated"
    return "user_closing" if CLOSING.fullmatch(said) else None


def _lost(talk: Talk, turn: int, said: str | None, reason: str, error: str | None = None) -> dict[str, Any]:
    """A row of `rejected`: a user's turn that nobody answered, or that was none."""
    ids = {"query_id": talk.query_id, "conversation": talk.number, "turn": turn}
    return ids | {"query": said, "reason": reason, "error": error}


def _flaws(checks: list[Filter], rows: list[dict[str, Any]]) -> list[str | None]:
    texts = pl.DataFrame(
        {"response": [row["response"] for row in rows]}, schema={"response": pl.String}
    ).select(reason=first_reason(checks))["reason"]
    pairs = zip(rows, texts, strict=True)
    return [FAILED.name if row["error"] else reason for row, reason in pairs]
