"""A row of a decoding batch: an unfinished reply, its random numbers, and where it ends. Imports torch."""

import random
import secrets
from collections.abc import Sequence
from typing import Any, Literal

import torch

from . import Reply, cut_at_stop
from .encoding import Prompt

CONTEXT = 4
"""Prompt tokens decoded before the reply: some tokenizers drop the first token's leading space."""


class BatchRow:
    """A request on its way through a model, and the tokens of its reply so far."""

    def __init__(self, prompt: Prompt, tokenizer: Any, eos: frozenset[int]) -> None:
        self.request = request = prompt.request
        self.prompt = prompt.tokens
        self.split, self.failed = prompt.split, prompt.failed
        self.tokenizer = tokenizer
        self.eos = eos
        self.cached_tokens = 0
        """Prompt tokens that were computed with another row's."""
        self.seed = secrets.randbits(64) if request.seed is None else request.seed
        stops = request.sampling.stop
        # Most tokens give a byte or more; the margin is for special tokens and halves of characters.
        self.stop_window = max((len(stop.encode()) for stop in stops), default=0) + 8
        self.restart()

    def restart(self) -> None:
        """Forget what was generated, as after running out of memory; the same reply is generated again."""
        self.tokens: list[int] = []
        self.random = random.Random(self.seed)

    def append(self, token: int) -> Reply | None:
        """Add a token; the reply if that ends the row."""
        self.tokens.append(token)
        sampling = self.request.sampling
        if token in self.eos:
            return self._reply("stop")
        if sampling.stop:
            recent = self.tokenizer.decode(self.tokens[-self.stop_window :], skip_special_tokens=True)
            if cut_at_stop(recent, sampling.stop)[1]:
                return self._reply("stop")
        return self._reply("length") if len(self.tokens) >= sampling.max_new_tokens else None

    def _reply(self, reason: Literal["stop", "length"]) -> Reply:
        tokens = self.tokens[:-1] if self.tokens[-1] in self.eos else self.tokens
        context = list(self.prompt[-CONTEXT:])
        start = len(self.tokenizer.decode(context, skip_special_tokens=True))
        text = self.tokenizer.decode(context + tokens, skip_special_tokens=True)[start:]
        text, cut = cut_at_stop(text, self.request.sampling.stop)
        reasoning, text = self.split(text)
        return Reply(
            id=self.request.id,
            text=text,
            finish_reason="stop" if cut else reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.tokens),
            reasoning=reasoning,
            cached_tokens=self.cached_tokens,
        )


def sample_tokens(logits: torch.Tensor, rows: Sequence[BatchRow]) -> list[int]:
    """The next token of each row, from `logits` of shape [rows, vocabulary].

    Temperature first, then the nucleus (the likeliest tokens that together reach `top_p`). Instead of
    sorting the vocabulary, which costs more than the model's step, a token is drawn from the whole
    distribution and drawn again while it lies outside the nucleus: the same distribution. A row draws
    from its own random numbers only, so the other rows do not matter.
    """
    logits = logits.float()
    tokens = logits.argmax(-1)
    sampled = [at for at, row in enumerate(rows) if row.request.sampling.temperature > 0]
    if sampled:
        tokens[sampled] = _sample_nucleus(logits[sampled], [rows[at] for at in sampled])
    result: list[int] = tokens.tolist()
    return result


def _sample_nucleus(logits: torch.Tensor, rows: Sequence[BatchRow]) -> torch.Tensor:
    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits.device)[:, None]

    p = torch.softmax(logits / column([row.request.sampling.temperature for row in rows]), -1)
    cumulative = p.cumsum(-1)
    total = cumulative[:, -1:]
    if not bool(torch.isfinite(total).all()):
        raise FloatingPointError("the model's logits are not finite")
    top_p = column([row.request.sampling.top_p for row in rows])
    tokens = torch.zeros(len(rows), dtype=torch.long, device=logits.device)
    pending = list(range(len(rows)))
    while pending:
        # The first round, the last for most rows, needs no copy.
        is_part = len(pending) < len(rows)
        part_p, part_cumulative = (p[pending], cumulative[pending]) if is_part else (p, cumulative)
        u = column([rows[at].random.random() for at in pending])
        candidate = torch.searchsorted(part_cumulative, u * total[pending], right=True).clamp(
            max=p.shape[-1] - 1
        )
        candidate_p = part_p.gather(-1, candidate)
        likelier = (part_p * (part_p > candidate_p)).sum(-1, keepdim=True)
        # At top_p = 1 every token is in; rounding must not keep the sum of all the likelier ones below 1.
        inside = (candidate_p > 0) & ((likelier < top_p[pending]) | (top_p[pending] >= 1))
        tokens[pending] = torch.where(inside, candidate, tokens[pending][:, None])[:, 0]
        pending = [at for at, done in zip(pending, inside[:, 0].tolist(), strict=True) if not done]
    return tokens
