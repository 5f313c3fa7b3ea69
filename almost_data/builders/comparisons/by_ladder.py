"""Settings of comparisons that follow from the ladder of the responses, unless they are set."""

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


def _sides_for(parents: Mapping[str, Manifest]) -> str:
    return "chosen" if len(_ladder(parents)) == 2 else "both"


def _length_sd_for(parents: Mapping[str, Manifest]) -> float | None:
    return None if len(_ladder(parents)) == 2 else 0.5


BY_LADDER = {
    "checks": Auto("paper", _checks_for),
    "check_sides": Auto("both", _sides_for),
    "length_sd": Auto(0.5, _length_sd_for),
}
