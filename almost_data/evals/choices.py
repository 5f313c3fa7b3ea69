"""What the multiple-choice benchmarks share: who is right, lines with intervals, and their limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl

from ..datasets.builder import text_id
from ..diagnostics import probe
from ..diagnostics.probe import draw
from ..errors import InputError
from ..store.store import Store
from . import stats
from .result import Line, Result, save
from .sources import Item
from .subject import Subject

Values = list[list[float]]
"""Per item, one number for each choice; the highest is taken."""
COARSE = 0.02
"""Share of ties above which a coarse dtype is named as their cause."""
FIRST = "baseline:first"
"""The one that goes by place. All others have the same score for a choice wherever it stands."""
LONGEST = "baseline:longest"
SHORTEST = "baseline:shortest"


@dataclass(frozen=True)
class Judged:
    """Who was right how often: a credit from 0 to 1 an item, and in how many the best were equal."""

    who: str
    metric: str
    credits: list[float]
    ties: list[bool]


def order(item: Item, seed: int) -> list[int]:
    """The places of an item's choices, shuffled by seed and item: files put the right one first."""
    return sorted(range(len(item.choices)), key=lambda place: draw(f"{item.id}/{place}", seed, "order"))


def judged(
    who: str, metric: str, items: Sequence[Item], values: Values, seed: int, strict: bool = False
) -> Judged:
    """The credit of whoever takes the choice of the highest value; equals share it.

    Whoever goes by place takes the first of them in the shuffled order. With `strict`, always-longer is wrong
    where there is no longer one.
    """
    credits, ties = [], []
    for item, mine in zip(items, values, strict=True):
        best = [place for place, value in enumerate(mine) if value == max(mine)]
        if who == FIRST:
            best = [next(place for place in order(item, seed) if place in best)]
        none = strict and who == LONGEST and len(best) > 1
        credits.append(0.0 if none else (item.right in best) / len(best))
        ties.append(len(best) > 1)
    return Judged(who, metric, credits, ties)


def lengths(items: Sequence[Item], sign: int = 1) -> Values:
    """Characters of each choice, as the always-longer baseline scores them; with -1, the always-shorter."""
    return [[float(sign * len(one)) for one in item.choices] for item in items]


def per_byte(items: Sequence[Item], values: Values) -> Values:
    """Log-probabilities by the UTF-8 bytes of the choices: longer ones are less likely by that alone."""
    return [
        [value / len(text.encode()) for value, text in zip(mine, item.choices, strict=True)]
        for item, mine in zip(items, values, strict=True)
    ]


def conclude(
    store: Store,
    draft: Result,
    subject: Subject,
    items: Sequence[Item],
    found: dict[str, Values],
    rivals: dict[str, Values],
    notes: list[str],
    subsets: Sequence[str],
    seconds: float,
    strict: bool = False,
) -> Result:
    """Save the draft with lines, notes and items: by each metric of `found` the model's, and each rival's.

    The first rival is the one that the model is held against.
    """
    seed = draft.settings["seed"]
    who = subject.pinned.id
    mine = [judged(who, metric, items, values, seed, strict) for metric, values in found.items()]
    others = [judged(name, "accuracy", items, values, seed, strict) for name, values in rivals.items()]
    every = [*mine, *(one for one in others if one.who != who)]
    equal, dtype = sum(sum(one.ties) for one in mine), subject.dtype
    if dtype not in (None, "float32") and equal > COARSE * len(items) * len(mine):
        notes.append(f"{who}: {equal} ties, as {dtype} is coarse: --dtype float32 tells more of them apart.")
    done = msgspec.structs.replace(
        draft,
        lines=[line for one in every for line in lines(one, items, subsets)],
        notes=[*notes, *(note for one in mine for note in verdict(one, items, others[0]))],
    )
    rows = [
        {
            "id": item.id,
            "subset": item.subset,
            "right": item.right,
            "order": order(item, seed),
            "chars": [len(text) for text in item.choices],
            **{f"{one.metric}: scores": values[at] for one, values in zip(mine, found.values(), strict=True)},
            **{f"{one.metric}: credit": one.credits[at] for one in mine},
            **{f"{one.who}: credit": one.credits[at] for one in others},
            "group": text_id(item.text),
        }
        for at, item in enumerate(items)
    ]
    return save(store, done, rows, seconds, **subject.scorer.settings())


def lines(one: Judged, items: Sequence[Item], subsets: Sequence[str]) -> list[Line]:
    """One line a subset, and one overall."""
    made = []
    for subset in [*subsets, "overall"]:
        at = [n for n, item in enumerate(items) if subset in (item.subset, "overall")]
        if at:
            share = interval([one.credits[n] for n in at], [items[n] for n in at])
            guess = float(np.mean([1 / len(items[n].choices) for n in at]))
            ties = sum(one.ties[n] for n in at)
            made.append(Line(one.who, one.metric, subset, len(at), *share, ties, round(guess, 4)))
    return made


def interval(credits: Sequence[float], items: Sequence[Item]) -> tuple[float, float, float]:
    """Mean and Wilson's interval; items of one text are not independent, which widens it."""
    texts = [one.text for one in items]
    if len(set(texts)) == len(texts):
        return stats.share(credits)
    found = np.array(credits)
    return float(found.mean()), *probe.interval(found, pl.Series(texts))


def verdict(one: Judged, items: Sequence[Item], rival: Judged) -> list[str]:
    """What the overall number does not show: better than guessing, better than a rival without a model."""
    notes = []
    chance = float(np.mean([1 / len(item.choices) for item in items]))
    value, low, high = interval(one.credits, items)
    if low <= chance <= high:
        notes.append(
            f"{one.who} ({one.metric}) is no better than guessing here: its overall interval, {low:.1%} to "
            f"{high:.1%}, holds {chance:.1%}."
        )
    elif high < chance:
        notes.append(f"{one.who} ({one.metric}) is below guessing here: {value:.1%}, against {chance:.1%}.")
    if one.who == rival.who:
        return notes
    both = zip(one.credits, rival.credits, strict=True)
    gain, low, high = stats.paired([mine - theirs for mine, theirs in both], [one.text for one in items])
    if low <= 0:
        how = "below" if high < 0 else "not beyond"
        notes.append(
            f"{one.who} ({one.metric}) is {how} {rival.who}: {gain * 100:+.1f} points item by item "
            f"({low * 100:+.1f} to {high * 100:+.1f})."
        )
    return notes


def metric_of(subject: Subject, metric: str | None, language: tuple[str, ...]) -> str:
    """The metric asked for, or the usual one of that kind of model; InputError where it has no such."""
    allowed = ("reward",) if subject.kind == "reward" else language
    if metric not in (None, *allowed):
        kind = "scores dialogues" if subject.kind == "reward" else "is a language model"
        raise InputError(f"--metric {metric}: {subject.pinned.id} {kind}: give {' or '.join(allowed)}")
    return metric or allowed[0]
