"""What `--from` names: artifacts of the store, and those on the Hub, which are pulled first."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import InputError
from ..store.store import Store
from .hub import fetch


def local_sources(root: Path, refs: Iterable[str]) -> dict[str, str]:
    """What the user wrote -> `name@version` in the store: the highest of a name, or what was pulled."""
    store = Store(root)
    sources = {}
    for ref in refs:
        if "/" in ref and "@" not in ref:
            raise InputError(f"run.from {ref}: name a tag or a commit, such as {ref}@v1.0.0")
        sources[ref] = fetch(store, ref).ref if "/" in ref else store.resolve(ref)
    return sources


def hub_origins(sources: Mapping[str, str]) -> dict[str, str]:
    """Those of the sources that were named on the Hub, where others find them."""
    return {source: ref for ref, source in sources.items() if "/" in ref}
