"""Whether manifest, ledger, card and files of an artifact agree, and what that does not prove.

All of them may be damaged or hostile: nothing is opened that is not a regular file.
"""

import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..cards import front_matter
from ..datasets.changes import changes
from ..datasets.ledger import check_ledger
from ..datasets.manifest import Manifest, fingerprint, seal
from ..errors import Defect, InputError
from ..models.files import files_digest, is_loaded
from .files import CARD, file_problem, kind_problem
from .store import Store, check_store
from .verify_rows import check_rows

_RECORD = re.compile(r"README\.md|manifest\.json|plots/[\w-]+\.png")
_MODEL_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_ROWS = re.compile(r"data/[A-Za-z0-9][A-Za-z0-9._-]*/(train|test)-\d{5}-of-\d{5}\.parquet")
Render = Callable[[Manifest, list[str], str], str]
"""Manifest of a model, paths of the figures, present card -> the card as it must read."""


def belongs(path: str, kind: str) -> bool:
    """Whether an artifact of this kind can have a file of that path."""
    if kind == "model" and _MODEL_FILE.fullmatch(path) and is_loaded(path):
        return True
    return bool(_RECORD.fullmatch(path) or (kind != "model" and _ROWS.fullmatch(path)))


def verify(store: Store, ref: str, render: Render | None = None) -> list[str]:
    """Every disagreement between manifest, card and files, one sentence each; empty if all agree.

    `render` makes a card that was renewed since it was published, as a model's is by evaluations. Raises
    InputError where there is no such artifact, or its manifest cannot be read.
    """
    check_store(store)
    manifest = store.manifest(ref)
    problems = []
    if fingerprint(manifest.builder, manifest.config, manifest.parents) != manifest.fingerprint:
        problems.append("fingerprint: not that of the builder, config and parents in the manifest")
    try:
        check_ledger(manifest.ledger)
    except ValueError as error:
        problems.append(str(error))
    files = dict(_entries(store.path(ref)))
    unreadable = {path: problem for path, problem in files.items() if problem}
    readable = files.keys() - unreadable
    problems += [f"{path}: {problem}" for path, problem in unreadable.items()]
    problems += _names(manifest, readable)
    problems += _bytes(store, manifest, readable)
    if manifest.kind == "model":
        problems += _model(store, manifest, readable)
    else:
        problems += check_rows(store, manifest, _unreadable_configs(manifest, unreadable))
    if CARD not in unreadable:
        problems += _card(store, manifest, render)
    if seal(manifest) != manifest.sha256:
        problems.append("manifest.json: edited since it was published: its sha256 is not that of its content")
    return problems + _relatives(store, manifest)


def unproven(store: Store, ref: str, place: str | None = None) -> list[str]:
    """What `verify` cannot prove of an artifact in which it finds no problem, one sentence each.

    `place` is `ORG/NAME@COMMIT` where a push or a pull recorded its digest.
    """
    manifest = store.manifest(ref)
    lines = []
    if not any(record.manifest == manifest.sha256 for _, record in store.children(ref)):
        if place:
            lines.append(
                f"that the manifest is the one at {place}, whose rows have the same digest: "
                f"`verify {place}` checks that one, and its sha256 should be {manifest.sha256}"
            )
        else:
            lines.append(
                "that nobody replaced the whole folder: no push, pull or dataset made from it recorded its "
                "manifest"
            )
    if absent := [parent.ref for parent in manifest.parents if not store.has(parent.ref)]:
        lines.append(f"that it was made from {', '.join(absent)}, not in this store: pull or build it")
    record, card = manifest.files.get(CARD), store.path(ref) / CARD
    if record and file_problem(card, record):
        lines.append("the text of README.md below its head, because a push or an evaluation renewed it")
    return lines


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file below a folder, by path, and why it cannot be read, if so. No link is followed."""
    for entry in sorted(folder.iterdir()):
        if stat.S_ISDIR(entry.lstat().st_mode):
            yield from ((f"{entry.name}/{path}", problem) for path, problem in _entries(entry))
        else:
            yield entry.name, kind_problem(entry)


def _unreadable_configs(manifest: Manifest, unreadable: Iterable[str]) -> set[str]:
    """The configs with a file that cannot be read: all of them where it is in no folder, as `data` may be."""
    if any("/" not in path for path in unreadable):
        return set(manifest.counts)
    return {path.split("/")[1] for path in unreadable}


def _names(manifest: Manifest, paths: set[str]) -> list[str]:
    """Files that do not belong in an artifact of this kind, and configs that the manifest does not have."""
    foreign = [path for path in sorted(paths) if not belongs(path, manifest.kind)]
    configs = {path.split("/")[1] for path in paths.difference(foreign) if _ROWS.fullmatch(path)}
    return [f"{path}: not part of an artifact" for path in foreign] + [
        f"data/{name}: not in the manifest" for name in sorted(configs - manifest.counts.keys())
    ]


def _bytes(store: Store, manifest: Manifest, paths: set[str]) -> list[str]:
    """The files against their size and hash in the manifest. A card may have been renewed (`_card`)."""
    folder, problems = store.path(manifest.ref), []
    for path, record in manifest.files.items():
        if path not in paths:
            problems.append(f"{path}: missing")
        elif path != CARD and (problem := file_problem(folder / path, record)):
            problems.append(f"{path}: {problem}")
    unknown = sorted(paths - manifest.files.keys() - {"manifest.json"})
    return problems + [f"{path}: not among the files of the manifest" for path in unknown]


def _model(store: Store, manifest: Manifest, paths: set[str]) -> list[str]:
    """A model's files against the digest."""
    folder = store.path(manifest.ref)
    weights = [path for path in paths if "/" not in path and is_loaded(path)]
    try:
        digest = files_digest({path: folder / path for path in weights})
    except OSError as error:
        return [f"a file of the model cannot be read: {error.strerror}"]
    return [] if digest == manifest.digest else ["digest: the model's files are not those of the manifest"]


def _card(store: Store, manifest: Manifest, render: Render | None) -> list[str]:
    """The card: as published, or as it is rendered now; of one from the Hub, which people edit, its head."""
    folder = store.path(manifest.ref)
    file, record = folder / CARD, manifest.files.get(CARD)
    if not file.is_file():
        return []
    try:
        text = file.read_text("utf-8")
        head = front_matter.front_matter(text)
    except (InputError, UnicodeDecodeError) as error:
        return [f"README.md: {error}"]
    expected = {} if manifest.kind == "model" else front_matter.viewer(manifest)
    differences = changes({key: head.get(key) for key in expected}, expected)
    problems = [f"README.md: {difference}" for difference in differences]
    for image in re.findall(r"!\[[^]]*\]\((plots/[^)]+)\)", text):
        if not (folder / image).is_file():
            problems.append(f"{image}: missing")
    if record is None or not file_problem(file, record) or front_matter.MARK in text:
        return problems
    figures = sorted(path for path in manifest.files if path.startswith("plots/"))
    # A model's card is renewed when it is evaluated: then only whoever renders it anew can tell.
    try:
        if manifest.kind != "model" or (render and render(manifest, figures, text) != text):
            problems.append("README.md: edited since it was published")
    except Defect as error:
        problems.append(f"README.md: {error}")
    return problems


def _relatives(store: Store, manifest: Manifest) -> list[str]:
    """The records of parents, and those that children have of this one."""
    problems = []
    for parent in manifest.parents:
        if not store.has(parent.ref):
            continue
        present = store.manifest(parent.ref)
        if present.digest != parent.digest:
            problems.append(f"parents: {parent.ref} here has another digest than the parent built from")
        elif parent.manifest not in (None, present.sha256):
            problems.append(f"parents: the manifest of {parent.ref} is not the one that this was built from")
    for child, record in store.children(manifest.ref):
        if record.digest == manifest.digest and record.manifest not in (None, manifest.sha256):
            problems.append(f"manifest.json: {child} was built from another manifest of this content")
    return problems
