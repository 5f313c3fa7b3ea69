"""An artifact of a store as it is to be on the Hub: its files, and its card as it will read there."""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards import markdown
from ..datasets.manifest import Manifest
from ..errors import InputError
from ..models.files import is_loaded
from ..store.names import HUB_ID, is_ref
from ..store.store import Store
from ..store.verify import RECORD
from ..store.verify import verify as verify_artifact
from . import merging
from .places import Place, place

if TYPE_CHECKING:
    from huggingface_hub import RepoFile

_ROWS = re.compile(r"data/[^/]+/(train|test)-[^/]*\.parquet")
"""All that the card's `configs` would find."""


@dataclass
class Artifact:
    """What is to be on the Hub, apart from what people wrote there."""

    manifest: Manifest
    files: dict[str, Path]
    """By path, all but the card."""
    parents: dict[str, Place]
    """Those that are on the Hub, by their name here."""
    card: Callable[[str | None, Collection[str]], str]
    """The card to push, from the one that is there and the repositories that it must not link."""
    _hashes: dict[tuple[str, bool], str] = field(default_factory=dict)

    @property
    def linked(self) -> dict[str, str]:
        """The repositories that its card would link, and what kind each is."""
        found: dict[str, str] = {one.repo: one.kind for one in self.parents.values()}
        base = str(self.manifest.config["base"]["id"]) if self.manifest.kind == "model" else ""
        return found | ({base: "model"} if HUB_ID.fullmatch(base) else {})

    @property
    def tag(self) -> str:
        return f"v{self.manifest.version}"

    def is_at(self, path: str, there: "RepoFile | None") -> bool:
        """Whether the file on the Hub is this one, by size and hash."""
        if there is None or there.size != self.files[path].stat().st_size:
            return False
        if there.lfs is not None:
            return self._hash(path, True) == there.lfs.sha256
        return self._hash(path, False) == there.blob_id

    def _hash(self, path: str, is_large: bool) -> str:
        if (path, is_large) not in self._hashes:
            file = self.files[path]
            if is_large:
                with file.open("rb") as handle:
                    found = hashlib.file_digest(handle, "sha256").hexdigest()
            else:
                found = git_hash(file.read_bytes())
            self._hashes[path, is_large] = found
        return self._hashes[path, is_large]


def prepare(store: Store, ref: str, repo: str, endpoint: str) -> Artifact:
    """What a push of `ref` is to bring about. Raises InputError for a damaged or a fake artifact."""
    manifest = store.manifest(ref)
    if manifest.kind == "evaluation":
        raise InputError(f"{ref} is an evaluation: it is published in the card of its model")
    if any(one.is_fake or _names_fake(one.config) for one in (manifest, *store.ancestors(manifest))):
        raise InputError(f"{ref}: the fake engine had a part in it, so it is never published")
    if wrong := verify_artifact(store, ref):
        more = f" (and {len(wrong) - 1} more, see `verify {ref}`)" if len(wrong) > 1 else ""
        raise InputError(f"{ref} is damaged, so it is not published: {wrong[0]}{more}")
    folder = store.path(ref)
    files = {one.relative_to(folder).as_posix(): one for one in sorted(folder.rglob("*")) if one.is_file()}
    ours = _named(files.pop("README.md").read_text("utf-8"), repo)
    parents = _parents(store, manifest)

    def card(theirs: str | None, hidden: Collection[str]) -> str:
        shown = {ref: one for ref, one in parents.items() if one.repo not in hidden}
        return merging.merge(ours, theirs, repo, *_links(manifest, shown, endpoint), hidden)

    return Artifact(manifest, files, parents, card)


def is_ours(path: str, kind: str) -> bool:
    """Whether a file of a repository is one that a push writes, apart from the card, which is shared."""
    if path == "README.md":
        return False
    if kind == "model" and "/" not in path and is_loaded(path):
        return True
    return bool(RECORD.fullmatch(path) or (kind == "dataset" and _ROWS.fullmatch(path)))


def _named(text: str, repo: str) -> str:
    """A card whose examples load from the repository, whatever they loaded from before."""
    text = re.sub(
        r'(load_dataset\(")[\w.-]+/[\w.-]+(", (?:"[\w.-]+", )?revision=)', rf"\g<1>{repo}\g<2>", text
    )
    heads = r'^(folder = "|chat = pipeline\("text-generation", model="|vllm serve )[\w./-]+'
    text = re.sub(heads, rf"\g<1>{repo}", text, flags=re.MULTILINE)
    return re.sub(r"  # (wherever it lies; )?after a push, ORG/NAME$", "", text, flags=re.MULTILINE)


def _names_fake(config: Any) -> bool:
    """Whether a model of the fake engine is named anywhere in a config."""
    if isinstance(config, dict):
        return str(config.get("id", "")).startswith("fake/") or any(map(_names_fake, config.values()))
    return isinstance(config, list) and any(map(_names_fake, config))


def _parents(store: Store, manifest: Manifest) -> dict[str, Place]:
    """Where its parents are on the Hub, as far as that is known here."""
    found: dict[str, Place] = {}
    for parent in manifest.parents:
        repo, _, revision = parent.ref.partition("@")
        if HUB_ID.fullmatch(parent.ref) and revision:
            found[parent.ref] = Place("dataset", repo, revision, revision, parent.digest)
        elif "/" not in repo and (there := place(store, parent.ref)) and there.digest == parent.digest:
            found[parent.ref] = there
    return found


def _links(manifest: Manifest, found: dict[str, Place], endpoint: str) -> tuple[dict[str, Any], str]:
    """Of parents on the Hub: YAML keys by which it links them, and a section of the card."""
    sets = list(dict.fromkeys(one.repo for one in found.values() if one.kind == "dataset"))
    if manifest.kind == "dataset":
        extra: dict[str, Any] = {"source_datasets": sets} if sets else {}
    else:
        base = manifest.config["base"]["id"]
        extra = {"datasets": sets} if sets else {}
        extra |= {"base_model": found[base].repo} if is_ref(base) and base in found else {}
    lines = [
        f"| {markdown.cell(ref)} | [{one.repo}]({endpoint}/{'datasets/' if one.kind == 'dataset' else ''}"
        f"{one.repo}/tree/{one.commit}) | {markdown.cell(one.revision)} | {markdown.cell(one.commit)} |"
        for ref, one in found.items()
    ]
    head = ["## Parents on the Hub\n", "| made from | repository | revision | commit |", "|---|---|---|---|"]
    return extra, "\n".join([*head, *lines]) if lines else ""


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
