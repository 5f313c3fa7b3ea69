"""Scorers without a model: what a reward model must beat, and a fake one."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..generation.fake import FakeEngine
from ..models import Model
from .scorer import Dialogue, Score

BASELINE = "baseline:"
REVISION = "1"
"""Goes up whenever the same dialogue would get another score."""


@dataclass(eq=False)
class FunctionScorer:
    """Implements `Scorer` by a function of the dialogue. Counts words for tokens.

    Where `truncates` is on, a dialogue of more than `max_tokens` words is called truncated.
    """

    model: Model
    value: Callable[[Dialogue], float]
    max_tokens: int
    truncates: bool = False
    reward_stats: dict[str, Any] | None = None

    def settings(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for dialogue in dialogues:
            words = sum(len(turn.split()) for turn in dialogue.turns)
            truncated = self.truncates and words > self.max_tokens
            tokens = self.max_tokens if truncated else words
            yield Score(dialogue.id, self.value(dialogue), tokens, truncated)


def baseline(model_id: str, max_tokens: int) -> FunctionScorer:
    """`baseline:longest` scores a response by its characters, `random` by a hash of the text, and `first`
    scores all alike, so that the first of the candidates is picked."""
    values: dict[str, Callable[[Dialogue], float]] = {
        "longest": lambda dialogue: float(len(dialogue.turns[-1])),
        "random": lambda dialogue: _uniform("random", dialogue),
        "first": lambda dialogue: 0.0,
    }
    name = model_id.removeprefix(BASELINE)
    if name not in values:
        raise InputError(f"{model_id}: no such baseline; choose {', '.join(sorted(values))}")
    return FunctionScorer(Model(model_id, REVISION), values[name], max_tokens)


def fake_scorer(model_id: str, max_tokens: int) -> FunctionScorer:
    """A number from -4 to 4 by a hash of model and text, under a name that no real model has."""
    model = FakeEngine().resolve(Model(model_id))
    if model.id == "fake/":
        raise InputError(f"{model_id}: give the fake model a name, as fake/NAME")
    return FunctionScorer(
        model, lambda dialogue: 8 * _uniform(model.id, dialogue) - 4, max_tokens, truncates=True
    )


def _uniform(salt: str, dialogue: Dialogue) -> float:
    """A number from 0 to 1, the same for the same text."""
    digest = hashlib.sha256("\0".join((salt, *dialogue.turns)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
