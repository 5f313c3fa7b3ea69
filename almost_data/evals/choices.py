"""Multiple-choice benchmarks: a model takes the choice with the highest score, beside baselines.

A reward model scores each choice as a reply. For a language model a benchmark gives the texts to score for
every choice of an item, and makes of their scores one value a choice by each metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.builder import text_id
from ..diagnostics.probe import draw
from ..generation import prompts
from ..scoring import Dialogue
from . import sources, stats
from .evaluation import EvalSession, ItemValue, ModelOptions
from .likelihood import Likelihood
from .result import EvalPlan, Line, Measurement
from .sources import Item, Items
from .subject import Subject

Values = list[list[float]]
"""Of each item, one number for each choice; the highest is taken."""
Texts = tuple[str, ...]
"""What is scored: the turns of a dialogue, or a text and its continuation."""
Scores = list[list[list[float]]]
"""Of each item and choice, the score of each of its texts."""
FIRST = "baseline:first"
"""The baseline that goes by place. All others have the same score for a choice wherever it stands."""
LONGEST = "baseline:longest"
SHORTEST = "baseline:shortest"


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions(ModelOptions):
    """Options of every multiple-choice benchmark, each with a default of its own."""

    data: str


@dataclass(frozen=True)
class Benchmark:
    """What distinguishes a multiple-choice benchmark."""

    read: Callable[[str], Items]
    """The items of `data`. Raises InputError."""
    metric: str
    """How a language model is asked, as `settings.metric` of the result; of a reward model it is `reward`."""
    prompt: str
    """Name of the prompt for a language model."""
    texts: Callable[[Likelihood, Item], list[list[Texts]]]
    """What a language model scores: as many texts for every choice."""
    values: Callable[[Scores, list[str]], dict[str, Values]]
    """A language model's scores, and the notes to add to -> metric -> values."""
    turns: Callable[[Item], Texts]
    """The dialogue to which a reward model scores each choice as the reply."""
    rivals: Mapping[str, int]
    """Baselines by length: 1 takes the longest, -1 the shortest. The model is compared with the first."""
    subsets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Credits:
    """The credit of a model or baseline for each item, from 0 to 1, and where its best choices were equal."""

    who: str
    metric: str
    credits: list[float]
    ties: list[bool]
    values: Values


def plan(benchmark: Benchmark, session: EvalSession, options: ChoiceOptions) -> EvalPlan:
    """Accuracy of a model on the items, by subset and overall, beside the baselines."""
    subject = session.subject(options)
    source = benchmark.read(options.data)
    ids = sources.sample_ids((item.id for item in source.items), options.limit, options.seed)
    items = [item for item in source.items if item.id in ids]
    is_reward = subject.kind == "reward"

    def texts(item: Item) -> list[list[Texts]]:
        if is_reward:
            return [[(*benchmark.turns(item), reply)] for reply in item.choices]
        return benchmark.texts(subject.likelihood, item)

    def measure() -> Measurement:
        session.notes.extend(source.notes)
        scores = _scores(session, subject, list(map(texts, items)))
        if is_reward:
            values = {"accuracy": [[score for [score] in by_choice] for by_choice in scores]}
        else:
            values = benchmark.values(scores, session.notes)
        return _measurement(subject, benchmark, items, values, options.seed)

    return EvalPlan(
        models=[subject.pinned],
        data=source.pinned,
        settings={
            "metric": "reward" if is_reward else benchmark.metric,
            "seed": options.seed,
            "limit": options.limit,
            **subject.reading,
        },
        measure=measure,
        prompts={} if is_reward else {benchmark.prompt: prompts.question(benchmark.prompt)},
    )


def _scores(session: EvalSession, subject: Subject, texts: list[list[list[Texts]]]) -> Scores:
    """The score of each text, in the place of the text."""
    flat = [turns for by_choice in texts for choice in by_choice for turns in choice]
    dialogues = [Dialogue.of(str(number), *turns) for number, turns in enumerate(flat)]
    by_id = session.scores(subject, dialogues)
    scores = (by_id[dialogue.id] for dialogue in dialogues)
    return [[[next(scores) for _ in choice] for choice in by_choice] for by_choice in texts]


def order(item: Item, seed: int) -> list[int]:
    """The places of an item's choices, shuffled by seed and item: files put the right one first."""
    return sorted(range(len(item.choices)), key=lambda place: draw(f"{item.id}/{place}", seed, "order"))


def judge(who: str, metric: str, items: Sequence[Item], values: Values, seed: int) -> Credits:
    """The credit of whoever takes the choice of the highest value; equal choices share it.

    `baseline:first` takes the first of them in the shuffled order.
    """
    credits, ties = [], []
    for item, numbers in zip(items, values, strict=True):
        best = [place for place, value in enumerate(numbers) if value == max(numbers)]
        if who == FIRST:
            best = [next(place for place in order(item, seed) if place in best)]
        credits.append((item.right in best) / len(best))
        ties.append(len(best) > 1)
    return Credits(who, metric, credits, ties, values)


def _measurement(
    subject: Subject, benchmark: Benchmark, items: Sequence[Item], by_metric: dict[str, Values], seed: int
) -> Measurement:
    who = subject.pinned.id
    models = [judge(who, metric, items, values, seed) for metric, values in by_metric.items()]
    rivals = [
        judge(name, "accuracy", items, _lengths(items, sign), seed) for name, sign in benchmark.rivals.items()
    ]
    judged = [*models, *(rival for rival in rivals if rival.who != who)]
    rows = [
        {
            "id": item.id,
            "subset": item.subset,
            "right": item.right,
            "order": order(item, seed),
            "chars": [len(text) for text in item.choices],
            **{f"{model.metric}: scores": model.values[number] for model in models},
            **{f"{model.metric}: credit": model.credits[number] for model in models},
            **{f"{rival.who}: credit": rival.credits[number] for rival in rivals},
            "group": text_id(item.text),
        }
        for number, item in enumerate(items)
    ]
    return Measurement(
        lines=[line for entry in judged for line in _lines(entry, items, benchmark.subsets)],
        items=rows,
        notes=[note for model in models for note in _verdict(model, items, rivals[0])],
        environment=subject.scorer.settings(),
    )


def item_value(row: dict[str, Any], line: Line) -> ItemValue | None:
    """The credit for an item."""
    if line.subset not in (row["subset"], "overall"):
        return None
    credit = row.get(f"{line.who}: credit", row.get(f"{line.metric}: credit"))
    return None if credit is None else ItemValue(row["id"], credit, row["group"])


def _lengths(items: Sequence[Item], sign: int) -> Values:
    """Characters of each choice, as always-longer scores them; with -1, as always-shorter does."""
    return [[float(sign * len(choice)) for choice in item.choices] for item in items]


def _lines(judged: Credits, items: Sequence[Item], subsets: Sequence[str]) -> list[Line]:
    """One line a subset, and one overall."""
    lines = []
    for subset in [*subsets, "overall"]:
        numbers = [number for number, item in enumerate(items) if subset in (item.subset, "overall")]
        if numbers:
            inside = [items[number] for number in numbers]
            share = _share([judged.credits[number] for number in numbers], inside)
            ties = sum(judged.ties[number] for number in numbers)
            chance = round(_chance(inside), 4)
            lines.append(Line(judged.who, judged.metric, subset, len(numbers), *share, ties, chance))
    return lines


def _chance(items: Sequence[Item]) -> float:
    return float(np.mean([1 / len(item.choices) for item in items]))


def _share(credits: Sequence[float], items: Sequence[Item]) -> tuple[float, float, float]:
    """Mean and interval; items of one text are not independent."""
    texts = [item.text for item in items]
    return stats.share(credits, None if len(set(texts)) == len(texts) else texts)


def _verdict(judged: Credits, items: Sequence[Item], rival: Credits) -> list[str]:
    """What the overall number does not show: is it better than guessing, and than a baseline?"""
    notes, name, chance = [], f"{judged.who} ({judged.metric})", _chance(items)
    value, low, high = _share(judged.credits, items)
    if low <= chance <= high:
        notes.append(
            f"{name} is no better than guessing here: its overall interval, {low:.1%} to {high:.1%}, holds "
            f"{chance:.1%}."
        )
    elif high < chance:
        notes.append(f"{name} is below guessing here: {value:.1%}, against {chance:.1%}.")
    if judged.who == rival.who:
        return notes
    gaps = [credit - rivals for credit, rivals in zip(judged.credits, rival.credits, strict=True)]
    gain, low, high = stats.paired(gaps, [item.text for item in items])
    if low <= 0:
        relation = "below" if high < 0 else "not beyond"
        notes.append(
            f"{name} is {relation} {rival.who}: {gain * 100:+.1f} points item by item ({low * 100:+.1f} to "
            f"{high * 100:+.1f})."
        )
    return notes
