"""A sequence classifier with one label: what makes a model one, and its score of a batch."""

import json
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..inputs import read_text
from ..models import Model, weights
from ..models.hub_token import token_kept
from .reading import EncodedDialogue, Reader

UNBATCHED = {"fnet", "xlnet"}
"""Architectures without a mask, or that read the score behind the padding: one dialogue at a time, like all
encoder-decoders."""
_CLASSIFIER = "ForSequenceClassification"


@dataclass(slots=True)
class LoadedClassifier:
    network: Any
    config: Any
    reader: Reader
    device: str
    dtype: str
    vocabulary: int
    pad: int | None
    """The token that the model itself takes for padding, and skips where it looks for the last one.

    Where it is EOS too, the score of a text that ends in EOS is read before it, here as in training.
    """
    needs_mask: bool = True
    """Whether padding must be masked (see `reads_ahead`)."""

    @property
    def unbatched(self) -> bool:
        return self.config.model_type in UNBATCHED or bool(getattr(self.config, "is_encoder_decoder", False))


def score_batch(loaded: LoadedClassifier, batch: list[EncodedDialogue]) -> list[float]:
    """The score that the model gives to each dialogue alone.

    Padding stands on the right, so that positions begin at 0. A decoder's tokens do not see it; from other
    models the mask hides it.
    """
    import torch

    width = max(len(row.tokens) for row in batch)
    pad = _declare_padding(loaded.config, batch) if loaded.pad is None else loaded.pad

    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        filled = [row + [fill] * (width - len(row)) for row in rows]
        return torch.tensor(filled, device=loaded.device)

    inputs = {"input_ids": padded([row.tokens for row in batch], pad)}
    if loaded.needs_mask:
        inputs["attention_mask"] = padded([[1] * len(row.tokens) for row in batch], 0)
    if batch[0].segments is not None:
        inputs["token_type_ids"] = padded([row.segments or [] for row in batch], 0)
    with torch.inference_mode():
        logits = loaded.network(**inputs).logits
    values: list[float] = logits.float().reshape(len(batch)).tolist()
    return values


def _declare_padding(config: Any, batch: list[EncodedDialogue]) -> int:
    """A padding token for a model without one, written into its config.

    transformers reads a decoder's score at the last token that is not `config.pad_token_id`, so any id will
    do that no dialogue of the batch ends in.
    """
    last_tokens = {row.tokens[-1] for row in batch}
    pad = next(id for id in count() if id not in last_tokens)
    config.pad_token_id = pad
    return pad


def reads_ahead(loaded: LoadedClassifier) -> bool:
    """Whether the tokens behind a token change its hidden state.

    Where they do not, padding on the right needs no mask, and without a mask attention has a faster kernel.
    Found by trying: a short dialogue beside a long one, its padding once of one id and once of another.
    """
    tokens = [id % loaded.vocabulary for id in range(7, 31)]
    rows = [EncodedDialogue("", tokens, None), EncodedDialogue("", tokens[:5], None)]
    unused = [id for id in range(loaded.vocabulary) if id not in tokens][:2]
    pad, config_pad = loaded.pad, loaded.config.pad_token_id
    scores = []
    try:
        loaded.needs_mask = False
        for id in unused:
            loaded.pad = loaded.config.pad_token_id = id
            scores.append(score_batch(loaded, rows))
    finally:
        loaded.pad, loaded.config.pad_token_id, loaded.needs_mask = pad, config_pad, True
    return len(scores) < 2 or scores[0] != scores[1]


def score_in_float32(network: Any) -> None:
    """Compute the last layer in float32: bfloat16 has three digits, and scores would often be equal."""
    head = getattr(network, "score", None) or getattr(network, "classifier", None)
    if head is not None:
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: tuple(tensor.float() for tensor in inputs))


def require_classifier(model: Model, name: str) -> None:
    """Raise InputError where a model (called `name`) is no sequence classifier with one label."""
    config = _config(model, name)
    architectures = config.get("architectures")
    names = [str(item) for item in architectures] if isinstance(architectures, list) else []
    if not any(item.endswith(_CLASSIFIER) for item in names):
        raise InputError(
            f"{name}: not a reward model: its config.json names {', '.join(names) or 'no architecture'}, "
            f"and a reward model is a ...{_CLASSIFIER}"
        )
    counts = config.get("num_labels"), config.get("id2label")
    labels = {n if isinstance(n, int) else len(n) for n in counts if isinstance(n, int | dict)}
    if labels != {1}:
        raise InputError(
            f"{name}: not a reward model: it has {max(labels, default=2)} labels, and a reward model has one"
        )


def _config(model: Model, name: str) -> dict[str, Any]:
    """The model's config.json; from the Hub, nothing but that file is downloaded."""
    file = weights.fetch(model) / "config.json" if weights.is_local(model) else _hub_config(model)
    config = None
    with suppress(InputError, ValueError, RecursionError):
        config = json.loads(read_text(file))
    if not isinstance(config, dict):
        raise InputError(f"{name}: its config.json is not JSON")
    return config


def _hub_config(model: Model) -> Path:
    from huggingface_hub import HfApi

    files = None
    with suppress(Exception), token_kept():  # offline: missing weights show when they are fetched
        files = HfApi().list_repo_files(model.id, revision=model.revision)
    if files is not None and not any(file.endswith(".safetensors") and "/" not in file for file in files):
        raise InputError(
            f"{model.id}: no safetensors weights on the Hub; pickled ones (.bin, .pt) can run code and are "
            "never loaded"
        )
    return weights.hub_file(model, "config.json")
