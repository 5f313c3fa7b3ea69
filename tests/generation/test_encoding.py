"""The tokens that local engines show a model are those of its own chat template."""

from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import Messages, Model, Request, Sampling
from almost_data.generation.encoding import check_templates, encode
from tests.tiny_models import CHAT_TEMPLATE, save_tiny, tiny_tokenizer

pytest.importorskip("transformers")

from almost_data.models.chat import end_of_turn

MODEL = Model("tiny")
CONVERSATIONS: tuple[Messages, ...] = (
    ({"role": "user", "content": "Is it old?"},),
    ({"role": "system", "content": "Be brief. 12"}, {"role": "user", "content": " <eos> \n\nJa? 🍏 "}),
    (
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three\n"},
    ),
)


def chat(messages: Messages, **options: Any) -> Request:
    return Request.chat("1", MODEL, messages, Sampling(4), template_options=options)


@pytest.fixture(params=[False, True], ids=["plain", "bos"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    tokenizer = tiny_tokenizer(bos=request.param)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.mark.parametrize("options", [{}, {"enable_thinking": True}])
def test_messages_are_the_template_s_tokens(tokenizer: Any, options: dict[str, Any]) -> None:
    """Also where the tokenizer would add a `<bos>` of its own, and beside text, to which it adds it."""
    text = Request("2", MODEL, "Human: ", "why?", Sampling(4))
    for messages in CONVERSATIONS:
        first, second = encode(tokenizer, [text, chat(messages, **options)])
        assert first.tokens.tolist() == tokenizer("Human: why?")["input_ids"]
        assert second.tokens.tolist() == tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False, **options
        )
        assert second.tokens.count(tokenizer.bos_token_id) == 1
        assert (first.opens_reasoning, second.opens_reasoning) == (False, bool(options))


def test_many_requests_keep_their_order(tokenizer: Any) -> None:
    requests = [
        chat(({"role": "user", "content": f"{n}"},))
        if n % 3
        else Request(f"{n}", MODEL, "", f"{n}", Sampling(4))
        for n in range(150)
    ]
    for number, prompt in enumerate(encode(tokenizer, requests)):
        assert prompt.request is requests[number]
        assert f"{number}" in tokenizer.decode(prompt.tokens)


def test_what_a_template_refuses_is_one_failed_request(tokenizer: Any) -> None:
    late = ({"role": "user", "content": "a"}, {"role": "system", "content": "b"})
    good, bad, option, empty = encode(
        tokenizer, [chat(CONVERSATIONS[0]), chat(late), chat(CONVERSATIONS[0], tokenize=True), chat(())]
    )
    assert good.refusal(100) is None
    assert "a system turn comes first" in str(bad.refusal(100))
    assert "tokenize" in str(option.refusal(100))
    assert empty.refusal(100) == "the prompt is empty"


def test_reasoning_is_split_off_replies_to_messages_alone(tokenizer: Any) -> None:
    text = Request("2", MODEL, "", "why?", Sampling(4))
    plain, open, raw = encode(
        tokenizer, [chat(CONVERSATIONS[0]), chat(CONVERSATIONS[0], enable_thinking=True), text]
    )
    reply = "<think>Two.</think>\n\nFour."
    assert plain.split(reply) == ("Two.", "\n\nFour.")
    assert plain.split("Four.") == (None, "Four.")
    assert open.split("Two.</think>Four.") == ("Two.", "Four.")
    assert open.split("Two, or") == ("Two, or", "")
    assert raw.split(reply) == (None, reply)


def test_a_model_without_a_template_is_refused_before_anything_runs(tmp_path: Path) -> None:
    chatty, base = (
        Model(str(save_tiny(tmp_path / name, template=template)))
        for name, template in (("chatty", CHAT_TEMPLATE), ("base", None))
    )
    request, text = chat(CONVERSATIONS[0]), Request("2", base, "", "why?", Sampling(4))
    check_templates({chatty: [request], base: [text]})
    with pytest.raises(InputError, match=r'base: this model has no chat template; .* style to "raw"'):
        check_templates({chatty: [request], base: [text, request]})


@pytest.mark.parametrize(
    ("template", "token"),
    [
        (CHAT_TEMPLATE, "<eos>"),
        ("{% for m in messages %}{{ m.content }}<bos>\n<eos>{% endfor %}", "<bos>"),
        ("{% for m in messages %}<bos>{{ m.content }}\n{% endfor %}", None),
        ("{{ raise_exception('no') }}", None),
        (None, None),
    ],
)
def test_the_end_of_a_turn_is_what_the_template_writes_after_it(
    template: str | None, token: str | None
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    assert end_of_turn(tokenizer) == (token and tokenizer.convert_tokens_to_ids(token))
