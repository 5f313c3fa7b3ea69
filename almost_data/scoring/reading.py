"""Dialogues as the tokens that a reward model reads: the format it was trained with, and what is cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError, one_line
from ..generation.prompts import transcript
from ..models.chat import Messages
from .scorer import Dialogue

FORMAT = "1"
"""Goes up whenever the same dialogue would be read as other tokens."""


@dataclass(slots=True)
class EncodedDialogue:
    """One dialogue's tokens."""

    id: str
    tokens: list[int]
    segments: list[int] | None
    """For models that read two texts: which of them each token belongs to."""
    truncated: bool = False


class Reader:
    """The first of these that fits the tokenizer, which `format` names:

    - `chat template`: the tokenizer's own, without a generation prompt. These are the tokens that TRL's
      RewardTrainer makes of conversational rows: no EOS but the template's.
    - `pair`: prompt and response as two texts, where the tokenizer puts a separator between such, as those
      of BERT and its kin do. A prompt of several turns is written as in the next format.
    - `Human/Assistant`: as the paper, every turn as `\\n\\nHuman: ...` or `\\n\\nAssistant: ...`, a system
      turn as `\\n\\nSystem: ...`, then EOS.

    A dialogue of more than `limit` tokens loses the middle of its longest turns, which are cut to one
    length: its format stays whole, and so does the response's end, where the score is read.
    """

    def __init__(self, tokenizer: Any, limit: int, name: str) -> None:
        self.tokenizer = tokenizer
        self.limit = limit
        self.name = name
        self.format: Literal["chat template", "pair", "Human/Assistant"] = "Human/Assistant"
        separator = tokenizer.sep_token_id
        if tokenizer.chat_template:
            self.format = "chat template"
        elif separator is not None and separator in tokenizer("a", "b")["input_ids"]:
            self.format = "pair"

    def read(self, dialogues: Sequence[Dialogue]) -> list[EncodedDialogue]:
        """The dialogues' tokens, in their order. Raises InputError where the chat template fails."""
        encoded = self._encode(dialogues)
        return [
            row if len(row.tokens) <= self.limit else self._truncate(dialogue)
            for row, dialogue in zip(encoded, dialogues, strict=True)
        ]

    def _encode(self, dialogues: Sequence[Dialogue]) -> list[EncodedDialogue]:
        if not dialogues:
            return []
        tokenizer = self.tokenizer
        conversations = [dialogue.messages for dialogue in dialogues]
        if self.format == "chat template":
            encoded = self._render(conversations)
        elif self.format == "pair":
            prompts = [
                turns[0]["content"] if len(turns) == 2 else transcript(turns[:-1]).lstrip()
                for turns in conversations
            ]
            encoded = tokenizer(prompts, [turns[-1]["content"] for turns in conversations], verbose=False)
        else:
            end = tokenizer.eos_token or ""
            encoded = tokenizer([transcript(turns) + end for turns in conversations], verbose=False)
        segments = encoded.get("token_type_ids") if self.format == "pair" else None
        # An empty text is one token, so that there is a place to read its score at.
        empty = [next((id for id in (tokenizer.eos_token_id, tokenizer.bos_token_id) if id is not None), 0)]
        return [
            EncodedDialogue(dialogues[at].id, tokens or empty, segments[at] if segments else None)
            for at, tokens in enumerate(encoded["input_ids"])
        ]

    def _render(self, conversations: list[Messages]) -> Any:
        try:
            # One template runs for all, and the tokenizer's threads see all texts at once.
            return self.tokenizer.apply_chat_template(
                list(map(list, conversations)), return_dict=True, tokenizer_kwargs={"verbose": False}
            )
        except Exception as error:  # a template is a program, and raises anything
            roles = ", ".join(dict.fromkeys(turn["role"] for turns in conversations for turn in turns))
            raise InputError(
                f"{self.name}: its chat template refuses a dialogue of {roles} ({one_line(error, 200)})"
            ) from None

    def _truncate(self, dialogue: Dialogue) -> EncodedDialogue:
        """The dialogue in `limit` tokens: the middle of its longest turns is cut out until it fits.

        How much text to cut is estimated from this text's characters per token; each further try cuts
        twice as much beyond the estimate, so that few tries are enough for any text.
        """
        turns = list(dialogue.turns)
        row = self._encode([dialogue])[0]
        step = 0
        while len(row.tokens) > self.limit and any(turns):
            characters = sum(map(len, turns))
            excess = math.ceil((len(row.tokens) - self.limit) * characters / len(row.tokens)) << step
            cap = _cap([len(text) for text in turns], max(0, characters - excess))
            turns = [_without_middle(text, cap) for text in turns]
            messages = zip(dialogue.messages, turns, strict=True)
            cut = tuple({"role": turn["role"], "content": text} for turn, text in messages)
            row = self._encode([Dialogue(dialogue.id, cut)])[0]
            step += 1
        # With every turn empty, the format's own tokens may still be too many.
        row.tokens = row.tokens[-self.limit :]
        row.segments = row.segments and row.segments[-self.limit :]
        row.truncated = True
        return row


def _without_middle(text: str, length: int) -> str:
    """Both ends of a text, `length` characters together."""
    end = length // 2
    return text[: length - end] + text[len(text) - end :] if len(text) > length else text


def _cap(lengths: list[int], total: int) -> int:
    """The length to cut all longer texts to, so that the lengths sum to `total` at most."""
    for at, length in enumerate(sorted(lengths)):
        share = total // (len(lengths) - at)
        if length > share:
            return share
        total -= length
    return max(lengths)
