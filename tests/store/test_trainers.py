"""Trainers' layouts: documented columns, all rows, no text in a command, and our reward model's head."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
import yaml

from almost_data.errors import InputError
from almost_data.store.export import LAYOUTS, Trainer, hand_over, launch_files
from almost_data.store.store import Store
from tests.command import run as cli
from tests.tiny_models import save_tiny_reward

REF = "comparisons@0.1.0"
COLUMNS = {
    "openrlhf": ("prompt", "chosen", "rejected"),
    "verl": ("data_source", "prompt", "ability", "reward_model", "extra_info"),
    "llama-factory": ("messages", "chosen", "rejected"),
    "axolotl": ("messages", "chosen", "rejected"),
}
"""As each trainer documents them."""


def test_every_trainer_has_a_layout() -> None:
    assert set(LAYOUTS) == set(COLUMNS) == set(get_args(Trainer))


@pytest.mark.parametrize("trainer", LAYOUTS)
def test_the_files_load_and_have_the_documented_columns(
    fake_store: Store, tmp_path: Path, trainer: Trainer
) -> None:
    import datasets

    suffix, launch, folder = LAYOUTS[trainer][1], launch_files(trainer), tmp_path / "out"
    counts = hand_over(fake_store, REF, trainer, folder)
    kind = "parquet" if suffix == ".parquet" else "json"
    file = str(folder / f"train{suffix}")
    rows = datasets.load_dataset(kind, data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert tuple(rows.column_names) == COLUMNS[trainer] and len(rows) == counts[Path(file).name]
    stored = fake_store.scan(REF, split="train").collect()
    assert len(rows) == (stored["query_id"].n_unique() if trainer == "verl" else len(stored))
    assert rows[0].get("prompt", rows[0].get("messages")) == stored["prompt"].to_list()[0]
    if trainer in ("llama-factory", "axolotl"):
        assert rows[0]["chosen"] == stored["chosen"].to_list()[0][0]
    written = {file.name for file in folder.iterdir()}
    assert written == {f"train{suffix}", f"test{suffix}", *launch}
    for text in launch.values():  # every file and column that a launch names is there
        assert set(re.findall(r"(?:train|test)\.(?:jsonl|parquet)", text)) <= written
        assert set(re.findall(r"(?:_key[ =]|field_\w+: )(\w+)", text)) <= set(COLUMNS[trainer])


def test_scripts_pass_their_arguments_on(tmp_path: Path) -> None:
    """Run with a launcher that prints what it gets: `set -u` and quotes hold, the comment names settings."""
    launchers = ("deepspeed", "python3", "llamafactory-cli", "axolotl")
    for name in launchers:
        (tmp_path / name).write_text('#!/bin/sh\nfor part; do echo "$part"; done\n')
        (tmp_path / name).chmod(0o755)
    names = ("MODEL", "REWARD_MODEL", "TEMPLATE")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | {name: f"my {name}" for name in names}
    for trainer in LAYOUTS:
        for file, text in launch_files(trainer).items():
            if not file.endswith(".sh"):
                continue
            script = tmp_path / f"{trainer}_{file}"
            script.write_text(text)
            command = ["sh", str(script), "--batch", "a b"]
            printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            assert printed.stdout.splitlines()[-2:] == ["--batch", "a b"], (trainer, file)
            assert re.search(r"(?m)(^|=)my MODEL$", printed.stdout)
            assert re.search(r"# Set for your model and machine.*:\n#   \S", text)
            missing = subprocess.run(
                command, env={"PATH": environment["PATH"]}, capture_output=True, check=False
            )
            assert missing.returncode and not missing.stdout, "MODEL is not set"


def test_a_relative_model_folder_is_one_of_where_the_script_is_called(tmp_path: Path) -> None:
    caller, exported = tmp_path / "caller", tmp_path / "exported"
    exported.mkdir()
    for name in ("my model", "my reward"):
        (caller / name).mkdir(parents=True)
    launcher = tmp_path / "python3"
    launcher.write_text('#!/bin/sh\npwd; for part; do echo "$part"; done\n')
    launcher.chmod(0o755)
    (exported / "train.sh").write_text(launch_files("verl")["train_ppo.sh"])
    models = {"MODEL": "my model", "REWARD_MODEL": "./my reward", "CDPATH": str(tmp_path)}
    printed = subprocess.run(
        ["sh", "../exported/train.sh"],
        cwd=caller,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **models},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed[0] == str(exported)
    assert f"actor_rollout_ref.model.path={caller / 'my model'}" in printed
    assert f"critic.model.path={caller / 'my reward'}" in printed


def test_the_command_line_says_how_to_start(fake_store: Store, tmp_path: Path) -> None:
    for trainer in LAYOUTS:
        out = tmp_path / trainer
        done = cli(
            "export", REF, "--to", trainer, "-o", str(out), "--root", str(fake_store.root), columns=300
        )
        *variables, shell, script = done.stdout.splitlines()[-1].removeprefix("next: ").split()
        assert shell == "sh" and Path(script).parent == out and Path(script).name in launch_files(trainer)
        environment = {name.partition("=")[0] for name in variables}
        assert environment == set(re.findall(r"\$\{(\w+):\?", (out / Path(script).name).read_text("utf-8")))


def test_descriptions_are_valid() -> None:
    info = json.loads(launch_files("llama-factory")["dataset_info.json"])
    assert {entry["file_name"] for entry in info.values()} == {"train.jsonl", "test.jsonl"}
    assert yaml.safe_load(launch_files("axolotl")["dpo.yaml"])["learning_rate"] == 5e-7


@pytest.mark.parametrize("name", ["chosen", "query_id"])
def test_comparisons_of_another_shape_are_refused(
    fake_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The builder of another package may have sides that are text: a last letter is no turn."""
    rows = fake_store.scan(REF)
    rows = rows.with_columns(chosen=pl.lit("a text")) if name == "chosen" else rows.drop(name)
    monkeypatch.setattr("almost_data.store.export.with_texts", lambda *_: rows)
    with pytest.raises(InputError, match=f"no such column {name}"):
        hand_over(fake_store, REF, "verl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompts_without_replies_are_said_to_be_fewer(fake_store: Store, tmp_path: Path) -> None:
    words = ("export", REF, "--to", "verl", "-o", str(tmp_path / "new"), "--root", str(fake_store.root))
    assert "rows, one for each prompt, as PPO reads no replies" in cli(*words).stdout


def test_a_hostile_text_reaches_no_command(store: Store, tmp_path: Path) -> None:
    text = '$(touch owned); `id` "\n--data.dataset x'
    source = tmp_path / "pairs.jsonl"
    source.write_text(json.dumps({"prompt": text, "chosen": "yes", "rejected": "no"}))
    imported = cli("import", "preferences", str(source), "--version", "1.0.0", "--root", str(store.root))
    assert imported.returncode == 0, imported.stderr
    for trainer in LAYOUTS:
        folder, launch = tmp_path / trainer, launch_files(trainer)
        hand_over(store, "comparisons@1.0.0", trainer, folder)
        assert {name: (folder / name).read_text("utf-8") for name in launch} == launch
    row = pl.concat([pl.read_parquet(file) for file in (tmp_path / "verl").glob("*.parquet")]).row(
        0, named=True
    )
    assert row["prompt"] == [{"role": "user", "content": text}]


def test_nothing_is_overwritten_and_only_comparisons_are_taken(fake_store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"export\.out .*exists already"):
        hand_over(fake_store, REF, "verl", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="is a dataset of queries, without chosen"):
        hand_over(fake_store, "queries@0.1.0", "verl", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_export_that_was_killed_or_failed_can_be_run_again(
    fake_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "old.jsonl").write_text("{")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        with pytest.raises(InputError, match=r"^export\.out .*No space left"):
            hand_over(fake_store, REF, "openrlhf", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    hand_over(fake_store, REF, "openrlhf", tmp_path / "out")
    assert {file.name for file in tmp_path.iterdir()} == {"out"}


def test_a_reward_model_has_the_head_that_trainers_load(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(save_tiny_reward(tmp_path / "rm"))
    assert network.config.num_labels == 1
    assert network.score.out_features == 1  # OpenRLHF: `--ds.value_head_prefix score`
