"""The shared parts of recipes/ppo.py and recipes/rloo.py: set-up, checks, replies and publishing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .. import scoring
from ..datasets.manifest import Manifest
from ..scoring import Scorer
from . import artifact, preflight, samples, trainers
from .artifact import Base, find_model
from .data import Source, account, dropped, open_dataset
from .preflight import Preflight
from .reward_report import scores
from .settings import batch_size, processes
from .shapes import prompts

NO_PPO = (
    "recipes/ppo.py needs TRL 1.12, the last with PPO: `pip install 'almost_data[ppo]'` in an environment "
    "of its own, or `make .venv/.ppo` and PYTHONPATH=.venv/ppo; recipes/rloo.py needs neither"
)
FEW_COMPARISONS = 8
"""Below this number, a wrong reward sign may be chance."""


@dataclass(frozen=True)
class Setup:
    """What PPO and RLOO have before their trainer: prompts, models and the checks of both."""

    inputs: Any
    source: Source
    base: Base
    reward: Base
    tokenizer: Any
    reward_tokenizer: Any
    scorer: Scorer
    """The reward model, run as in evaluations."""
    fits: pl.Series
    """Whether each row of the train split is short enough."""
    rows: pl.DataFrame
    """The rows to train on."""
    checks: Preflight

    @property
    def models(self) -> dict[str, Base]:
        return {"base": self.base, "reward_model": self.reward}

    def replies(self, seed: int, max_new_tokens: int, temperature: float) -> samples.BeforeAfter:
        """The policy's replies, to generate, by whether the reward model was trained on their prompts."""
        inputs = self.inputs
        learned = samples.trained_on(inputs.store, self.reward.manifest)
        kinds = samples.by_kind(self.rows, self.source.test, learned, inputs.report_prompts)
        options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        return samples.BeforeAfter(kinds, **options)


def set_up(inputs: Any, args: Any, model_args: Any, *, shares_tokens: bool) -> Setup:
    """Open the prompts, the policy's base and the reward model, and check them.

    `shares_tokens`: the trainer gives the policy's token ids to the reward model (PPO), not text (RLOO).
    """
    store = inputs.store
    source = prompts(open_dataset(inputs))
    base = find_model(store, model_args.model_name_or_path)
    reward = find_model(store, inputs.reward_model, setting="recipe.reward_model")
    tokenizer = trainers.load_tokenizer(base.folder, padding_side="left")
    reward_tokenizer = trainers.load_tokenizer(reward.folder)
    scorer = scoring.load(str(reward.folder))
    checks = Preflight()
    preflight.check_dtype(checks, args, model_args)
    check_policy(checks, tokenizer, reward_tokenizer, shares_tokens)
    checks.require()  # the others need a chat template
    check_reward_sign(checks, scorer, samples.comparisons_of(store, reward.manifest))
    fits = preflight.check_prompts(checks, source, tokenizer, inputs.max_prompt_length)
    rows = trainers.sample(source.train.filter(fits), inputs.limit, args.seed)
    return Setup(
        inputs=inputs,
        source=source,
        base=base,
        reward=reward,
        tokenizer=tokenizer,
        reward_tokenizer=reward_tokenizer,
        scorer=scorer,
        fits=fits,
        rows=rows,
        checks=checks,
    )


def publish(
    run: artifact.Training,
    folder: Path,
    trainer: Any,
    setup: Setup,
    replies: samples.BeforeAfter,
    speed: dict[str, Any],
) -> Manifest:
    """Put the policy in `folder` into the store, with its curves, and its rewards before and after."""
    rewards, examples = replies.report(setup.scorer)
    used = len(setup.rows)
    return artifact.publish(
        run,
        folder,
        trainer,
        ledger=account("query", setup.source, **dropped("prompt_too_long", setup.fits, used)),
        counts={"train": used, "test": len(setup.source.test)},
        curves=trainers.POLICY_CURVES,
        history=trainers.renamed(trainer.state.log_history),
        diagnostics={
            "preflight": setup.checks.record(),
            "rewards": rewards,
            "samples": examples,
            "speed": speed,
        },
    )


def check_ppo(checks: Preflight, rows: pl.DataFrame, args: Any, model_args: Any) -> None:
    """Stops what TRL's PPO cannot do: less than one batch of prompts, or LoRA in several processes."""
    if processes() > 1 and model_args.use_peft:
        sentence = "TRL's PPO takes it in one process only: use one, or recipes/rloo.py"
        checks.add("LoRA", sentence, "fatal")
    batch = batch_size(args)
    if len(rows) < batch:  # PPO would wait for ever
        sentence = f"{len(rows)} prompts do not fill one batch of {batch}: take more prompts, or lower "
        sentence += "per_device_train_batch_size or gradient_accumulation_steps"
        checks.add("batch", sentence, "fatal")


def check_policy(checks: Preflight, policy: Any, reward: Any, shares_tokens: bool) -> None:
    """Compares the policy's tokenizer with the reward model's.

    PPO gives the reward model token ids (`shares_tokens`), RLOO text.
    """
    if not policy.chat_template:
        sentence = "the policy's tokenizer has none: train it with recipes/sft.py first"
        checks.add("chat template", sentence, "fatal")
    if policy.pad_token_id in (None, policy.eos_token_id):
        sentence = (
            "the policy pads with EOS or with nothing, which hides the end of a reply: train it with "
            "recipes/sft.py first"
        )
        checks.add("padding token", sentence, "fatal")
    ids = ("eos_token_id", "pad_token_id", "bos_token_id")
    differences = [name for name in ids if getattr(policy, name) != getattr(reward, name)]
    has_same_vocabulary = policy.get_vocab() == reward.get_vocab()
    if shares_tokens and (differences or not has_same_vocabulary):
        sentence = f"policy and reward model differ in {', '.join(differences) or 'vocabulary'}, and PPO "
        sentence += "passes token ids: train both from one base, or use recipes/rloo.py, which passes text"
        checks.add("tokenizers", sentence, "fatal")
    elif not has_same_vocabulary:
        checks.add("tokenizers", "policy and reward model have different ones; text is passed", "warn")
    else:
        checks.add("tokenizers", "policy and reward model share one")
    if policy.chat_template != reward.chat_template:
        sentence = (
            "the reward model was trained with another chat template, so it would judge text in a form "
            "that it never saw: train both with these recipes"
        )
        checks.add("chat template", sentence, "fatal" if shares_tokens else "warn")


def check_reward_sign(checks: Preflight, scorer: Scorer, rows: pl.DataFrame | None) -> None:
    """Checks that the reward model prefers the chosen side of a few of its own training comparisons."""
    if rows is None or not len(rows):
        checks.add("reward sign", "not checked: the reward model's comparisons are not in this store", "warn")
        return
    chosen, rejected = scores(scorer, rows)
    gaps = chosen - rejected
    right, mean = int((gaps > 0).sum()), float(gaps.mean())
    sentence = f"it prefers chosen in {right} of {len(gaps)} of its comparisons; mean gap {mean:+.3f}"
    if mean < 0 and right < len(gaps) / 2 and len(gaps) >= FEW_COMPARISONS:
        sentence += ": its sign is wrong, or it learned nothing, and PPO would make the policy worse"
        checks.add("reward sign", sentence, "fatal")
    else:
        checks.add("reward sign", sentence, "fine" if mean > 0 else "warn")
