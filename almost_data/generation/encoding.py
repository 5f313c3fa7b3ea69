"""What a local engine shows a model: a prompt's tokens, by the model's own tokenizer and chat template."""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..models.chat import render, require_template, split_reasoning
from . import Model, Reply, Request

CHUNK = 64
"""Prompts tokenised at once."""


@dataclass(slots=True)
class Prompt:
    """A request's prompt as a model reads it, or why the request has none."""

    request: Request
    tokens: "array[int]" = field(default_factory=lambda: array("l"))
    """A tenth of a list's memory, and thousands of prompts wait."""
    error: str | None = None
    opens_reasoning: bool = False
    """Whether it ends inside the model's reasoning, as some chat templates do."""

    def refusal(self, context: int | None) -> str | None:
        """Why a model with this context cannot answer it, or None."""
        return self.error or self.request.refusal(len(self.tokens), context)

    def failed(self, error: str) -> Reply:
        return Reply.failed(self.request.id, error, len(self.tokens))

    def split(self, text: str) -> tuple[str | None, str]:
        """The reasoning and the reply in a model's text. A base model's text is all reply."""
        return split_reasoning(text, self.opens_reasoning) if self.request.messages else (None, text)


def check_templates(groups: dict[Model, list[Request]]) -> None:
    """Raise InputError where a model that is asked with messages has no chat template. Loads no weights."""
    for model, requests in groups.items():
        if any(request.messages for request in requests):
            require_template(model)


def encode(tokenizer: Any, requests: Iterable[Request]) -> Iterator[Prompt]:
    """The prompts of `requests`, in their order.

    Messages become `apply_chat_template(messages, add_generation_prompt=True)`, token for token: the
    template writes special tokens itself, and the tokenizer adds none.
    """
    waiting = iter(requests)
    while chunk := list(islice(waiting, CHUNK)):
        prompts = [Prompt(request) for request in chunk]
        by_kind: dict[bool, list[tuple[Prompt, str]]] = {False: [], True: []}
        for prompt in prompts:
            if text := _text(tokenizer, prompt):
                by_kind[bool(prompt.request.messages)].append((prompt, text))
        for is_chat, pairs in by_kind.items():
            if pairs:
                texts = [text for _, text in pairs]
                ids = tokenizer(texts, add_special_tokens=not is_chat, verbose=False)["input_ids"]
                for (prompt, _), tokens in zip(pairs, ids, strict=True):
                    prompt.tokens = array("l", tokens)
        yield from prompts


def _text(tokenizer: Any, prompt: Prompt) -> str:
    request = prompt.request
    if not request.messages:
        return request.prompt
    try:
        text = render(tokenizer, request.messages, json.loads(request.template_options))
    except ValueError as error:
        prompt.error = str(error)
        return ""
    prompt.opens_reasoning = text.rstrip().endswith("<think>")
    return text
