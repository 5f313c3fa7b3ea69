"""What a scorer is: dialogues in, one number each out, in any order."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ..generation import Closing
from ..models import Model
from ..models.chat import Messages

MAX_TOKENS = 1024
"""As the paper's reward model reads."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation. Its last turn is the assistant's: the response that is scored."""

    id: str
    messages: Messages

    def __post_init__(self) -> None:
        if len(self.messages) < 2 or self.messages[-1]["role"] != "assistant":
            raise ValueError("a dialogue has a prompt, and ends in the assistant's turn")

    @classmethod
    def of(cls, id: str, *turns: str) -> "Dialogue":
        """The texts of turns of user, assistant, user, ...

        >>> Dialogue.of("1", "Why?", "Because.").messages[1]
        {'role': 'assistant', 'content': 'Because.'}
        """
        if len(turns) % 2:
            raise ValueError("a dialogue begins with the user's turn and ends in the assistant's")
        roles = ("user", "assistant")
        return cls(id, tuple({"role": roles[at % 2], "content": text} for at, text in enumerate(turns)))

    @property
    def turns(self) -> tuple[str, ...]:
        """The texts of the turns."""
        return tuple(turn["content"] for turn in self.messages)


@dataclass(frozen=True, slots=True)
class Score:
    """The value of the dialogue with the same id: the higher, the better. It means nothing across models."""

    id: str
    value: float
    tokens: int
    """Tokens that were read."""
    truncated: bool
    """Whether the dialogue is longer than what was read of it."""


class Scorer(Closing, Protocol):
    """Rates dialogues. A dialogue's score does not depend on the others, up to rounding."""

    model: Model
    """With its revision pinned."""
    reward_stats: dict[str, Any] | None
    """`mean`, `std` and `rows` of its scores on the replies of its evaluation, where that is known."""

    @property
    def max_tokens(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """What the manifest records (device, dtype, batch, format), none of it fingerprinted; empty where
        nothing was run."""
        ...

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        """One score per dialogue, in any order. Loads its model at the first dialogue, once.

        Raises InputError for what cannot be read or scored at all, RuntimeError where the model fails.
        """
        ...


def finite(value: float, model: Model) -> float:
    """`value`, or RuntimeError where it is NaN or infinite: no comparison with it would mean anything."""
    if not math.isfinite(value):
        raise RuntimeError(f"{model.id}: a score is {value}: the model is broken, or overflows in this dtype")
    return value
