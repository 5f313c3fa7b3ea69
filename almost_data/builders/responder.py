"""A responder: a model, and what it is shown before a conversation.

A raw responder continues a text, as in the paper: a preamble, example dialogues, and the conversation with
the next turn opened. A chat responder answers messages, by the model's own chat template: its system text,
example dialogues as turns, and the conversation.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..datasets.builder import Work, pin_model, text_id
from ..datasets.config import Config, NamedFile, NotNegative, Positive, Share, Source, Temperature
from ..errors import InputError
from ..generation import Generator, Messages, Model, Request, Sampling, prompts

PAPER_TOKENS = {"faithful": 768, "hhh": 384}
"""New tokens by prompt, where a raw responder sets none (released code)."""
CHAT_TOKENS = 2048
"""New tokens of a chat responder that sets none."""
_FLIPPED = {"user": "assistant", "assistant": "user"}


class Responder(Config, frozen=True, kw_only=True):
    """A model and a prompt: example dialogues of a base model, or the system text of a chat model."""

    name: str
    """Name of its config and folder, recorded in every row."""
    model: Source
    """`ORG/NAME[@REVISION]` on the Hub, local folder, `pypi:PACKAGE`, or name on a server."""
    style: Literal["raw", "chat"] = "raw"
    """`raw` continues a text of example dialogues; `chat` answers messages by the model's chat template."""
    system: str | None = None
    """System text of a chat responder. A query's own system turn follows it after a blank line."""
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the chat template takes besides the messages, such as `enable_thinking = false`."""
    prompt: NamedFile | None = None
    """`hhh`, `faithful`, `user`, or the path of a file in the same format; a chat responder needs none."""
    shots: NotNegative = 0
    """How many of the prompt's example dialogues come before the query."""
    max_new_tokens: Positive | None = None
    """Most tokens of a reply. `none` takes the paper's number for the prompt, and 2,048 by chat."""


class SamplingConfig(Config, frozen=True, kw_only=True):
    """How replies are drawn; defaults are the paper's (2.1)."""

    temperature: Temperature = 1.0
    """Sampling temperature; 0 takes the likeliest token."""
    top_p: Share = 0.9
    """Nucleus sampling: only the likeliest tokens with this share of the probability are drawn."""
    seed: int = 0
    """Seed of the sampling; each reply has a seed of its own, made from it."""


@dataclass(frozen=True)
class PinnedResponder:
    """A responder with its model resolved and its prompt read, which makes requests."""

    responder: Responder
    model: Model
    """With its revision pinned."""
    sampling: Sampling
    head: str
    """Preamble and dialogues of a raw responder."""
    shots: Messages
    """Dialogues of a chat responder."""

    def request(self, id: str, messages: Messages, seed: int, sample: int = 0) -> Request:
        """A request for the assistant's reply to a conversation that ends in the user's turn."""
        if self.responder.style == "raw":
            return Request(id, self.model, self.head, prompts.ask(messages), self.sampling, seed, sample)
        own_system, turns = self.responder.system, messages
        if is_system := messages[0]["role"] == "system":
            own_system = "\n\n".join(filter(None, [own_system, messages[0]["content"]]))
            turns = messages[1:]
        head = (*_system_turn(own_system), *self.shots)
        shared = 0 if is_system else len(head)
        return self._chat_request(id, (*head, *turns), seed, sample, shared)

    def user_request(self, id: str, messages: Messages, seed: int) -> Request:
        """A request for the user's next turn. A chat model plays the user: the roles are exchanged."""
        if self.responder.style == "raw":
            text = prompts.ask(messages, "user")
            return Request(id, self.model, self.head, text, self.sampling, seed)
        head = _system_turn(self.responder.system)
        turns = (turn for turn in messages if turn["role"] != "system")
        flipped = ({"role": _FLIPPED[turn["role"]], "content": turn["content"]} for turn in turns)
        return self._chat_request(id, (*head, *flipped), seed, 0, len(head))

    def _chat_request(self, id: str, messages: Messages, seed: int, sample: int, shared: int) -> Request:
        return Request.chat(
            id,
            self.model,
            messages,
            self.sampling,
            seed=seed,
            sample=sample,
            shared_messages=shared,
            template_options=self.responder.chat_template_kwargs,
        )


def pinned_responder(config: SamplingConfig, responder: Responder, generator: Generator) -> PinnedResponder:
    """Resolve a responder. Raises InputError that names it where its settings do not go together."""
    check(responder)
    is_chat = responder.style == "chat"
    tokens = _token_limit(responder)
    if not tokens:
        raise InputError(f"responder {responder.name!r}: set max_new_tokens for prompt {responder.prompt!r}")
    model = generator.resolve(Model(responder.model))
    sampling = Sampling(tokens, config.temperature, config.top_p, () if is_chat else prompts.STOP)
    head, shots = "", Messages()
    try:
        if responder.prompt is not None:
            prompt = prompts.load(responder.prompt)
            head = "" if is_chat else prompt.head(responder.shots)
            shots = prompt.turns(responder.shots) if is_chat else ()
    except InputError as error:
        raise InputError(f"responder {responder.name!r}: {error}") from None
    return PinnedResponder(responder, model, sampling, head, shots)


def check(responder: Responder) -> None:
    """Raise InputError where settings of a responder do not go with its style."""
    name = f"responder {responder.name!r}"
    if responder.style == "raw":
        if responder.prompt is None:
            raise InputError(f'{name}: a raw responder needs a prompt: give one, or set style to "chat"')
        if responder.system is not None or responder.chat_template_kwargs:
            raise InputError(f'{name}: system and chat_template_kwargs need style = "chat"')
    elif responder.shots and responder.prompt is None:
        raise InputError(f"{name}: {responder.shots} shots without a prompt: give prompt, or set shots to 0")


def check_user(responder: Responder) -> None:
    """Raise InputError where a responder cannot write the user's turns."""
    if responder.style == "chat" and (responder.system is None or responder.prompt is not None):
        raise InputError(
            f"responder {responder.name!r}: a chat model plays the user by its system text alone: give "
            "system, and no prompt"
        )


def pin_responders(
    config: SamplingConfig, responders: Sequence[Responder], generator: Generator
) -> dict[str, Any]:
    """Per responder its model, revision, prompt's hash and token limit; the prompts' texts once."""
    resolved: dict[str, Any] = {}
    shots: dict[str, int] = {}
    for responder in responders:
        pinned = pinned_responder(config, responder, generator)
        is_chat = responder.style == "chat"
        instruction = (
            f"{responder.system or ''}{prompts.transcript(pinned.shots)}" if is_chat else pinned.head
        )
        paper = None if is_chat else PAPER_TOKENS.get(responder.prompt or "")
        resolved[responder.name] = {
            **pin_model(pinned.model),
            "prompt_sha256": hashlib.sha256(instruction.encode()).hexdigest(),
            "tokens": {"used": pinned.sampling.max_new_tokens, "paper": paper},
        }
        if responder.prompt is not None:
            shots[responder.prompt] = max(shots.get(responder.prompt, 0), responder.shots)
    texts: dict[str, str] = {}
    for prompt, count in shots.items():
        text = prompts.load(prompt).head(count)
        name = Path(prompt).name
        texts[name if name not in texts else f"{name} ({text_id(text)})"] = text
    return {"resolved": resolved, "prompts": texts}


def fake_responder(responder: Responder) -> Responder:
    """The responder as the fake engine plays it, with a name that says so."""
    name = responder.name
    return msgspec.structs.replace(responder, name=name if name.startswith("fake-") else f"fake-{name}")


def reply_work(task: str, responder: Responder, requests: int, tokens: int) -> Work:
    """Replies of a responder to prompts with so many tokens after the head that all requests share."""
    check(responder)
    head = responder.system or ""
    if responder.prompt is not None:
        head += prompts.load(responder.prompt).head(responder.shots)
    name, limit = f"{task}: {responder.name}", _token_limit(responder)
    return Work(
        task=name,
        model=responder.model,
        kind="generate",
        requests=requests,
        prompt_tokens=tokens,
        shared_tokens=len(head) // 4,
        reply_tokens=limit,
    )


def _token_limit(responder: Responder) -> int:
    """New tokens at most; 0 where neither the responder nor the paper says."""
    default = CHAT_TOKENS if responder.style == "chat" else PAPER_TOKENS.get(responder.prompt or "", 0)
    return responder.max_new_tokens or default


def _system_turn(text: str | None) -> Messages:
    return ({"role": "system", "content": text},) if text else ()
