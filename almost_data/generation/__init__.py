"""What a builder asks of an engine: requests in, replies out as they finish, in any order.

Builders restore the order by request id, so no dataset depends on an engine's batch or schedule.
An engine is one file in this package; `tests/generation/test_contract.py` holds all of them to
what is promised here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..models import Model as Model


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply is drawn. Temperature 0 is greedy. `stop` strings end the reply and are cut off."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One reply wanted. The prompt is `prefix + text`; `prefix` is the part that other requests share."""

    id: str
    model: Model
    prefix: str
    text: str
    sampling: Sampling
    seed: int | None = None
    sample: int = 0
    """Which of several replies to the same prompt."""

    @property
    def prompt(self) -> str:
        return self.prefix + self.text


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the request with the same id. A failed request is a reply with an `error`."""

    id: str
    text: str
    finish_reason: Literal["stop", "length", "error"]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    # What it cost, which is not what it says.
    cached_tokens: int = field(default=0, compare=False)
    """Prompt tokens that the engine had computed for an earlier request."""
    seconds: float = field(default=0.0, compare=False)
    """Engine time between the reply before and this one; the journal measures it."""
    load_seconds: float = field(default=0.0, compare=False)
    """Time spent loading a model just before this reply."""


@dataclass(slots=True)
class Usage:
    """What some replies cost. The journal keeps the cost of each, so a resumed build counts all of it."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0

    def add(self, reply: Reply) -> None:
        self.requests += 1
        self.failed += reply.error is not None
        self.prompt_tokens += reply.prompt_tokens
        self.cached_tokens += reply.cached_tokens
        self.completion_tokens += reply.completion_tokens
        self.seconds += reply.seconds
        self.load_seconds += reply.load_seconds


class CannotStart(RuntimeError):
    """The engine could not load a model or reach its server: no request is to blame."""


class Closing(Protocol):
    """Whatever holds models in memory."""

    def close(self) -> None:
        """Give that memory back. It may be asked again, and loads its models again then."""
        ...


class Generator(Closing, Protocol):
    """An engine."""

    name: str
    """As `--engine` spells it."""

    @property
    def load_seconds(self) -> float:
        """Time spent loading models so far."""
        ...

    @property
    def honours_seed(self) -> bool:
        """Whether `Request.seed` decides the reply, whatever else is in the batch."""
        ...

    def resolve(self, model: Model) -> Model:
        """The same model with its revision pinned (and under `fake`, its name changed to `fake/...`).

        Raises InputError where there is no such model. Loads no weights.
        """
        ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """One reply per request, as they finish. Each model is loaded once, whatever the order of requests.

        `requests` may name several models. Text has its `stop` strings cut off, and is not stripped.
        `finish_reason` is "stop" at a stop string or end of text, "length" at `max_new_tokens`.
        Raises InputError or CannotStart where no request could be answered; any other exception is a
        death in the middle of the work, after which it may be called again with the requests left.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """What the manifest records of this engine (dtype, device, batch), none of it fingerprinted."""
        ...


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the first of the `stop` strings, and whether one was there.

    >>> cut_at_stop("Fine.\\n\\nHuman: and you?", ["Human:"])
    ('Fine.\\n\\n', True)
    """
    found = [at for marker in stop if (at := text.find(marker)) >= 0]
    return (text[: min(found)], True) if found else (text, False)
