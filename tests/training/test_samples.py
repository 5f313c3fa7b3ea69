"""Replies before and after training: those that the model gives, whatever stands beside them in the batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from almost_data.store.store import Store
from almost_data.training import samples, template
from almost_data.training.samples import (
    HELD_OUT,
    NEW,
    TRAINED_ON,
    UNKNOWN,
    BeforeAfter,
    by_kind,
    comparisons_of,
    replies,
    trained_on,
)
from tests import trained
from tests.evals.known import KnownScorer
from tests.tiny_models import tiny_config, tiny_tokenizer
from tests.training.rows import messages, pair

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS = [messages("Why? " * n) for n in (1, 9, 3, 5, 2)] + [messages("Hello!", "Yes?", "Does bread rise?")]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    template.prepare(tokenizer, "it")
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(tiny_config(request.param, len(tokenizer)))
    return template.fit(model, tokenizer).eval(), tokenizer


def alone(model: Any, tokenizer: Any, prompt: Any, most: int) -> tuple[str, int]:
    """The greedy reply, token by token, without padding, mask, cache or `generate`."""
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + most and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip(), len(ids) - start


def test_greedy_replies_are_the_model_s_own_of_each_prompt_alone(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    expected = [alone(model, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert len({text for text, _ in expected}) > 3
    for batch in (1, 4, 16):
        assert replies(model, tokenizer, PROMPTS, 12, 0.0, seed=0, batch=batch) == expected
    assert replies(model, tokenizer, [], 12, 0.0, seed=0) == []


def test_eos_counts_and_ends_a_reply(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    results = replies(model, tokenizer, PROMPTS * 8, 40, 3.0, seed=0, batch=64)
    stopped = [n for _, n in results if n < 40]
    assert stopped and all(1 <= n <= 40 for _, n in results)
    assert all(tokenizer.eos_token not in text and tokenizer.pad_token not in text for text, _ in results)


def test_samples_are_the_seed_s(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    first = replies(model, tokenizer, PROMPTS, 16, 1.0, seed=3)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert replies(model, tokenizer, PROMPTS, 16, 1.0, seed=3) == first
    assert torch.equal(torch.random.get_rng_state(), before), "the training's own draws are not disturbed"
    assert replies(model, tokenizer, PROMPTS, 16, 1.0, seed=4) != first
    assert replies(model, tokenizer, PROMPTS, 16, 1e-4, seed=4) == replies(
        model, tokenizer, PROMPTS, 16, 0.0, 0
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cache", [True, False])
def test_the_model_is_left_as_it_was(policy: tuple[Any, Any], training: bool, cache: bool) -> None:
    model, tokenizer = policy
    model.train(training)
    model.config.use_cache = cache
    tokenizer.padding_side = "right"
    replies(model, tokenizer, PROMPTS[:2], 4, 0.0, seed=0)
    restored = (model.training, model.config.use_cache, tokenizer.padding_side)
    with pytest.raises(Exception, match=r"max_new_tokens|greater than 0"):
        replies(model, tokenizer, PROMPTS[:2], 0, 0.0, seed=0)
    after = (model.training, model.config.use_cache, tokenizer.padding_side)
    model.eval()
    model.config.use_cache = True
    assert restored == after == (training, cache, "right")


# --- before and after ------------------------------------------------------------------------------------


def by_length(turns: tuple[str, ...]) -> float:
    """Characters of the reply, and a hundred for each turn before it."""
    return len(turns[-1]) + 100.0 * len(turns[:-1])


WRITTEN = {
    TRAINED_ON: ([("a" * n, n + 1) for n in (1, 2, 3, 4)], [("b" * n, n + 2) for n in (2, 2, 9, 5)]),
    HELD_OUT: ([("a" * n, n) for n in range(12)], [("b" * 7, 9)] * 12),
}


@pytest.fixture
def talks(monkeypatch: pytest.MonkeyPatch) -> BeforeAfter:
    """Written twice, with the texts above."""
    now = [0]

    def reply(model: Any, tokenizer: Any, prompts: Any, **how: Any) -> list[tuple[str, int]]:
        assert how == {"max_new_tokens": 5}
        return WRITTEN[TRAINED_ON if len(prompts) == 4 else HELD_OUT][now[0]]

    monkeypatch.setattr(samples, "replies", reply)
    prompts = {
        TRAINED_ON: [messages(f"seen {n}") for n in range(4)],
        HELD_OUT: [messages(f"new {n}") for n in range(12)],
        "no": [],
    }
    before_after = BeforeAfter(prompts, max_new_tokens=5)
    for now[0] in (0, 1):
        before_after.generate(None, None)
    return before_after


def test_gain_and_interval_are_those_of_the_paired_rewards(talks: BeforeAfter) -> None:
    means, samples_ = talks.report(KnownScorer(by_length))
    assert [entry["prompts"] for entry in means] == [TRAINED_ON, HELD_OUT]
    for entry in means:
        before, after = (np.array([len(text) for text, _ in side]) for side in WRITTEN[entry["prompts"]])
        gain = after - before
        error = np.sqrt(((gain - gain.mean()) ** 2).sum() / (len(gain) - 1) / len(gain))
        assert entry["n"] == len(gain) and entry["gain"] == pytest.approx(gain.mean())
        assert (entry["low"], entry["high"]) == pytest.approx(
            (gain.mean() - 1.96 * error, gain.mean() + 1.96 * error)
        )
        assert entry["before"]["mean"] == pytest.approx(100 + before.mean())
        assert entry["after"]["mean"] == pytest.approx(100 + after.mean())
        for side, written in zip(("before", "after"), WRITTEN[entry["prompts"]], strict=True):
            assert entry[side]["tokens"] == pytest.approx(np.mean([n for _, n in written]))
    for entry in samples_:
        assert entry["reward_before"] == 100 + len(entry["before"]) and entry["reward_after"] == 100 + len(
            entry["after"]
        )
        assert entry["held_out"] == entry["prompt"].startswith("new")
    assert [entry["prompt"] for entry in samples_] == [
        f"{kind} {n}" for kind in ("seen", "new") for n in range(3)
    ]
    assert json.loads(json.dumps([means, samples_])) == [means, samples_]


def test_samples_without_a_judge_have_no_reward(talks: BeforeAfter) -> None:
    scored = talks.report(KnownScorer(by_length))[1]
    none = {"reward_before": None, "reward_after": None}
    assert talks.report()[1] == [sample | none for sample in scored]


def test_one_prompt_has_a_gain_and_no_interval() -> None:
    before_after = BeforeAfter({HELD_OUT: [messages("Why?")]})
    before_after.generated = [{HELD_OUT: [("a", 1)]}, {HELD_OUT: [("aaa", 1)]}]
    [entry] = before_after.report(KnownScorer(by_length))[0]
    assert entry["gain"] == 2 and np.isnan([entry["low"], entry["high"]]).all()


# --- prompts by kind -------------------------------------------------------------------------------------


def frame(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame([pair(n) for n in numbers]).select("query_id", "prompt")


def names(kinds: dict[str, Any]) -> dict[str, list[int]]:
    return {
        kind: [int(turns[0]["content"].split()[1].rstrip("?")) for turns in prompts]
        for kind, prompts in kinds.items()
    }


def test_prompts_are_apart_by_what_the_reward_model_saw() -> None:
    train, test = frame(1, 2, 3, 4, 5), frame(6, 7, 8)
    learned = frozenset(frame(2, 4, 7, 99)["query_id"])
    assert names(by_kind(train, test, learned, 10)) == {TRAINED_ON: [2, 4], NEW: [1, 3, 5], HELD_OUT: [6, 8]}
    assert names(by_kind(train, test, learned, 2)) == {TRAINED_ON: [2, 4], NEW: [1, 3], HELD_OUT: [6, 8]}
    assert names(by_kind(train, test, None, 3)) == {UNKNOWN: [1, 2, 3], HELD_OUT: [6, 7, 8]}
    assert names(by_kind(train, test, frozenset(), 2)) == {TRAINED_ON: [], NEW: [1, 2], HELD_OUT: [6, 7]}
    assert names(by_kind(train, test.clear(), None, 2)) == {UNKNOWN: [1, 2], HELD_OUT: []}


def test_what_a_reward_model_saw_is_found_in_the_store(fake_store: Store) -> None:
    parent = fake_store.manifest("comparisons@0.1.0")
    manifest = trained.manifest("rm", parents=[parent])
    manifest.config["dataset"]["config"] = "default"
    rows = fake_store.scan(parent.ref, "default", "train").collect()
    assert trained_on(fake_store, manifest) == frozenset(rows["query_id"])
    comparisons = comparisons_of(fake_store, manifest, 5)
    assert comparisons is not None and comparisons.equals(rows.select("prompt", "chosen", "rejected").head(5))


def test_what_it_saw_elsewhere_is_not_known(tmp_path: Path, fake_store: Store) -> None:
    manifest = trained.manifest("rm")  # of a Hub dataset
    for store, model in ((fake_store, None), (fake_store, manifest), (Store(tmp_path), manifest)):
        assert trained_on(store, model) is None and comparisons_of(store, model, 5) is None
