"""The servers of the openai engine: address, models, key and price, and how fast each is asked."""

import os
import re
import time
from asyncio import Future, get_running_loop, sleep
from collections import deque
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ..errors import InputError

DEFAULT_KEY = "OPENAI_API_KEY"
"""The environment variable with the key of the servers in `engine.base_url`, where it is set."""
LONGEST_PAUSE = 120.0
"""Seconds that a server may put requests off for."""
_DURATION = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(?:s|$))?(?:(\d+(?:\.\d+)?)ms)?")
_Positive = Annotated[float, Meta(gt=0)]
_Money = Annotated[float, Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost, in any currency."""

    input: _Money
    output: _Money

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """
        >>> Price(input=0.5, output=1.5).of(1_000_000, 200_000)
        0.8
        """
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of `engine.servers`. Models of several prices at one address are several tables."""

    base_url: str
    """Address up to `/v1`."""
    models: tuple[str, ...] = ()
    """Its models by the names that it knows them by; without any, it is asked for their list."""
    key: (
        Annotated[
            str,
            Meta(pattern="^[A-Z_][A-Z0-9_]*$", description="the name of a variable, in capital letters"),
        ]
        | None
    ) = None
    """Name of the environment variable that holds its key. Without it no key is sent."""
    requests_per_minute: _Positive | None = None
    tokens_per_minute: _Positive | None = None
    """Of prompts and replies together."""
    price: Price | None = None
    """Price of a million tokens in the prompt (`input`) and in the reply (`output`)."""

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/")

    @property
    def host(self) -> str:
        """HOST:PORT. The error about an invalid address omits it: it may hold a secret."""
        url = self.base_url
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or any(c in url for c in "@?# ") or not url.isprintable():
            raise InputError(
                "engine.base_url: an address looks like http://HOST:PORT/v1, with http or https and without "
                f"a user, password or query; the key goes into {DEFAULT_KEY}, or into the variable that a "
                "server's key names"
            )
        return parts.netloc

    def api_key(self) -> str | None:
        """The key, read at each use and stored nowhere, so that nothing can show it."""
        if self.key is None:
            return None
        key = os.environ.get(self.key, "").strip()
        if not key and self.key != DEFAULT_KEY:
            raise InputError(f"engine.servers: {self.key}, the key of {self.host}, is not in the environment")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise InputError(f"{self.key} holds a character that no HTTP header can carry")
        return key or None


class Budget:
    """Money that is spent, and that requests in flight could cost at most: together within the limit."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.spent = 0.0
        self.in_flight: dict[str, float] = {}
        """Greatest cost by id of the request."""
        self._waiting: list[Future[None]] = []

    async def reserve(self, id: str, cost: float) -> bool:
        """Whether a request of this greatest cost fits. Waits while replies in flight may cost less."""
        while not (fits := self.fits(cost)) and self.in_flight:
            self._waiting.append(get_running_loop().create_future())
            await self._waiting[-1]
        if fits and self.limit is not None:
            self.in_flight[id] = cost
        return fits

    def settle(self, id: str) -> None:
        """The request has its reply, whose cost is among what is spent."""
        self.in_flight.pop(id, None)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():  # cancelled
                waiter.set_result(None)

    def fits(self, cost: float = 0.0) -> bool:
        """Whether this cost may be added to what is spent and in flight."""
        return self.limit is None or self.spent + sum(self.in_flight.values()) + cost <= self.limit


class ConcurrencyLimit:
    """How many attempts may be in flight. Additive increase, multiplicative decrease, as in TCP."""

    def __init__(self, maximum: int, counts: dict[str, int]) -> None:
        self.maximum = maximum
        self.counts = counts
        self.current = float(maximum)
        self.in_flight = 0
        self.halved_at = 0.0
        self._waiting: deque[Future[None]] = deque()

    async def enter(self) -> float:
        """Wait for room; the time at which there was some."""
        while self.in_flight >= int(self.current):
            self._waiting.append(get_running_loop().create_future())
            await self._waiting[-1]
        self.in_flight += 1
        return time.monotonic()

    def leave(self) -> None:
        self.in_flight -= 1
        for _ in range(min(len(self._waiting), max(1, int(self.current) - self.in_flight))):
            waiter = self._waiting.popleft()
            if not waiter.done():  # cancelled
                waiter.set_result(None)

    def raise_limit(self) -> None:
        """Raise the limit after an answer."""
        self.current = min(self.maximum, self.current + 1 / self.current)

    def lower_limit(self, entered: float) -> None:
        """After a refusal. Only an attempt that began under the present limit tells anything about it."""
        if entered >= self.halved_at:
            self.current, self.halved_at = max(1.0, self.current / 2), time.monotonic()
            self.counts["lowest_limit"] = min(self.counts["lowest_limit"], int(self.current))


class Rates:
    """Spreads requests and tokens evenly over a minute, and pauses where the server's own rates run out."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._seconds = [60 / rate if rate else 0.0 for rate in (requests_per_minute, tokens_per_minute)]
        self._next_at = [0.0, 0.0]
        self._resume_at = 0.0

    async def enter(self, tokens: float) -> None:
        """Wait until a request of about so many tokens may be sent."""
        for place, amount in enumerate((1.0, tokens)):
            start = max(self._next_at[place], time.monotonic())
            self._next_at[place] = start + amount * self._seconds[place]
            await _sleep_until(start)
        await _sleep_until(self._resume_at)

    def correct(self, tokens: float) -> None:
        """Count so many tokens more than were expected, or fewer."""
        self._next_at[1] += tokens * self._seconds[1]

    def heed(self, headers: Mapping[str, str], tokens: float) -> None:
        """Pause where a server says, in `x-ratelimit` headers, that such a request would be one too many."""
        for kind, amount in (("requests", 1.0), ("tokens", tokens)):
            if remaining := headers.get(f"x-ratelimit-remaining-{kind}"):
                budget, reset = seconds(remaining), seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
                if budget is not None and reset is not None and budget < amount:
                    self._resume_at = max(self._resume_at, time.monotonic() + min(reset, LONGEST_PAUSE))


async def _sleep_until(moment: float) -> None:
    if (wait := moment - time.monotonic()) > 0:
        await sleep(wait)


def seconds(text: str) -> float | None:
    """A duration as servers write it, or None where it is none.

    >>> seconds("6m0.5s"), seconds("120ms"), seconds("2"), seconds("soon")
    (360.5, 0.12, 2.0, None)
    """
    match = _DURATION.fullmatch(text)
    if not match or not text.isascii():
        return None
    amounts = zip(match.groups(), (3600, 60, 1, 0.001), strict=True)
    return sum(float(amount) * unit for amount, unit in amounts if amount)
