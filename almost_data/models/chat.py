"""Conversations as message lists, and the text that a chat model sees of them: its own chat template."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..errors import InputError, one_line
from . import Model, weights

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""
Messages = tuple[Message, ...]


def user_turn(text: str) -> Messages:
    """A text as a conversation of one user's turn."""
    return ({"role": "user", "content": text},)


def assistant_turn(text: str) -> Message:
    """A text as the assistant's turn."""
    return {"role": "assistant", "content": text}


@cache
def require_template(model: Model) -> None:
    """Raise InputError where the model, whose revision is pinned, has no chat template.

    Loads its tokenizer only, and that once.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch(model), trust_remote_code=False)
    if not tokenizer.chat_template:
        raise InputError(
            f"{model.id}: this model has no chat template; give a chat model, or set its responder's "
            'style to "raw"'
        )


def render(tokenizer: Any, messages: Sequence[Message], options: dict[str, Any]) -> str:
    """The prompt text by the tokenizer's chat template, up to where the assistant's turn begins.

    `options` are passed to the template, as `enable_thinking`. Raises ValueError where the template refuses
    the messages.
    """
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **options
        )
    except Exception as error:  # the template is the model's own program
        raise ValueError(f"the chat template refuses the messages: {one_line(error)}") from error
    return str(text)


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token by which the chat template ends the assistant's turn, if it has one.

    Some models' settings name only another token as the end of text.
    """
    if not tokenizer.chat_template:
        return None
    turns = [*user_turn("Question"), assistant_turn("Answer")]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # the template is the model's own program
        return None
    ids = tokenizer(text.rpartition("Answer")[2], add_special_tokens=False)["input_ids"]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((id for id in ids if id in special), None)


def split_reasoning(text: str, is_open: bool = False) -> tuple[str | None, str]:
    """The model's reasoning, if it wrote any, and the reply without it.

    Reasoning stands between `<think>` and `</think>` at the beginning. With `is_open` the prompt has opened
    it already. A reply that was cut inside it is reasoning alone.

    >>> split_reasoning("<think>2 + 2 is 4.</think>\\n\\nFour.")
    ('2 + 2 is 4.', '\\n\\nFour.')
    >>> split_reasoning("Four.")
    (None, 'Four.')
    """
    start = text.lstrip()
    if start.startswith("<think>"):
        start, is_open = start.removeprefix("<think>"), True
    elif not is_open:
        return None, text
    reasoning, _, reply = start.partition("</think>")
    return reasoning.strip() or None, reply
