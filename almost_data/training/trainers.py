"""Parts of a recipe around TRL's trainers: rows in, weights out, logs and callbacks."""

import math
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..errors import InputError, Stopped, one_line

if TYPE_CHECKING:
    from .samples import BeforeAfter

POINTS = 400
"""Most points of a stored curve."""


def dataset(rows: pl.DataFrame, *columns: str) -> Any:
    """The `columns` of the rows, as the dataset that TRL reads."""
    import datasets

    return datasets.Dataset.from_list(rows.select(columns).to_dicts())


def sample(rows: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    """`limit` rows drawn by the seed, in their order; all rows without a limit."""
    if limit is None or limit >= len(rows):
        return rows
    return rows.with_row_index("_place").sample(limit, seed=seed).sort("_place").drop("_place")


@contextmanager
def quiet() -> Iterator[None]:
    """Load models without transformers' progress bars and reports."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def load(kind: Any, folder: Path, model_args: Any, **options: Any) -> Any:
    """A model of a class of transformers, with the dtype and attention of `model_args`. Raises InputError."""
    options |= {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
    with _loading(folder):
        network, report = kind.from_pretrained(folder, output_loading_info=True, **options)
        inner = f"{network.base_model_prefix}." if "num_labels" in options else ""  # a new head is random
        if missing := sorted(key for key in report["missing_keys"] if key.startswith(inner)):
            raise ValueError(f"it lacks {', '.join(missing[:3])}, which would be random numbers")
        return network


def load_tokenizer(folder: Path, **options: Any) -> Any:
    """The tokenizer of a model's folder. Raises InputError."""
    from transformers import AutoTokenizer

    with _loading(folder):
        return AutoTokenizer.from_pretrained(folder, **options)


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Turn whatever transformers raises for files that it cannot use into one line."""
    try:
        with quiet():
            yield
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{folder}: cannot be loaded ({one_line(error)}): complete its files, or name another model"
        ) from error


def save(trainer: Any, model: Any, tokenizer: Any, folder: Path) -> Path:
    """Save the trained model as plain transformers loads it: an adapter is merged into its base."""
    network = trainer.accelerator.unwrap_model(model)
    is_adapter = hasattr(network, "merge_and_unload")
    if is_adapter:
        # In float32: half precision would round the small change away.
        network = network.float().merge_and_unload()
    network.config.use_cache = True
    is_whole = hasattr(trainer.model, "policy") or network is trainer.accelerator.unwrap_model(trainer.model)
    if not is_adapter and is_whole:
        trainer.save_model(str(folder))
    elif trainer.is_world_process_zero():  # under DDP, PPO's trainer would save the value model too
        network.save_pretrained(folder)
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(folder)
    return folder


def train(trainer: Any, rows: int, checkpoint: str | None = None) -> dict[str, Any]:
    """Train on `rows` rows, from a checkpoint if there is one; returns `speed`."""
    started = time.monotonic()
    trainer.train(
        **({"resume_from_checkpoint": checkpoint} if checkpoint else {})
    )  # PPO's has no such argument
    return speed(trainer, started, rows, bool(checkpoint))


def train_with_samples(
    trainer: Any, tokenizer: Any, rows: int, replies: "BeforeAfter", checkpoint: str | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train a policy, evaluated and sampled before and after; its speed, and the log of all of it."""

    def look() -> None:
        if trainer.eval_dataset is not None:
            trainer.evaluate()
        replies.generate(trainer.model, tokenizer)

    look()
    before = trainer.state.log_history  # training starts a new log
    measured = train(trainer, rows, checkpoint)
    look()
    return measured, before + trainer.state.log_history


def speed(trainer: Any, started: float, rows: int, resumed: bool = False) -> dict[str, Any]:
    """Rows and tokens per second of the training itself, and its peak memory.

    A resumed run has no rates: TRL counts the rows before the checkpoint, but not their time.
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
    metrics: dict[str, float] = {}
    for entry in history:
        metrics |= {name: value for name, value in entry.items() if isinstance(value, int | float)}
    return {name: value for name, value in metrics.items() if name not in ("step", "epoch", "total_flos")}


def curves(history: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, list[list[float]]]:
    """The named numbers of a trainer's log by step, each thinned to at most POINTS."""
    thinned: dict[str, list[list[float]]] = {}
    for name in names:
        points = [[entry["step"], entry[name]] for entry in history if name in entry and "step" in entry]
        stride = max(1, -(-(len(points) - 1) // (POINTS - 1)))
        if points:
            thinned[name] = [*points[:-1:stride], points[-1]]
    return thinned


def stop_on_kl(limit: float) -> Any:
    """A callback that raises Stopped once the policy is too far from its reference.

    PPO of TRL 1.12 ignores a callback's wish to stop, so only an exception ends it.
    """
    from transformers import TrainerCallback

    class StopOnKL(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            kl = renamed([logs or {}])[0].get("kl")
            if kl is not None and (not math.isfinite(kl) or kl > limit):
                raise Stopped(
                    f"step {state.global_step}: KL is {kl:,.1f} nats per response, over max_kl={limit:g}: "
                    "raise kl_coef (beta), or lower learning_rate. Nothing was published"
                )

    return StopOnKL()


def log_lengths(policy: Any, eos: int) -> Any:
    """A callback that adds the replies' mean length, EOS included, to PPO's log.

    PPO does not expose its replies, so this wraps the policy's `generate`.
    """
    from transformers import TrainerCallback

    lengths: list[int] = []
    original_generate = policy.generate

    def generate(*inputs: Any, **options: Any) -> Any:
        output = original_generate(*inputs, **options)
        prompt = options.get("input_ids")
        if prompt is not None and hasattr(output, "sequences"):
            ends = output.sequences[:, prompt.shape[1] :] == eos
            first = ends.int().argmax(dim=1) + 1
            lengths.extend(first.where(ends.any(dim=1), ends.shape[1]).tolist())
        return output

    policy.generate = generate

    class LogLengths(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
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
    **{
        f"{split}rewards/{metric}": f"{split}{name}"
        for split in ("", "eval_")
        for metric, name in (("accuracies", "accuracy"), ("margins", "reward_margin"))
    },
}


def renamed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log of DPO, PPO or RLOO under common names, with KL in nats per response."""
    entries = []
    for entry in history:
        named = {_NAMES.get(name, name): value for name, value in entry.items()}
        if "kl" in entry and "length" in named:  # RLOO's is per token
            named["kl"] = entry["kl"] * named["length"]
        entries.append(named)
    return entries


def prompt_ids(rows: pl.DataFrame, tokenizer: Any) -> Any:
    """Prompts as PPO's token ids, up to `Assistant:`."""
    import datasets

    encoded = tokenizer.apply_chat_template(
        rows["prompt"].to_list(), add_generation_prompt=True, return_dict=True
    )
    return datasets.Dataset.from_dict({"input_ids": encoded["input_ids"]})
