"""The model under test: a reward model, a language model, or a baseline, by one way of asking.

All three are Scorers. A reward model scores a dialogue. A language model scores a text and its continuation
by the log-probability of the latter, as lm-evaluation-harness computes it. Scores are kept in the journal.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from .. import scoring
from ..datasets.manifest import Manifest
from ..errors import InputError
from ..generation import CannotStart, Model
from ..generation.journal_file import JournalSession
from ..scoring import BASELINE, Dialogue, Options, Score, Scorer
from ..scoring.journaled import JournaledScorer
from ..store.names import HUB_ID
from ..store.store import Store
from ..training.artifact import find_model
from .result import Pinned

Kind = Literal["reward", "language"]
Progress = Callable[[str, int, int, int], None]
CONTEXT = 2048
"""Tokens that a language model reads at most, or its own context where that is less."""
SPARE = 16
"""Tokens by which a cut text may grow when it is read once more."""
CHUNK = 128
"""Likelihoods computed at a time: what a kill can lose."""


@dataclass(frozen=True)
class Subject:
    """A model under test, pinned."""

    model: Model
    kind: Kind
    scorer: Scorer
    manifest: Manifest | None
    """Where it is one of the store."""
    folder: Path | None

    @property
    def pinned(self) -> Pinned:
        made = self.manifest
        return Pinned(self.model.id, str(self.model.revision), fake=made is not None and made.is_fake)

    @property
    def dtype(self) -> str | None:
        """Of a language model, whose numbers hang on it: two letters or words are often nearly as likely."""
        return precision(self.scorer.options)[1] if isinstance(self.scorer, Likelihood) else None

    @property
    def reading(self) -> dict[str, Any]:
        """What of its running decides its numbers, for the settings of a result."""
        read = {"max_tokens": self.scorer.max_tokens}
        return read if self.dtype is None else read | {"dtype": self.dtype}


def find(
    store: Store,
    name: str,
    revision: str | None = None,
    options: Options | None = None,
    max_tokens: int | None = None,
    flag: str = "--model",
) -> Subject:
    """A model by `name@version`, `ORG/NAME[@REVISION]`, folder, `pypi:PACKAGE`, or `baseline:longest`.

    What it is goes by its config.json: a sequence classifier is a reward model, a causal one a language
    model. Raises InputError where it is neither, or not there.
    """
    how = options or Options()
    given = {key: value for key, value in _fields(how).items() if value is not None}
    if name.startswith((BASELINE, "fake/")):
        scorer = scoring.load(name, options=given, max_tokens=max_tokens or scoring.MAX_TOKENS)
        return Subject(scorer.model, "reward", scorer, None, None)
    if HUB_ID.fullmatch(name) and "@" in name and not Path(name).exists():
        name, _, revision = name.partition("@")
    base = find_model(store, name, revision, flag)
    if _architecture(base.folder, name).endswith("ForSequenceClassification"):
        scorer = scoring.load(
            base.model.id,
            base.model.revision,
            given,
            max_tokens=max_tokens or scoring.MAX_TOKENS,
            folder=base.folder,
        )
        return Subject(base.model, "reward", scorer, base.manifest, base.folder)
    likelihood = Likelihood(base.model, base.folder, max_tokens or CONTEXT, how)
    return Subject(base.model, "language", likelihood, base.manifest, base.folder)


def scores(
    store: Store,
    subject: Subject,
    task: str,
    dialogues: Sequence[Dialogue],
    progress: Progress | None = None,
    notes: list[str] | None = None,
) -> dict[str, float]:
    """The score of every dialogue by its id; each is kept in the journal as it comes.

    `notes` get how many were too long to be read whole, if any were.
    """
    session = JournalSession(store.journal, f"eval-{task}", store.refs())
    scorer = JournaledScorer(subject.scorer, session, () if subject.dtype is None else (subject.dtype,))
    found: dict[str, float] = {}
    tokens = cut = 0
    for one in scorer.score(dialogues):
        found[one.id] = one.value
        tokens += one.tokens
        cut += one.truncated
        if progress:
            progress(task, len(found), len(dialogues), tokens)
    if cut and notes is not None:
        lost = "lost the middle of their long turns" if subject.kind == "reward" else "were not read whole"
        notes.append(
            f"{cut:,} of {len(dialogues):,} texts were longer than {subject.pinned.id} reads, "
            f"{scorer.max_tokens:,} tokens at most, and {lost}."
        )
    return found


class Likelihood:
    """Implements `Scorer`: the log-probability of a dialogue's second turn, as it stands, after its first.

    Both are text as the model reads it: `context` writes messages as such text. lm-evaluation-harness runs
    the model. Loads it at the first dialogue.
    """

    reward_stats: dict[str, Any] | None = None

    def __init__(self, model: Model, folder: Path, max_tokens: int, options: Options) -> None:
        self.model = model
        self.folder = folder
        self.most = max_tokens
        self.options = options
        self._tokenizer: Any = None
        self._network: Any = None

    @cached_property
    def max_tokens(self) -> int:
        """Those given, or the model's own context where that is less."""
        if not find_spec("transformers"):
            raise _no_harness(self.model)
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False).get_text_config()
        except Exception as error:
            raise CannotStart(f"{self.model.id} cannot be loaded: {_short(error)}") from error
        return min(self.most, getattr(config, "max_position_embeddings", None) or self.most)

    def settings(self) -> dict[str, Any]:
        if self._network is None:
            return {}
        return {"device": str(self._network.device), "dtype": str(self._network.model.dtype).split(".")[-1]}

    def close(self) -> None:
        self._network = None

    def context(self, messages: Sequence[dict[str, str]]) -> str:
        """The text before the assistant's turn: by the tokenizer's chat template, or as the paper writes it
        where there is none."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        if self._tokenizer.chat_template:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=True
                )
            )
        names = {"user": "Human", "assistant": "Assistant", "system": "System"}
        turns = [f"\n\n{names[one['role']]}: {one['content'].strip()}" for one in messages]
        return "".join(turns).lstrip("\n") + "\n\nAssistant:"

    def after(self, context: str, text: str) -> str:
        """`text` as it follows a context: behind a space, where the context does not end in one."""
        return text if context[-1:].isspace() else f" {text}"

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        coming = sorted(dialogues, key=lambda one: -sum(map(len, one.turns)))
        for start in range(0, len(coming), CHUNK):
            some = coming[start : start + CHUNK]
            for one, value, tokens, cut in self._run(some):
                yield Score(one.id, scoring.finite(value, self.model), tokens, cut)

    def _run(self, some: list[Dialogue]) -> Iterator[tuple[Dialogue, float, int, bool]]:
        network = self._load()
        texts = [_cut(network, one.turns) for one in some]
        wanted = [(one.turns, *_tokens(network, *text)) for one, text in zip(some, texts, strict=True)]
        try:
            with silent("lm_eval"):  # of every text that is cut, which `scores` counts
                found = network._loglikelihood_tokens(wanted, disable_tqdm=True)
        except Exception as error:
            raise RuntimeError(f"{self.model.id} cannot be asked: {_short(error)}") from error
        for one, text, (_, before, after), (value, _) in zip(some, texts, wanted, found, strict=True):
            # The last token is asked for, and not read.
            cut = text != one.turns or len(before) + len(after) - 1 > network.max_length
            yield one, float(value), len(network.tok_encode("".join(one.turns))), cut

    def _load(self) -> Any:
        if self._network is None:
            self._network = harness(self.folder, self.model, self.max_tokens, self.options)
        return self._network


def _tokens(network: Any, context: str, text: str) -> tuple[list[int], list[int]]:
    """Both as lm-evaluation-harness encodes them, but behind a chat template's line break.

    The library would count that break to the continuation, whose probability would be that of both.
    """
    if context[-1:].isspace():
        return network.tok_encode(context), network.tok_encode(text, add_special_tokens=False)
    pair: tuple[list[int], list[int]] = network._encode_pair(context, text)
    return pair


def _cut(network: Any, turns: tuple[str, ...]) -> tuple[str, ...]:
    """A continuation that does not fit is asked for as far as it does; a context loses its beginning."""
    context, text = turns
    tokens = network.tok_encode(text, add_special_tokens=False)
    room = network.max_length - SPARE
    return turns if len(tokens) <= room else (context, network.tok_decode(tokens[:room]))


@contextlib.contextmanager
def silent(*names: str) -> Iterator[None]:
    """Without what the loggers of those names say."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


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
    try:
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
    except Exception as error:
        raise CannotStart(f"{model.id} cannot be loaded: {_short(error)}") from error


def _no_harness(model: Model) -> InputError:
    return InputError(
        f"{model.id}: a language model is asked through lm-evaluation-harness: "
        "pip install 'almost_data[eval]'"
    )


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _architecture(folder: Path, name: str) -> str:
    try:
        named = json.loads((folder / "config.json").read_text("utf-8"))["architectures"][0]
    except (OSError, ValueError, LookupError, TypeError):
        raise InputError(f"{name}: its config.json names no architecture, so it cannot be asked") from None
    kinds = ("ForSequenceClassification", "ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
    if not str(named).endswith(kinds):
        raise InputError(f"{name}: a {named} is neither a reward model nor a language model")
    return str(named)


def _fields(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__struct_fields__}
