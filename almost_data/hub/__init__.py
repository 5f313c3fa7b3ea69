"""Artifacts on the Hub: `push` publishes a version, whole or not at all; `pull` brings one into a store.

Everything here may be run again: what a push or pull did before it was interrupted is found and kept.
"""

from .client import HubError
from .places import Place, place
from .pulling import NotOurs, Pulled, pull, verify
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
