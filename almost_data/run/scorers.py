"""The reward models of a run: found, pinned, and each loaded once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import scoring
from ..datasets.builder import RewardModel
from ..datasets.manifest import Manifest, Parent
from ..errors import InputError
from ..models import Model
from ..scoring import Scorer
from ..store.names import is_ref
from ..store.store import Store


@dataclass(frozen=True)
class Scorers:
    """Loads reward models by what a builder says of them."""

    store: Store
    options: Mapping[str, Any]
    """Of `scoring.Options`."""
    loaded: dict[RewardModel, Scorer]
    """Filled as they are asked for."""

    def load(self, reward_model: RewardModel) -> Scorer:
        """Its scorer; no weights are read. Raises InputError where there is no such model."""
        if reward_model not in self.loaded:
            stored = self.stored(reward_model)
            scorer = scoring.load(
                reward_model.id,
                stored_model(stored).revision if stored else None,
                dict(self.options),
                max_tokens=reward_model.max_tokens,
                folder=self.store.path(stored.ref) if stored else None,
            )
            report = stored.diagnostics.get("report") if stored else None
            scorer.reward_stats = (report or {}).get("rewards")
            self.loaded[reward_model] = scorer
        return self.loaded[reward_model]

    def stored(self, reward_model: RewardModel) -> Manifest | None:
        """Its manifest, where it is one of the store. Raises InputError if it is not there, or no model."""
        if not is_ref(reward_model.id):
            return None
        manifest = self.store.manifest(reward_model.id)
        if manifest.kind != "model":
            raise InputError(f"{manifest.ref} is {manifest.kind_phrase}, where a reward model is needed")
        return manifest


def stored_model(model: Manifest | Parent) -> Model:
    """A model of the store as manifests and journal name it: no folder of this machine, and its content."""
    return Model(model.ref, model.digest[:16])
