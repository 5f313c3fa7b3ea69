"""A small Hub on 127.0.0.1: what huggingface_hub and datasets ask of the real one, over real HTTP.

Repositories have a history: a commit is a map from paths to blobs that nobody changes any more, `main` and
tags name commits. Writing needs a token. `fault` makes any request fail in one of the ways of FAULTS.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

TOKEN = "hf_TestTokenThatMustNeverBePrinted"
"""Of the user `tester`, who may write to ORG and to `tester`."""
FAULTS = {
    "500": "an error of the server, before it did anything",
    "429": "too many requests",
    "412": "somebody committed first; for a commit only",
    "slow": "a second later",
    "cut": "the connection ends before the server read the request",
    "lost": "the server does what was asked, and the connection ends before it says so",
    "etag": "another file's hash in the header",
    "half": "half of the answer's body, then the connection ends",
}
ATTRIBUTES = (
    b"*.parquet filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
)
LARGE = (".parquet", ".safetensors", ".bin")


@dataclass(frozen=True)
class Blob:
    """The content of a file; a large one is known by its sha256, any other by git's hash."""

    content: bytes
    is_large: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """Git's hash; of a large one that of its pointer file."""
        data = self.content
        if self.is_large:
            head = "version https://git-lfs.github.com/spec/v1"
            data = f"{head}\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.oid


@dataclass(frozen=True)
class Commit:
    sha: str
    files: dict[str, Blob]
    parent: str | None
    title: str


@dataclass
class Repo:
    kind: str
    """`dataset` or `model`."""
    name: str
    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    """Of `main`, the last one its head."""
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, files: dict[str, Blob], title: str) -> Commit:
        parent = self.commits[-1].sha if self.commits else None
        content = [title, parent, len(self.commits), sorted((path, file.oid) for path, file in files.items())]
        self.commits.append(
            Commit(hashlib.sha1(repr(content).encode()).hexdigest(), dict(files), parent, title)
        )
        return self.commits[-1]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def find(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.head
        sha = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.sha == sha), None)


class Refused(Exception):
    """An answer that is an error: status, code and message as the Hub gives them in headers."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Hub:
    """The server's state; tests read and change it directly, as a person does on the web page."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        """Uploaded files by sha256, in a commit or not."""
        self.tokens = {TOKEN: ("tester", "ORG")}
        self.recorded: list[tuple[str, str]] = []
        """Method and path of each request."""
        self.received = 0
        """Bytes of uploaded large files."""
        self.fault: Callable[[int, str, str], str | None] = lambda number, method, path: None
        """Number of the request, method, path -> a fault of FAULTS, or None."""
        self.next_page = ""
        """Where a list of files goes on, by its `Link` header."""
        self.before_commit: Callable[[Repo], None] = lambda repo: None
        """What somebody else does just before a commit is taken."""
        self.chunks: Path | None = None
        """A folder of chunks: with one, clients that have hf_xet upload to it, in place of LFS."""
        self.lock = threading.RLock()
        self.endpoint, self.token = "", TOKEN

    def put(
        self, name: str, files: dict[str, bytes], kind: str = "dataset", delete: tuple[str, ...] = ()
    ) -> Commit:
        """A commit by a person: these files over what is there, and some deleted."""
        repo = self.repos.setdefault((kind, name), Repo(kind, name))
        existing = dict(repo.head.files) if repo.commits else {}
        new = {path: Blob(content, path.endswith(LARGE)) for path, content in files.items()}
        kept = {path: file for path, file in existing.items() if path not in delete}
        return repo.add(kept | new, "by hand")

    def files(self, name: str, revision: str = "main", kind: str = "dataset") -> dict[str, bytes]:
        commit = self.repos[kind, name].find(revision)
        assert commit, revision
        return {path: file.content for path, file in commit.files.items()}

    def tags(self, name: str) -> dict[str, str]:
        """Tag of a dataset -> commit."""
        return dict(self.repos["dataset", name].tags)

    def titles(self, name: str) -> list[str]:
        """Of a dataset's commits but the first, which the Hub made, oldest first."""
        return [commit.title for commit in self.repos["dataset", name].commits[1:]]

    # --- what is asked ---------------------------------------------------------------------------------

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Reply:
        path = unquote(urlparse(target).path)
        user = self._user(headers.get("Authorization", ""))
        for verb, pattern, serve in ROUTES:
            if method in verb.split("|") and (match := re.fullmatch(pattern, path)):
                part = match.groupdict()
                if "repo" in part:
                    kind = "dataset" if (part.pop("kind", None) or "").startswith("dataset") else "model"
                    repo = self.repos.get((kind, part["repo"]))
                    if repo is None or (repo.private and not user):
                        raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
                    if method not in ("GET", "HEAD") and "paths-info" not in path:
                        self._may_write(user, repo.name)
                    part["repo"] = repo
                query = parse_qs(urlparse(target).query)
                return serve(self, **part, user=user, headers=headers, body=body, query=query)
        raise Refused(404, "", f"no route: {method} {path}")

    def _user(self, authorization: str) -> tuple[str, ...]:
        token = authorization.removeprefix("Bearer ")
        if token and token not in self.tokens:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        return self.tokens.get(token, ())

    def _may_write(self, user: tuple[str, ...], name: str) -> None:
        if not user:
            raise Refused(401, "", "Invalid username or password.")
        if name.partition("/")[0] not in user:
            raise Refused(403, "", "You don't have the rights to write there")

    def whoami(self, user: tuple[str, ...], **_: Any) -> Reply:
        if not user:
            raise Refused(401, "", "Invalid username or password.")
        orgs = [{"name": name} for name in user[1:]]
        return _json(
            {"type": "user", "name": user[0], "orgs": orgs, "auth": {"accessToken": {"role": "write"}}}
        )

    def create(self, user: tuple[str, ...], body: bytes, **_: Any) -> Reply:
        values = json.loads(body)
        kind = values.get("type") or "model"
        name = f"{values.get('organization') or user[0]}/{values['name']}"
        self._may_write(user, name)
        url = f"{self.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.repos:
            return _json({"error": "You already created this repo", "url": url}, 409)
        private = values.get("visibility") == "private" or bool(values.get("private"))
        self.repos[kind, name] = repo = Repo(kind, name, private)
        repo.add({".gitattributes": Blob(ATTRIBUTES)}, "initial commit")
        return _json({"url": url, "name": name})

    def delete(self, user: tuple[str, ...], body: bytes, **_: Any) -> Reply:
        values = json.loads(body)
        name = f"{values.get('organization') or user[0]}/{values['name']}"
        self._may_write(user, name)
        if self.repos.pop((values.get("type") or "model", name), None) is None:
            raise Refused(404, "RepoNotFound", "Repository not found")
        return _json({})

    def settings(self, repo: Repo, body: bytes, **_: Any) -> Reply:
        values = json.loads(body)
        repo.private = values.get("visibility") == "private" or bool(values.get("private"))
        return _json({})

    def validate(self, **_: Any) -> Reply:
        return _json({"errors": [], "warnings": []})

    def info(self, repo: Repo, revision: str | None = None, **_: Any) -> Reply:
        commit = _commit(repo, revision)
        files = [{"rfilename": path} for path in sorted(commit.files)]
        values = {"id": repo.name, "sha": commit.sha, "private": repo.private, "siblings": files, "tags": []}
        return _json(values)

    def refs(self, repo: Repo, **_: Any) -> Reply:
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": sha} for n, sha in repo.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head.sha}
        return _json({"branches": [main], "tags": tags, "converts": []})

    def log(self, repo: Repo, **_: Any) -> Reply:
        values = [
            {
                "id": commit.sha,
                "title": commit.title,
                "message": "",
                "authors": [],
                "date": "2026-01-01T00:00:00.000Z",
            }
            for commit in reversed(repo.commits)
        ]
        return _json(values)

    def tree(
        self, repo: Repo, revision: str, query: dict[str, list[str]], folder: str = "", **_: Any
    ) -> Reply:
        commit = _commit(repo, revision)
        top = f"{folder}/" if folder else ""
        entries = [entry for entry in _entries(commit) if entry["path"].startswith(top)]
        if top and not entries:
            raise Refused(404, "EntryNotFound", "Entry not found")
        if query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(top)]
        reply = _json(entries)
        if self.next_page:
            reply.headers["Link"] = f'<{self.next_page}>; rel="next"'
        return reply

    def paths(self, repo: Repo, revision: str, headers: Any, body: bytes, **_: Any) -> Reply:
        is_json = "json" in headers.get("Content-Type", "")
        names = json.loads(body)["paths"] if is_json else parse_qs(body.decode()).get("paths", [])
        return _json([entry for entry in _entries(_commit(repo, revision)) if entry["path"] in names])

    def preupload(self, repo: Repo, revision: str, body: bytes, **_: Any) -> Reply:
        stored = _commit(repo, revision).files
        answers = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["path"].endswith(LARGE) or file["size"] > 10_000_000 else "regular"
            stored_file = stored.get(file["path"])
            oid = {"oid": stored_file.etag} if stored_file else {}
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
        return _json({"files": answers})

    def batch(self, repo: Repo, body: bytes, **_: Any) -> Reply:
        objects = []
        for large_file in json.loads(body)["objects"]:
            actions = {
                "upload": {"href": f"{self.endpoint}/lfs/{large_file['oid']}?signature=secret"},
                "verify": {"href": f"{self.endpoint}/lfs/verify"},
            }
            is_stored = large_file["oid"] in self.large
            objects.append(
                {
                    "oid": large_file["oid"],
                    "size": large_file["size"],
                    **({} if is_stored else {"actions": actions}),
                }
            )
        return _json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str, body: bytes, **_: Any) -> Reply:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, "", "the content has another hash")
        self.large[oid] = body
        self.received += len(body)
        return Reply()

    def verify(self, body: bytes, **_: Any) -> Reply:
        values = json.loads(body)
        if len(self.large.get(values["oid"], b"")) != values["size"]:
            raise Refused(404, "", "not uploaded")
        return _json({})

    def xet_token(self, repo: Repo, user: tuple[str, ...], **_: Any) -> Reply:
        if self.chunks is None:
            raise Refused(404, "", "no Xet storage here")
        self._may_write(user, repo.name)
        values = {
            "casUrl": f"local://{self.chunks}",
            "accessToken": "xet-token",
            "exp": int(time.time()) + 3600,
        }
        reply = _json(values)
        names = ("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration")
        reply.headers |= {name: str(value) for name, value in zip(names, values.values(), strict=True)}
        return reply

    def _join(self, oid: str) -> None:
        """Put a file together from its chunks, as the real client does, where they were uploaded."""
        import hf_xet

        if self.chunks is None or oid not in (sizes := _xet_files(self.chunks)):
            return
        with TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            group = hf_xet.XetSession().new_file_download_group(
                endpoint=f"local://{self.chunks}",
                token="xet-token",
                token_expiry_unix_secs=int(time.time()) + 3600,
            )
            with group as downloads:
                downloads.start_download_file(hf_xet.XetFileInfo(*sizes[oid]), str(target))
            content = target.read_bytes()
        if hashlib.sha256(content).hexdigest() == oid:
            self.large[oid] = content

    def commit(self, repo: Repo, revision: str, body: bytes, **_: Any) -> Reply:
        self.before_commit(repo)
        lines = [json.loads(line) for line in body.splitlines()]
        head, files = lines[0]["value"], dict(repo.head.files)
        if revision != "main":
            raise Refused(400, "", "only main is written to")
        if head.get("parentCommit") not in (None, repo.head.sha):
            raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.large:
                    self._join(value["oid"])
                if value["oid"] not in self.large:
                    raise Refused(400, "", "the file was not uploaded")
                files[value["path"]] = Blob(self.large[value["oid"]], is_large=True)
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            else:
                raise Refused(400, "", f"not known here: {line['key']}")
        commit = repo.add(files, head["summary"])
        url = (
            f"{self.endpoint}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.name}/commit/{commit.sha}"
        )
        return _json({"success": True, "commitOid": commit.sha, "commitUrl": url})

    def tag(self, repo: Repo, revision: str, body: bytes, **_: Any) -> Reply:
        name = json.loads(body)["tag"]
        commit = _commit(repo, revision)
        if name in repo.tags:
            raise Refused(409, "", "Tag reference exists already")
        repo.tags[name] = commit.sha
        return _json({})

    def resolve(self, repo: Repo, revision: str, path: str, headers: Any, **_: Any) -> Reply:
        commit = _commit(repo, revision)
        if path not in commit.files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        blob = commit.files[path]
        values = {
            "ETag": f'"{blob.oid}"',
            "X-Repo-Commit": commit.sha,
            "X-Linked-Size": str(len(blob.content)),
            "X-Linked-ETag": f'"{blob.etag}"',
            "Accept-Ranges": "bytes",
        }
        if not (ranged := headers.get("Range")):
            return Reply(blob.content, 200, values)
        first, _, last = ranged.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or 1 << 60), len(blob.content) - 1)
        values["Content-Range"] = f"bytes {start}-{end}/{len(blob.content)}"
        return Reply(blob.content[start : end + 1], 206, values)


_REPO = r"(?P<repo>[^/]+/[^/]+?)"
_API = rf"/api/(?P<kind>datasets|models)/{_REPO}"
_REV = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Reply]]] = [
    ("GET", r"/api/whoami-v2", Hub.whoami),
    ("POST", r"/api/repos/create", Hub.create),
    ("DELETE", r"/api/repos/delete", Hub.delete),
    ("PUT", rf"{_API}/settings", Hub.settings),
    ("POST", r"/api/validate-yaml", Hub.validate),
    ("GET", _API, Hub.info),
    ("GET", rf"{_API}/revision/{_REV}", Hub.info),
    ("GET", rf"{_API}/refs", Hub.refs),
    ("GET", rf"{_API}/commits/{_REV}", Hub.log),
    ("GET", rf"{_API}/tree/{_REV}", Hub.tree),
    ("GET", rf"{_API}/tree/{_REV}/(?P<folder>.+)", Hub.tree),
    ("POST", rf"{_API}/paths-info/{_REV}", Hub.paths),
    ("POST", rf"{_API}/preupload/{_REV}", Hub.preupload),
    ("POST", rf"{_API}/commit/{_REV}", Hub.commit),
    ("POST", rf"{_API}/tag/{_REV}", Hub.tag),
    ("GET", rf"{_API}/xet-(read|write)-token/{_REV}", Hub.xet_token),
    ("POST", rf"/(?P<kind>datasets/)?{_REPO}\.git/info/lfs/objects/batch", Hub.batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", Hub.upload),
    ("POST", r"/lfs/verify", Hub.verify),
    ("GET|HEAD", rf"/(?P<kind>datasets/)?{_REPO}/resolve/{_REV}/(?P<path>.+)", Hub.resolve),
]


def _commit(repo: Repo, revision: str | None) -> Commit:
    commit = repo.find(revision or "main")
    if commit is None:
        raise Refused(404, "RevisionNotFound", "Invalid rev id")
    return commit


def _entries(commit: Commit) -> list[dict[str, Any]]:
    folders = {"/".join(f.split("/")[:n]) for f in commit.files for n in range(1, f.count("/") + 1)}
    entries: list[dict[str, Any]] = [
        {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)
    ]
    for path, blob in sorted(commit.files.items()):
        size = len(blob.content)
        large = {"lfs": {"oid": blob.sha256, "size": size, "pointerSize": 134}} if blob.is_large else {}
        entries.append({"type": "file", "path": path, "size": size, "oid": blob.oid, **large})
    return entries


def _xet_files(chunks: Path) -> dict[str, tuple[str, int]]:
    """sha256 -> Xet's hash and size, of all files in a folder of chunks, read from its shards.

    A shard is a header, then for each file a record of 48 bytes (hash, flags, number of segments), its
    segments, as many records to verify them by (flag 31), and its sha256 (flag 30), 48 bytes each.
    """
    stored: dict[str, tuple[str, int]] = {}
    for shard in chunks.rglob("*.mdb"):
        data, at = shard.read_bytes(), 48
        while (mark := struct.unpack_from("<4QII", data, at))[0] != 2**64 - 1:
            *words, flags, segments = mark
            size = sum(struct.unpack_from("<I", data, at + 48 * n + 36)[0] for n in range(1, segments + 1))
            at += 48 * (1 + segments * (2 if flags >> 31 else 1))
            if flags >> 30 & 1:
                sha256 = "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, at))
                stored[sha256] = ("".join(f"{word:016x}" for word in words), size)
                at += 48
    return stored


def _json(value: object, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    hub: Hub

    def do_GET(self) -> None:
        hub = self.hub
        path = urlparse(self.path).path
        with hub.lock:
            hub.recorded.append((self.command, path))
            fault = hub.fault(len(hub.recorded), self.command, path)
        if fault == "412" and "/commit/" not in path:
            fault = None
        if fault == "cut":
            return self._hang_up()
        if fault == "slow":
            time.sleep(1)
        body = self._body()
        try:
            if fault in ("500", "429", "412"):
                raise Refused(int(fault), "", "as ordered")
            with hub.lock:
                reply = hub.answer(self.command, self.path, self.headers, body)
        except Refused as refused:
            reply = _json({"error": refused.message}, refused.status)
            reply.headers |= {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        if fault == "etag":
            reply.headers |= dict.fromkeys(("ETag", "X-Linked-ETag"), '"' + "0" * 64 + '"')
        if fault == "lost":
            return self._hang_up()
        self._send(reply, half=fault == "half")
        return None

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, reply: Reply, half: bool) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: len(reply.body) // 2] if half else reply.body)
        if half:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError):  # the client has gone away, or we have
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def run() -> Iterator[Hub]:
    """A Hub without repositories."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve(repo: str, files: dict[str, bytes], tag: str = "v1.0.0") -> Iterator[tuple[str, str]]:
    """A Hub with the files as the dataset `repo`; yields endpoint and commit, at which `tag` stands too."""
    with run() as hub:
        commit = hub.put(repo, files)
        hub.repos["dataset", repo].tags[tag] = commit.sha
        yield hub.endpoint, commit.sha


def main(chunks: str | None = None) -> None:
    """A Hub in a process of its own: prints its address, and runs until its input ends."""
    with run() as hub:
        hub.chunks = Path(chunks) if chunks else None
        print(hub.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
