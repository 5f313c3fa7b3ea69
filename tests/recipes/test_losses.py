"""What TRL's trainers compute, against values by hand from the models' logits, one row at a time."""

import copy
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest

from almost_data import training
from almost_data.scoring import Dialogue
from almost_data.scoring import load as load_scorer
from almost_data.training import trainers
from tests.overlay import needs_ppo
from tests.tiny_models import save_tiny

pytest.importorskip("trl")
# TRL's and torch's own warnings are not ours to mend
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

Turns = list[dict[str, str]]


def turns_of(*texts: str) -> Turns:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def tokens(tokenizer: Any, turns: Turns, **how: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(turns, return_dict=True, **how)["input_ids"]
    return ids


def causal(folder: Path, seed: int = 0) -> tuple[Any, Any]:
    """A tiny policy as the recipes prepare one, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_tiny(folder, seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    training.prepare(tokenizer, "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config.repetition_penalty = 1.5  # as some chat models have; it must not bend PPO's KL
    return training.fit(model, tokenizer).eval(), tokenizer


def classifier(folder: Path, seed: int = 5) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    save_tiny(folder, seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    training.prepare(tokenizer, "tiny")
    torch.manual_seed(seed)
    network = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    return training.fit(network, tokenizer).eval(), tokenizer


def common(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "run"),
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "logging_steps": 1,
        **options,
    }


def score_at(model: Any, ids: Sequence[int], place: int = -1) -> float:
    """The head on the hidden state of one token of one row: neither padding nor the model's own search."""
    import torch

    with torch.inference_mode():
        hidden = model.model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0, place]
        return float(hidden @ model.score.weight[0])


def log_probs(model: Any, ids: Sequence[int], temperature: float = 1.0) -> list[float]:
    """log p of each token but the first, given those before it."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(ids)])).logits[0, :-1] / temperature
    chances = logits.double().log_softmax(dim=-1)
    return [float(chances[n, token]) for n, token in enumerate(ids[1:])]


# --- reward model ----------------------------------------------------------------------------------------

PAIRS = [
    ("Why does bread rise?", "The yeast eats sugar and breathes out a gas.", "It does."),
    ("What is old?", "An oak.", "Nobody knows how old it is, nor why, nor whether it matters to anyone."),
    ("How?", "A good way to learn is to write down what you did not know.", "Learn, write, learn again."),
]


def test_reward_loss_is_logistic_in_the_scores_at_eos(tmp_path: Path) -> None:
    import torch
    from trl import RewardConfig, RewardTrainer

    center = 0.01
    model, tokenizer = classifier(tmp_path / "rm")
    rows = [
        {"prompt": turns_of(p), "chosen": turns_of("", c)[1:], "rejected": turns_of("", r)[1:]}
        for p, c, r in PAIRS
    ]
    before = copy.deepcopy(model)
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            **common(tmp_path, max_steps=1, per_device_train_batch_size=3),
            center_rewards_coefficient=center,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )

    values = []
    for prompt, *sides in PAIRS:
        pair = [tokens(tokenizer, turns_of(prompt, side)) for side in sides]
        assert all(ids[-1] == tokenizer.eos_token_id and tokenizer.pad_token_id not in ids for ids in pair)
        values.append([score_at(before, ids) for ids in pair])
    by_hand = sum(math.log(1 + math.exp(rejected - chosen)) for chosen, rejected in values) / 3
    by_hand += center * sum((chosen + rejected) ** 2 for chosen, rejected in values) / 3

    # The batch, padded, has the scores of the rows alone.
    batch = trainer.data_collator([{k: row[k] for k in ("chosen_ids", "rejected_ids")} for row in
                                   trainer.train_dataset])  # fmt: skip
    assert len({int(n) for n in batch["attention_mask"].sum(dim=1)}) > 3  # lengths differ
    with torch.inference_mode():
        together = before(**batch).logits.squeeze(-1).tolist()
        loss = trainer.compute_loss(before, dict(batch)).item()
    assert together == pytest.approx([c for c, _ in values] + [r for _, r in values], abs=1e-5)
    assert loss == pytest.approx(by_hand, rel=1e-5)

    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(by_hand, rel=1e-4)
    assert logged["accuracy"] == pytest.approx(sum(c > r for c, r in values) / 3)
    assert logged["margin"] == pytest.approx(sum(c - r for c, r in values) / 3, abs=1e-5)


# --- SFT -------------------------------------------------------------------------------------------------

TALKS = [
    turns_of("Why does bread rise?", "The yeast breathes out a gas."),
    turns_of("What is old?", "An oak is.", "How old?", "Nobody knows how old it is."),
    turns_of(
        "How do I learn?",
        "A good way to learn is to write down what you did not know yesterday. " * 2 + "Yes.",
    ),
]


def reply_tokens(tokenizer: Any, turns: Turns) -> tuple[list[int], list[bool]]:
    """A dialogue's tokens, and which of them the assistant writes: by the characters they stand for."""
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans, place = [], 0
    for turn in turns:
        at = text.index(turn["content"], place)
        place = at + len(turn["content"])
        if turn["role"] == "assistant":
            place += len(tokenizer.eos_token)
            spans.append((at - 1, place))  # with the space after the colon
            assert text[at - 1 : place] == f" {turn['content']}{tokenizer.eos_token}"
    inside = [any(a <= start and end <= b for a, b in spans) for start, end in encoded["offset_mapping"]]
    return encoded["input_ids"], inside


def test_sft_learns_the_replies_with_their_eos_and_nothing_else(tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = causal(tmp_path / "sft")
    limit = 64
    expected = [reply_tokens(tokenizer, turns) for turns in TALKS]
    assert max(len(ids) for ids, _ in expected[:2]) <= limit < len(expected[2][0])  # the last one is cut
    before = copy.deepcopy(model)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **common(tmp_path, max_steps=1, per_device_train_batch_size=3, max_length=limit),
            assistant_only_loss=True,
        ),
        train_dataset=datasets.Dataset.from_list([{"messages": turns} for turns in TALKS]),
        processing_class=tokenizer,
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    summed, counted = 0.0, 0
    for row, (whole, own_tokens) in enumerate(expected):
        ids, inside = whole[:limit], own_tokens[:limit]
        length = int(batch["attention_mask"][row].sum())
        assert batch["input_ids"][row][:length].tolist() == ids
        labels = batch["labels"][row].tolist()
        assert labels == [t if is_reply else -100 for t, is_reply in zip(ids, inside, strict=True)] + [
            -100
        ] * (len(labels) - length)
        chances = log_probs(before, ids)
        summed -= sum(p for p, is_reply in zip(chances, inside[1:], strict=True) if is_reply)
        counted += sum(inside)
    learned = [[t for t in row.tolist() if t != -100] for row in batch["labels"]]
    assert tokenizer.decode(learned[0]) == " The yeast breathes out a gas.<eos>"
    assert tokenizer.decode(learned[1]) == " An oak is.<eos> Nobody knows how old it is.<eos>"
    assert tokenizer.eos_token_id not in learned[2]  # cut at max_length

    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(summed / counted, rel=1e-4)
    assert trainer.state.log_history[0]["num_tokens"] == sum(min(limit, len(ids)) for ids, _ in expected)


# --- DPO -------------------------------------------------------------------------------------------------

PREFERENCES = [
    (turns_of("Why does bread rise?"), "The yeast breathes out a gas.", "It does."),
    (turns_of("What is old?", "An oak is.", "How old?"), "Nobody knows.", "Ten, or so. " * 4),
    ([{"role": "system", "content": "Be brief."}, *turns_of("How?")], "Write it down.", "Learn, and learn."),
]


def test_dpo_prefers_whole_replies_with_their_eos_to_the_reference_s(tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    beta = 0.3
    policy, tokenizer = causal(tmp_path / "policy", seed=1)
    reference, _ = causal(tmp_path / "reference", seed=2)
    before = copy.deepcopy(policy)
    rows = [
        {"prompt": prompt, "chosen": turns_of("", chosen)[1:], "rejected": turns_of("", rejected)[1:]}
        for prompt, chosen, rejected in PREFERENCES
    ]
    trainer = DPOTrainer(
        model=policy,
        ref_model=copy.deepcopy(reference),
        args=DPOConfig(**common(tmp_path, max_steps=1, per_device_train_batch_size=3), beta=beta),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()

    def reward(prompt: Turns, reply: str) -> float:
        ids = tokens(tokenizer, [*prompt, {"role": "assistant", "content": reply}])
        length = len(ids) - len(tokens(tokenizer, prompt, add_generation_prompt=True))
        assert ids[-1] == tokenizer.eos_token_id
        ours, theirs = (sum(log_probs(model, ids)[-length:]) for model in (before, reference))
        return beta * (ours - theirs)

    margins = [reward(prompt, chosen) - reward(prompt, rejected) for prompt, chosen, rejected in PREFERENCES]
    logged = trainer.state.log_history[0]
    assert logged["rewards/margins"] == pytest.approx(sum(margins) / 3, rel=1e-3, abs=1e-4)
    assert logged["loss"] == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 3, rel=1e-3)
    assert logged["rewards/accuracies"] == pytest.approx(sum(m > 0 for m in margins) / 3)


# --- PPO and RLOO ----------------------------------------------------------------------------------------

PROMPTS = pl.DataFrame(
    {
        "prompt": [
            turns_of(text) for text in ("Why?", "What is old?", "How do I learn a good way?", "And bread?")
        ]
    }
)
WORD = re.compile(r"Ġ[a-z]+")


def speak(model: Any, tokenizer: Any, eos: float) -> Any:
    """The policy made to write words and EOS only, so that its text becomes the same tokens again.

    A bias of the head does it; `eos` is the one of EOS.
    """
    import torch

    bias = torch.full((model.config.vocab_size,), -30.0)
    for token, id in tokenizer.get_vocab().items():
        if WORD.fullmatch(token):
            bias[id] = 0.0
    bias[tokenizer.eos_token_id] = eos
    model.lm_head.weight.data *= 0.3
    model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    return model


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge") / "rm"
    model, tokenizer = classifier(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


TEMPERATURE, KL_COEF, PENALTY, EPISODES = 0.7, 0.07, 1.25, 8
"""Of the PPO run; the penalty is for a reply without EOS."""


def ppo_trainer(folder: Path, policy: Any, reference: Any, judge: Path, tokenizer: Any) -> Any:
    from transformers import AutoModelForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    reward, value = (AutoModelForSequenceClassification.from_pretrained(judge) for _ in range(2))
    return PPOTrainer(
        args=PPOConfig(
            **common(folder, per_device_train_batch_size=4, gradient_accumulation_steps=2),
            total_episodes=EPISODES,
            num_ppo_epochs=1,
            num_mini_batches=1,
            local_rollout_forward_batch_size=3,  # two rollouts of three, one of two
            num_sample_generations=0,
            response_length=8,
            temperature=TEMPERATURE,
            kl_coef=KL_COEF,
            stop_token="eos",
            missing_eos_penalty=PENALTY,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=trainers.prompt_ids(pl.concat([PROMPTS, PROMPTS]), tokenizer),
        eval_dataset=trainers.prompt_ids(PROMPTS, tokenizer),
    )


def rollouts(trainer: Any, reference: Any) -> list[list[int]]:
    """Train, and return the rows that the reference read, without padding."""
    batches: list[tuple[Any, Any]] = []
    hook = reference.register_forward_pre_hook(
        lambda _, args, inputs: batches.append(
            (inputs["input_ids"].clone(), inputs["attention_mask"].clone())
        ),
        with_kwargs=True,
    )
    trainer.train()
    hook.remove()
    assert [len(ids) for ids, _ in batches] == [3, 3, 2]
    assert any(not mask.all() and not mask[:, 0].all() for _, mask in batches)  # padding, on the left
    return [ids[mask.bool()].tolist() for batch in batches for ids, mask in zip(*batch, strict=True)]


@needs_ppo
def test_ppo_s_kl_and_where_its_score_is_read(judge: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    policy, tokenizer = causal(tmp_path / "policy", seed=1)
    reference, _ = causal(tmp_path / "reference", seed=2)
    policy, reference = speak(policy, tokenizer, eos=0.2), speak(reference, tokenizer, eos=-0.5)
    before = copy.deepcopy(policy)
    trainer = ppo_trainer(tmp_path, policy, reference, judge, tokenizer)
    reward = trainer.reward_model
    prompts = {
        tuple(tokens(tokenizer, turns, add_generation_prompt=True)): turns for turns in PROMPTS["prompt"]
    }
    kl, entropy, scores, ended = [], [], [], []
    dialogues: dict[int, tuple[str, str]] = {}
    for n, row in enumerate(rollouts(trainer, reference)):
        prompt = next(p for p in prompts if tuple(row[: len(p)]) == p)
        reply = row[len(prompt) :]
        if tokenizer.eos_token_id in reply:
            assert reply.index(tokenizer.eos_token_id) == len(reply) - 1  # nothing is left behind EOS
        ours, theirs = (log_probs(model, row, TEMPERATURE)[-len(reply) :] for model in (before, reference))
        kl.append(sum(ours) - sum(theirs))
        entropy.append(-sum(ours))
        ended.append(reply[-1] == tokenizer.eos_token_id)
        scores.append(score_at(reward, row) - (0 if ended[-1] else PENALTY))
        if ended[-1] and len(reply) > 1:  # an empty text has the space that stands before a reply
            text = tokenizer.decode(reply, skip_special_tokens=True).strip()
            dialogues[n] = (prompts[prompt][0]["content"], text)
            assert tokens(tokenizer, turns_of(*dialogues[n])) == row
    assert dialogues and 2 <= sum(ended) <= EPISODES - 2  # both kinds of reply
    logged = trainer.state.log_history[0]
    mean, score = sum(kl) / EPISODES, sum(scores) / EPISODES
    assert abs(mean) > 0.5  # the two policies differ
    assert logged["objective/kl"] == pytest.approx(mean, rel=1e-4)
    assert logged["objective/non_score_reward"] == pytest.approx(-KL_COEF * mean, rel=1e-4)
    assert logged["objective/entropy"] == pytest.approx(sum(entropy) / EPISODES, rel=1e-4)
    assert logged["objective/scores"] == pytest.approx(score, abs=1e-4)
    assert logged["objective/rlhf_reward"] == pytest.approx(score - KL_COEF * mean, abs=1e-4)
    # A reply that ended has the score that it has as text.
    as_text = [Dialogue.of(str(n), *turns) for n, turns in dialogues.items()]
    by_row = {int(line.id): line.value for line in load_scorer(str(judge)).score(as_text)}
    assert [by_row[n] for n in dialogues] == pytest.approx([scores[n] for n in dialogues], abs=1e-4)
    untrained = AutoModelForSequenceClassification.from_pretrained(judge)
    assert torch.equal(reward.score.weight, untrained.score.weight)


def test_rloo_s_reward_is_our_scorer_s_on_the_same_text(judge: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import RLOOConfig, RLOOTrainer

    policy, tokenizer = causal(tmp_path / "policy", seed=1)
    policy.save_pretrained(tmp_path / "policy")  # TRL loads the reference from there
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    written: list[tuple[Turns, Turns, list[int]]] = []

    def watch(prompts: Any, completions: Any, completion_ids: Any, **_: Any) -> list[float]:
        written.extend(zip(prompts, completions, completion_ids, strict=True))
        return [0.0] * len(prompts)

    trainer = RLOOTrainer(
        model=policy,
        reward_funcs=[AutoModelForSequenceClassification.from_pretrained(judge, num_labels=1), watch],
        args=RLOOConfig(
            **common(tmp_path, max_steps=1, per_device_train_batch_size=8),
            num_generations=2,
            max_completion_length=8,
            beta=0.05,
        ),
        train_dataset=trainers.dataset(PROMPTS, "prompt"),
        processing_class=tokenizer,
        reward_processing_classes=[AutoTokenizer.from_pretrained(judge), None],
    )
    for model in (policy, trainer.ref_model):
        speak(model, tokenizer, eos=1.5)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert len(written) == 8
    ended = [ids[-1] == tokenizer.eos_token_id for *_, ids in written]
    assert 1 <= sum(ended) <= 7  # both kinds of reply
    for (*_, ids), done in zip(written, ended, strict=True):
        assert tokenizer.eos_token_id not in ids[:-1]
        assert done or len(ids) == 8
    assert logged["completions/clipped_ratio"] == pytest.approx(1 - sum(ended) / 8)
    assert logged["completions/mean_length"] == pytest.approx(sum(len(ids) for *_, ids in written) / 8)
    assert logged["kl"] == pytest.approx(0, abs=1e-5)  # the reference is the policy as it was
    ours = load_scorer(str(judge)).score(
        [Dialogue.of(str(n), p[0]["content"], c[0]["content"].strip()) for n, (p, c, _) in enumerate(written)]
    )
    values = [score.value for score in ours]
    assert logged["reward"] == pytest.approx(sum(values) / 8, abs=1e-4)
