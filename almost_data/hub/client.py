"""What push and pull ask of the Hub, with errors that are one line and hold no address and no token."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from ..errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

T = TypeVar("T")
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each new try of what failed for a reason that may pass."""
KINDS = ("dataset", "model")
MOST_MANIFEST = 8_000_000
"""Bytes; as objects they can take twenty times as many."""

HTTP = ("httpx", "httpx2", "httpcore")
CLIENT = ("huggingface_hub", "hf_xet", *HTTP)
"""Packages whose errors are those of the Hub, or of the way to it."""

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class HubError(RuntimeError):
    """The Hub did not do its part; the message says what is known, and what to do."""


@dataclass(frozen=True)
class Remote:
    """A repository at one commit."""

    repo: str
    kind: str
    commit: str
    private: bool
    files: "dict[str, RepoFile]"


def check_repo(repo: str) -> str:
    """The repository's id, if it can be one. Raises InputError."""
    bad = not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith((".git", "-", "."))
    if bad or len(repo) > 96:
        raise InputError(f"{repo!r} is no repository: write ORG/NAME, of letters, digits and single . _ -")
    return repo


def parse_place(text: str) -> tuple[str, str | None]:
    """`ORG/NAME[@REVISION]` -> repository, and tag or commit if one is named. Raises InputError.

    >>> parse_place("ORG/queries@v1.0.0")
    ('ORG/queries', 'v1.0.0')
    """
    repo, at, revision = text.partition("@")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InputError(f"{text!r}: {revision!r} is no tag, branch or commit")
    return check_repo(repo), revision or None


def look(api: "HfApi", repo: str, kind: str, revision: str | None = None) -> Remote | None:
    """A repository at a revision, or at the head of main; None where there is none to be seen."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(repo, repo_type=kind, revision=revision)
    except RepositoryNotFoundError:
        return None
    tree = api.list_repo_tree(repo, recursive=True, revision=info.sha, repo_type=kind)
    files = {one.path: one for one in tree if isinstance(one, RepoFile)}
    return Remote(repo, kind, str(info.sha), bool(info.private), files)


def is_public(api: "HfApi", repo: str, kind: str) -> bool:
    """Whether anybody sees a repository; one that this login does not see may be private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not api.repo_info(repo, repo_type=kind).private
    except RepositoryNotFoundError:
        return False


def tags(api: "HfApi", repo: str, kind: str) -> dict[str, str]:
    """Tag -> commit."""
    return {one.name: one.target_commit for one in api.list_repo_refs(repo, repo_type=kind).tags}


def read(api: "HfApi", remote: Remote, path: str, most: int) -> bytes | None:
    """The content of a file, None where there is none. Raises InputError where it is over `most` bytes."""
    if path not in remote.files:
        return None
    if remote.files[path].size > most:
        raise InputError(f"{remote.repo}: {path} is larger than {most / 1e6:,.0f} MB, so it is not ours")
    with TemporaryDirectory() as folder:
        return download(api, remote, path, Path(folder)).read_bytes()


def download(api: "HfApi", remote: Remote, path: str, folder: Path) -> Path:
    """A file at its path in the folder; one that is there from the same commit is not fetched again."""
    return Path(
        api.hf_hub_download(
            remote.repo, path, repo_type=remote.kind, revision=remote.commit, local_dir=str(folder)
        )
    )


def steadily(repo: str, attempt: Callable[[], T]) -> T:
    """What `attempt` returns, tried anew while it fails for a reason that may pass.

    It must be safe to repeat: it looks at what is there before it does anything. Raises InputError where
    the user can mend it, HubError otherwise; neither quotes the Hub's own words. An error that is neither
    the Hub's nor the network's is raised as it is.
    """
    for wait in (*WAITS, None):
        try:
            with _quiet():
                return attempt()
        except (InputError, HubError):
            raise
        except Exception as error:  # the client, its HTTP library and hf_xet each raise kinds of their own
            if not _is_theirs(error):
                raise
            if wait is None or not _may_pass(error):
                # The client's messages hold addresses; of what is no answer of the Hub, the cause may help.
                raise _told(repo, error) from (None if status(error) or _may_pass(error) else error)
        time.sleep(wait)
    raise AssertionError


def status(error: BaseException) -> int | None:
    """HTTP status of an error or of what caused it, where there was an answer at all."""
    for one in _causes(error):
        code = getattr(getattr(one, "response", None), "status_code", None)
        if code is not None:
            return int(code)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _may_pass(error: Exception) -> bool:
    code = status(error)
    if code is not None:
        return code in (408, 409, 412, 429) or code >= 500
    return any(
        _top(type(one).__module__) in HTTP or isinstance(one, ConnectionError | TimeoutError)
        for one in _causes(error)
    )


def _is_theirs(error: Exception) -> bool:
    """Whether the Hub, the client or the network failed: by its kind, or by who raised it."""
    if _top(type(error).__module__) in CLIENT or isinstance(error, ConnectionError | TimeoutError):
        return True
    ours, last, trace = _top(__name__), "", error.__traceback__
    while trace:
        name = _top(trace.tb_frame.f_globals.get("__name__", ""))
        last = name if name in (ours, *CLIENT) else last
        trace = trace.tb_next
    # The client has plain errors for answers that it cannot use. A wrong type or a missing key is a bug.
    return last in CLIENT and isinstance(error, OSError | ValueError | RuntimeError)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _told(repo: str, error: Exception) -> Exception:
    from huggingface_hub.errors import RevisionNotFoundError

    code = status(error)
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{repo}: no such revision on the Hub; its page lists tags and commits")
    if code == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        return InputError(f"{repo}: the Hub wants a login that may write: hf auth login, or set HF_TOKEN")
    if code == 403:
        return InputError(f"{repo}: this login may not do that: ask for a token with write access to it")
    if code == 412:
        return HubError(
            f"{repo}: others keep committing to it, so nothing was changed: run the command again"
        )
    if code == 404:
        return InputError(f"{repo}: not on the Hub, or not to be seen with this login")
    what = f"answer {code}" if code else type(error).__name__
    return HubError(f"{repo}: the Hub did not do what was asked ({what}): run the same command again")


@contextmanager
def _quiet() -> Iterator[None]:
    """The client's log lines hold addresses, some of them signed, and its bars would break ours."""
    import logging as levels

    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled as are_disabled
    from huggingface_hub.utils.tqdm import disable_progress_bars as disable
    from huggingface_hub.utils.tqdm import enable_progress_bars as enable

    before, bars = logging.get_verbosity(), not are_disabled()
    logging.set_verbosity(levels.ERROR)
    disable()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            enable()
