"""Names of artifacts: `name@version`, and how versions are ordered."""

import os
import re

from .. import registry
from ..errors import InputError

# `hub` is the folder where a store records what is on the Hub.
NAME = re.compile(r"(?!hub\Z)[a-z][a-z0-9_-]{0,63}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}(-[0-9A-Za-z][0-9A-Za-z-]{0,31})?")


def check_version(version: str) -> str:
    """The version, if it is one: it becomes a folder name, so nothing else passes. Raises InputError."""
    if not VERSION.fullmatch(version):
        fix = "write N.N.N, with a -suffix if you like (1.0.0-beta)"
        if VERSION.fullmatch(version.removeprefix("v")):
            fix = f"write {version[1:]}, without the v"
        raise InputError(f"{version!r} is not a version: {fix}")
    return version


def parse_ref(ref: str) -> tuple[str, str]:
    """`name@version` -> (name, version). Raises InputError.

    >>> parse_ref("queries@0.1.0")
    ('queries', '0.1.0')
    """
    name, at, version = str(ref).partition("@")
    if not at or not NAME.fullmatch(name):
        fix = on_disk(str(ref)) or "write name@version, such as comparisons@0.1.0"
        raise InputError(f"{ref!r} is not a reference: {fix}")
    return name, check_version(version)


def on_disk(name: str) -> str:
    """What to do with a file or folder that was given for a reference; nothing where there is none."""
    if not os.path.exists(name):
        return ""
    *_, parent, folder = ("", *os.path.normpath(name).split(os.sep))
    if NAME.fullmatch(parent) and VERSION.fullmatch(folder):
        return f"write {parent}@{folder}"
    kind = "folder" if os.path.isdir(name) else "file"
    return (
        f"it is a {kind}: `import` makes a dataset of it, and `view {name}` shows it if it holds preferences"
    )


def is_ref(text: str) -> bool:
    """Whether a model's name is meant as `name@version` in a store; a Hub id has a slash.

    >>> is_ref("asis@0.1.0"), is_ref("ORG/NAME"), is_ref("./asis@0.1.0")
    (True, False, False)
    """
    return "@" in text and "/" not in text


def version_key(version: str) -> tuple[list[int], bool, str]:
    """Sorts versions by their numbers, and one with a suffix before the one without."""
    numbers, _, suffix = version.partition("-")
    return [int(number) for number in numbers.split(".")], not suffix, suffix


def check_model_ref(ref: str) -> None:
    """Raise InputError where `ref` cannot name a model: `responses@1.0.0` would pass for a dataset."""
    if parse_ref(ref)[0] in registry.names("builders"):
        raise InputError(f"{ref}: that name is for a dataset: give the model another, such as rm")
