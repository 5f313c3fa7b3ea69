"""Dialogues as the tokens that a reward model reads: the format it was trained with, and what is cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError

Turns = tuple[str, ...]
FORMAT = "1"
"""Goes up whenever the same dialogue would be read as other tokens."""
ROLES = ("user", "assistant")


@dataclass(slots=True)
class Row:
    """One dialogue's tokens."""

    id: str
    ids: list[int]
    types: list[int] | None
    """Which of two texts each token is of, for models that are told."""
    truncated: bool = False


class Reader:
    """The first of these that fits the tokenizer, which `format` names:

    - `chat template`: the tokenizer's own, without a generation prompt. These are the tokens that TRL's
      RewardTrainer makes of conversational rows: no EOS but the template's.
    - `pair`: prompt and response as two texts, where the tokenizer puts a separator between such, as those
      of BERT and its kin do. Earlier turns stand in the prompt as in the next format.
    - `Human/Assistant`: as the paper, every turn as `\\n\\nHuman: ...` or `\\n\\nAssistant: ...`, then EOS.

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

    def read(self, dialogues: Sequence[tuple[str, Turns]]) -> list[Row]:
        """A row for each (id, turns). Raises InputError where the chat template fails."""
        rows = self._encode(dialogues)
        return [
            row if len(row.ids) <= self.limit else self._cut(*one)
            for row, one in zip(rows, dialogues, strict=True)
        ]

    def _encode(self, dialogues: Sequence[tuple[str, Turns]]) -> list[Row]:
        if not dialogues:
            return []
        turns = [turns for _, turns in dialogues]
        tokenizer = self.tokenizer
        if self.format == "chat template":
            encoded = self._render(turns)
        elif self.format == "pair":
            prompts = [one[0] if len(one) == 2 else _talk(one[:-1]).lstrip() for one in turns]
            encoded = tokenizer(prompts, [one[-1] for one in turns], verbose=False)
        else:
            end = tokenizer.eos_token or ""
            encoded = tokenizer([_talk(one) + end for one in turns], verbose=False)
        types = encoded.get("token_type_ids") if self.format == "pair" else None
        # An empty text is one token, so that there is a place to read its score at.
        empty = [next((id for id in (tokenizer.eos_token_id, tokenizer.bos_token_id) if id is not None), 0)]
        return [
            Row(dialogues[at][0], ids or empty, types[at] if types else None)
            for at, ids in enumerate(encoded["input_ids"])
        ]

    def _render(self, dialogues: list[Turns]) -> Any:
        messages = [
            [{"role": ROLES[at % 2], "content": text} for at, text in enumerate(turns)] for turns in dialogues
        ]
        try:
            # One template runs for all, and the tokenizer's threads see all texts at once.
            return self.tokenizer.apply_chat_template(
                messages, return_dict=True, tokenizer_kwargs={"verbose": False}
            )
        except Exception as error:  # a template is a program, and raises what it likes
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(
                f"{self.name}: its chat template does not take a dialogue of user and assistant ({why})"
            ) from None

    def _cut(self, id: str, turns: Turns) -> Row:
        left = list(turns)
        row = self._encode([(id, turns)])[0]
        step = 0
        while len(row.ids) > self.limit and any(left):
            # By the characters that a token has here, and twice that at each further try, so that few tries
            # are enough for any text.
            characters = sum(map(len, left))
            excess = math.ceil((len(row.ids) - self.limit) * characters / len(row.ids)) << step
            cap = _cap([len(text) for text in left], max(0, characters - excess))
            left = [
                text[: cap - cap // 2] + text[len(text) - cap // 2 :] if len(text) > cap else text
                for text in left
            ]
            row = self._encode([(id, tuple(left))])[0]
            step += 1
        # What is left is the format's own.
        row.ids = row.ids[-self.limit :]
        row.types = row.types and row.types[-self.limit :]
        row.truncated = True
        return row


def _talk(turns: Turns) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[at % 2]}: {text}" for at, text in enumerate(turns))


def _cap(lengths: list[int], total: int) -> int:
    """The length to which all that are longer are cut, so that they sum up to `total` at most."""
    left = total
    for at, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - at)
        if length > share:
            return share
        left -= length
    return max(lengths)
