"""Which arguments decide the weights, which are only recorded, and which differ from the paper's."""

import os
from dataclasses import MISSING, fields
from typing import Any

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
    # Not published, or not the paper's.
    "dpo": {},
    "ppo": {},
    "rloo": {},
}
RUNTIME_PREFIXES = tuple(
    "activation_ ddp_ eval_ fsdp gradient_checkpointing hub_ log_ logging_ save_ trackio_".split()
)
RUNTIME = frozenset(
    """
    artifact attn_implementation batch_size bf16_full_eval dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor dataset
    dataset_config dataset_num_proc debug deepspeed disable_tqdm do_eval do_predict do_train dry_run
    enable_jit_checkpoint fp16_full_eval include_num_input_tokens_seen language license
    local_batch_size local_mini_batch_size local_rank max_kl micro_batch_size mini_batch_size
    model_name_or_path model_revision num_completions_to_print num_sample_generations
    num_total_batches output_dir per_device_eval_batch_size prediction_loss_only project push_to_hub
    report_prompts report_to restore_callback_states_from_checkpoint resume_from_checkpoint
    reward_model reward_model_path root run_name sft_model_path skip_memory_metrics
    torch_empty_cache_steps use_cpu vllm_enable_sleep_mode vllm_gpu_memory_utilization
    vllm_group_port vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout
    vllm_tensor_parallel_size world_size
    """.split()
)
"""Arguments that are not fingerprinted: how and where training runs, and what else the manifest records."""
RECORDED = frozenset(
    """
    activation_checkpointing activation_offloading attn_implementation eval_strategy fsdp
    gradient_checkpointing max_kl per_device_eval_batch_size report_prompts save_steps use_cpu
    use_liger_kernel vllm_tensor_parallel_size
    """.split()
)
"""Arguments that the manifest records beside the fingerprinted ones."""
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


def settings(*configs: Any) -> dict[str, Any]:
    """The arguments that decide the weights: all that differ from their default, except those of runtime.

    Several processes are a setting too, since a batch is over all of them.
    """
    values = {name: value for name, (value, _) in changed(*configs).items() if not _is_runtime(name)}
    return values | ({"processes": processes()} if processes() > 1 else {})


def runtime(*configs: Any) -> dict[str, Any]:
    """How training runs, for the record."""
    values = {name: value for name, (value, _) in changed(*configs).items() if name in RECORDED}
    return values | {"processes": processes()}


def deviations(recipe: str, inputs: Any, args: Any, model_args: Any) -> list[dict[str, Any]]:
    """Settings that differ from the paper's, or from the default where the paper gives none.

    The setting `batch` is `batch_size`.
    """
    paper = PAPER[recipe]
    used = {name: getattr(args, name, None) for name in paper}
    used |= {"batch": batch_size(args), "use_peft": model_args.use_peft}
    if args.max_steps > 0:
        used["num_train_epochs"] = f"{args.max_steps} steps"
    used = {name: getattr(value, "value", value) for name, value in used.items()}
    pairs = {name: (used[name], value) for name, value in paper.items() if used[name] != value}
    covered = {*paper, *(_BATCH if "batch" in paper else ())}
    for name, pair in changed(inputs, args, model_args).items():
        if name not in covered and not _is_runtime(name):
            pairs[name] = pair
    return [{"setting": name, "default": default, "used": value} for name, (value, default) in pairs.items()]


def changed(*configs: Any) -> dict[str, tuple[Any, Any]]:
    """Arguments that differ from their default: name -> value and default, as JSON data."""
    changes: dict[str, tuple[Any, Any]] = {}
    for config in configs:
        defaults = _defaults(config)
        for argument in fields(config):
            value, default = getattr(config, argument.name), getattr(defaults, argument.name)
            empty = value in (None, {}, []) and default in (None, {}, [])
            if argument.init and value != default and not empty:
                changes[argument.name] = _json_value(value), _json_value(default)
    return changes


def batch_size(args: Any) -> int:
    """Rows in one step of the optimizer, over all processes."""
    return int(args.per_device_train_batch_size * args.gradient_accumulation_steps * processes())


def processes() -> int:
    """Number of processes, as torchrun and accelerate set it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _is_runtime(name: str) -> bool:
    return name in RUNTIME or name.startswith(RUNTIME_PREFIXES)


def _defaults(config: Any) -> Any:
    """A config with only its required fields set: TRL computes some defaults when it is made."""
    required = {
        argument.name: getattr(config, argument.name)
        for argument in fields(config)
        if argument.name == "use_cpu" or (argument.default is MISSING and argument.default_factory is MISSING)
    }
    return type(config)(**required)


def _json_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)
