"""Scores of a sequence classifier with one label, run by transformers.

Dialogues are read a window at a time, sorted by length, and run in batches of about as many tokens,
padded on the right, the longest first: a batch that does not fit in memory shows at once.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ..errors import InputError, one_line
from ..generation import CannotStart
from ..models import Model, weights
from ..models.device import default_device, release_memory
from .reading import EncodedDialogue, Reader
from .scorer import MAX_TOKENS, Dialogue, Score, finite

WINDOW = 4096
"""Dialogues that are read and sorted together: all that is held in memory."""
BATCH_TOKENS = {"cpu": 1024, "mps": 8192, "cuda": 16_384}
UNBATCHED = {"fnet", "xlnet"}
"""Architectures without a mask, or that read the score behind the padding: one dialogue at a time, like all
encoder-decoders."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says on devices that have no error of their own for it."""
_CLASSIFIER = "ForSequenceClassification"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a reward model runs. None of it decides a score, but for rounding."""

    device: Annotated[str, msgspec.Meta(pattern=r"^(cpu|mps|cuda(:\d+)?)$")] | None = None
    """The machine's GPU by default."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """bfloat16 on CUDA, float32 elsewhere."""
    batch_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Tokens in a batch, padding included."""


@dataclass(slots=True)
class LoadedClassifier:
    network: Any
    config: Any
    reader: Reader
    device: str
    dtype: str
    vocabulary: int
    pad: int | None
    """The token that the model itself takes for padding."""
    needs_mask: bool = True
    """Whether padding must be masked (see `_reads_ahead`)."""

    @property
    def unbatched(self) -> bool:
        return self.config.model_type in UNBATCHED or bool(getattr(self.config, "is_encoder_decoder", False))


class RewardModel:
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
        _require_classifier(_config(self._source, self.model.id), self.model.id)
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
        _score_in_float32(network)
        vocabulary = network.get_input_embeddings().num_embeddings
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        context = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        reader = Reader(tokenizer, min(self.max_tokens, context, tokenizer.model_max_length), self.model.id)
        pad = getattr(config, "pad_token_id", None)
        pad = pad if pad is not None and 0 <= pad < vocabulary else None
        loaded = LoadedClassifier(network, config, reader, device, dtype, vocabulary, pad)
        loaded.needs_mask = loaded.unbatched or _reads_ahead(loaded)
        return loaded

    def _ensure_loaded(self) -> LoadedClassifier:
        if not self.loaded:
            try:
                self.loaded = self.load()
            except (InputError, CannotStart):
                raise
            except Exception as error:
                raise CannotStart(f"{self.model.id} cannot be loaded: {one_line(error)}") from error
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


def score_batch(loaded: LoadedClassifier, batch: list[EncodedDialogue]) -> list[float]:
    """The model's score of each dialogue, as it gives it for the dialogue alone.

    A decoder's score is read at one token, and transformers finds that by id: the last one that is not
    `config.pad_token_id`, or the very last one where that is None. So the padding must be that very id.
    (Where it is EOS too, the score of a text that ends in EOS is read before it, here as in training.)
    Where the config has none, any id will do that no dialogue of the batch ends in, if the config says so.
    Padding stands on the right, where no token that counts sees it, and positions begin at 0.
    """
    import torch

    width = max(len(row.tokens) for row in batch)
    pad = loaded.pad
    if pad is None:
        last_tokens = {row.tokens[-1] for row in batch}
        pad = next(id for id in count() if id not in last_tokens)
        loaded.config.pad_token_id = pad

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


def _reads_ahead(loaded: LoadedClassifier) -> bool:
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
        for loaded.pad in unused:
            loaded.config.pad_token_id = loaded.pad
            scores.append(score_batch(loaded, rows))
    finally:
        loaded.pad, loaded.config.pad_token_id, loaded.needs_mask = pad, config_pad, True
    return len(scores) < 2 or scores[0] != scores[1]


def _score_in_float32(network: Any) -> None:
    """Compute the last layer in float32: bfloat16 has three digits, and scores would often be equal."""
    head = getattr(network, "score", None) or getattr(network, "classifier", None)
    if head is not None:
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: tuple(tensor.float() for tensor in inputs))


def _require_classifier(config: dict[str, Any], name: str) -> None:
    """Raise InputError where config.json is not that of a sequence classifier with one label."""
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
    with suppress(OSError, ValueError, RecursionError):
        config = json.loads(file.read_text("utf-8"))
    if not isinstance(config, dict):
        raise InputError(f"{name}: its config.json is not JSON")
    return config


def _hub_config(model: Model) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    files = None
    with suppress(Exception):  # offline: missing weights show when they are fetched
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
