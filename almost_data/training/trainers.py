"""What every recipe does with a trainer, whichever of TRL's it is."""

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from ..errors import Stopped
from .arguments import differing, processes

PAPER: dict[str, dict[str, Any]] = {
    # Appendix D and the released code's training scripts.
    "rm": {
        "learning_rate": 2e-5,
        "weight_decay": 0.1,
        "num_train_epochs": 1.0,
        "batch": 128,
        "max_length": 1024,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "use_peft": False,
    },
    "sft": {
        "learning_rate": 2e-5,
        "num_train_epochs": 3.0,
        "batch": 64,
        "max_length": 512,
        "use_peft": False,
        "assistant_only_loss": True,
    },
    # Not published.
    "ppo": {},
    "rloo": {},
}


BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


def deviations(recipe: str, inputs: Any, args: Any, model_args: Any) -> list[dict[str, Any]]:
    """The settings that differ from the paper's, or where it gives none, from the default of TRL or ours.

    `batch` is `batch_size`.
    """
    used = {"batch": batch_size(args), "use_peft": model_args.use_peft}
    if args.max_steps > 0:
        used["num_train_epochs"] = f"{args.max_steps} steps"
    found = []
    for name, paper in PAPER[recipe].items():
        value = used[name] if name in used else getattr(args, name)
        value = getattr(value, "value", value)
        if value != paper:
            found.append({"setting": name, "default": paper, "used": value})
    said = {*PAPER[recipe], *(BATCH if "batch" in PAPER[recipe] else ())}
    found += [
        {"setting": name, "default": default, "used": value}
        for name, (value, default) in differing(inputs, args, model_args).items()
        if name not in said
    ]
    return found


def batch_size(args: Any) -> int:
    """Rows in one step of the optimizer, over all processes."""
    return int(args.per_device_train_batch_size * args.gradient_accumulation_steps * processes())


def dataset(rows: pl.DataFrame, *columns: str) -> Any:
    """Rows as the dataset that TRL reads, with nothing in it but `columns`."""
    import datasets

    return datasets.Dataset.from_list(rows.select(columns).to_dicts())


def drawn(rows: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    """`limit` of the rows, by the seed, in the order they had."""
    if limit is None or limit >= len(rows):
        return rows
    return rows.with_row_index("_place").sample(limit, seed=seed).sort("_place").drop("_place")


@contextmanager
def quiet() -> Iterator[None]:
    """Load models without bars and reports."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def save(trainer: Any, model: Any, tokenizer: Any, folder: Path) -> Path:
    """The trained model as plain transformers loads it: an adapter is merged into its base."""
    plain = trainer.accelerator.unwrap_model(model)
    if hasattr(plain, "merge_and_unload"):
        # In float32: half precision would round the small change away.
        plain = plain.float().merge_and_unload()
        if trainer.is_world_process_zero():
            plain.config.use_cache = True
            plain.save_pretrained(folder)
    elif hasattr(trainer.model, "policy") or plain is trainer.accelerator.unwrap_model(trainer.model):
        plain.config.use_cache = True
        trainer.save_model(str(folder))
    elif trainer.is_world_process_zero():  # PPO under DDP, where TRL would save the value model with it
        plain.config.use_cache = True
        plain.save_pretrained(folder)
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(folder)
    return folder


def speed(trainer: Any, started: float, rows: int, resumed: bool = False) -> dict[str, Any]:
    """Rows and tokens a second of the training itself, and the most memory that it took.

    A run that went on from a checkpoint has no rates: TRL counts the rows before it, and not their time.
    """
    import torch

    last = trainer.state.log_history[-1] if trainer.state.log_history else {}
    seconds = last.get("train_runtime") or time.monotonic() - started
    tokens = next((e["num_tokens"] for e in reversed(trainer.state.log_history) if "num_tokens" in e), None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {
        "seconds": round(seconds, 1),
        "rows_per_second": None if resumed else last.get("train_samples_per_second") or rows / seconds,
        "tokens_per_second": tokens / seconds if tokens and not resumed else None,
        "peak_memory_mib": round(peak),
        "dtype": _dtype(trainer.args, next(trainer.model.parameters()).dtype),
    }


def _dtype(args: Any, weights: Any) -> str:
    name = str(weights).removeprefix("torch.")
    mixed = "bfloat16" if args.bf16 else "float16" if args.fp16 else None
    return f"{name} weights, {mixed} arithmetic" if mixed and mixed != name else name


def last_metrics(history: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of every number that was logged."""
    found: dict[str, float] = {}
    for entry in history:
        found |= {name: value for name, value in entry.items() if isinstance(value, int | float)}
    return {name: value for name, value in found.items() if name not in ("step", "epoch", "total_flos")}


def stop_on_kl(limit: float) -> Any:
    """A callback that raises Stopped where the policy has run away from its reference.

    KL is in nats per response: what PPO logs as `objective/kl`, and RLOO per token as `kl`. PPO of TRL 1.12
    never asks a callback whether it should stop, so an exception is the only way to.
    """
    from transformers import TrainerCallback

    class StopOnKL(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            logs = logs or {}
            kl = logs.get("objective/kl")
            if kl is None and "kl" in logs:
                kl = logs["kl"] * logs.get("completions/mean_length", 1.0)
            if kl is not None and (not math.isfinite(kl) or kl > limit):
                raise Stopped(
                    f"step {state.global_step}: KL is {kl:,.1f} nats a response, over max_kl={limit:g}: the "
                    "policy runs away from SFT; raise kl_coef (beta), or lower learning_rate. Nothing was "
                    "published"
                )

    return StopOnKL()


def log_lengths(policy: Any, eos: int) -> Any:
    """A callback that adds the mean length of the replies to PPO's log, which has none.

    PPO keeps its replies to itself, so the policy's `generate` is watched; EOS counts as a token.
    """
    from transformers import TrainerCallback

    lengths: list[int] = []
    plain = policy.generate

    def generate(*inputs: Any, **how: Any) -> Any:
        made = plain(*inputs, **how)
        asked = how.get("input_ids")
        if asked is not None and hasattr(made, "sequences"):
            ends = made.sequences[:, asked.shape[1] :] == eos
            first = ends.int().argmax(dim=1) + 1
            lengths.extend(first.where(ends.any(dim=1), ends.shape[1]).tolist())
        return made

    policy.generate = generate

    class LogLengths(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if lengths and state.log_history:
                state.log_history[-1]["length"] = sum(lengths) / len(lengths)
            lengths.clear()

    return LogLengths()


POLICY_CURVES = ("reward", "kl", "length", "entropy", "policy_loss", "value_loss")
_NAMES = {
    "objective/scores": "reward",
    "objective/kl": "kl",
    "policy/entropy_avg": "entropy",
    "loss/policy_avg": "policy_loss",
    "loss/value_avg": "value_loss",
    "completions/mean_length": "length",
}


def renamed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log of PPO or RLOO under the same names; KL of both in nats per response."""
    found = []
    for entry in history:
        named = {_NAMES.get(name, name): value for name, value in entry.items()}
        if "kl" in entry and "length" in named:  # RLOO's is per token
            named["kl"] = entry["kl"] * named["length"]
        found.append(named)
    return found


def prompt_ids(rows: pl.DataFrame, tokenizer: Any) -> Any:
    """Prompts as the tokens that PPO reads, up to `Assistant:`."""
    import datasets

    encoded = tokenizer.apply_chat_template(
        rows["prompt"].to_list(), add_generation_prompt=True, return_dict=True
    )
    return datasets.Dataset.from_dict({"input_ids": encoded["input_ids"]})
