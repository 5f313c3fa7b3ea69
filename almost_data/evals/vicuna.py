"""Vicuna Questions: both models answer, a judge scores each pair of answers from 1 to 10 in both orders.

A question is won by the side with the higher score, averaged over the orders; where one order gave no
verdict, the other stands alone, and where none did, the question is not compared. Counts say how many.

Deviation from the paper: the judge's prompt is our own (`prompts/judge.txt`), and any judge will do.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..diagnostics.probe import draw
from ..errors import InputError
from ..generation import Generator, Sampling
from ..generation.journal import MAX_FAILURES, JournaledGenerator
from ..generation.journal_file import JournalSession
from ..generation.openai import BY_CHAT
from ..store.store import Store
from . import answers, judge, saved
from .answers import Side, Written
from .judge import Verdict
from .result import LOGIC, Pinned, Result, known, save
from .saved import Question
from .subject import Progress
from .tally import Judged, lines, notes, tables

TASK = "vicuna"
LOGIC_VERSION = LOGIC[TASK]
A, B = "model a", "model b"
JUDGE_BUILD = "eval-vicuna-judge"
LOWEST_SAVED = 0.0
"""GPT-4 has given a 0 now and then, on a scale from 1: a saved score is taken as it is."""


@dataclass(frozen=True)
class Settings:
    """What decides the numbers, apart from models and questions; of the paper where it says so."""

    limit: int | None = None
    seed: int = 0
    max_new_tokens: int = 1024
    """Of an answer (paper)."""
    temperature: float = 0.7
    """Of an answer (paper)."""
    judge_temperature: float = 0.0
    judge_tokens: int = judge.TOKENS


def run(
    store: Store,
    a: str,
    b: str,
    data: Path,
    judge_name: str,
    judge_engine: Generator,
    generator: Generator | None = None,
    settings: Settings | None = None,
    max_failures: float = MAX_FAILURES,
    progress: Progress | None = None,
) -> Result:
    """Compare two models, or files of their answers; what was answered or judged before is not asked again.

    A finished result is read. One in which requests failed is finished too, and running it again asks for
    those only. Raises InputError for what is not there, RuntimeError where too much fails.
    """
    how = _checked(settings or Settings())
    start = time.monotonic()
    questions = some(saved.questions(data), how.limit, how.seed)
    sides = {A: answers.side(store, a, A, generator), B: answers.side(store, b, B, generator)}
    if len({(one.pinned.id, one.pinned.revision) for one in sides.values()}) == 1:
        raise InputError(
            f"--a and --b are both {sides[A].pinned.id}: give two models, or two files of answers"
        )
    generated = any(one.answers is None for one in sides.values())
    draft = Result(
        TASK,
        LOGIC_VERSION,
        [*(one.pinned for one in sides.values()), Pinned(judge_name, BY_CHAT, "judge")],
        [saved.pinned(data, "data")],
        {"judge": judge.prompt()},
        {
            "limit": how.limit,
            "seed": how.seed,
            **({"max_new_tokens": how.max_new_tokens, "temperature": how.temperature} if generated else {}),
            "judge_temperature": how.judge_temperature,
            "judge_tokens": how.judge_tokens,
        },
        [],
    )
    if (there := known(store, draft)) and not there.details["failed"]:
        return there
    judge.check(judge_engine, judge_name)  # before the answers, which may take hours
    sampling = Sampling(how.max_new_tokens, how.temperature)
    written = answers.write(store, sides, questions, generator, sampling, how.seed, max_failures, progress)
    rows = _rows(questions, written)
    _judge(store, rows, questions, judge_name, judge_engine, how, max_failures, progress)
    recorded = {"judge": judge_engine.settings() | {"engine": "chat"}, **written.how}
    return finish(store, draft, rows, start, failed_answers=len(written.errors), **recorded)


def replay(
    store: Store,
    reviews: Path,
    a: str | None = None,
    b: str | None = None,
    data: Path | None = None,
    settings: Settings | None = None,
) -> Result:
    """The same tables from saved reviews: no judge is asked. `a` and `b` are names, or files of the answers.

    The saved scores count; what the review's text says is compared with them, and stands in where there
    are none. Raises InputError for a file that is not there or has no review of a question.
    """
    how = settings or Settings()
    start = time.monotonic()
    found = saved.reviews(reviews)
    asked = (
        saved.questions(data) if data else {id: Question(one.question_id, "") for id, one in found.items()}
    )
    if missing := [id for id in asked if id not in found]:
        raise InputError(f"{reviews}: no review of question {missing[0]!r}, of {len(missing)} such")
    questions = some(asked, how.limit, how.seed)
    sides = {}
    for role, name, number in ((A, a, 1), (B, b, 2)):
        if name and name.endswith(".jsonl"):
            sides[role] = answers.side(store, name, role, None)
        else:
            sides[role] = Side(Pinned(name or f"answer {number}", "as the reviews have it", role))
    written = answers.write(store, sides, questions, None, Sampling(1), how.seed)
    rows = _rows(questions, written)
    doubts: Counter[str] = Counter()
    for row in rows:
        row.verdicts["ab"] = _saved(found[row.id], doubts)
    judged_by = saved.pinned(reviews, "judge")
    draft = Result(
        TASK,
        LOGIC_VERSION,
        [*(one.pinned for one in sides.values()), judged_by],
        [saved.pinned(data, "data")] if data else [],
        {},
        {"replay": True, "limit": how.limit, "seed": how.seed},
        [],
        notes=[f"Saved reviews: {said} in {count}." for said, count in sorted(doubts.items())],
    )
    return known(store, draft) or finish(store, draft, rows, start)


def some(questions: Mapping[str, Question], limit: int | None, seed: int) -> dict[str, Question]:
    """At most `limit` of the questions, drawn by the seed, in their order."""
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give 1 or more")
    drawn = set(sorted(questions, key=lambda id: draw(id, seed, "limit"))[:limit])
    return {id: one for id, one in questions.items() if id in drawn}


def finish(
    store: Store, draft: Result, rows: list[Judged], start: float, failed_answers: int = 0, **how: Any
) -> Result:
    """Count, and save; in place of a result of the same evaluation in which more requests had failed."""
    names = {one.role: one.id for one in draft.models}
    a, b = names[A], names[B]
    failed = sum(verdict.why == "failed" for row in rows for verdict in row.verdicts.values())
    done = msgspec.structs.replace(
        draft,
        lines=lines(rows, a, draft.settings["seed"]),
        details={"failed": failed + failed_answers, **tables(rows, a, b)},
        notes=[*notes(rows, a, b, failed_answers), *draft.notes],
    )
    return save(
        store,
        done,
        [row.item() for row in rows],
        time.monotonic() - start,
        replace=lambda old: old.details["failed"] > done.details["failed"],
        **how,
    )


def _rows(questions: Mapping[str, Question], written: Written) -> list[Judged]:
    return [
        Judged(
            id,
            asked.category,
            {side: written.texts.get((role, id)) for side, role in (("a", A), ("b", B))},
            {side: written.errors.get((role, id)) for side, role in (("a", A), ("b", B))},
            {side: (role, id) in written.cut for side, role in (("a", A), ("b", B))},
        )
        for id, asked in questions.items()
    ]


def _judge(
    store: Store,
    rows: list[Judged],
    questions: Mapping[str, Question],
    name: str,
    engine: Generator,
    how: Settings,
    max_failures: float,
    progress: Progress | None,
) -> None:
    """Both verdicts on every row that has both answers."""
    pairs = []
    for row in rows:
        one, two = row.answers["a"], row.answers["b"]
        if one is not None and two is not None:
            text = questions[row.id].text
            pairs += [(f"ab\0{row.id}", text, one, two), (f"ba\0{row.id}", text, two, one)]
    asked = judge.requests(judge.served(name), pairs, how.judge_temperature, how.judge_tokens)
    by_id = {row.id: row for row in rows}
    session = JournalSession(store.journal, JUDGE_BUILD, store.refs())
    journal = JournaledGenerator(engine, session, max_failures)
    tokens = 0
    for done, reply in enumerate(journal.generate(asked), start=1):
        tokens += reply.completion_tokens
        order, _, id = reply.id.partition("\0")
        by_id[id].verdicts[order] = judge.read(reply)
        if progress:
            progress("verdicts", done, len(asked), tokens)


def _saved(review: saved.Review, doubts: Counter[str]) -> Verdict:
    """A saved review's verdict: its scores, or what its text says."""
    said = judge.parse(review.text or "", lowest=LOWEST_SAVED)
    if review.score is None:
        return said
    verdict = judge.checked(review.text or "", review.score, LOWEST_SAVED)
    if review.text is not None and said.scores is None:
        doubts["the scores were saved and cannot be read from the text"] += 1
    elif said.scores not in (None, verdict.scores):
        doubts["the saved scores are not those of the text"] += 1
    if verdict.scores and min(verdict.scores) < judge.LOWEST:
        doubts["a score lies below 1"] += 1
    return verdict


def _checked(settings: Settings) -> Settings:
    for flag, value in (
        ("--temperature", settings.temperature),
        ("--judge-temperature", settings.judge_temperature),
    ):
        if not 0 <= value <= 10:
            raise InputError(f"{flag} {value}: give 0 to 10")
    for flag, tokens in (
        ("--max-new-tokens", settings.max_new_tokens),
        ("--judge-tokens", settings.judge_tokens),
    ):
        if tokens < 1:
            raise InputError(f"{flag} {tokens}: give 1 or more")
    return settings
