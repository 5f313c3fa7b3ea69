"""Small files of the user's, such as settings, prompts and code: no pipe, no device, nothing huge."""

import math
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from .errors import InputError

MAX_BYTES = 50_000_000
MAX_DEPTH = 20
"""Most levels of settings in each other."""
_LONG_KEY = re.compile(r"(?:[\w\"'-]+[ \t]*\.[ \t]*){20}")


def is_utf8(name: str) -> bool:
    """Whether a name can be written as UTF-8: those of files and arguments need not be text."""
    return name.encode("utf-8", "ignore") == os.fsencode(name)


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises InputError where it is none, or cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a file: give one")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES / 1e6:,.0f} MB")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The text of a file. Raises InputError where it is none, or not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """TOML as data that a manifest can hold. Raises ValueError that says where it is not."""
    try:
        if _LONG_KEY.search(text):
            raise ValueError(f"a key of over {MAX_DEPTH} parts")
        data = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    check_data(data, [])
    return data


def check_data(value: Any, path: list[str]) -> None:
    """Raise ValueError for what is nested too deep, and for a number that JSON cannot hold."""
    if len(path) > MAX_DEPTH:
        raise ValueError(f"{'.'.join(path[:3])}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{'.'.join(path)}: an integer of more than 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{'.'.join(path)}: {value} is no number that can be compared: give a finite one")
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            check_data(item, [*path, str(key)])
