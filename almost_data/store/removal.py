"""Deletes artifacts: their folders, and nothing else. The journal keeps the replies in them."""

from collections.abc import Sequence
from contextlib import ExitStack

from ..errors import InputError
from .store import Store


def children(store: Store, refs: Sequence[str]) -> dict[str, list[str]]:
    """The artifacts that were made from each of these, themselves aside; without those that have none."""
    by_parent = {ref: [child for child, _ in store.children(ref) if child not in refs] for ref in refs}
    return {ref: names for ref, names in by_parent.items() if names}


def remove(store: Store, refs: Sequence[str], *, force: bool = False) -> None:
    """Delete artifacts. Raises InputError where others were made from one; with `force` those stay."""
    manifests = [store.manifest(ref) for ref in refs]
    for ref, names in children(store, refs).items() if not force else ():
        verb, pronoun, has = ("was", "that", "it has") if len(names) == 1 else ("were", "those", "they have")
        raise InputError(
            f"{ref}: {', '.join(names)} {verb} made from it: delete {pronoun} too, or set rm.force, after "
            f"which {has} no lineage, and no text that only {ref} stores"
        )
    with ExitStack() as locks:
        for ref in refs:
            locks.enter_context(store.lock(ref))
        # Children first: an interruption leaves none without its parent.
        for manifest in sorted(manifests, key=lambda manifest: -len(store.ancestors(manifest))):
            store.discard(manifest.ref)
