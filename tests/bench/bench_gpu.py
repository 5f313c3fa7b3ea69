"""Rates on a GPU: the engines by few-shot text and by chat, reward scores, and the steps of all five recipes.

    python -m tests.bench gpu
    python -m tests.bench.bench_gpu [--size tiny] [--parts engines|recipes]

The model has the shape of Qwen3-0.6B with random weights, and a tokenizer of one word a token, so that every
text has the tokens that it is said to have. No reply of an engine ends early. The plain way of generation is
left-padded `generate` at the best of a few batch sizes, that of scoring is batches sorted by length. Recipes
run as a user runs them, with bfloat16 arithmetic on float32 weights and TRL's defaults for the rest; their
rates are those of the manifest, first step included. PPO needs TRL 1.12 (`make .venv/.ppo`, or its folder in
ALMOST_DATA_PPO). Each part is a run of its own where ten minutes are the limit; `--size tiny` tries all of
it on a CPU.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from almost_data.generation import Model, Request, Sampling
from almost_data.generation.transformers import TransformersEngine
from almost_data.models import weights
from almost_data.store.store import Store
from tests.bench import Result, bench_scoring, bench_transformers
from tests.overlay import FOLDER

ROOT = Path(__file__).parents[2]
VERSION = "0.1.0"
PARTS = ("engines", "recipes")
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Size:
    """What is run: a model's shape, requests, and training steps."""

    name: str
    shape: dict[str, int]
    words: int
    """The vocabulary."""
    shared: int
    """Few-shot tokens that all requests share."""
    requests: int
    new: int
    """New tokens of each reply."""
    batches: tuple[int, ...]
    """Batch sizes that plain `generate` may choose from."""
    dialogues: int
    side: int
    """Tokens of a dialogue in training."""
    rows: int
    """Rows of an optimizer step of rm, sft and dpo."""
    episodes: int
    """Replies of a step of rloo and ppo."""
    response: int
    """Tokens of such a reply."""
    steps: int
    policy_steps: int


SIZES = {
    "qwen3-0.6b": Size(
        "Qwen3-0.6B's shape",
        {
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        words=151_900,
        shared=1000,
        requests=256,
        new=128,
        batches=(128, 256),
        dialogues=2048,
        side=512,
        rows=16,
        episodes=64,
        response=128,
        steps=20,
        policy_steps=4,
    ),
    "tiny": Size(
        "a tiny model",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
        },
        words=900,
        shared=40,
        requests=8,
        new=8,
        batches=(4, 8),
        dialogues=32,
        side=48,
        rows=4,
        episodes=8,
        response=8,
        steps=3,
        policy_steps=2,
    ),
}


def save_model(folder: Path, size: Size) -> Path:
    """A random chat model whose tokenizer has `size.words` words, saved in `folder` in bfloat16."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

    names = "<eos> <pad> <unk> Ċ ĊĊ Human: Assistant: <system> <user> <assistant> Ġgood Ġbad".split()
    vocabulary = {name: id for id, name in enumerate([*names, *(f"Ġw{n}" for n in range(size.words))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\S+|\s+"), "isolated"),  # a word's space is its own, as in BPE
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = Qwen3Config(
        **size.shape,
        vocab_size=len(vocabulary),
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def words(size: Size, count: int, seed: object) -> str:
    """`count` tokens of text."""
    return " ".join(f"w{n}" for n in random.Random(str(seed)).choices(range(size.words), k=count))


def requests_of(size: Size, model: Model) -> dict[str, list[Request]]:
    """Few-shot texts that share their dialogues, and chats of a system text and a question."""
    sampling = Sampling(size.new, 1.0, 0.9)
    shared, system = words(size, size.shared, "shared"), words(size, 30, "system")
    questions = [words(size, 20 + n % 20, n) for n in range(size.requests)]
    raw = [
        Request(str(n), model, shared, f"\n\nHuman: {text}\n\nAssistant:", sampling, seed=n)
        for n, text in enumerate(questions)
    ]
    chat = [
        Request.chat(
            str(n),
            model,
            ({"role": "system", "content": system}, {"role": "user", "content": text}),
            sampling,
            seed=n,
            shared_messages=1,
        )
        for n, text in enumerate(questions)
    ]
    return {"chat, 30 tokens shared": chat, f"few-shot text, {size.shared} tokens shared": raw}


def rate(answer: Callable[[Sequence[Request]], int], requests: Sequence[Request]) -> float:
    """New tokens a second, after a warm-up."""
    answer(requests[:8])
    start = time.perf_counter()
    tokens = answer(requests)
    return tokens / (time.perf_counter() - start)


def engine_rates(size: Size, folder: Path) -> list[Result]:
    """The `transformers` engine against the best plain `generate`."""
    model = weights.locate(Model(str(folder)))
    engine = TransformersEngine()
    loaded = engine.load(model)
    loaded.eos = loaded.chat_eos = frozenset()  # no row ends early, here and below
    network, tokenizer = loaded.network, loaded.tokenizer
    tokenizer.padding_side, network.generation_config.eos_token_id = "left", None
    attention = network.config._attn_implementation

    def ours(requests: Sequence[Request]) -> int:
        return sum(reply.completion_tokens for reply in engine.generate(requests))

    results = []
    for kind, requests in requests_of(size, model).items():
        label = f"transformers engine, {size.name}, {len(requests)} requests, {kind}, {size.new} new ones"
        plain = 0.0
        for batch in size.batches:

            def answer(group: Sequence[Request], batch: int = batch) -> int:
                if group[0].messages:
                    return bench_transformers.time_plain_chat(network, tokenizer, list(group), batch)[0]
                return bench_transformers.time_plain(
                    network, tokenizer, list(group), "sdpa", batch, size.new
                )[0]

            speed = rate(answer, requests[:batch])  # its batches are all alike
            print(f"generate, {kind}, batch {batch}: {speed:,.0f} tokens/s", flush=True)
            plain = max(plain, speed)
        network.set_attn_implementation(attention)
        results.append(Result(f"{label}: against generate", "tokens/s", rate(ours, requests), plain, "1x"))
        print(results[-1], engine.settings(), flush=True)
    engine.close()
    return results


def vllm_rates(size: Size, folder: Path) -> list[Result]:
    """The `vllm` engine on the same requests, where vLLM is installed."""
    if importlib.util.find_spec("vllm") is None:
        print("vllm: not installed")
        return []
    from almost_data.generation.vllm import VLLMEngine

    engine = VLLMEngine()
    model = weights.locate(Model(str(folder)))
    results = []
    for kind, requests in requests_of(size, model).items():
        label = f"vllm engine, {size.name}, {len(requests)} requests, {kind}, up to {size.new} new ones"
        answer = lambda batch: sum(reply.completion_tokens for reply in engine.generate(batch))  # noqa: E731
        results.append(Result(label, "tokens/s", rate(answer, requests), None, ""))
    engine.close()
    return results


def save_pairs(file: Path, size: Size) -> Path:
    """Comparisons of which each side is `size.side` tokens, with a last word that tells the sides apart."""
    prompt = size.side // 8
    reply = size.side - prompt - 6  # the template's Human : Assistant : and EOS, and the last word
    rows = max(size.rows * size.steps, size.episodes * size.policy_steps)
    with file.open("w") as lines:
        for n in range(rows * 5 // 4):  # some are the test split's
            sides = {side: words(size, reply, (n, side)) for side in ("chosen", "rejected")}
            row = {
                "prompt": [{"role": "user", "content": words(size, prompt, n)}],
                "chosen": [{"role": "assistant", "content": sides["chosen"] + " good"}],
                "rejected": [{"role": "assistant", "content": sides["rejected"] + " bad"}],
            }
            lines.write(json.dumps(row) + "\n")
    return file


def recipe_rates(size: Size, folder: Path, work: Path) -> list[Result]:
    """Steps, tokens and memory of each recipe, from the manifests of the models."""
    pairs_file = save_pairs(work / "pairs.jsonl", size)
    importing = [
        "import",
        "preferences",
        str(pairs_file),
        "--version",
        VERSION,
        "--root",
        str(work / "build"),
    ]
    subprocess.run([sys.executable, "-m", "almost_data", *importing], check=True)
    batch = {"per_device_train_batch_size": size.rows, "max_steps": size.steps, "max_length": size.side}
    batch |= {"limit": size.rows * size.steps}
    policy = {"model_name_or_path": f"sft@{VERSION}", "reward_model": f"rm@{VERSION}", "max_kl": 1e9}
    policy |= {"report_prompts": size.episodes // 8, "limit": size.episodes * size.policy_steps}
    rloo = {"per_device_train_batch_size": size.episodes, "max_steps": size.policy_steps}
    rloo |= {"num_generations": 4, "max_completion_length": size.response}
    ppo: dict[str, Any] = {"gradient_accumulation_steps": 4}
    ppo |= {"per_device_train_batch_size": size.episodes // 4}
    ppo |= {"total_episodes": size.episodes * size.policy_steps, "response_length": size.response}
    ppo |= {"local_rollout_forward_batch_size": size.episodes, "learning_rate": 1e-6}
    base = {"model_name_or_path": str(folder)}
    pairs, rows = f"{size.rows} pairs of 2 x {size.side} tokens", f"{size.rows} rows of {size.side} tokens"
    episodes = f"{size.episodes} replies of at most {size.response} tokens"
    plans: list[tuple[str, dict[str, Any], str]] = [
        ("rm", batch | base | {"leave_out_pair": "none", "learning_rate": 1e-4}, pairs),
        ("sft", batch | base, rows),
        ("dpo", batch | {"model_name_or_path": f"sft@{VERSION}"}, pairs),
        ("rloo", policy | rloo, episodes),
        ("ppo", policy | ppo, episodes),
    ]
    overlay = Path(os.environ.get("ALMOST_DATA_PPO", FOLDER))
    results = []
    for name, arguments, step in plans:
        if name == "ppo" and not (overlay / "trl").is_dir():
            print(f"ppo: TRL 1.12 is not installed ({overlay})")
            continue
        try:
            speed = train(name, arguments, work / "build", overlay if name == "ppo" else None)
        except subprocess.CalledProcessError as error:
            print(f"{name}: exit code {error.returncode}", flush=True)
            continue
        steps = size.policy_steps if "reward_model" in arguments else size.steps
        label = f"recipes/{name}.py, {size.name}, a step of {step}"
        results += [Result(label, "steps/s", steps / speed["seconds"], None, "")]
        if speed["tokens_per_second"]:  # PPO counts none
            results += [Result(f"{label}: rate", "tokens/s", speed["tokens_per_second"], None, "")]
        results += [Result(f"{label}: peak memory", "GiB", speed["peak_memory_mib"] / 1024, None, "")]
    return results


def train(name: str, arguments: dict[str, Any], store: Path, overlay: Path | None) -> dict[str, Any]:
    """Run a recipe and return the speed that its model's card has."""
    fixed = {
        "dataset": f"comparisons@{VERSION}",
        "artifact": f"{name}@{VERSION}",
        "root": str(store),
        "bf16": True,
        "dtype": "float32",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
    }
    flags = [str(part) for key, value in (fixed | arguments).items() for part in (f"--{key}", value)]
    path = [str(folder) for folder in (overlay, ROOT) if folder] + os.environ.get("PYTHONPATH", "").split(":")
    environment = os.environ | {"PYTHONPATH": ":".join(filter(None, path)), "TRL_EXPERIMENTAL_SILENCE": "1"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "recipes" / f"{name}.py"), *flags], check=True, env=environment
    )
    speed: dict[str, Any] = Store(store).manifest(f"{name}@{VERSION}").diagnostics["speed"]
    print(f"{name}: {time.perf_counter() - start:.0f} s in all, {speed}", flush=True)
    return speed


def measure(size: Size, work: Path, parts: Sequence[str]) -> list[Result]:
    folder = save_model(work / "model", size)
    results: list[Result] = []
    if "engines" in parts:
        scorer = str(bench_scoring.make(work / "scorer"))
        results += engine_rates(size, folder)
        results += bench_scoring.against_batches(scorer, size.dialogues)
        results += vllm_rates(size, folder)
    if "recipes" in parts:
        results += recipe_rates(size, folder, work)
    return results


def run(size: str | None = None, parts: Sequence[str] = PARTS) -> list[Result]:
    """For `python -m tests.bench`; without a GPU only `tiny` is run."""
    import torch

    if size is None and not torch.cuda.is_available():
        return []
    with tempfile.TemporaryDirectory() as work:
        return measure(SIZES[size or "qwen3-0.6b"], Path(work), parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    for result in run(args.size, args.parts):
        ratio = f" ({result.ours / result.plain:.2f}x of {result.plain:.2f})" if result.plain else ""
        print(f"{result.label}: {result.ours:,.2f} {result.unit}{ratio}")


if __name__ == "__main__":
    main()
