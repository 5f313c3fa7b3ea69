"""What PPO and RLOO do alike around TRL's trainers: replies before and after, and the artifact."""

from pathlib import Path
from typing import Any

import polars as pl

from ..datasets.manifest import Manifest
from ..scoring import Scorer
from . import artifact, samples, trainers
from .data import Source, account


def talks(inputs: Any, source: Source, rows: pl.DataFrame, reward: Any, **how: Any) -> samples.BeforeAfter:
    """The prompts that the policy answers before and after training, by what the reward model knows of them.

    `reward` is the reward model as `find_model` gives it; `how` goes to `samples.replies`.
    """
    seen = samples.trained_on(inputs.store, reward.manifest)
    return samples.BeforeAfter(samples.by_kind(rows, source.test, seen, inputs.report_prompts), **how)


def publish(
    run: artifact.Training,
    folder: Path,
    trainer: Any,
    source: Source,
    fits: pl.Series,
    rows: pl.DataFrame,
    talks: samples.BeforeAfter,
    judge: Scorer,
    *,
    findings: list[dict[str, Any]],
    speed: dict[str, Any],
) -> Manifest:
    """Put the policy in `folder` into the store: its prompts' ledger, its curves, and its rewards by `judge`.

    `fits` says of each of the source's training rows whether its prompt is short enough; `rows` were used.
    """
    rewards, shown = talks.rewards(judge)
    history = trainers.renamed(trainer.state.log_history)
    return artifact.publish(
        run,
        folder,
        ledger=account(
            "query",
            source,
            prompt_too_long=len(fits) - int(fits.sum()),
            over_limit=int(fits.sum()) - len(rows),
        ),
        counts={"train": len(rows), "test": len(source.test)},
        diagnostics={
            "preflight": findings,
            "metrics": trainers.last_metrics(history),
            "curves": artifact.curves(history, trainers.POLICY_CURVES),
            "rewards": rewards,
            "samples": shown,
            "speed": speed,
        },
        trainer=trainer,
    )
