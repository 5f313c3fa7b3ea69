"""Rows as a left-padded batch of plain `generate`, for models that cannot be packed. Imports torch."""

from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from . import Reply
from .rows import BatchRow, sample_tokens


def generate(model: Any, rows: list[BatchRow]) -> list[Reply]:
    """The replies of `rows` in one padded batch; each row draws from random numbers of its own."""
    width = max(len(row.prompt) for row in rows)
    pad = min(rows[0].eos, default=0)
    ids = torch.tensor([[pad] * (width - len(row.prompt)) + list(row.prompt) for row in rows])
    mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
    sampler = _Sampler(rows)
    model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max(row.request.sampling.max_new_tokens for row in rows),
            pad_token_id=pad,
            repetition_penalty=1.0,
        ),
        logits_processor=[sampler],
        stopping_criteria=[_HasReply(sampler)],
    )
    return [reply for reply in sampler.replies if reply is not None]


class _Sampler(LogitsProcessor):  # type: ignore[misc]
    """Samples every row's token and leaves it as the only possible one, so that greedy search takes it."""

    def __init__(self, rows: list[BatchRow]) -> None:
        self.rows = rows
        self.replies: list[Reply | None] = [None] * len(rows)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        running = [at for at, reply in enumerate(self.replies) if reply is None]
        forced = torch.full_like(scores, -torch.inf)
        forced[:, 0] = 0.0
        tokens = sample_tokens(scores[running], [self.rows[at] for at in running])
        for at, token in zip(running, tokens, strict=True):
            forced[at, 0] = -torch.inf
            forced[at, token] = 0.0
            self.replies[at] = self.rows[at].append(token)
        return forced


class _HasReply(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, sampler: _Sampler) -> None:
        self.sampler = sampler

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        ended = [reply is not None for reply in self.sampler.replies]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)
