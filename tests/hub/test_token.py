"""The token goes to the Hub that it is for, and to no host that the Hub's answers lead to."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi, close_session, get_session

from almost_data import hub
from almost_data.models import Model, weights
from almost_data.models.hub_token import token_kept
from almost_data.readers.files import read_rows
from almost_data.store.store import Store
from tests.command import at_hub
from tests.hub.pushes import REPO, api, environment, push
from tests.hub_server import TOKEN, Hub

PAIR = b'{"prompt": "Why?", "chosen": "So.", "rejected": "No."}\n'


class OtherHost(ThreadingHTTPServer):
    """A host beside the Hub, which lists no further file and keeps the tokens that it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens: list[str | None] = []
        self.url = f"http://localhost:{self.server_address[1]}/page/2"


class _Handler(BaseHTTPRequestHandler):
    server: OtherHost

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    with OtherHost() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield server
        server.shutdown()


def test_a_pull_and_a_push_keep_the_token(
    store: Store, server: Hub, other_host: OtherHost, tmp_path: Path
) -> None:
    server.next_page = other_host.url
    push(store, server)
    hub.pull(Store(tmp_path / "other"), REPO, api=api(server))
    assert len(other_host.tokens) > 1 and set(other_host.tokens) == {None}


@pytest.mark.parametrize(
    "read",
    [lambda: weights.fetch(Model("ORG/model")), lambda: list(read_rows("ORG/pairs", (".jsonl",)))],
    ids=["a model", "rows"],
)
def test_reading_from_the_hub_keeps_the_token(
    server: Hub, other_host: OtherHost, tmp_path: Path, read: Callable[[], object]
) -> None:
    server.put("ORG/model", {"config.json": b"{}", "model.safetensors": b"weights"}, "model")
    server.put("ORG/pairs", {"pairs.jsonl": PAIR})
    server.next_page = other_host.url
    with at_hub(environment(server, tmp_path)):
        read()
    assert other_host.tokens and set(other_host.tokens) == {None}


def test_the_client_of_others_is_as_it_was(server: Hub, other_host: OtherHost) -> None:
    """Outside of the block; within it, a client that replaces a closed one keeps the token too."""
    server.put("ORG/model", {"config.json": b"{}"}, "model")
    server.next_page = other_host.url
    client = HfApi(endpoint=server.endpoint, token=TOKEN)
    hooks = get_session().event_hooks
    with token_kept(server.endpoint), token_kept(server.endpoint):
        list(client.list_repo_tree("ORG/model"))
        close_session()
        list(client.list_repo_tree("ORG/model"))
    assert other_host.tokens == [None, None]
    assert get_session().event_hooks == hooks
    list(client.list_repo_tree("ORG/model"))
    assert other_host.tokens[2:] == [f"Bearer {TOKEN}"], (
        "huggingface_hub itself sends it: drop our guard if not"
    )
