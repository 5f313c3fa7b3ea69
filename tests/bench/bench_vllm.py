"""Our vLLM engine, with its journal, against vLLM used directly, and against two slower ways.

    python -m tests.bench vllm

All sides get SmolLM2-135M, the same requests (3-shot prompts of about 500 tokens, 128 new tokens), no row
seeds, the same threads and the same memory for keys and values. Each engine is warm: it has answered a few
of the requests before the clock starts. The released code's pattern is synchronous batches of 4; that it
also loads an engine anew for each responder is not counted here.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from almost_data.generation import Model, Reply, Request, Sampling, prompts
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession
from almost_data.generation.vllm import CPU_CACHE_BYTES, VLLMEngine
from almost_data.models import weights
from almost_data.models.chat import user_turn
from tests.bench import Result
from tests.bench.bench_transformers import MODEL, QUESTIONS, time_plain

COUNT = 96
NEW = 128
ROUNDS = 2
FEW = 16
"""Requests that the slow ways are timed on, once: their batches are all alike."""


def requests_of(model: Model, count: int, start: int = 0) -> list[Request]:
    """Different from round to round, so that only the shared prefix is ever found in a cache."""
    head = prompts.load("hhh").head(3)
    sampling = Sampling(NEW, 1.0, 0.9)
    questions = [f"{QUESTIONS[n % len(QUESTIONS)]} ({n})" for n in range(start, start + count)]
    return [
        Request(str(n), model, head, prompts.ask(user_turn(text)), sampling, seed=n)
        for n, text in enumerate(questions)
    ]


def rate(answer: Callable[[list[Request]], int], model: Model, count: int, rounds: int = 1) -> float:
    """New tokens a second, the mean of the rounds, after a warm-up."""
    answer(requests_of(model, 4))
    tokens = seconds = 0.0
    for number in range(rounds):
        requests = requests_of(model, count, 1000 * (number + 1))
        start = time.perf_counter()
        tokens += answer(requests)
        seconds += time.perf_counter() - start
    return tokens / seconds


def ours(engine: VLLMEngine, journal: Path) -> Callable[[list[Request]], int]:
    def answer(requests: list[Request]) -> int:
        return sum(
            reply.completion_tokens
            for reply in JournaledGenerator(engine, JournalSession(journal)).generate(requests)
        )

    return answer


def bare(llm: Any, at_once: int | None) -> Callable[[list[Request]], int]:
    from vllm import SamplingParams

    how = SamplingParams(max_tokens=NEW, temperature=1.0, top_p=0.9)

    def answer(requests: list[Request]) -> int:
        tokens, size = 0, at_once or len(requests)
        for at in range(0, len(requests), size):
            texts = [request.prompt for request in requests[at : at + size]]
            done = llm.generate(texts, how, use_tqdm=False)
            tokens += sum(len(output.outputs[0].token_ids) for output in done)
        return tokens

    return answer


def plain(folder: Path) -> Callable[[list[Request]], int]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    network.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return lambda requests: time_plain(network, tokenizer, requests, "sdpa", 16, NEW)[0]


class Replay:
    """Gives replies that are there already, so that all the time is the journal's."""

    name, honours_seed, load_seconds = "replay", False, 0.0

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies

    def resolve(self, model: Model) -> Model:
        return model

    def settings(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        yield from self.replies

    def close(self) -> None:
        pass


def journal_share(engine: VLLMEngine, model: Model, folder: Path) -> float:
    """Percent of a generation run's time that goes into keeping its replies."""
    requests = requests_of(model, COUNT, 500)
    start = time.perf_counter()
    replies = list(engine.generate(requests))
    whole = time.perf_counter() - start
    start = time.perf_counter()
    assert (
        len(list(JournaledGenerator(Replay(replies), JournalSession(folder / "share")).generate(requests)))
        == COUNT
    )
    return 100 * (time.perf_counter() - start) / whole


def run() -> list[Result]:
    model = weights.locate(Model(MODEL))
    folder = weights.fetch(model)
    engine = VLLMEngine(kv_cache_memory_bytes=CPU_CACHE_BYTES)
    with tempfile.TemporaryDirectory() as journal:
        fast = rate(ours(engine, Path(journal) / "j"), model, COUNT, ROUNDS)
        share = journal_share(engine, model, Path(journal))
    loading = engine.load_seconds
    engine.close()

    from vllm import LLM

    llm = LLM(str(folder), kv_cache_memory_bytes=CPU_CACHE_BYTES)
    direct = rate(bare(llm, None), model, COUNT, ROUNDS)
    fours = rate(bare(llm, 4), model, FEW)
    llm.llm_engine.engine_core.shutdown()
    slow = rate(plain(folder), model, FEW)
    label = f"vLLM engine with journal, SmolLM2-135M, {COUNT} requests, {NEW} new tokens"
    return [
        Result(f"{label}: against LLM.generate", "tokens/s", fast, direct, "0.95x"),
        Result(f"{label}: against synchronous batches of 4", "tokens/s", fast, fours, ""),
        Result(f"{label}: against transformers' generate", "tokens/s", fast, slow, ""),
        Result("journal: share of that run", "%", share, None, "2 at most"),
        Result("vLLM engine: starting it", "s", loading, None, ""),
    ]
