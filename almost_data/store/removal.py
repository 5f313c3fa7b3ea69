"""Deletes an artifact: its folder, and nothing else. The journal keeps the replies that it was made of."""

from contextlib import suppress

from ..errors import InputError
from .store import Store


def children(store: Store, ref: str) -> list[str]:
    """The artifacts that were made from it."""
    manifests = []
    for present in store.refs():
        with suppress(InputError):  # a damaged one cannot say
            manifests.append(store.manifest(present))
    return [child.ref for child in manifests if ref in {parent.ref for parent in child.parents}]


def remove(store: Store, ref: str, *, with_children: bool = False) -> None:
    """Delete an artifact. Raises InputError where others were made from it, unless that is accepted.

    The others stay. It is gone at once: a process that is killed leaves no half of it in its place.
    """
    if not store.has(ref):
        store.manifest(ref)  # says what is in the store
    if (refs := children(store, ref)) and not with_children:
        raise InputError(
            f"{ref}: {', '.join(refs)} stands on it: delete that first, or set rm.force, which leaves it "
            "without its texts and lineage"
        )
    with store.lock(ref):
        store.discard(ref)
