"""Whatever fails, and whoever commits meanwhile: the same command ends right."""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from almost_data import hub
from almost_data.errors import InputError
from almost_data.hub import client
from almost_data.store.store import Store
from tests import hub_server
from tests.hub.pushes import REPO, api, environment, is_whole, push, void
from tests.hub_server import Hub, Repo


def test_somebody_who_commits_first_keeps_what_they_wrote(store: Store, server: Hub) -> None:
    push(store, server)
    turns = iter(range(2))

    def meddle(repo: Repo) -> None:
        if (turn := next(turns, None)) is not None:
            text = server.files(REPO)["README.md"].decode()
            server.put(
                REPO, {"README.md": (text + f"\nBy hand, {turn}.\n").encode(), f"note{turn}.txt": b"x"}
            )

    server.before_commit = meddle
    push(store, server, "responses@1.1.0")
    files = server.files(REPO)
    assert is_whole(store, "responses@1.1.0", files) and {"note0.txt", "note1.txt"} <= files.keys()
    assert b"By hand, 0." in files["README.md"] and b"By hand, 1." in files["README.md"]
    assert sum("/commit/" in path for _, path in server.recorded) == 4


def test_a_client_that_may_ask_nobody_is_not_tried_again(
    store: Store, server: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids requests to the Hub: unset it"):
        hub.verify(store, REPO, api=api(server))
    assert not caplog.records


def test_a_conflict_without_end_is_one_line(store: Store, server: Hub) -> None:
    push(store, server)
    server.before_commit = lambda repo: void(server.put(REPO, {"x.txt": os.urandom(4)}))
    with pytest.raises(RuntimeError, match="others keep committing"):
        push(store, server, "responses@1.1.0")
    assert is_whole(store, "responses@1.0.0", server.files(REPO))


@pytest.mark.parametrize("fault", ["lost", "cut", "500"])
@pytest.mark.parametrize("at", ["/api/repos/create", "/commit/", "/tag/"])
def test_where_it_broke_the_same_command_ends_right(store: Store, server: Hub, fault: str, at: str) -> None:
    client.RETRY_WAITS = ()  # type: ignore[assignment]  # set back by the fixture
    broken = iter([fault])
    server.fault = lambda number, method, path: next(broken, None) if at in path else None
    with pytest.raises(RuntimeError, match="the same command again") as raised:
        push(store, server)
    assert "/api/" not in str(raised.value), "a path may be signed"
    assert ("was created for it" in str(raised.value)) == (at != "/api/repos/create")
    sent = server.received
    push(store, server)
    repo = server.repos["dataset", REPO]
    assert len(repo.commits) == 2 and repo.tags == {"v1.0.0": repo.head.sha}
    assert is_whole(store, "responses@1.0.0", server.files(REPO))
    assert at == "/api/repos/create" or server.received == sent


def test_a_commit_whose_tag_is_missing_is_tagged_after_a_later_version(store: Store, server: Hub) -> None:
    first = push(store, server).commit
    server.repos["dataset", REPO].tags.clear()
    push(store, server, "responses@1.1.0")
    done = push(store, server)
    assert (done.action, done.commit) == ("tagged", first)
    assert is_whole(store, "responses@1.1.0", server.files(REPO))


def test_what_the_hub_lost_is_found_before_it_is_tagged(store: Store, server: Hub) -> None:
    def spoil(number: int, method: str, path: str) -> None:
        repo = server.repos.get(("dataset", REPO))
        if repo and len(repo.commits) == 2 and "/tree/" in path:
            files = {k: v for k, v in repo.head.files.items() if not k.startswith("data/fair/")}
            repo.commits[-1] = hub_server.Commit(repo.head.sha, files, repo.head.parent, repo.head.title)

    server.fault = spoil
    with pytest.raises(RuntimeError, match="does not have what was committed"):
        push(store, server)
    assert not server.repos["dataset", REPO].tags
    server.fault = lambda *_: None
    push(store, server)
    assert is_whole(store, "responses@1.0.0", server.files(REPO, "v1.0.0"))


@pytest.mark.crash
@pytest.mark.parametrize(
    ("at", "fault"),
    [("/preupload/", "cut"), ("/lfs/", "lost"), ("/commit/", "cut"), ("/commit/", "lost"), ("/tag/", "cut")],
)
def test_killed_at_any_step_the_same_command_ends_right(
    store: Store, server: Hub, tmp_path: Path, at: str, fault: str
) -> None:
    words = ["push", "responses@1.0.0", "--repo", REPO, "--root", str(store.root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "almost_data", *words],
        env=environment(server, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def kill(number: int, method: str, path: str) -> str | None:
        if at not in path or server.repos["dataset", REPO].tags:
            return None
        if method == "PUT" and len(server.large) < 3:
            return None
        process.kill()
        return fault

    server.fault = kill
    assert process.wait() == -9
    server.fault = lambda *_: None
    push(store, server)
    repo = server.repos["dataset", REPO]
    assert len(repo.commits) == 2 and repo.tags == {"v1.0.0": repo.head.sha}
    assert is_whole(store, "responses@1.0.0", server.files(REPO))


PUSHES = int(os.environ.get("ALMOST_DATA_PUSHES", "28"))
"""With faults; 200 of them take minutes."""


@pytest.mark.crash
def test_with_faults_main_is_always_one_version_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_WAITS", (0.01,))
    refs = store.refs()
    rounds = -(-PUSHES // (4 * len(refs)))
    with ThreadPoolExecutor(4) as pool:
        pushes = sum(pool.map(lambda seed: faulty(store, refs, seed, rounds), range(4)))
    assert pushes >= PUSHES


def faulty(store: Store, refs: list[str], seed: int, rounds: int) -> int:
    """Push all versions to repositories of one server, which fails; every push is run until it ends."""
    draw = random.Random(seed)
    pushes = 0
    with hub_server.run() as server:
        for turn in range(rounds):
            repo = f"ORG/set{turn}"
            tags: dict[str, str] = {}
            for ref in refs:
                begin = len(server.recorded)
                faults = {begin + draw.randint(1, 24): draw.choice(FAULTS) for _ in range(draw.randint(1, 2))}
                server.fault = lambda number, method, path, faults=faults: faults.get(number)
                pushes += 1
                while True:
                    try:
                        hub.push(store, ref, repo, api=api(server))
                        break
                    except RuntimeError:
                        pushes += 1
                at = server.repos["dataset", repo]
                assert tags.items() <= at.tags.items(), "a tag moved"
                tags = dict(at.tags)
            titles = [commit.title for commit in at.commits[1:]]
            assert len(titles) == len(refs) == len(tags), titles
            for title, commit in zip(titles, at.commits[1:], strict=True):
                files = {path: blob.content for path, blob in commit.files.items()}
                assert is_whole(store, title.partition(",")[0], files), title
    return pushes


FAULTS = ["cut", "cut", "lost", "lost", "half", "412", "412", "500", "429"]


def test_our_own_errors_are_not_the_hubs(store: Store, server: Hub, tmp_path: Path) -> None:
    tries: list[int] = []

    def wrong(error: Exception) -> None:
        tries.append(1)
        raise error

    for error in (KeyError("x"), TypeError("x"), ValueError("x"), FileNotFoundError(2, "gone", "x")):
        with pytest.raises(type(error)) as raised:
            client.with_retries(REPO, lambda error=error: wrong(error))  # type: ignore[misc]
        assert raised.value is error
    assert len(tries) == 4
    with pytest.raises(client.HubError, match="ConnectionResetError"):
        client.with_retries(REPO, lambda: wrong(ConnectionResetError("at 127.0.0.1")))
    assert len(tries) == 4 + 1 + len(client.RETRY_WAITS)


@pytest.mark.parametrize("body", [b"<html>", b"", b"null", b"[]", b"{}", b'{"id": 5}', b"[" * 100_000])
def test_what_the_client_makes_of_an_unreadable_answer_is_the_hubs(
    store: Store, server: Hub, body: bytes
) -> None:
    server.answer = lambda *_: hub_server.Reply(body, 200)  # type: ignore[method-assign]
    with pytest.raises(client.HubError, match="the same command again"):
        push(store, server)


@pytest.mark.parametrize(
    ("key", "value"), [("sha", "../../x"), ("sha", None), ("size", -1), ("size", "7"), ("path", 5)]
)
def test_commits_and_files_are_what_they_should_be(
    store: Store, server: Hub, tmp_path: Path, key: str, value: object
) -> None:
    push(store, server)
    serve = server.answer

    def mislead(method: str, target: str, headers: object, body: bytes) -> hub_server.Reply:
        if target.endswith("/../../x?recursive=true&expand=false"):
            return hub_server.Reply(b"[]")
        reply = serve(method, target, headers, body)
        if method == "GET" and "/resolve/" not in target:
            values = json.loads(reply.body)
            for record in values if isinstance(values, list) else [values]:
                record.update({key: value} if key in record else {})
            reply.body = json.dumps(values).encode()
        return reply

    server.answer = mislead  # type: ignore[method-assign]
    empty = Store(tmp_path / "empty")
    with pytest.raises((client.HubError, InputError)):
        hub.pull(empty, REPO, api=api(server))
    assert not empty.root.exists() or {path.name for path in empty.root.iterdir()} <= {".locks"}


def test_the_hub_decides_no_wait(
    store: Store, server: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    later = hub_server.Reply(b"{}", 429, {"Retry-After": "1000000000"})
    server.answer = lambda *_: later  # type: ignore[method-assign]
    with pytest.raises(client.HubError, match="answer 429"):
        push(store, server)
    assert len(server.recorded) == len(caplog.messages) + 1 == len(client.RETRY_WAITS) + 1
    assert caplog.messages[0] == f"{REPO}: the Hub failed (answer 429): tried again in 0.01 s"
    monkeypatch.setattr(client, "TIMEOUT", 0.1)
    server.fault = lambda *_: "slow"
    with pytest.raises(client.HubError, match="ReadTimeout"):
        push(store, server)
