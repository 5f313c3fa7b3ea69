"""Settings of builders: frozen data, typed so that paths can be told from other text.

A manifest, a card and a fingerprint hold no folder of a machine: `record` cuts each field of a path type to
the path's last part.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, inspect

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
"""`ORG/NAME`, with a revision or without."""

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Temperature = Annotated[float, Meta(ge=0, le=10)]
Share = Annotated[float, Meta(gt=0, le=1)]

FilePath = Annotated[str, Meta(extra={"path": "file"})]
"""A file of the user's. Its name is recorded; what decides the rows is pinned by its hash."""
Source = Annotated[str, Meta(extra={"path": "source"})]
"""A Hub id, `name@version`, a shipped name, or a path; of a path the last part is recorded."""
NamedFile = Annotated[str, Meta(extra={"path": "named file"})]
"""A shipped name, or a path as in `Source`; a folder of that name changes nothing."""


Change = Callable[[str, str], str]
"""Kind of a path type, and a value of it -> the value in its place."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings of a builder derive from: an unknown key or a wrong type is an error."""


def is_path(source: str) -> bool:
    """Whether a source is meant as a path, by its text alone: nothing depends on this machine's files.

    >>> is_path("./models/rm"), is_path("ORG/rm")
    (True, False)
    """
    return source.startswith(("/", "./", "../", "~"))


def source_name(source: str) -> str:
    """A source as it is recorded: of a path its last part, any other name as it is.

    >>> source_name("./models/rm"), source_name("ORG/rm")
    ('rm', 'ORG/rm')
    """
    return Path(source).name if is_path(source) else source


def record(config: Config) -> dict[str, Any]:
    """The settings as JSON data, paths cut to names."""

    def recorded(kind: str, path: str) -> str:
        return Path(path).name if kind == "file" else source_name(path)

    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(_map_paths(config, recorded)))
    return settings


def toml_value(value: Any) -> str:
    """JSON data as a TOML value on one line; None is the word `none`, which `--set` takes for it.

    >>> toml_value({"name": "a", "shots": 3, "revision": None})
    '{name = "a", shots = 3}'
    """
    if value is None:
        return "none"
    if isinstance(value, dict):
        items = (f"{key} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def paths(config: Config) -> list[str]:
    """The values of path types, which may be files, folders or names."""
    values: list[str] = []

    def collect(kind: str, path: str) -> str:
        values.append(path)
        return path

    _map_paths(config, collect)
    return values


def with_marked_paths(config: Config) -> Any:
    """The config with `./` before each source that is a path here, so that it is known for one."""

    def mark(kind: str, source: str) -> str:
        is_plain = kind == "source" and not is_path(source) and "@" not in source
        return f"./{source}" if is_plain and Path(source).exists() else source

    return _map_paths(config, mark)


def _map_paths(config: Any, change: Change) -> Any:
    """The config with `change(kind, path)` in the place of each value of a path type."""
    info = inspect.type_info(type(config))
    assert isinstance(info, inspect.StructType)
    changed = {
        field.name: _map_value(getattr(config, field.name), field.type, change) for field in info.fields
    }
    return msgspec.structs.replace(config, **changed)


def _map_value(value: Any, kind: inspect.Type, change: Change) -> Any:
    if isinstance(value, msgspec.Struct):
        return _map_paths(value, change)
    if isinstance(value, tuple | list):
        item = getattr(kind, "item_type", inspect.AnyType())
        return type(value)(_map_value(part, item, change) for part in value)
    if isinstance(value, str) and (path := _path_kind(kind)):
        return change(path, value)
    return value


def _path_kind(kind: inspect.Type) -> str | None:
    if isinstance(kind, inspect.Metadata) and kind.extra and "path" in kind.extra:
        return str(kind.extra["path"])
    return next(filter(None, map(_path_kind, getattr(kind, "types", ()))), None)
