"""What a word names: an artifact of the store, or a file, a folder or a Hub dataset.

One rule for all verbs that read both: the store comes first, then the disk, then the Hub. `./NAME` is always
a file or a folder.
"""

import os

from ..datasets.manifest import Manifest
from ..errors import InputError
from ..readers.files import TABLE_SUFFIXES, is_file, is_hub
from ..readers.layout import SIDES
from .names import NAME
from .store import Store, check_store


def stored_ref(store: Store, source: str) -> str | None:
    """The full reference of an artifact; None of a file, a folder or a Hub dataset, which may be missing.

    Raises InputError for a name that is nowhere.
    """
    check_store(store)
    name = source.partition("@")[0]
    if not NAME.fullmatch(name):
        return None
    refs = store.refs(name)
    if source in refs or (source == name and refs):
        return store.resolve(source)
    if is_file(source, TABLE_SUFFIXES) or is_hub(source, TABLE_SUFFIXES):
        return None
    try:
        return store.manifest(store.resolve(source)).ref
    except InputError as error:
        raise InputError(f"{error}; no file or folder has that name either") from None


def file_of(store: Store, source: str | os.PathLike[str]) -> str:
    """The name of a file, folder or Hub dataset to import. Raises InputError for an artifact of the store."""
    check_store(store)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"{type(source).__name__} is not a file: give the path of one to import")
    source = os.fspath(source)
    if not is_file(source, ()) and source in store.refs(source.partition("@")[0]):
        raise InputError(f"{source}: a dataset of the store: give a file, folder or Hub dataset to import")
    return source


def check_rows(manifest: Manifest) -> None:
    """Raise InputError for a dataset of which every row was dropped, with how to see those."""
    if manifest.is_empty:
        look = f"`sample {manifest.ref} --dropped any` shows them"
        raise InputError(f"{manifest.ref} is empty, as every row was dropped: {look}")


def check_sides(manifest: Manifest, config: str = "default") -> None:
    """Raise InputError for a dataset without chosen and rejected replies, with what holds or makes them."""

    def has_sides(config: str) -> bool:
        return set(SIDES) <= {*manifest.table(config).names}

    if manifest.kind == "dataset" and has_sides(config):
        return
    fix, kind = "give comparisons@VERSION", manifest.kind_phrase
    if configs := [
        name for name in manifest.tables if name not in manifest.dropped_configs and has_sides(name)
    ]:
        fix = f"its config {configs[0]!r} has them"
    elif manifest.name in ("queries", "responses"):
        kind += f" of {manifest.name}"
        fix = f"`build comparisons --from {manifest.ref}` makes comparisons of it"
    raise InputError(f"{manifest.ref} is {kind}, without chosen and rejected replies: {fix}")
