"""The five recipes through their own main, on tiny models: what is published, and what comes of it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.cli import recipe
from almost_data.errors import InputError
from almost_data.scoring import Dialogue
from almost_data.scoring import load as load_scorer
from almost_data.store.store import Store
from almost_data.store.verify import verify
from almost_data.training import reinforced
from almost_data.training.samples import HELD_OUT, NEW, TRAINED_ON
from tests.hub_server import serve
from tests.overlay import needs_ppo
from tests.recipes import running
from tests.recipes.running import DPO, PPO, QUICK, RLOO, Kept

pytest.importorskip("trl")
# TRL's and torch's own warnings are not ours to mend
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

COMPARISONS = "comparisons@0.1.0"
PPO_TOO = pytest.param("ppo", marks=needs_ppo)
# Enough that it prefers the chosen side of what it learned, which PPO and RLOO ask of it.
RM = QUICK | {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "max_steps": 16, "save_steps": 4}
REPLY = "Yes, it is."


def rows(store: Store, n: int = 8) -> list[dict[str, Any]]:
    return store.scan(COMPARISONS, "default", "train").head(n).collect().to_dicts()


def talks(store: Store) -> list[list[dict[str, str]]]:
    return [row["prompt"] + row[side] for row in rows(store) for side in ("chosen", "rejected")]


def dialogues(store: Store) -> list[Dialogue]:
    return [Dialogue(str(n), tuple(turns)) for n, turns in enumerate(talks(store))]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(folder / "model.safetensors")
    return tensors


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    with torch.inference_mode():
        ids = tokenizer("\n\nHuman: Why?\n\nAssistant: Because.", return_tensors="pt")
        return model(**ids.to(model.device)).logits


@pytest.fixture(scope="module")
def rm(store: Store, base: Path) -> Kept:
    measure = lambda model, tokenizer: running.scores(model, tokenizer, talks(store))  # noqa: E731
    arguments = RM | {"dataset": COMPARISONS, "model_name_or_path": base, "center_rewards_coefficient": 0.01}
    return running.run("rm", store, "rm@0.1.0", arguments, measure)


@pytest.fixture(scope="module")
def sft(store: Store, base: Path) -> Kept:
    arguments = QUICK | {"dataset": COMPARISONS, "model_name_or_path": base}
    return running.run("sft", store, "sft@0.1.0", arguments, logits)


@pytest.fixture(scope="module")
def dpo(store: Store, base: Path) -> Kept:
    """From a base that gets a padding token of its own, as most bases do."""
    arguments = DPO | {"dataset": COMPARISONS, "model_name_or_path": base}
    return running.run("dpo", store, "dpo@0.1.0", arguments, logits)


@pytest.fixture(scope="module")
def talker(store: Store, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """SFT on `messages` of the Hub, by the command that a user gives: it learns one reply."""
    folder = tmp_path_factory.mktemp("hub")
    learned = [
        {"messages": [{"role": "user", "content": f"Is it {word}?"}, {"role": "assistant", "content": REPLY}]}
        for word in "old tall good sweet cold dark new late".split()
    ]
    pl.DataFrame(learned).write_parquet(folder / "rows.parquet")
    files = {"data/train-00000-of-00001.parquet": (folder / "rows.parquet").read_bytes(), "README.md": b"#\n"}
    arguments = QUICK | {"max_steps": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 8}
    arguments |= {"dataset": "someone/talks", "root": store.root, "model_name_or_path": base}
    with serve("someone/talks", files) as (endpoint, commit):
        environment = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        arguments |= {"artifact": "talker@0.1.0"}
        unpinned = running.script("sft", *running.flags(arguments), **environment)
        arguments |= {"dataset": f"someone/talks@{commit}"}
        done = running.script("sft", *running.flags(arguments), **environment)
    assert done.returncode == 0, done.stderr
    return unpinned, commit


@pytest.fixture(scope="module")
def ppo(store: Store, rm: Kept, sft: Kept) -> Kept:
    arguments = PPO | {"dataset": "queries@0.1.0", "model_name_or_path": "sft@0.1.0", "save_steps": 1}
    return running.run("ppo", store, "ppo@0.1.0", arguments | {"reward_model": "rm@0.1.0"}, logits)


@pytest.fixture(scope="module")
def rloo(store: Store, rm: Kept, talker: Any) -> Kept:
    arguments = RLOO | {"dataset": COMPARISONS, "model_name_or_path": "talker@0.1.0", "save_steps": 1}
    return running.run("rloo", store, "rloo@0.1.0", arguments | {"reward_model": "rm@0.1.0"}, logits)


# --- what every one publishes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("rm", [COMPARISONS]),
        ("sft", [COMPARISONS]),
        ("dpo", [COMPARISONS]),
        pytest.param("ppo", ["queries@0.1.0", "sft@0.1.0", "rm@0.1.0"], marks=needs_ppo),
        ("rloo", [COMPARISONS, "talker@0.1.0", "rm@0.1.0"]),
    ],
)
def test_an_artifact_with_lineage_that_plain_transformers_loads(
    name: str, parents: list[str], store: Store, request: pytest.FixtureRequest
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    kept: Kept = request.getfixturevalue(name)
    ref = f"{name}@0.1.0"
    assert verify(store, ref) == []
    manifest = store.manifest(ref)
    assert (manifest.kind, manifest.builder.name) == ("model", f"recipes/{name}")
    assert [parent.ref for parent in manifest.parents] == parents
    ancestors = {parent.ref for parent in store.ancestors(manifest)}
    assert ancestors >= {*parents, "queries@0.1.0"}
    if name != "ppo":
        assert ancestors >= {COMPARISONS, "responses@0.1.0"}
    assert manifest.is_fake
    for entry in manifest.ledger:
        assert entry.n_in == entry.kept + sum(entry.dropped.values()) + entry.failed
    assert manifest.ledger[-1].kept == manifest.counts["default"]["train"]
    assert not (store.root / ".training" / ref).exists(), "checkpoints are of no use any more"

    folder = store.path(ref)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not {"training_args.bin", "adapter_config.json", "recipe.json"} & {file.name for file in files}
    assert not [file for file in files if str(store.root.parent).encode() in file.read_bytes()]
    kind = AutoModelForSequenceClassification if name == "rm" else AutoModelForCausalLM
    model, tokenizer = kind.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False) == (
        "\n\nHuman: Why?"
    )
    assert tokenizer.chat_template == manifest.config["template"]
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.use_cache
    if name != "rm":
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert (logits(model, tokenizer) - kept.measured).abs().max() < 1e-4


def test_a_reward_model_scores_alike_in_memory_from_disk_and_in_our_scorer(store: Store, rm: Kept) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = store.path("rm@0.1.0")
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    again = running.scores(plain, AutoTokenizer.from_pretrained(folder), talks(store))
    assert again == pytest.approx(rm.measured, abs=1e-4)
    ours = {score.id: score.value for score in load_scorer(str(folder)).score(dialogues(store))}
    assert [ours[str(n)] for n in range(len(again))] == pytest.approx(again, abs=1e-4)
    assert max(again) - min(again) > 0.1


def test_the_report_compares_with_the_head_as_it_was_drawn(store: Store, rm: Kept, sft: Kept) -> None:
    diagnostics = store.manifest("rm@0.1.0").diagnostics
    curve = diagnostics["curves"]["eval_accuracy"]
    assert [step for step, _ in curve] == [0, 16]
    first, *others = diagnostics["report"]["subsets"]
    assert first["random_head"] == curve[0][1]
    assert others and not any("random_head" in subset for subset in others)  # that pair was not judged before
    assert [step for step, _ in store.manifest("sft@0.1.0").diagnostics["curves"]["eval_loss"]] == [0, 3]


def test_a_hub_dataset_must_be_pinned_and_stands_in_the_manifest(store: Store, talker: Any) -> None:
    unpinned, commit = talker
    assert unpinned.returncode == 2
    assert "name a tag or a commit" in unpinned.stderr.splitlines()[-1]
    manifest = store.manifest("talker@0.1.0")
    assert manifest.config["dataset"] == {
        "ref": f"someone/talks@{commit}",
        "config": None,
        "revision": commit,
    }
    assert not manifest.is_fake
    assert verify(store, "talker@0.1.0") == []


@pytest.mark.parametrize("name", ["talker", "rloo"])
def test_a_policy_answers_messages_and_stops(
    name: str, store: Store, talker: Any, request: pytest.FixtureRequest
) -> None:
    from transformers import pipeline

    request.getfixturevalue(name)
    speak = pipeline("text-generation", model=str(store.path(f"{name}@0.1.0")), device="cpu")
    prompt = [{"role": "user", "content": "Is it old?"}]
    [result] = speak(prompt, max_new_tokens=40, do_sample=False)
    assert [turn["role"] for turn in result["generated_text"]] == ["user", "assistant"]
    assert result["generated_text"][-1]["content"].strip() == REPLY  # and no more, so EOS ended it
    ids = speak.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True,
                                              return_tensors="pt").to("cpu")  # fmt: skip
    written = speak.model.generate(**ids, max_new_tokens=40, do_sample=False)[0]
    assert written[-1] == speak.tokenizer.eos_token_id


@pytest.mark.parametrize("name", [PPO_TOO, "rloo"])
def test_what_reinforcement_reports(name: str, store: Store, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(name)
    diagnostics = store.manifest(f"{name}@0.1.0").diagnostics
    for curve in ("reward", "kl", "length", "entropy"):
        assert [step for step, _ in diagnostics["curves"][curve]] == [1, 2], curve
    assert diagnostics["curves"]["kl"][0][1] == pytest.approx(0, abs=1e-3)  # it starts from the reference
    assert all(0 < length <= 12 for _, length in diagnostics["curves"]["length"])
    assert {entry["prompts"] for entry in diagnostics["rewards"]} <= {TRAINED_ON, NEW, HELD_OUT}
    assert diagnostics["samples"]


@pytest.mark.parametrize("name", [PPO_TOO, "rloo"])
def test_rewards_of_samples_are_our_scorer_s(name: str, store: Store, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(name)
    diagnostics = store.manifest(f"{name}@0.1.0").diagnostics
    judged = [sample for sample in diagnostics["samples"] if sample["reward_before"] is not None]
    assert judged
    texts = [Dialogue.of(str(n), sample["prompt"], sample["before"]) for n, sample in enumerate(judged)]
    ours = {sample.id: sample.value for sample in load_scorer(str(store.path("rm@0.1.0"))).score(texts)}
    assert [ours[str(n)] for n in range(len(judged))] == pytest.approx(
        [sample["reward_before"] for sample in judged], abs=1e-4
    )


def test_dpo_starts_from_its_reference_and_learns(store: Store, dpo: Kept) -> None:
    diagnostics = store.manifest("dpo@0.1.0").diagnostics
    curves = diagnostics["curves"]
    assert curves["loss"][0] == [1, pytest.approx(math.log(2), abs=1e-4)]
    assert curves["eval_loss"][0] == [0, pytest.approx(math.log(2), abs=1e-4)]
    losses, margins = ([value for _, value in curves[name]] for name in ("loss", "reward_margin"))
    assert losses == sorted(losses, reverse=True) and margins == sorted(margins) and margins[-1] > 0.1
    assert set(curves) == {
        *("loss", "accuracy", "reward_margin"),
        *("eval_loss", "eval_accuracy", "eval_reward_margin"),
    }
    assert diagnostics["samples"] and all(sample["held_out"] for sample in diagnostics["samples"])
    assert "trained by DPO" in (store.path("dpo@0.1.0") / "README.md").read_text("utf-8")


# --- again, otherwise, not at all ------------------------------------------------------------------------


def never(*args: Any, **how: Any) -> Any:
    raise AssertionError("this trains")


def test_the_same_command_again_trains_nothing(
    store: Store, base: Path, rm: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    module = running.load("rm")
    module.RewardTrainer = never
    arguments = RM | {"dataset": COMPARISONS, "model_name_or_path": base, "center_rewards_coefficient": 0.01}
    running.run("rm", store, "rm@0.1.0", arguments, module=module)
    assert "rm@0.1.0 exists already, from the same recipe: nothing to train" in capsys.readouterr().out
    # Where it runs and what it logs does not make it another model.
    running.run("rm", store, "rm@0.1.0", arguments | {"logging_steps": 5, "save_steps": 9}, module=module)

    with pytest.raises(InputError, match=r"rm@0\.1\.0 exists already, from another recipe .*learning_rate"):
        running.run("rm", store, "rm@0.1.0", arguments | {"learning_rate": 1e-3}, module=module)
    with pytest.raises(SystemExit) as stop:
        recipe.run(
            lambda: running.run("rm", store, "rm@0.1.0", arguments | {"learning_rate": 1e-3}, module=module)
        )
    assert stop.value.code == 2
    assert "learning_rate" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rm", "sft", "dpo", PPO_TOO, "rloo"])
def test_a_dry_run_checks_and_publishes_nothing(
    name: str, store: Store, base: Path, rm: Kept, sft: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    module = running.load(name)
    for trainer in ("RewardTrainer", "SFTTrainer", "DPOTrainer", "PPOTrainer", "RLOOTrainer"):
        if hasattr(module, trainer):
            setattr(module, trainer, never)
    arguments = {"dataset": COMPARISONS, "model_name_or_path": base, "max_length": 768}
    if name in ("ppo", "rloo"):
        arguments = {"dataset": COMPARISONS, "model_name_or_path": "sft@0.1.0", "reward_model": "rm@0.1.0",
                     "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}  # fmt: skip
        arguments |= {"num_generations": 2} if name == "rloo" else {}
    before = store.refs()
    running.run(name, store, "dry@0.1.0", arguments | {"bf16": False, "dry_run": True}, module=module)
    assert store.refs() == before
    assert not (store.root / ".training" / "dry@0.1.0").exists()
    assert "before training" in capsys.readouterr().out


def stopping(trainer: Any, at: int) -> Callable[..., Any]:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == at:
                raise KeyboardInterrupt

    def build(**how: Any) -> Any:
        return trainer(**how, callbacks=[Stop()])

    return build


@pytest.mark.parametrize("name", ["rm", "sft", "dpo"])
def test_an_interrupted_run_goes_on_and_ends_in_the_same_weights(
    name: str, store: Store, base: Path, request: pytest.FixtureRequest
) -> None:
    arguments = {"dataset": COMPARISONS, "model_name_or_path": base}
    if name == "rm":
        arguments |= RM | {"center_rewards_coefficient": 0.01, "save_steps": 3}
        trainer, at = "RewardTrainer", 8
    else:
        arguments |= (QUICK if name == "sft" else DPO) | {"save_steps": 1}
        trainer, at = f"{name.upper()}Trainer", 2
    whole: Kept = request.getfixturevalue(name)
    module = running.load(name)
    setattr(module, trainer, stopping(getattr(module, trainer), at))
    ref = f"{name}-again@0.1.0"
    with pytest.raises(SystemExit) as stop:
        recipe.run(lambda: running.run(name, store, ref, arguments, module=module))
    assert stop.value.code == 130
    assert not store.has(ref)
    work = store.root / ".training" / ref
    assert sorted(entry.name for entry in work.glob("checkpoint-*"))

    # Another recipe does not go on from there.
    with pytest.raises(InputError, match="has checkpoints of another recipe"):
        running.run(name, store, ref, arguments | {"learning_rate": 0.5})
    kept = running.run(name, store, ref, arguments)
    steps = [entry["step"] for entry in kept.trainer.state.log_history if "loss" in entry]
    assert steps == [entry["step"] for entry in whole.trainer.state.log_history if "loss" in entry]
    ours, theirs = weights(store.path(ref)), weights(store.path(f"{name}@0.1.0"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-5
    assert verify(store, ref) == []
    assert not work.exists()


@pytest.mark.parametrize("name", ["rm", "sft", "dpo", PPO_TOO])
def test_an_adapter_is_merged(name: str, store: Store, base: Path, rm: Kept, sft: Kept) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    def measure(model: Any, tokenizer: Any) -> Any:
        assert hasattr(model, "merge_and_unload")
        return running.scores(model, tokenizer, talks(store)) if name == "rm" else logits(model, tokenizer)

    start: Path = store.path("sft@0.1.0") if name == "ppo" else base
    arguments = QUICK | {"dataset": COMPARISONS, "model_name_or_path": start}
    if name == "ppo":
        arguments = PPO | {"dataset": COMPARISONS, "reward_model": "rm@0.1.0", "max_kl": 1e6}
        arguments |= {"model_name_or_path": "sft@0.1.0"}
    arguments |= {"use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 1e-2}
    ref = f"{name}-lora@0.1.0"
    kept = running.run(name, store, ref, arguments, measure)
    folder = store.path(ref)
    assert not [file.name for file in folder.iterdir() if "adapter" in file.name]
    assert not [key for key in weights(folder) if "lora" in key or "base_layer" in key or "modules_to" in key]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name == "rm":
        plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        assert running.scores(plain, tokenizer, talks(store)) == pytest.approx(kept.measured, abs=1e-4)
    else:
        plain = AutoModelForCausalLM.from_pretrained(folder).eval()
        assert (logits(plain, tokenizer) - kept.measured).abs().max() < 1e-4
        untrained = AutoModelForCausalLM.from_pretrained(start).eval()
        assert (logits(untrained, tokenizer)[..., :300] - kept.measured[..., :300]).abs().max() > 1e-2
    if name != "ppo":  # its values were not published
        assert {"setting": "use_peft", "default": False, "used": True} in (
            store.manifest(ref).diagnostics["deviations"]
        )


def test_a_pair_of_responders_is_left_out(store: Store, base: Path, rm: Kept) -> None:
    trained_rows = store.scan(COMPARISONS, "default", "train").collect()
    better, worse = "fake-135M-HHH-3shot", "fake-135M-HHH-1shot"
    pair = f"{better} > {worse}"
    n = len(trained_rows.filter(chosen_responder=better, rejected_responder=worse))
    assert n > 8
    arguments = QUICK | {"dataset": COMPARISONS, "model_name_or_path": base, "max_steps": 1, "limit": 9}
    running.run("rm", store, "rm-pair@0.1.0", arguments | {"leave_out_pair": pair})
    manifest = store.manifest("rm-pair@0.1.0")
    assert [(entry.filter, entry.dropped) for entry in manifest.ledger] == [
        ("left_out_pair", {"left_out_pair": n}),
        ("too_long", {}),
        ("over_limit", {"over_limit": len(trained_rows) - n - 9}),
    ]
    assert manifest.counts["default"]["train"] == 9
    assert manifest.diagnostics["report"]["left_out_pair"] == pair
    assert manifest.config["settings"]["leave_out_pair"] == pair
    # By itself it takes the pair with the fewest rows of those that have enough.
    assert store.manifest("rm@0.1.0").diagnostics["report"]["left_out_pair"]
    with pytest.raises(InputError, match="no such pair"):
        running.run("rm", store, "rm-none@0.1.0", arguments | {"leave_out_pair": "A > B"})


def test_a_reward_model_of_the_single_turn_part(base: Path, tmp_path: Path) -> None:
    """Of a dataset such as HH-RLHF, where a whole dialogue is one text, by the script."""

    def row(n: int, *turns: str) -> dict[str, str]:
        opening = "".join(f"\n\n{turn}" for turn in (f"Human: What is {n}?", *turns))
        return {
            side: f"{opening}\n\nAssistant: {text}" for side, text in (("chosen", "So."), ("rejected", "No."))
        }

    later_turns = ("Assistant: It is old.", "Human: How old?")
    train_rows = [row(n) for n in range(20)] + [row(n, *later_turns) for n in range(20, 32)]
    files = {"README.md": b"#\n"}
    for split, split_rows in (("train", train_rows), ("test", [row(40), row(41), row(42, *later_turns)])):
        pl.DataFrame(split_rows).write_parquet(tmp_path / "rows.parquet")
        files[f"data/{split}-00000-of-00001.parquet"] = (tmp_path / "rows.parquet").read_bytes()
    store = Store(tmp_path / "build")
    settings = QUICK | {"root": store.root, "model_name_or_path": base, "single_turn": "true", "max_steps": 1}
    with serve("someone/hh", files) as (endpoint, commit):
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        arguments = settings | {"dataset": f"someone/hh@{commit}", "artifact": "rm@0.1.0-single-turn"}
        done = running.script("rm", *running.flags(arguments), **hub)
    assert done.returncode == 0, done.stderr
    assert "12 of 32 rows have more than one user turn" in " ".join(done.stdout.split())
    manifest = store.manifest("rm@0.1.0-single-turn")
    assert verify(store, manifest.ref) == []
    assert [(entry.filter, entry.dropped) for entry in manifest.ledger] == [
        ("several_turns", {"several_turns": 12}), ("left_out_pair", {}), ("too_long", {}), ("over_limit", {}),
    ]  # fmt: skip
    assert manifest.config["settings"]["single_turn"] is True
    assert manifest.counts["default"] == {"train": 20, "test": 2}
    assert [entry["rows"] for entry in manifest.diagnostics["report"]["subsets"]] == [2]
    assert "several_turns" in (store.path(manifest.ref) / "README.md").read_text("utf-8")


# --- PPO's own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [PPO_TOO, "rloo"])
def test_a_runaway_policy_is_stopped_and_not_published(
    name: str, store: Store, rm: Kept, sft: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (PPO if name == "ppo" else RLOO) | {"dataset": COMPARISONS, "reward_model": "rm@0.1.0"}
    arguments |= {"model_name_or_path": "sft@0.1.0", "learning_rate": 0.05, "max_kl": 0.01}
    if name == "rloo":
        arguments |= {"max_steps": 3, "beta": 0.05}
    ref = f"{name}-wild@0.1.0"
    with pytest.raises(SystemExit) as stop:
        recipe.run(lambda: running.run(name, store, ref, arguments))
    assert stop.value.code == 1
    assert "over max_kl=0.01" in capsys.readouterr().err
    assert not store.has(ref)


@needs_ppo
def test_ppo_refuses_fewer_prompts_than_a_batch(store: Store, rm: Kept, sft: Kept) -> None:
    module = running.load("ppo")
    module.PPOTrainer = never
    arguments = PPO | {"dataset": "queries@0.1.0", "model_name_or_path": "sft@0.1.0", "limit": 3}
    with pytest.raises(InputError, match="3 prompts do not fill one batch of 4"):
        running.run("ppo", store, "few@0.1.0", arguments | {"reward_model": "rm@0.1.0"}, module=module)


def test_rloo_s_reference_is_of_the_policy_s_dtype(store: Store, rm: Kept, sft: Kept) -> None:
    """TRL loads it from the policy's folder, in float32 unless told."""
    arguments = RLOO | {"dataset": COMPARISONS, "model_name_or_path": "sft@0.1.0", "max_steps": 1}
    arguments |= {"reward_model": "rm@0.1.0", "dtype": "bfloat16", "bf16": True, "beta": 0.05}
    kept = running.run("rloo", store, "rloo-half@0.1.0", arguments)
    dtypes = {str(model.dtype) for model in (kept.trainer.ref_model, kept.trainer.model)}
    assert dtypes == {"torch.bfloat16"}
    assert "kl" in store.manifest("rloo-half@0.1.0").diagnostics["curves"]


@needs_ppo
def test_ppo_refuses_an_adapter_in_several_processes(
    store: Store, rm: Kept, sft: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL 1.12 would fail at the first step: under DDP it does not find its policy."""
    module = running.load("ppo")
    module.PPOTrainer = never
    monkeypatch.setattr(reinforced, "processes", lambda: 2)
    arguments = PPO | {"dataset": "queries@0.1.0", "model_name_or_path": "sft@0.1.0"}
    arguments |= {"reward_model": "rm@0.1.0", "use_peft": True}
    with pytest.raises(InputError, match="in one process only"):
        running.run("ppo", store, "two@0.1.0", arguments, module=module)
