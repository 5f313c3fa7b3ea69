"""HTTP for the openai engine: how many attempts at once, the key, and errors without secrets."""

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import httpx2

_ERROR_CHARACTERS = 300
_SECRET = re.compile(
    r"""\b(?:authorization|api[-_ ]?key(?: provided)?)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?[^\s"',]+"""
    r"""|\b(?:bearer|basic)\s+[\w.~+/=*-]{8,}|\bsk-[^\s"',]+""",
    re.IGNORECASE,
)


class ConcurrencyLimit:
    """How many attempts may be in flight. Additive increase, multiplicative decrease, as in TCP."""

    def __init__(self, maximum: int, counts: dict[str, int]) -> None:
        self.maximum = maximum
        self.counts = counts
        self.current = float(maximum)
        self.in_flight = 0
        self.halved_at = 0.0
        self._room = asyncio.Condition()

    async def enter(self) -> float:
        """Wait for room; the time at which there was some."""
        async with self._room:
            await self._room.wait_for(lambda: self.in_flight < int(self.current))
            self.in_flight += 1
        return time.monotonic()

    async def leave(self) -> None:
        self.in_flight -= 1
        async with self._room:
            self._room.notify(max(1, int(self.current) - self.in_flight))

    def raise_limit(self) -> None:
        """Raise the limit after an answer."""
        self.current = min(self.maximum, self.current + 1 / self.current)

    def lower_limit(self, entered: float) -> None:
        """After a refusal. Only an attempt that began under the present limit tells anything about it."""
        if entered >= self.halved_at:
            self.current, self.halved_at = max(1.0, self.current / 2), time.monotonic()
            self.counts["lowest_limit"] = min(self.counts["lowest_limit"], int(self.current))


def limited_client(limit: ConcurrencyLimit) -> "httpx2.AsyncClient":
    """A client for `openai` whose every attempt, each retry too, waits for room under the limit.

    A broken answer is raised as a fault of the connection, which `openai` retries.
    """
    import httpx2
    from openai import DefaultAsyncHttpxClient

    counts = limit.counts

    class LimitedClient(DefaultAsyncHttpxClient):  # type: ignore[misc]
        async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            entered = await limit.enter()
            try:
                response: httpx2.Response = await super().send(request, **options)
                counts["rate_limited"] += response.status_code == 429
                counts["server_errors"] += response.status_code >= 500
                if response.status_code in (429, 503):
                    limit.lower_limit(entered)
                if response.is_success:
                    if fault := _invalid_completion(response):
                        raise httpx2.DecodingError(f"HTTP {response.status_code}, {fault}", request=request)
                    limit.raise_limit()
                return response
            except Exception:
                counts["dropped"] += 1
                raise
            finally:
                await limit.leave()

    # As many connections are kept as may be in flight: the limit holds back, not the pool.
    return LimitedClient(limits=httpx2.Limits(max_connections=None, max_keepalive_connections=limit.maximum))


def _invalid_completion(response: "httpx2.Response") -> str | None:
    """Why a 200 is not a completion; None if it is. A stopped vLLM answers with finish reason "abort"."""
    try:
        choice = response.json()["choices"][0]
        reason = choice["finish_reason"]
        # The content of an empty chat reply is null. Half a surrogate pair is legal JSON, but not text.
        by_chat = response.url.path.endswith("/chat/completions")
        (choice["message"]["content"] or "" if by_chat else choice["text"]).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"but no completion: {response.text}"
    return "but stopped in the middle" if reason in (None, "abort") else None


def api_key() -> str:
    """The key, read at each use and stored nowhere, so that nothing can show it."""
    key = os.environ.get("OPENAI_API_KEY", "").strip() or "EMPTY"
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError("OPENAI_API_KEY holds a character that no HTTP header can carry")
    return key


def describe(error: Exception) -> str:
    """The error in one line, without a key that the server may have sent back in it."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return "no answer in time"
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return redacted(f"no answer: {type(cause).__name__}: {cause}")
    if isinstance(error, openai.APIStatusError):
        message = error.body.get("message") if isinstance(error.body, dict) else error.body
        return redacted(f"HTTP {error.status_code}: {message or error.response.text or error.message}")
    return redacted(f"{type(error).__name__}: {error}")


def redacted(text: str, length: int = _ERROR_CHARACTERS) -> str:
    """One printable line without secrets, which are removed before the cut could halve one."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    text = _SECRET.sub("[redacted]", text.replace(key, "[redacted]") if key else text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 1] + "\u2026"
