"""What builders require of an engine: requests in, replies out as they finish, in any order.

Builders restore the order by request id, so no dataset depends on an engine's batch or schedule.
An engine is one file, in this package or another one (see `engines.py`);
`tests/generation/test_contract.py` holds all of them to the promises of `Generator`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..errors import InputError, one_line
from ..models import Model as Model
from ..models.chat import Message as Message
from ..models.chat import Messages as Messages


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply is sampled. Temperature 0 is greedy. `stop` strings end the reply and are cut off."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one reply: to text that a base model continues, or to messages that a chat model answers.

    The text is `prefix + text`; `prefix` is the part that requests share. Messages, made with `Request.chat`,
    reach the model through its own chat template, or as messages through a server's.
    """

    id: str
    model: Model
    prefix: str
    text: str
    sampling: Sampling
    seed: int | None = None
    sample: int = 0
    """Which of several replies to the same prompt."""
    messages: Messages = ()
    """The conversation so far, ending in the user's turn; empty where the prompt is text."""
    shared_messages: int = 0
    """How many of the first messages other requests share: the system text and few-shot turns."""
    template_options: str = "{}"
    """What the chat template takes besides the messages, as canonical JSON: `{"enable_thinking":false}`."""

    @classmethod
    def chat(
        cls,
        id: str,
        model: Model,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        seed: int | None = None,
        sample: int = 0,
        shared_messages: int = 0,
        template_options: Mapping[str, Any] | None = None,
    ) -> "Request":
        options = json.dumps(template_options or {}, sort_keys=True, separators=(",", ":"))
        return cls(id, model, "", "", sampling, seed, sample, tuple(messages), shared_messages, options)

    @property
    def prompt(self) -> str:
        """The text of the prompt; empty where it is messages."""
        return self.prefix + self.text

    @property
    def head(self) -> str:
        """Equal for requests whose prompts begin alike: the prefix, or the shared messages as JSON."""
        if not self.messages:
            return self.prefix
        return json.dumps([self.messages[: self.shared_messages], self.template_options])

    @property
    def size(self) -> int:
        """Characters of the prompt."""
        return len(self.prompt) + sum(len(message["content"]) for message in self.messages)

    def refusal(self, prompt_tokens: int, context: int | None = None) -> str | None:
        """Why a model whose context is `context` tokens cannot answer this, or None."""
        limit = self.sampling.max_new_tokens
        if not prompt_tokens or not (self.prompt or self.messages):
            return "the prompt is empty"
        if limit < 1:
            return "max_new_tokens is below 1"
        if context is not None and prompt_tokens + limit > context:
            return f"{prompt_tokens} prompt tokens + {limit} new ones exceed the model's context of {context}"
        return None


FINISH_REASONS: dict[str, Literal["stop", "length"]] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_length", "max_output_tokens", "model_length"), "length"),
}
"""How servers and files say that a reply ended, in lower case -> the `finish_reason` of a reply."""


@dataclass(slots=True)
class Reply:
    """The answer to the request with the same id. A failed request is a reply with an `error`."""

    id: str
    text: str
    finish_reason: Literal["stop", "length", "error"]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    reasoning: str | None = None
    """What the model thought before it replied. It is never part of `text`."""
    # The cost of a reply is not part of its identity.
    cached_tokens: int = field(default=0, compare=False)
    """Prompt tokens that the engine had computed for an earlier request."""
    seconds: float = field(default=0.0, compare=False)
    """Engine time between the reply before and this one; measured where the engine leaves it at 0."""
    load_seconds: float = field(default=0.0, compare=False)
    """Time spent loading a model just before this reply."""
    cost: float = field(default=0.0, compare=False)
    """Money, by the price that the user gives for a server."""
    answered_as: str | None = field(default=None, compare=False)
    """The name of the model in the server's answer, where it is not the one that was asked for."""

    @classmethod
    def failed(cls, id: str, error: str, prompt_tokens: int = 0, cost: float = 0.0) -> "Reply":
        return cls(id, "", "error", prompt_tokens, error=error, cost=cost)


@dataclass(slots=True)
class Usage:
    """The cost of replies. The journal keeps the cost of each, so a resumed build counts all of it."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    cost: float = 0.0

    def add(self, reply: Reply) -> None:
        self.requests += 1
        self.failed += reply.error is not None
        self.prompt_tokens += reply.prompt_tokens
        self.cached_tokens += reply.cached_tokens
        self.completion_tokens += reply.completion_tokens
        self.seconds += reply.seconds
        self.load_seconds += reply.load_seconds
        self.cost += reply.cost


class CannotStart(RuntimeError):
    """The engine cannot go on: no model could be loaded, no server reached, or the money is spent.

    No request is to blame.
    """


@contextmanager
def loading(model_id: str) -> Iterator[None]:
    """Turn whatever a library raises for a model that it cannot load into CannotStart, in one line."""
    try:
        yield
    except (InputError, CannotStart):
        raise
    except Exception as error:
        raise CannotStart(f"{model_id} cannot be loaded: {one_line(error)}") from error


class Closing(Protocol):
    """A holder of models in memory."""

    def close(self) -> None:
        """Release that memory. The next use loads the models again."""
        ...


class SharedMemory:
    """Memory of one small GPU, which one user holds at a time: to acquire it closes the one that holds it."""

    def __init__(self) -> None:
        self._holder: Closing | None = None

    def acquire(self, user: Closing) -> None:
        if self._holder is not None and self._holder is not user:
            self._holder.close()
        self._holder = user


class Generator(Closing, Protocol):
    """An engine."""

    name: str
    """As the manifest records it."""

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
        Raises InputError or CannotStart where no request could be answered, ValueError for an id that occurs
        twice; any other exception is a crash, after which it may be called again with the remaining requests.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """What the manifest records of this engine (dtype, device, batch), none of it fingerprinted."""
        ...


def group_by_model(
    requests: Iterable[Request], resolve: Callable[[Model], Model] = lambda model: model
) -> dict[Model, list[Request]]:
    """The requests of each resolved model, in order. Raises ValueError for an id that occurs twice."""
    groups: dict[Model, list[Request]] = {}
    ids: set[str] = set()
    for request in requests:
        if request.id in ids:
            raise ValueError(f"request id {request.id!r} occurs twice")
        ids.add(request.id)
        groups.setdefault(resolve(request.model), []).append(request)
    return groups


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the first of the `stop` strings, and whether one occurs.

    >>> cut_at_stop("Fine.\\n\\nHuman: and you?", ["Human:"])
    ('Fine.\\n\\n', True)
    """
    places = [place for marker in stop if (place := text.find(marker)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
