"""Pull an artifact from the Hub: fetched beside its place in the store, verified there, then moved in.

Only files that an artifact has are fetched, by name and within bounds of size: Parquet, JSON, safetensors,
figures and the card. None of them is code, and nothing in them is run.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..cards import card
from ..datasets.manifest import Manifest
from ..errors import InputError
from ..store.files import CARD
from ..store.names import check_model_ref, parse_ref
from ..store.places import Place, remember
from ..store.store import Store
from ..store.verify import belongs
from ..store.verify import verify as verify_artifact
from . import client
from .client import ByteProgress, NotOurs, Remote

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAX_FILES = 20_000
MAX_BYTES = {
    ".parquet": 50_000_000_000,
    ".safetensors": 50_000_000_000,
    ".png": 50_000_000,
    ".md": 10_000_000,
}
"""Limit of one file, by suffix; any other, such as JSON, has MAX_OTHER."""
MAX_OTHER = 500_000_000
WEEK = 7 * 86_400.0
"""Seconds for which an interrupted pull can be continued, whatever else is pulled."""


@dataclass(frozen=True)
class Pulled:
    """What was pulled, and where it came from."""

    ref: str
    place: Place
    action: Literal["fetched", "unchanged"]
    bytes: int


def pull(
    store: Store,
    source: str,
    *,
    api: "HfApi | None" = None,
    progress: ByteProgress = lambda done, total: None,
    wait: bool = False,
) -> Pulled:
    """Bring `ORG/NAME[@REVISION]` into the store under its own name and version.

    Its commit is recorded beside it (`places`). An interrupted pull continues when it is run again; with
    `wait`, it waits for another process that fetches the same. Raises NotOurs where the repository holds no
    artifact, InputError where it holds one that does not agree with its manifest, or the store has another
    one of that name and version.
    """
    repo, revision = client.parse_place(source)
    remote, manifest = _find(api, repo, revision)
    ref = manifest.ref
    place = Place(manifest.kind, repo, revision or "main", remote.commit, manifest.digest)
    _sweep(store, remote.commit, manifest.name)
    with store.lock(ref, wait):
        store.check_place(ref, manifest.kind)
        if store.has(ref):
            existing = store.manifest(ref)
            if (existing.digest, existing.fingerprint) != (manifest.digest, manifest.fingerprint):
                raise InputError(
                    f"{ref} is in the store with another content than in {repo}: move that one away, or "
                    "pull into another store (run.root)"
                )
            remember(store, ref, place)
            return Pulled(ref, place, "unchanged", 0)
        with _staged(store, remote, ref, progress) as staging:
            if problems := verify_artifact(staging, ref):
                raise InputError(f"{source}: not pulled: it does not agree with its manifest: {problems[0]}")
            readme = staging.path(ref) / CARD
            if readme.is_file():
                on_hub, in_folder = card.load_example(manifest, repo), card.load_example(manifest)
                readme.write_text(readme.read_text("utf-8").replace(on_hub, in_folder), "utf-8", newline="")
            size = sum(file.stat().st_size for file in staging.path(ref).rglob("*") if file.is_file())
            store.adopt(ref, staging.path(ref))
        remember(store, ref, place)
    return Pulled(ref, place, "fetched", size)


def verify(
    store: Store,
    source: str,
    *,
    api: "HfApi | None" = None,
    progress: ByteProgress = lambda done, total: None,
) -> list[str]:
    """Every disagreement in `ORG/NAME[@REVISION]`, as for an artifact of the store, which keeps nothing."""
    remote, manifest = _find(api, *client.parse_place(source))
    _sweep(store, remote.commit, manifest.name)
    with store.lock(manifest.ref), _staged(store, remote, manifest.ref, progress) as staging:
        return verify_artifact(staging, manifest.ref)


def _find(api: "HfApi | None", repo: str, revision: str | None) -> tuple[Remote, Manifest]:
    """The repository, a dataset's or a model's, at one commit, and its manifest."""
    from huggingface_hub import HfApi

    hub = api or HfApi()

    def attempt() -> tuple[Remote, Manifest]:
        remotes = [remote for kind in client.KINDS if (remote := client.find(hub, repo, kind, revision))]
        for remote in remotes:
            if manifest := remote.manifest():
                _check_identity(manifest, remote)
                return remote, manifest
        if remotes:
            raise NotOurs(f"{repo}: it has no manifest.json, so almost_data did not push it; see `import`")
        raise InputError(f"{repo}: not on the Hub, or not visible with this login")

    return client.with_retries(repo, attempt, hub.endpoint)


def _check_identity(manifest: Manifest, remote: Remote) -> None:
    """Raise InputError where name, version or kind are not valid: they decide a folder."""
    parse_ref(manifest.ref)
    if manifest.kind != remote.kind:
        raise InputError(f"{remote.repo}: a {remote.kind} repository whose manifest says {manifest.kind}")
    if manifest.kind == "model":
        check_model_ref(manifest.ref)


@contextmanager
def _staged(store: Store, remote: Remote, ref: str, progress: ByteProgress) -> Iterator[Store]:
    """Fetch the artifact into a staging store of its own, which is deleted at the end.

    An interrupted fetch leaves it, so that the next run continues; a later pull of something else deletes
    it (`_sweep`).
    """
    staging = Store(store.root / ".staging" / f"hub-{remote.commit}")
    folder = staging.path(ref)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _file_sizes(remote)
    total, done = sum(sizes.values()), 0
    if total > shutil.disk_usage(store.root).free:
        raise InputError(f"{remote.repo}: {total / 1e9:,.1f} GB, more than is free at {store.root}")
    for path, size in sizes.items():
        progress(done, total)
        client.with_retries(remote.repo, partial(_fetch, remote, path, folder), remote.api.endpoint)
        done += size
    progress(done, total)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes on what it fetched
    try:
        yield staging
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)


def _sweep(store: Store, commit: str, name: str) -> None:
    """Delete what interrupted pulls of other commits left behind, where no process has it in use.

    Artifacts of another `name` may still be continued, so they are deleted after a week only.
    """
    store.sweep()
    for folder in store.root.glob(".staging/hub-*/*/*"):
        staging = folder.parent.parent
        with suppress(InputError, OSError):  # a process is fetching it, or has deleted it
            is_old = time.time() - staging.stat().st_mtime > WEEK
            if staging.name != f"hub-{commit}" and (is_old or folder.parent.name == name):
                with store.lock(f"{folder.parent.name}@{folder.name}"):
                    shutil.rmtree(staging, ignore_errors=True)


def _fetch(remote: Remote, path: str, folder: Path) -> None:
    file = remote.download(path, folder)
    if file.is_symlink() or file.stat().st_size != remote.files[path].size:
        file.unlink()
        raise client.HubError(f"{remote.repo}: {path} has the wrong size: run the same command again")


def _file_sizes(remote: Remote) -> dict[str, int]:
    """The files of an artifact, name and size, the manifest last. Raises InputError for invalid ones."""
    for path in remote.files:
        if "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise InputError(f"{remote.repo}: {path!r} is not a valid file name: nothing was pulled")
    sizes = {path: file.size for path, file in remote.files.items() if belongs(path, remote.kind)}
    if len(sizes) > MAX_FILES:
        raise InputError(f"{remote.repo}: {len(sizes):,} files, over the limit of {MAX_FILES:,}: not pulled")
    for path, size in sizes.items():
        limit = MAX_BYTES.get(Path(path).suffix, MAX_OTHER)
        if size > limit:
            raise InputError(f"{remote.repo}: {path} is larger than {limit / 1e6:,.0f} MB: not pulled")
    return dict(sorted(sizes.items(), key=lambda item: (item[0] == "manifest.json", item[0])))
