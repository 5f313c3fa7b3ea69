"""Rows as a left-padded batch of plain `generate`, for models that cannot be packed. Imports torch."""

from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from almost_data.generation import Reply
from almost_data.generation.rows import Row, draw


def generate(model: Any, rows: list[Row]) -> list[Reply]:
    """The replies of `rows`, drawn with their own random numbers as everywhere."""
    width = max(len(row.prompt) for row in rows)
    pad = min(rows[0].eos, default=0)
    ids = torch.tensor([[pad] * (width - len(row.prompt)) + list(row.prompt) for row in rows])
    mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
    drawn = _Drawn(rows)
    model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max(row.request.sampling.max_new_tokens for row in rows),
            pad_token_id=pad,
            repetition_penalty=1.0,
        ),
        logits_processor=[drawn],
        stopping_criteria=[_Ended(drawn)],
    )
    return [reply for reply in drawn.replies if reply is not None]


class _Drawn(LogitsProcessor):  # type: ignore[misc]
    """Draws every row's token and leaves it as the only one possible, so that greedy search takes it."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.replies: list[Reply | None] = [None] * len(rows)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        left = [at for at, reply in enumerate(self.replies) if reply is None]
        only = torch.full_like(scores, -torch.inf)
        only[:, 0] = 0.0
        for at, token in zip(left, draw(scores[left], [self.rows[at] for at in left]), strict=True):
            only[at, 0] = -torch.inf
            only[at, token] = 0.0
            self.replies[at] = self.rows[at].take(token)
        return only


class _Ended(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, drawn: _Drawn) -> None:
        self.drawn = drawn

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        ended = [reply is not None for reply in self.drawn.replies]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)
