"""The engine that runs anywhere: plain transformers on CPU, CUDA or MPS, no server and no kernels.

Requests are grouped by model and by what they share (few-shot text, or the first messages), and the rows
of a group are decoded in one packed sequence (see `packed.py`). A model whose architecture does not fit
that is run by padded `generate` batches with the same sampling; `settings` says so.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from ..models import weights
from ..models.chat import end_of_turn
from ..models.device import Device, default_device, free_memory, has_bfloat16, release_memory
from . import Model, Reply, Request, group_by_model, loading
from .encoding import check_templates, encode

if TYPE_CHECKING:
    from .rows import BatchRow

BATCH, GPU_BATCH = 24, 256
"""Rows decoded at once. On 2 CPU cores 16 to 32 are about equal, below and above is slower. On an H100, 256
rows gave five times the tokens of 24."""
COLUMNS, GPU_COLUMNS = 6144, 65_536
"""Tokens of all rows beyond which no row is added: each step attends over all of them."""
SHARE = 0.4
"""A further model is kept in memory if its weights take less than this share of the free memory."""


@dataclass(slots=True)
class LoadedModel:
    network: Any
    tokenizer: Any
    eos: frozenset[int]
    chat_eos: frozenset[int]
    """The tokens that end a reply to messages: the end of a turn too."""
    context: int | None
    misfit: str | None
    """Why it cannot be packed."""


@dataclass(eq=False)
class TransformersEngine:
    """Implements `Generator`."""

    name = "transformers"

    batch: Annotated[int, Meta(ge=1)] | None = None
    columns: Annotated[int, Meta(ge=1)] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device: Device | None = None

    def __post_init__(self) -> None:
        self._pinned: dict[Model, Model] = {}
        self._loaded: dict[Model, LoadedModel] = {}
        self._decoding: dict[str, str] = {}
        self.load_seconds = 0.0

    @property
    def honours_seed(self) -> bool:
        """In float32 only: in bfloat16 the rest of the batch changes the last digits, and so a token."""
        return self._device_and_dtype()[1] == "float32"

    def resolve(self, model: Model) -> Model:
        # Once for each model: the revision that runs is that of the manifest, even if another is pushed.
        if model not in self._pinned:
            self._pinned[model] = weights.locate(model)
        return self._pinned[model]

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        groups = group_by_model(requests, self.resolve)
        check_templates(groups)
        for model in sorted(groups, key=lambda model: model not in self._loaded):
            loaded = self.load(model)
            by_head: dict[str, list[Request]] = defaultdict(list)
            for request in groups.pop(model):
                by_head[request.head].append(request)
            # Requests with a head of their own lose nothing by sharing a batch.
            single = [group[0] for group in by_head.values() if len(group) == 1]
            for group in [*(group for group in by_head.values() if len(group) > 1), single]:
                yield from self._decode(loaded, group)

    def close(self) -> None:
        if self._loaded:
            self._loaded.clear()
            release_memory(self._device_and_dtype()[0])

    def settings(self) -> dict[str, Any]:
        device, dtype = self._device_and_dtype()
        batch, columns = self._limits()
        return {
            "engine": self.name,
            "device": device,
            "dtype": dtype,
            "batch": batch,
            "columns": columns,
            "decoding": dict(self._decoding),
        }

    def load(self, model: Model) -> LoadedModel:
        """The model, loaded unless it is in memory. Raises InputError or CannotStart where it cannot be."""
        if model not in self._loaded:
            start = time.monotonic()
            with loading(model.id):
                self._loaded[model] = self._load(model)
            self.load_seconds += time.monotonic() - start
        return self._loaded[model]

    def rows(self, loaded: LoadedModel, requests: list[Request]) -> "Iterator[BatchRow | Reply]":
        """The row of each request, or the reply of one that cannot be answered."""
        from .rows import BatchRow

        for prompt in encode(loaded.tokenizer, requests):
            if refusal := prompt.refusal(loaded.context):
                yield prompt.failed(refusal)
            else:
                eos = loaded.chat_eos if prompt.request.messages else loaded.eos
                yield BatchRow(prompt, loaded.tokenizer, eos)

    def _device_and_dtype(self) -> tuple[str, str]:
        """The device and the dtype: bfloat16 if the hardware supports it natively."""
        device = self.device or default_device()
        return device, self.dtype or ("bfloat16" if has_bfloat16(device) else "float32")

    def _limits(self) -> tuple[int, int]:
        """Rows decoded at once, and the tokens beyond which none is added."""
        is_gpu = self._device_and_dtype()[0].startswith("cuda")
        batch, columns = (GPU_BATCH, GPU_COLUMNS) if is_gpu else (BATCH, COLUMNS)
        return self.batch or batch, self.columns or columns

    def _load(self, model: Model) -> LoadedModel:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        from .packed import misfit

        logging.disable_progress_bar()  # builds show their own
        folder = weights.fetch(model)
        device, dtype = self._device_and_dtype()
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        if self._loaded and size > SHARE * free_memory(device):
            self.close()  # it would not fit beside the others
        network = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            # Measured: on CPU eager attention is faster for one long masked sequence.
            attn_implementation="eager" if device == "cpu" else None,
            use_safetensors=True,
            trust_remote_code=False,
        )
        network = network.to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        reason = misfit(network)
        self._decoding[model.id] = f"padded generate ({reason})" if reason else "packed"
        config = network.config.get_text_config(decoder=True)
        context = getattr(config, "max_position_embeddings", None)
        eos, turn_end = _eos(network, tokenizer), end_of_turn(tokenizer)
        chat_eos = eos if turn_end is None else eos | {turn_end}
        return LoadedModel(
            network=network, tokenizer=tokenizer, eos=eos, chat_eos=chat_eos, context=context, misfit=reason
        )

    def _decode(self, loaded: LoadedModel, requests: list[Request]) -> Iterator[Reply]:
        from .packed import decode

        rows = []
        for row in self.rows(loaded, requests):
            if isinstance(row, Reply):
                yield row
            else:
                rows.append(row)
        if loaded.misfit:
            yield from self._decode_padded(loaded, sorted(rows, key=lambda row: len(row.prompt)))
        elif rows:
            # The shared beginning in tokens, not in text, whose end may lie within a token. What the first
            # and the last prompt in order share, all prompts share.
            prompts = [row.prompt for row in rows]
            pairs = zip(min(prompts), max(prompts), strict=False)
            shared = [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
            for row in rows[1:]:
                row.cached_tokens = len(shared)
            yield from decode(loaded.network, shared, rows, *self._limits())

    def _decode_padded(self, loaded: LoadedModel, rows: "list[BatchRow]") -> Iterator[Reply]:
        """Left-padded batches through the model's own `generate`; a batch that fails is halved."""
        from .padded import generate

        size, _ = self._limits()
        waiting = deque(rows[at : at + size] for at in range(0, len(rows), size))
        while waiting:
            batch = waiting.popleft()
            try:
                replies = generate(loaded.network, batch)
            except Exception as error:
                for row in batch:
                    row.restart()
                if len(batch) == 1:
                    yield batch[0].failed(f"{type(error).__name__}: {error}")
                else:
                    half = len(batch) // 2
                    waiting.extendleft([batch[half:], batch[:half]])
            else:
                yield from replies


def _eos(network: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a text, by the model's generation config or by its tokenizer."""
    configured = network.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(id) for id in [*ids, tokenizer.eos_token_id] if id is not None)
