"""What a policy writes before and after training, and what a reward model says of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl

from ..datasets.manifest import Manifest
from ..scoring import Dialogue, Scorer
from ..store.store import Store
from .data import Messages

SHOWN = 6
"""Prompts whose replies stand in the card."""
SEEN, UNSEEN = "of the reward model's training split", "held out"
NEW = "new to the reward model, trained on by the policy"
UNKNOWN = "trained on by the policy; what the reward model saw is not known"


def replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Messages],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch: int = 16,
) -> list[tuple[str, int]]:
    """A reply to each prompt and how many tokens it took, EOS included; temperature 0 is greedy.

    The same seed, prompts and weights give the same replies on one machine.
    """
    import torch

    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    found: list[tuple[str, int]] = []
    with _generating(model, tokenizer), torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch):
            inputs = tokenizer.apply_chat_template(
                list(prompts[start : start + batch]),
                add_generation_prompt=True,
                padding=True,
                return_dict=True,
                return_tensors="pt",
            ).to(model.device)
            written = model.generate(
                **inputs,
                **(sampling if temperature else {"do_sample": False}),
                max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(written, skip_special_tokens=True)
            lengths = (written != tokenizer.pad_token_id).sum(dim=1).tolist()
            found += [(text.strip(), int(n)) for text, n in zip(texts, lengths, strict=True)]
    return found


@contextmanager
def _generating(model: Any, tokenizer: Any) -> Iterator[None]:
    """Model and tokenizer as generation wants them, and as they were behind it, also after an error."""
    side, training, cache = tokenizer.padding_side, model.training, model.config.use_cache
    tokenizer.padding_side, model.config.use_cache = "left", True
    model.eval()
    try:
        yield
    finally:
        tokenizer.padding_side, model.config.use_cache = side, cache
        model.train(training)


class BeforeAfter:
    """Replies of a policy to the same prompts at two times, apart for prompts of two kinds."""

    def __init__(self, prompts: dict[str, list[Messages]], **how: Any) -> None:
        self.prompts = {kind: some for kind, some in prompts.items() if some}
        self.how = how
        self.written: list[dict[str, list[tuple[str, int]]]] = []

    def write(self, model: Any, tokenizer: Any) -> None:
        """The replies as of now."""
        self.written.append(
            {kind: replies(model, tokenizer, some, **self.how) for kind, some in self.prompts.items()}
        )

    def rewards(self, scorer: Scorer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """By kind of prompt the mean reward before and after, with the gain's 95% interval; and samples."""
        means, samples = [], []
        for kind, some in self.prompts.items():
            values = []
            for at, written in enumerate(self.written):
                talk = [
                    Dialogue(f"{at}/{n}", (*(t["content"] for t in prompt), text))
                    for n, (prompt, (text, _)) in enumerate(zip(some, written[kind], strict=True))
                ]
                by_id = {one.id: one.value for one in scorer.score(talk)}
                values.append(np.array([by_id[one.id] for one in talk]))
            gain = values[1] - values[0]
            half = 1.96 * float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
            sides = [
                {"mean": float(value.mean()), "tokens": float(np.mean([n for _, n in written[kind]]))}
                for value, written in zip(values, self.written, strict=True)
            ]
            means.append(
                {
                    "prompts": kind,
                    "n": len(some),
                    "before": sides[0],
                    "after": sides[1],
                    "gain": float(gain.mean()),
                    "low": float(gain.mean()) - half,
                    "high": float(gain.mean()) + half,
                }
            )
            samples += self._samples(kind, values)
        return means, samples

    def samples(self) -> list[dict[str, Any]]:
        """Samples without a reward."""
        return [one for kind in self.prompts for one in self._samples(kind, None)]

    def _samples(self, kind: str, values: Any) -> list[dict[str, Any]]:
        shown = max(1, SHOWN // len(self.prompts))
        first, last = self.written[0][kind], self.written[-1][kind]
        return [
            {
                "prompt": self.prompts[kind][n][-1]["content"],
                "before": first[n][0],
                "after": last[n][0],
                "reward_before": None if values is None else float(values[0][n]),
                "reward_after": None if values is None else float(values[-1][n]),
                "held_out": kind == UNSEEN,
            }
            for n in range(min(shown, len(first)))
        ]


def by_kind(
    train: pl.DataFrame, test: pl.DataFrame, seen: frozenset[str] | None, most: int
) -> dict[str, list[Messages]]:
    """Up to `most` prompts of each kind, by what the reward model and the policy know of them.

    `seen` are the query_ids of the reward model's training split. Held-out prompts are in nobody's.
    """
    if seen is None:
        kinds = {UNKNOWN: train, UNSEEN: test}
    else:
        known = pl.col("query_id").is_in(list(seen))
        kinds = {SEEN: train.filter(known), NEW: train.filter(~known), UNSEEN: test.filter(~known)}
    return {kind: rows.head(most)["prompt"].to_list() for kind, rows in kinds.items()}


def trained_on(store: Store, made: Manifest | None) -> frozenset[str] | None:
    """The query_ids of the split that a model of the store learned from; None where it is not here."""
    if made is None:
        return None
    ref, config = made.config["dataset"]["ref"], made.config["dataset"]["config"]
    if not store.has(ref):
        return None
    split = made.config["settings"].get("dataset_train_split", "train")
    rows = store.scan(ref, config or "default", split).select("query_id").collect()
    return frozenset(rows["query_id"].to_list())


def comparisons_of(store: Store, made: Manifest | None, most: int = 16) -> pl.DataFrame | None:
    """A few of the comparisons that a reward model of the store learned from."""
    if made is None or not store.has(made.config["dataset"]["ref"]):
        return None
    record = made.config["dataset"]
    rows = store.scan(record["ref"], record["config"] or "default", "train")
    return rows.select("prompt", "chosen", "rejected").head(most).collect()
