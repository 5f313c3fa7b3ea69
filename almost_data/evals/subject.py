"""The model under evaluation: a reward model, a language model, or a baseline, all of them Scorers.

A reward model scores a dialogue. A language model scores a text and its continuation by the log-probability
of the continuation, as lm-evaluation-harness computes it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import scoring
from ..datasets.manifest import Manifest
from ..datasets.records import Pinned
from ..errors import InputError
from ..inputs import read_text
from ..models import Model
from ..scoring import BASELINE, Scorer
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
    options: dict[str, Any] | None = None,
    max_tokens: int | None = None,
    setting: str = "eval.model",
) -> Subject:
    """A model by `name@version`, `ORG/NAME[@REVISION]`, folder, `pypi:PACKAGE`, or `baseline:longest`.

    By its config.json, a sequence classifier is a reward model and a causal model a language model. Raises
    InputError, which names `setting`, where it is neither or does not exist.
    """
    reward_tokens = max_tokens or scoring.MAX_TOKENS
    if name.startswith((BASELINE, "fake/")):
        return Subject(scoring.load(name, options=options, max_tokens=reward_tokens))
    base = find_model(store, name, setting=setting)
    model, folder = base.model, base.folder
    if _architecture(folder, name).endswith("ForSequenceClassification"):
        reward = scoring.load(model.id, model.revision, options, max_tokens=reward_tokens, folder=folder)
        return Subject(reward, base.manifest, folder)
    scorer = Likelihood(model, folder, max_tokens or CONTEXT, scoring.check_options(options or {}))
    return Subject(scorer, base.manifest, folder)


def _architecture(folder: Path, name: str) -> str:
    try:
        architecture = json.loads(read_text(folder / "config.json"))["architectures"][0]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{name}: its config.json names no architecture, so it cannot be run") from None
    kinds = ("ForSequenceClassification", "ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
    if not str(architecture).endswith(kinds):
        raise InputError(f"{name}: a {architecture} is neither a reward model nor a language model")
    return str(architecture)
