"""Deletes artifacts: their folders, and nothing else. The journal keeps the replies in them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..datasets.manifest import Manifest
from ..errors import InputError
from .store import Store


@dataclass(frozen=True)
class Removal:
    """What the deletion of artifacts means."""

    refs: list[str]
    """What is deleted, in this order: children before their parents."""
    children: dict[str, list[str]]
    """A deleted artifact -> the artifacts that were made from it and stay; only where there are any."""
    bytes: int
    """Size on disk of what is deleted."""
    unchecked: list[str]
    """What is unknown because a manifest is damaged, a sentence each."""


def plan(store: Store, refs: Sequence[str]) -> Removal:
    """What it means to delete artifacts, damaged ones too. Raises InputError where one does not exist."""
    for ref in refs:
        if not store.has(ref):
            store.manifest(ref)  # raises the error that lists the existing ones
    parents, unchecked = dict[str, set[str]](), list[str]()
    for ref in store.refs():
        manifest_or_error = store.read(ref)
        if isinstance(manifest_or_error, Manifest):
            parents[ref] = {parent.ref for parent in manifest_or_error.parents}
        else:
            question = f"what {ref} is" if ref in refs else f"whether {ref} was made from what is deleted"
            unchecked.append(f"{question}: {manifest_or_error}")
    children = {ref: [child for child in parents if ref in parents[child]] for ref in refs}
    staying = {ref: [child for child in names if child not in refs] for ref, names in children.items()}
    paths = (path for ref in children for path in store.path(ref).rglob("*") if not path.is_dir())
    return Removal(
        refs=_children_first(children),
        children={ref: names for ref, names in staying.items() if names},
        bytes=sum(path.lstat().st_size for path in paths),
        unchecked=unchecked,
    )


def _children_first(children: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys, each after those of its children that are keys; a circle, which is damage, in any order."""
    ordered, remaining = list[str](), list(children)
    while remaining:
        childless = [ref for ref in remaining if not set(children[ref]) & set(remaining)]
        ordered += childless or remaining
        remaining = [ref for ref in remaining if ref not in ordered]
    return ordered


def remove(store: Store, refs: Sequence[str], *, force: bool = False) -> None:
    """Delete artifacts. Raises InputError where others were made from one; with `force` those stay."""
    with ExitStack() as locks:
        for ref in sorted(set(refs)):
            locks.enter_context(store.lock(ref))
        removal = plan(store, refs)  # under the locks: others may have deleted or built meanwhile
        for ref, names in removal.children.items() if not force else ():
            was, them, have = ("was", "that", "it has") if len(names) == 1 else ("were", "those", "they have")
            raise InputError(
                f"{ref}: {', '.join(names)} {was} made from it: delete {them} too, or set rm.force, "
                f"after which {have} no lineage, and no text that only {ref} stores"
            )
        for ref in removal.refs:  # children first: an interruption leaves none without its parent
            store.discard(ref)
