"""What every engine promises, whatever runs the model. A new engine adds one entry to `ENGINES`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.generation import Generator, Model, Reply, Request, Sampling

PREFIX = "A talk.\n\n-----\n\nHuman: Is it old?\n\nAssistant: Yes.\n\n-----\n\n"


@dataclass(frozen=True)
class Bench:
    """An engine under test: how to make a fresh one, models of its, and one that is not there."""

    make: Callable[[], Generator]
    models: tuple[Model, ...]
    """Two, or one where another is a start of the engine."""
    missing: Model | None
    context: int | None
    """Its models' context in tokens, if they have one."""
    close: Callable[[], object] = lambda: None
    has_template: bool = False
    """Whether its models read messages by `CHAT_TEMPLATE`."""


def _fake(folder: Path) -> Bench:
    from almost_data.generation.fake import FakeEngine

    return Bench(FakeEngine, (Model("fake/one"), Model("fake/two")), missing=None, context=None)


def _transformers(folder: Path) -> Bench:
    pytest.importorskip("transformers")
    from almost_data.generation.transformers import TransformersEngine
    from tests.tiny_models import CHAT_TEMPLATE, save_tiny

    return Bench(
        # fp32: batches of different size agree to the last digit that decides a token.
        lambda: TransformersEngine(batch=4, dtype="float32", device="cpu"),
        (
            Model(str(save_tiny(folder / "one", "llama", seed=1, template=CHAT_TEMPLATE))),
            Model(str(save_tiny(folder / "two", "gemma3", seed=2, bos=True, template=CHAT_TEMPLATE))),
        ),
        missing=Model(str(folder / "nowhere")),
        context=256,
        has_template=True,
    )


def _padded(folder: Path) -> Bench:
    """The same engine on models that it cannot pack."""
    bench = _transformers(folder)
    from tests.tiny_models import CHAT_TEMPLATE, save_tiny

    first, second = (
        Model(str(save_tiny(folder / f"bloom{seed}", "bloom", seed=seed, template=CHAT_TEMPLATE)))
        for seed in (3, 4)
    )
    return replace(bench, models=(first, second), context=None)


def _ray(folder: Path) -> Bench:
    """A worker that runs the fake engine; several workers, real models and deaths are in test_ray."""
    pytest.importorskip("ray")
    from almost_data.generation.ray import RayEngine

    return replace(_fake(folder), make=lambda: RayEngine(engine="fake", batch=3, cpus=0.5))


def _openai(folder: Path) -> Bench:
    """A server made for tests; a real one answers in test_openai."""
    from almost_data.generation.openai import OpenAIEngine
    from tests.completions_server import CompletionsServer

    server = CompletionsServer(("one", "two"))
    return Bench(
        lambda: OpenAIEngine(base_url=(server.url,)),
        (Model("one"), Model("two")),
        missing=None,
        context=256,
        close=server.__exit__,
    )


def _vllm(engine: Generator, model: Model, folder: Path) -> Bench:
    """Real vLLM, the same engine that test_vllm has."""
    return Bench(
        lambda: engine, (model,), missing=Model(str(folder / "nowhere")), context=1024, has_template=True
    )


def _journaled(folder: Path) -> Bench:
    """The journal is an engine too: each a new file here, and a filled one in test_journal."""
    from almost_data.generation.fake import FakeEngine
    from almost_data.generation.journal import JournaledGenerator
    from almost_data.generation.journal_file import JournalSession

    files = (folder / f"journal{number}.sqlite" for number in count())
    return replace(
        _fake(folder),
        make=lambda: JournaledGenerator(FakeEngine(), JournalSession(next(files)), max_failures=1.0),
    )


def _outside(folder: Path) -> Bench:
    """An engine in a file of its own, which knows the public API alone."""
    from almost_data.generation import engines

    file = Path(__file__).with_name("my_engine.py")
    return replace(_fake(folder), make=lambda: engines.load(f"{file}:ENGINE"))


ENGINES: dict[str, Callable[[Path], Bench]] = {
    "fake": _fake,
    "journaled": _journaled,
    "openai": _openai,
    "outside": _outside,
    "ray": _ray,
    "transformers": _transformers,
    "transformers, padded": _padded,
}


SERVERS = ("ray", "vllm")
"""Engines that start processes of their own."""
REAL = (*SERVERS, "transformers", "transformers, padded")
"""Engines that run a model."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.engine if name in REAL else ()) for name in (*ENGINES, "vllm")
    ],
)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALMOST_DATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        if request.param == "vllm":
            engine, model = map(request.getfixturevalue, ("vllm_engine", "vllm_model"))
            bench = _vllm(engine, model, folder)
        else:
            bench = ENGINES[request.param](folder)
        yield bench
        bench.close()


@pytest.fixture(scope="module")
def engine(bench: Bench) -> Iterator[Generator]:
    engine = bench.make()
    yield engine
    if engine.name != "vllm":  # the next file has it too
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
    if engine.name != "vllm":
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
    if bench.context:
        requests.append(replace(good, id="long", text="why " * bench.context))
        requests.append(replace(good, id="greedy", sampling=Sampling(max_new_tokens=bench.context)))
    replies = answers(engine, requests)
    assert replies.pop(good.id).error is None
    for reply in replies.values():
        assert reply.finish_reason == "error"
        assert reply.error
        assert reply.text == ""


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


# --- messages ------------------------------------------------------------------------------------------

SHARED = (
    {"role": "system", "content": "You answer as a gardener does."},
    {"role": "user", "content": "Is it old?"},
    {"role": "assistant", "content": "Yes."},
)


@pytest.fixture
def model(bench: Bench) -> Model:
    """A model that is asked with messages."""
    return bench.models[0]


def chat(model: Model, count: int = 6, options: dict[str, object] | None = None) -> list[Request]:
    return [
        Request.chat(
            f"chat-{n}",
            model,
            (*SHARED, {"role": "user", "content": f"{'why ' * n}?"}),
            Sampling(max_new_tokens=12, top_p=0.9),
            seed=n,
            shared_messages=len(SHARED),
            template_options=options,
        )
        for n in range(count)
    ]


def test_messages_are_answered_beside_text(bench: Bench, engine: Generator, model: Model) -> None:
    requests = [request for pair in zip(ask(model), chat(model), strict=True) for request in pair]
    replies = answers(engine, requests)
    assert all(reply.error is None and reply.prompt_tokens for reply in replies.values())
    assert not any(reply.reasoning for reply in replies.values())
    if engine.honours_seed:
        assert replies == answers(engine, ask(model)) | answers(engine, chat(model)[::-1])
        assert answers(engine, chat(model)[:1])["chat-0"] == replies["chat-0"]


def test_a_model_reads_what_its_template_writes(bench: Bench, engine: Generator, model: Model) -> None:
    if not bench.has_template:
        pytest.skip("its models have no template")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.id)
    for options in ({}, {"enable_thinking": True}):
        requests = chat(model, options=options)
        replies = answers(engine, requests)
        for request in requests:
            ids = tokenizer.apply_chat_template(
                request.messages, add_generation_prompt=True, return_dict=False, **options
            )
            assert replies[request.id].prompt_tokens == len(ids)


def test_a_chat_that_cannot_be_run_is_an_error_reply(bench: Bench, engine: Generator, model: Model) -> None:
    good, empty, long, refused = chat(model, 4)
    requests = [good, replace(empty, messages=(), shared_messages=0)]
    if bench.context:
        requests.append(replace(long, messages=({"role": "user", "content": "why " * bench.context},)))
    if bench.has_template:
        requests.append(replace(refused, messages=(*refused.messages, SHARED[0])))
    replies = answers(engine, requests)
    assert replies.pop(good.id).error is None
    for reply in replies.values():
        assert (reply.finish_reason, reply.text) == ("error", "")
        assert reply.error
    if bench.has_template:
        assert "a system turn comes first" in str(replies[refused.id].error)


def test_reasoning_is_kept_apart(bench: Bench, engine: Generator, model: Model) -> None:
    if not bench.has_template and engine.name != "fake":
        pytest.skip("its models do not think")
    for reply in answers(engine, chat(model, options={"enable_thinking": True})).values():
        assert reply.reasoning
        # A random model never closes what its prompt has opened.
        assert bool(reply.text) == (not bench.has_template)


def test_journaled_replies_to_messages_are_not_computed_again(
    bench: Bench, engine: Generator, model: Model, tmp_path: Path
) -> None:
    from almost_data.generation.journal import JournaledGenerator
    from almost_data.generation.journal_file import JournalSession

    thinking = [
        replace(request, id=f"{request.id}!") for request in chat(model, 3, {"enable_thinking": True})
    ]
    requests = [*ask(model, 3), *chat(model, 3), *thinking]
    first, second = (JournaledGenerator(engine, JournalSession(tmp_path / "journal")) for _ in range(2))
    assert answers(first, requests) == answers(second, requests)
    assert (first.counts.computed, second.counts.computed) == (9, 0)


# --- what loads models again, last and in the order that loads the fewest ------------------------------


def test_several_models_in_one_call(bench: Bench, engine: Generator) -> None:
    if len(bench.models) < 2:
        pytest.skip("a start takes long: test_vllm has a ladder of two models")
    first, second = (ask(model) for model in bench.models)
    mixed = [request for pair in zip(first, second, strict=True) for request in pair]
    alone = answers(engine, first)
    together = answers(engine, mixed)
    assert together == alone | answers(engine, second)
    assert [together[request.id].text for request in first] != [
        together[request.id].text for request in second
    ]


def test_closed_it_answers_again(bench: Bench, engine: Generator) -> None:
    if engine.name in SERVERS:
        pytest.skip("a start takes long: test_ray closes its engine, and test_vllm changes the model")
    requests = ask(bench.models[-1])  # which is loaded
    before = answers(engine, requests)
    for _ in range(2):
        engine.close()
    after = answers(engine, requests)
    assert after.keys() == before.keys()
    assert after == before or not engine.honours_seed
