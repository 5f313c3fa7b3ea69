"""An artifact to the Hub: one commit for a version, read back and then tagged.

Before every attempt the repository is looked at anew, so an attempt after a lost connection, a conflict or a
kill finds what the one before it did: uploaded files are not sent again, a commit is not made twice.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..datasets.manifest import Manifest, decode_manifest
from ..errors import InputError
from ..store.names import version_key
from ..store.store import Store
from . import client
from .artifact import Artifact, git_hash, is_ours, prepare
from .client import Remote
from .places import Place, remember

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

Progress = Callable[[int, int], None]
"""Called with the bytes that are uploaded, and those of all that have to be."""

BATCH_FILES, BATCH_BYTES = 50, 200_000_000
"""Files are uploaded in such batches before the commit; what was uploaded is not sent again."""
_RESULT = re.compile(rb"\| `([0-9a-f]{16})` \|$", re.MULTILINE)
"""How a line of a card's evaluations ends."""
MOST_CARD = 10_000_000


@dataclass(frozen=True)
class Pushed:
    """What a push did, or found done."""

    ref: str
    repo: str
    kind: str
    tag: str
    commit: str
    action: str
    """`committed`, `tagged` what was committed before, `card` alone renewed on main, or `there` already."""
    added: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    """Parents that a public card does not link, as they are private or were not found."""


@dataclass(frozen=True)
class Plan:
    """What a push would do to a repository that is empty; found out without the Hub."""

    ref: str
    repo: str
    kind: str
    tag: str
    tree: dict[str, int]
    """Path -> bytes."""
    card: str


def plan(store: Store, ref: str, repo: str) -> Plan:
    """What `push` would do, without asking the Hub. Raises InputError where it would refuse."""
    one = prepare(store, ref, client.check_repo(repo), "https://huggingface.co")
    card = one.card(None, ())
    tree = {path: file.stat().st_size for path, file in one.files.items()} | {"README.md": len(card.encode())}
    return Plan(ref, repo, one.manifest.kind, one.tag, dict(sorted(tree.items())), card)


def push(
    store: Store,
    ref: str,
    repo: str,
    *,
    private: bool = False,
    api: "HfApi | None" = None,
    progress: Progress = lambda done, total: None,
) -> Pushed:
    """Publish an artifact as `ORG/NAME`, with tag `v<version>`; run again, it finds what was done.

    The repository is made where it is not there. Main changes by one commit, from the old version whole to
    the new one whole. Raises InputError for a damaged or fake artifact, a repository of something else, or
    a tag that has another content; HubError where the Hub does not do its part.
    """
    from huggingface_hub import HfApi

    hub = api or HfApi()
    one = prepare(store, ref, client.check_repo(repo), str(hub.endpoint))
    done = client.steadily(repo, lambda: _attempt(hub, one, repo, private, progress))
    made = one.manifest
    remember(store, ref, Place(made.kind, repo, one.tag, done.commit, made.digest))
    return done


# --- one attempt ---------------------------------------------------------------------------------------


def _attempt(api: "HfApi", one: Artifact, repo: str, private: bool, progress: Progress) -> Pushed:
    """Whatever is missing of: repository, commit, tag."""
    kind, ref = one.manifest.kind, one.manifest.ref
    remote = client.look(api, repo, kind)
    if remote is None:
        api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        remote = client.look(api, repo, kind)
    if remote is None:
        raise InputError(f"{repo}: cannot be made on the Hub, or not be seen with this login")
    if private and not remote.private:
        raise InputError(f"{repo} is public: leave --private away, or give another repository")
    if commit := client.tags(api, repo, kind).get(one.tag):
        _check_tagged(api, one, repo, commit)
        action = "card" if kind == "model" and _renew_card(api, one, remote) else "there"
        return Pushed(ref, repo, kind, one.tag, commit, action)
    if earlier := _check_place(api, one, remote):
        return _tagged(api, one, repo, earlier, "tagged")
    hidden = _hidden(api, one, remote)
    theirs = client.read(api, remote, "README.md", MOST_CARD)
    card = _merged(one, repo, theirs, hidden)
    added = [path for path in one.files if not one.is_at(path, remote.files.get(path))]
    added += ["README.md"] if card != theirs else []
    deleted = _stale(one, remote)
    if not (added or deleted):
        return _tagged(api, one, repo, remote.commit, "tagged", hidden=hidden)
    commit = _commit(api, one, remote, card, added, deleted, progress)
    _check_whole(api, one, repo, commit, card)
    return _tagged(api, one, repo, commit, "committed", added=added, deleted=deleted, hidden=hidden)


def _renew_card(api: "HfApi", one: Artifact, remote: Remote) -> bool:
    """Commit a model's card alone, as after an evaluation; whether it had changed. The tag stays where it is.

    Where main is at a later version, the card there is that one's, and nothing is done; nor where the card
    there has results that this store has not, as after a push from elsewhere.
    """
    content = client.read(api, remote, "manifest.json", client.MOST_MANIFEST)
    there = decode_manifest(content, f"{remote.repo}: manifest.json") if content else None
    made = one.manifest
    if there is None or (there.ref, there.digest) != (made.ref, made.digest):
        return False
    theirs = client.read(api, remote, "README.md", MOST_CARD)
    card = _merged(one, remote.repo, theirs, _hidden(api, one, remote))
    if not set(_RESULT.findall(theirs or b"")) <= set(_RESULT.findall(card)):
        return False
    if card != theirs:
        _commit(api, one, remote, card, ["README.md"], [], lambda done, total: None, f"{made.ref}, its card")
    return card != theirs


def _hidden(api: "HfApi", one: Artifact, remote: Remote) -> list[str]:
    """The repositories that a public card must not link, as not everybody sees them."""
    places: Mapping[str, str] = {} if remote.private else one.linked
    return [repo for repo, kind in places.items() if not client.is_public(api, repo, kind)]


def _merged(one: Artifact, repo: str, theirs: bytes | None, hidden: list[str]) -> bytes:
    try:
        return one.card(theirs.decode() if theirs is not None else None, hidden).encode()
    except UnicodeDecodeError:
        raise InputError(f"{repo}: its README.md is no UTF-8 text: mend it there") from None


def _commit(
    api: "HfApi",
    one: Artifact,
    remote: Remote,
    card: bytes,
    added: list[str],
    deleted: list[str],
    progress: Progress,
    title: str | None = None,
) -> str:
    """Upload the files in batches, then change main by one commit. It fails where main was moved."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repo, kind = remote.repo, remote.kind
    adds = [CommitOperationAdd(path, one.files.get(path, card)) for path in added]
    total, done = sum(add.upload_info.size for add in adds), 0
    for batch in _batches(adds):
        progress(done, total)
        api.preupload_lfs_files(repo, batch, repo_type=kind, free_memory=False)
        done += sum(add.upload_info.size for add in batch)
    progress(done, total)
    made = api.create_commit(
        repo,
        [*adds, *(CommitOperationDelete(path, is_folder=False) for path in deleted)],
        commit_message=title or _message(one.manifest),
        repo_type=kind,
        parent_commit=remote.commit,
    )
    return str(made.oid)


def _batches(adds: "list[CommitOperationAdd]") -> "Iterator[list[CommitOperationAdd]]":
    batch: list[CommitOperationAdd] = []
    size = 0
    for add in adds:
        if batch and (len(batch) == BATCH_FILES or size + add.upload_info.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(add)
        size += add.upload_info.size
    yield batch


def _stale(one: Artifact, remote: Remote) -> list[str]:
    """Files of the version before that this one does not have."""
    return sorted(path for path in remote.files if is_ours(path, remote.kind) and path not in one.files)


def _check_place(api: "HfApi", one: Artifact, remote: Remote) -> str | None:
    """The commit of this version, where a later one came before its tag; None where it can be pushed.

    Raises InputError where the repository holds something else, or a later version and not this one.
    """
    repo, made = remote.repo, one.manifest
    content = client.read(api, remote, "manifest.json", client.MOST_MANIFEST)
    if content is None:
        if foreign := [path for path in remote.files if is_ours(path, remote.kind)]:
            raise InputError(
                f"{repo} has files that almost_data did not push ({foreign[0]}): give another repository"
            )
        return None
    there = decode_manifest(content, f"{repo}: manifest.json")
    if there.name != made.name:
        raise InputError(f"{repo} holds {there.name}, and this is {made.name}: give another repository")
    if version_key(there.version) <= version_key(made.version):
        return None
    for commit in api.list_repo_commits(repo, repo_type=remote.kind):
        if commit.title == _message(made):
            _check_whole(api, one, repo, commit.commit_id)
            return str(commit.commit_id)
    raise InputError(
        f"{repo} is at {there.version} already, and {made.version} would take it back: push a later version"
    )


def _check_tagged(api: "HfApi", one: Artifact, repo: str, commit: str) -> None:
    """Raise InputError where the tag's commit has another content: a version never changes."""
    there = client.look(api, repo, one.manifest.kind, commit)
    content = there and client.read(api, there, "manifest.json", client.MOST_MANIFEST)
    if content:
        found = decode_manifest(content, f"{repo}@{one.tag}: manifest.json")
        same = (found.digest, found.fingerprint) == (one.manifest.digest, one.manifest.fingerprint)
        if same and found.ref == one.manifest.ref:
            return
    raise InputError(
        f"{repo}: {one.tag} is there with another content, and a version never changes: build a new version"
    )


def _check_whole(api: "HfApi", one: Artifact, repo: str, commit: str, card: bytes | None = None) -> None:
    """Raise HubError where the commit does not hold exactly what was sent."""
    there = client.look(api, repo, one.manifest.kind, commit)
    files = there.files if there else {}
    wrong = [path for path in one.files if not one.is_at(path, files.get(path))]
    wrong += _stale(one, there) if there else []
    shown = files.get("README.md")
    if card is not None and (shown is None or shown.blob_id != git_hash(card)):
        wrong.append("README.md")
    if wrong:
        raise client.HubError(
            f"{repo}: the Hub does not have what was committed ({', '.join(wrong[:3])}), so it was "
            "not tagged: run the same command again"
        )


def _tagged(api: "HfApi", one: Artifact, repo: str, commit: str, action: str, **what: list[str]) -> Pushed:
    kind = one.manifest.kind
    api.create_tag(repo, tag=one.tag, revision=commit, repo_type=kind)
    return Pushed(one.manifest.ref, repo, kind, one.tag, commit, action, **what)


def _message(manifest: Manifest) -> str:
    """The commit's title, by which it is found again."""
    return f"{manifest.ref}, digest {manifest.digest[:12]}"
