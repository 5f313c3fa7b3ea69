"""An artifact in the form that it has on the Hub: its files, and its card as it reads there."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards import card, markdown, merging
from ..datasets.config import HUB_ID
from ..datasets.manifest import Manifest
from ..errors import InputError
from ..models.files import file_sha256
from ..store.names import is_ref
from ..store.places import Place, place
from ..store.store import Store
from ..store.verify import belongs, verify

if TYPE_CHECKING:
    from huggingface_hub import RepoFile

_ROWS = re.compile(r"data/[^/]+/(train|test)-[^/]*\.parquet")
"""Paths that the card's `configs` would match."""


@dataclass(frozen=True)
class HubArtifact:
    """What a push puts into a repository, apart from what people wrote there."""

    repo: str
    manifest: Manifest
    files: dict[str, Path]
    """By path, all but the card."""
    readme: str
    """The card in the store, with examples that load from the repository."""
    parents: dict[str, Place]
    """The parents that are on the Hub, by their reference in the store."""
    endpoint: str

    @property
    def links(self) -> dict[str, str]:
        """The repositories that its card would link, and the kind of each."""
        repos: dict[str, str] = {parent.repo: parent.kind for parent in self.parents.values()}
        base = str(self.manifest.config["base"]["id"]) if self.manifest.kind == "model" else ""
        return repos | ({base: "model"} if HUB_ID.fullmatch(base) else {})

    @property
    def tag(self) -> str:
        return f"v{self.manifest.version}"

    def card(self, remote_card: str | None, hidden: Collection[str] = ()) -> str:
        """The card to push, merged with the one on the Hub; it links none of the `hidden` repositories."""
        visible = {ref: parent for ref, parent in self.parents.items() if parent.repo not in hidden}
        keys, table = _parent_links(self.manifest, visible, self.endpoint)
        return merging.merge(self.readme, remote_card, self.repo, keys, table, hidden)

    def is_at(self, path: str, remote_file: "RepoFile | None") -> bool:
        """Whether a file on the Hub is the artifact's, by size and hash."""
        file = self.files[path]
        if remote_file is None or remote_file.size != file.stat().st_size:
            return False
        if remote_file.lfs is not None:
            return file_sha256(file) == remote_file.lfs.sha256
        return git_hash(file.read_bytes()) == remote_file.blob_id


def prepare(store: Store, ref: str, repo: str, endpoint: str) -> HubArtifact:
    """The artifact `ref` as a push writes it to `repo`. Raises InputError for a damaged or fake one."""
    manifest = store.manifest(ref)
    if manifest.kind == "evaluation":
        raise InputError(f"{ref} is an evaluation: it is published in the card of its model")
    if manifest.is_empty:
        raise InputError(f"{ref} is empty, as every row was dropped: there is nothing to publish")
    lineage = (manifest, *store.ancestors(manifest))
    if any(ancestor.is_fake or _names_fake_model(ancestor.config) for ancestor in lineage):
        raise InputError(f"{ref}: the fake engine wrote part of it, so it cannot be published")
    if problems := verify(store, ref):
        rest = f" (and {len(problems) - 1} more, see `verify {ref}`)" if len(problems) > 1 else ""
        raise InputError(f"{ref} is damaged, so it is not published: {problems[0]}{rest}")
    folder = store.path(ref)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    in_folder, on_hub = card.load_example(manifest), card.load_example(manifest, repo)
    readme = files.pop("README.md").read_text("utf-8").replace(in_folder, on_hub)
    return HubArtifact(repo, manifest, files, readme, _parents(store, manifest), endpoint)


def is_ours(path: str, kind: str) -> bool:
    """Whether a file of a repository is one that a push writes, apart from the card, which is shared."""
    is_read_as_rows = kind == "dataset" and _ROWS.fullmatch(path)
    return path != "README.md" and bool(is_read_as_rows or belongs(path, kind))


def git_hash(content: bytes) -> str:
    """The hash by which git names a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _names_fake_model(config: Any) -> bool:
    """Whether a config names a fake model at any depth."""
    if isinstance(config, dict):
        return str(config.get("id", "")).startswith("fake/") or any(map(_names_fake_model, config.values()))
    return isinstance(config, list) and any(map(_names_fake_model, config))


def _parents(store: Store, manifest: Manifest) -> dict[str, Place]:
    """The places of the parents on the Hub, as far as this store knows them."""
    places: dict[str, Place] = {}
    for parent in manifest.parents:
        repo, _, revision = parent.ref.partition("@")
        if HUB_ID.fullmatch(parent.ref) and revision:
            places[parent.ref] = Place("dataset", repo, revision, revision, parent.digest)
        elif "/" not in repo and (pushed := place(store, parent.ref, parent.digest)):
            places[parent.ref] = pushed
    return places


def _parent_links(manifest: Manifest, places: dict[str, Place], endpoint: str) -> tuple[dict[str, Any], str]:
    """The YAML keys that link parents on the Hub, and the card's section about them."""
    datasets = list(dict.fromkeys(parent.repo for parent in places.values() if parent.kind == "dataset"))
    keys: dict[str, Any] = {}
    if datasets:
        keys["source_datasets" if manifest.kind == "dataset" else "datasets"] = datasets
    if manifest.kind == "model":
        base = manifest.config["base"]["id"]
        keys |= {"base_model": places[base].repo} if is_ref(base) and base in places else {}
    lines = [
        f"| {markdown.cell(ref)} | [{at.repo}]({endpoint}/{'datasets/' if at.kind == 'dataset' else ''}"
        f"{at.repo}/tree/{at.commit}) | {markdown.cell(at.revision)} | {markdown.cell(at.commit)} |"
        for ref, at in places.items()
    ]
    head = ["## Parents on the Hub\n", "| made from | repository | revision | commit |", "|---|---|---|---|"]
    return keys, "\n".join([*head, *lines]) if lines else ""
