"""A recipe's arguments: TRL's own parser and config classes, and a few arguments of almost_data."""

import argparse
import os
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from .. import inputs
from ..cards.front_matter import read_yaml
from ..errors import InputError, did_you_mean, one_line
from ..models.device import default_device
from ..run.presets import card as card_config
from ..store.names import check_model_ref
from ..store.store import Store

UNSUPPORTED = {
    "chat_template_path": "all recipes share one chat template",
    "push_to_hub": "the artifact is pushed from the store",
    "trust_remote_code": "recipes run no code of a model's author",
    "load_best_model_at_end": "the last weights are published",
    "load_in_4bit": "weights are loaded in recipe.dtype",
    "load_in_8bit": "weights are loaded in recipe.dtype",
    "resume_from_checkpoint": "the same command resumes by itself from the last checkpoint",
    "save_only_model": "an interrupted run would resume without its optimizer, and end in other weights",
    "enable_jit_checkpoint": "after a signal, half a training would be published",
}
"""Arguments of TRL that would break a recipe's promises, and why."""

POSITIVE = frozenset(
    """
    gradient_accumulation_steps lora_r max_length num_train_epochs per_device_eval_batch_size
    per_device_train_batch_size
    """.split()
)
SEEDS = ("seed", "data_seed")
"""Arguments of TRL that it checks late or never: of 0 epochs it makes a model."""


def argument(text: str, default: Any = MISSING) -> Any:
    """A dataclass field with a help text, as TRL's parser reads it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Inputs:
    """Arguments of every recipe, beside TRL's."""

    dataset: str = argument(
        "Dataset to train on: name@version of the store, or ORG/NAME@REVISION on the Hub."
    )
    artifact: str = argument("name@version of the trained model in the store.")
    dataset_config: str | None = argument("Config of the dataset, if not the default.", None)
    columns: str | None = argument(
        "Columns to read, where no layout fits: prompt=question,chosen=a,rejected=b; for SFT "
        "prompt=question,response=a; for PPO and RLOO prompt=question.",
        None,
    )
    dataset_train_split: str = argument("Split to train on.", "train")
    dataset_test_split: str = argument("Split to judge on; without one, 5%% of the prompts by hash.", "test")
    single_turn: bool = argument("Use only rows whose prompt is one user turn (paper, Table 3).", False)
    limit: int | None = argument("Number of rows to train on, drawn by the seed.", None)
    root: str = argument("Folder of the store.", "build")
    license: str | None = argument("Licence of the model, as the Hub spells it.", None)
    language: str | None = argument("ISO 639 code of the model's language.", None)
    dry_run: bool = argument("Run the checks without training.", False)

    def __post_init__(self) -> None:
        check_model_ref(self.artifact)
        if self.limit is not None and self.limit < 1:
            raise InputError(f"recipe.limit {self.limit}: give 1 or more, or leave it out")
        card_config(self.license, self.language)

    @property
    def store(self) -> Store:
        return Store(self.root)


@dataclass(frozen=True)
class PolicyInputs(Inputs):
    """Arguments of PPO and RLOO."""

    reward_model: str = argument("Reward model: name@version, a folder or ORG/NAME[@REVISION].", "")
    max_prompt_length: int = argument("Leave out prompts of more tokens.", 256)
    max_kl: float = argument("Stop when KL exceeds this number of nats per response.", 50.0)
    report_prompts: int = argument("Prompts of each kind to answer before and after training.", 64)


def parse(parser: Any, recipe: str, argv: list[str] | None = None) -> tuple[Any, ...]:
    """Parse the command line, over `--config FILE`, into the dataclasses of TRL's `parser`.

    A YAML file has one section per recipe, and `all` for every recipe; keys are argument names. Without a
    GPU `use_cpu` is set, and without an `output_dir` the work folder is under the store. Raises InputError
    for whatever cannot be parsed.
    """
    config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config_parser.add_argument("--config", nargs="?", const="")
    config, arguments = config_parser.parse_known_args(argv)
    if config.config == "":
        raise InputError("recipe.config: name a YAML file")
    if config.config:
        arguments = [*_section_arguments(parser, Path(config.config), recipe), *arguments]
    if default_device() == "cpu":
        parser.set_defaults_with_config(use_cpu=True)
    parser.allow_abbrev = False  # a card hides secret arguments by their whole names
    errors = StringIO()
    try:
        with redirect_stderr(errors):
            *parsed, unknown = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        lines = errors.getvalue().strip().splitlines() or ["the arguments are wrong"]
        raise InputError(lines[-1].partition("error: ")[2] or lines[-1]) from None
    except InputError:
        raise
    except Exception as error:  # of argparse, TRL, and packages that an argument needs
        raise InputError(one_line(error)) from None
    if unknown:
        names = [f"--{argument.name}" for values in parsed for argument in fields(values)]
        raise InputError(f"no argument {unknown[0]!r}{did_you_mean(unknown[0], names)}: see --help")
    for values in parsed:
        check_values(values)
    inputs, args = parsed[:2]
    check_supported(args, parsed[-1])
    if args.output_dir in (None, "", "trainer_output"):
        args.output_dir = str(Path(inputs.root) / ".training" / inputs.artifact)
    return tuple(parsed)


def check_values(arguments: Any) -> None:
    """Raise InputError for values that no training can use, which TRL finds late or never."""
    for argument in fields(arguments):
        value: Any = getattr(arguments, argument.name, None)
        name = f"recipe.{argument.name}"
        try:
            inputs.check_data(value, [name])
        except ValueError as error:
            raise InputError(str(error)) from None
        if argument.name in POSITIVE and value is not None and value <= 0:
            raise InputError(f"{name} {value}: give a number above 0")
        if argument.name in SEEDS and value is not None and not 0 <= value < 2**32:
            raise InputError(f"{name} {value}: give 0 to {2**32 - 1}")
        if argument.name == "learning_rate" and value < 0:
            raise InputError(f"{name} {value}: give 0 or more")


def check_supported(args: Any, model_args: Any) -> None:
    """Raise InputError for arguments of TRL that would break a recipe's promises."""
    for name, reason in UNSUPPORTED.items():
        if getattr(args, name, None) or getattr(model_args, name, None):
            raise InputError(f"recipe.{name}: leave it out: {reason}")
    if model_args.model_revision not in (None, "main"):
        raise InputError(
            "recipe.model_revision: leave it out: the name has the revision, as recipe.model_name_or_path "
            f"{str(model_args.model_name_or_path).partition('@')[0]}@{model_args.model_revision}"
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() not in ("1", "true"):
        return
    if os.environ.get("FSDP_STATE_DICT_TYPE", "") != "FULL_STATE_DICT" or model_args.use_peft:
        raise InputError(
            "FSDP: a model is published whole: run accelerate launch with fsdp_state_dict_type "
            "FULL_STATE_DICT, and without recipe.use_peft, as a sharded adapter cannot be merged"
        )


def section(path: Path, recipe: str) -> dict[str, Any]:
    """A recipe's arguments in a YAML file: its own section over `all`.

    Raises InputError where the file or the section cannot be read.
    """
    try:
        content = read_yaml(inputs.read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or recipe not in content:
        raise InputError(f"{path}: no section {recipe!r}; a section holds the arguments of one recipe")
    sections = [content.get(name) or {} for name in ("all", recipe)]
    if not all(isinstance(values, dict) for values in sections):
        raise InputError(f"{path}: a section maps arguments to values")
    return {**sections[0], **sections[1]}


def _section_arguments(parser: Any, path: Path, recipe: str) -> list[str]:
    """A recipe's section of the file as command-line arguments, so that the parser checks their types.

    None, mappings and empty lists cannot be written as arguments, and become defaults.
    """
    actions = {action.dest: action for action in parser._actions}
    hints = {name: hint for kind in parser.dataclass_types for name, hint in get_type_hints(kind).items()}
    arguments: list[str] = []
    for name, value in section(path, recipe).items():
        if name not in actions:
            own_names = ", ".join(sorted(field.name for field in fields(parser.dataclass_types[0])))
            raise InputError(
                f"{path}: {recipe}.{name}: no such argument; keys are TRL's arguments, and {own_names}"
            )
        if isinstance(value, list) and actions[name].nargs not in ("+", "*"):
            raise InputError(f"{path}: {recipe}.{name}: give one value, not a list")
        kinds = get_args(hints.get(name)) or (hints.get(name),)
        if value is None and type(None) not in kinds:
            raise InputError(f"{path}: {recipe}.{name}: give a value, or leave it out")
        if isinstance(value, dict) and dict not in [get_origin(kind) or kind for kind in kinds]:
            raise InputError(f"{path}: {recipe}.{name}: give one value, not a mapping")
        if not is_text(str(value)):
            raise InputError(f"{path}: {recipe}.{name}: has characters that no text has: give another value")
        if isinstance(value, list) and value:
            arguments += [f"--{name}", *map(str, value)]
        elif value is None or isinstance(value, dict | list):
            parser.set_defaults_with_config(**{name: value})
        else:
            arguments.append(f"--{name}={value}")
    return arguments


def is_text(value: str) -> bool:
    """Whether an argument of a command could be this: no NUL, and no half of a character."""
    return "\0" not in value and value.encode("utf-8", "ignore").decode() == value
