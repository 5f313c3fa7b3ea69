"""Vicuna Questions: both models answer, a judge scores each pair of answers from 1 to 10 in both orders.

A question is won by the side with the higher score, averaged over the orders; where only one order has a
verdict, that counts alone, and where none has, the question is not compared. Counts say how many.

Deviation from the paper: the judge's prompt is our own (`prompts/judge.txt`), and any judge will do.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.records import Pinned
from ..diagnostics.probe import draw
from ..errors import InputError
from ..generation import Generator, Sampling
from ..generation.journal import MAX_FAILURES
from ..generation.openai import AS_SERVED, OpenAIEngine
from ..scoring import verdicts
from ..scoring.verdicts import TOKENS, Verdict
from . import answers, judge, saved, tally
from .answers import Side, Written
from .evaluation import EvalSession, Evaluation, ItemValue, check_limit
from .judge import SECONDS
from .result import SIDE_A, SIDE_B, EvalPlan, Line, Measurement
from .saved import Question
from .tally import Judged

QUESTIONS = "590c39157bc561eadd7f03cad4be18c2b597f93029780af65f86718f39eafa87"
"""sha256 of FastChat's question.jsonl."""
LOWEST_SAVED = 0.0
"""GPT-4 has given a 0 now and then, on a scale from 1: a saved score counts as it is."""


@dataclass(frozen=True, kw_only=True)
class Options:
    a: str | None = None
    """Model (name@version, Hub id, folder, pypi:PACKAGE), or .jsonl of its answers."""
    b: str | None = None
    """The other side, likewise."""
    data: Path | None = None
    """JSONL of questions: question_id, text, category."""
    judge: str | None = None
    """Address of an OpenAI-compatible chat server, up to /v1."""
    judge_model: str | None = None
    """Name of the judge on that server, where it has several models."""
    replay: Path | None = None
    """JSONL of saved reviews to count instead of asking a judge: question_id, text, score."""
    engine: str | None = None
    """What runs the models that answer."""
    base_url: tuple[str, ...] = ()
    """Address of the server of the models that answer, asked by chat; repeatable."""
    limit: int | None = None
    """Evaluate at most so many questions, drawn by the seed."""
    seed: int = 0
    """Seed of the draw."""
    max_new_tokens: int = 1024
    """Of an answer (paper)."""
    temperature: float = 0.7
    """Of an answer (paper)."""
    judge_temperature: float = 0.0
    """Of a verdict."""
    judge_tokens: int = TOKENS
    """Of a verdict, at most."""
    judge_timeout: float = SECONDS
    """Seconds that a verdict may take."""
    max_failures: float = MAX_FAILURES
    """Share of answers, and of verdicts, that may fail before the run stops."""

    def __post_init__(self) -> None:
        check_limit(self.limit)
        for name in ("temperature", "judge_temperature"):
            if not 0 <= getattr(self, name) <= 10:
                raise InputError(f"eval.{name} {getattr(self, name)}: give 0 to 10")
        for name in ("max_new_tokens", "judge_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"eval.{name} {getattr(self, name)}: give 1 or more")
        if self.replay is not None and (self.judge or self.judge_model or self.engine or self.base_url):
            raise InputError(
                "eval.replay asks no model: leave out eval.judge, eval.judge_model, eval.engine and "
                "eval.base_url"
            )


@dataclass(frozen=True)
class Servers:
    """What runs the judge, and the models that answer; None where both sides are files."""

    judge: OpenAIEngine
    judge_name: str
    generator: Generator | None = None


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """The comparison of two models or files of their answers, or the count of saved reviews."""
    if options.replay is not None:
        return _plan_replay(session, options, options.replay)
    if None in (options.a, options.b, options.data, options.judge):
        raise InputError("eval vicuna needs eval.a, eval.b, eval.data and eval.judge; or eval.replay")
    server = judge.engine(str(options.judge), options.judge_timeout)
    are_files = all(str(name).endswith(".jsonl") for name in (options.a, options.b))
    generator = None if are_files else answers.engine(options.engine, options.base_url)
    name = options.judge_model or judge.only_model(server)
    return plan_comparison(session, options, Servers(server, name, generator))


def plan_comparison(session: EvalSession, options: Options, servers: Servers) -> EvalPlan:
    """The comparison by these servers. Answers and verdicts in the journal are not asked again."""
    assert options.data is not None
    questions = sample(saved.questions(options.data), options)
    sides = {
        role: answers.side(session.store, str(name), role, servers.generator)
        for role, name in ((SIDE_A, options.a), (SIDE_B, options.b))
    }
    if len({(side.pinned.id, side.pinned.revision) for side in sides.values()}) == 1:
        raise InputError(
            f"eval.a and eval.b are both {sides[SIDE_A].pinned.id}: give two models, or two files of answers"
        )

    def measure() -> Measurement:
        judge.check(servers.judge, servers.judge_name)  # before the answers, which may take hours
        sampling = Sampling(options.max_new_tokens, options.temperature)
        written = answers.write(
            session.journal,
            sides,
            questions,
            servers.generator,
            sampling,
            options.seed,
            options.max_failures,
            session.progress,
        )
        rows = _rows(questions, written)
        _judge(session, rows, questions, servers, options)
        environment = {"judge": servers.judge.settings() | {"engine": "chat"}, **written.environment}
        return _measurement(rows, sides, options.seed, len(written.errors), environment)

    sampled = ("max_new_tokens", "temperature") if any(s.answers is None for s in sides.values()) else ()
    names = ("limit", "seed", *sampled, "judge_temperature", "judge_tokens")
    return EvalPlan(
        models=[*(side.pinned for side in sides.values()), Pinned(servers.judge_name, AS_SERVED, "judge")],
        data=[session.file(options.data)],
        settings={name: getattr(options, name) for name in names},
        measure=measure,
        prompts={"judge": verdicts.prompt()},
    )


def _plan_replay(session: EvalSession, options: Options, reviews_file: Path) -> EvalPlan:
    """The same numbers from saved reviews; the sides are names, or files of the answers.

    The saved scores count; the review's text is compared with them, and stands in where there are none.
    Raises InputError for a file that does not exist or has no review of a question.
    """
    reviews = saved.reviews(reviews_file)
    if options.data:
        questions = saved.questions(options.data)
    else:
        questions = {key: Question(review.question_id, "") for key, review in reviews.items()}
    if missing := [question_id for question_id in questions if question_id not in reviews]:
        raise InputError(f"{reviews_file}: no review of {len(missing)} questions, as {missing[0]!r}")
    questions = sample(questions, options)
    sides = {}
    for role, name, number in ((SIDE_A, options.a, 1), (SIDE_B, options.b, 2)):
        if name and name.endswith(".jsonl"):
            sides[role] = answers.side(session.store, name, role, None)
        else:
            sides[role] = Side(Pinned(name or f"answer {number}", "as the reviews have it", role))
    written = answers.write(session.journal, sides, questions, None, Sampling(1), options.seed)

    def measure() -> Measurement:
        rows = _rows(questions, written)
        doubts: Counter[str] = Counter()
        for row in rows:
            row.verdicts["ab"] = _saved_verdict(reviews[row.id], doubts)
        measured = _measurement(rows, sides, options.seed)
        measured.notes.extend(
            f"Saved reviews: {doubt} in {count}." for doubt, count in sorted(doubts.items())
        )
        return measured

    return EvalPlan(
        models=[*(side.pinned for side in sides.values()), session.file(reviews_file, "judge")],
        data=[session.file(options.data)] if options.data else [],
        settings={"replay": True, "limit": options.limit, "seed": options.seed},
        measure=measure,
    )


def sample(questions: Mapping[str, Question], options: Options) -> dict[str, Question]:
    """At most `limit` of the questions, drawn by the seed, in their order."""
    by_draw = sorted(questions, key=lambda question_id: draw(question_id, options.seed, "limit"))
    sampled = set(by_draw[: options.limit])
    return {key: question for key, question in questions.items() if key in sampled}


def _rows(questions: Mapping[str, Question], written: Written) -> list[Judged]:
    roles = {"a": SIDE_A, "b": SIDE_B}
    return [
        Judged(
            question_id,
            question.category,
            {side: written.texts.get((role, question_id)) for side, role in roles.items()},
            {side: written.errors.get((role, question_id)) for side, role in roles.items()},
            {side: (role, question_id) in written.cut for side, role in roles.items()},
        )
        for question_id, question in questions.items()
    ]


def _judge(
    session: EvalSession,
    rows: list[Judged],
    questions: Mapping[str, Question],
    servers: Servers,
    options: Options,
) -> None:
    """Both verdicts on every row that has both answers."""
    pairs = []
    for row in rows:
        a, b = row.answers["a"], row.answers["b"]
        if a is not None and b is not None:
            text = questions[row.id].text
            pairs += [(f"ab\0{row.id}", (text, a, b)), (f"ba\0{row.id}", (text, b, a))]
    model = judge.served(servers.judge_name)
    sampling = Sampling(options.judge_tokens, options.judge_temperature)
    requests = [verdicts.request(name, model, sampling, texts) for name, texts in pairs]
    by_id = {row.id: row for row in rows}
    for name, verdict in judge.ask(session, servers.judge, requests, 2, options.max_failures).items():
        order, _, question_id = name.partition("\0")
        by_id[question_id].verdicts[order] = verdict


def _measurement(
    rows: list[Judged],
    sides: Mapping[str, Side],
    seed: int,
    failed_answers: int = 0,
    environment: dict[str, Any] | None = None,
) -> Measurement:
    a, b = (sides[role].pinned.id for role in (SIDE_A, SIDE_B))
    failed_verdicts = sum(verdict.why == "failed" for row in rows for verdict in row.verdicts.values())
    return Measurement(
        lines=tally.lines(rows, a, seed),
        items=[row.item() for row in rows],
        key=("question_id",),
        details=tally.tables(rows, a, b),
        notes=tally.notes(rows, a, b, failed_answers),
        failed=failed_answers + failed_verdicts,
        environment=environment or {},
    )


def _saved_verdict(review: saved.Review, doubts: Counter[str]) -> Verdict:
    """A saved review's verdict: its scores, or those in its text."""
    read = verdicts.parse(review.text or "", lowest=LOWEST_SAVED)
    if review.score is None:
        return read
    verdict = verdicts.checked(review.text or "", review.score, LOWEST_SAVED)
    if review.text is not None and read.scores is None:
        doubts["the scores were saved and cannot be read from the text"] += 1
    elif read.scores not in (None, verdict.scores):
        doubts["the saved scores are not those of the text"] += 1
    if verdict.scores and min(verdict.scores) < verdicts.LOWEST:
        doubts["a score lies below 1"] += 1
    return verdict


def item_value(row: dict[str, Any], line: Line) -> ItemValue | None:
    """The points of side a for a question."""
    if line.metric != "win rate" or row["winner"] is None:
        return None
    return ItemValue(row["question_id"], tally.POINTS[row["winner"]], row["question_id"])


EVALUATION = Evaluation(
    name="vicuna",
    logic_version=4,
    options=Options,
    plan=plan,
    description="Vicuna Questions: two models answer, a judge scores both; or saved reviews are counted.",
    official=frozenset([QUESTIONS]),
    item_value=item_value,
)
