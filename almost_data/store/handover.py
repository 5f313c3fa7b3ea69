"""A dataset in the layout that another trainer documents, with the lines that launch it there.

Data files hold texts, launch files hold none: what they name are fixed file and column names and the
variables MODEL and REWARD_MODEL, so that no text of a dataset becomes part of a command.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from ..errors import InputError
from ..outputs import new_folder
from .export import SUFFIXES
from .samples import Artifacts, dataset, with_texts

Trainer = Literal["openrlhf", "verl", "llama-factory", "axolotl"]


def _model(variable: str) -> str:
    """Lines that require a model; a relative folder is one of where the script is called."""
    folder = f'$(CDPATH= cd -- "${variable}" && pwd)'
    return (
        f': "${{{variable}:?a folder or a Hub id}}"\nif [ -d "${variable}" ]; then {variable}={folder}; fi\n'
    )


_REWARD = _model("REWARD_MODEL")


@dataclass(frozen=True)
class Consumer:
    """A trainer: how its data are laid out, and how it is launched."""

    layout: Callable[[str, pl.LazyFrame], pl.LazyFrame]
    """The dataset's ref and the comparisons of a split -> the rows of a data file."""
    suffix: Literal[".jsonl", ".parquet"]
    launch: dict[str, str]
    """File name -> its text."""


def _script(left_to_set: tuple[str, ...], *command: str, checks: str = "") -> str:
    """A shell script that passes its arguments on; a comment names what its user has to set."""
    comment = "# Set for your model and machine, as arguments of this script:\n"
    comment += "".join(f"#   {line}\n" for line in left_to_set)
    options = " \\\n   ".join((*command, '"$@"'))
    start = f'set -eu\n{_model("MODEL")}{checks}cd "$(dirname "$0")"\n'
    return f"{start}{comment}{options}\n"


def _pairs(ref: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("prompt", "chosen", "rejected")


def _prompts(ref: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    prompts = rows.select("prompt", "query_id").filter(pl.col("query_id").is_first_distinct())
    return prompts.with_row_index("index").select(
        pl.lit(ref).alias("data_source"),
        "prompt",
        pl.lit("chat").alias("ability"),
        pl.struct(style=pl.lit("model"), ground_truth=pl.lit("")).alias("reward_model"),
        pl.struct(pl.col("index").cast(pl.Int64), "query_id").alias("extra_info"),
    )


def _turns(ref: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    sides = (pl.col(side).list.last() for side in ("chosen", "rejected"))
    return rows.select(pl.col("prompt").alias("messages"), *sides)


_ROLES = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}
_ROLES |= {"assistant_tag": "assistant", "system_tag": "system"}
_COLUMNS = {name: name for name in ("messages", "chosen", "rejected")}
_INFO = {
    f"almost_{split}": {
        "file_name": f"{split}.jsonl",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": _COLUMNS,
        "tags": _ROLES,
    }
    for split in ("train", "test")
}
_OPENRLHF = ("--data.apply_chat_template", "--ds.param_dtype bf16 --ds.zero_stage 3")
_OPENRLHF_BATCHES = "--train.batch_size and --train.micro_batch_size (of a GPU), --data.max_len"
_LEARNING_RATES = {"dpo": "5.0e-7", "rm": "2.0e-5"}
CONSUMERS: dict[Trainer, Consumer] = {
    "openrlhf": Consumer(
        _pairs,
        ".jsonl",
        {
            f"train_{name}.sh": _script(
                (_OPENRLHF_BATCHES,),
                f'deepspeed --module openrlhf.cli.train_{name} --model.model_name_or_path "$MODEL"',
                "--data.dataset train.jsonl --data.prompt_key prompt",
                "--data.chosen_key chosen --data.rejected_key rejected",
                # A JSON file has one split, train. Else 1% of train.jsonl is read, which may be no row.
                "--eval.dataset test.jsonl --eval.split train",
                *_OPENRLHF,
                f"--ckpt.output_dir {name}",
            )
            for name in ("rm", "dpo")
        }
        | {
            "train_ppo.sh": _script(
                (
                    "--vllm.num_engines and --vllm.tensor_parallel_size",
                    "--actor.num_nodes and --actor.num_gpus_per_node, and those of ref, critic and reward",
                    "--train.colocate_all where all of them share the GPUs",
                    f"{_OPENRLHF_BATCHES}, --rollout.batch_size",
                ),
                'python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path "$MODEL"',
                '--reward.model_name_or_path "$REWARD_MODEL" --critic.model_name_or_path "$REWARD_MODEL"',
                "--ds.value_head_prefix score --data.prompt_dataset train.jsonl --data.input_key prompt",
                *_OPENRLHF,
                "--ckpt.output_dir ppo",
                checks=_REWARD,
            )
        },
    ),
    "verl": Consumer(
        _prompts,
        ".parquet",
        {
            "train_ppo.sh": _script(
                (
                    "trainer.nnodes and trainer.n_gpus_per_node",
                    "data.train_batch_size and actor_rollout_ref.actor.ppo_mini_batch_size",
                    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
                    "critic.ppo_micro_batch_size_per_gpu",
                    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
                    "actor_rollout_ref.rollout.tensor_model_parallel_size, and that of reward.reward_model",
                    "data.max_prompt_length and data.max_response_length",
                ),
                "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=gae",
                "data.train_files=train.parquet data.val_files=test.parquet data.prompt_key=prompt",
                'actor_rollout_ref.model.path="$MODEL" critic.model.path="$REWARD_MODEL"',
                'reward.reward_model.enable=True reward.reward_model.model_path="$REWARD_MODEL"',
                "actor_rollout_ref.rollout.name=vllm reward.reward_model.rollout.name=vllm",
                checks=_REWARD,
            )
        },
    ),
    "llama-factory": Consumer(
        _turns,
        ".jsonl",
        {
            "dataset_info.json": json.dumps(_INFO, indent=2) + "\n",
            **{
                f"train_{stage}.sh": _script(
                    (
                        "--per_device_train_batch_size and --gradient_accumulation_steps, --cutoff_len",
                        "--deepspeed with a file of its examples/deepspeed, where a GPU is too small",
                    ),
                    f'llamafactory-cli train --stage {stage} --do_train --model_name_or_path "$MODEL"',
                    '--template "$TEMPLATE" --dataset_dir . --dataset almost_train --finetuning_type full',
                    f"--learning_rate {rate} --num_train_epochs 1 --lr_scheduler_type cosine",
                    f"--bf16 --output_dir {stage}",
                    checks=': "${TEMPLATE:?a chat template by its name there}"\n',
                )
                for stage, rate in _LEARNING_RATES.items()
            },
        },
    ),
    "axolotl": Consumer(
        _turns,
        ".jsonl",
        {
            "dpo.yaml": "rl: dpo\nchat_template: tokenizer_default\n"
            "datasets:\n  - path: train.jsonl\n    ds_type: json\n"
            "    split: train\n    type: chat_template.default\n    field_messages: messages\n"
            "    field_chosen: chosen\n    field_rejected: rejected\n"
            "    message_property_mappings:\n      role: role\n      content: content\n"
            "sequence_len: 2048\nsample_packing: false\nmicro_batch_size: 2\ngradient_accumulation_steps: 8\n"
            "num_epochs: 1\nlearning_rate: 5.0e-7\noptimizer: adamw_torch\nlr_scheduler: cosine\n"
            "bf16: true\ngradient_checkpointing: true\noutput_dir: dpo\n",
            "train_dpo.sh": _script(
                (
                    "--micro-batch-size, --gradient-accumulation-steps, --sequence-len (or in dpo.yaml)",
                    "--deepspeed with a file of `axolotl fetch deepspeed_configs`, where a GPU is too small",
                ),
                'axolotl train dpo.yaml --base-model "$MODEL"',
            ),
        },
    ),
}
"""By name, the trainers: columns and options of OpenRLHF 0.11, verl 0.9, LLaMA-Factory 0.9, axolotl 0.19."""


def hand_over(artifacts: Artifacts, ref: str, trainer: Trainer, folder: Path) -> dict[str, int]:
    """Write comparisons for a trainer into a new folder; returns the rows of each data file.

    Raises InputError where they are no comparisons, or the folder exists or cannot be written.
    """
    consumer = CONSUMERS[trainer]
    if folder.suffix in SUFFIXES:
        raise InputError(f"export.out {folder}: export.to writes a folder: leave out {folder.suffix}")
    rows = with_texts(artifacts, dataset(artifacts, ref), "default")
    columns = rows.collect_schema()
    missing = {"query_id", "split"} - set(columns)
    sides = ("prompt", "chosen", "rejected")
    missing |= {name for name in sides if not isinstance(columns.get(name), pl.List)}
    if missing:
        names = ", ".join(sorted(missing))
        raise InputError(f"{ref}: export.to takes comparisons of messages, and it has no such column {names}")
    files = {split: f"{split}{consumer.suffix}" for split in ("train", "test")}
    counts = {}
    with new_folder(folder, "export.out") as staging:
        for split, name in files.items():
            data = consumer.layout(ref, rows.filter(pl.col("split") == split))
            if consumer.suffix == ".parquet":
                data.sink_parquet(staging / name)
            else:
                data.sink_ndjson(staging / name)
            counts[name] = int(data.select(pl.len()).collect(engine="streaming").item())
        for name, text in consumer.launch.items():
            (staging / name).write_text(text, encoding="utf-8")
    return counts
