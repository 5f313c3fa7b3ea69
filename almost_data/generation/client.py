"""HTTP for the openai engine: how many attempts at once, the key, and errors that do not show it."""

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING, Any

from almost_data.errors import InputError

if TYPE_CHECKING:
    import httpx2

_ERROR_CHARACTERS = 300
_SECRET = re.compile(
    r"""\b(?:authorization|api[-_ ]?key(?: provided)?)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?[^\s"',]+"""
    r"""|\b(?:bearer|basic)\s+[\w.~+/=*-]{8,}|\bsk-[^\s"',]+""",
    re.IGNORECASE,
)


class Limit:
    """How many attempts may be in flight. Additive increase, multiplicative decrease, as in TCP."""

    def __init__(self, most: int, counts: dict[str, int]) -> None:
        self.most = most
        self.counts = counts
        self.now = float(most)
        self.flying = 0
        self.halved = 0.0
        self._left = asyncio.Condition()

    async def enter(self) -> float:
        """The time at which there was room."""
        async with self._left:
            await self._left.wait_for(lambda: self.flying < int(self.now))
            self.flying += 1
        return time.monotonic()

    async def leave(self) -> None:
        self.flying -= 1
        async with self._left:
            self._left.notify(max(1, int(self.now) - self.flying))

    def answered(self) -> None:
        self.now = min(self.most, self.now + 1 / self.now)

    def refused(self, entered: float) -> None:
        """Only an attempt that began under the limit as it is says anything about it."""
        if entered >= self.halved:
            self.now, self.halved = max(1.0, self.now / 2), time.monotonic()
            self.counts["lowest_limit"] = min(self.counts["lowest_limit"], int(self.now))


def gated(limit: Limit) -> "httpx2.AsyncClient":
    """A client for `openai` whose every attempt, each retry too, waits for room under the limit.

    What came back broken is raised as a fault of the connection, which `openai` retries.
    """
    import httpx2
    from openai import DefaultAsyncHttpxClient

    counts = limit.counts

    class Gated(DefaultAsyncHttpxClient):  # type: ignore[misc]
        async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
            entered = await limit.enter()
            try:
                response: httpx2.Response = await super().send(request, **how)
                counts["rate_limited"] += response.status_code == 429
                counts["server_errors"] += response.status_code >= 500
                if response.status_code in (429, 503):
                    limit.refused(entered)
                if response.is_success:
                    if why := _broken(response):
                        raise httpx2.DecodingError(f"HTTP {response.status_code}, {why}", request=request)
                    limit.answered()
                return response
            except Exception:
                counts["dropped"] += 1
                raise
            finally:
                await limit.leave()

    # Connections are kept for as many as may be in flight: the limit, not the pool, is what holds back.
    return Gated(limits=httpx2.Limits(max_connections=None, max_keepalive_connections=limit.most))


def _broken(response: "httpx2.Response") -> str | None:
    """Why a 200 is no answer, if it is none; "abort" is what vLLM says of its work when it is stopped."""
    try:
        choice = response.json()["choices"][0]
        reason = choice["finish_reason"]
        # A chat that says nothing has null. Half a surrogate pair is legal JSON, and no text.
        chat = response.url.path.endswith("/chat/completions")
        (choice["message"]["content"] or "" if chat else choice["text"]).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"but no completion: {response.text}"
    return "but stopped in the middle" if reason in (None, "abort") else None


def key() -> str:
    """Read where it is used and kept nowhere, so that nothing can show it."""
    key = os.environ.get("OPENAI_API_KEY", "").strip() or "EMPTY"
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError("OPENAI_API_KEY holds a character that no HTTP header can carry")
    return key


def said(error: Exception) -> str:
    """The error in one line, without a key that the server may have sent back in it."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return "no answer in time"
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return clean(f"no answer: {type(cause).__name__}: {cause}")
    if isinstance(error, openai.APIStatusError):
        said = error.body.get("message") if isinstance(error.body, dict) else error.body
        return clean(f"HTTP {error.status_code}: {said or error.response.text or error.message}")
    return clean(f"{type(error).__name__}: {error}")


def clean(text: str, length: int = _ERROR_CHARACTERS) -> str:
    """One printable line without secrets; they go first, or the cut might leave half of one."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    text = _SECRET.sub("[redacted]", text.replace(key, "[redacted]") if key else text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 1] + "\u2026"
