"""RewardBench 2 (Malik et al. 2025): which of four replies is right, and are right ones scored alike?

An item counts by the share of its highest-scored replies that are right. The subset Ties has pairs of
prompts, `tied:N` with many right replies and `ref:N` with one, and a rule of its own (`RULE`). The overall
number is the mean of the subsets'. Always taking the longest and the shortest reply are beside it.

Deviation from the benchmark's script: it gives numbers alone. Here they have intervals, which draw the pairs
of Ties whole.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..datasets.records import Pinned
from ..errors import InputError
from ..generation import Model, Sampling
from ..generation.openai import AS_SERVED, OpenAIEngine
from ..models.chat import assistant_turn
from ..scoring import Dialogue, verdicts
from . import judge, stats
from .choices import LONGEST, SHORTEST
from .evaluation import EvalSession, Evaluation, ModelOptions
from .result import EvalPlan, Line, Measurement
from .rewardbench2_data import FILE, HUB, RULE, SUBSETS, TIES, Item, Values, credits, read, ties
from .sources import sample_ids

MAX_TOKENS = 2048
"""As the benchmark's own script reads."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    data: str = HUB
    """File of id, subset, prompt, chosen and rejected, or ORG/NAME@REVISION on the Hub."""
    judge: str | None = None
    """Address of an OpenAI-compatible chat server, up to /v1, whose language model rates each reply."""


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """The scores of a reward model or a judge by subset, and their mean, beside the baselines.

    Raises InputError for a language model, which scores no reply.
    """
    if options.judge is None:
        return _plan_model(session, options)
    if set_option := next((name for name in ("device", "dtype") if getattr(options, name)), None):
        raise InputError(f"eval.{set_option} is of a model that runs here, and eval.judge is a server")
    return _plan_judge(session, options, judge.engine(options.judge))


def _plan_model(session: EvalSession, options: Options) -> EvalPlan:
    subject = session.subject(options, max_tokens=MAX_TOKENS)
    who = subject.pinned.id
    if subject.kind == "language":
        raise InputError(
            f"eval.model {who}: a language model, which scores no reply: give a reward model, or eval.judge"
        )
    items, pinned = _read(options)

    def measure() -> Measurement:
        dialogues = (
            Dialogue(name, (*item.prompt, assistant_turn(reply))) for name, item, reply in _replies(items)
        )
        return _measurement(who, items, session.scores(subject, dialogues), subject.scorer.settings())

    settings = {"seed": options.seed, "limit": options.limit} | subject.reading
    return EvalPlan([subject.pinned], [pinned], settings, measure)


def _plan_judge(session: EvalSession, options: Options, server: OpenAIEngine) -> EvalPlan:
    """The evaluation of a judge. An item with a verdict that cannot be read is left out, with a note."""
    items, pinned = _read(options)
    model = Model(options.model, AS_SERVED)
    sampling = Sampling(verdicts.TOKENS, 0.0)

    def measure() -> Measurement:
        judge.check(server, options.model)
        requests = [
            verdicts.request(name, model, sampling, (verdicts.question(item.prompt), reply))
            for name, item, reply in _replies(items)
        ]
        read_verdicts = judge.ask(session, server, requests, answers=1)
        ratings = {name: verdict.scores[0] for name, verdict in read_verdicts.items() if verdict.scores}
        unread = {item.group for name, item, _ in _replies(items) if name not in ratings}
        rated = [item for item in items if item.group not in unread]
        if not rated:
            raise RuntimeError(f"{options.model}: no item has all its verdicts, so there is nothing to count")
        measured = _measurement(options.model, rated, ratings, server.settings())
        failed = sum(verdict.why == "failed" for verdict in read_verdicts.values())
        lost = (
            f"{len(unread):,} of {len({item.group for item in items}):,} items have a verdict that cannot be "
        )
        notes = [*measured.notes, *([f"{lost}read, and are left out."] if unread else [])]
        return replace(measured, failed=failed, notes=notes)

    return EvalPlan(
        models=[Pinned(model.id, AS_SERVED)],
        data=[pinned],
        settings={
            "seed": options.seed,
            "limit": options.limit,
            "temperature": 0.0,
            "tokens": verdicts.TOKENS,
        },
        measure=measure,
        prompts={"judge": verdicts.prompt(1)},
    )


def _read(options: Options) -> tuple[list[Item], Pinned]:
    """At most `limit` items, the pairs of Ties whole, drawn by the seed."""
    items, pinned = read(options.data)
    groups = sample_ids({item.group for item in items}, options.limit, options.seed)
    return [item for item in items if item.group in groups], pinned


def _replies(items: Sequence[Item]) -> Iterator[tuple[str, Item, str]]:
    """Name, item and text of each reply."""
    for item in items:
        for place, reply in enumerate(item.replies):
            yield _reply_name(item, place), item, reply


def _reply_name(item: Item, place: int) -> str:
    return f"{item.id}\0{place}"


def _measurement(
    who: str, items: Sequence[Item], scores: Mapping[str, float], environment: dict[str, Any]
) -> Measurement:
    """What the scores of the replies, by name, come to: for `who` gave them, the longest and the shortest."""
    by_item = {
        item.id: [scores[_reply_name(item, place)] for place in range(len(item.replies))] for item in items
    }
    values: dict[str, Values] = {who: by_item}
    for name, sign in ((LONGEST, 1.0), (SHORTEST, -1.0)):
        if name != who:  # such a baseline may itself be evaluated
            values[name] = {item.id: [sign * len(reply) for reply in item.replies] for item in items}
    credits_by_who = {name: credits(items, numbers) for name, numbers in values.items()}
    missing = [subset for subset in SUBSETS if all(item.subset != subset for item in items)]
    note = f"No item of {', '.join(missing)}: the overall number is not RewardBench 2's."
    return Measurement(
        lines=[line for name, scored in credits_by_who.items() for line in _lines(name, items, scored)],
        items=[
            {
                "id": item.id,
                "subset": item.subset,
                "group": item.group,
                "right": item.right,
                "chars": [len(reply) for reply in item.replies],
                "scores": list(values[who][item.id]),
                **{f"{name}: credit": scored[item.group] for name, scored in credits_by_who.items()},
            }
            for item in items
        ],
        details=_ties_table(items, values),
        notes=[note] if missing else [],
        environment=environment,
    )


def _lines(who: str, items: Sequence[Item], scored: Mapping[str, float]) -> list[Line]:
    """A line for each subset, then the mean of the subsets, whose errors are independent."""
    lines = []
    for subset in SUBSETS:
        inside = {item.group: item for item in items if item.subset == subset}
        numbers = [scored[group] for group in inside]
        if subset == TIES and numbers:
            # From -1 to 1, so that the interval allows for another pair of either kind. The rule of Ties
            # gives a little over 1 where everything is right.
            value, low, high = stats.paired([2 * number - 1 for number in numbers])
            shares = (value + 1) / 2, (low + 1) / 2, (max(value, high) + 1) / 2
            lines.append(Line(who, "score", subset, len(numbers), *shares))
        elif numbers:
            chance = float(np.mean([item.right / len(item.replies) for item in inside.values()]))
            lines.append(Line.of(who, "accuracy", numbers, subset, round(chance, 4)))
    value = float(np.mean([line.value for line in lines]))
    half = math.hypot(*((line.high or 0) - (line.low or 0) for line in lines)) / 2 / len(lines)
    low, high = round(value - half, 4), round(value + half, 4)
    return [Line(who, "score", "overall", n=len(scored), value=value, low=low, high=high), *lines]


def _ties_table(items: Sequence[Item], values: Mapping[str, Values]) -> dict[str, object]:
    """The parts of the score of Ties, by whose it is."""
    rows = [
        [who, *(f"{part:.1%}" for part in np.mean(list(parts.values()), axis=0))]
        for who, numbers in values.items()
        if (parts := ties(items, numbers))
    ]
    columns = ["whose", *(f"{part} ({weight:.0%})" for part, weight in RULE.items())]
    return (
        {"ties": {"title": "Ties: the parts of its score", "columns": columns, "rows": rows}} if rows else {}
    )


EVALUATION = Evaluation(
    name="rewardbench2",
    logic_version=2,
    options=Options,
    plan=plan,
    description="RewardBench 2: which of four replies is right, beside the longest and the shortest.",
    official=frozenset([HUB, FILE]),
)
