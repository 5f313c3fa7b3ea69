"""A language model as a scorer: the log-probability of a text after another, by lm-evaluation-harness."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import scoring
from ..errors import InputError, one_line
from ..generation import loading, prompts
from ..models import Model
from ..scoring import Dialogue, Options, Score

CONTEXT = 2048
"""Tokens that a language model reads at most, or its own context where that is less."""
SPARE = 16
"""Tokens by which a cut text may grow when it is encoded again."""
CHUNK = 128
"""Likelihoods computed at a time: what a kill can lose."""


class Likelihood:
    """Implements `Scorer`: the log-probability of a dialogue's second turn, as it stands, after its first.

    Both are text as the model reads it: `context` writes messages as such text. lm-evaluation-harness runs
    the model, which is loaded at the first dialogue.
    """

    reward_stats: dict[str, Any] | None = None

    def __init__(self, model: Model, folder: Path, max_tokens: int, options: Options) -> None:
        self.model = model
        self.folder = folder
        self.options = options
        self._limit = max_tokens
        self._network: Any = None
        self._settings: dict[str, Any] = {}

    @cached_property
    def max_tokens(self) -> int:
        """The tokens that were set, or the model's own context where that is less."""
        if not find_spec("transformers"):
            raise _no_harness(self.model)
        from transformers import AutoConfig

        with loading(self.model.id):
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False).get_text_config()
        return min(self._limit, getattr(config, "max_position_embeddings", None) or self._limit)

    @property
    def network(self) -> Any:
        """The model as lm-evaluation-harness runs it, loaded at the first use."""
        if self._network is None:
            self._network = harness(self.folder, self.model, self.max_tokens, self.options)
        return self._network

    def settings(self) -> dict[str, Any]:
        if self._network is not None:
            dtype = str(self._network.model.dtype).split(".")[-1]
            self._settings = {"device": str(self._network.device), "dtype": dtype}
        return self._settings

    def close(self) -> None:
        self.settings()  # a result asks for them after the model is closed
        self._network = None

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    def context(self, messages: Sequence[dict[str, str]]) -> str:
        """The text before the assistant's turn: by the tokenizer's chat template, or in the paper's format
        where there is none."""
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
            return str(text)
        return prompts.ask([turn | {"content": turn["content"].strip()} for turn in messages]).lstrip("\n")

    def after(self, context: str, text: str) -> str:
        """`text` as it follows a context: behind a space, where the context does not end in one."""
        return text if context[-1:].isspace() else f" {text}"

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        by_length = sorted(dialogues, key=lambda dialogue: -sum(map(len, dialogue.turns)))
        for start in range(0, len(by_length), CHUNK):
            yield from self._score(by_length[start : start + CHUNK])

    def _score(self, dialogues: list[Dialogue]) -> Iterator[Score]:
        network = self.network
        texts = [_cut(network, dialogue.turns) for dialogue in dialogues]
        requests = [
            (dialogue.turns, *_tokens(network, *text))
            for dialogue, text in zip(dialogues, texts, strict=True)
        ]
        try:
            with without_logs():
                answers = network._loglikelihood_tokens(requests, disable_tqdm=True)
        except Exception as error:
            raise RuntimeError(f"{self.model.id} cannot be asked: {one_line(error)}") from error
        for dialogue, text, (_, before, after), (value, _) in zip(
            dialogues, texts, requests, answers, strict=True
        ):
            # The last token is predicted, and not read.
            is_cut = text != dialogue.turns or len(before) + len(after) - 1 > network.max_length
            tokens = len(network.tok_encode("".join(dialogue.turns)))
            yield Score(dialogue.id, scoring.finite(float(value), self.model), tokens, is_cut)


def _tokens(network: Any, context: str, text: str) -> tuple[list[int], list[int]]:
    """Both as lm-evaluation-harness encodes them, except behind a chat template's line break.

    The library would count that break to the continuation, whose probability would be that of both.
    """
    if context[-1:].isspace():
        return network.tok_encode(context), network.tok_encode(text, add_special_tokens=False)
    pair: tuple[list[int], list[int]] = network._encode_pair(context, text)
    return pair


def _cut(network: Any, turns: tuple[str, ...]) -> tuple[str, ...]:
    """A continuation that does not fit is cut at its end; a context loses its beginning later."""
    context, text = turns
    tokens = network.tok_encode(text, add_special_tokens=False)
    room = network.max_length - SPARE
    return turns if len(tokens) <= room else (context, network.tok_decode(tokens[:room]))


@contextlib.contextmanager
def without_logs() -> Iterator[None]:
    """Without log messages: the libraries warn of what is counted here, and of what an error says."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


def precision(options: Options) -> tuple[str, str]:
    """Device and dtype by which a language model runs; loads no weights."""
    device = options.device
    if device is None and find_spec("torch"):
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = device or "cpu"
    return device, options.dtype or ("bfloat16" if device.startswith("cuda") else "float32")


def harness(folder: Path, model: Model, max_tokens: int, options: Options) -> Any:
    """The model as lm-evaluation-harness runs it. Raises InputError where that is not installed."""
    if not find_spec("lm_eval"):
        raise _no_harness(model)
    from lm_eval.models.huggingface import HFLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    device, dtype = precision(options)
    with loading(model.id):
        return HFLM(
            pretrained=str(folder),
            backend="causal",
            dtype=dtype,
            # In the model's own dtype, two letters of nearly one probability would often be equal.
            softmax_dtype="float32",
            device=device,
            batch_size=16 if device.startswith("cuda") else 4,
            max_length=max_tokens,
            trust_remote_code=False,
            use_safetensors=True,
        )


def _no_harness(model: Model) -> InputError:
    return InputError(
        f"{model.id}: lm-evaluation-harness runs language models: pip install 'almost_data[eval]'"
    )
