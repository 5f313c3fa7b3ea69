"""One reply for each request, even if the engine crashes: a request that crashes it fails alone.

An engine that crashes is called again for the unanswered requests. If it crashes again before it answers
anything, the requests are halved until the one that kills it is alone.
"""

import time
from collections.abc import Iterator

from ..errors import Defect, InputError, source_file
from . import CannotStart, Generator, Reply, Request

CRASHES = 6
"""After so many single requests without an answer, the engine itself is at fault."""

NO_TEXT = "the engine's text is not Unicode: it has half of a surrogate pair"


def generate_isolated(engine: Generator, requests: list[Request]) -> Iterator[Reply]:
    """A reply for every request, as they come, with the engine's time for it where the engine gives none.

    Raises Defect where the engine answers nothing, or what it was not asked.
    """
    who = f"engine {engine.name} ({source_file(type(engine))})"
    waiting = [requests]
    crashes, answered = 0, False
    while waiting:
        batch = waiting.pop()
        pending = {request.id: request for request in batch}
        replies = _timed(engine, batch)
        while True:
            try:
                reply = next(replies, None)
                if reply is None and pending:
                    raise RuntimeError("the engine ended without a reply")
            except (InputError, CannotStart):
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                unanswered = list(pending.values())
                if len(unanswered) > 1:
                    # After some replies, those without one together; after none, each half by itself.
                    half = 0 if len(unanswered) < len(batch) else len(unanswered) // 2
                    waiting += [part for part in (unanswered[half:], unanswered[:half]) if part]
                    break
                crashes += not answered
                if crashes == CRASHES // 2:
                    waiting.reverse()  # perhaps the first requests kill it: try the last ones
                if crashes == CRASHES:
                    raise Defect(f"{who} crashes at every request: {reason}") from error
                yield Reply.failed(unanswered[0].id, reason)
                break
            if reply is None:
                break
            if reply.id not in pending:
                raise Defect(f"{who} replied to {reply.id!r}, which is not asked or was answered")
            answered = True
            del pending[reply.id]
            yield reply if _is_text(reply) else Reply.failed(reply.id, NO_TEXT)


def _is_text(reply: Reply) -> bool:
    """Whether its text can be stored."""
    try:
        f"{reply.text}{reply.reasoning or ''}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _timed(engine: Generator, requests: list[Request]) -> Iterator[Reply]:
    """The engine's replies with the time from one to the next, and of that the time spent on loading."""
    start, loaded = time.monotonic(), engine.load_seconds
    for reply in engine.generate(requests):
        if not reply.seconds:
            reply.load_seconds = engine.load_seconds - loaded
            reply.seconds = max(0.0, time.monotonic() - start - reply.load_seconds)
        yield reply
        start, loaded = time.monotonic(), engine.load_seconds
