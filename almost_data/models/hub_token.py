"""The Hub's token goes to the Hub alone.

`huggingface_hub` sends it to whatever host an answer leads to by `Link: <...>; rel="next"`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

Origin = tuple[str, str, int | None]
_PORTS = {"http": 80, "https": 443}


class _Guard:
    """A hook on the client of `huggingface_hub`, and on those that replace it after a lost connection."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.origins: list[Origin] = []
        """Of the Hubs that are asked now, once for each block that is entered."""
        self.clients: list[Any] = []
        self.make_client: Callable[[], Any] | None = None
        """The factory of `huggingface_hub`, in whose place ours is."""

    def enter(self, origin: Origin) -> None:
        from huggingface_hub import get_session
        from huggingface_hub.utils import _http

        with self.lock:
            self.origins.append(origin)
            if len(self.origins) == 1:
                self.make_client = make_client = _http._GLOBAL_CLIENT_FACTORY
                self._hook(get_session())
                _http._GLOBAL_CLIENT_FACTORY = lambda: self._hook(make_client())

    def leave(self, origin: Origin) -> None:
        from huggingface_hub.utils import _http

        with self.lock:
            self.origins.remove(origin)
            if not self.origins and self.make_client:
                _http._GLOBAL_CLIENT_FACTORY = self.make_client
                for client in self.clients:
                    hooks = client.event_hooks
                    hooks["request"] = [hook for hook in hooks["request"] if hook != self.withhold]
                    client.event_hooks = hooks
                self.clients.clear()

    def _hook(self, client: Any) -> Any:
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], self.withhold]}
        self.clients.append(client)
        return client

    def withhold(self, request: Any) -> None:
        """Take the token out of a request to another host."""
        if _origin(str(request.url)) not in self.origins:
            request.headers.pop("authorization", None)


_guard = _Guard()


@contextmanager
def token_kept(endpoint: str | None = None) -> Iterator[None]:
    """Let `huggingface_hub` send a token only to the Hub at `endpoint`, which HF_ENDPOINT names otherwise."""
    from huggingface_hub import constants

    origin = _origin(endpoint or constants.ENDPOINT)
    _guard.enter(origin)
    try:
        yield
    finally:
        _guard.leave(origin)


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)
