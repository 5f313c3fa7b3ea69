"""HTTP for the openai engine: one server's connections, retries, and errors without secrets."""

import logging
import os
import re
import time
from asyncio import sleep
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import uniform
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from .servers import LONGEST_PAUSE, ConcurrencyLimit, Rates, Server, seconds

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
log = logging.getLogger(__name__)
CONNECT_SECONDS = 10.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0
"""Seconds before the second attempt, and the most that doubling makes of them."""
MAX_BYTES = 16 << 20
"""Of an answer: no reply is so long."""
_SECRET = re.compile(
    r"""\b(?:authorization|api[-_ ]?key(?: provided)?)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?[^\s"',]+"""
    r"""|\b(?:bearer|basic)\s+[\w.~+/=*-]{8,}|\bsk-[^\s"',]+|(?<=//)[^/\s@]+@""",
    re.IGNORECASE,
)
_HOST = re.compile(r"//(?:[^/@]*@)?([\w.:-]+)")


@dataclass(eq=False)
class ServerFault(Exception):
    """An attempt without a reply. A temporary fault is worth another attempt."""

    message: str
    is_temporary: bool = False
    status: int | None = None
    param: str | None = None
    """The parameter that the server refuses, where it names one."""
    wait: float | None = None
    """Seconds that the server asks for before the next attempt."""
    cost: float = 0.0
    """Money that the server bills for the attempt all the same."""

    def __str__(self) -> str:
        return self.message


class Client:
    """The connections to one server, as an async context manager."""

    def __init__(
        self, server: Server, concurrency: int, timeout: float, retries: int, counts: dict[str, int]
    ) -> None:
        self.server = server
        self.timeout = timeout
        self.retries = retries
        self.counts = counts
        self.limit = ConcurrencyLimit(concurrency, counts)
        self.rates = Rates(server.requests_per_minute, server.tokens_per_minute)
        parts = urlsplit(server.base_url)
        self._proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)

    async def __aenter__(self) -> "Client":
        import aiohttp

        key = self.server.api_key()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the limit holds back, not the pool
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=aiohttp.ClientTimeout(self.timeout, sock_connect=min(self.timeout, CONNECT_SECONDS)),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def ask(self, path: str, content: bytes, read: Callable[[bytes], T], tokens: float = 0) -> T:
        """What `read` makes of the answer, after retries. Raises ServerFault, as `read` may too.

        Without content it is a GET. `tokens` is about what the request and its reply have.
        """
        attempt = 0
        while True:
            try:
                return await self._attempt(path, content, read, tokens)
            except ServerFault as fault:
                fault.message = redacted(fault.message, key=self.server.api_key())
                if not fault.is_temporary or attempt == self.retries:
                    raise
                delay = min(FIRST_DELAY * 2 ** min(attempt, 9), LONGEST_DELAY)
                wait = fault.wait or delay * uniform(0.75, 1)
                log.info("%s: %s; asked again in %.3g s", self.server.host, fault, wait)
            await sleep(wait)
            attempt += 1

    async def _attempt(self, path: str, content: bytes, read: Callable[[bytes], T], tokens: float) -> T:
        import aiohttp

        await self.rates.enter(tokens)
        entered = await self.limit.enter()
        try:
            async with self._session.request(
                "POST" if content else "GET",
                self.server.url + path,
                data=content or None,
                allow_redirects=False,  # the key is for this server alone
                proxy=self._proxy,
            ) as response:
                body = await _read_body(response)
            self.rates.heed(response.headers, tokens)
            if not 200 <= response.status < 300:
                raise self._refusal(response.status, response.headers, body, entered)
            value = read(body)
            self.limit.raise_limit()
            return value
        except ServerFault as fault:
            self.counts["dropped"] += fault.status is None
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a name that is no host's
            self.counts["dropped"] += 1
            is_late = isinstance(error, TimeoutError)
            message = "no answer in time" if is_late else f"no answer: {_problem(error)}"
            raise ServerFault(message, is_temporary=True) from None
        finally:
            self.limit.leave()

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes, entered: float) -> ServerFault:
        """The fault that an answer other than 2xx tells of."""
        self.counts["rate_limited"] += status == 429
        self.counts["server_errors"] += status >= 500
        if status in (429, 503):
            self.limit.lower_limit(entered)
        message, param = _error(body)
        if 300 <= status < 400:
            host = _HOST.search(headers.get("Location", ""))
            message = f"the server redirects to {host[1] if host else 'another path'}: give that address"
        wait = _retry_after(headers.get("Retry-After", ""))
        is_temporary = (status in (408, 409, 429) or status >= 500) and (wait or 0) <= LONGEST_PAUSE
        return ServerFault(f"HTTP {status}: {message}", is_temporary, status, param, wait)


async def _read_body(response: "aiohttp.ClientResponse") -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            message = f"HTTP {response.status}, an answer of more than {MAX_BYTES >> 20} MiB"
            raise ServerFault(message, status=response.status)
    return b"".join(chunks)


def _problem(error: Exception) -> str:
    """The system's word for an error of a connection, such as `Connection refused`; else all of the error."""
    number = getattr(error, "errno", None) or 0
    problem = getattr(error, "message", error)
    return os.strerror(number) if number > 0 else f"{type(error).__name__}: {problem}"


def _error(body: bytes) -> tuple[str, str | None]:
    """The message of an error and the parameter that it names, in the shapes that servers have for it."""
    text = body[:2000].decode("utf-8", "replace")
    try:
        error = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return text, None
    error = error.get("error", error) if isinstance(error, dict) else error
    if not isinstance(error, dict):
        return text, None
    return str(error.get("message") or text), str(error.get("param"))


def _retry_after(value: str) -> float | None:
    """The wait that a server asks for: in seconds, or until a date."""
    wait = seconds(value)
    if value and wait is None:
        with suppress(ValueError):
            wait = parsedate_to_datetime(value).timestamp() - time.time()
    return wait if wait and wait > 0 else None


def redacted(text: str, length: int = 300, key: str | None = None) -> str:
    """One printable line without secrets, which are removed before the cut could halve one."""
    text = _SECRET.sub("[redacted]", text.replace(key, "[redacted]") if key else text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 1] + "\u2026"
