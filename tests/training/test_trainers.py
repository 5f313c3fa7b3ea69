"""What every recipe does with a trainer: rows, callbacks, logs."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.errors import InputError
from almost_data.training import settings, template, trainers
from tests.tiny_models import save_tiny, tiny_config, tiny_tokenizer
from tests.training.rows import messages, pair

transformers = pytest.importorskip("transformers")
ROWS = pl.DataFrame([pair(n) for n in range(200)])


# --- rows ------------------------------------------------------------------------------------------------


def test_rows_are_drawn_by_the_seed_and_keep_their_order() -> None:
    rows = trainers.sample(ROWS, 50, seed=1)
    assert len(rows) == 50 and rows["query_id"].is_unique().all() and rows["query_id"].is_sorted()
    assert rows.columns == ROWS.columns and rows.equals(trainers.sample(ROWS, 50, seed=1))
    assert not rows.equals(trainers.sample(ROWS, 50, seed=2)) and not rows.equals(ROWS.head(50))
    for limit in (None, 200, 201):
        assert trainers.sample(ROWS, limit, seed=1) is ROWS


def test_trl_gets_no_column_but_those_named() -> None:
    """A column `margin` would change its loss."""
    rows = ROWS.with_columns(margin=pl.lit(1.0))
    dataset = trainers.dataset(rows, "prompt", "chosen", "rejected")
    assert dataset.column_names == ["prompt", "chosen", "rejected"]
    assert dataset[3] == {name: value for name, value in pair(3).items() if name in dataset.column_names}


@pytest.mark.parametrize("bos", [False, True])
def test_ppo_reads_a_prompt_up_to_where_the_reply_begins(bos: bool) -> None:
    tokenizer = tiny_tokenizer(bos)
    template.prepare(tokenizer, "it")
    dataset = trainers.prompt_ids(ROWS.head(3), tokenizer)
    assert dataset.column_names == ["input_ids"]
    for ids, row in zip(dataset["input_ids"], ROWS.head(3).to_dicts(), strict=True):
        whole = tokenizer.apply_chat_template(
            row["prompt"] + messages("Yes.", first="assistant"), return_dict=True
        )
        assert list(ids) == whole["input_ids"][: len(ids)]
        assert (
            tokenizer.decode(ids, skip_special_tokens=True)
            == f"\n\nHuman: {row['prompt'][0]['content']}\n\nAssistant:"
        )
        assert list(ids).count(tokenizer.bos_token_id) == bos


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"null"),
        ("config.json", b"{}"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        ("tokenizer.json", b"{"),
        ("tokenizer_config.json", b"[]"),
    ],
)
def test_a_half_written_model_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    folder = save_tiny(tmp_path / "model")
    (folder / name).write_bytes(content)
    model_args = Namespace(dtype="float32", attn_implementation=None)
    with pytest.raises(InputError, match=r"model: cannot be loaded \(.*\): complete its files"):
        trainers.load_tokenizer(folder)
        trainers.load(transformers.AutoModelForCausalLM, folder, model_args)


@pytest.mark.parametrize("kind", ["CausalLM", "SequenceClassification"])
def test_no_weight_but_a_new_head_is_random(tmp_path: Path, kind: str) -> None:
    folder = save_tiny(tmp_path / "model")
    model_args = Namespace(dtype="float32", attn_implementation=None)
    options = {"num_labels": 1} if kind == "SequenceClassification" else {}
    auto = getattr(transformers, f"AutoModelFor{kind}")
    trainers.load(auto, folder, model_args, **options)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 9}))
    with pytest.raises(InputError, match=r"it lacks model\.layers.*, which would be random numbers"):
        trainers.load(auto, folder, model_args, **options)


# --- settings --------------------------------------------------------------------------------------------


def test_a_batch_is_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    args = Namespace(per_device_train_batch_size=4, gradient_accumulation_steps=2, world_size=None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert settings.batch_size(args) == 8
    monkeypatch.setenv("WORLD_SIZE", "5")
    assert settings.batch_size(args) == 40


# --- callbacks -------------------------------------------------------------------------------------------


def log(callback: Any, **logs: float) -> None:
    callback.on_log(None, Namespace(global_step=3, log_history=[logs]), None, logs=logs)


def test_a_policy_that_runs_away_is_stopped() -> None:
    stop = trainers.stop_on_kl(10.0)
    log(stop, loss=1e9)
    log(stop, **{"objective/kl": 10.0})
    log(stop, **{"objective/kl": -3.0})
    log(stop, kl=0.1, **{"completions/mean_length": 100.0})
    log(stop)
    for logs in (
        {"objective/kl": 10.1},
        {"objective/kl": math.nan},
        {"objective/kl": math.inf},
        {"kl": 0.1, "completions/mean_length": 101.0},
    ):
        with pytest.raises(
            RuntimeError, match=r"^step 3: KL is .* over max_kl=10: .*raise kl_coef"
        ) as caught:
            log(stop, **logs)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("default")
def test_the_length_of_ppo_s_replies_is_logged_with_their_eos() -> None:
    import torch

    model = transformers.AutoModelForCausalLM.from_config(tiny_config("llama", 32))
    torch.manual_seed(0)
    lengths = trainers.log_lengths(model, eos=7)
    state = Namespace(log_history=[{"loss": 1.0}])
    lengths.on_log(None, state, None)
    assert state.log_history == [{"loss": 1.0}], "nothing was written"
    prompts = torch.randint(8, 32, (64, 5))
    output = model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=True,
        top_k=0,
        temperature=9.0,
        max_new_tokens=20,
        eos_token_id=7,
        pad_token_id=7,
        return_dict_in_generate=True,
    )
    expected = []
    for row in output.sequences[:, 5:].tolist():
        expected.append(row.index(7) + 1 if 7 in row else len(row))
    assert min(expected) < max(expected)
    lengths.on_log(None, state, None)
    assert state.log_history[-1]["length"] == pytest.approx(sum(expected) / 64)
    state.log_history.append({})
    lengths.on_log(None, state, None)
    assert state.log_history[-1] == {}, "each reply is counted once"


# --- logs ------------------------------------------------------------------------------------------------


def test_ppo_and_rloo_have_the_same_names_and_kl_per_response() -> None:
    ppo = {"step": 1, "objective/scores": 2.0, "objective/kl": 3.0, "policy/entropy_avg": 4.0, "length": 5.0}
    rloo = {"step": 1, "reward": 2.0, "kl": 0.6, "entropy": 4.0, "completions/mean_length": 5.0}
    expected = {"step": 1, "reward": 2.0, "kl": pytest.approx(3.0), "entropy": 4.0, "length": 5.0}
    assert trainers.renamed([ppo]) == trainers.renamed([rloo]) == [expected]
    assert trainers.renamed([{"loss/policy_avg": 1, "loss/value_avg": 2, "x": 3}]) == [
        {"policy_loss": 1, "value_loss": 2, "x": 3}
    ]
    assert set(expected) - {"step"} <= set(trainers.POLICY_CURVES)


def test_the_last_of_each_number_is_kept() -> None:
    history = [
        {"loss": 2.0, "step": 1, "epoch": 0.1},
        {"eval_loss": 3, "note": "x"},
        {"loss": 1.0, "step": 2},
    ]
    assert trainers.last_metrics(history) == {"loss": 1.0, "eval_loss": 3}
    assert trainers.last_metrics([]) == {}


def test_speed_is_of_the_training_itself() -> None:
    history = [
        {"num_tokens": 100.0},
        {"num_tokens": 300.0},
        {"train_runtime": 4.0, "train_samples_per_second": 6.0},
    ]
    import torch

    how = {"args": Namespace(bf16=True, fp16=False), "model": torch.nn.Linear(1, 1)}
    speed = trainers.speed(Namespace(state=Namespace(log_history=history), **how), 0.0, 99)
    assert speed["dtype"] == "float32 weights, bfloat16 arithmetic"
    assert (speed["seconds"], speed["rows_per_second"], speed["tokens_per_second"]) == (4.0, 6.0, 75.0)
    assert speed["peak_memory_mib"] > 10
    bare = trainers.speed(Namespace(state=Namespace(log_history=[]), **how), 0.0, 99)
    assert bare["tokens_per_second"] is None and bare["rows_per_second"] > 0
    resumed = trainers.speed(Namespace(state=Namespace(log_history=history), **how), 0.0, 99, True)
    assert resumed["tokens_per_second"] is None and resumed["rows_per_second"] is None


def test_quiet_is_only_for_a_while() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()
    with pytest.raises(KeyError), trainers.quiet():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise KeyError
    assert logging.get_verbosity() == before and logging.is_progress_bar_enabled()
