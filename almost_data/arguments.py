"""Values of settings, from files, the command line and Python: what does not fit is an InputError."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from .errors import InputError, did_you_mean

T = TypeVar("T")

_WORDS = {
    **{"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"},
    **{"null": "none", "array": "a list", "object": "a table"},
}
"""Type as msgspec names it -> what people call it."""
_TYPE = re.compile(rf"`((?:{'|'.join(_WORDS)})(?: \| (?:{'|'.join(_WORDS)}))*)`")


def convert(values: Any, struct: type[T], section: str, where: str = "") -> T:
    """The settings of a section as a struct.

    Raises InputError that begins with `where`, a file or an assignment, and names the setting.
    """
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        reason = _explained(str(error), struct, section, where)
        raise InputError(f"{where}: {reason}" if where else reason) from None


def check_arguments(section: str, options: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dataclass's fields in their types, such as a path of text.

    Raises InputError where one is no field, or of another type.
    """
    checked = {}
    hints, names = get_type_hints(options, include_extras=True), [field.name for field in fields(options)]
    for name, value in values.items():
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"{section}: no setting {name!r}{hint}; its settings: {', '.join(names)}")
        try:
            checked[name] = msgspec.convert(value, hints[name], dec_hook=_as_path)
        except msgspec.ValidationError as error:
            hint = did_you_mean(str(value), choices(hints[name]))
            reason = _in_words(str(error), partial(hints.get, name))
            raise InputError(f"{section}.{name} {value!r}{hint}: {reason}") from None
    return checked


def check_count(setting: str, value: object) -> None:
    """Raise InputError where a number of rows is no whole number, or less than 1."""
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{setting} {value!r}: give 1 or more")


def choices(hint: Any) -> list[str]:
    """The words that a setting of this type takes: of a closed choice, or the examples of an open one."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    if isinstance(hint, msgspec.Meta):
        return list(hint.examples or ())
    return ["true", "false"] if hint is bool else [word for part in get_args(hint) for word in choices(part)]


def _explained(message: str, struct: type[Any], section: str, where: str) -> str:
    """msgspec's message with the section in its path; for an unknown key, with the keys that exist."""
    unknown = re.fullmatch(r"Object contains unknown field `(\w+)`(?: - at `\$\.?(.*)`)?", message)
    if not unknown:
        message, at, path = message.partition(" - at `$")
        path = path.removesuffix("`").removeprefix(".")
        message = re.sub(r"^Object missing required field `(\w+)`", r"\1 is missing", message)
        message = _in_words(message, partial(_hint_at, struct, path))
        place = ".".join(filter(None, [section, path]))
        is_named = where.startswith(f"{place}=")  # an assignment of this very setting
        return f"{place}: {message}" if (at or section) and not is_named else message
    key, path = unknown.groups()
    names = [field.name for field in msgspec.structs.fields(_struct_at(struct, path or ""))]
    name = ".".join(filter(None, [section, path, key]))
    place = _nested_place(struct, section, path or "", key)
    return f"unknown key {name}{place or did_you_mean(key, names)}; known here: {', '.join(names)}"


def _in_words(message: str, hint: Callable[[], Any]) -> str:
    """What msgspec says of a value, as people say it; of a choice and of a pattern, what the type takes."""
    message = _TYPE.sub(lambda match: " or ".join(_WORDS[kind] for kind in match[1].split(" | ")), message)
    message = message.replace("Expected ", "needs ").replace(", got ", ", not ")
    if message.startswith("Invalid enum value"):
        return f"{message}: choose of {', '.join(choices(hint()))}"
    if message.startswith("needs text matching regex"):
        return f"needs {_description(hint())}"
    return message


def _description(hint: Any) -> str:
    """What a type with a pattern says of itself."""
    if isinstance(hint, msgspec.Meta):
        return hint.description or f"text matching {hint.pattern}"
    return next(filter(None, map(_description, get_args(hint))), "")


def _nested_place(struct: type[Any], section: str, path: str, key: str) -> str:
    """Where a key belongs that a table or a list inside of this one has; empty where none has it."""
    for setting in msgspec.inspect.type_info(_struct_at(struct, path)).fields:  # type: ignore[attr-defined]
        inner = _inner_struct(setting.type)
        if inner and key in inner.cls.__struct_fields__:
            place = ".".join(filter(None, [section, path, setting.name]))
            return f", which is a key of {place}: write it there"
    return ""


def _hint_at(struct: type[Any], path: str) -> Any:
    """The type of the setting that msgspec's path leads to."""
    parent, _, name = re.sub(r"\[.*?\]", "", path).rpartition(".")
    return get_type_hints(_struct_at(struct, parent), include_extras=True)[name]


def _struct_at(struct: type[Any], path: str) -> type[msgspec.Struct]:
    """The struct that msgspec's path leads to: `responders[0]` is a Responder."""
    kind: Any = msgspec.inspect.type_info(struct)
    for name in re.findall(r"\w+", re.sub(r"\[.*?\]", "", path)):
        kind = _inner_struct(next(field.type for field in kind.fields if field.encode_name == name))
    inner: type[msgspec.Struct] = kind.cls
    return inner


def _inner_struct(kind: Any) -> Any:
    """The struct inside lists, unions and annotations."""
    if isinstance(kind, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        return kind
    inner = [getattr(kind, name) for name in ("item_type", "type") if hasattr(kind, name)]
    inner += getattr(kind, "types", ())
    return next(filter(None, map(_inner_struct, inner)), None)


def _as_path(kind: type, value: Any) -> Any:
    """A path may be given as text."""
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
