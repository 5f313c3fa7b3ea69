"""Push an artifact to the Hub: one commit for a version, read back and then tagged.

Every attempt looks at the repository first, so an attempt after a lost connection, a conflict or a kill
finds what the one before it did: uploaded files are not sent again, a commit is not made twice.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..datasets.manifest import Manifest
from ..errors import InputError
from ..store.names import version_key
from ..store.places import Place, remember
from ..store.store import Store
from . import client
from .artifact import HubArtifact, git_hash, is_ours, prepare
from .client import ByteProgress, HubError, Remote

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

BATCH_FILES, BATCH_BYTES = 50, 200_000_000
"""Files are uploaded in such batches before the commit; uploaded files are not sent again."""
MAX_CARD = 10_000_000
_RESULT = re.compile(rb"\| `([0-9a-f]{16})` \|$", re.MULTILINE)
"""The id of an evaluation's result, at the end of its line in a card."""


@dataclass(frozen=True)
class Pushed:
    """What a push did, or an earlier one had done."""

    ref: str
    repo: str
    kind: str
    tag: str
    commit: str
    action: Literal["committed", "tagged", "card", "unchanged"]
    """`tagged`: the commit already existed; `card`: only the card on main was renewed."""
    added: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    """Parents that a public card does not link, as they are private or do not exist."""


@dataclass(frozen=True)
class PushPlan:
    """What a push would do to an empty repository, worked out offline."""

    repo: str
    kind: str
    tag: str
    tree: dict[str, int]
    """Path -> bytes."""
    card: str


def plan(store: Store, ref: str, repo: str) -> PushPlan:
    """What `push` would do, without a request to the Hub. Raises InputError where it would refuse."""
    artifact = prepare(store, ref, client.check_repo(repo), "https://huggingface.co")
    card = artifact.card(None)
    tree = {path: file.stat().st_size for path, file in artifact.files.items()}
    tree |= {"README.md": len(card.encode())}
    return PushPlan(repo, artifact.manifest.kind, artifact.tag, dict(sorted(tree.items())), card)


def push(
    store: Store,
    ref: str,
    repo: str,
    *,
    private: bool = False,
    api: "HfApi | None" = None,
    progress: ByteProgress = lambda done, total: None,
) -> Pushed:
    """Publish an artifact as `ORG/NAME`, with tag `v<version>`; run again, it finds what was done.

    The repository is created where there is none. One commit changes main from the old version to the new
    one. Raises InputError for a damaged or fake artifact, a repository of something else, or a tag with
    other content; HubError where the Hub fails.
    """
    from huggingface_hub import HfApi

    hub = api or HfApi()
    artifact = prepare(store, ref, client.check_repo(repo), str(hub.endpoint))
    created: list[str] = []
    try:
        pushed = client.with_retries(
            repo, lambda: _attempt(hub, artifact, private, progress, created), hub.endpoint
        )
    except HubError as error:
        state = f"; {repo} was created for it, and may be empty until then" if created else ""
        raise HubError(f"{error}{state}") from error.__cause__
    manifest = artifact.manifest
    remember(store, ref, Place(manifest.kind, repo, artifact.tag, pushed.commit, manifest.digest))
    return pushed


# --- one attempt ---------------------------------------------------------------------------------------


def _attempt(
    api: "HfApi", artifact: HubArtifact, private: bool, progress: ByteProgress, created: list[str]
) -> Pushed:
    """Find what an earlier attempt did, and do the rest: repository (noted in `created`), commit, tag."""
    remote = _repository(api, artifact, private, created)
    pushed = partial(Pushed, artifact.manifest.ref, remote.repo, remote.kind, artifact.tag)
    if commit := remote.tags().get(artifact.tag):
        _check_tagged(remote, artifact, commit)
        is_renewed = remote.kind == "model" and _renew_card(remote, artifact)
        return pushed(commit, "card" if is_renewed else "unchanged")
    if earlier := _earlier_commit(remote, artifact):
        _tag(remote, artifact, earlier)
        return pushed(earlier, "tagged")
    old_card, card, hidden = _card(remote, artifact)
    added: dict[str, Path | bytes] = {"README.md": card} if card != old_card else {}
    for path, file in artifact.files.items():
        if not artifact.is_at(path, remote.files.get(path)):
            added[path] = file
    deleted = _stale_files(remote, artifact)
    if not (added or deleted):
        _tag(remote, artifact, remote.commit)
        return pushed(remote.commit, "tagged", hidden=hidden)
    commit = _commit(remote, _title(artifact.manifest), _record(artifact.manifest), added, deleted, progress)
    _check_complete(remote, artifact, commit, card)
    _tag(remote, artifact, commit)
    return pushed(commit, "committed", list(added), deleted, hidden)


def _repository(api: "HfApi", artifact: HubArtifact, private: bool, created: list[str]) -> Remote:
    """The repository at the head of main, created where there is none."""
    repo, kind = artifact.repo, artifact.manifest.kind
    remote = client.find(api, repo, kind)
    if remote is None:
        api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        created.append(repo)
        remote = client.find(api, repo, kind)
    if remote is None:
        raise InputError(f"{repo}: this login cannot create it, or cannot see it")
    if private and not remote.is_private:
        raise InputError(f"{repo} is public: set hub.private false, or choose another repository")
    return remote


def _tag(remote: Remote, artifact: HubArtifact, commit: str) -> None:
    message = _record(artifact.manifest)
    remote.api.create_tag(
        remote.repo, tag=artifact.tag, tag_message=message, revision=commit, repo_type=remote.kind
    )


def _renew_card(remote: Remote, artifact: HubArtifact) -> bool:
    """Commit a model's card alone, as after an evaluation; whether it had changed. The tag does not move.

    Nothing is done where main is at a later version, which the card describes then, nor where the card on
    the Hub has results that this store lacks, as after a push from another machine.
    """
    main = remote.manifest()
    manifest = artifact.manifest
    if main is None or (main.ref, main.digest) != (manifest.ref, manifest.digest):
        return False
    old_card, card, _ = _card(remote, artifact)
    lacks_results = set(_RESULT.findall(old_card or b"")) - set(_RESULT.findall(card))
    if card == old_card or lacks_results:
        return False
    _commit(remote, f"{manifest.ref}, its card", _record(manifest), {"README.md": card})
    return True


def _card(remote: Remote, artifact: HubArtifact) -> tuple[bytes | None, bytes, list[str]]:
    """The card on the Hub, the card to push, and the repositories that it does not link.

    A public card hides links that its readers could not open.
    """
    links = {} if remote.is_private else artifact.links
    hidden = [repo for repo, kind in links.items() if not client.is_public(remote.api, repo, kind)]
    content = remote.read("README.md", MAX_CARD)
    try:
        old_card = None if content is None else content.decode()
        return content, artifact.card(old_card, hidden).encode(), hidden
    except UnicodeDecodeError:
        raise InputError(f"{remote.repo}: its README.md is not UTF-8 text: correct it there") from None


def _commit(
    remote: Remote,
    title: str,
    description: str,
    added: dict[str, Path | bytes],
    deleted: Sequence[str] = (),
    progress: ByteProgress = lambda done, total: None,
) -> str:
    """Upload the files in batches, then change main by one commit, which fails if main moved meanwhile."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    adds = [CommitOperationAdd(path, content) for path, content in added.items()]
    total, done = sum(add.upload_info.size for add in adds), 0
    for batch in _batches(adds):
        progress(done, total)
        remote.api.preupload_lfs_files(remote.repo, batch, repo_type=remote.kind, free_memory=False)
        done += sum(add.upload_info.size for add in batch)
    progress(done, total)
    info = remote.api.create_commit(
        remote.repo,
        [*adds, *(CommitOperationDelete(path, is_folder=False) for path in deleted)],
        commit_message=title,
        commit_description=description,
        repo_type=remote.kind,
        parent_commit=remote.commit,
    )
    return str(info.oid)


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


def _stale_files(remote: Remote, artifact: HubArtifact) -> list[str]:
    """Files of an earlier version that this one does not have."""
    return sorted(path for path in remote.files if is_ours(path, remote.kind) and path not in artifact.files)


def _earlier_commit(remote: Remote, artifact: HubArtifact) -> str | None:
    """The commit of this version, where a later one was pushed before its tag; None where it can be pushed.

    Raises InputError where the repository holds something else, or a later version and not this one.
    """
    repo, manifest, main = remote.repo, artifact.manifest, remote.manifest()
    if main is None:
        if foreign := [path for path in remote.files if is_ours(path, remote.kind)]:
            raise InputError(
                f"{repo} has files that almost_data did not push ({foreign[0]}): choose another repository"
            )
        return None
    if main.name != manifest.name:
        raise _other_content(repo, main.name, manifest.name)
    if version_key(main.version) <= version_key(manifest.version):
        return None
    for commit in remote.api.list_repo_commits(repo, repo_type=remote.kind):
        if commit.title == _title(manifest):
            _check_complete(remote, artifact, str(commit.commit_id))
            return str(commit.commit_id)
    raise InputError(
        f"{repo} is at {main.version} already, and {manifest.version} is older: push a later version"
    )


def _other_content(repo: str, name: str, pushed_name: str) -> InputError:
    return InputError(f"{repo} holds {name}, not {pushed_name}: push to another repository")


def _check_tagged(remote: Remote, artifact: HubArtifact, commit: str) -> None:
    """Raise InputError where the tag's commit has other content: a version never changes."""
    tagged = remote.at(commit)
    manifest = tagged and tagged.manifest()
    if manifest and manifest.name != artifact.manifest.name:
        raise _other_content(remote.repo, manifest.name, artifact.manifest.name)
    if manifest is None or any(
        getattr(manifest, key) != getattr(artifact.manifest, key) for key in ("ref", "digest", "fingerprint")
    ):
        raise InputError(
            f"{remote.repo}: tag {artifact.tag} exists with other content, and a version never changes: "
            "build a new version"
        )


def _check_complete(remote: Remote, artifact: HubArtifact, commit: str, card: bytes | None = None) -> None:
    """Raise HubError where the commit does not hold exactly what was sent."""
    committed = remote.at(commit)
    files = committed.files if committed else {}
    wrong = [path for path in artifact.files if not artifact.is_at(path, files.get(path))]
    wrong += _stale_files(committed, artifact) if committed else []
    readme = files.get("README.md")
    if card is not None and (readme is None or readme.blob_id != git_hash(card)):
        wrong.append("README.md")
    if wrong:
        raise HubError(
            f"{remote.repo}: the Hub does not have what was committed ({', '.join(wrong[:3])}), so it was "
            "not tagged: run the same command again"
        )


def _title(manifest: Manifest) -> str:
    """The title of a version's commit, by which later pushes find it."""
    return f"{manifest.ref}, digest {manifest.digest[:12]}"


def _record(manifest: Manifest) -> str:
    """The message of commit and tag that tells the manifest that was pushed from an edited one."""
    return f"sha256 of its manifest: {manifest.sha256}"
