"""What every engine promises, whatever runs the model. A new engine adds one entry to `ENGINES`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.generation import Generator, Model, Reply, Request, Sampling

PREFIX = "A talk.\n\n-----\n\nHuman: Is it old?\n\nAssistant: Yes.\n\n-----\n\n"
CONTEXT = 256


@dataclass(frozen=True)
class Bench:
    """An engine under test: how to make a fresh one, two models of its, and one that is not there."""

    make: Callable[[], Generator]
    models: tuple[Model, Model]
    missing: Model | None
    limited: bool
    """Whether its models have a context of `CONTEXT` tokens."""
    close: Callable[[], object] = lambda: None


def _fake(folder: Path) -> Bench:
    from almost_data.generation.fake import FakeEngine

    return Bench(FakeEngine, (Model("fake/one"), Model("fake/two")), missing=None, limited=False)


def _transformers(folder: Path) -> Bench:
    pytest.importorskip("transformers")
    from almost_data.generation.transformers import TransformersEngine
    from tests.tiny_models import save_tiny

    return Bench(
        # fp32: batches of different size agree to the last digit that decides a token.
        lambda: TransformersEngine(batch=4, dtype="float32", device="cpu"),
        (
            Model(str(save_tiny(folder / "one", "llama", seed=1))),
            Model(str(save_tiny(folder / "two", "gemma3", seed=2, bos=True))),
        ),
        missing=Model(str(folder / "nowhere")),
        limited=True,
    )


def _padded(folder: Path) -> Bench:
    """The same engine on models that it cannot pack."""
    bench = _transformers(folder)
    from tests.tiny_models import save_tiny

    first, second = (Model(str(save_tiny(folder / f"bloom{seed}", "bloom", seed=seed))) for seed in (3, 4))
    return replace(bench, models=(first, second), limited=False)


def _ray(folder: Path) -> Bench:
    """Two workers that run the fake engine; real models and deaths are in test_ray."""
    pytest.importorskip("ray")
    from almost_data.generation.ray import RayEngine

    return replace(_fake(folder), make=lambda: RayEngine(engine="fake", workers=2, batch=3, cpus=0.5))


def _openai(folder: Path) -> Bench:
    """A server made for tests; a real one answers in test_openai."""
    pytest.importorskip("openai")
    from almost_data.generation.openai import OpenAIEngine
    from tests.completions_server import CompletionsServer

    server = CompletionsServer(("one", "two"))
    return Bench(
        lambda: OpenAIEngine(base_url=(server.url,)),
        (Model("one"), Model("two")),
        missing=Model("three"),
        limited=True,
        close=server.__exit__,
    )


def _vllm(folder: Path) -> Bench:
    """Real vLLM on its smallest models: no compilation, and a head size that its CPU attention has."""
    if not find_spec("vllm"):  # importing it here would be before the engine sets how it logs
        pytest.skip("vLLM is not installed")
    from almost_data.generation.vllm import VLLMEngine
    from tests.tiny_models import save_tiny

    first, second = (
        Model(str(save_tiny(folder / f"vllm{seed}", seed=seed, hidden_size=128, head_dim=32)))
        for seed in (1, 2)
    )
    return Bench(
        lambda: VLLMEngine(
            row_seeds=True, dtype="float32", enforce_eager=True, kv_cache_memory_bytes=64 << 20
        ),
        (first, second),
        missing=Model(str(folder / "nowhere")),
        limited=True,
    )


def _journaled(folder: Path) -> Bench:
    """The journal is an engine too: each a new file here, and a filled one in test_journal."""
    from almost_data.generation.fake import FakeEngine
    from almost_data.generation.journal import JournaledGenerator
    from almost_data.generation.journal_file import JournalSession

    files = (folder / f"journal{number}.sqlite" for number in count())
    return replace(_fake(folder), make=lambda: JournaledGenerator(FakeEngine(), JournalSession(next(files))))


def _outside(folder: Path) -> Bench:
    """An engine in a file of its own, which knows the public API alone."""
    from almost_data.generation import engines

    file = Path(__file__).with_name("my_engine.py")
    return replace(_fake(folder), make=lambda: engines.load(f"{file}:ENGINE"))


ENGINES = {
    "fake": _fake,
    "journaled": _journaled,
    "openai": _openai,
    "outside": _outside,
    "ray": _ray,
    "transformers": _transformers,
    "transformers, padded": _padded,
    "vllm": _vllm,
}


SERVERS = {"ray", "vllm"}
"""Engines that start processes of their own."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.engine if name in SERVERS else ()) for name in ENGINES],
)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALMOST_DATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        bench = ENGINES[request.param](tmp_path_factory.mktemp("models"))
        yield bench
        bench.close()


@pytest.fixture(scope="module")
def engine(bench: Bench) -> Iterator[Generator]:
    engine = bench.make()
    yield engine
    engine.close()


def ask(model: Model, count: int = 6, **sampling: object) -> list[Request]:
    chosen = replace(Sampling(max_new_tokens=12, top_p=0.9), **sampling)  # type: ignore[arg-type]
    return [
        Request(f"{model.id}-{n}", model, PREFIX, f"Human: {'why ' * n}?\n\nAssistant:", chosen, seed=n)
        for n in range(count)
    ]


def answers(engine: Generator, requests: list[Request]) -> dict[str, Reply]:
    replies = list(engine.generate(requests))
    assert sorted(reply.id for reply in replies) == sorted(request.id for request in requests)
    return {reply.id: reply for reply in replies}


def test_every_request_gets_one_reply(bench: Bench, engine: Generator) -> None:
    for reply in answers(engine, ask(bench.models[0], 11)).values():
        assert reply.error is None
        assert reply.finish_reason in ("stop", "length")
        assert reply.prompt_tokens > 0


def test_no_requests_no_replies(engine: Generator) -> None:
    assert list(engine.generate([])) == []


def test_several_models_in_one_call(bench: Bench, engine: Generator) -> None:
    first, second = (ask(model) for model in bench.models)
    mixed = [request for pair in zip(first, second, strict=True) for request in pair]
    together = answers(engine, mixed)
    assert together == answers(engine, second) | answers(engine, first)  # in the order that loads the least
    assert [together[request.id].text for request in first] != [
        together[request.id].text for request in second
    ]


def test_max_tokens_end_a_reply(bench: Bench, engine: Generator) -> None:
    replies = answers(engine, ask(bench.models[0], max_new_tokens=3)).values()
    assert all(reply.completion_tokens <= 3 for reply in replies)
    assert all(reply.completion_tokens == 3 for reply in replies if reply.finish_reason == "length")
    assert any(reply.finish_reason == "length" for reply in replies)


def test_stop_strings_are_cut_off(bench: Bench, engine: Generator) -> None:
    """A stop string taken from the middle of a reply ends that same reply just before it."""
    free = answers(engine, ask(bench.models[0], max_new_tokens=40))
    request = next(r for r in ask(bench.models[0], max_new_tokens=40) if len(free[r.id].text) > 12)
    text = free[request.id].text
    stop = text[6:9]
    stopped = replace(request, sampling=replace(request.sampling, stop=("never there", stop)))
    reply = answers(engine, [stopped])[request.id]
    assert reply.text == text[: text.index(stop)]
    assert reply.finish_reason == "stop"
    assert reply.completion_tokens < free[request.id].completion_tokens


def test_the_seed_decides_the_reply(bench: Bench, engine: Generator) -> None:
    if not engine.honours_seed:
        pytest.skip("this engine does not promise it")
    requests = ask(bench.models[0], 9)
    fresh = bench.make()
    whole = answers(fresh, requests)
    fresh.close()
    assert answers(engine, requests[::-1]) == whole
    for request in requests[:3]:
        assert answers(engine, [request]) == {request.id: whole[request.id]}
    reseeded = answers(engine, [replace(request, seed=100 + n) for n, request in enumerate(requests)])
    assert any(reseeded[id].text != reply.text for id, reply in whole.items())


def test_a_request_may_have_no_seed(bench: Bench, engine: Generator) -> None:
    requests = [replace(request, seed=None) for request in ask(bench.models[0])]
    assert all(reply.error is None for reply in answers(engine, requests).values())


def test_what_cannot_be_run_is_an_error_reply(bench: Bench, engine: Generator) -> None:
    good, empty, *_ = ask(bench.models[0])
    requests = [good, replace(empty, prefix="", text="")]
    if bench.limited:
        requests.append(replace(good, id="long", text="why " * CONTEXT))
        requests.append(replace(good, id="greedy", sampling=Sampling(max_new_tokens=CONTEXT)))
    replies = answers(engine, requests)
    assert replies.pop(good.id).error is None
    for reply in replies.values():
        assert reply.finish_reason == "error"
        assert reply.error
        assert reply.text == ""


def test_closed_it_answers_again(bench: Bench, engine: Generator) -> None:
    requests = ask(bench.models[0])
    before = answers(engine, requests)
    for _ in range(2):
        engine.close()
    after = answers(engine, requests)
    assert after.keys() == before.keys()
    assert after == before or not engine.honours_seed


def test_a_request_id_occurs_once(bench: Bench, engine: Generator) -> None:
    request = ask(bench.models[0], 1)[0]
    with pytest.raises(ValueError, match="id"):
        list(engine.generate([request, request]))


def test_resolve_pins_a_revision(bench: Bench, engine: Generator) -> None:
    for model in bench.models:
        pinned = engine.resolve(model)
        assert pinned.revision
        assert engine.resolve(pinned) == pinned
        assert engine.resolve(model) == pinned


def test_resolve_refuses_what_is_not_there(bench: Bench, engine: Generator) -> None:
    if bench.missing is None:
        pytest.skip("this engine takes any name")
    with pytest.raises(InputError):
        engine.resolve(bench.missing)


def test_settings_are_plain_values(engine: Generator) -> None:
    import json

    assert json.loads(json.dumps(engine.settings())) == engine.settings()
