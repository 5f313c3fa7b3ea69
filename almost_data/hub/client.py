"""Requests to the Hub, retried where that may help; errors are one line without a path or a token."""

import os
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from inspect import unwrap
from logging import ERROR, getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from ..datasets.manifest import Manifest, decode_manifest
from ..errors import InputError
from ..models.hub_token import token_kept
from ..store.names import NAME, VERSION

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

T = TypeVar("T")
log = getLogger(__name__)
ByteProgress = Callable[[int, int], None]
"""Called with the bytes transferred so far and in all."""

RETRY_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each retry of a request that failed for a temporary reason."""
TIMEOUT = 30.0
"""Seconds that the Hub may be silent."""
KINDS = ("dataset", "model")
MAX_MANIFEST = 8_000_000
"""Most bytes of a manifest; its objects can take twenty times as many."""

HTTP = ("httpx", "httpx2", "httpcore")
CLIENT = ("huggingface_hub", "hf_xet", *HTTP)
"""Packages whose errors mean that the Hub or the network failed."""

_HOST = re.compile(r"https?://(?:[^/\s@]*@)?([\w.:-]+)")
_XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
"""The status in a message of hf_xet, which raises a ConnectionError for any."""
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class HubError(RuntimeError):
    """The Hub failed; the message says how, and what to do."""


class NotOurs(InputError):
    """A repository that almost_data did not push: its manifest.json is missing or foreign."""


@dataclass(frozen=True)
class Remote:
    """A repository at one commit."""

    api: "HfApi"
    repo: str
    kind: str
    commit: str
    is_private: bool
    files: "dict[str, RepoFile]"

    def at(self, revision: str) -> "Remote | None":
        """The same repository at another commit; None where it has no such commit."""
        return find(self.api, self.repo, self.kind, revision)

    def tags(self) -> dict[str, str]:
        """Tag -> commit."""
        refs = self.api.list_repo_refs(self.repo, repo_type=self.kind)
        return {tag.name: tag.target_commit for tag in refs.tags}

    def download(self, path: str, folder: Path) -> Path:
        """Fetch a file to its path in the folder, unless it is there from the same commit."""
        return Path(
            self.api.hf_hub_download(
                self.repo, path, repo_type=self.kind, revision=self.commit, local_dir=str(folder)
            )
        )

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The content of a file, None where there is none. Raises InputError for a larger one."""
        if path not in self.files:
            return None
        if self.files[path].size > max_bytes:
            raise InputError(f"{self.repo}: {path} is larger than {max_bytes / 1e6:,.0f} MB: not read")
        with TemporaryDirectory() as folder:
            return self.download(path, Path(folder)).read_bytes()

    def manifest(self) -> Manifest | None:
        """The manifest, None where there is none. Raises NotOurs, or InputError for a damaged one of ours."""
        content = self.read("manifest.json", MAX_MANIFEST)
        try:
            return decode_manifest(content, f"{self.repo}: manifest.json") if content else None
        except InputError as error:
            # A damaged artifact must not be taken for a dataset of another kind.
            if content and all(key in content for key in (b'"fingerprint"', b'"digest"')):
                raise
            raise NotOurs(str(error)) from None


def check_repo(repo: str) -> str:
    """The repository's id, if it is valid. Raises InputError."""
    is_bad = not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith((".git", "-", "."))
    *folder, name, version = ("", *repo.rstrip("/").split("/"))
    if len(folder) > 1 and NAME.fullmatch(name) and VERSION.fullmatch(version):
        raise InputError(f"{repo!r} is a folder, and not ORG/NAME on the Hub: write {name}@{version}")
    if is_bad or len(repo) > 96:
        raise InputError(
            f"{repo!r} is not a valid repository name: write ORG/NAME, of letters, digits and single . _ -"
        )
    return repo


def parse_place(text: str) -> tuple[str, str | None]:
    """`ORG/NAME[@REVISION]` -> repository, and tag or commit if it names one. Raises InputError.

    >>> parse_place("ORG/queries@v1.0.0")
    ('ORG/queries', 'v1.0.0')
    """
    repo, at, revision = text.partition("@")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InputError(f"{text!r}: {revision!r} is not a tag, branch or commit")
    return check_repo(repo), revision or None


def find(api: "HfApi", repo: str, kind: str, revision: str | None = None) -> Remote | None:
    """A repository at a revision, or at the head of main; None where this login sees none."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(repo, repo_type=kind, revision=revision)
    except RepositoryNotFoundError:
        return None
    if not _COMMIT.fullmatch(str(info.sha)):
        raise HubError(f"{repo}: the Hub names no commit: run the same command again")
    tree = api.list_repo_tree(repo, recursive=True, revision=info.sha, repo_type=kind)
    files: dict[str, RepoFile] = {}
    for file in tree:
        if not isinstance(file, RepoFile):
            continue
        is_whole = type(file.path) is str and type(file.size) is int and file.size >= 0
        if not is_whole or file.path in files:
            raise HubError(f"{repo}: the Hub's list of files cannot be read: run the same command again")
        files[file.path] = file
    return Remote(api, repo, kind, str(info.sha), bool(info.private), files)


def is_public(api: "HfApi", repo: str, kind: str) -> bool:
    """Whether a repository is public; one that this login does not see may be private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not api.repo_info(repo, repo_type=kind).private
    except RepositoryNotFoundError:
        return False


def with_retries(repo: str, attempt: Callable[[], T], endpoint: str | None = None) -> T:
    """The result of `attempt`, retried while it fails for a temporary reason.

    The token goes to the Hub at `endpoint` alone. `attempt` must be safe to repeat: it reads the state of the
    Hub before it changes anything. Raises InputError where the user can fix it, HubError otherwise; neither
    quotes the Hub's messages. An error that comes neither from the Hub nor from the network is raised
    unchanged.
    """
    for wait in (*RETRY_WAITS, None):
        try:
            with token_kept(endpoint), _configured_client():
                return attempt()
        except (InputError, HubError):
            raise
        except Exception as error:  # the client, its HTTP library and hf_xet each raise their own kinds
            if not _is_from_hub(error):
                raise
            if _is_offline(error):
                raise InputError(f"{repo}: HF_HUB_OFFLINE forbids requests to the Hub: unset it") from None
            is_temporary = _is_temporary(error)
            if wait is None or not is_temporary:
                # The client's messages hold addresses: the cause is kept only where the Hub did not answer.
                raise hub_error(repo, error) from (None if http_status(error) or is_temporary else error)
            log.warning("%s: the Hub failed (%s): tried again in %g s", repo, _reason(error), wait)
        time.sleep(wait)
    raise AssertionError


def http_status(error: BaseException) -> int | None:
    """HTTP status of an error or of its causes; None where there was no answer."""
    for cause in _causes(error):
        code = getattr(getattr(cause, "response", None), "status_code", None)
        in_text = _XET_STATUS.search(str(cause)) if isinstance(cause, ConnectionError) else None
        if in_text or code is not None:
            return int(in_text[1] if in_text else str(code))
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_temporary(error: Exception) -> bool:
    code = http_status(error)
    if code is not None:
        return code in (408, 409, 412, 429) or code >= 500
    return any(
        _package(type(cause).__module__) in HTTP or isinstance(cause, ConnectionError | TimeoutError)
        for cause in _causes(error)
    )


def _is_offline(error: Exception) -> bool:
    """Whether the client was told to ask nobody: it raises a ConnectionError."""
    return any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in _causes(error))


def _is_from_hub(error: Exception) -> bool:
    """Whether the Hub, the client or the network failed: by the error's type, or by who raised it."""
    if _package(type(error).__module__) in CLIENT or isinstance(error, ConnectionError | TimeoutError):
        return True
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    packages = [_package(frame.f_globals.get("__name__", "")) for frame in frames]
    callers = [package for package in packages if package in (_package(__name__), *CLIENT)]
    return callers[-1] in CLIENT  # which raises errors of any type for answers that it cannot use


def _package(module: str) -> str:
    return module.partition(".")[0]


def hub_error(repo: str, error: Exception) -> Exception:
    """The one-line error to raise for an error of the client."""
    from huggingface_hub.errors import RevisionNotFoundError

    code = http_status(error)
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{repo}: no such revision on the Hub; versions have tags such as v1.0.0")
    if code == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        return InputError(f"{repo}: {_login_problem()}")
    if code == 403:
        return InputError(
            f"{repo}: this login may not do that: use a token that may write to {repo.partition('/')[0]} "
            "(hf auth whoami shows whose it is), or another ORG/NAME"
        )
    if code == 412:
        return HubError(f"{repo}: others keep committing to it, so nothing changed: run the command again")
    is_xet = _is_xet(error)
    if code == 404 and not is_xet:
        return InputError(f"{repo}: not on the Hub, or not visible with this login")
    host = _host(error)
    where = ("Xet storage" if is_xet else "the Hub") + (f" ({host})" if host else "")
    fixes = ["run the same command again"] if _is_temporary(error) or not is_xet else []
    fixes += ["set HF_HUB_DISABLE_XET=1 to go without Xet"] if is_xet else []
    if code is None and not is_xet and _is_temporary(error):
        fixes = ["check the network, and the address in HF_ENDPOINT if it is set", *fixes]
    return HubError(f"{repo}: the request to {where} failed ({_reason(error)}): {', or '.join(fixes)}")


def _login_problem() -> str:
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return (
            "the Hub refused the token in HF_TOKEN: set one with access, and to push with the right to write"
        )
    if get_token():
        return "the Hub refused the saved login: hf auth login again, to push with a token that may write"
    return "the Hub needs a login, to push one that may write: hf auth login, or set HF_TOKEN"


def _is_xet(error: Exception) -> bool:
    """Whether hf_xet failed: it has errors of no type of its own, so the caller's name tells it."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any("xet" in frame.f_code.co_name for frame in frames)


def _host(error: Exception) -> str | None:
    """Host and port that a request went to, as far as the error says."""
    for cause in _causes(error):
        with suppress(RuntimeError):  # an httpx error without its request
            url = getattr(getattr(cause, "request", None), "url", cause)
            if host := _HOST.search(str(url)):
                return host[1]
    return None


def _reason(error: Exception) -> str:
    """What failed, in a few words: the Hub's answer, the system's word for it, or the kind of the error."""
    if code := http_status(error):
        return f"answer {code}"
    systems = (cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror)
    return next(systems, type(error).__name__)


@contextmanager
def _configured_client() -> Iterator[None]:
    """Let the client print nothing, retry nothing and wait for nothing longer than `TIMEOUT`.

    Its log lines hold addresses, some of them signed, and its bars would break ours. It would wait without
    a word for as long as a server tells it to, and has no limit for most requests.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import logging
    from huggingface_hub.utils._http import http_backoff, http_stream_backoff
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from huggingface_hub.utils.tqdm import enable_progress_bars as enable

    verbosity, had_bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity(ERROR)
    disable_progress_bars()
    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "request": [*hooks["request"], _limit_time]}
    defaults = [unwrap(function).__kwdefaults__ for function in (http_backoff, http_stream_backoff)]
    retries = [values["max_retries"] for values in defaults]
    try:
        for values in defaults:
            values["max_retries"] = 0
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for values, most in zip(defaults, retries, strict=True):
            values["max_retries"] = most
        session.event_hooks = hooks
        logging.set_verbosity(verbosity)
        if had_bars:
            enable()


def _limit_time(request: Any) -> None:
    """Give a request the limits of time that it lacks."""
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        kind: limits.get(kind) or TIMEOUT for kind in ("connect", "read", "write", "pool")
    }
