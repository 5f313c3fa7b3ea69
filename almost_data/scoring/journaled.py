"""Every score kept in the journal as it comes: a text that was scored is never scored again."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import msgspec

from ..generation import SharedMemory
from ..generation.journal import JournalWriter
from ..generation.journal_file import KEY_BYTES, AnswerCounts, JournalSession, open_journal
from .reading import FORMAT
from .scorer import Dialogue, Score, Scorer

WINDOW = 16_384
"""Dialogues looked up at a time; about as many without a score wait, to be scored together."""
BATCH = 4096
"""Scores of a commit, if they come within a second."""


def key(dialogue: Dialogue, scorer: Scorer, settings: Sequence[str] = ()) -> bytes:
    """Hash of all that decides a score: the text, the model and revision, how much of it is read, the format.

    `settings` are further ones that decide it, for a kind of scorer that has such.
    """
    model = scorer.model
    parts = ["score", FORMAT, dialogue.messages, model.id, model.revision, scorer.max_tokens, *settings]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()[:KEY_BYTES]


@dataclass(eq=False)
class JournaledScorer:
    """A Scorer that passes on only texts that the journal has no score of. `key_settings` go to `key`.

    With a `memory` the scorer acquires it first.
    """

    scorer: Scorer
    session: JournalSession
    key_settings: Sequence[str] = ()
    memory: SharedMemory | None = None
    counts: AnswerCounts = field(default_factory=AnswerCounts, init=False)
    """From the journal also where another dialogue of the same text was just scored."""

    def __post_init__(self) -> None:
        self.model = self.scorer.model
        self.max_tokens = self.scorer.max_tokens
        self.reward_stats = self.scorer.reward_stats

    def settings(self) -> dict[str, Any]:
        return self.scorer.settings()

    def close(self) -> None:
        self.scorer.close()

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        """The journal's scores first, window by window, and the scorer's as they come. Reads as it goes.

        Raises RuntimeError if it cannot write.
        """
        remaining = iter(dialogues)
        with open_journal(self.session.path) as database:
            missing: dict[bytes, list[Dialogue]] = {}
            while window := list(islice(remaining, WINDOW)):
                yield from self._lookup(database, window, missing)
                if len(missing) >= WINDOW:
                    yield from self._compute(database, missing)
            if missing:
                yield from self._compute(database, missing)

    def _lookup(
        self, database: sqlite3.Connection, window: list[Dialogue], missing: dict[bytes, list[Dialogue]]
    ) -> Iterator[Score]:
        """The scores that the journal has; the other dialogues go to `missing`."""
        keyed = [(key(dialogue, self, self.key_settings), dialogue) for dialogue in window]
        answer_ids = self.session.register(database, "score", [digest for digest, _ in keyed])
        rows = {
            digest: row for _, digest, *row in self.session.answers(database, "score", answer_ids.values())
        }
        for digest, dialogue in keyed:
            if row := rows.get(digest):
                value, tokens, truncated = row
                self.counts.from_journal += 1
                yield Score(dialogue.id, value, tokens, bool(truncated))
            else:
                missing.setdefault(digest, []).append(dialogue)

    def _compute(self, database: sqlite3.Connection, missing: dict[bytes, list[Dialogue]]) -> Iterator[Score]:
        """The scorer's scores of `missing`, each text's once; empties it."""
        if self.memory:
            self.memory.acquire(self.scorer)
        texts = [Dialogue(digest.hex(), same_text[0].messages) for digest, same_text in missing.items()]
        with closing(JournalWriter(database, self.session.path, self._store, BATCH)) as writer:
            for score in self.scorer.score(texts):
                digest = bytes.fromhex(score.id)
                same_text = missing.pop(digest)
                writer.add((digest, score, len(same_text)))
                self.counts.computed += 1
                self.counts.from_journal += len(same_text) - 1
                for dialogue in same_text:
                    yield replace(score, id=dialogue.id)
        if missing:
            raise RuntimeError(f"{self.model.id} left {len(missing)} dialogues without a score")

    def _store(self, database: sqlite3.Connection, scores: list[tuple[bytes, Score, int]]) -> None:
        """Store each score, and count the dialogues that it is of."""
        rows = ((digest, score.value, score.tokens, score.truncated) for digest, score, _ in scores)
        database.executemany("INSERT INTO score VALUES (NULL, ?, ?, ?, ?)", rows)
        answered, computed = sum(dialogues for *_, dialogues in scores), len(scores)
        self.session.count(database, answered=answered, computed=computed, from_journal=answered - computed)
