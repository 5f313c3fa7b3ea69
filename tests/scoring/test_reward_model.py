"""Real classifiers, tiny and random: the score is the model's own, whatever runs beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import CannotStart
from almost_data.models.chat import Messages
from almost_data.scoring import Dialogue, Score, Scorer, load
from tests.tiny_models import save_tiny, save_tiny_reward, tiny_reward_model

pytest.importorskip("transformers")

WORDS = "bread rises because the yeast eats sugar and breathes out a gas that fills the dough".split()
DIALOGUES = [
    Dialogue.of(str(n), f"Why is {n} so?", " ".join(WORDS[n % 7 : 3 + n % 7] * (n % 9))) for n in range(40)
] + [
    Dialogue.of("talk", "Hello!", "Hello, what is it?", "Does bread rise?", "It does."),
    Dialogue.of("empty", "", ""),
    Dialogue.of("specials", "<eos>", "It ends.<eos><eos>"),
]
SETS_UP = {
    "llama, padded with EOS": ("llama", {}),
    "llama, no padding named": ("llama", {"pad": None}),
    "llama, padding that is no token": ("llama", {"pad": -1}),
    "llama, as the paper": ("llama", {"template": None}),
    "gpt2, no padding named, left": ("gpt2", {"pad": None, "side": "left"}),
    "gpt2, left": ("gpt2", {"side": "left", "template": None}),
    "bert": ("bert", {}),
    "bert, left": ("bert", {"side": "left"}),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMOST_DATA_CACHE", str(tmp_path / "cache"))


def set_up(folder: Path, kind: str, pad: int | None = 0, side: str = "right", **options: Any) -> Path:
    """A tiny reward model: `pad` in its config (0 leaves it as it is), `side` in its tokenizer."""
    save_tiny_reward(folder, kind, **options)
    change(folder / "tokenizer_config.json", padding_side=side, **({} if pad == 0 else {"pad_token": None}))
    if pad != 0:
        change(folder / "config.json", pad_token_id=pad)
    return folder


def change(file: Path, **values: Any) -> None:
    kept = {k: v for k, v in (json.loads(file.read_text()) | values).items() if v is not None}
    file.write_text(json.dumps(kept))


def alone(folder: Path, dialogues: list[Dialogue]) -> dict[str, float]:
    """What the saved model says of each dialogue by itself, without padding, mask or anything of ours."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = {}
    for dialogue in dialogues:
        if tokenizer.chat_template:
            messages = [
                {"role": ("user", "assistant")[at % 2], "content": turn}
                for at, turn in enumerate(dialogue.turns)
            ]
            encoded = dict(tokenizer.apply_chat_template([messages], return_dict=True))
        else:
            talks = [f"{('Human', 'Assistant')[at % 2]}: {turn}" for at, turn in enumerate(dialogue.turns)]
            if tokenizer.sep_token:
                prompt = dialogue.turns[0] if len(dialogue.turns) == 2 else "\n\n".join(talks[:-1])
                encoded = dict(tokenizer([prompt], [dialogue.turns[-1]]))
            else:
                text = "".join(f"\n\n{turn}" for turn in talks) + tokenizer.eos_token
                encoded = dict(tokenizer([text]))
        del encoded["attention_mask"]
        with torch.inference_mode():
            logits = model(**{name: torch.tensor(ids) for name, ids in encoded.items()}).logits
        scores[dialogue.id] = float(logits)
    return scores


def scored(scorer: Scorer, dialogues: list[Dialogue]) -> dict[str, Score]:
    scores = list(scorer.score(dialogues))
    assert len(scores) == len(dialogues)
    return {score.id: score for score in scores}


def values(scorer: Scorer, dialogues: list[Dialogue] = DIALOGUES) -> dict[str, float]:
    return {id: score.value for id, score in scored(scorer, dialogues).items()}


# --- the score -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS_UP)
def test_a_score_is_the_model_s_own_of_the_dialogue_alone(name: str, tmp_path: Path) -> None:
    kind, options = SETS_UP[name]
    folder = set_up(tmp_path / "rm", kind, **options)
    scorer = load(str(folder), options={"device": "cpu", "batch_tokens": 600})
    expected = alone(folder, DIALOGUES)
    assert len(set(expected.values())) > 30  # or the test would see nothing
    assert values(scorer) == pytest.approx(expected, abs=1e-4)
    assert values(scorer, list(reversed(DIALOGUES))) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SETS_UP)
def test_only_a_model_that_looks_ahead_is_told_what_is_padding(name: str, tmp_path: Path) -> None:
    kind, options = SETS_UP[name]
    scorer = load(str(set_up(tmp_path / "rm", kind, **options)), options={"device": "cpu"})
    values(scorer)
    loaded = scorer.loaded  # type: ignore[attr-defined]
    assert loaded.needs_mask == (kind == "bert")


def test_an_encoder_with_a_decoder_reads_its_end_alone(tmp_path: Path) -> None:
    """T5 wants as many EOS in each row, and text may name some."""
    import torch
    from transformers import T5Config, T5ForSequenceClassification

    _, tokenizer = tiny_reward_model("llama", template=None)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    tokens = {"eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 1}
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokenizer), num_labels=1, initializer_factor=5.0, **sizes, **tokens)
    T5ForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    scorer = load(str(tmp_path / "rm"), options={"device": "cpu"})
    assert values(scorer) == pytest.approx(alone(tmp_path / "rm", DIALOGUES), abs=1e-4)


def test_the_scorer_says_what_it_ran_with_and_loads_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from almost_data.scoring import reward_model

    starts = []
    start = reward_model.ClassifierScorer.load
    monkeypatch.setattr(
        reward_model.ClassifierScorer, "load", lambda self: (starts.append(self), start(self))[1]
    )
    scorer = load(str(save_tiny_reward(tmp_path / "rm")), options={"device": "cpu"})
    assert (scorer.settings(), list(scorer.score([])), starts) == ({}, [], [])
    values(scorer)
    values(scorer)
    assert scorer.settings() == {
        "device": "cpu",
        "dtype": "float32",
        "batch_tokens": 1024,
        "format": "chat template",
        "tokens_read_at_most": 256,
    }
    assert len(starts) == 1


def test_in_bfloat16_scores_keep_digits_that_tell_them_apart(tmp_path: Path) -> None:
    import torch

    folder = save_tiny_reward(tmp_path / "rm")
    rough = values(load(str(folder), options={"device": "cpu", "dtype": "bfloat16"}))
    assert any(value != float(torch.tensor(value).bfloat16()) for value in rough.values())
    assert rough == pytest.approx(alone(folder, DIALOGUES), abs=0.5)


# --- what does not fit -----------------------------------------------------------------------------------


def test_a_long_dialogue_keeps_its_ends_and_its_format(tmp_path: Path) -> None:
    from almost_data.scoring.reading import Reader

    _, tokenizer = tiny_reward_model()
    reader = Reader(tokenizer, 60, "it")
    long = " ".join(f"{n} and" for n in range(500))
    for turns in [
        ("Short?", f"Begins {long} ends."),
        (f"Begins {long} ends.", "Short."),
        (f"Begins {long} ends.", f"Begins {long} ends."),
        ("Hm?", "x" + " " * 50_000 + "y"),
    ]:
        [row] = reader.read([Dialogue.of("1", *turns)])
        text = tokenizer.decode(row.tokens)
        assert row.truncated
        assert 40 <= len(row.tokens) <= 60
        prompt, answer = text.removeprefix("<user>").removesuffix("<eos>").split("<eos><assistant>")
        for whole, shortened in zip(turns, (prompt, answer), strict=True):
            assert (shortened[:1], shortened[-1:]) == (whole[:1], whole[-1:])
            assert whole == shortened if len(whole) < 10 else len(shortened) > 20
    [row] = reader.read([Dialogue.of("1", "Short?", "Short.")])
    assert not row.truncated


TURNS: Messages = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
)
TRANSCRIPT = "\n\nSystem: Be kind.\n\nHuman: Hello!\n\nAssistant: Hi.\n\nHuman: Why?"


@pytest.mark.parametrize(
    ("kind", "options", "name", "texts"),
    [
        (
            "llama",
            {},
            "chat template",
            ["<system>Be kind.<eos><user>Hello!<eos><assistant>Hi.<eos><user>Why?<eos><assistant>So.<eos>"],
        ),
        ("bert", {}, "pair", [TRANSCRIPT.lstrip(), "So."]),
        ("llama", {"template": None}, "Human/Assistant", [f"{TRANSCRIPT}\n\nAssistant: So.<eos>"]),
    ],
)
def test_a_system_text_and_earlier_turns_are_read_in_every_format(
    kind: str, options: dict[str, Any], name: str, texts: list[str]
) -> None:
    from almost_data.scoring.reading import Reader

    _, tokenizer = tiny_reward_model(kind, **options)
    reader = Reader(tokenizer, 256, "it")
    [row] = reader.read([Dialogue("1", TURNS)])
    assert reader.format == name and not row.truncated
    assert row.tokens == tokenizer(*texts)["input_ids"]
    single_turn = Dialogue("1", (TURNS[0], *TURNS[-2:]))
    long = Dialogue("1", (*TURNS[:3], {"role": "user", "content": "Why? " * 200}, TURNS[4]))
    for dialogue in (single_turn, long):
        [row] = reader.read([dialogue])
        assert row.truncated == (dialogue is long) and tokenizer.decode(row.tokens).count("Be kind.") == 1


def test_what_the_format_alone_does_not_leave_room_for(tmp_path: Path) -> None:
    folder = save_tiny_reward(tmp_path / "rm")
    for limit in (1, 2, 5):
        scores = scored(load(str(folder), options={"device": "cpu"}, max_tokens=limit), DIALOGUES)
        assert all(score.truncated and score.tokens == limit for score in scores.values())


def test_no_more_is_read_than_the_model_has_positions_for(tmp_path: Path) -> None:
    folder = set_up(tmp_path / "rm", "gpt2", template=None)
    [score] = load(str(folder), options={"device": "cpu"}).score([Dialogue.of("1", "Why?", "So. " * 2000)])
    assert score.truncated
    assert 200 < score.tokens <= 256


def test_an_empty_text_has_a_score(tmp_path: Path) -> None:
    folder = save_tiny_reward(tmp_path / "rm", template="{% for m in messages %}{{ m.content }}{% endfor %}")
    scores = scored(load(str(folder), options={"device": "cpu"}), DIALOGUES)
    assert scores["empty"].tokens == 1


def test_batches_shrink_until_they_fit_and_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from almost_data.scoring import reward_model

    expected = values(load(str(save_tiny_reward(tmp_path / "rm")), options={"device": "cpu"}))
    real, sizes, fits = reward_model.score_batch, [], 300

    def short_of_memory(loaded: Any, batch: list[Any]) -> list[float]:
        sizes.append(len(batch) * max(len(row.tokens) for row in batch))
        if sizes[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(loaded, batch)

    monkeypatch.setattr(reward_model, "score_batch", short_of_memory)
    scorer = load(str(tmp_path / "rm"), options={"device": "cpu"})
    assert values(scorer) == pytest.approx(expected, abs=1e-4)
    failed = [size > fits for size in sizes]
    assert failed == sorted(failed, reverse=True)  # all failures came first
    assert sum(failed) <= 4
    fits = 10
    with pytest.raises(RuntimeError, match=r"a dialogue of \d+ tokens does not fit in the memory of cpu"):
        values(scorer)


# --- what is broken --------------------------------------------------------------------------------------


def test_a_score_that_is_no_number_ends_it(tmp_path: Path) -> None:
    import torch

    model, tokenizer = tiny_reward_model()
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    with pytest.raises(RuntimeError, match=r"rm: a score is nan"):
        values(load(str(tmp_path / "rm"), options={"device": "cpu"}))


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[9].content }}",
        "{% if %}",
        "{{ ''.__class__.__mro__ }}{{ 1 + 'a' }}",
    ],
)
def test_a_template_that_fails_is_one_line(template: str, tmp_path: Path) -> None:
    scorer = load(str(save_tiny_reward(tmp_path / "rm", template=template)), options={"device": "cpu"})
    with pytest.raises(InputError, match="chat template refuses") as caught:
        values(scorer)
    assert "\n" not in str(caught.value)


def test_a_head_that_was_not_saved_is_refused(tmp_path: Path) -> None:
    """A causal model whose config says classifier would score by random numbers."""
    folder = save_tiny(tmp_path / "lm")
    change(folder / "config.json", architectures=["LlamaForSequenceClassification"], id2label={"0": "it"})
    with pytest.raises(CannotStart, match=r"its weights lack score\.weight"):
        values(load(str(folder), options={"device": "cpu"}))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_reward(tmp_path / "rm")
    from tests.tiny_models import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["bread"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="tokens that the model does not know"):
        values(load(str(folder), options={"device": "cpu"}))


def test_what_is_no_reward_model_is_refused_without_loading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"LlamaForCausalLM, and a reward model is a \.\.\.ForSequenceClass"):
        load(str(save_tiny(tmp_path / "lm")))
    with pytest.raises(InputError, match="it has 2 labels"):
        load(str(save_tiny_reward(tmp_path / "two", labels=2)))
    with pytest.raises(InputError, match="it has 3 labels"):
        load(str(save_tiny_reward(tmp_path / "three", labels=3)))
    folder = save_tiny_reward(tmp_path / "rm")
    pinned = load(str(folder)).model
    assert load(pinned.id, pinned.revision).model == pinned
    with pytest.raises(InputError, match="pinned to other"):
        load(str(folder), "other")
    for content in ("{", "[]", '{"architectures": 3}', "null"):
        (folder / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json"):
            load(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="no safetensors"):
        load(str(folder))
    with pytest.raises(InputError, match="ORG/NAME"):
        load(str(tmp_path / "nowhere"))


def test_on_the_hub_nothing_but_the_config_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = save_tiny_reward(tmp_path / "rm")
    files, downloads = ["config.json", "model.safetensors"], []

    def download(repo: str, name: str, revision: str) -> str:
        downloads.append((repo, name, revision))
        if files:
            return str(folder / name)
        raise OSError("https://secret.example/ cannot be reached")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert load("org/rm", commit).model.revision == commit
    assert downloads == [("org/rm", "config.json", commit)]
    files.remove("model.safetensors")
    with pytest.raises(InputError, match="org/rm: no safetensors weights on the Hub"):
        load("org/rm", commit)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: 1 / 0)
    files.clear()
    with pytest.raises(InputError, match=r"org/rm@0.*its config\.json cannot be downloaded .*\(OSError\)$"):
        load("org/rm", commit)


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from almost_data.scoring import reward_model

    monkeypatch.setattr(reward_model, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'almost_data\[transformers\]'"):
        load(str(save_tiny_reward(tmp_path / "rm")))
