"""What a server gets for a request, and what it is read to have replied, in the shapes that servers have."""

from collections.abc import Collection
from typing import Any

import msgspec

from ..models import split_revision
from ..models.chat import split_reasoning
from . import FINISH_REASONS, Reply, Request, cut_at_stop
from .answered import answered_name
from .client import ServerFault, redacted
from .servers import Price

STOPS = 4
"""Stop strings that OpenAI's own server takes at most; the reply is cut at further ones here."""
ADAPTABLE = frozenset({"max_tokens", "stop"})
"""Parameters that some servers refuse, and that a request can do without."""
CHARACTERS = 4
"""In a token, about."""
_MOST_TOKENS = 10**9
"""A larger count is none."""


class _Choice(msgspec.Struct):
    text: Any = None
    message: Any = None
    finish_reason: Any = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None
    model: Any = None


_decode = msgspec.json.Decoder(_Completion).decode


def served_name(model: str, names: Collection[str]) -> str | None:
    """The name that a server has for a model: its whole name, or what stands before `@REVISION`.

    >>> served_name("m@2", ["m"]), served_name("m@2", ["m", "m@2"]), served_name("n", ["m"])
    ('m', 'm@2', None)
    """
    return next((name for name in (model, split_revision(model)[0]) if name in names), None)


def encode(request: Request, name: str, refused: Collection[str], row_seeds: bool) -> bytes:
    """The body of a request, without the parameters that the server has refused."""
    sampling = request.sampling
    # OpenAI's newer models refuse `max_tokens`.
    limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    body: dict[str, Any] = {
        "model": name,
        limit: sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if request.messages:
        body["messages"] = request.messages
        if request.template_options != "{}":
            body["chat_template_kwargs"] = msgspec.Raw(request.template_options.encode())
    else:
        body["prompt"] = request.prompt
    if sampling.stop and "stop" not in refused:
        body["stop"] = sampling.stop[:STOPS]
    if row_seeds and request.seed is not None:
        body["seed"] = request.seed % 2**63
    return msgspec.json.encode(body)


def greatest_cost(request: Request, price: Price | None) -> float:
    """The cost of a reply at its limit of tokens, to a prompt of which each byte is a token."""
    if price is None:
        return 0.0
    size = len(request.prompt.encode()) + len(msgspec.json.encode(request.messages))
    return price.of(size, request.sampling.max_new_tokens)


def read_reply(request: Request, name: str, price: Price | None, body: bytes) -> Reply:
    """The reply in the answer of a server that was asked for a model by this name.

    Raises ServerFault for what is no completion, or broken off. An answer that cannot be read, but counts its
    tokens, was paid for: its fault is final.
    """
    try:
        completion = _decode(body)
        choice = completion.choices[0]
        reasoning, text = _chat_parts(choice.message) if request.messages else (None, choice.text)
        if not isinstance(text, str):
            raise TypeError("not text")
        text, is_stopped = cut_at_stop(text, request.sampling.stop)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        prompt_tokens, new_tokens = _counts(_usage(body))
        has_counts = prompt_tokens + new_tokens > 0
        message = f"HTTP 200, but no completion: {body[:2000].decode('utf-8', 'replace')}"
        billed = price.of(prompt_tokens, new_tokens) if price else 0.0
        raise ServerFault(message, is_temporary=not has_counts, cost=billed) from None
    usage = completion.usage
    prompt_tokens, new_tokens = _counts(usage)
    has_counts = prompt_tokens + new_tokens > 0
    cost = 0.0
    if price:  # what is not counted is estimated
        characters = len(text) + len(reasoning or "")
        cost = price.of(prompt_tokens or request.size / CHARACTERS, new_tokens or characters / CHARACTERS)
    reason = str(choice.finish_reason or "").lower()
    if reason == "abort":  # by a vLLM that is being stopped
        billed = cost if has_counts else 0.0
        raise ServerFault("HTTP 200, but stopped in the middle", is_temporary=True, cost=billed)
    finish_reason = "stop" if is_stopped else FINISH_REASONS.get(reason)
    if not reason and not is_stopped:
        finish_reason = "length" if new_tokens >= request.sampling.max_new_tokens else "stop"
    if finish_reason is None:
        return Reply.failed(
            request.id, f"the server ended the reply: {redacted(reason)}", prompt_tokens, cost
        )
    other_name = answered_name(name, completion.model)
    return Reply(
        id=request.id,
        text=text,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=new_tokens,
        reasoning=reasoning,
        cached_tokens=_count(_get(usage, "prompt_tokens_details"), "cached_tokens"),
        cost=cost,
        answered_as=other_name and redacted(other_name, 100),
    )


def read_names(body: bytes) -> tuple[str, ...]:
    """The names in a server's list of models. Raises ServerFault where it is none."""
    try:
        return tuple(str(model["id"]) for model in msgspec.json.decode(body)["data"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ServerFault("HTTP 200, but no list of models", status=200) from None


def _chat_parts(message: Any) -> tuple[str | None, str]:
    """Reasoning and reply of a chat: in fields of their own, in parts of the content, or in tags."""
    text, thoughts = _join(message.get("content"))
    tagged, text = split_reasoning(text, is_open="</think>" in text and "<think>" not in text)
    candidates = (message.get("reasoning"), message.get("reasoning_content"), thoughts, tagged)
    return next((text for text in candidates if isinstance(text, str) and text), None), text


def _join(content: Any) -> tuple[str, str]:
    """The text in a message's content, and the reasoning in it."""
    if content is None or isinstance(content, str):
        return content or "", ""
    text = thoughts = ""
    for part in content:
        if (kind := part["type"]) in ("text", "output_text"):
            text += part["text"]
        elif kind in ("thinking", "reasoning"):
            thoughts += "".join(_join(part.get(kind) or part.get("text")))
        else:
            raise TypeError(f"a part that is no text: {kind}")
    return text, thoughts


def _usage(body: bytes) -> Any:
    """The counts of tokens in an answer of any shape."""
    try:
        return _get(msgspec.json.decode(body), "usage")
    except (ValueError, RecursionError):
        return None


def _counts(usage: Any) -> tuple[int, int]:
    """Tokens of the prompt, and new ones."""
    return _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")


def _count(usage: Any, name: str) -> int:
    """A number of tokens, which some servers write as text, or leave out."""
    try:
        count = int(float(_get(usage, name)))
    except (TypeError, ValueError, OverflowError):
        return 0
    return count if 0 <= count <= _MOST_TOKENS else 0


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
