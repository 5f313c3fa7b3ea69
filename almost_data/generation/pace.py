"""How fast a server is asked: so many attempts at once, so many requests and tokens a minute."""

import re
import time
from asyncio import Future, get_running_loop, sleep
from collections import deque
from collections.abc import Mapping

LONGEST_PAUSE = 120.0
"""Seconds that a server may put requests off for."""
_DURATION = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(?:s|$))?(?:(\d+(?:\.\d+)?)ms)?")


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
