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


def remove(store: Store, ref: str, *, force: bool = False) -> None:
    """Delete an artifact. Raises InputError where others were made from it; with `force` those stay."""
    if not store.has(ref):
        store.manifest(ref)  # says what is in the store
    if (refs := children(store, ref)) and not force:
        verb, pronoun, has = ("was", "that", "it has") if len(refs) == 1 else ("were", "those", "they have")
        raise InputError(
            f"{ref}: {', '.join(refs)} {verb} made from it: delete {pronoun} first, or set rm.force, after "
            f"which {has} no lineage, and no text that only {ref} stores"
        )
    with store.lock(ref):
        store.discard(ref)
