"""Settings of comparisons that follow from responses and ratings, unless they are set."""

from collections.abc import Mapping
from typing import Any

from ...datasets.builder import Auto
from ...datasets.manifest import Manifest


def _ladder(parents: Mapping[str, Manifest]) -> list[Any]:
    """The responders of the parent, as its settings have them: generated ones, or names of imported ones."""
    settings = parents["responses"].config["settings"]
    return list(settings.get("responders") or settings.get("ladder") or ())


def _checks_for(parents: Mapping[str, Manifest]) -> str:
    styles = [responder.get("style") for responder in _ladder(parents) if isinstance(responder, dict)]
    is_chat = parents["responses"].is_import or (styles and all(style == "chat" for style in styles))
    return "chat" if is_chat else "paper"


BY_PARENTS = {
    "checks": Auto("paper", _checks_for),
    "check_sides": Auto("both", lambda parents: "chosen" if len(_ladder(parents)) == 2 else "both"),
    "length_sd": Auto(0.5, lambda parents: None if len(_ladder(parents)) == 2 else 0.5),
    "label": Auto("ladder", lambda parents: "both" if "ratings" in parents else "ladder"),
}
