"""Settings and commands as manifests and cards may show them: no folder of a machine, and no secret."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

from .manifest import place_name


def portable(value: Any) -> Any:
    """The same settings with the paths of models, prompts and files cut to their last part."""
    if isinstance(value, dict):
        names = {k: place_name(v) for k, v in value.items() if k in PATH_FIELDS and isinstance(v, str)}
        names |= {k: Path(v).name for k, v in value.items() if k == "python" and isinstance(v, str)}
        lists = {k: [Path(one).name for one in v] for k, v in value.items() if k in PATH_LISTS}
        return {k: portable(v) for k, v in value.items()} | names | lists
    return [portable(v) for v in value] if isinstance(value, list) else value


PATH_FIELDS = ("asis_rm", "rm", "second_rm", "id", "model", "prompt", "seeds", "source")
PATH_LISTS = ("benchmarks",)


FILES = ("--benchmark", "--config", "--reviews")
PLACES = ("--asis-rm", "--rm", "--second-rm", "--source")
"""Flags that take a file, and that take a file, a folder or a Hub id."""
HIDDEN = ("--root", "--base-url", "--ray-address")
"""Flags that name places of the builder's own, and may hold a secret."""


def shown_command(arguments: list[str]) -> str:
    """The command line as a card may show it: paths cut to names, and without `HIDDEN`.

    >>> shown_command(["build", "queries", "--limit", "5", "--root", "somewhere", "--config=/a/b.toml"])
    'python -m almost_data build queries --limit 5 --config=b.toml'
    >>> shown_command(["build", "queries", "--base-url", "http://h/key", "--ray-address=h:1"])
    'python -m almost_data build queries'
    """
    shown, last = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        flag, given = (name, value) if equals and name.startswith("--") else (last, argument)
        last = "" if last in HIDDEN or equals else argument
        if flag in HIDDEN or argument in HIDDEN:
            continue
        if flag in FILES or (flag in PLACES and os.path.exists(given)) or place_name(given) != given:
            shown.append(argument.removesuffix(given) + Path(given).name)
            continue
        shown.append(
            re.sub(r"(?<![^=\s\"',\[])(?:~|\.{0,2})/[^\s\"',\]]*", lambda path: Path(path[0]).name, argument)
        )
    return shlex.join(["python", "-m", "almost_data", *shown])
