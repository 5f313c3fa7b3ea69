"""The reward models of a run: found, and pinned."""

from collections.abc import Mapping
from typing import Any

from .. import scoring
from ..datasets.builder import RewardModel
from ..datasets.manifest import Manifest, Parent
from ..errors import InputError
from ..models import Model
from ..scoring import Scorer
from ..store.names import is_ref
from ..store.store import Store


def load_scorer(store: Store, reward_model: RewardModel, options: Mapping[str, Any]) -> Scorer:
    """Its scorer, by `scoring.Options`; reads no weights. Raises InputError where there is no such model."""
    stored = stored_manifest(store, reward_model)
    scorer = scoring.load(
        reward_model.id,
        stored_model(stored).revision if stored else None,
        dict(options),
        max_tokens=reward_model.max_tokens,
        folder=store.path(stored.ref) if stored else None,
    )
    report = stored.diagnostics.get("report") if stored else None
    scorer.reward_stats = (report or {}).get("rewards")
    return scorer


def stored_manifest(store: Store, reward_model: RewardModel) -> Manifest | None:
    """Its manifest, where it is one of the store. Raises InputError if it is not there, or no model."""
    if not is_ref(reward_model.id):
        return None
    manifest = store.manifest(reward_model.id)
    if manifest.kind != "model":
        raise InputError(f"{manifest.ref} is {manifest.kind_phrase}, where a reward model is needed")
    return manifest


def stored_model(model: Manifest | Parent) -> Model:
    """A model of the store as manifests and journal name it: no folder of this machine, and its content."""
    return Model(model.ref, model.digest[:16])
