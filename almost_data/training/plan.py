"""What the whole loop would cost: what its datasets ask of models, and what its recipes would train on.

As in `almost_data.run.cost`, rules of thumb: rows at their longest, as many of them as `ASSUMED` says. Of a
recipe's arguments it reads those named here; `max_steps` is not one of them.
"""

from pathlib import Path
from typing import Any

import msgspec

from .. import registry
from ..builders.demonstrations.builder import ROUND_TOKENS
from ..builders.responses import QUERY_TOKENS
from ..errors import InputError
from ..run.cost import FLOPS, Line, estimate, hours, parameters
from ..run.presets import Preset
from .arguments import section

PAIRS = 1.3
"""Comparisons that are left of each query: the paper's 13k from 10k."""
COMMUNITY = 20_000
"""Comparisons of the As-is RM where all are taken, as in the paper."""
TRAIN = 0.95
"""Share of the rows that is trained on; the rest is the test split."""
STEP = 6
"""Operations for each parameter and token of a training step: 2 forward, 4 backward."""
AGAIN = 2
"""And forward once more, where activations are computed again (gradient checkpointing, TRL's default)."""
ROLLOUT = 1e13
"""Operations a second while PPO writes: TRL does it with transformers."""
WEIGHTS, CHECKPOINT = 4, 12
"""Bytes of a parameter, in float32: of what is published, and of a checkpoint with Adam's two moments."""
EPOCHS, PPO_EPOCHS = 3, 4
"""TRL's defaults."""
SAVED, LENGTH = 2, 1024
"""Checkpoints that are kept and tokens of a community pair's side, where a recipe sets no bound."""
ASSUMED = (
    f"Assumed: {PAIRS} comparisons are left of a query, every query gets its demonstrations, {TRAIN:.0%} of "
    f"the rows are trained on; {STEP} operations a parameter and token of training ({STEP + AGAIN} with "
    f"gradient checkpointing); PPO writes at {ROLLOUT:.0e} a second; weights are stored "
    "in float32, and those that are downloaded are not counted."
)


def loop(preset: Preset, recipes: Path) -> tuple[list[Line], int]:
    """The lines of `make almost` from nothing, in its order, and the bytes of checkpoints at any time.

    Raises InputError for a file that is none, or lacks a section or has no number where one is wanted.
    """
    rm, sft, ppo = (section(recipes, name) for name in ("rm", "sft", "ppo"))
    judge, base = (str(one.get("model_name_or_path") or "?") for one in (rm, sft))
    for name, field in (("comparisons", "asis_rm"), ("demonstrations", "rm")):
        settings = preset.settings(registry.load("builders", name))
        preset = preset.with_config(name, msgspec.structs.replace(settings, **{field: judge}))
    talk = preset.settings(registry.load("builders", "demonstrations"))
    queries, mining = estimate(preset, "queries", {})
    responses, answering = estimate(preset, "responses", {"queries": queries})
    pairs, comparing = estimate(preset, "comparisons", {"responses": responses})
    dialogues, talking = estimate(preset, "demonstrations", {"queries": queries})
    written = QUERY_TOKENS + max(line.tokens_out // line.requests for line in answering)
    dialogue = QUERY_TOKENS + talking[0].tokens_out // talking[0].requests
    dialogue += (talk.turns // 2 - 1) * ROUND_TOKENS
    sample = preset.settings(registry.load("builders", "community")).sample or COMMUNITY
    lines = [
        _trained("train: As-is RM", judge, rm, sample, LENGTH, sides=2),
        *(*mining, *answering, *comparing),
        _trained("train: reward model", judge, rm, pairs.rows, written, sides=2),
        *talking,
        _trained("train: SFT", base, sft, dialogues.rows, dialogue),
        _reinforced("train: PPO", base, judge, ppo, dialogues.rows // talk.conversations_per_query),
    ]
    kept = [(judge, rm), (base, sft)]
    most = max(
        int(CHECKPOINT * (parameters(name) or 0) * _number(one, "save_total_limit", SAVED))
        for name, one in kept
    )
    return lines, most


def _trained(what: str, model: str, recipe: dict[str, Any], rows: int, tokens: int, sides: int = 1) -> Line:
    examples = round(_rows(recipe, rows) * _number(recipe, "num_train_epochs", EPOCHS))
    # A reward model reads both sides of a comparison.
    read = round(examples * sides * min(tokens, _number(recipe, "max_length", tokens)))
    work = hours(parameters(model), _step(recipe) * read)
    return Line(what, model, examples, read, 0, _weights(model), work)


def _reinforced(what: str, policy: str, judge: str, recipe: dict[str, Any], prompts: int) -> Line:
    """Episodes: the policy writes, policy and value model are trained, reference and reward model read."""
    epochs = _number(recipe, "num_train_epochs", EPOCHS)
    episodes = round(_number(recipe, "total_episodes", _rows(recipe, prompts) * epochs))
    written = round(_number(recipe, "response_length", 53))
    tokens = episodes * (QUERY_TOKENS + written)
    steps = _number(recipe, "num_ppo_epochs", PPO_EPOCHS) * _step(recipe)
    parts = [
        hours(parameters(policy), tokens * (2 * FLOPS / ROLLOUT + 2 + steps)),
        hours(parameters(judge), tokens * (2 + 2 + steps)),
    ]
    work = None if None in parts else sum(filter(None, parts))
    return Line(what, policy, episodes, episodes * QUERY_TOKENS, episodes * written, _weights(policy), work)


def _rows(recipe: dict[str, Any], rows: int) -> float:
    return min(round(TRAIN * rows), _number(recipe, "limit", rows))


def _step(recipe: dict[str, Any]) -> int:
    return STEP + AGAIN * bool(recipe.get("gradient_checkpointing", True))


def _weights(model: str) -> int:
    return int(WEIGHTS * (parameters(model) or 0))


def _number(recipe: dict[str, Any], name: str, default: float) -> float:
    """An argument of the recipe; none is the default."""
    value = recipe.get(name)
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {value!r} is no number") from None
