"""Engines in Ray's workers: the replies of the engine itself, whatever the workers do or suffer."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.generation import CannotStart, Model, Reply, Request, Sampling, cluster, engines
from almost_data.generation import ray as ray_engine
from almost_data.generation.fake import FakeEngine
from almost_data.generation.isolate import generate_isolated
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession
from almost_data.generation.ray import RayEngine
from tests.waiting import until

pytestmark = [pytest.mark.engine, pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")]

MODEL = Model("fake/one", "1")


def ask(count: int, model: Model = MODEL, prefix: str = "A talk.\n\n") -> list[Request]:
    return [
        Request(f"{model.id}-{n}", model, prefix * (n % 3), f"Human: why {n}?", Sampling(12), seed=2**62 + n)
        for n in range(count)
    ]


def by_id(replies: Iterable[Reply]) -> dict[str, Reply]:
    listed = list(replies)
    assert len({reply.id for reply in listed}) == len(listed)
    return {reply.id: reply for reply in listed}


def plain(requests: list[Request]) -> dict[str, Reply]:
    return by_id(FakeEngine().generate(requests))


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    """One Ray for all of this file."""
    cluster.start(None)
    import ray

    yield
    ray.shutdown()


ENGINES = Path(__file__).with_name("worker_engines.py")
HELD, MORTAL, WATCHED = (f"{ENGINES}:{name}" for name in ("Held", "Mortal", "Watched"))


def process_of(engine: RayEngine) -> int:
    """The process of the worker that answered last."""
    return int(engine.settings()["worker"]["decoding"]["process"])


@pytest.mark.usefixtures("started")
def test_two_workers_give_the_replies_of_the_engine_itself() -> None:
    first, second = ask(50), ask(9, Model("fake/two", "1"))
    requests = [replace(first[0], prefix="", text=""), *first[1:], *second]
    replies = by_id(RayEngine("fake", workers=2, batch=8).generate(requests))
    assert replies == plain(requests)
    assert replies[first[0].id].error


@pytest.mark.usefixtures("started")
def test_replies_come_batch_by_batch_and_may_be_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    engine = RayEngine(HELD, workers=2, batch=3)
    coming = engine.generate(ask(300))
    first = list(islice(coming, 12))  # of four batches, while the fifth is held
    assert sum(reply.load_seconds for reply in first) == pytest.approx(4 * 0.25)
    settings = engine.settings()
    assert json.loads(json.dumps(settings)) == settings
    coming.close()  # type: ignore[attr-defined]
    engine.close()
    assert len(list(tmp_path.glob("begun-*"))) < 100, "it waited for all of them"


@pytest.mark.usefixtures("started")
def test_closed_its_workers_are_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And with them what they had in memory, which a reward model may want next."""
    monkeypatch.chdir(tmp_path)
    engine = RayEngine(HELD, batch=3)
    engine.close()
    for _ in range(2):
        assert by_id(engine.generate(ask(3))) == plain(ask(3))
        worker = process_of(engine)
        engine.close()
        assert not Path(f"/proc/{worker}").exists()


@pytest.mark.usefixtures("started")
def test_killed_between_calls_and_within_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No reply is lost, and what was handed over is not asked for again."""
    monkeypatch.chdir(tmp_path)
    engine = RayEngine(WATCHED, batch=9)
    replies = list(engine.generate(ask(3)))
    os.kill(process_of(engine), signal.SIGKILL)
    requests = ask(12, Model("fake/two", "1"))
    coming = engine.generate(requests)
    replies += islice(coming, 3)
    handed_over = [reply.id for reply in replies]
    os.kill(process_of(engine), signal.SIGKILL)
    replies += coming
    assert by_id(replies) == plain([*ask(3), *requests])
    times = Counter(Path(f"asked-{socket.gethostname()}").read_text().split())
    assert [times[id] for id in handed_over] == [1] * 6
    engine.close()


@pytest.mark.usefixtures("started")
def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path) -> None:
    requests = ask(40)
    requests[17] = replace(requests[17], prefix="", text=str(tmp_path / "grave"))
    replies = by_id(RayEngine(MORTAL, workers=2, batch=5).generate(requests))
    assert (tmp_path / "grave").exists()
    assert replies == plain(requests)


@pytest.mark.usefixtures("started")
def test_a_request_that_always_kills_fails_alone(tmp_path: Path) -> None:
    doomed, harmless = ask(2)
    doomed = replace(doomed, text=str(tmp_path / "nowhere" / "grave"))
    replies = by_id(generate_isolated(RayEngine(MORTAL), [doomed, harmless]))
    assert [id for id, reply in replies.items() if reply.error] == [doomed.id]


@pytest.mark.usefixtures("started")
def test_a_worker_that_cannot_start_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine._Worker, "process", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(CannotStart, match="Ray cannot start a worker: "):
        list(RayEngine("fake").generate(ask(1)))


@pytest.mark.usefixtures("started")
def test_what_a_worker_cannot_run_is_told_as_the_engine_tells_it(tmp_path: Path) -> None:
    requests = ask(3, Model(str(tmp_path / "nowhere")))
    with pytest.raises(InputError) as local:
        list(engines.load("transformers").generate(requests))
    with pytest.raises(InputError) as remote:
        list(RayEngine("transformers").generate(requests))
    assert str(remote.value) == str(local.value)


@pytest.mark.usefixtures("started")
def test_a_real_model_replies_as_it_does_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from tests.tiny_models import save_tiny

    save_tiny(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    options = {"dtype": "float32", "device": "cpu"}
    requests = ask(9, Model("one"))
    engine = RayEngine("transformers", batch=4, options=options)
    local = engines.load("transformers", options)
    assert engine.honours_seed
    assert engine.resolve(Model("one")) == local.resolve(Model("one"))
    first, second = (by_id(engine.generate(requests)) for _ in range(2))
    assert first == second == by_id(local.generate(requests))
    assert sum(reply.load_seconds for reply in first.values()) > 0
    assert sum(reply.load_seconds for reply in second.values()) == 0, "the model is still loaded"
    assert engine.settings()["worker"]["decoding"] == {"one": "packed"}


@pytest.mark.usefixtures("started")
def test_the_journal_is_written_where_the_build_runs(tmp_path: Path) -> None:
    path, requests = tmp_path / "journal.sqlite", ask(30)
    first = JournaledGenerator(RayEngine("fake", workers=2, batch=4), JournalSession(path))
    assert by_id(first.generate(requests)) == plain(requests)
    second = JournaledGenerator(RayEngine("fake"), JournalSession(path))
    assert by_id(second.generate(requests)) == plain(requests)
    assert (first.counts.computed, second.counts.computed, second.counts.from_journal) == (30, 0, 30)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("much", [{"workers": 1000}, {"cpus": 1000.0}, {"gpus": 64.0}])
def test_more_than_there_is_room_for_is_refused(much: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"room for 0|room for \d+, on 1 machine"):
        list(engines.load("ray", {"engine": "fake", **much}).generate(ask(1)))


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("address", "error"),
    [("127.0.0.1:9", CannotStart), ("head", InputError), ("ray://head:1", InputError)],
)
def test_a_wrong_address_is_said_at_once(
    address: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(error, match=f"engine.ray_address {address}: "):
        list(RayEngine("fake", ray_address=address).generate(ask(1)))


@pytest.mark.parametrize("options", [{"engine": "ray"}, {"workers": 0}, {"batch": 0}, {"cpus": -1.0}])
def test_options_that_are_none_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"engine.{next(iter(options))}"):
        engines.load("ray", {"engine": "fake"} | options)


def test_ray_is_not_started_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "start", pytest.fail)
    engine = RayEngine("fake")
    assert list(engine.generate([])) == []
    with pytest.raises(ValueError, match="occurs twice"):
        list(engine.generate(ask(1) * 2))


def test_ray_says_nothing_and_ends_with_the_process() -> None:
    code = (
        "from almost_data.generation import Model, Request, Sampling\n"
        "from almost_data.generation.ray import RayEngine\n"
        "request = Request('1', Model('fake/one', '1'), '', 'why', Sampling(5))\n"
        "print(len(list(RayEngine('fake').generate([request]))))\n"
        "import ray; print(ray.get_runtime_context().get_session_name())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, session = run.stdout.split()
    assert (count, run.stderr) == ("1", "")
    find = ["pgrep", "-f", session]
    until(lambda: subprocess.run(find, capture_output=True, check=False).returncode, "Ray has ended")
