"""Artifacts on the Hub: `push` publishes a version, whole or not at all; `pull` brings one into a store.

Both can be repeated: what an interrupted push or pull did is found and kept.
"""

from .client import HubError, NotOurs
from .places import Place, place
from .pulling import Pulled, pull, verify
from .pushing import Plan, Pushed, plan, push

__all__ = [
    "HubError",
    "NotOurs",
    "Place",
    "Plan",
    "Pulled",
    "Pushed",
    "place",
    "plan",
    "pull",
    "push",
    "verify",
]
