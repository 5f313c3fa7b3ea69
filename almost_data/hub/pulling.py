"""An artifact from the Hub into a store: fetched beside its place, verified there, and only then moved in.

Only files that an artifact has are fetched, by name and within bounds of size: Parquet, JSON, safetensors,
figures and the card. None of them is code, and nothing in them is run.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets.manifest import Manifest, decode_manifest
from ..errors import InputError
from ..models.files import is_loaded
from ..store.names import check_model_ref, parse_ref
from ..store.store import Store
from ..store.verify import RECORD, ROWS
from ..store.verify import verify as verify_artifact
from . import client
from .client import Remote
from .places import Place, remember

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Progress = Callable[[int, int], None]
"""Called with the bytes that are fetched, and those of all files."""

MOST_FILES = 20_000
MOST_BYTES = {
    ".parquet": 50_000_000_000,
    ".safetensors": 50_000_000_000,
    ".png": 50_000_000,
    ".md": 10_000_000,
}
"""Of one file; others, such as JSON, have MOST_OTHER."""
MOST_OTHER = 500_000_000

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


class NotOurs(InputError):
    """A repository whose manifest.json is not there, or not one that a push wrote."""


WEEK = 7 * 86_400.0
"""Seconds for which an interrupted pull may be gone on with, whatever else is pulled."""


@dataclass(frozen=True)
class Pulled:
    """What was pulled, and where it came from."""

    ref: str
    place: Place
    action: str
    """`fetched`, or `there` already."""
    bytes: int


def pull(
    store: Store,
    where: str,
    *,
    api: "HfApi | None" = None,
    progress: Progress = lambda done, total: None,
    wait: bool = False,
) -> Pulled:
    """Bring `ORG/NAME[@REVISION]` into the store under its own name and version.

    Its commit is recorded beside it (`places`). Interrupted, it goes on when it is run again; with `wait`,
    it waits for another process that fetches it too. Raises NotOurs where the repository holds no artifact,
    InputError where it holds one that does not agree with its manifest, or the store has another one of that
    name and version.
    """
    repo, revision = client.parse_place(where)
    remote, manifest = _find(api, repo, revision)
    place = Place(manifest.kind, repo, revision or "main", remote.commit, manifest.digest)
    _sweep(store, remote.commit, manifest.name)
    with store.lock(manifest.ref, wait):
        store.check_place(manifest.ref)
        if store.has(manifest.ref):
            _check_same(store, manifest, repo)
            remember(store, manifest.ref, place)
            return Pulled(manifest.ref, place, "there", 0)
        with _fetched(store, api, remote, manifest, progress) as found:
            if wrong := verify_artifact(found, manifest.ref):
                raise InputError(f"{where}: not taken, as it does not agree with its manifest: {wrong[0]}")
            size = sum(one.stat().st_size for one in found.path(manifest.ref).rglob("*") if one.is_file())
            store.adopt(manifest.ref, found.path(manifest.ref))
        remember(store, manifest.ref, place)
    return Pulled(manifest.ref, place, "fetched", size)


def verify(
    store: Store,
    where: str,
    *,
    api: "HfApi | None" = None,
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """Every disagreement in `ORG/NAME[@REVISION]`, as for one of the store; nothing of it is kept."""
    repo, revision = client.parse_place(where)
    remote, manifest = _find(api, repo, revision)
    _sweep(store, remote.commit, manifest.name)
    with store.lock(manifest.ref), _fetched(store, api, remote, manifest, progress) as found:
        return verify_artifact(found, manifest.ref)


def _find(api: "HfApi | None", repo: str, revision: str | None) -> tuple[Remote, Manifest]:
    """The repository, a dataset's or a model's, at one commit, and its manifest."""

    def attempt() -> tuple[Remote, Manifest]:
        hub = api or _hub()
        seen = [found for kind in client.KINDS if (found := client.look(hub, repo, kind, revision))]
        for remote in seen:
            content = client.read(hub, remote, "manifest.json", client.MOST_MANIFEST)
            try:
                if content:
                    return remote, _checked(decode_manifest(content, f"{repo}: manifest.json"), remote)
            except InputError as error:
                if _looks_ours(content):
                    raise  # damaged, which must not pass for a dataset of somebody else's
                raise NotOurs(str(error)) from None
        if seen:
            raise NotOurs(f"{repo}: no manifest.json there, so almost_data did not push it; see `import`")
        raise InputError(f"{repo}: not on the Hub, or not to be seen with this login")

    return client.steadily(repo, attempt)


def _hub() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi()


def _checked(manifest: Manifest, remote: Remote) -> Manifest:
    """The manifest, if its name, version and kind are what they may be: they decide a folder."""
    parse_ref(manifest.ref)
    if manifest.kind != remote.kind:
        raise InputError(f"{remote.repo}: a {remote.kind} repository whose manifest says {manifest.kind}")
    if manifest.kind == "model":
        check_model_ref(manifest.ref)
    return manifest


def _check_same(store: Store, manifest: Manifest, repo: str) -> None:
    there = store.manifest(manifest.ref)
    if (there.digest, there.fingerprint) != (manifest.digest, manifest.fingerprint):
        raise InputError(
            f"{manifest.ref} is in the store with another content than in {repo}: move that one away, or "
            "pull into another --root"
        )


@contextmanager
def _fetched(
    store: Store, api: "HfApi | None", remote: Remote, manifest: Manifest, progress: Progress
) -> Iterator[Store]:
    """A store beside the real one that holds nothing but the artifact, as it is on the Hub.

    It is kept where fetching it was interrupted, so that the next run goes on with it; a pull of anything
    else deletes it (`_sweep`).
    """
    beside = store.root / ".staging" / f"hub-{remote.commit}"
    found = Store(beside)
    folder = found.path(manifest.ref)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(remote)
    total, done = sum(wanted.values()), 0
    if total > shutil.disk_usage(store.root).free:
        raise InputError(f"{remote.repo}: {total / 1e9:,.1f} GB, and {store.root} has no room for that")
    for path, size in wanted.items():
        progress(done, total)
        client.steadily(remote.repo, lambda path=path: _fetch(api, remote, path, folder))  # type: ignore[misc]
        done += size
    progress(done, total)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes on what it fetched
    try:
        yield found
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _looks_ours(content: bytes | None) -> bool:
    """Whether a manifest that cannot be read was meant as one of ours."""
    return all(f'"{key}"'.encode() in (content or b"") for key in ("fingerprint", "digest"))


def _sweep(store: Store, commit: str, name: str) -> None:
    """Delete what interrupted pulls of other commits left behind, where no process has it in use.

    What is of another `name` may yet be gone on with, so it goes after a week only.
    """
    for beside in store.root.glob(".staging/hub-*"):
        places = [one for one in beside.glob("*/*") if one.is_dir()]
        refs = [f"{one.parent.name}@{one.name}" for one in places]
        try:
            is_old = time.time() - beside.stat().st_mtime > WEEK
        except OSError:  # another process has swept it
            continue
        if beside.name == f"hub-{commit}" or not (is_old or any(one.parent.name == name for one in places)):
            continue
        try:
            with ExitStack() as held:
                for ref in refs:
                    held.enter_context(store.lock(ref))
                shutil.rmtree(beside, ignore_errors=True)
        except InputError:  # its process lives
            continue


def _fetch(api: "HfApi | None", remote: Remote, path: str, folder: Path) -> None:
    file = client.download(api or _hub(), remote, path, folder)
    if file.is_symlink() or file.stat().st_size != remote.files[path].size:
        file.unlink()
        raise client.HubError(f"{remote.repo}: {path} came with another size: run the same command again")


def _wanted(remote: Remote) -> dict[str, int]:
    """The files of an artifact, name and size; others stay where they are. Raises InputError for bad ones."""
    for path in remote.files:
        if "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise InputError(f"{remote.repo}: {path!r} is no name for a file, so nothing of it is taken")
    wanted = {path: one.size for path, one in remote.files.items() if _is_wanted(path, remote.kind)}
    if len(wanted) > MOST_FILES:
        raise InputError(
            f"{remote.repo}: {len(wanted):,} files, and {MOST_FILES:,} is the most that is taken"
        )
    for path, size in wanted.items():
        most = MOST_BYTES.get(Path(path).suffix, MOST_OTHER)
        if size > most:
            raise InputError(f"{remote.repo}: {path} is larger than {most / 1e6:,.0f} MB: not taken")
    return dict(sorted(wanted.items(), key=lambda one: (one[0] == "manifest.json", one[0])))


def _is_wanted(path: str, kind: str) -> bool:
    if RECORD.fullmatch(path):
        return True
    if kind == "dataset":
        return bool(ROWS.fullmatch(path))
    return bool(_PLAIN.fullmatch(path)) and is_loaded(path)
