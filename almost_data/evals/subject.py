"""The model under evaluation: a reward model, a language model, or a baseline, all of them Scorers.

A reward model scores a dialogue. A language model scores a text and its continuation by the log-probability
of the continuation, as lm-evaluation-harness computes it. The journal keeps the scores.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from .. import scoring
from ..datasets.builder import Progress, silent
from ..datasets.manifest import Manifest
from ..datasets.records import Pinned
from ..errors import InputError
from ..generation.journal_file import JournalSession
from ..inputs import read_text
from ..models import Model
from ..scoring import BASELINE, Dialogue, Options, Scorer
from ..scoring.journaled import JournaledScorer
from ..store.store import Store
from ..training.artifact import find_model
from .likelihood import CONTEXT, Likelihood, precision

Kind = Literal["reward", "language"]


@dataclass(frozen=True)
class Subject:
    """A model under evaluation, pinned."""

    scorer: Scorer
    manifest: Manifest | None = None
    """Of a model in the store."""
    folder: Path | None = None

    @property
    def model(self) -> Model:
        return self.scorer.model

    @property
    def kind(self) -> Kind:
        return "language" if isinstance(self.scorer, Likelihood) else "reward"

    @property
    def likelihood(self) -> Likelihood:
        """The scorer of a language model. Raises TypeError for a reward model."""
        if not isinstance(self.scorer, Likelihood):
            raise TypeError(f"{self.model.id} is no language model")
        return self.scorer

    @property
    def pinned(self) -> Pinned:
        is_fake = self.manifest is not None and self.manifest.is_fake
        return Pinned(self.model.id, str(self.model.revision), fake=is_fake)

    @property
    def dtype(self) -> str | None:
        """Of a language model, whose numbers depend on it: two words are often nearly as likely."""
        return precision(self.scorer.options)[1] if isinstance(self.scorer, Likelihood) else None

    @property
    def reading(self) -> dict[str, Any]:
        """How it runs, as far as that decides its numbers, for the settings of a result."""
        read = {"max_tokens": self.scorer.max_tokens}
        return read if self.dtype is None else read | {"dtype": self.dtype}


def find(
    store: Store,
    name: str,
    options: Options | None = None,
    max_tokens: int | None = None,
    setting: str = "eval.model",
) -> Subject:
    """A model by `name@version`, `ORG/NAME[@REVISION]`, folder, `pypi:PACKAGE`, or `baseline:longest`.

    By its config.json, a sequence classifier is a reward model and a causal model a language model. Raises
    InputError, which names `setting`, where it is neither or does not exist.
    """
    options = options or Options()
    set_options = {key: value for key, value in msgspec.structs.asdict(options).items() if value is not None}
    reward_tokens = max_tokens or scoring.MAX_TOKENS
    if name.startswith((BASELINE, "fake/")):
        return Subject(scoring.load(name, options=set_options, max_tokens=reward_tokens))
    base = find_model(store, name, setting=setting)
    model, folder = base.model, base.folder
    if _architecture(folder, name).endswith("ForSequenceClassification"):
        scorer = scoring.load(model.id, model.revision, set_options, max_tokens=reward_tokens, folder=folder)
        return Subject(scorer, base.manifest, folder)
    return Subject(Likelihood(model, folder, max_tokens or CONTEXT, options), base.manifest, folder)


def scores(
    journal: JournalSession,
    subject: Subject,
    task: str,
    dialogues: Sequence[Dialogue],
    progress: Progress = silent,
    notes: list[str] | None = None,
) -> dict[str, float]:
    """The score of each dialogue by its id; the journal keeps them as they come.

    `notes` get how many were too long to be read whole, if any were.
    """
    dtype = () if subject.dtype is None else (subject.dtype,)
    scorer = JournaledScorer(subject.scorer, journal, dtype)
    values: dict[str, float] = {}
    tokens = truncated = 0
    stage = f"{task}, {subject.pinned.id}"
    progress(stage, 0, len(dialogues), 0)
    for score in scorer.score(dialogues):
        values[score.id] = score.value
        tokens += score.tokens
        truncated += score.truncated
        progress(stage, len(values), len(dialogues), tokens)
    if truncated and notes is not None:
        lost = "lost the middle of their long turns" if subject.kind == "reward" else "were not read whole"
        notes.append(
            f"{truncated:,} of {len(dialogues):,} texts were longer than {subject.pinned.id} reads, "
            f"{scorer.max_tokens:,} tokens at most, and {lost}."
        )
    return values


def _architecture(folder: Path, name: str) -> str:
    try:
        architecture = json.loads(read_text(folder / "config.json"))["architectures"][0]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{name}: its config.json names no architecture, so it cannot be run") from None
    kinds = ("ForSequenceClassification", "ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
    if not str(architecture).endswith(kinds):
        raise InputError(f"{name}: a {architecture} is neither a reward model nor a language model")
    return str(architecture)
