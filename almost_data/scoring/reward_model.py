"""Scores of a sequence classifier with one label, run by transformers.

Dialogues are read a window at a time, sorted by length, and run in batches of about as many tokens,
padded on the right, the longest first: what does not fit in memory shows at once.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..generation import CannotStart, Model
from ..models import weights as models
from . import MAX_TOKENS, Dialogue, Options, Score, finite
from .reading import Reader, Row

WINDOW = 4096
"""Dialogues that are read and sorted together: all that is held in memory."""
BATCH_TOKENS = {"cpu": 1024, "mps": 8192, "cuda": 16_384}
ALONE = {"fnet", "xlnet"}
"""Architectures without a mask, or that read the score behind the padding: one row at a time, as of all
that have a decoder beside an encoder."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says on devices that have no error of their own for it."""
_CLASSIFIER = "ForSequenceClassification"


@dataclass(slots=True)
class _Loaded:
    network: Any
    config: Any
    reader: Reader
    device: str
    dtype: str
    vocabulary: int
    pad: int | None
    """The token that the model itself takes for padding."""
    masked: bool = True
    """Whether it must be told what is padding (see `_looks_ahead`)."""


class RewardModel:
    """Implements `Scorer`. Raises InputError where the model is none that it can run; loads no weights.

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
        self._source = models.locate(replace(model, id=str(folder)) if folder else model)
        self.model = model if folder else self._source
        self.max_tokens = max_tokens
        self.options = options or Options()
        self._require_classifier()
        self.usual: dict[str, Any] | None = None
        self._loaded: _Loaded | None = None
        self._settings: dict[str, Any] = {}
        self._batch_tokens = 0

    def settings(self) -> dict[str, Any]:
        if loaded := self._loaded:
            self._settings = {
                "device": loaded.device,
                "dtype": loaded.dtype,
                "batch_tokens": self._batch_tokens,
                "format": loaded.reader.format,
                "tokens_read_at_most": loaded.reader.limit,
            }
        return self._settings

    def close(self) -> None:
        self.settings()  # which the manifest asks for when all is done
        loaded, self._loaded = self._loaded, None
        if loaded:
            device = loaded.device
            del loaded
            models.release(device)

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        coming = iter(dialogues)
        while window := [(one.id, one.turns) for one in islice(coming, WINDOW)]:
            loaded = self._load()
            rows = sorted(loaded.reader.read(window), key=lambda row: -len(row.ids))
            if max(max(row.ids) for row in rows) >= loaded.vocabulary:
                raise InputError(f"{self.model.id}: its tokenizer has tokens that the model does not know")
            for batch, values in self._run(loaded, rows):
                for row, value in zip(batch, values, strict=True):
                    yield Score(row.id, value, len(row.ids), row.truncated)

    # --- running -----------------------------------------------------------------------------------------

    def _run(self, loaded: _Loaded, rows: list[Row]) -> Iterator[tuple[list[Row], list[float]]]:
        """Batches and their values. A batch that does not fit in memory is halved, and those after it too."""
        left = deque(rows)
        while left:
            width = len(left[0].ids)
            batch = list(islice(left, 1 if _alone(loaded) else max(1, self._batch_tokens // width)))
            values = self._try(loaded, batch)
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
                left.popleft()

    def _try(self, loaded: _Loaded, batch: list[Row]) -> list[float] | None:
        """The batch's values, or None where it does not fit in memory."""
        import torch

        try:
            return _values(loaded, batch)
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError) and not any(
                sign in str(error) for sign in _OUT_OF_MEMORY
            ):
                why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise RuntimeError(f"{self.model.id} cannot score: {why}") from error
        # Behind the handler: there, the error's frames would still hold the tensors.
        if loaded.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return None

    # --- loading -----------------------------------------------------------------------------------------

    def _require_classifier(self) -> None:
        name = self.model.id
        config = _config(self._source, name)
        architectures = config.get("architectures")
        named = [str(one) for one in architectures] if isinstance(architectures, list) else []
        if not any(one.endswith(_CLASSIFIER) for one in named):
            raise InputError(
                f"{name}: not a reward model: its config.json names {', '.join(named) or 'no architecture'}, "
                f"and a reward model is a ...{_CLASSIFIER}"
            )
        given = config.get("num_labels"), config.get("id2label")
        labels = {one if isinstance(one, int) else len(one) for one in given if isinstance(one, int | dict)}
        if labels != {1}:
            raise InputError(
                f"{name}: not a reward model: it has {max(labels, default=2)} labels, and one score wants one"
            )

    def _load(self) -> _Loaded:
        if not self._loaded:
            try:
                self._loaded = self._start()
            except (InputError, CannotStart):
                raise
            except Exception as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise CannotStart(f"{self.model.id} cannot be loaded: {why}") from error
            kind = self._loaded.device.partition(":")[0]
            self._batch_tokens = self.options.batch_tokens or BATCH_TOKENS[kind]
        return self._loaded

    def _start(self) -> _Loaded:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # builds show their own
        folder = models.fetch(self._source)
        device, dtype = self._device()
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
        _precise_head(network)
        vocabulary = network.get_input_embeddings().num_embeddings
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        context = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        limit = min(self.max_tokens, context, tokenizer.model_max_length)
        pad = getattr(config, "pad_token_id", None)
        own = pad if pad is not None and 0 <= pad < vocabulary else None
        reader = Reader(tokenizer, limit, self.model.id)
        loaded = _Loaded(network, config, reader, device, dtype, vocabulary, own)
        loaded.masked = _alone(loaded) or _looks_ahead(loaded)
        return loaded

    def _device(self) -> tuple[str, str]:
        import torch

        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        device = self.options.device or found
        native = device.startswith("cuda") and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return device, self.options.dtype or ("bfloat16" if native else "float32")


def _values(loaded: _Loaded, batch: list[Row]) -> list[float]:
    """The model's own score of each row, as it gives it for the row alone.

    A decoder's score is read at one token, and transformers finds that by id: the last one that is not
    `config.pad_token_id`, or the very last one where that is None. So the padding must be that very id.
    (Where it is EOS too, the score of a text that ends in EOS is read before it, here as in training.)
    Where the config has none, any id will do that no row of the batch ends in, if the config says so.
    Padding stands on the right, where no token that counts sees it, and positions begin at 0.
    """
    import torch

    width = max(len(row.ids) for row in batch)
    pad = loaded.pad
    if pad is None:
        last = {row.ids[-1] for row in batch}
        pad = next(id for id in count() if id not in last)
        loaded.config.pad_token_id = pad

    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        filled = [row + [fill] * (width - len(row)) for row in rows]
        return torch.tensor(filled, device=loaded.device)

    inputs = {"input_ids": padded([row.ids for row in batch], pad)}
    if loaded.masked:
        inputs["attention_mask"] = padded([[1] * len(row.ids) for row in batch], 0)
    if batch[0].types is not None:
        inputs["token_type_ids"] = padded([row.types or [] for row in batch], 0)
    with torch.inference_mode():
        logits = loaded.network(**inputs).logits
    values: list[float] = logits.float().reshape(len(batch)).tolist()
    return values


def _alone(loaded: _Loaded) -> bool:
    """Whether the model takes one row at a time only."""
    return loaded.config.model_type in ALONE or bool(getattr(loaded.config, "is_encoder_decoder", False))


def _looks_ahead(loaded: _Loaded) -> bool:
    """Whether what stands behind a token changes what the model makes of it.

    Where it does not, padding on the right needs no mask, and without one attention has a faster kernel.
    Found by trying: a short row beside a long one, its padding once of one id and once of another.
    """
    ids = [one % loaded.vocabulary for one in range(7, 31)]
    rows = [Row("", ids, None), Row("", ids[:5], None)]
    free = [one for one in range(loaded.vocabulary) if one not in ids][:2]
    own, kept = loaded.pad, loaded.config.pad_token_id
    scores = []
    try:
        loaded.masked = False
        for loaded.pad in free:
            loaded.config.pad_token_id = loaded.pad
            scores.append(_values(loaded, rows))
    finally:
        loaded.pad, loaded.config.pad_token_id, loaded.masked = own, kept, True
    return len(scores) < 2 or scores[0] != scores[1]


def _precise_head(network: Any) -> None:
    """Compute the last layer in float32: bfloat16 has three digits, and scores would often be equal."""
    head = getattr(network, "score", None) or getattr(network, "classifier", None)
    if head is not None:
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: tuple(one.float() for one in inputs))


def _config(model: Model, name: str) -> dict[str, Any]:
    """The model's config.json; from the Hub, nothing but that file is downloaded."""
    local = model.id.startswith(models.PREFIX) or Path(model.id).is_dir()
    file = models.fetch(model) / "config.json" if local else _hub_config(model)
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{name}: its config.json is not JSON")
    return config


def _hub_config(model: Model) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    files = None
    with suppress(Exception):  # offline: what is missing shows when the weights are fetched
        files = HfApi().list_repo_files(model.id, revision=model.revision)
    if files is not None and not any(file.endswith(".safetensors") and "/" not in file for file in files):
        raise InputError(
            f"{model.id}: no safetensors weights on the Hub; pickled ones (.bin, .pt) can run code and are "
            "never loaded"
        )
    try:
        return Path(hf_hub_download(model.id, "config.json", revision=model.revision))
    except Exception as error:
        raise InputError(
            f"{model.id}@{model.revision}: its config.json cannot be downloaded from the Hub and is not in "
            f"its cache ({type(error).__name__})"
        ) from None
