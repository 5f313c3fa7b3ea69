"""The engine that runs anywhere: plain transformers on CPU, CUDA or MPS, no server and no kernels.

Requests are grouped by model and prefix, and the rows of a group are decoded in one packed sequence
(see `packed.py`). A model whose architecture does not fit that is run by padded `generate` batches
with the same sampling; `settings` says so.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from ..errors import InputError
from ..models import weights
from ..models.device import default_device, free_memory, release_memory
from . import CannotStart, Model, Reply, Request

if TYPE_CHECKING:
    from almost_data.generation.rows import Row

BATCH = 24
"""Rows decoded at once; on 2 CPU cores 16 to 32 are about equal, below and above is slower."""
COLUMNS = 6144
"""Own tokens of all rows together beyond which no new row enters: each row's step scores all of them."""
SHARE = 0.4
"""A further model is kept in memory where its weights take less than this share of what is free."""


@dataclass(slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    eos: frozenset[int]
    context: int | None
    misfit: str | None


class TransformersEngine:
    """Implements `Generator`."""

    name = "transformers"

    def __init__(
        self,
        batch: Annotated[int, Meta(ge=1)] = BATCH,
        columns: Annotated[int, Meta(ge=1)] = COLUMNS,
        dtype: Literal["float32", "bfloat16", "float16"] | None = None,
        device: Annotated[str, Meta(pattern=r"^(cpu|mps|cuda(:\d+)?)$")] | None = None,
    ) -> None:
        self.batch = batch
        self.columns = columns
        self._dtype = dtype
        self._device = device
        self._pinned: dict[Model, Model] = {}
        self._loaded: dict[Model, _Loaded] = {}
        self._decoding: dict[str, str] = {}
        self.load_seconds = 0.0

    @property
    def honours_seed(self) -> bool:
        """In float32 only: in bfloat16 the rows that run together decide the last digits, and so a token."""
        return self._place()[1] == "float32"

    def resolve(self, model: Model) -> Model:
        # Once for each model: what the manifest pins is what runs, whatever is pushed meanwhile.
        if model not in self._pinned:
            self._pinned[model] = weights.locate(model)
        return self._pinned[model]

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        groups: dict[Model, dict[str, list[Request]]] = defaultdict(lambda: defaultdict(list))
        seen: set[str] = set()
        for request in requests:
            if request.id in seen:
                raise ValueError(f"request id {request.id!r} occurs twice")
            seen.add(request.id)
            groups[self.resolve(request.model)][request.prefix].append(request)
        for model in sorted(groups, key=lambda model: model not in self._loaded):
            start = time.monotonic()
            try:
                loaded = self._load(model)
            except InputError:
                raise
            except Exception as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise CannotStart(f"{model.id} cannot be loaded: {why}") from error
            self.load_seconds += time.monotonic() - start
            yield from self._run(loaded, groups.pop(model))

    def close(self) -> None:
        if self._loaded:
            self._loaded.clear()
            release_memory(self._place()[0])

    def settings(self) -> dict[str, Any]:
        device, dtype = self._place()
        return {
            "engine": self.name,
            "device": device,
            "dtype": dtype,
            "batch": self.batch,
            "columns": self.columns,
            "decoding": dict(self._decoding),
        }

    def _place(self) -> tuple[str, str]:
        """Device and dtype: bf16 wherever the hardware multiplies it."""
        import torch

        device = self._device or default_device()
        if device.startswith("cuda"):
            native = torch.cuda.is_bf16_supported()
        else:
            native = device == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return device, self._dtype or ("bfloat16" if native else "float32")

    def _load(self, model: Model) -> _Loaded:
        if model in self._loaded:
            return self._loaded[model]
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        from almost_data.generation.packed import misfit

        logging.disable_progress_bar()  # builds show their own
        folder = weights.fetch(model)
        device, dtype = self._place()
        if self._loaded and _weight_bytes(folder) > SHARE * free_memory(device):
            self.close()
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
        why = misfit(network)
        self._decoding[model.id] = f"padded generate ({why})" if why else "packed"
        config = network.config.get_text_config(decoder=True)
        loaded = _Loaded(
            model=network,
            tokenizer=tokenizer,
            eos=_eos(network, tokenizer),
            context=getattr(config, "max_position_embeddings", None),
            misfit=why,
        )
        self._loaded[model] = loaded
        return loaded

    def _run(self, loaded: _Loaded, groups: dict[str, list[Request]]) -> Iterator[Reply]:
        from almost_data.generation.packed import decode

        # Requests that share their prefix with no other lose nothing by sharing a batch.
        single = [group[0] for group in groups.values() if len(group) == 1]
        for group in [*(group for group in groups.values() if len(group) > 1), single]:
            rows = []
            for request in group:
                row, refused = self._row(loaded, request)
                if refused:
                    yield refused
                else:
                    rows.append(row)
            if loaded.misfit:
                yield from self._padded(loaded, sorted(rows, key=lambda row: len(row.prompt)))
            elif rows:
                shared = _shared(rows)
                for row in rows[1:]:
                    row.cached = len(shared)
                yield from decode(loaded.model, shared, rows, self.batch, self.columns)

    def _row(self, loaded: _Loaded, request: Request) -> "tuple[Row, Reply | None]":
        """The request's row, and its error reply where it cannot be run."""
        from almost_data.generation.rows import Row

        prompt = loaded.tokenizer(request.prompt, verbose=False)["input_ids"] if request.prompt else []
        row = Row(request, prompt, loaded.tokenizer, loaded.eos)
        new = request.sampling.max_new_tokens
        if not prompt:
            return row, row.failed("the prompt is empty")
        if new < 1:
            return row, row.failed("max_new_tokens is below 1")
        if loaded.context is not None and len(prompt) + new > loaded.context:
            return row, row.failed(
                f"{len(prompt)} prompt tokens + {new} new ones exceed the model's context of {loaded.context}"
            )
        return row, None

    def _padded(self, loaded: _Loaded, rows: "list[Row]") -> Iterator[Reply]:
        """Left-padded batches through the model's own `generate`; a batch that fails is halved."""
        from almost_data.generation.padded import generate

        waiting = deque(rows[at : at + self.batch] for at in range(0, len(rows), self.batch))
        while waiting:
            batch = waiting.popleft()
            try:
                replies = generate(loaded.model, batch)
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


def _shared(rows: "list[Row]") -> list[int]:
    """The tokens that all prompts begin with. The whole prompts were tokenised, so a token that spans the
    end of the prefix is right; the prefix by itself might end in another one."""
    first = list(rows[0].prompt)
    length = len(first)
    for row in rows:
        length = next(
            (at for at in range(min(length, len(row.prompt))) if row.prompt[at] != first[at]),
            min(length, len(row.prompt)),
        )
    return first[:length]


def _eos(network: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a text, by the model's generation config or by its tokenizer."""
    said = network.generation_config.eos_token_id
    ids = said if isinstance(said, list) else [said]
    return frozenset(int(id) for id in [*ids, tokenizer.eos_token_id] if id is not None)


def _weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
