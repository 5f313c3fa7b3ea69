"""Each check fires exactly where it should, and what it says TRL will do is what TRL does."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.cli import recipe
from almost_data.errors import InputError
from almost_data.store.store import Store
from almost_data.training import (
    PolicyInputs,
    comparisons,
    dialogues,
    preflight,
    prompts,
    reinforced,
    template,
)
from almost_data.training.preflight import Finding, Preflight
from tests.evals.known import KnownScorer
from tests.overlay import needs_ppo
from tests.tiny_models import save_tiny, save_tiny_reward, tiny_config, tiny_tokenizer
from tests.training.rows import messages, pair, source

pytest.importorskip("transformers")
WHOLE = Namespace(use_peft=False)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tiny = tiny_tokenizer()
    template.prepare(tiny, "it")
    return tiny


def finding_of(checks: Preflight, name: str) -> Finding:
    [finding] = [finding for finding in checks.findings if finding.check == name]
    return finding


def levels(checks: Preflight) -> dict[str, str]:
    return {finding.check: finding.level for finding in checks.findings}


def checked(
    rows: list[dict[str, Any]], tokenizer: Any, most: int | None = 200
) -> tuple[Preflight, pl.Series]:
    checks = Preflight()
    shaped = comparisons(source(rows, test=[]))
    return checks, preflight.check_comparisons(checks, shaped, shaped.train, tokenizer, most)


@pytest.mark.parametrize(
    ("dtype", "bf16", "device", "is_native", "is_warned"),
    [
        ("bfloat16", False, "cpu", False, True),
        ("float32", True, "cpu", False, True),
        ("float32", False, "cpu", False, False),
        ("bfloat16", True, "cpu", True, False),
        ("bfloat16", True, "cuda", False, False),
    ],
)
def test_bfloat16_on_a_cpu_without_it_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, dtype: str, bf16: bool, device: str, is_native: bool, is_warned: bool
) -> None:
    monkeypatch.setattr(preflight, "default_device", lambda: device)
    monkeypatch.setattr(preflight, "has_bfloat16", lambda name: is_native)
    checks = Preflight()
    preflight.check_dtype(checks, Namespace(bf16=bf16), Namespace(dtype=dtype, use_peft=True))
    assert ("bfloat16" in levels(checks)) == is_warned


# --- the table -------------------------------------------------------------------------------------------


def test_the_table_is_printed_and_the_first_fatal_finding_stops(capsys: pytest.CaptureFixture[str]) -> None:
    checks = Preflight()
    checks.add("first", "all is well")
    checks.add_rows("second", 3, 10, "rows are odd", fatal_over=0.5)
    recipe.require(checks)
    assert [finding["level"] for finding in checks.record()] == ["fine", "warn"]
    checks.add_rows("third", 6, 10, "rows are odd", fatal_over=0.5)
    checks.add("fourth", "all is lost", "fatal")
    with pytest.raises(InputError, match=r"^third: 6 rows \(60%\) rows are odd$"):
        recipe.require(checks)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("first", "30.0%", "fourth", "all is lost"))
    with pytest.raises(InputError, match="third"):
        checks.require()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("rows", "level"), [(0, "fine"), (1, "warn"), (5, "warn"), (6, "fatal"), (10, "fatal")]
)
def test_a_share_decides_how_bad_it_is(rows: int, level: str) -> None:
    checks = Preflight()
    checks.add_rows("it", rows, 10, "what it means", fatal_over=0.5, clean="nothing")
    [finding] = checks.findings
    assert (finding.level, finding.rows, finding.share) == (level, rows, rows / 10)
    assert finding.sentence == ("what it means" if rows else "nothing")


# --- comparisons -----------------------------------------------------------------------------------------


def test_good_comparisons_pass_every_check(tokenizer: Any) -> None:
    checks, fits = checked([pair(n, f"Yes {n}.", "No.") for n in range(9)], tokenizer)
    assert set(levels(checks).values()) == {"fine"} and fits.all()
    assert [finding["rows"] for finding in checks.record()] == [None, 0, 0, 0]
    assert finding_of(checks, "read as").sentence == (
        "TRL, explicit prompt (prompt, chosen, rejected); not read: query_id"
    )


def test_equal_and_empty_sides_are_no_dialogues_and_special_texts_are_counted(tokenizer: Any) -> None:
    rows = [pair(n) for n in range(6)]
    checks, _ = checked([*rows, pair(7, "Hm.", "Hm."), pair(8, "", "No."), pair(9, "", "")], tokenizer)
    assert finding_of(checks, "no dialogue").rows == 3
    assert finding_of(checks, "special tokens in text").rows == 0
    checks, _ = checked([*rows, pair(7, "A <eos> ends.", "A <bos> begins.")], tokenizer)
    special = finding_of(checks, "special tokens in text")
    assert (special.level, special.rows, special.share) == ("warn", 1, 1 / 7)
    special_prompt = pair(7) | {"prompt": [{"role": "user", "content": "What is <eos>?"}]}
    assert finding_of(checked([*rows, special_prompt], tokenizer)[0], "special tokens in text").rows == 1


def test_a_margin_column_is_warned_of(tokenizer: Any) -> None:
    rows = [pair(n) | {"margin": 1.0} for n in range(3)]
    checks, _ = checked(rows, tokenizer)
    assert levels(checks)["margin"] == "warn"


def test_rows_that_cannot_be_read_stop_it_where_they_are_many(tokenizer: Any) -> None:
    rows = [pair(n) for n in range(30)]
    odd = pair(99) | {"prompt": messages("Why?", "So.")}
    checks, _ = checked([*rows, odd], tokenizer)
    finding = finding_of(checks, "no dialogue")
    assert (finding.level, finding.rows) == (
        "warn",
        1,
    ) and "does not end in a user's turn" in finding.sentence
    checks, _ = checked([*rows, odd, odd], tokenizer)
    with pytest.raises(InputError, match=r"no dialogue: 2 rows \(6%\)"):
        checks.require()


def lengths(tokenizer: Any, rows: list[dict[str, Any]]) -> list[int]:
    return [
        max(
            len(tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=True)["input_ids"])
            for side in ("chosen", "rejected")
        )
        for row in rows
    ]


def test_what_is_too_long_is_counted_by_who_wrote_it(tokenizer: Any) -> None:
    long = "Bread rises. " * 40
    rows = [pair(n) for n in range(20)]
    rows += [pair(n, long, "No.", "A", "C") for n in range(20, 23)] + [pair(30, "Yes.", long, "B", "C")]
    checks, fits = checked(rows, tokenizer, 100)
    assert fits.to_list() == [True] * 20 + [False] * 4
    finding = finding_of(checks, "too long")
    assert (finding.level, finding.rows) == ("warn", 4)
    assert "over max_length=100" in finding.sentence and "most of A > C (3), B > C (1)" in finding.sentence
    checks, fits = checked(rows, tokenizer, None)
    assert fits.all() and levels(checks)["too long"] == "fine"
    checks, fits = checked(rows, tokenizer, 10)
    with pytest.raises(InputError, match=r"too long: 24 rows \(100%\) over max_length=10"):
        checks.require()


def test_a_token_across_the_end_of_a_prompt_is_counted() -> None:
    rows = comparisons(source([pair(n, "the oak", "a gas") for n in range(5)], test=[])).train
    spaced = tiny_tokenizer()
    for ending, level, count in (("Assistant:", "fine", 0), ("Assistant: ", "fatal", 5)):
        template.prepare(spaced, "it")
        start, _, end = spaced.chat_template.rpartition("Assistant:")
        spaced.chat_template = f"{start}{ending}{end}"  # the generation prompt's
        checks = Preflight()
        preflight.check_boundary(checks, rows, spaced)
        [finding] = checks.findings
        assert (finding.level, finding.rows) == (level, count)


def test_a_row_of_just_as_many_tokens_fits(tokenizer: Any) -> None:
    rows = [pair(n, "Yes. " * n, "No.") for n in range(1, 9)]
    tokens = lengths(tokenizer, rows)
    for most in (tokens[3], tokens[3] - 1):
        _, fits = checked(rows, tokenizer, most)
        assert fits.to_list() == [n <= most for n in tokens]
    checks, _ = checked(rows, tokenizer, max(tokens))
    assert (
        f"the longest has {max(tokens)} tokens of max_length={max(tokens)}"
        in finding_of(checks, "too long").sentence
    )


@pytest.mark.filterwarnings("default")  # TRL's and torch's own warnings are not ours to mend
def test_trl_drops_exactly_the_comparisons_that_are_too_long(tokenizer: Any, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    from almost_data.training import trainers

    rows = [pair(n, "Yes. " * n, "No. " * (12 - n)) for n in range(1, 12)]
    most = sorted(lengths(tokenizer, rows))[5]
    comparison_rows = comparisons(source(rows, test=[])).train
    _, fits = checked(rows, tokenizer, most)
    model = AutoModelForSequenceClassification.from_config(tiny_config("llama", len(tokenizer), num_labels=1))
    trainer = RewardTrainer(
        model=template.fit(model, tokenizer),
        args=RewardConfig(str(tmp_path), max_length=most, report_to="none", use_cpu=True, bf16=False),
        train_dataset=trainers.dataset(comparison_rows, "prompt", "chosen", "rejected"),
        processing_class=tokenizer,
    )
    kept = comparison_rows.filter(fits)
    assert 0 < len(kept) < len(comparison_rows)
    for side in ("chosen", "rejected"):
        ours = [
            tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=True)["input_ids"]
            for row in kept.to_dicts()
        ]
        assert [list(ids) for ids in trainer.train_dataset[f"{side}_ids"]] == ours


# --- dialogues -------------------------------------------------------------------------------------------

TALKS = [
    messages("Why does bread rise? " * n, "So. " * m, *later_turns)
    for n, m in ((1, 1), (1, 20), (3, 5), (5, 1), (5, 9))
    for later_turns in ((), ("And?", "No."))
]


def test_dialogues_are_checked_for_what_is_cut(tokenizer: Any) -> None:
    rows = [{"messages": turns} for turns in TALKS]
    shaped = dialogues(source(rows, test=[]))
    tokens = preflight.token_counts(tokenizer, shaped.train["messages"].to_list())
    most = sorted(tokens)[8]
    checks = Preflight()
    fits = preflight.check_dialogues(checks, shaped, tokenizer, most)
    assert finding_of(checks, "cut").rows == sum(n > most for n in tokens)
    assert fits.all() and levels(checks)["cut"] == "warn"
    checks = Preflight()
    assert preflight.check_dialogues(checks, shaped, tokenizer, None).all()
    assert levels(checks)["cut"] == "fine"
    checks = Preflight()
    preflight.check_dialogues(checks, shaped, tokenizer, 20)
    with pytest.raises(InputError, match=r"cut: .*over max_length=20 tokens"):
        checks.require()


def test_an_empty_reply_is_left_out_with_its_reason(tokenizer: Any) -> None:
    rows = [{"messages": turns} for turns in [*TALKS, messages("So?", "")]]
    shaped = dialogues(source(rows, test=[]))
    checks = Preflight()
    preflight.check_dialogues(checks, shaped, tokenizer, None)
    finding = finding_of(checks, "no dialogue")
    assert finding.rows == 1 and "no_reply 1; the first is" in finding.sentence
    assert finding_of(checks, "read as").sentence == "dialogues (messages)"


@pytest.mark.filterwarnings("default")  # TRL's and torch's own warnings are not ours to mend
@pytest.mark.parametrize("off", [-1, 0, 1, 30])
def test_trl_learns_from_exactly_the_dialogues_that_fit(tokenizer: Any, tmp_path: Path, off: int) -> None:
    """Around the length at which a prompt alone fills it."""
    pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from almost_data.training import trainers

    shaped = dialogues(source([{"messages": turns} for turns in TALKS], test=[]))
    opening = [turns[:1] for turns in TALKS]
    most = sorted(preflight.token_counts(tokenizer, opening, add_generation_prompt=True))[4] + off
    fits = preflight.check_dialogues(Preflight(), shaped, tokenizer, most)
    assert 0 < fits.sum() < len(fits) or off == 30
    model = AutoModelForCausalLM.from_config(tiny_config("llama", len(tokenizer)))
    trainer = SFTTrainer(
        model=template.fit(model, tokenizer),
        args=SFTConfig(
            str(tmp_path),
            max_length=most,
            assistant_only_loss=True,
            report_to="none",
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=trainers.dataset(shaped.train, "messages"),
        processing_class=tokenizer,
    )
    rows = shaped.train.filter(fits)["messages"].to_list()
    expected = []
    for turns in rows:
        encoded = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        learned = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
        expected.append([token if mask else -100 for token, mask in learned][:most])
    assert [list(labels) for labels in trainer.train_dataset["labels"]] == expected


# --- policies --------------------------------------------------------------------------------------------


def test_long_prompts_are_left_out(tokenizer: Any) -> None:
    shaped = prompts(source([{"prompt": "Why? " * n} for n in range(1, 10)], test=[]))
    tokens = preflight.token_counts(tokenizer, shaped.train["prompt"].to_list(), add_generation_prompt=True)
    checks = Preflight()
    fits = preflight.check_prompts(checks, shaped, tokenizer, tokens[6])
    assert fits.to_list() == [n <= tokens[6] for n in tokens]
    assert (finding_of(checks, "long prompts").level, finding_of(checks, "long prompts").rows) == ("warn", 2)
    checks = Preflight()
    preflight.check_prompts(checks, shaped, tokenizer, tokens[2])
    with pytest.raises(InputError, match=r"long prompts: 6 rows \(67%\)"):
        checks.require()


@pytest.mark.parametrize(("rows", "stops"), [(11, True), (12, False)])
def test_prompts_must_fill_a_batch(monkeypatch: pytest.MonkeyPatch, rows: int, stops: bool) -> None:
    """PPO's config does not know how many processes there are before its trainer is made."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    args = Namespace(per_device_train_batch_size=2, gradient_accumulation_steps=2, world_size=None)
    checks = Preflight()
    reinforced.check_ppo(checks, pl.DataFrame({"a": range(rows)}), args, WHOLE)
    assert levels(checks) == ({"batch": "fatal"} if stops else {})


@needs_ppo
def test_ppo_s_own_config_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.ppo import PPOConfig

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    args = PPOConfig(str(tmp_path), per_device_train_batch_size=2, use_cpu=True, bf16=False)
    for rows, said_of in (
        (2 * args.gradient_accumulation_steps - 1, 1),
        (2 * args.gradient_accumulation_steps, 0),
    ):
        checks = Preflight()
        reinforced.check_ppo(checks, pl.DataFrame({"a": range(rows)}), args, WHOLE)
        assert len(checks.findings) == said_of


def more_tokens(tokenizer: Any) -> None:
    tokenizer.add_tokens(["bread"])


def other_padding(tokenizer: Any) -> None:
    tokenizer.pad_token = "<bos>"


def other_template(tokenizer: Any) -> None:
    tokenizer.chat_template += " "


def ready() -> Any:
    tiny = tiny_tokenizer()
    template.prepare(tiny, "it")
    return tiny


@pytest.mark.parametrize(
    ("change", "check", "ppo", "rloo"),
    [
        (None, "tokenizers", "fine", "fine"),
        (more_tokens, "tokenizers", "fatal", "warn"),
        (other_padding, "tokenizers", "fatal", "fine"),
        (other_template, "chat template", "fatal", "warn"),
    ],
)
def test_a_reward_model_that_reads_otherwise_stops_ppo_and_not_rloo(
    change: Callable[[Any], None] | None, check: str, ppo: str, rloo: str
) -> None:
    """PPO hands token ids over, RLOO text."""
    reward = ready()
    if change:
        change(reward)
    for shares, level in ((True, ppo), (False, rloo)):
        checks = Preflight()
        reinforced.check_policy(checks, ready(), reward, shares_tokens=shares)
        assert levels(checks)[check] == level
        assert [finding.check for finding in checks.findings if finding.level == "fatal"] == [check] * (
            level == "fatal"
        )


@pytest.mark.parametrize(
    ("attribute", "check"), [("chat_template", "chat template"), ("pad_token", "padding token")]
)
def test_a_policy_that_was_not_made_ready_is_refused(attribute: str, check: str) -> None:
    policy = ready()
    setattr(policy, attribute, None)
    checks = Preflight()
    reinforced.check_policy(checks, policy, ready(), shares_tokens=False)
    with pytest.raises(InputError, match=rf"^{check}: .*train it with recipes/sft\.py first"):
        checks.require()


def says_yes(turns: tuple[str, ...]) -> float:
    return float(turns[-1] == "Yes.")


@pytest.mark.parametrize(
    ("rule", "rows", "level"),
    [
        (says_yes, 16, "fine"),
        (lambda turns: -says_yes(turns), 16, "fatal"),
        (lambda turns: -says_yes(turns), 8, "fatal"),
        (lambda turns: -says_yes(turns), 7, "warn"),  # of so few it may be chance
        (lambda turns: 0.0, 16, "warn"),
    ],
)
def test_a_reward_model_of_the_wrong_sign_is_fatal(
    rule: Callable[[tuple[str, ...]], float], rows: int, level: str
) -> None:
    checks = Preflight()
    reinforced.check_reward_sign(checks, KnownScorer(rule), pl.DataFrame([pair(n) for n in range(rows)]))
    assert levels(checks) == {"reward sign": level}


def test_the_reward_is_asked_of_the_whole_dialogue() -> None:
    scorer = KnownScorer(lambda turns: 0.0)
    row = pair(1) | {"prompt": messages("Hello!", "Yes?", "Why?")}
    reinforced.check_reward_sign(Preflight(), scorer, pl.DataFrame([row]))
    assert sorted(scorer.recorded) == [("Hello!", "Yes?", "Why?", last) for last in ("No.", "Yes.")]


@pytest.mark.parametrize("rows", [None, pl.DataFrame([pair(1)]).clear()])
def test_a_reward_that_cannot_be_tried_is_warned_of(rows: pl.DataFrame | None) -> None:
    checks = Preflight()
    reinforced.check_reward_sign(checks, KnownScorer(says_yes), rows)
    assert levels(checks) == {"reward sign": "warn"}


def test_the_tokenizer_s_changes_are_told(tokenizer: Any) -> None:
    checks = Preflight()
    preflight.check_tokenizer(checks, tokenizer, [])
    assert levels(checks) == {"EOS token": "fine", "padding token": "fine"}
    checks = Preflight()
    preflight.check_tokenizer(checks, tokenizer, ["padding is `x`"])
    assert [finding.level for finding in checks.findings] == ["fine", "warn"]


def test_a_policy_without_a_template_is_refused_before_it_is_used(fake_store: Store, tmp_path: Path) -> None:
    policy, reward = save_tiny(tmp_path / "policy"), save_tiny_reward(tmp_path / "reward")
    inputs = PolicyInputs("queries@0.1.0", "rloo@0.1.0", root=str(fake_store.root), reward_model=str(reward))
    model_args = Namespace(model_name_or_path=str(policy), model_revision=None, dtype="float32")
    with pytest.raises(InputError, match=r"train it with recipes/sft\.py first"):
        reinforced.set_up(inputs, Namespace(seed=0, bf16=False), model_args, shares_tokens=False)
