"""One reply for each request, whatever the engine does: a request that kills it becomes a failed one.

An engine that dies is asked again for what it left unanswered. If it dies again before it answers
anything, the requests are halved until the one that kills it stands alone.
"""

from collections.abc import Iterator

from ..errors import InputError
from . import CannotStart, Generator, Reply, Request

DEATHS = 3
"""An engine that dies at so many lone requests in a row, with no answer between, is not their fault."""


def answers(engine: Generator, requests: list[Request]) -> Iterator[Reply]:
    """A reply for every request, as they come. Raises RuntimeError where the engine answers nothing."""
    waiting = [requests]
    deaths = 0
    while waiting:
        batch = waiting.pop()
        left = {request.id: request for request in batch}
        replies = engine.generate(batch)
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
                deaths += 1
                if deaths == DEATHS:
                    raise RuntimeError(f"the engine dies at every request: {why}") from error
                yield Reply(rest[0].id, "", "error", error=why)
                break
            if reply is None:
                break
            deaths = 0
            del left[reply.id]
            yield reply
