"""One reply in the making: its random numbers, its tokens, and where it ends. Imports torch."""

import random
import secrets
from array import array
from collections.abc import Sequence
from typing import Any, Literal

import torch

from almost_data.generation import Reply, Request, cut_at_stop

CONTEXT = 4
"""Prompt tokens decoded before the reply: some tokenizers drop the first token's leading space."""


class Row:
    """A request on its way through a model."""

    def __init__(self, request: Request, prompt: list[int], tokenizer: Any, eos: frozenset[int]) -> None:
        self.request = request
        self.prompt = array("l", prompt)  # a tenth of a list, and thousands wait
        self.tokenizer = tokenizer
        self.eos = eos
        self.cached = 0
        """Prompt tokens that were computed with another row's."""
        self.seed = secrets.randbits(64) if request.seed is None else request.seed
        stops = request.sampling.stop
        # A token gives at least one byte, or it is half a character or a special token: hence the margin.
        self.tail = max((len(stop.encode()) for stop in stops), default=0) + 8
        self.restart()

    def restart(self) -> None:
        """Forget what was generated, as after running out of memory; the same reply comes again."""
        self.out: list[int] = []
        self.random = random.Random(self.seed)

    def take(self, token: int) -> Reply | None:
        """Add one token; the reply if that ends the row."""
        self.out.append(token)
        if token in self.eos:
            return self.reply("stop")
        if self.request.sampling.stop:
            recent = self.tokenizer.decode(self.out[-self.tail :], skip_special_tokens=True)
            if cut_at_stop(recent, self.request.sampling.stop)[1]:
                return self.reply("stop")
        return self.reply("length") if len(self.out) >= self.request.sampling.max_new_tokens else None

    def reply(self, reason: Literal["stop", "length"]) -> Reply:
        words = self.out[:-1] if self.out and self.out[-1] in self.eos else self.out
        before = list(self.prompt[-CONTEXT:])
        start = len(self.tokenizer.decode(before, skip_special_tokens=True))
        text = self.tokenizer.decode(before + words, skip_special_tokens=True)[start:]
        text, cut = cut_at_stop(text, self.request.sampling.stop)
        return Reply(
            id=self.request.id,
            text=text,
            finish_reason="stop" if cut else reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.out),
            cached_tokens=self.cached,
        )

    def failed(self, message: str) -> Reply:
        return Reply(
            id=self.request.id, text="", finish_reason="error", prompt_tokens=len(self.prompt), error=message
        )


def draw(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row, from `logits` of shape [rows, vocabulary].

    Temperature first, then the nucleus (the likeliest tokens that together reach `top_p`). Instead of
    sorting the vocabulary, which costs more than the model's step, a token is drawn from the whole
    distribution and drawn again while it lies outside the nucleus: the same distribution. A row draws
    from its own random numbers only, so its batch mates do not matter.
    """
    logits = logits.float()
    picks = logits.argmax(-1)
    warm = [at for at, row in enumerate(rows) if row.request.sampling.temperature > 0]
    if warm:
        picks[warm] = _nucleus(logits[warm], [rows[at] for at in warm])
    tokens: list[int] = picks.tolist()
    return tokens


def _nucleus(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits.device)[:, None]

    p = torch.softmax(logits / column([row.request.sampling.temperature for row in rows]), -1)
    cumulative = p.cumsum(-1)
    total = cumulative[:, -1:]
    if not bool(torch.isfinite(total).all()):
        raise FloatingPointError("the model's logits are not finite")
    top_p = column([row.request.sampling.top_p for row in rows])
    result = torch.zeros(len(rows), dtype=torch.long, device=logits.device)
    left = list(range(len(rows)))
    while left:
        few = len(left) < len(rows)
        own_p, own_cumulative = (p[left], cumulative[left]) if few else (p, cumulative)
        u = column([rows[at].random.random() for at in left])
        at = torch.searchsorted(own_cumulative, u * total[left], right=True).clamp(max=p.shape[-1] - 1)
        mine = own_p.gather(-1, at)
        above = (own_p * (own_p > mine)).sum(-1, keepdim=True)
        # At top_p = 1 everything is in; elsewhere rounding must not keep the sum of all the others below 1.
        inside = (mine > 0) & ((above < top_p[left]) | (top_p[left] >= 1))
        result[left] = torch.where(inside, at, result[left][:, None])[:, 0]
        left = [row for row, done in zip(left, inside[:, 0].tolist(), strict=True) if not done]
    return result
