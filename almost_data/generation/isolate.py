"""One reply for each request, whatever the engine does: a request that kills it becomes a failed one.

An engine that dies is asked again for what it left unanswered. If it dies again before it answers
anything, the requests are halved until the one that kills it stands alone.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from ..errors import InputError
from . import CannotStart, Generator, Reply, Request

DEATHS = 6
"""An engine that has answered nothing, and died at so many lone requests, is not killed by them."""


def answers(engine: Generator, requests: list[Request]) -> Iterator[Reply]:
    """A reply for every request, as they come, with the engine's time for it where the engine gives none.

    Raises RuntimeError where the engine answers nothing.
    """
    waiting = [requests]
    deaths, answered = 0, False
    while waiting:
        batch = waiting.pop()
        left = {request.id: request for request in batch}
        replies = _timed(engine, batch)
        while True:
            try:
                reply = next(replies, None)
                if reply is None and left:
                    raise RuntimeError("the engine ended without a reply")
            except (InputError, CannotStart):
                raise
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                rest = list(left.values())
                if len(rest) > 1:
                    # The whole rest once more if it got somewhere, else its halves, the first half first.
                    half = 0 if len(rest) < len(batch) else len(rest) // 2
                    waiting += [part for part in (rest[half:], rest[:half]) if part]
                    break
                deaths += not answered
                if deaths == DEATHS // 2:
                    waiting.reverse()  # perhaps it is the first ones that kill it: try others
                if deaths == DEATHS:
                    raise RuntimeError(f"the engine dies at every request: {why}") from error
                yield Reply(rest[0].id, "", "error", error=why)
                break
            if reply is None:
                break
            answered = True
            del left[reply.id]
            yield reply


def _timed(engine: Generator, requests: list[Request]) -> Iterator[Reply]:
    """The engine's replies with the time from one to the next, and of that the time spent on loading."""
    start, loaded = time.monotonic(), engine.load_seconds
    for reply in engine.generate(requests):
        if reply.seconds:
            yield reply
        else:
            load = engine.load_seconds - loaded
            seconds = max(0.0, time.monotonic() - start - load)
            yield replace(reply, seconds=seconds, load_seconds=load)
        start, loaded = time.monotonic(), engine.load_seconds
