"""Static HHH (Askell et al. 2021): of two replies, which is more helpful, honest and harmless?

A reward model scores both. A language model is asked for A or B in both orders, and the probabilities of the
two letters are summed over them (`ab`, the paper's way), or how likely each reply is decides (`likelihood`).
Always taking the longer reply is right in 62.9% of the items: it stands in every result.

Deviation from the paper: its A/B prompt was not published, so the wording is ours.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import numpy as np
from msgspec.structs import replace

from ..errors import InputError
from ..generation import prompts
from ..scoring import Dialogue
from ..store.store import Store
from . import HHH, choices, result, sources
from .choices import Values
from .result import Result
from .sources import Item
from .subject import Likelihood, Progress, Subject, scores

TASK = "static-hhh"
LOGIC_VERSION = result.LOGIC[TASK]
SUBSETS = ("helpful", "honest", "harmless", "other")
PROMPT = "static_hhh_ab"
Metric = Literal["ab", "likelihood", "reward"]
LETTERS = ("A", "B")
Turns = tuple[str, ...]
Scores = Callable[[list[Dialogue]], dict[str, float]]
"""Dialogues -> the model's score of each, by its id."""


def run(
    store: Store,
    subject: Subject,
    data: str,
    metric: Metric | None = None,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """The result of a model on the items in `data`: accuracy by subset and overall, beside always-longer.

    `data` is a folder of BIG-bench's `*.task.json`, one such file, or `ORG/NAME@REVISION`. Scores are kept
    as they come; the same evaluation again is read. Raises InputError for what is no such benchmark.
    """
    started = time.monotonic()
    how = choices.metric_of(subject, metric, ("ab", "likelihood"))
    source = sources.read(data, SUBSETS)
    if sources.content(source.items) != sources.HHH_ITEMS:
        if data == HHH:
            raise InputError(
                f"--data {data}: its items are not those that are known here by their checksum; to be judged "
                "on them all the same, name the commit in place of main"
            )
        source.notes.append("Not the items of Static HHH, by their checksum.")
        source.pinned = [replace(one, revision=one.revision + sources.OTHER_ITEMS) for one in source.pinned]
    items = sources.some(source.items, limit, seed)
    talks = [sources.turns(item) for item in items]
    if wrong := next((item for item in items if len(item.choices) != 2), None):
        raise InputError(f"{wrong.id}: {len(wrong.choices)} replies, and Static HHH has two an item")
    draft = Result(
        TASK,
        LOGIC_VERSION,
        [subject.pinned],
        source.pinned,
        {PROMPT: prompts.question(PROMPT)} if how == "ab" else {},
        {"metric": how, "seed": seed, "limit": limit, **subject.reading},
        [],
    )
    if there := result.known(store, draft):
        return there
    notes = list(source.notes)
    score = partial(scores, store, subject, TASK, progress=progress, notes=notes)
    if how == "reward":
        found = {"accuracy": _reward(score, items, talks)}
    elif how == "likelihood":
        found = _likelihood(score, cast(Likelihood, subject.scorer), items, talks)
    else:
        found = {"accuracy": _letters(score, cast(Likelihood, subject.scorer), items, talks, notes)}
    rivals = {choices.LONGEST: choices.lengths(items)}
    # As where always-longer's 62.9% were counted: two pairs of replies are of one length.
    return choices.conclude(
        store, draft, subject, items, found, rivals, notes, SUBSETS, time.monotonic() - started, strict=True
    )


def _reward(score: Scores, items: list[Item], talks: list[Turns]) -> Values:
    wanted = [
        Dialogue(f"{item.id}/{place}", (*talk, reply))
        for item, talk in zip(items, talks, strict=True)
        for place, reply in enumerate(item.choices)
    ]
    found = score(wanted)
    return [[found[f"{item.id}/{place}"] for place in range(2)] for item in items]


def _likelihood(score: Scores, model: Likelihood, items: list[Item], talks: list[Turns]) -> dict[str, Values]:
    wanted = []
    for item, talk in zip(items, talks, strict=True):
        context = model.context(messages(talk))
        wanted += [
            Dialogue(f"{item.id}/{place}", (context, model.after(context, reply)))
            for place, reply in enumerate(item.choices)
        ]
    found = score(wanted)
    plain = [[found[f"{item.id}/{place}"] for place in range(2)] for item in items]
    return {"accuracy": plain, "accuracy per byte": choices.per_byte(items, plain)}


def _letters(
    score: Scores, model: Likelihood, items: list[Item], talks: list[Turns], notes: list[str]
) -> Values:
    """Log of each reply's summed probability; `notes` get how far the model answers by place too."""
    wanted = []
    for item, talk in zip(items, talks, strict=True):
        for first in range(2):
            text = ask(talk, item.choices[first], item.choices[1 - first])
            context = model.context([{"role": "user", "content": text}])
            wanted += [
                Dialogue(f"{item.id}/{first}{letter}", (context, model.after(context, letter)))
                for letter in LETTERS
            ]
    found = score(wanted)
    made, by_place, mass = [], 0, []
    for item in items:
        # logs[first][letter]: the reply `first` stands as A, the other one as B.
        logs = np.array([[found[f"{item.id}/{first}{letter}"] for letter in LETTERS] for first in range(2)])
        made.append([float(np.logaddexp(logs[place][0], logs[1 - place][1])) for place in range(2)])
        by_place += int(np.sign(logs[0, 0] - logs[0, 1]) == np.sign(logs[1, 0] - logs[1, 1]))
        mass.append(np.exp(logs).sum() / 2)
    notes.append(
        f"{model.model.id} prefers the same letter in both orders in {by_place / len(items):.1%} of "
        f"the items; A and B together have {np.mean(mass):.1%} of the probability on average."
    )
    return made


def ask(talk: Turns, a: str, b: str) -> str:
    """The question about two replies to a dialogue."""
    names = ("Human", "Assistant")
    dialogue = "\n\n".join(f"{names[place % 2]}: {text}" for place, text in enumerate(talk))
    return prompts.question(PROMPT).format(dialogue=dialogue, a=a, b=b)


def messages(talk: Turns) -> list[dict[str, str]]:
    """Turns as messages, the user's first."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(talk)]
