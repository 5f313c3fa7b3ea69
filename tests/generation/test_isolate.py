"""Engines that die: each request still gets its reply, and the one to blame fails alone."""

from collections.abc import Iterable, Iterator

import pytest

from almost_data.errors import Defect, InputError
from almost_data.generation import CannotStart, Model, Reply, Request, Sampling
from almost_data.generation.fake import FakeEngine
from almost_data.generation.isolate import CRASHES, NO_TEXT, generate_isolated
from tests.waiting import Clock

REQUESTS = [Request(str(n), Model("fake/m", "1"), "", f"prompt {n}", Sampling(20), seed=n) for n in range(50)]


class Poisoned(FakeEngine):
    """Runs `width` requests at once, and dies with all of them when one of those is poison."""

    def __init__(self, poison: set[str], width: int = 8, error: type[Exception] = OSError) -> None:
        self.poison, self.width, self.error, self.starts = poison, width, error, 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.starts += 1
        waiting = list(requests)
        for at in range(0, len(waiting), self.width):
            if self.poison & {request.id for request in waiting[at : at + self.width]}:
                raise self.error("segmentation fault")
            yield from super().generate(waiting[at : at + self.width])


@pytest.mark.parametrize("ids", ["0", "49", "20", "7 8 9", "3 4 30", "0 1 2 3", "20 21 22 23 24 25 26 27"])
@pytest.mark.parametrize("width", [1, 8, 50])
def test_only_the_poison_fails(ids: str, width: int) -> None:
    poison = set(ids.split())
    replies = list(generate_isolated(Poisoned(poison, width), REQUESTS))
    assert sorted(reply.id for reply in replies) == sorted(request.id for request in REQUESTS)
    assert {reply.id for reply in replies if reply.error} == poison
    expected = {reply.id: reply for reply in FakeEngine().generate(REQUESTS)}
    assert all(reply == expected[reply.id] for reply in replies if not reply.error)


def test_an_engine_that_dies_at_everything_is_not_restarted_for_ever() -> None:
    engine = Poisoned({request.id for request in REQUESTS})
    with pytest.raises(Defect, match="crashes at every request: OSError: segmentation fault"):
        list(generate_isolated(engine, REQUESTS))
    assert engine.starts < 12 + 3 * CRASHES


def test_the_time_between_replies_is_theirs_and_the_loading_the_firsts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("almost_data.generation.isolate.time", clock)

    class Slow(FakeEngine):
        load_seconds = 0.0

        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            clock.now += 3.0
            self.load_seconds += 3.0
            for reply in super().generate(requests):
                clock.now += 0.5
                yield reply

    replies = []
    for reply in generate_isolated(Slow(), REQUESTS[:5]):
        replies.append(reply)
        clock.now += 7.0  # the caller's own time is nobody's
    assert [reply.load_seconds for reply in replies] == [3.0, 0.0, 0.0, 0.0, 0.0]
    assert [reply.seconds for reply in replies] == [0.5] * 5


@pytest.mark.parametrize("error", [InputError, CannotStart])
def test_an_engine_that_cannot_start_is_no_requests_fault(error: type[Exception]) -> None:
    engine = Poisoned({"0"}, error=error)
    with pytest.raises(error):
        list(generate_isolated(engine, REQUESTS))
    assert engine.starts == 1


def test_a_request_without_a_reply_has_failed() -> None:
    class Forgetful(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            return (reply for reply in super().generate(requests) if reply.id != "4")

    replies = {reply.id: reply for reply in generate_isolated(Forgetful(), REQUESTS)}
    assert [id for id, reply in replies.items() if reply.error] == ["4"]


def test_half_of_a_surrogate_pair_fails_alone() -> None:
    """It is no text that a journal or a file can hold."""

    class Half(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for reply in super().generate(requests):
                yield reply if reply.id != "7" else Reply(reply.id, "a\ud83d", "stop")

    failed = [reply for reply in generate_isolated(Half(), REQUESTS) if reply.error]
    assert [(reply.id, reply.error) for reply in failed] == [("7", NO_TEXT)]
