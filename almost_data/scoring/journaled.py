"""Every score kept in the journal as it comes: what was scored once is never scored again."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ..generation import Closing
from ..generation.journal import Writer
from ..generation.journal_file import Run, open_journal, told
from .reading import FORMAT
from .scorer import Dialogue, Score, Scorer

WINDOW = 16_384
"""Dialogues looked up at a time; about as many unknown ones wait, to be scored together."""
BATCH = 4096
"""Scores of a commit, if they come within a second."""
_LOOKUP = 500
"""Keys asked for in one query."""


def key(dialogue: Dialogue, scorer: Scorer, more: Sequence[str] = ()) -> bytes:
    """What decides a score: the text, the model and revision, how much of it is read, and in what format.

    `more` is what else does, of a kind of scorer.
    """
    model = scorer.model
    parts = ["score", FORMAT, dialogue.turns, model.id, model.revision, scorer.max_tokens, *more]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


class JournaledScorer:
    """A Scorer that asks the one inside only what the journal does not know.

    `build` names the dataset that the scores are for, `refs` are those in the store. A build that also has
    replies made gives the `run` of its Journaled, so that both are one run of it. `more` goes to `key`.
    """

    def __init__(
        self,
        scorer: Scorer,
        path: Path,
        build: str = "",
        refs: Iterable[str] = (),
        run: Run | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self.scorer = scorer
        self.more = more
        self.model = scorer.model
        self.max_tokens = scorer.max_tokens
        self.reward_stats = scorer.reward_stats
        self.path = path
        self.run = run or Run(path, build, refs)
        self.others: tuple[Closing, ...] = ()
        """What shares its memory, and is closed before the scorer is asked."""
        self.found = 0
        """Scores that came from the journal, or that another dialogue of the same text had just got."""
        self.asked = 0
        """Scores that came from the scorer."""

    def settings(self) -> dict[str, Any]:
        return self.scorer.settings()

    def close(self) -> None:
        self.scorer.close()

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        """Known scores first, window by window, and the scorer's as they come. Reads dialogues as it goes.

        Raises RuntimeError if it cannot write.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        coming = iter(dialogues)
        found, asked = self.found, self.asked
        with closing(open_journal(self.path)) as database:
            try:
                missing: dict[bytes, list[Dialogue]] = {}
                while window := list(islice(coming, WINDOW)):
                    yield from self._known(database, window, missing)
                    if len(missing) >= WINDOW:
                        yield from self._ask(database, missing)
                yield from self._ask(database, missing)
            finally:
                self.run.had(database, self.found - found, self.asked - asked)

    def published(self) -> None:
        """Say that the build is in the store: `prune` keeps its scores with it."""
        self.run.published()

    def _known(
        self, database: sqlite3.Connection, window: list[Dialogue], missing: dict[bytes, list[Dialogue]]
    ) -> Iterator[Score]:
        """The scores that are there; the other dialogues go to `missing`."""
        # In the order of the keys, which is that of the table: the rows of a query lie near each other.
        keyed = sorted(((key(one, self, self.more), one) for one in window), key=lambda pair: pair[0])
        self.run.wants(database, (one for one, _ in keyed))
        for start in range(0, len(keyed), _LOOKUP):
            some = keyed[start : start + _LOOKUP]
            marks = ", ".join("?" * len(some))
            query = f"SELECT * FROM score WHERE key IN ({marks})"
            with told(self.path):
                rows = {row[0]: row[1:] for row in database.execute(query, [one for one, _ in some])}
            for one, dialogue in some:
                if one in rows:
                    value, tokens, truncated = rows[one]
                    self.found += 1
                    yield Score(dialogue.id, value, tokens, bool(truncated))
                else:
                    missing.setdefault(one, []).append(dialogue)

    def _ask(self, database: sqlite3.Connection, missing: dict[bytes, list[Dialogue]]) -> Iterator[Score]:
        """The scores of `missing`, each text's once, which is emptied."""
        if not missing:
            return
        for other in self.others:
            other.close()
        writer = Writer(database, self.path, _store, BATCH)
        try:
            for score in self.scorer.score(
                Dialogue(one.hex(), same[0].turns) for one, same in list(missing.items())
            ):
                one = bytes.fromhex(score.id)
                writer.add((one, score))
                same = missing.pop(one)
                self.asked += 1
                self.found += len(same) - 1
                for dialogue in same:
                    yield replace(score, id=dialogue.id)
        finally:
            writer.close()
        if missing:
            raise RuntimeError(f"{self.model.id} left {len(missing)} dialogues without a score")


def _store(database: sqlite3.Connection, scores: list[tuple[bytes, Score]]) -> None:
    rows = ((one, score.value, score.tokens, score.truncated) for one, score in scores)
    database.executemany("INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?)", rows)
