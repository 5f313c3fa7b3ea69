import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import CannotStart, Generator, Model, Reply, Request, Sampling, Usage, journal
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal import JournaledGenerator, key
from almost_data.generation.journal_file import (
    AnswerCounts,
    JournalSession,
    count,
    open_journal,
    prune,
    status,
)
from tests.waiting import Clock, killed_after, until

REQUESTS = [
    Request(str(n), Model("fake/m", "1"), "head ", f"prompt {n}", Sampling(40), seed=n) for n in range(200)
]


class Counted(FakeEngine):
    """The fake engine, counting what it was asked, and stopping where told."""

    def __init__(self, stop_at: int | None = None, fail: frozenset[str] = frozenset()) -> None:
        self.answered: list[str] = []
        self.stop_at, self.fail = stop_at, fail

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for number, reply in enumerate(super().generate(requests)):
            if number == self.stop_at:
                raise CannotStart("engine died")
            self.answered.append(reply.id)
            yield Reply(reply.id, "", "error", error="no") if reply.id in self.fail else reply


def journaled(engine: Generator, path: Path, build: str = "", **options: Any) -> JournaledGenerator:
    return JournaledGenerator(engine, JournalSession(path, build), **options)


def by_id(replies: Iterable[Reply]) -> dict[str, Reply]:
    return {reply.id: reply for reply in replies}


def test_what_is_known_is_not_asked_again_and_comes_back_the_same(tmp_path: Path) -> None:
    first = by_id(journaled(Counted(), tmp_path / "j").generate(REQUESTS))
    again = journaled(silent := Counted(), tmp_path / "j")
    assert by_id(again.generate(reversed(REQUESTS))) == first == by_id(FakeEngine().generate(REQUESTS))
    assert (silent.answered, again.counts) == ([], AnswerCounts(from_journal=200))


def test_an_engine_that_dies_costs_only_what_it_had_not_answered(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="engine died"):
        list(journaled(Counted(stop_at=90), tmp_path / "j").generate(REQUESTS))
    rest = Counted()
    assert len(list(journaled(rest, tmp_path / "j").generate(REQUESTS))) == 200
    assert sorted(rest.answered, key=int) == [str(n) for n in range(90, 200)]


def test_what_a_reply_cost_is_kept_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("almost_data.generation.isolate.time", clock)

    class Loading(FakeEngine):
        load_seconds = 0.0

        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            self.load_seconds += 2.0  # before the first reply
            clock.now += 2.0
            for reply in super().generate(requests):
                clock.now += 0.5
                yield replace(reply, cached_tokens=3)

    def usage() -> Usage:
        total = Usage()
        for reply in journaled(Loading(), tmp_path / "j").generate(REQUESTS[:50]):
            total.add(reply)
        return total

    first = usage()
    assert (first.requests, first.cached_tokens) == (50, 150)
    assert (first.load_seconds, first.seconds) == (2.0, 25.0)
    assert usage() == first


def test_failures_are_asked_again(tmp_path: Path) -> None:
    replies = by_id(journaled(Counted(fail=frozenset({"3", "5"})), tmp_path / "j").generate(REQUESTS))
    assert [reply.id for reply in replies.values() if reply.error] == ["3", "5"]
    again = Counted()
    assert not any(reply.error for reply in journaled(again, tmp_path / "j").generate(REQUESTS))
    assert again.answered == ["3", "5"]


def test_failures_add_up_over_all_the_calls_of_a_build(tmp_path: Path) -> None:
    engine = journaled(Counted(fail=frozenset({"1", "11"})), tmp_path / "j")
    assert sum(reply.error is not None for reply in engine.generate(REQUESTS[:10])) == 1
    with pytest.raises(RuntimeError, match=r"2 of 20 requests failed, more than run\.max_failures 0\.01"):
        list(engine.generate(REQUESTS[10:20]))


def test_failures_that_stand_count_too(tmp_path: Path) -> None:
    def run(build: str, **options: Any) -> list[Reply]:
        engine = Counted(fail=frozenset({"1", "2", "3"}))
        generator = journaled(engine, tmp_path / "j", build, **options)
        replies = list(generator.generate(REQUESTS[:20]))
        generator.session.mark_published()
        return replies

    first = run("queries@0.1.0", max_failures=0.5)
    with pytest.raises(RuntimeError, match=r"in an earlier version: set run\.retry_failed, or raise"):
        run("queries@0.2.0")
    again = run("queries@0.3.0", max_failures=0.5)
    assert by_id(again) == by_id(first)
    assert sum(reply.error is not None for reply in again) == 3


def test_prune_waits_for_a_build_that_writes(tmp_path: Path) -> None:
    path, stop = tmp_path / "journal.sqlite", threading.Event()

    def write() -> None:
        session = JournalSession(path, "queries@1.0.0")
        with open_journal(path) as database:
            while not stop.is_set():
                session.register(database, "reply", [random.randbytes(16)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(path.is_file, "the journal is there")
        assert [prune(path, (), False, ()) for _ in range(20)] == [0] * 20
    finally:
        stop.set()
        writer.join()


def test_prune_keeps_all_rounds_of_a_build_that_was_interrupted_again(tmp_path: Path) -> None:
    first = journaled(Counted(), tmp_path / "j", "queries@0.1.0")
    for at in range(0, 80, 8):
        list(first.generate(REQUESTS[at : at + 8]))
    list(journaled(Counted(), tmp_path / "j", "queries@0.1.0").generate(REQUESTS[:8]))
    assert prune(tmp_path / "j", (), unfinished=False, locked=["queries@0.1.0"]) == 0
    assert prune(tmp_path / "j", (), unfinished=True, locked=[]) == 0
    assert prune(tmp_path / "j", (), unfinished=True, locked=["queries@0.1.0"]) == 80


def test_a_request_that_failed_and_another_build_has_answered_is_found(tmp_path: Path) -> None:
    def numbers() -> list[tuple[int, int, int, int]]:
        builds = status(tmp_path / "j")
        return [(build.requests, build.answered, build.failed, build.pending) for build in builds]

    all_ids = frozenset(request.id for request in REQUESTS)
    failing = journaled(Counted(fail=all_ids), tmp_path / "j", "queries@0.1.0", max_failures=1)
    replies = failing.generate(REQUESTS[:5])
    assert next(replies).error
    assert len(list(journaled(Counted(), tmp_path / "j", "queries@0.2.0").generate(REQUESTS[:5]))) == 5
    assert all(reply.error for reply in replies)
    assert numbers() == [(5, 0, 5, 0), (5, 5, 0, 0)]
    again = journaled(silent := Counted(), tmp_path / "j", "queries@0.1.0")
    assert not any(reply.error for reply in again.generate(REQUESTS[:5])) and not silent.answered
    assert numbers() == [(5, 5, 0, 0)] * 2


def test_replies_that_come_after_a_prune_are_found(tmp_path: Path) -> None:
    """SQLite gives the ids of the last rows that were deleted to the next ones."""
    path = tmp_path / "j"
    first = journaled(Counted(), path, "queries@0.1.0")
    list(first.generate(REQUESTS[:10]))
    first.session.mark_published()
    list(journaled(Counted(), path, "queries@0.2.0").generate(REQUESTS[10:30]))
    refs, builds = ["queries@0.1.0"], ["queries@0.1.0", "queries@0.2.0"]
    assert (prune(path, refs, unfinished=True, locked=builds), count(path)) == (20, 10)
    list(journaled(Counted(), path, "queries@0.2.0").generate(REQUESTS[30:40]))
    again = journaled(silent := Counted(), path, "queries@0.3.0")
    assert by_id(again.generate(REQUESTS[:40])).keys() >= {"0", "9", "30", "39"}
    assert (sorted(silent.answered), again.counts.from_journal) == (sorted(map(str, range(10, 30))), 20)
    assert count(path) == 40


def test_the_key_is_all_that_decides_a_reply_and_nothing_else() -> None:
    request = REQUESTS[0]
    changed = [
        replace(request, text="other"),
        replace(request, model=Model("fake/n", "1")),
        replace(request, model=Model("fake/m", "2")),
        replace(request, sampling=Sampling(41)),
        replace(request, seed=7),
        replace(request, sample=1),
    ]
    assert len({key(request) for request in [request, *changed]}) == 7
    assert key(request) == key(replace(request, id="x", prefix="he", text="ad prompt 0"))


def test_a_lone_reply_is_on_disk_before_the_next_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SECONDS", 0.05)
    release = threading.Event()

    class Slow(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for reply in super().generate(requests):
                yield reply
                release.wait(30)

    replies = journaled(Slow(), tmp_path / "j").generate(REQUESTS[:2])
    next(replies)
    until(lambda: count(tmp_path / "j") == 1, "the reply is on disk")
    release.set()
    assert len(list(replies)) == 1


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"not a database, but long enough to be looked at" * 30)
    with pytest.raises(InputError, match="cannot be used as a journal"):
        list(journaled(FakeEngine(), tmp_path / "j").generate(REQUESTS))


@pytest.mark.parametrize("version", [6, 13])
def test_a_journal_of_another_format_is_refused_and_left_alone(version: int, tmp_path: Path) -> None:
    list(journaled(Counted(), tmp_path / "j").generate(REQUESTS[:5]))
    with closing(sqlite3.connect(tmp_path / "j")) as database, database:
        database.execute("DROP TABLE score")
        database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(InputError, match="published datasets stay, and a new build asks again"):
        list(journaled(Counted(), tmp_path / "j").generate(REQUESTS[:5]))
    with closing(sqlite3.connect(tmp_path / "j")) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'score'").fetchone() == (0,)


@pytest.mark.crash
def test_kill_9_while_replies_come_loses_a_second_at_most(tmp_path: Path) -> None:
    """A slow engine is killed several times; each start asks only what is not in the journal."""
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from almost_data.generation.fake import FakeEngine
from tests.generation.test_journal import REQUESTS, journaled
class Slow(FakeEngine):
    def generate(self, requests):
        for reply in super().generate(requests):
            time.sleep(0.01)
            print(reply.id, flush=True)
            yield reply
print(len(list(journaled(Slow(), Path({str(tmp_path / "j")!r})).generate(REQUESTS))), "replies")
"""
    rng = random.Random(1)
    answered: list[str] = []
    for _ in range(4):
        answered += killed_after(rng.randrange(90), code)
    last = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *rest, count = last.stdout.splitlines()
    assert count == "200 replies"
    assert set(answered + rest) == {request.id for request in REQUESTS}
    # Each kill costs what came since the last commit.
    assert len(answered + rest) <= 200 + 4 * 64


def test_of_two_builds_that_ask_at_the_same_time_the_first_reply_counts(tmp_path: Path) -> None:
    path = tmp_path / "j"
    builds = [journaled(Counted(), path, f"queries@0.{n}.0").generate(REQUESTS[:10]) for n in (1, 2)]
    begun = [next(replies) for replies in builds]
    assert [len(list(replies)) for replies in builds] == [9, 9] and begun[0] == begun[1]
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("SELECT count(*) FROM reply").fetchone() == (20,)
        database.execute("UPDATE reply SET text = 'of the second' WHERE id > 10")
    assert count(path) == 10
    again = journaled(silent := Counted(), path, "queries@0.3.0")
    replies = list(again.generate(REQUESTS[:10]))
    assert not silent.answered and "of the second" not in {reply.text for reply in replies}
    assert (prune(path, (), unfinished=False, locked=[]), count(path)) == (10, 10)


def test_messages_template_options_and_reasoning_are_kept(tmp_path: Path) -> None:
    """The same text as messages, or under other template options, is another request."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    model, sampling = Model("fake/m", "1"), Sampling(40)
    requests = [
        Request("text", model, "", "Why?", sampling, seed=1),
        Request.chat("plain", model, messages[1:], sampling, seed=1),
        Request.chat("system", model, messages, sampling, seed=1),
        Request.chat("thinks", model, messages, sampling, seed=1, template_options={"enable_thinking": True}),
    ]
    engine = Counted()
    written = {reply.id: reply for reply in journaled(engine, tmp_path / "j").generate(requests)}
    read = {reply.id: reply for reply in journaled(engine, tmp_path / "j").generate(requests)}
    assert len(engine.answered) == len(requests)
    assert read == written
    assert len({reply.text for reply in read.values()}) == len(requests)
    assert [bool(read[request.id].reasoning) for request in requests] == [False, False, False, True]


def test_requests_are_read_and_asked_window_by_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WINDOW", 30)
    read = 0

    def requests() -> Iterator[Request]:
        nonlocal read
        for request in REQUESTS:
            read += 1
            yield request

    engine = Counted()
    for number, _ in enumerate(journaled(engine, tmp_path / "j", "b@1.0.0").generate(requests())):
        assert len(engine.answered) <= read <= (number // 30 + 1) * 30
    assert status(tmp_path / "j")[0].answered == count(tmp_path / "j") == len(REQUESTS)


def test_a_key_is_that_of_the_whole_prompt() -> None:
    request = REQUESTS[0]
    assert key(replace(request, prefix="", text=request.prompt)) == key(request)
    assert key(replace(request, prefix="he", text=request.prompt[2:])) == key(request)
    assert key(replace(request, text="prompt 01")) != key(request)


def test_failures_are_counted_over_all_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WINDOW", 20)
    engine = Counted(fail=frozenset(str(n) for n in range(10, 200, 20)))
    replies = journaled(engine, tmp_path / "j", max_failures=0.05).generate(REQUESTS)
    assert sum(reply.error is not None for reply in replies) == 10
    with pytest.raises(RuntimeError, match="2 of 20 requests failed"):
        list(journaled(Counted(fail=frozenset("23")), tmp_path / "j2", max_failures=0.05).generate(REQUESTS))


def test_a_journal_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the store of a colleague: nothing can be written beside it."""
    path = tmp_path / "j"
    list(journaled(FakeEngine(), path, "build").generate(REQUESTS))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert count(path) == status(path)[0].answered == len(REQUESTS)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RuntimeError, match="cannot be read or written: attempt to write a readonly"):
        list(journaled(FakeEngine(), path, "another").generate(REQUESTS))
