"""Conversations as message lists, and the text that a chat model sees of them: its own chat template."""

from collections.abc import Sequence
from typing import Any

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""
Messages = tuple[Message, ...]


def user_turn(text: str) -> Messages:
    """A text as a conversation of one user's turn."""
    return ({"role": "user", "content": text},)


def render(tokenizer: Any, messages: Sequence[Message], options: dict[str, Any]) -> str:
    """The prompt text by the tokenizer's chat template, up to where the assistant's turn begins.

    `options` are passed to the template, as `enable_thinking`. Raises ValueError where the tokenizer has no
    template, or the template refuses the messages.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "the model has no chat template: give a chat model, or set the responder's style to raw"
        )
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **options
        )
    except Exception as error:  # the template is the model's own program
        raise ValueError(f"the chat template refuses the messages: {error}") from error
    return str(text)


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
