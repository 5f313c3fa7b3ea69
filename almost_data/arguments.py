"""Keyword arguments of Python callers: a name or a type that does not fit is an InputError, as in a file."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from .errors import InputError, did_you_mean


def check_arguments(section: str, options: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dataclass's fields in their types, such as a path of text.

    Raises InputError where one is no field, or of another type.
    """
    checked = {}
    hints, names = get_type_hints(options), [field.name for field in fields(options)]
    for name, value in values.items():
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"{section}: no setting {name!r}{hint}; its settings: {', '.join(names)}")
        try:
            checked[name] = msgspec.convert(value, hints[name], dec_hook=_as_path)
        except msgspec.ValidationError as error:
            choices = [text for text in _choices(hints[name]) if isinstance(text, str)]
            hint = did_you_mean(str(value), choices)
            expected = f"choose {', '.join(choices)}" if choices else str(error).replace("Expected", "give")
            raise InputError(f"{section}.{name} {value!r}{hint}: {expected}") from None
    return checked


def check_count(setting: str, value: object) -> None:
    """Raise InputError where a number of rows is no whole number, or less than 1."""
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{setting} {value!r}: give 1 or more")


def _choices(hint: Any) -> list[Any]:
    """The values of a Literal, also within an optional one."""
    return [value for part in get_args(hint) for value in (get_args(part) or [part])]


def _as_path(kind: type, value: Any) -> Any:
    """A path may be given as text."""
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
