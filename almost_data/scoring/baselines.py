"""Scorers without a model: what a reward model must beat, and a fake one."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import InputError
from ..generation import Model
from ..generation.fake import FakeEngine
from . import BASELINE, Dialogue, Score

REVISION = "1"
"""Goes up whenever the same dialogue would get another score."""


class Modelless:
    """Implements `Scorer` by a function of the dialogue. Counts words for tokens."""

    usual: dict[str, Any] | None = None

    def __init__(self, model: Model, value: Callable[[Dialogue], float], max_tokens: int, cuts: bool) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self._value = value
        self._cuts = cuts

    def settings(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for one in dialogues:
            words = sum(len(turn.split()) for turn in one.turns)
            truncated = self._cuts and words > self.max_tokens
            tokens = self.max_tokens if truncated else words
            yield Score(one.id, self._value(one), tokens, truncated)


def baseline(model_id: str, max_tokens: int) -> Modelless:
    """`baseline:longest` scores a response by its characters, `random` by chance (the same text always
    alike), and `first` scores all alike: who takes the first of equals takes the first that was given."""
    values: dict[str, Callable[[Dialogue], float]] = {
        "longest": lambda one: float(len(one.turns[-1])),
        "random": lambda one: _chance("random", one),
        "first": lambda one: 0.0,
    }
    name = model_id.removeprefix(BASELINE)
    if name not in values:
        raise InputError(f"{model_id}: no such baseline; there are: {', '.join(sorted(values))}")
    return Modelless(Model(model_id, REVISION), values[name], max_tokens, cuts=False)


def fake_scorer(model_id: str, max_tokens: int) -> Modelless:
    """Chance between -4 and 4 that depends on model and text, under a name that no real model has.

    It calls a dialogue of more than `max_tokens` words truncated, as a reward model would.
    """
    model = FakeEngine().resolve(Model(model_id))
    if model.id == "fake/":
        raise InputError(f"{model_id}: give the fake model a name, as fake/NAME")
    return Modelless(model, lambda one: 8 * _chance(model.id, one) - 4, max_tokens, cuts=True)


def _chance(salt: str, one: Dialogue) -> float:
    """A number from 0 to 1, the same for the same text."""
    digest = hashlib.sha256("\0".join((salt, *one.turns)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
