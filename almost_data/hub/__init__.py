"""Artifacts on the Hub: `push` publishes a version, whole or not at all; `pull` brings one into a store.

Both can be repeated: what an interrupted push or pull did is found and kept.
"""

from ..store.places import Place, place
from .client import HubError, NotOurs
from .pulling import Pulled, pull, verify
from .pushing import Pushed, PushPlan, plan, push

__all__ = [
    "HubError",
    "NotOurs",
    "Place",
    "Pulled",
    "PushPlan",
    "Pushed",
    "place",
    "plan",
    "pull",
    "push",
    "verify",
]
