"""What differs between two recipes, for people: settings by the names that set them."""

from typing import Any

import msgspec

from .manifest import Manifest, canonical_json

MAX_NAME = 40
"""Most characters of a value in a list of changes."""


def recipe(manifest: Manifest) -> dict[str, Any]:
    """What `changes` compares to say why two fingerprints differ: settings by the names that set them."""
    section = {"dataset": manifest.builder.name, "model": "recipe", "evaluation": "eval"}[manifest.kind]
    section = "import" if manifest.is_import else section
    return {
        "builder": msgspec.to_builtins(manifest.builder),
        **{f"{section}.{name}": value for name, value in manifest.config["settings"].items()},
        **{name: value for name, value in manifest.config.items() if name != "settings"},
        "parents": {parent.ref.split("@")[0]: parent.digest[:12] for parent in manifest.parents},
    }


def changes(old: Any, new: Any, at: str = "") -> list[str]:
    """What differs between two recipes, one `path: old -> new` each.

    >>> changes({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c: 2 -> 3']
    >>> changes({"checks": ["too_short", "unfinished"]}, {"checks": ["too_short"]})
    ['checks: - unfinished']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted(old.keys() | new.keys()):
            sides = old.get(key, _ABSENT), new.get(key, _ABSENT)
            lines += changes(*sides, f"{at}.{key}" if at else key)
        return lines
    if isinstance(old, list) and isinstance(new, list) and (items := _item_changes(old, new)):
        return [f"{at}: {item}" for item in items]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for place, pair in pairs for line in changes(*pair, f"{at}[{place}]")]
    before, after = _short(old), _short(new)
    same = _ABSENT not in (old, new) and canonical_json(old) == canonical_json(new)
    return [] if same else [f"{at}: {before} -> {after}"]


def _item_changes(old: list[Any], new: list[Any]) -> list[str]:
    """The items that only one of two lists of settings has; of named ones the names."""
    before, after = ([_item_name(item) for item in items] for items in (old, new))
    removed = [f"- {name}" for name in before if name not in after]
    return removed + [f"+ {name}" for name in after if name not in before]


def _item_name(item: Any) -> str:
    name = item["name"] if isinstance(item, dict) and "name" in item else item
    return name if isinstance(name, str) and len(name) <= MAX_NAME else _short(name)


_ABSENT = object()
"""Stands for a key that one side lacks, as distinct from a key whose value is null."""


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = "none" if value is None else canonical_json(value).decode()
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."
