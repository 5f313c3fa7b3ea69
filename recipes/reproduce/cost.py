"""What the whole loop of datasets and recipes would cost, before anything runs.

    python recipes/reproduce/cost.py --preset almost --recipes recipes/almost.yaml

Rules of thumb, as in `almost_data.run.cost`: rows at their longest, as many as `ASSUMED` says. `max_steps` of
a recipe is not taken into account.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch(ending.KEPT)

from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import msgspec

from almost_data import InputError
from almost_data.builders.community.builder import BUILDER as COMMUNITY
from almost_data.builders.comparisons.builder import BUILDER as COMPARISONS
from almost_data.builders.demonstrations.builder import BUILDER as DEMONSTRATIONS
from almost_data.builders.demonstrations.builder import ROUND_TOKENS
from almost_data.builders.queries import BUILDER as QUERIES
from almost_data.builders.ratings.builder import BUILDER as RATINGS
from almost_data.builders.responses import BUILDER as RESPONSES
from almost_data.builders.responses import QUERY_TOKENS
from almost_data.cli import app
from almost_data.cli.console import byte_size, console, text
from almost_data.cli.summary import print_costs
from almost_data.run import presets
from almost_data.run.cost import FLOPS, CostLine, estimate, hours, parameters
from almost_data.run.presets import Preset, PresetName
from almost_data.training.arguments import section

PAIRS = 1.3
"""Comparisons per query: the paper's 13k from 10k."""
COMMUNITY_PAIRS = 20_000
"""Comparisons of the As-is RM if the preset samples none, as in the paper."""
TRAIN = 0.95
"""Share of the rows to train on; the rest is the test split."""
STEP = 6
"""Operations per parameter and token of a training step: 2 forward, 4 backward."""
FORWARD = 2
"""One more forward pass with gradient checkpointing, TRL's default; DPO's reference is another."""
ROLLOUT = 1e13
"""Operations per second while PPO writes, as TRL does it with transformers."""
WEIGHTS, CHECKPOINT = 4, 12
"""Bytes of a float32 parameter: published, and in a checkpoint with Adam's two moments."""
EPOCHS, PPO_EPOCHS, RESPONSE = 3, 4, 53
"""TRL's defaults."""
CHECKPOINTS, SIDE = 2, 1024
"""Checkpoints to keep, and tokens of a community comparison's side, if the recipe sets none."""
ASSUMED = (
    f"Assumed: {PAIRS} comparisons are left of a query, every query gets its demonstrations, {TRAIN:.0%} of "
    f"the rows are trained on; {STEP} operations a parameter and token of training ({STEP + FORWARD} with "
    f"gradient checkpointing, {FORWARD} more for DPO's reference); PPO writes at {ROLLOUT:.0e} a second; "
    "weights are stored in float32, and those that are downloaded are not counted."
)


def command(
    *,
    recipes: Annotated[Path, cyclopts.Parameter(help="YAML file of the recipes.")],
    preset: Annotated[PresetName, cyclopts.Parameter(help="Models and settings of the datasets.")] = "almost",
    config: Annotated[Path | None, cyclopts.Parameter(help="TOML file over the preset.")] = None,
    set_: Annotated[tuple[str, ...], cyclopts.Parameter(name="--set", help="section.key=value.")] = (),
    limit: Annotated[int | None, cyclopts.Parameter(help="Use only so many queries.")] = None,
) -> None:
    """What the datasets and the training of `make almost` would cost; nothing is run."""
    lines, checkpoints = loop(presets.load(preset, config, set_, limit), recipes)
    print_costs(lines)
    console.print(text(ASSUMED, style="dim"))
    room = f"up to {byte_size(checkpoints)}" if checkpoints else "room that the models' names do not tell"
    console.print(f"While a recipe trains, its checkpoints take {room}.", style="dim")


def main(arguments: list[str] | None = None) -> None:
    app.main(arguments, cyclopts.App(default_command=command, help_format="plaintext", version_flags=()))


def loop(preset: Preset, recipes: Path) -> tuple[list[CostLine], int]:
    """The lines of `make almost` in its order, and the most bytes of checkpoints at one time.

    Raises InputError for a recipes file that lacks a section, or has text instead of a number.
    """
    rm, sft, dpo, ppo = (section(recipes, name) for name in ("rm", "sft", "dpo", "ppo"))
    reward, policy = (str(recipe.get("model_name_or_path") or "?") for recipe in (rm, sft))
    for builder in (RATINGS, DEMONSTRATIONS):
        config = msgspec.structs.replace(preset.settings(builder), rm=reward)
        preset = preset.with_config(builder.name, config)
    queries, query_lines = estimate(preset, QUERIES, {})
    responses, response_lines = estimate(preset, RESPONSES, {"queries": queries})
    _, rating_lines = estimate(preset, RATINGS, {"responses": responses})
    pairs, _ = estimate(preset, COMPARISONS, {"responses": responses})
    dialogues, dialogue_lines = estimate(preset, DEMONSTRATIONS, {"queries": queries})
    demonstrations = preset.settings(DEMONSTRATIONS)
    side = QUERY_TOKENS + max(line.tokens_out // line.requests for line in response_lines)
    dialogue = QUERY_TOKENS + dialogue_lines[0].tokens_out // dialogue_lines[0].requests
    dialogue += (demonstrations.turns // 2 - 1) * ROUND_TOKENS
    sample = preset.settings(COMMUNITY).sample or COMMUNITY_PAIRS
    replies, prompts = demonstrations.turns // 2, dialogues.rows // demonstrations.conversations_per_query
    lines = [
        _supervised("train: As-is RM", reward, rm, sample, SIDE, sides=2),
        *(*query_lines, *response_lines, *rating_lines),
        _supervised("train: reward model", reward, rm, pairs.rows, side, sides=2),
        *dialogue_lines,
        _supervised("train: SFT", policy, sft, dialogues.rows, dialogue),
        _supervised("train: DPO", policy, dpo, dialogues.rows * replies, dialogue, sides=2, reads=FORWARD),
        _ppo("train: PPO", policy, reward, ppo, prompts),
    ]
    checkpoints = (
        int(CHECKPOINT * (parameters(model) or 0) * _number(recipe, "save_total_limit", CHECKPOINTS))
        for model, recipe in ((reward, rm), (policy, sft))
    )
    return lines, max(checkpoints)


def _supervised(
    task: str, model: str, recipe: dict[str, Any], rows: int, tokens: int, sides: int = 1, reads: int = 0
) -> CostLine:
    """`tokens` of a row's side at most; `reads` are the operations of a reference that reads them too."""
    examples = round(_rows(recipe, rows) * _number(recipe, "num_train_epochs", EPOCHS))
    tokens_in = round(examples * sides * min(tokens, _number(recipe, "max_length", tokens)))
    return CostLine(
        task=task,
        model=model,
        requests=examples,
        tokens_in=tokens_in,
        tokens_out=0,
        disk=_weights(model),
        gpu_hours=hours(parameters(model), (_step(recipe) + reads) * tokens_in),
    )


def _ppo(task: str, policy: str, reward: str, recipe: dict[str, Any], prompts: int) -> CostLine:
    """Episodes: the policy writes, policy and value model are trained, reference and reward model read."""
    epochs = _number(recipe, "num_train_epochs", EPOCHS)
    episodes = round(_number(recipe, "total_episodes", _rows(recipe, prompts) * epochs))
    response = round(_number(recipe, "response_length", RESPONSE))
    tokens = episodes * (QUERY_TOKENS + response)
    steps = _number(recipe, "num_ppo_epochs", PPO_EPOCHS) * _step(recipe)
    policy_hours = hours(parameters(policy), tokens * (2 * FLOPS / ROLLOUT + 2 + steps))
    reward_hours = hours(parameters(reward), tokens * (2 + 2 + steps))
    gpu_hours = None if policy_hours is None or reward_hours is None else policy_hours + reward_hours
    return CostLine(
        task=task,
        model=policy,
        requests=episodes,
        tokens_in=episodes * QUERY_TOKENS,
        tokens_out=episodes * response,
        disk=_weights(policy),
        gpu_hours=gpu_hours,
    )


def _rows(recipe: dict[str, Any], rows: int) -> float:
    return min(round(TRAIN * rows), _number(recipe, "limit", rows))


def _step(recipe: dict[str, Any]) -> int:
    recomputes = recipe.get("activation_checkpointing", recipe.get("gradient_checkpointing", True))
    return STEP + FORWARD * bool(recomputes)


def _weights(model: str) -> int:
    return int(WEIGHTS * (parameters(model) or 0))


def _number(recipe: dict[str, Any], name: str, default: float) -> float:
    value = recipe.get(name)
    with suppress(TypeError, ValueError):
        if isfinite(number := default if value is None else float(value)):
            return number
    raise InputError(f"{name}: {value!r} is not a number")


if __name__ == "__main__":
    main()
