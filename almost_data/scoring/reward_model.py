"""Scores of a sequence classifier with one label, run by transformers.

Dialogues are read a window at a time, sorted by length, and run in batches of about as many tokens,
padded on the right, the longest first: a batch that does not fit in memory shows at once.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ..errors import InputError, one_line
from ..generation import CannotStart, loading
from ..models import Model, weights
from ..models.device import Device, default_device, release_memory
from .classifier import LoadedClassifier, reads_ahead, require_classifier, score_batch, score_in_float32
from .reading import EncodedDialogue, Reader
from .scorer import MAX_TOKENS, Dialogue, Score, finite

WINDOW = 4096
"""Dialogues that are read and sorted together: all that is held in memory."""
BATCH_TOKENS = {"cpu": 1024, "mps": 8192, "cuda": 16_384}
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says on devices that have no error of their own for it."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a reward model runs. None of it decides a score, but for rounding."""

    device: Device | None = None
    """The machine's GPU by default."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """bfloat16 on CUDA, float32 elsewhere."""
    batch_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Tokens in a batch, padding included."""


class ClassifierScorer:
    """Implements `Scorer`. Raises InputError for a model that it cannot run; loads no weights.

    With a `folder`, the weights are there, and `model` is only how they are named.
    """

    def __init__(
        self,
        model: Model,
        max_tokens: int = MAX_TOKENS,
        options: Options | None = None,
        folder: Path | None = None,
    ) -> None:
        if not (find_spec("torch") and find_spec("transformers")):
            raise InputError(
                f"{model.id}: a reward model needs torch: pip install 'almost_data[transformers]'"
            )
        self._source = weights.locate(replace(model, id=str(folder)) if folder else model)
        self.model = model if folder else self._source
        self.max_tokens = max_tokens
        self.options = options or Options()
        require_classifier(self._source, self.model.id)
        self.reward_stats: dict[str, Any] | None = None
        self.loaded: LoadedClassifier | None = None
        self._settings: dict[str, Any] = {}
        self._batch_tokens = 0

    def settings(self) -> dict[str, Any]:
        if loaded := self.loaded:
            self._settings = {
                "device": loaded.device,
                "dtype": loaded.dtype,
                "batch_tokens": self._batch_tokens,
                "format": loaded.reader.format,
                "tokens_read_at_most": loaded.reader.limit,
            }
        return self._settings

    def close(self) -> None:
        self.settings()  # the manifest asks for them after the build
        if self.loaded:
            device = self.loaded.device
            self.loaded = None
            release_memory(device)

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        remaining = iter(dialogues)
        while window := list(islice(remaining, WINDOW)):
            loaded = self._ensure_loaded()
            rows = sorted(loaded.reader.read(window), key=lambda row: -len(row.tokens))
            if max(max(row.tokens) for row in rows) >= loaded.vocabulary:
                raise InputError(f"{self.model.id}: its tokenizer has tokens that the model does not know")
            for batch, values in self._run(loaded, rows):
                for row, value in zip(batch, values, strict=True):
                    yield Score(row.id, value, len(row.tokens), row.truncated)

    def load(self) -> LoadedClassifier:
        """The network with its weights, and how it reads and pads dialogues."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # builds show their own
        folder = weights.fetch(self._source)
        device, dtype = self._device_and_dtype()
        network, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if missing := sorted(report["missing_keys"]):
            raise CannotStart(
                f"{self.model.id}: its weights lack {', '.join(missing[:3])}, which would be random numbers"
            )
        config = network.config.get_text_config()
        config.use_cache = False
        network = network.to(device).eval()
        score_in_float32(network)
        vocabulary = network.get_input_embeddings().num_embeddings
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        context = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        reader = Reader(tokenizer, min(self.max_tokens, context, tokenizer.model_max_length), self.model.id)
        pad = getattr(config, "pad_token_id", None)
        pad = pad if pad is not None and 0 <= pad < vocabulary else None
        loaded = LoadedClassifier(
            network=network,
            config=config,
            reader=reader,
            device=device,
            dtype=dtype,
            vocabulary=vocabulary,
            pad=pad,
        )
        loaded.needs_mask = loaded.unbatched or reads_ahead(loaded)
        return loaded

    def _ensure_loaded(self) -> LoadedClassifier:
        if not self.loaded:
            with loading(self.model.id):
                self.loaded = self.load()
            kind = self.loaded.device.partition(":")[0]
            self._batch_tokens = self.options.batch_tokens or BATCH_TOKENS[kind]
        return self.loaded

    def _device_and_dtype(self) -> tuple[str, str]:
        import torch

        device = self.options.device or default_device()
        bfloat16 = device.startswith("cuda") and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return device, self.options.dtype or ("bfloat16" if bfloat16 else "float32")

    def _run(
        self, loaded: LoadedClassifier, rows: list[EncodedDialogue]
    ) -> Iterator[tuple[list[EncodedDialogue], list[float]]]:
        """Batches and their values. A batch that does not fit in memory is halved, and later ones too."""
        waiting = deque(rows)
        while waiting:
            width = len(waiting[0].tokens)
            size = 1 if loaded.unbatched else max(1, self._batch_tokens // width)
            batch = list(islice(waiting, size))
            values = self._score_if_it_fits(loaded, batch)
            if values is None:
                if len(batch) == 1:
                    raise RuntimeError(
                        f"{self.model.id}: a dialogue of {width} tokens does not fit in the memory of "
                        f"{loaded.device}: lower max_tokens, or score on another device (scoring.device)"
                    )
                self._batch_tokens = len(batch) // 2 * width
                continue
            yield batch, [finite(value, self.model) for value in values]
            for _ in batch:
                waiting.popleft()

    def _score_if_it_fits(self, loaded: LoadedClassifier, batch: list[EncodedDialogue]) -> list[float] | None:
        """The batch's values, or None where it does not fit in memory."""
        import torch

        try:
            return score_batch(loaded, batch)
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError) and not any(
                sign in str(error) for sign in _OUT_OF_MEMORY
            ):
                raise RuntimeError(f"{self.model.id} cannot score: {one_line(error)}") from error
        # Behind the handler: there, the error's frames would still hold the tensors.
        if loaded.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return None
