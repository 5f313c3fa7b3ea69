"""A read-only Hub on 127.0.0.1: what huggingface_hub and datasets ask to load a dataset, over real HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


@contextmanager
def serve(repo: str, files: dict[str, bytes], tag: str = "v1.0.0") -> Iterator[tuple[str, str]]:
    """Serve the files as the dataset `repo`; yields endpoint and commit, at which `tag` stands too."""
    commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            api = f"/api/datasets/{repo}"
            if path in (api, *(f"{api}/revision/{name}" for name in ("main", tag, commit))):
                self._json(
                    {
                        "id": repo,
                        "sha": commit,
                        "private": False,
                        "siblings": [{"rfilename": f} for f in files],
                    }
                )
            elif path.startswith(f"{api}/tree/{commit}"):
                folder = path.removeprefix(f"{api}/tree/{commit}").strip("/")
                self._json([e for e in self._entries() if e["path"].startswith(folder)])
            elif path.startswith(f"/datasets/{repo}/resolve/"):
                _, _, name = path.removeprefix(f"/datasets/{repo}/resolve/").partition("/")
                self._file(name)
            else:
                self._missing()

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            if self.path.endswith(f"/paths-info/{commit}"):
                self._json([e for e in self._entries() if e["path"] in body["paths"]])
            else:
                self._missing()

        def _entries(self) -> list[dict[str, object]]:
            folders = {"/".join(f.split("/")[:n]) for f in files for n in range(1, f.count("/") + 1)}
            entries: list[dict[str, object]] = [
                {"type": "directory", "path": f, "oid": "0" * 40} for f in folders
            ]
            return entries + [
                {"type": "file", "path": f, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                for f, b in files.items()
            ]

        def _file(self, name: str) -> None:
            if name not in files:
                return self._missing()
            body = files[name]
            start, end = 0, len(body) - 1
            if ranged := self.headers.get("Range"):
                first, _, last = ranged.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or end), end)
            headers = {
                "ETag": f'"{hashlib.sha1(body).hexdigest()}"',
                "X-Repo-Commit": commit,
                "Accept-Ranges": "bytes",
            }
            if ranged:
                headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            return self._send(206 if ranged else 200, body[start : end + 1], headers)

        def _missing(self) -> None:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

        def _json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", commit
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
