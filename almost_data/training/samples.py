"""Replies of a policy before and after training, and their rewards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl

from ..datasets.manifest import Manifest
from ..models.chat import assistant_turn
from ..scoring import Scorer
from ..store.store import Store
from .reward_report import Numbers, scores_of
from .shapes import Messages

CARD_PROMPTS = 6
"""Number of prompts whose replies the card shows."""
CARD_TOKENS = 128
"""Length of the replies that only the card shows."""
TRAINED_ON, HELD_OUT = "of the reward model's training split", "held out"
NEW = "new to the reward model, trained on by the policy"
UNKNOWN = "trained on by the policy; what the reward model saw is not known"

Replies = list[tuple[str, int]]
"""Each reply's text and tokens, EOS included."""


def replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Messages],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch: int = 16,
) -> Replies:
    """A reply to each prompt; temperature 0 is greedy.

    The same seed, prompts and weights give the same replies on one machine.
    """
    import torch

    options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    results: Replies = []
    with _generation_mode(model, tokenizer), torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch):
            inputs = tokenizer.apply_chat_template(
                list(prompts[start : start + batch]),
                add_generation_prompt=True,
                padding=True,
                return_dict=True,
                return_tensors="pt",
            ).to(model.device)
            tokens = model.generate(
                **inputs,
                **(options if temperature else {"do_sample": False}),
                max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            lengths = (tokens != tokenizer.pad_token_id).sum(dim=1).tolist()
            results += [(text.strip(), int(n)) for text, n in zip(texts, lengths, strict=True)]
    return results


@contextmanager
def _generation_mode(model: Any, tokenizer: Any) -> Iterator[None]:
    """Set model and tokenizer for generation, and restore them afterwards."""
    side, training, cache = tokenizer.padding_side, model.training, model.config.use_cache
    tokenizer.padding_side, model.config.use_cache = "left", True
    model.eval()
    try:
        yield
    finally:
        tokenizer.padding_side, model.config.use_cache = side, cache
        model.train(training)


class BeforeAfter:
    """Replies of a policy to the same prompts before and after training, by kind of prompt.

    `options` are those of `replies`.
    """

    def __init__(self, prompts: dict[str, list[Messages]], **options: Any) -> None:
        self.prompts = {kind: messages for kind, messages in prompts.items() if messages}
        self.options = options
        self.generated: list[dict[str, Replies]] = []

    def generate(self, model: Any, tokenizer: Any) -> None:
        """Generate a reply to each prompt with the policy as it is now: once before training, once after."""
        self.generated.append(
            {
                kind: replies(model, tokenizer, messages, **self.options)
                for kind, messages in self.prompts.items()
            }
        )

    def report(self, scorer: Scorer | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Mean reward by kind of prompt, before and after, with the gain's 95% interval; and samples.

        Without a scorer there are samples only, and they have no rewards.
        """
        entries, samples = [], []
        for kind, prompts in self.prompts.items():
            rewards = None
            if scorer is not None:
                pairs = (zip(prompts, answers[kind], strict=True) for answers in self.generated)
                rewards = [
                    scores_of(scorer, [(*prompt, assistant_turn(text)) for prompt, (text, _) in answered])
                    for answered in pairs
                ]
                entries.append(self._entry(kind, rewards))
            samples += self._samples(kind, rewards)
        return entries, samples

    def _entry(self, kind: str, rewards: list[Numbers]) -> dict[str, Any]:
        gain = rewards[1] - rewards[0]
        mean = float(gain.mean())
        half = 1.96 * float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        before, after = (
            {"mean": float(values.mean()), "tokens": float(np.mean([n for _, n in answers[kind]]))}
            for values, answers in zip(rewards, self.generated, strict=True)
        )
        entry = {"prompts": kind, "n": len(gain), "before": before, "after": after}
        return entry | {"gain": mean, "low": mean - half, "high": mean + half}

    def _samples(self, kind: str, rewards: list[Numbers] | None) -> list[dict[str, Any]]:
        limit = max(1, CARD_PROMPTS // len(self.prompts))
        before, after = self.generated[0][kind], self.generated[-1][kind]
        return [
            {
                "prompt": prompt[-1]["content"],
                "before": before[n][0],
                "after": after[n][0],
                "reward_before": None if rewards is None else float(rewards[0][n]),
                "reward_after": None if rewards is None else float(rewards[-1][n]),
                "held_out": kind == HELD_OUT,
            }
            for n, prompt in enumerate(self.prompts[kind][:limit])
        ]


def few(unseen: pl.Series, trained: pl.Series, seed: int) -> BeforeAfter:
    """Greedy replies for the card, to held-out prompts if there are any, else to some of the trained ones."""
    kind, prompts = (HELD_OUT, unseen) if len(unseen) else ("from the training rows", trained)
    options = {"max_new_tokens": CARD_TOKENS, "temperature": 0.0, "seed": seed}
    return BeforeAfter({kind: prompts.head(CARD_PROMPTS).to_list()}, **options)


def by_kind(
    train: pl.DataFrame, test: pl.DataFrame, learned: frozenset[str] | None, limit: int
) -> dict[str, list[Messages]]:
    """At most `limit` prompts of each kind, by whether the reward model and the policy train on them.

    `learned` are the query_ids of the reward model's training split. Held-out prompts are in neither.
    """
    if learned is None:
        kinds = {UNKNOWN: train, HELD_OUT: test}
    else:
        is_learned = pl.col("query_id").is_in(list(learned))
        kinds = {
            TRAINED_ON: train.filter(is_learned),
            NEW: train.filter(~is_learned),
            HELD_OUT: test.filter(~is_learned),
        }
    return {kind: rows.head(limit)["prompt"].to_list() for kind, rows in kinds.items()}


def trained_on(store: Store, model: Manifest | None) -> frozenset[str] | None:
    """The query_ids of the split that a model was trained on; None where the store does not have it."""
    split = model.config["settings"].get("dataset_train_split", "train") if model else ""
    rows = _training_rows(store, model, split)
    return None if rows is None else frozenset(rows.select("query_id").collect()["query_id"].to_list())


def comparisons_of(store: Store, model: Manifest | None, limit: int = 16) -> pl.DataFrame | None:
    """A few comparisons that a reward model was trained on; None where the store does not have them."""
    rows = _training_rows(store, model, "train")
    return None if rows is None else rows.select("prompt", "chosen", "rejected").head(limit).collect()


def _training_rows(store: Store, model: Manifest | None, split: str) -> pl.LazyFrame | None:
    dataset = model.config["dataset"] if model else None
    if dataset is None or not store.has(dataset["ref"]):
        return None
    return store.scan(dataset["ref"], dataset["config"] or "default", split)
