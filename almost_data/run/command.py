"""A command line as manifests and cards may show it: no folder of a machine, and no secret."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..datasets.config import is_path

HIDDEN = ("--root", "--base-url", "--ray-address")
"""Flags that name places of the user's own, and may hold a secret."""
PLACES = ("engine.base_url=", "engine.servers=")
"""Assignments that do so."""
_PATH = re.compile(r"(?<![^=\s\"',\[])(?:~|\.{0,2})/[^\s\"',\]]*")


def shown_command(arguments: Sequence[str]) -> str:
    """The command with paths cut to names, and without `HIDDEN`.

    >>> shown_command(["build", "queries", "--limit", "5", "--root", "somewhere", "--config=/a/b.toml"])
    'python -m almost_data build queries --limit 5 --config=b.toml'
    >>> shown_command(["build", "queries", "--base-url", "http://h/key", "--ray-address=h:1"])
    'python -m almost_data build queries'
    >>> shown_command(["build", "queries", "--set", "engine.base_url=http://h/key", "--set=limit=5"])
    'python -m almost_data build queries --set=limit=5'
    """
    shown = []
    skip = False
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        assignment = following if argument == "--set" else argument.removeprefix("--set=")
        if assignment.startswith(PLACES):
            continue
        flag, equals, value = argument.partition("=")
        if skip or flag in HIDDEN:
            skip = not skip and not equals
            continue
        prefix, value = (f"{flag}=", value) if equals and flag.startswith("--") else ("", argument)
        if is_path(value) or os.path.exists(value):
            shown.append(prefix + Path(value).name)
        else:
            shown.append(_PATH.sub(lambda path: Path(path[0]).name, argument))
    return shlex.join(["python", "-m", "almost_data", *shown])
