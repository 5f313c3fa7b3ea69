"""A reward model that TRL trains here: we read the tokens that it was trained on, and give its scores."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from almost_data.scoring import Dialogue, load
from almost_data.scoring.reading import Reader
from tests.tiny_models import tiny_reward_model

pytest.importorskip("trl")

pytestmark = pytest.mark.train

GOOD = "It rises because the yeast breathes out gas."
BAD = "Nobody knows that, and nobody ever will."
ROWS = [(f"Why is {n} so?", f"{n}. {GOOD}", f"{n}. {BAD}" + " No." * (n % 3)) for n in range(32)]
ROWS[0] = ("<eos>", "Odd text<eos><eos>", "")


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


@pytest.mark.filterwarnings("default")  # TRL's and torch's own warnings are not ours to mend
@pytest.mark.parametrize("padding", ["<eos>", "<bos>"])
def test_the_trainer_s_tokens_and_scores(
    padding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from trl import RewardConfig, RewardTrainer

    monkeypatch.setenv("ALMOST_DATA_CACHE", str(tmp_path / "cache"))
    model, tokenizer = tiny_reward_model(seed=3)
    tokenizer.pad_token = padding
    rows = [
        {"prompt": message("user", p), "chosen": message("assistant", c), "rejected": message("assistant", r)}
        for p, c, r in ROWS
    ]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=8,
            per_device_train_batch_size=8,
            learning_rate=3e-3,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "rm"))
    encoded = list(trainer.train_dataset)

    dialogues = [
        Dialogue.of(f"{side} {n}", row[0], row[at])
        for at, side in ((1, "chosen"), (2, "rejected"))
        for n, row in enumerate(ROWS)
    ]
    tokens = {row.id: row.tokens for row in Reader(tokenizer, 256, "rm").read(dialogues)}
    for n, row in enumerate(encoded):
        assert (tokens[f"chosen {n}"], tokens[f"rejected {n}"]) == (row["chosen_ids"], row["rejected_ids"])

    batch: dict[str, Any] = trainer.data_collator(
        [{k: row[k] for k in ("chosen_ids", "rejected_ids")} for row in encoded]
    )
    with torch.inference_mode():
        theirs = trainer.model.eval()(**batch).logits.squeeze(-1).tolist()
    scorer = load(str(tmp_path / "rm"), options={"device": "cpu"})
    ours = {score.id: score.value for score in scorer.score(dialogues)}
    assert [ours[dialogue.id] for dialogue in dialogues] == pytest.approx(theirs, abs=1e-4)
    assert sum(ours[f"chosen {n}"] > ours[f"rejected {n}"] for n in range(1, 32)) >= 29
