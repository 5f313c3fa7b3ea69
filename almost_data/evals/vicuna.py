"""Vicuna Questions: both models answer, a judge scores each pair of answers from 1 to 10 in both orders.

A question is won by the side with the higher score, averaged over the orders; where only one order has a
verdict, that counts alone, and where none has, the question is not compared. Counts say how many.

Deviation from the paper: the judge's prompt is our own (`prompts/judge.txt`), and any judge will do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.records import Pinned
from ..errors import InputError
from ..generation import Generator, Model, Sampling
from ..generation.journal import MAX_FAILURES
from ..generation.openai import AS_SERVED, OpenAIEngine
from ..scoring import verdicts
from ..scoring.verdicts import TOKENS
from . import answers, judge, saved, tally
from .evaluation import EvalSession, Evaluation, ItemValue, check_limit
from .judge import SECONDS
from .result import SIDE_A, SIDE_B, EvalPlan, Line, Measurement
from .saved import Question
from .sources import sample_ids
from .tally import JudgedQuestion

QUESTIONS = "590c39157bc561eadd7f03cad4be18c2b597f93029780af65f86718f39eafa87"
"""sha256 of FastChat's question.jsonl."""


@dataclass(frozen=True, kw_only=True)
class Options:
    a: str
    """Model (name@version, Hub id, folder, pypi:PACKAGE), or .jsonl of its answers."""
    b: str
    """The other model, or file of answers."""
    data: Path
    """JSONL of questions: question_id, text, category."""
    judge: str
    """Address of an OpenAI-compatible chat server, up to /v1."""
    judge_model: str | None = None
    """Name of the judge on that server, where it has several models."""
    engine: str | None = None
    """What runs the models that answer."""
    base_url: tuple[str, ...] = ()
    """Address of the server of the models that answer, asked by chat; repeatable."""
    limit: int | None = None
    """Evaluate at most this many questions, drawn by the seed."""
    seed: int = 0
    """Seed of the draw."""
    max_new_tokens: int = 1024
    """Most tokens of an answer, as in the paper."""
    temperature: float = 0.7
    """Sampling temperature of answers, as in the paper."""
    judge_temperature: float = 0.0
    """Sampling temperature of verdicts."""
    judge_tokens: int = TOKENS
    """Most tokens of a verdict."""
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


@dataclass(frozen=True)
class Servers:
    """What runs the judge, and the models that answer; None where both sides are files."""

    judge: OpenAIEngine
    judge_name: str
    generator: Generator | None = None


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """The comparison of two models or files of their answers."""
    server = judge.engine(options.judge, options.judge_timeout)
    are_files = all(name.endswith(".jsonl") for name in (options.a, options.b))
    generator = None if are_files else answers.engine(options.engine, options.base_url)
    name = options.judge_model or judge.only_model(server)
    return plan_comparison(session, options, Servers(server, name, generator))


def plan_comparison(session: EvalSession, options: Options, servers: Servers) -> EvalPlan:
    """The comparison by these servers. Answers and verdicts in the journal are not asked again."""
    questions = saved.questions(options.data)
    ids = sample_ids(questions, options.limit, options.seed)
    questions = {key: question for key, question in questions.items() if key in ids}
    sides = {
        role: answers.side(session.store, name, role, servers.generator)
        for role, name in ((SIDE_A, options.a), (SIDE_B, options.b))
    }
    if len({(side.pinned.id, side.pinned.revision) for side in sides.values()}) == 1:
        raise InputError(
            f"eval.a and eval.b are both {sides[SIDE_A].pinned.id}: give two models, or two files of answers"
        )

    def measure() -> Measurement:
        judge.check(servers.judge, servers.judge_name)  # before the answers, which may take hours
        sampling = Sampling(options.max_new_tokens, options.temperature)
        by_name = {role[-1]: side for role, side in sides.items()}
        how = (servers.generator, sampling, options.seed, options.max_failures)
        replies = answers.replies(session, by_name, questions, *how)
        by_id = {
            name: JudgedQuestion(name, question.category, {side: replies[side][name] for side in by_name})
            for name, question in questions.items()
        }
        _judge(session, by_id, questions, servers, options)
        rows = list(by_id.values())
        a, b = (side.pinned.id for side in sides.values())
        failed_answers = sum(len(by_name) - len(row.answers) for row in rows)
        failed_verdicts = sum(verdict.why == "failed" for row in rows for verdict in row.verdicts.values())
        return Measurement(
            lines=tally.lines(rows, a),
            items=[row.item() for row in rows],
            key=("question_id",),
            details={"counts": tally.counts(rows)},
            notes=tally.notes(rows, a, b, failed_answers),
            failed=failed_answers + failed_verdicts,
            environment={
                "judge": servers.judge.settings() | {"engine": "chat"},
                **answers.environment(by_name, servers.generator),
            },
        )

    sampled = ("max_new_tokens", "temperature") if any(s.answers is None for s in sides.values()) else ()
    names = ("limit", "seed", *sampled, "judge_temperature", "judge_tokens")
    return EvalPlan(
        models=[*(side.pinned for side in sides.values()), Pinned(servers.judge_name, AS_SERVED, "judge")],
        data=[session.file(options.data)],
        settings={name: getattr(options, name) for name in names},
        measure=measure,
        prompts={"judge": verdicts.prompt()},
    )


def _judge(
    session: EvalSession,
    rows: Mapping[str, JudgedQuestion],
    questions: Mapping[str, Question],
    servers: Servers,
    options: Options,
) -> None:
    """Both verdicts on every row that has both answers."""
    pairs = []
    for name, row in rows.items():
        if len(row.answers) == 2:
            text, a, b = questions[name].text, row.answers["a"], row.answers["b"]
            pairs += [(f"ab\0{name}", (text, a, b)), (f"ba\0{name}", (text, b, a))]
    model = Model(servers.judge_name, AS_SERVED)
    sampling = Sampling(options.judge_tokens, options.judge_temperature)
    requests = [verdicts.request(name, model, sampling, texts) for name, texts in pairs]
    for name, verdict in judge.ask(session, servers.judge, requests, 2, options.max_failures).items():
        order, _, question_id = name.partition("\0")
        rows[question_id].verdicts[order] = verdict


def item_value(row: dict[str, Any], line: Line) -> ItemValue | None:
    """The points of side a for a question."""
    if line.metric != "win rate" or row["winner"] is None:
        return None
    return ItemValue(row["question_id"], tally.POINTS[row["winner"]], row["question_id"])


EVALUATION = Evaluation(
    name="vicuna",
    logic_version=5,
    options=Options,
    plan=plan,
    description="Vicuna Questions: two models answer, a judge scores both.",
    official=frozenset([QUESTIONS]),
    item_value=item_value,
)
