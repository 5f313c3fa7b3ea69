"""What `--from` names: artifacts of the store, and those on the Hub, which are pulled first."""

import sys
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from ..errors import InputError
from ..run.command import shown_command
from ..store.store import Store
from .hub import fetch


def local_sources(root: Path, refs: Iterable[str]) -> dict[str, str]:
    """What the user wrote -> `name@version` in the store: the newest of a name, or what was pulled."""
    store = Store(root)
    sources = {}
    for ref in refs:
        if "/" in ref and "@" not in ref:
            raise InputError(f"run.from {ref}: name a tag or a commit, such as {ref}@v1.0.0")
        sources[ref] = fetch(store, ref).ref if "/" in ref else store.resolve(ref)
    return sources


def recorded_command(sources: Mapping[str, str]) -> str:
    """This process's command as a card shows it: `--from NAME` with the version that it stood for."""
    versions = {ref: source for ref, source in sources.items() if "/" not in ref}
    arguments = []
    for flag, argument in pairwise(["", *sys.argv[1:]]):
        name = argument.removeprefix("--from=")
        is_source = flag == "--from" or name != argument
        prefix = argument.removesuffix(name)
        arguments.append(prefix + versions.get(name, name) if is_source else argument)
    return shown_command(arguments)
