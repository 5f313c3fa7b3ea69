"""The command line of a recipe: TRL's own parser and config classes, and the few flags that are ours."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, Stopped
from ..run.presets import card as said
from ..store.names import check_model_ref
from ..store.store import Store


@dataclass
class Inputs:
    """What all recipes ask besides TRL's arguments."""

    dataset: str = field(
        metadata={"help": "What to train on: name@version of the store, or ORG/NAME[@v1.0.0] on the Hub."}
    )
    artifact: str = field(metadata={"help": "name@version that the trained model gets in the store."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Tag or commit of a Hub dataset, such as v1.0.0."}
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Config of the dataset, if not the default."}
    )
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str = field(
        default="test",
        metadata={"help": "Split to judge on; where there is none, 5%% of the prompts by hash."},
    )
    allow_unpinned: bool = field(
        default=False, metadata={"help": "Take a Hub dataset without a revision; the model card says so."}
    )
    single_turn: bool = field(
        default=False,
        metadata={"help": "Train and judge only on rows whose prompt is one user turn (paper, Table 3)."},
    )
    limit: int | None = field(
        default=None, metadata={"help": "Train on so many rows only, drawn by the seed."}
    )
    root: str = field(default="build", metadata={"help": "Folder of the store."})
    license: str | None = field(
        default=None, metadata={"help": "Licence of the model, as the Hub spells it."}
    )
    language: str | None = field(default=None, metadata={"help": "ISO 639 code of the model's language."})
    dry_run: bool = field(default=False, metadata={"help": "Run the checks, and train nothing."})

    def __post_init__(self) -> None:
        check_model_ref(self.artifact)
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit {self.limit}: give 1 or more, or leave it out")
        said(self.license, self.language)

    @property
    def store(self) -> Store:
        return Store(self.root)


@dataclass
class PolicyInputs(Inputs):
    """What PPO and RLOO ask besides."""

    reward_model: str = field(
        default="", metadata={"help": "Reward model: name@version of the store, a folder or a Hub id."}
    )
    reward_revision: str | None = field(
        default=None, metadata={"help": "Its commit, where it is on the Hub."}
    )
    max_prompt_length: int = field(default=256, metadata={"help": "Prompts of more tokens are left out."})
    max_kl: float = field(default=50.0, metadata={"help": "Stop where KL is over so many nats a response."})
    report_prompts: int = field(
        default=64, metadata={"help": "Prompts of each kind that are answered before and after training."}
    )


def parse(parser: Any, recipe: str, argv: list[str] | None = None) -> tuple[Any, ...]:
    """The dataclasses that TRL's `parser` was made for, from the command line over `--config FILE`.

    A YAML file holds one section per recipe, and `all` for what they share; keys are the flags' names. It
    must not have other keys. Raises InputError for whatever cannot be parsed. Sets what follows from the
    machine: without a GPU `use_cpu`, and a work folder under the store where no `output_dir` is given.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments: list[str] = []
    while given:
        flag, equals, value = given.pop(0).partition("=")
        if flag != "--config":
            arguments.append(f"{flag}{equals}{value}")
        elif not (value := value or (given.pop(0) if given else "")):
            raise InputError("--config: name a YAML file")
        else:
            arguments = [*_flags(parser, Path(value), recipe), *arguments]
    if not _has_gpu():
        parser.set_defaults_with_config(use_cpu=True)
    parser.allow_abbrev = False  # half a flag's name is not what a card leaves out
    errors = StringIO()
    try:
        with redirect_stderr(errors):
            parsed = tuple(parser.parse_args_into_dataclasses(args=arguments))
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        lines = errors.getvalue().strip().splitlines() or ["the arguments are wrong"]
        raise InputError(lines[-1].partition("error: ")[2] or lines[-1]) from None
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        raise InputError(str(error)) from None
    inputs, args = parsed[:2]
    _refuse(args, parsed[-1])
    if args.output_dir in (None, "trainer_output"):
        args.output_dir = str(Path(inputs.root) / ".training" / inputs.artifact)
    return parsed


def _refuse(args: Any, model_args: Any) -> None:
    """Raise InputError for what TRL takes and a recipe cannot keep its promises with."""
    if getattr(args, "chat_template_path", None):
        raise InputError(
            "--chat_template_path: the recipes have one chat template, shared by RM, SFT and PPO"
        )
    if args.push_to_hub or getattr(args, "trust_remote_code", False):
        raise InputError(
            "--push_to_hub and --trust_remote_code are not taken: models go to the store first, and no "
            "code of others is run"
        )
    if args.load_best_model_at_end:
        raise InputError(
            "--load_best_model_at_end: the last weights are published, not those of an evaluation"
        )
    sharded = os.environ.get("FSDP_STATE_DICT_TYPE", "") != "FULL_STATE_DICT"
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true") and (
        sharded or model_args.use_peft
    ):
        raise InputError(
            "FSDP: a model is published whole, so give accelerate launch --fsdp_state_dict_type "
            "FULL_STATE_DICT, and no --use_peft, whose adapter could not be merged"
        )


def run(main: Callable[[], None]) -> None:
    """Run a recipe: 0 done, 1 failed, 2 bad input (one line on stderr), 130 interrupted.

    What fails inside torch or TRL keeps its traceback.
    """
    try:
        main()
    except InputError as error:
        _die(2, str(error))
    except KeyboardInterrupt:
        _die(130, "interrupted: run the same command to go on from the last checkpoint (PPO starts anew)")
    except (Stopped, OSError, MemoryError) as error:
        _die(1, str(error) if isinstance(error, Stopped) else f"{type(error).__name__}: {error}")


def settings(*configs: Any) -> dict[str, Any]:
    """What decides the weights: every argument that differs from its default, but for `RUNTIME`.

    With several processes their number too, since a batch is of all of them.
    """
    found = {name: value for name, (value, _) in differing(*configs).items()}
    several = processes()
    return found | ({"processes": several} if several > 1 else {})


def runtime(*configs: Any) -> dict[str, Any]:
    """What is recorded of how it ran: of `RUNTIME`, the arguments in `RECORDED` that were changed."""
    found = {name: value for name, (value, _) in differing(*configs, names=RECORDED).items()}
    return found | {"processes": processes()}


def differing(*configs: Any, names: frozenset[str] | None = None) -> dict[str, tuple[Any, Any]]:
    """Name -> value and default of what differs, as JSON data; of `names`, or of all but `RUNTIME`."""
    found: dict[str, tuple[Any, Any]] = {}
    for config in configs:
        plain = _untouched(config)
        for one in fields(config):
            value, default = getattr(config, one.name), getattr(plain, one.name)
            both_none = value in (None, {}, []) and default in (None, {}, [])
            wanted = one.name in names if names else one.name not in RUNTIME
            if one.init and wanted and value != default and not both_none:
                found[one.name] = _plain(value), _plain(default)
    return found


def _untouched(config: Any) -> Any:
    """The same config with nothing said: TRL fills some defaults in only when one is made."""
    needed = {
        one.name: getattr(config, one.name)
        for one in fields(config)
        if one.name == "use_cpu" or (one.default is MISSING and one.default_factory is MISSING)
    }
    return type(config)(**needed)


def processes() -> int:
    """How many there are, as torchrun and accelerate tell each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


RECORDED = frozenset(
    "attn_implementation gradient_checkpointing use_cpu use_liger_kernel eval_strategy save_steps max_kl "
    "report_prompts activation_offloading per_device_eval_batch_size fsdp vllm_tensor_parallel_size".split()
)
RUNTIME = frozenset(
    """
    output_dir run_name project logging_strategy logging_first_step logging_steps
    logging_nan_inf_filter report_to save_strategy save_steps save_total_limit disable_tqdm
    dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
    dataloader_prefetch_factor dataset_num_proc eval_strategy eval_steps eval_delay eval_on_start
    per_device_eval_batch_size eval_accumulation_steps use_cpu log_level log_level_replica
    push_to_hub hub_model_id hub_strategy hub_token hub_private_repo hub_revision hub_always_push
    resume_from_checkpoint ddp_backend ddp_timeout ddp_find_unused_parameters skip_memory_metrics
    torch_empty_cache_steps include_num_input_tokens_seen model_name_or_path model_revision
    attn_implementation gradient_checkpointing gradient_checkpointing_kwargs activation_offloading
    world_size num_total_batches micro_batch_size local_batch_size batch_size local_mini_batch_size
    mini_batch_size sft_model_path reward_model_path num_sample_generations log_completions
    num_completions_to_print vllm_gpu_memory_utilization vllm_server_host vllm_server_port
    vllm_server_base_url vllm_server_timeout vllm_group_port deepspeed fsdp fsdp_config
    restore_callback_states_from_checkpoint enable_jit_checkpoint trackio_space_id trackio_bucket_id
    trackio_static_space_id root artifact dataset dataset_revision dataset_config allow_unpinned
    license language dry_run reward_model reward_revision max_kl report_prompts save_only_model
    do_eval do_train do_predict local_rank debug log_on_each_node save_on_each_node bf16_full_eval
    fp16_full_eval prediction_loss_only ddp_bucket_cap_mb ddp_broadcast_buffers
    vllm_tensor_parallel_size vllm_enable_sleep_mode log_unique_prompts
    """.split()
)
"""Arguments that say where and how it runs, or that the manifest has elsewhere: not fingerprinted."""


def section(path: Path, recipe: str) -> dict[str, Any]:
    """A recipe's arguments in a YAML file: its own over those of `all`. InputError where there are none."""
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or recipe not in found:
        raise InputError(f"{path}: no section {recipe!r}; a section holds the arguments of one recipe")
    both = [found.get("all") or {}, found[recipe] or {}]
    if not all(isinstance(one, dict) for one in both):
        raise InputError(f"{path}: a section is a mapping of arguments to values")
    return {**both[0], **both[1]}


def _flags(parser: Any, path: Path, recipe: str) -> list[str]:
    """The section's values as flags, so that they are held to the same types as those of the command line.

    Only what no flag can say, nothing and mappings, becomes a default.
    """
    given = section(path, recipe)
    actions = {action.dest: action for action in parser._actions}
    flags: list[str] = []
    for name, value in given.items():
        if name not in actions:
            ours = ", ".join(sorted(one.name for one in fields(parser.dataclass_types[0])))
            raise InputError(f"{path}: {recipe}.{name}: no such argument; keys are TRL's, and ours: {ours}")
        if isinstance(value, list) and actions[name].nargs not in ("+", "*"):
            raise InputError(f"{path}: {recipe}.{name}: one value is wanted, and no list")
        if isinstance(value, list) and value:
            flags += [f"--{name}", *map(str, value)]
        elif value is None or isinstance(value, dict | list):
            parser.set_defaults_with_config(**{name: value})
        else:
            flags.append(f"--{name}={value}")
    return flags


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _die(code: int, message: str) -> None:
    print(f"almost-data: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
