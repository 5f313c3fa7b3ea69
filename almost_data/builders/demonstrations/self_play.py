"""Conversations of an assistant and a user, by rounds: N replies, the best of them, the next user turn."""

import re
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ...datasets.builder import Progress, row_seed
from ...datasets.filters import Filter, with_reason
from ...generation import Generator, Messages, Reply, Request, Usage
from ...models.chat import assistant_turn
from ...scoring import Dialogue, Scorer
from ..responder import pinned_responder
from ..responses import FAILED
from .config import DemonstrationsConfig, assistant

CLOSING = re.compile(
    r"((ok(ay)?|great|perfect|nice|got it|thanks|thank you|a lot|so much|very much|again|cheers|good ?bye|bye"
    r"|that['\u2019]s all|(that|this) helps|for now|for (your|the|all your) (help|time|advice|answers?))"
    r"[\s,.!;:)-]*)+",
    re.IGNORECASE,
)
"""A user's turn of nothing but goodbyes."""
NO_CANDIDATE, UNANSWERED = "no_candidate", "unanswered"
Row = dict[str, Any]


@dataclass
class Conversation:
    """One conversation as it grows."""

    query_id: str
    number: int
    prompt: Messages
    """The query's turns."""
    added: list[str] = field(default_factory=list)
    """The assistant's and the user's turns after them, in turn."""
    end: str = ""
    """Why it has ended; empty while it goes on."""
    score: float | None = None
    """Reward of the dialogue up to its last reply."""

    @property
    def key(self) -> tuple[str, int]:
        return self.query_id, self.number

    @property
    def id(self) -> str:
        return f"{self.query_id}:{self.number}"

    def messages(self, turn: int | None = None) -> Messages:
        """All turns, or those before the given place; that of the query's last turn is 0."""
        texts = self.added if turn is None else self.added[: turn - 1]
        roles = ("assistant", "user")
        return (*self.prompt, *({"role": roles[at % 2], "content": text} for at, text in enumerate(texts)))


def ongoing(conversations: list[Conversation]) -> list[Conversation]:
    """The conversations that have not ended."""
    return [conversation for conversation in conversations if not conversation.end]


@dataclass
class SelfPlay:
    """Asks the models for the next turns, and keeps every reply until `forget_rows`."""

    config: DemonstrationsConfig
    filters: list[Filter]
    """Filters that drop a reply before one is picked."""
    generator: Generator
    progress: Progress
    scorer: Scorer | None
    usage: dict[str, Usage] = field(default_factory=dict)
    candidates: list[Row] = field(default_factory=list)
    """Rows of `candidates`: every reply, all N to a turn beside each other."""
    dropped: list[Row] = field(default_factory=list)
    """Rows of `rejected`: user's turns that were not answered, or that failed a check."""
    user_turns: int = 0
    """Turns requested from the user responder."""

    def answer(self, conversations: list[Conversation], turn: int) -> None:
        """N replies to each conversation; the best becomes its next turn, or it ends where none is usable."""
        n = self.config.n
        rows = self._candidates(conversations, turn)
        questions = [
            conversation.messages()[-1]["content"] for conversation in conversations for _ in range(n)
        ]
        reasons = self._reasons(rows, questions)
        usable = [place for place, reason in enumerate(reasons) if reason is None]
        scores = self._scores(conversations, rows, usable)
        for number, conversation in enumerate(conversations):
            places = [place for place in range(number * n, (number + 1) * n) if reasons[place] is None]
            # Of equal scores the first, so that the order in which scores arrive does not matter.
            ranked = sorted(places, key=lambda place: -(scores.get(place) or 0.0))
            for rank, place in enumerate(ranked):
                rows[place] |= {"score": scores.get(place), "rank": rank}
                reasons[place] = "not_best" if rank else None
            if ranked:
                conversation.added.append(rows[ranked[0]]["response"])
                conversation.score = scores.get(ranked[0])
                continue
            conversation.end = NO_CANDIDATE
            reason = UNANSWERED if turn > 1 else NO_CANDIDATE
            question = questions[number * n]
            self.dropped.append(_dropped_turn(conversation, turn - 1, question, reason))
            if turn > 1:
                conversation.added.pop()
        self.candidates += [row | {"reason": reason} for row, reason in zip(rows, reasons, strict=True)]

    def forget_rows(self) -> None:
        """Let go of the rows of conversations that have ended."""
        self.candidates, self.dropped = [], []

    def second_opinion(self, second: Scorer, conversations: list[Conversation]) -> None:
        """`second_score` of every candidate that has a rank."""
        by_key = {conversation.key: conversation for conversation in conversations}
        rows = {str(place): row for place, row in enumerate(self.candidates) if row.get("rank") is not None}
        dialogues = (
            Dialogue(id, (*messages, assistant_turn(row["response"])))
            for id, row in rows.items()
            for messages in [by_key[row["query_id"], row["conversation"]].messages(row["turn"])]
        )
        for done, score in enumerate(second.score(dialogues), start=1):
            rows[score.id]["second_score"] = score.value
            self.progress("second reward model", done, len(rows), 0)

    def add_user_turns(self, conversations: list[Conversation], turn: int) -> None:
        """The user's next turn of each conversation, or its end."""
        pinned = pinned_responder(self.config, self.config.user, self.generator)
        requests = [
            pinned.user_request(row, conversation.messages(), seed)
            for conversation in conversations
            for row in [f"{conversation.id}:{turn}"]
            for seed in [row_seed(self.config.seed, "demonstrations.user", row)]
        ]
        replies = self._ask(self.config.user.name, f"turn {turn}", requests)
        for conversation in conversations:
            reply = replies[f"{conversation.id}:{turn}"]
            text = reply.text.strip()
            if reason := _why_no_turn(reply, text, conversation.messages()):
                conversation.end = reason if reason.startswith("user_") else f"user_{reason}"
                kept = None if reply.error else text
                self.dropped.append(_dropped_turn(conversation, turn - 1, kept, reason, reply.error))
            else:
                conversation.added.append(text)
        self.user_turns += len(conversations)

    def _candidates(self, conversations: list[Conversation], turn: int) -> list[Row]:
        """Rows of N replies to each conversation, in order."""
        responder = assistant(self.config)
        pinned = pinned_responder(self.config, responder, self.generator)
        requests, rows = [], []
        for conversation in conversations:
            messages = conversation.messages()
            for sample in range(self.config.n):
                row = f"{conversation.id}:{turn}:{sample}"
                seed = row_seed(self.config.seed, "demonstrations", row)
                requests.append(pinned.request(row, messages, seed, sample))
                rows.append((conversation, sample))
        replies = self._ask(responder.name, f"turn {turn + 1}", requests)
        return [
            {
                "query_id": conversation.query_id,
                "conversation": conversation.number,
                "turn": turn,
                "sample": sample,
                "response": None if reply.error else reply.text.strip(),
                "reasoning": reply.reasoning,
                "finish_reason": reply.finish_reason,
                "error": reply.error,
            }
            for (conversation, sample), request in zip(rows, requests, strict=True)
            for reply in [replies[request.id]]
        ]

    def _reasons(self, rows: list[Row], questions: list[str]) -> list[str | None]:
        """Why each reply cannot be picked; None where it can."""
        names = ("response", "reasoning", "finish_reason", "turn")
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in names}
        columns |= {"prompt": questions, "reason": [FAILED.name if row["error"] else None for row in rows]}
        types = {name: pl.Int64 if name == "turn" else pl.String for name in columns}
        replies = pl.DataFrame(columns, schema=types)
        replies = replies.with_columns(length=pl.col("response").str.len_chars().cast(pl.Int64))
        reasons: list[str | None] = with_reason(replies, self.filters, replies["reason"])["reason"].to_list()
        return reasons

    def _scores(
        self, conversations: list[Conversation], rows: list[Row], usable: list[int]
    ) -> dict[int, float]:
        """The reward model's score of each usable reply, by its place among the rows."""
        if self.scorer is None:
            return {}
        dialogues = (
            Dialogue(str(place), (*messages, assistant_turn(rows[place]["response"])))
            for place in usable
            for messages in [conversations[place // self.config.n].messages()]
        )
        scores: dict[int, float] = {}
        tokens = 0
        for score in self.scorer.score(dialogues):
            scores[int(score.id)] = score.value
            tokens += score.tokens
            self.progress("reward model", len(scores), len(usable), tokens)
        return scores

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


def _why_no_turn(reply: Reply, text: str, earlier: Messages) -> str | None:
    """Why the user responder's text cannot be a turn; None where it can."""
    if reply.error:
        return FAILED.name
    if not text:
        return "user_empty"
    if {"role": "user", "content": text} in earlier:
        return "user_repeated"
    return "user_closing" if CLOSING.fullmatch(text) else None


def _dropped_turn(
    conversation: Conversation, turn: int, text: str | None, reason: str, error: str | None = None
) -> Row:
    """A row of `rejected`: a user's turn that was not answered, or that failed a check."""
    ids = {"query_id": conversation.query_id, "conversation": conversation.number, "turn": turn}
    return ids | {"query": text, "reason": reason, "error": error}
