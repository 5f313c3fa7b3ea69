"""Comparisons train a reward model with TRL as they are: no column renamed, dropped or converted."""

from pathlib import Path

import datasets
import pytest

from almost_data.store.store import Store
from tests import tiny_models

pytestmark = pytest.mark.train


@pytest.mark.filterwarnings("default")  # TRL's and torch's own warnings are not ours to mend
def test_reward_trainer_takes_a_step_on_default(fake_store: Store, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, LlamaConfig
    from trl import RewardConfig, RewardTrainer

    loaded = datasets.load_dataset(
        str(fake_store.path("comparisons@0.1.0")), cache_dir=str(tmp_path / "cache")
    )
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_config(config),
        args=RewardConfig(
            output_dir=str(tmp_path / "rm"),
            max_steps=1,
            per_device_train_batch_size=4,
            report_to="none",
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=loaded["train"],
        processing_class=tokenizer,
    )
    assert trainer.train().global_step == 1
    logged = [entry for entry in trainer.state.log_history if "train_loss" in entry]
    assert 0 < logged[-1]["train_loss"] < 10
