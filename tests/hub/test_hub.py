"""Publishing over real HTTP, to a Hub on 127.0.0.1 that keeps a history and fails on order.

The tests that need no more than a Hub run against any other by environment: ALMOST_DATA_TEST_HUB is its
address, HF_TOKEN a token that may write to ALMOST_DATA_TEST_ORG. They make public repositories there, with a
suffix of their own, and delete them. The others skip: they make the server fail, or look inside.
"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from hypothesis import given, settings
from hypothesis import strategies as st

from almost_data import hub, registry
from almost_data.cards import card
from almost_data.cli.app import main
from almost_data.cli.screens import hub as screen
from almost_data.datasets.manifest import Manifest, Parent
from almost_data.errors import InputError
from almost_data.evals import result
from almost_data.evals.result import Line, Pinned, Result
from almost_data.generation.fake import FakeEngine
from almost_data.hub import artifact, client, merging
from almost_data.run import build, importing, presets
from almost_data.store import rows as stored_rows
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import hub_server, trained
from tests.hub_server import TOKEN, Anywhere, Hub, Repo
from tests.tiny_models import save_tiny_reward

OTHER = os.environ.get("ALMOST_DATA_TEST_HUB", "")
ORG = os.environ.get("ALMOST_DATA_TEST_ORG", "") if OTHER else "ORG"
SUFFIX = f"-{os.urandom(4).hex()}" if OTHER else ""
NAMED: set[str] = set()
"""Repositories that may have been made."""


def at(name: str) -> str:
    """A repository that belongs to this run."""
    NAMED.add(f"{ORG}/{name}{SUFFIX}")
    return f"{ORG}/{name}{SUFFIX}"


REPO, PAIRS, COPY, FOREIGN, MODEL = map(at, ("responses", "comparisons", "copy", "foreign", "rm"))


class Real(FakeEngine):
    """The fake engine under another name; nothing is asked of it here."""

    name = "transformers"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_WAITS", (0.01, 0.01, 0.01))


@pytest.fixture
def there() -> Iterator[Hub]:
    """The tests' own server, to look into."""
    if OTHER:
        pytest.skip("makes the server fail or looks into it, and ALMOST_DATA_TEST_HUB is another one")
    with hub_server.run() as one:
        yield one


@pytest.fixture
def anywhere() -> Iterator[Anywhere]:
    """The Hub of the environment, else the tests' own; empty as far as this run's repositories go."""
    if not OTHER:
        with hub_server.run() as one:
            yield Anywhere(one.endpoint, TOKEN)
        return
    one = Anywhere(OTHER, os.environ["HF_TOKEN"])
    try:
        yield one
    finally:
        for name in NAMED:
            one.delete(name)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """responses 1.0.0 (three responders, many shards), 1.1.0 (two, few), 1.2.0 to 1.6.0. Read it only."""
    folder = tmp_path_factory.mktemp("versions")
    store = Store(folder / "build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_rows, "SHARD_BYTES", 4000)
        for minor in range(7):
            names = ["good", "fair", "poor"][: 3 if minor == 0 else 2]
            rows = [
                {"prompt": f"What is {n}?"} | {name: f"{name} {n}. " + "So it is. " * 9 for name in names}
                for n in range(90 if minor == 0 else 30 + minor)
            ]
            file = folder / "rows.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            importing.import_responses(store, str(file), names, f"1.{minor}.0")
    return store


@pytest.fixture
def store(versions: Store, tmp_path: Path) -> Store:
    shutil.copytree(versions.root, tmp_path / "build")
    return Store(tmp_path / "build")


def api(there: Hub | Anywhere, token: str | bool | None = None) -> HfApi:
    return HfApi(endpoint=there.endpoint, token=there.token if token is None else token)


def push(
    store: Store, there: Hub | Anywhere, ref: str = "responses@1.0.0", repo: str = REPO, **how: Any
) -> hub.Pushed:
    return hub.push(store, ref, repo, api=api(there), **how)


def is_whole(store: Store, ref: str, files: dict[str, bytes], kind: str = "dataset") -> bool:
    """Whether a commit holds a version's files, byte for byte, and none of ours beside them."""
    folder = store.path(ref)
    ours = {path: content for path, content in files.items() if artifact.is_ours(path, kind)}
    want = {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file() and one.name != "README.md"
    }
    head = card.front_matter(files["README.md"].decode())
    return ours == want and (kind == "model" or card.viewer(store.manifest(ref)).items() <= head.items())


def environment(there: Hub | Anywhere, tmp_path: Path, token: str | None = None) -> dict[str, str]:
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
    return os.environ | home | {"HF_ENDPOINT": there.endpoint, "HF_TOKEN": token or there.token}


def command(
    there: Hub | Anywhere, tmp_path: Path, *words: str, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "almost_data", *words],
        env=environment(there, tmp_path, token),
        capture_output=True,
        text=True,
        check=False,
    )


def stranger(there: Hub | Anywhere, tmp_path: Path, code: str) -> Any:
    """What another project gets that has no token; `code` prints JSON."""
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    known = environment(there, tmp_path)
    clean = {name: value for name, value in known.items() if name not in ("HF_TOKEN", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean,
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- push ----------------------------------------------------------------------------------------------


def test_a_version_is_one_commit_with_its_tag(store: Store, anywhere: Anywhere) -> None:
    seen: list[tuple[int, int]] = []
    done = push(store, anywhere, progress=lambda *at: seen.append(at))
    assert anywhere.titles(REPO) == [f"responses@1.0.0, digest {done_digest(store)}"]
    head = anywhere.api.dataset_info(REPO)
    assert anywhere.tags(REPO) == {"v1.0.0": head.sha} and done.commit == head.sha
    assert is_whole(store, "responses@1.0.0", anywhere.files(REPO)) and not head.private
    assert ".gitattributes" in anywhere.files(REPO)
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1] > 0
    assert hub.place(store, "responses@1.0.0") == hub.Place(
        "dataset", REPO, "v1.0.0", done.commit, store.manifest("responses@1.0.0").digest
    )


def shard(store: Store) -> str:
    """Of the responder that only 1.0.0 has."""
    folder = store.path("responses@1.0.0")
    return next(folder.glob("data/poor/train-00000-*")).relative_to(folder).as_posix()


def done_digest(store: Store) -> str:
    return store.manifest("responses@1.0.0").digest[:12]


def test_stale_files_go_with_the_commit_and_what_people_added_stays(store: Store, anywhere: Anywhere) -> None:
    push(store, anywhere)
    by_hand = {"notes.md": b"mine", "data/extra.csv": b"a,b\n", ".gitattributes": b"# changed\n"}
    anywhere.put(REPO, by_hand)
    first = anywhere.files(REPO)
    done = push(store, anywhere, "responses@1.1.0")
    last = anywhere.files(REPO)
    assert len(anywhere.titles(REPO)) == 3
    assert {shard(store), "data/good/test-00000-of-00001.parquet"} <= first.keys()
    assert shard(store) in done.deleted and any(path.startswith("data/good/") for path in done.deleted)
    assert is_whole(store, "responses@1.1.0", last) and by_hand.items() <= last.items()
    assert is_whole(store, "responses@1.0.0", anywhere.files(REPO, "v1.0.0"))


def test_the_same_content_again_is_no_commit_and_sends_nothing(store: Store, anywhere: Anywhere) -> None:
    first = push(store, anywhere)
    sent: list[tuple[int, int]] = []
    again = push(store, anywhere, progress=lambda *at: sent.append(at))
    assert (again.action, again.commit) == ("unchanged", first.commit)
    assert len(anywhere.titles(REPO)) == 1 and not sent
    # Also after a later version: it does not take main back.
    push(store, anywhere, "responses@1.1.0")
    assert push(store, anywhere).action == "unchanged"
    assert is_whole(store, "responses@1.1.0", anywhere.files(REPO))


def test_a_tag_with_other_content_is_refused_before_anything_is_sent(
    store: Store, anywhere: Anywhere
) -> None:
    push(store, anywhere)
    shutil.rmtree(store.path("responses@1.0.0"))
    rows = store.root / "rows.jsonl"
    rows.write_text('{"prompt": "Why?", "a": "So it is, and so it was.", "b": "So."}\n')
    importing.import_responses(store, str(rows), ["a", "b"], "1.0.0")
    sent: list[tuple[int, int]] = []
    tags = anywhere.tags(REPO)
    with pytest.raises(InputError, match=r"v1\.0\.0 is there with another content"):
        push(store, anywhere, progress=lambda *at: sent.append(at))
    assert not sent and anywhere.tags(REPO) == tags


def test_main_does_not_go_back_and_a_repository_holds_one_thing(
    store: Store, anywhere: Anywhere, tmp_path: Path
) -> None:
    push(store, anywhere, "responses@1.1.0")
    with pytest.raises(InputError, match=r"is at 1\.1\.0 already"):
        push(store, anywhere, "responses@1.0.0")
    (tmp_path / "q.txt").write_text("Why is the sky blue?\nWhat is a monad?\n")
    importing.import_queries(store, str(tmp_path / "q.txt"), "1.0.0")
    with pytest.raises(InputError, match="holds responses, and this is queries"):
        push(store, anywhere, "queries@1.0.0")
    anywhere.put(FOREIGN, {"data/default/train-00000-of-00001.parquet": b"PAR1"})
    with pytest.raises(InputError, match="did not push"):
        push(store, anywhere, "queries@1.0.0", FOREIGN)


@pytest.mark.parametrize(
    "repo",
    ["responses", "ORG/a/b", "../x", "ORG/..", "ORG/a--b", "ORG/x.git", "-x/y", "ORG/é", "ORG/x y", ""],
)
def test_bad_repository_names_are_refused_offline(repo: str, store: Store) -> None:
    with pytest.raises(InputError, match="is not a valid repository name"):
        hub.plan(store, "responses@1.0.0", repo)


def test_fake_text_is_never_published(fake_store: Store, there: Hub) -> None:
    with pytest.raises(InputError, match="fake engine"):
        push(fake_store, there, "comparisons@0.1.0", "ORG/comparisons")
    assert not there.asked


def test_a_damaged_artifact_is_never_published(store: Store, there: Hub) -> None:
    file = next(store.path("responses@1.0.0").glob("data/good/*.parquet"))
    file.write_bytes(next(store.path("responses@1.1.0").glob("data/good/*.parquet")).read_bytes())
    with pytest.raises(InputError, match="is damaged"):
        push(store, there)
    assert not there.asked


def test_private_is_private_and_a_public_one_is_refused(store: Store, anywhere: Anywhere) -> None:
    push(store, anywhere, private=True)
    assert anywhere.api.dataset_info(REPO).private
    with pytest.raises(InputError, match="not on the Hub"):
        hub.pull(Store(store.root / "x"), REPO, api=api(anywhere, token=False))
    anywhere.api.update_repo_settings(REPO, private=False, repo_type="dataset")
    with pytest.raises(InputError, match="is public"):
        push(store, anywhere, "responses@1.1.0", private=True)


@pytest.mark.parametrize(
    ("token", "repo", "match"),
    [(False, REPO, "hf auth login"), ("hf_wrong", REPO, "hf auth login"), (TOKEN, "OTHER/x", "may not")],
)
def test_who_may_not_write_is_told_so(
    store: Store, there: Hub, token: str | bool, repo: str, match: str
) -> None:
    with pytest.raises(InputError, match=match) as told:
        hub.push(store, "responses@1.0.0", repo, api=api(there, token))
    assert "127.0.0.1" not in str(told.value) and "hf_w" not in str(told.value)


def test_xet_sends_chunks_and_those_only_once(store: Store, there: Hub, tmp_path: Path) -> None:
    there.chunks = tmp_path / "chunks"
    there.chunks.mkdir()
    known = environment(there, tmp_path) | {"HF_HUB_DISABLE_XET": "0"}
    sent = []
    for repo in (REPO, "ORG/copy"):
        words = ["push", "responses@1.0.0", "--repo", repo, "--root", str(store.root)]
        subprocess.run([sys.executable, "-m", "almost_data", *words], env=known, check=True)
        assert is_whole(store, "responses@1.0.0", there.files(repo, "v1.0.0"))
        chunks = [file.stat().st_size for file in there.chunks.rglob("default.*")]
        sent.append(sum(chunks))
    assert there.received == 0, "something went by LFS"
    assert 0 < sent[0] == sent[1]


# --- others at the same time, and faults -------------------------------------------------------------------


def test_somebody_who_commits_first_keeps_what_they_wrote(store: Store, there: Hub) -> None:
    push(store, there)
    turns = iter(range(2))

    def meddle(repo: Repo) -> None:
        if (turn := next(turns, None)) is not None:
            text = there.files(REPO)["README.md"].decode()
            there.put(REPO, {"README.md": (text + f"\nBy hand, {turn}.\n").encode(), f"note{turn}.txt": b"x"})

    there.before_commit = meddle
    push(store, there, "responses@1.1.0")
    files = there.files(REPO)
    assert is_whole(store, "responses@1.1.0", files) and {"note0.txt", "note1.txt"} <= files.keys()
    assert b"By hand, 0." in files["README.md"] and b"By hand, 1." in files["README.md"]
    assert sum("/commit/" in path for _, path in there.asked) == 4


def test_a_conflict_without_end_is_one_line(store: Store, there: Hub) -> None:
    push(store, there)
    there.before_commit = lambda repo: void(there.put(REPO, {"x.txt": os.urandom(4)}))
    with pytest.raises(RuntimeError, match="others keep committing"):
        push(store, there, "responses@1.1.0")
    assert is_whole(store, "responses@1.0.0", there.files(REPO))


def void(_: object) -> None:
    pass


@pytest.mark.parametrize("fault", ["lost", "cut", "500"])
@pytest.mark.parametrize("at", ["/api/repos/create", "/commit/", "/tag/"])
def test_where_it_broke_the_same_command_ends_right(store: Store, there: Hub, fault: str, at: str) -> None:
    client.RETRY_WAITS = ()  # type: ignore[assignment]  # set back by the fixture
    broken = iter([fault])
    there.fault = lambda number, method, path: next(broken, None) if at in path else None
    with pytest.raises(RuntimeError, match="the same command again") as told:
        push(store, there)
    assert there.endpoint.removeprefix("http://") not in str(told.value)
    sent = there.received
    push(store, there)
    repo = there.repos["dataset", REPO]
    assert len(repo.commits) == 2 and repo.tags == {"v1.0.0": repo.head.sha}
    assert is_whole(store, "responses@1.0.0", there.files(REPO))
    assert at == "/api/repos/create" or there.received == sent


def test_a_commit_whose_tag_is_missing_is_tagged_after_a_later_version(store: Store, there: Hub) -> None:
    first = push(store, there).commit
    there.repos["dataset", REPO].tags.clear()
    push(store, there, "responses@1.1.0")
    done = push(store, there)
    assert (done.action, done.commit) == ("tagged", first)
    assert is_whole(store, "responses@1.1.0", there.files(REPO))


def test_what_the_hub_lost_is_found_before_it_is_tagged(store: Store, there: Hub) -> None:
    def spoil(number: int, method: str, path: str) -> None:
        repo = there.repos.get(("dataset", REPO))
        if repo and len(repo.commits) == 2 and "/tree/" in path:
            files = {k: v for k, v in repo.head.files.items() if not k.startswith("data/fair/")}
            repo.commits[-1] = hub_server.Commit(repo.head.sha, files, repo.head.parent, repo.head.title)

    there.fault = spoil
    with pytest.raises(RuntimeError, match="does not have what was committed"):
        push(store, there)
    assert not there.repos["dataset", REPO].tags
    there.fault = lambda *_: None
    push(store, there)
    assert is_whole(store, "responses@1.0.0", there.files(REPO, "v1.0.0"))


@pytest.mark.crash
@pytest.mark.parametrize(
    ("at", "fault"),
    [("/preupload/", "cut"), ("/lfs/", "lost"), ("/commit/", "cut"), ("/commit/", "lost"), ("/tag/", "cut")],
)
def test_killed_at_any_step_the_same_command_ends_right(
    store: Store, there: Hub, tmp_path: Path, at: str, fault: str
) -> None:
    words = ["push", "responses@1.0.0", "--repo", REPO, "--root", str(store.root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "almost_data", *words],
        env=environment(there, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def kill(number: int, method: str, path: str) -> str | None:
        if at not in path or there.repos["dataset", REPO].tags:
            return None
        if method == "PUT" and len(there.large) < 3:
            return None
        process.kill()
        return fault

    there.fault = kill
    assert process.wait() == -9
    there.fault = lambda *_: None
    push(store, there)
    repo = there.repos["dataset", REPO]
    assert len(repo.commits) == 2 and repo.tags == {"v1.0.0": repo.head.sha}
    assert is_whole(store, "responses@1.0.0", there.files(REPO))


PUSHES = int(os.environ.get("ALMOST_DATA_PUSHES", "60"))
"""With faults; the issue asks for 200, which take minutes."""


@pytest.mark.crash
def test_with_faults_main_is_always_one_version_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_WAITS", (0.01,))
    refs = store.refs()
    rounds = -(-PUSHES // (4 * len(refs)))
    with ThreadPoolExecutor(4) as pool:
        made = sum(pool.map(lambda seed: faulty(store, refs, seed, rounds), range(4)))
    assert made >= PUSHES


def faulty(store: Store, refs: list[str], seed: int, rounds: int) -> int:
    """Push all versions to repositories of one server, which fails; every push is run until it ends."""
    draw = random.Random(seed)
    made = 0
    with hub_server.run() as there:
        for turn in range(rounds):
            repo = f"ORG/set{turn}"
            tags: dict[str, str] = {}
            for ref in refs:
                begin = len(there.asked)
                faults = {begin + draw.randint(1, 24): draw.choice(FAULTS) for _ in range(draw.randint(1, 2))}
                there.fault = lambda number, method, path, faults=faults: faults.get(number)
                made += 1
                while True:
                    try:
                        hub.push(store, ref, repo, api=api(there))
                        break
                    except RuntimeError:
                        made += 1
                at = there.repos["dataset", repo]
                assert tags.items() <= at.tags.items(), "a tag moved"
                tags = dict(at.tags)
            titles = [one.title for one in at.commits[1:]]
            assert len(titles) == len(refs) == len(tags), titles
            for title, commit in zip(titles, at.commits[1:], strict=True):
                files = {path: one.content for path, one in commit.files.items()}
                assert is_whole(store, title.partition(",")[0], files), title
    return made


FAULTS = ["cut", "cut", "lost", "lost", "half", "412", "412", "500", "429"]


def test_our_own_errors_are_not_the_hubs(store: Store, there: Hub, tmp_path: Path) -> None:
    tries: list[int] = []

    def wrong(error: Exception) -> None:
        tries.append(1)
        raise error

    for error in (KeyError("x"), TypeError("x"), ValueError("x"), FileNotFoundError(2, "gone", "x")):
        with pytest.raises(type(error)) as told:
            client.with_retries(REPO, lambda error=error: wrong(error))  # type: ignore[misc]
        assert told.value is error
    assert len(tries) == 4
    with pytest.raises(client.HubError, match="ConnectionResetError"):
        client.with_retries(REPO, lambda: wrong(ConnectionResetError("at 127.0.0.1")))
    assert len(tries) == 4 + 1 + len(client.RETRY_WAITS)
    # What the client makes of an answer that it cannot read is the Hub's: here, HTML for JSON.
    there.answer = lambda *_: hub_server.Reply(b"<html>", 200)  # type: ignore[method-assign]
    with pytest.raises(client.HubError, match="JSONDecodeError"):
        push(store, there)


# --- the card ----------------------------------------------------------------------------------------------


def test_a_card_keeps_what_people_wrote_over_re_pushes(
    store: Store, anywhere: Anywhere, tmp_path: Path
) -> None:
    push(store, anywhere)
    revisions = {"v1.0.0": 270}
    for minor in range(1, 6):
        text = anywhere.files(REPO)["README.md"].decode()
        if minor == 1:
            text = text.replace(
                "tags:\n", "language: no  # Norwegian\nannotations_creators: [me]\ntags:\n- mine\n"
            )
            text = text.replace(merging.BEGIN, f"Read this first.\n\n{merging.BEGIN}")
            text = text.replace(
                "configs:", "configs:\n- config_name: broken\n  data_files: nowhere.csv\nx_configs:"
            )
        text += f"\n\n## Note {minor}\r\n\r\nBelow, & <b>as it is</b>.\n"
        anywhere.put(REPO, {"README.md": text.encode()})
        done = push(store, anywhere, f"responses@1.{minor}.0")
        revisions[done.commit] = 2 * (30 + minor)
    last = anywhere.files(REPO)["README.md"].decode()
    assert last.index("Read this first.") < last.index(merging.BEGIN) < last.index("# ALMoST responses 1.5.0")
    assert all(last.index(merging.END) < last.index(f"## Note {minor}") for minor in range(1, 6))
    assert "language: no  # Norwegian\n" in last and "annotations_creators: [me]\n" in last
    head = card.front_matter(last)
    assert "mine" in head["tags"] and "responses" in head["tags"]
    assert head["configs"] == card.viewer(store.manifest("responses@1.5.0"))["configs"]
    assert last.count("almost_data: begin") == last.count("almost_data: end") == 1
    code = "import datasets, json\nprint(json.dumps([len(datasets.concatenate_datasets(list("
    code += f"datasets.load_dataset({REPO!r}, revision=r).values()))) for r in {list(revisions)!r}]))"
    assert stranger(anywhere, tmp_path, code) == list(revisions.values())


def test_without_marks_all_of_a_card_is_the_peoples(store: Store, anywhere: Anywhere) -> None:
    anywhere.put(REPO, {"README.md": b"# Our page\n\nWritten before the first push.\n"})
    push(store, anywhere)
    first = anywhere.files(REPO)["README.md"].decode()
    assert first.endswith(f"{merging.END}\n\n# Our page\n\nWritten before the first push.\n")
    assert card.front_matter(first)["pretty_name"] == "ALMoST responses"


def test_a_key_that_we_wrote_goes_with_a_version_that_has_none() -> None:
    base = card._with_head({"pretty_name": "x"}, "# Card")
    linked = merging.merge(base, "---\nfoo: 1\n---\n", "ORG/x", {"source_datasets": ["ORG/y"]})
    head = card.front_matter(merging.merge(base, linked, "ORG/x"))
    assert head == {"pretty_name": "x", "foo": 1}
    by_hand = linked.replace(merging.KEYS, "# ")  # then it could be anybody's
    assert card.front_matter(merging.merge(base, by_hand, "ORG/x"))["source_datasets"] == ["ORG/y"]


def test_two_pushes_of_one_version_at_once_end_the_same(store: Store, anywhere: Anywhere) -> None:
    push(store, anywhere)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: push(store, anywhere, "responses@1.1.0"), range(3)))
    assert len(anywhere.titles(REPO)) == 2
    assert {one.commit for one in done} == {anywhere.tags(REPO)["v1.1.0"]}


def test_broken_yaml_of_people_is_one_line_and_nothing_is_changed(store: Store, there: Hub) -> None:
    push(store, there)
    there.put(REPO, {"README.md": b"---\nlicense: [mit\n---\n# x\n"})
    with pytest.raises(InputError, match="YAML of its card is broken"):
        push(store, there, "responses@1.1.0")
    there.put(REPO, {"README.md": b"\xff\xfe"})
    with pytest.raises(InputError, match="not UTF-8"):
        push(store, there, "responses@1.1.0")


def test_yaml_that_grows_is_one_line(store: Store, there: Hub, tmp_path: Path) -> None:
    push(store, there)
    text = there.files(REPO)["README.md"].decode()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    for more in ("\n".join(lines), "a: &a [*a]", f"a: {'[' * 3000}{']' * 3000}"):
        there.put(REPO, {"README.md": text.replace("---\n", f"---\n{more}\n", 1).encode()})
        with pytest.raises(InputError, match=r"YAML of its card is broken: it (stands for over|is nested)"):
            push(store, there, "responses@1.1.0")
        with pytest.raises(InputError, match=r"YAML at its head is broken: it (stands for over|is nested)"):
            hub.pull(Store(tmp_path / "other"), REPO, api=api(there))


LINES = [
    "text",
    "",
    merging.BEGIN,
    merging.END,
    merging.PARENTS,
    "---",
    "# Title",
    "a: 1",
    "\ufeff",
    "<!-- x -->",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LINES)), st.lists(st.sampled_from(LINES)), st.booleans())
def test_merging_again_changes_nothing(ours: list[str], theirs: list[str], headed: bool) -> None:
    mine = card._with_head({"pretty_name": "x", "tags": ["a"]}, "# Card\n\n" + "\n".join(ours))
    there = ("---\nlicense: mit\n---\n" if headed else "\n") + "\n".join(theirs) + "\n"
    once = merging.merge(mine, there, "ORG/x", {"source_datasets": ["ORG/y"]}, "| a |")
    assert merging.merge(mine, once, "ORG/x", {"source_datasets": ["ORG/y"]}, "| a |") == once
    assert once.count(merging.BEGIN) == once.count(merging.END) == once.count(merging.PARENTS) == 1
    said = card.front_matter(once)
    assert said["pretty_name"] == "x" and said["source_datasets"] == ["ORG/y"]
    # Pushed from a copy that was pulled, it is the same card.
    assert merging.merge(once, once, "ORG/x", {"source_datasets": ["ORG/y"]}, "| a |") == once


def test_a_reply_that_holds_the_marks_does_not_end_our_part(anywhere: Anywhere, tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    reply = f"So it is.\n{merging.END}\nNot ours.\n{merging.BEGIN}\n{merging.PARENTS}\nSo it was."
    rows = [{"prompt": f"What is {n}?", "good": reply, "bad": reply} for n in range(9)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for version in ("1.0.0", "1.1.0"):
        importing.import_responses(store, str(tmp_path / "r.jsonl"), ["good", "bad"], version)
        build.BuildRun(store, version, presets.load("tiny"), Real()).build("comparisons")
        push(store, anywhere, f"comparisons@{version}", PAIRS)
    text = anywhere.files(PAIRS)["README.md"].decode()
    assert text.count(merging.BEGIN) == text.count(merging.END) == 1 and text.endswith(f"{merging.END}\n")
    assert "Not ours." in text


def test_parents_on_the_hub_are_linked(store: Store, anywhere: Anywhere, tmp_path: Path) -> None:
    where = push(store, anywhere)
    build.BuildRun(store, "1.0.0", presets.load("tiny"), Real()).build("comparisons")
    push(store, anywhere, "comparisons@1.0.0", PAIRS)
    text = anywhere.files(PAIRS)["README.md"].decode()
    assert card.front_matter(text)["source_datasets"] == [REPO]
    assert f"[{REPO}]({anywhere.endpoint}/datasets/{REPO}/tree/{where.commit})" in text


def test_private_parents_are_not_named_in_a_public_card(
    store: Store, anywhere: Anywhere, printed: io.StringIO
) -> None:
    push(store, anywhere, private=True)
    build.BuildRun(store, "1.0.0", presets.load("tiny"), Real()).build("comparisons")
    done = push(store, anywhere, "comparisons@1.0.0", PAIRS)
    assert done.hidden == [REPO]
    text = anywhere.files(PAIRS)["README.md"].decode()
    assert REPO not in text and "source_datasets" not in card.front_matter(text)
    screen.pushed(done)
    assert f"not linked in the public card, as they are private: {REPO}\n" in printed.getvalue()
    # Who sees a private card sees what is behind it.
    assert not push(store, anywhere, "comparisons@1.0.0", COPY, private=True).hidden
    assert card.front_matter(anywhere.files(COPY)["README.md"].decode())["source_datasets"] == [REPO]


def test_a_public_models_card_links_no_private_dataset_or_base(
    store: Store, there: Hub, tmp_path: Path
) -> None:
    for kind, name in (("dataset", "ORG/closed"), ("model", "ORG/base")):
        api(there).create_repo(name, repo_type=kind, private=True)
    data = Parent("ORG/closed@" + "c" * 40, "d" * 64, "e" * 64)
    base = {"id": "ORG/base", "revision": "b" * 40}
    made = trained.publish(
        store, save_tiny_reward(tmp_path / "out"), trained.manifest("rm", parents=[data], base=base)
    )
    done = push(store, there, made.ref, "ORG/rm")
    assert sorted(done.hidden) == ["ORG/base", "ORG/closed"]
    head = card.front_matter(there.files("ORG/rm", kind="model")["README.md"].decode())
    assert "base_model" not in head and "datasets" not in head and head["library_name"] == "transformers"
    assert push(store, there, made.ref, "ORG/rm").action == "unchanged"
    push(store, there, made.ref, "ORG/own", private=True)
    head = card.front_matter(there.files("ORG/own", kind="model")["README.md"].decode())
    assert (head["base_model"], head["datasets"]) == ("ORG/base", ["ORG/closed"])


# --- dry run -----------------------------------------------------------------------------------------------


def test_a_dry_run_says_all_and_asks_nothing(store: Store, printed: io.StringIO, tmp_path: Path) -> None:
    main(["push", "responses@1.0.0", "--repo", REPO, "--dry-run", "--private", "--root", str(store.root)])
    out = printed.getvalue()
    assert shard(store) in out and "manifest.json" in out and merging.BEGIN in out
    assert f"private dataset repository {REPO}" in out and "tag the commit v1.0.0" in out
    assert not (store.root / "hub").exists()


# --- pull --------------------------------------------------------------------------------------------------


def test_what_is_pulled_is_what_was_pushed(
    store: Store, anywhere: Anywhere, tmp_path: Path, printed: io.StringIO
) -> None:
    done = push(store, anywhere)
    push(store, anywhere, "responses@1.1.0")
    other = Store(tmp_path / "other")
    found = hub.pull(other, f"{REPO}@v1.0.0", api=api(anywhere, token=False))
    assert (found.ref, found.action, found.place.commit) == ("responses@1.0.0", "fetched", done.commit)
    assert verify(other, "responses@1.0.0") == [] and other.refs() == ["responses@1.0.0"]
    assert hub.place(other, "responses@1.0.0") == found.place
    assert not list((other.root / ".staging").iterdir())
    assert hub.pull(other, f"{REPO}@{done.commit}", api=api(anywhere)).action == "unchanged"
    assert hub.pull(other, REPO, api=api(anywhere)).ref == "responses@1.1.0"
    main(["lineage", "responses@1.0.0", "--root", str(other.root)])
    assert f"{REPO}@{done.commit} commit {done.commit[:12]}" in printed.getvalue()
    # And pushed from there, it is the same version.
    assert push(other, anywhere).action == "unchanged"
    again = push(other, anywhere, repo=COPY)
    assert is_whole(store, "responses@1.0.0", anywhere.files(COPY, again.commit))
    text = anywhere.files(COPY)["README.md"].decode()
    assert text.count("almost_data: begin") == 1
    assert f'load_dataset("{COPY}", revision="v1.0.0"' in text and f'"{REPO}"' not in text


def test_another_one_of_that_name_is_not_overwritten(
    store: Store, anywhere: Anywhere, tmp_path: Path
) -> None:
    push(store, anywhere)
    other = Store(tmp_path / "other")
    (tmp_path / "r.jsonl").write_text('{"prompt": "Why?", "a": "So it is, and so it was.", "b": "So."}\n')
    before = importing.import_responses(other, str(tmp_path / "r.jsonl"), ["a", "b"], "1.0.0")
    with pytest.raises(InputError, match="with another content"):
        hub.pull(other, REPO, api=api(anywhere))
    assert other.manifest("responses@1.0.0") == before


def test_a_tampered_file_is_not_taken(store: Store, anywhere: Anywhere, tmp_path: Path) -> None:
    push(store, anywhere)
    files = anywhere.files(REPO)
    shards = sorted(path for path in files if path.startswith("data/good/train"))
    anywhere.put(REPO, {shards[0]: files[shards[1]]})
    other = Store(tmp_path / "other")
    with pytest.raises(InputError, match="does not agree"):
        hub.pull(other, REPO, api=api(anywhere))
    assert other.refs() == [] and not list((other.root / ".staging").iterdir())
    assert hub.verify(other, REPO, api=api(anywhere)) and not hub.verify(
        other, f"{REPO}@v1.0.0", api=api(anywhere)
    )


@pytest.mark.parametrize(
    "path", ["data/../../evil.parquet", "../manifest.json", "a//b.json", "x\\..\\y.json"]
)
def test_a_name_that_leads_elsewhere_is_refused(store: Store, there: Hub, tmp_path: Path, path: str) -> None:
    push(store, there)
    there.put(REPO, {path: b"x"})
    with pytest.raises(InputError, match="is not a valid file name"):
        hub.pull(Store(tmp_path / "other"), REPO, api=api(there))
    assert not list(tmp_path.rglob("evil*")) and not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    "change", [{"version": "../../x"}, {"name": "../x"}, {"kind": "model"}, {"name": "hub"}]
)
def test_a_manifest_does_not_choose_the_folder(
    store: Store, there: Hub, tmp_path: Path, change: dict[str, str]
) -> None:
    push(store, there)
    told = json.loads(there.files(REPO)["manifest.json"]) | change
    there.put(REPO, {"manifest.json": json.dumps(told).encode()})
    with pytest.raises(InputError):
        hub.pull(Store(tmp_path / "other"), REPO, api=api(there))
    assert not [file for file in (tmp_path / "other").rglob("*") if file.is_file()]


def test_only_files_of_an_artifact_are_fetched(store: Store, there: Hub, tmp_path: Path) -> None:
    push(store, there)
    there.put(
        REPO, {"load.py": b"boom", "data/good/x.pkl": b"boom", "setup.sh": b"boom", "pages/a.html": b"x"}
    )
    other = Store(tmp_path / "other")
    hub.pull(other, REPO, api=api(there))
    assert {file.suffix for file in other.path("responses@1.0.0").rglob("*") if file.is_file()} == {
        ".md",
        ".json",
        ".png",
        ".parquet",
    }
    assert not any(path.endswith(("load.py", ".pkl", ".sh", ".html")) for _, path in there.asked)


PULL = """
import sys
from almost_data.cli import app as cli
try:
    cli.main(sys.argv[1:])
finally:
    # ru_maxrss would count what the process that started this one held.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]) // 1024, flush=True)
"""


def bomb(kind: str, table: pa.Table) -> pa.Table:
    """Rows of a responder, of which a few kB of a file stand for hundreds of MB or more."""
    rows = {name: table[name] for name in table.column_names}
    if kind == "page":  # one byte, 300 million times
        rows = {name: one.slice(0, 1) for name, one in rows.items()}
        rows["response"] = pa.chunked_array([["a" * 300_000_000]])
    elif kind == "dictionary":  # one entry of 8 MB for every row
        indices = pa.array([0] * len(table), pa.int32())
        rows["response"] = pa.chunked_array([pa.DictionaryArray.from_arrays(indices, ["a" * 8_000_000])])
    elif kind == "prefix":  # all but the first text is what that one begins with
        rows["response"] = pa.chunked_array([["a" * 1_000_000] * len(table)])
    elif kind == "rows":
        rows = {name: pa.chunked_array([one.chunks[0][:1]] * 3000) for name, one in rows.items()}
    elif kind == "columns":
        rows |= {f"x{n}": rows["rank"] for n in range(2000)}
    return pa.table(rows)


@pytest.mark.parametrize("kind", ["none", "page", "dictionary", "prefix", "rows", "columns"])
def test_a_file_that_grows_is_refused_before_it_does(
    store: Store, there: Hub, tmp_path: Path, kind: str
) -> None:
    push(store, there)
    if kind != "none":
        path = shard(store)
        table = bomb(kind, pq.read_table(store.path("responses@1.0.0") / path))
        how: dict[str, Any] = {"compression": "zstd", "dictionary_pagesize_limit": 2**30}
        if kind == "prefix":
            how |= {"use_dictionary": False, "column_encoding": {"response": "DELTA_BYTE_ARRAY"}}
        pq.write_table(table, tmp_path / "bomb.parquet", store_schema=False, **how)
        there.put(REPO, {path: (tmp_path / "bomb.parquet").read_bytes()})
        assert (tmp_path / "bomb.parquet").stat().st_size < 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", PULL, "pull", REPO, "--root", str(tmp_path / "other")],
        env=environment(there, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(done.stdout.splitlines()[-1]) < 300, "MiB"
    said = {
        "none": "",
        "page": "row group 0 would take 300 MB or more",
        "dictionary": "row group 0 would take",
        "prefix": "a page of response that nobody wrote so",
        "rows": "3,000 rows, where all files are to have",
        "columns": "columns are not those of the schema",
    }[kind]
    assert (done.returncode, len(done.stderr.splitlines())) == ((2, 1) if said else (0, 0))
    assert said in done.stderr and not (said and Store(tmp_path / "other").refs())


def test_what_is_not_ours_or_not_there_is_one_line(there: Hub, tmp_path: Path) -> None:
    there.put("ORG/plain", {"README.md": b"# x\n"})
    there.put("ORG/large", {"manifest.json": b" " * (client.MAX_MANIFEST + 1)})
    there.put("ORG/odd", {"manifest.json": b"{}"})
    there.put("ORG/deep", {"manifest.json": b'{"config":{"a":' + b"[" * 1_000_000})
    for where, match in (
        ("ORG/plain", "no manifest"),
        ("ORG/large", "larger than"),
        ("ORG/odd", "not a manifest"),
        ("ORG/deep", "not a manifest"),
        ("ORG/nothing", "not on the Hub"),
        ("ORG/plain@v9.9.9", "no such revision"),
        ("ORG/plain@../x", "is not a tag"),
        ("nothing", "is not a valid repository name"),
    ):
        with pytest.raises(InputError, match=match):
            hub.pull(Store(tmp_path / "other"), where, api=api(there))


def test_a_wrong_etag_decides_nothing(store: Store, there: Hub, tmp_path: Path) -> None:
    push(store, there)
    there.fault = lambda *_: "etag"
    other = Store(tmp_path / "other")
    hub.pull(other, REPO, api=api(there))
    assert verify(other, "responses@1.0.0") == []


@pytest.mark.parametrize("fault", ["half", "cut", "500"])
def test_a_pull_that_broke_goes_on(store: Store, there: Hub, tmp_path: Path, fault: str) -> None:
    client.RETRY_WAITS = ()  # type: ignore[assignment]  # set back by the fixture
    push(store, there)
    other = Store(tmp_path / "other")
    begin = len(there.asked)
    there.fault = lambda number, method, path: fault if number - begin in (30, 31) else None
    for _ in range(4):
        try:
            hub.pull(other, REPO, api=api(there))
            break
        except RuntimeError as error:
            assert "127.0.0.1" not in str(error) and other.refs() == []
    assert verify(other, "responses@1.0.0") == []


@pytest.mark.crash
def test_what_a_dead_pull_left_goes_with_the_next_one(store: Store, there: Hub, tmp_path: Path) -> None:
    push(store, there)
    push(store, there, "responses@1.1.0", COPY)
    other = Store(tmp_path / "other")
    words = ["pull", REPO, "--root", str(other.root)]

    def staged() -> list[str]:
        return [one.name for one in other.root.glob(".staging/*")]

    def stop(number: int, method: str, path: str) -> str | None:
        return "slow" if f"/{REPO}/resolve/" in path and path.endswith(".parquet") else None

    there.fault = stop
    with subprocess.Popen(
        [sys.executable, "-m", "almost_data", *words],
        env=environment(there, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not list(other.root.glob(".staging/*/responses/1.0.0/data/*")):
            assert process.poll() is None
            time.sleep(0.02)
        [left] = staged()
        # It is in use, so it stays.
        hub.pull(other, COPY, api=api(there))
        assert staged() == [left] and process.poll() is None
        process.kill()
    shutil.rmtree(other.path("responses@1.1.0"))
    hub.pull(other, COPY, api=api(there))
    assert staged() == [] and other.refs() == ["responses@1.1.0"]


def test_a_build_stands_on_what_is_on_the_hub(store: Store, anywhere: Anywhere, tmp_path: Path) -> None:
    first = push(store, anywhere)
    other = Store(tmp_path / "other")
    words = ["build", "comparisons", "--version", "2.0.0", "--engine", "transformers"]
    words += ["--root", str(other.root), "--from"]
    done = command(anywhere, tmp_path, *words, f"{REPO}@v1.0.0")
    assert done.returncode == 0, done.stderr
    [parent] = other.manifest("comparisons@2.0.0").parents
    assert (parent.ref, parent.digest) == ("responses@1.0.0", store.manifest("responses@1.0.0").digest)
    where = hub.place(other, parent.ref)
    assert where and (where.repo, where.commit) == (REPO, first.commit)
    unpinned = command(anywhere, tmp_path, *words, REPO)
    assert unpinned.returncode == 2 and "name a tag or a commit" in unpinned.stderr


OPENINGS = """
from polars import col
from almost_data import Builder, Built, Column, Config, Filter, Table, apply_filters


class OpeningsConfig(Config, frozen=True):
    words: int = 1


OPENING = Column("opening", "string", "first words of a query", "why is")
REASON = Column("reason", "string", "why the row was dropped", "rare")
TABLES = {
    "default": Table("one opening a row", ("opening",), (OPENING,), split_key="opening"),
    "rejected": Table("one rare opening a row", ("opening",), (OPENING, REASON), split_key="opening"),
}
RARE = Filter("rare", "opening", "It opens a single query.", "openings.py", col("len") < 2)


def build(config, parents, generator, progress):
    opening = col("query").str.split(" ").list.head(config.words).list.join(" ").alias("opening")
    openings = parents["queries"]("default").group_by(opening).len().collect()
    result = apply_filters(openings, [RARE], "count")
    rows = {"default": result.kept.drop("len"), "rejected": result.dropped.select("opening", "reason")}
    return Built(rows, result.ledger, {})


BUILDER = Builder(
    name="openings", doc="The first words of queries.", config=OpeningsConfig, tables=TABLES, build=build,
    parents=("queries",), uses_engine=False,
)
"""


def test_a_dataset_whose_builder_is_not_installed_is_pulled_verified_and_shown(
    store: Store, there: Hub, tmp_path: Path
) -> None:
    (tmp_path / "openings.py").write_text(OPENINGS)
    (tmp_path / "q.txt").write_text("Why is the sky blue?\nWhy is tea hot?\nWhat is a monad?\n")
    importing.import_queries(store, str(tmp_path / "q.txt"), "1.0.0")
    builder = registry.load("builders", f"{tmp_path / 'openings.py'}:BUILDER")
    run = build.prepare("transformers", root=store.root, version="1.0.0", builders=(builder,))
    assert run.build(builder)[-1].manifest.counts["default"]
    pushed = push(store, there, "openings@1.0.0", "ORG/openings")
    assert is_whole(store, "openings@1.0.0", there.files("ORG/openings", "v1.0.0"))
    other = ("--root", str(tmp_path / "other"))
    for words, expected in (
        (("pull", "ORG/openings@v1.0.0"), f"at commit {pushed.commit}"),
        (("verify", "openings@1.0.0"), "agree"),
        (("verify", "ORG/openings"), "agree"),
        (("show", "openings@1.0.0"), "rare"),
        (("lineage", "openings@1.0.0"), "queries@1.0.0"),
        (("list",), "openings"),
    ):
        done = command(there, tmp_path, *words, *other)
        assert done.returncode == 0 and expected in " ".join(done.stdout.split()), done.stdout + done.stderr
    pulled = Store(tmp_path / "other")
    assert pulled.scan("openings@1.0.0").collect()["opening"].to_list() == ["Why"]
    assert pulled.scan("openings@1.0.0", "rejected").collect()["reason"].to_list() == ["rare"]


# --- models ------------------------------------------------------------------------------------------------


def test_a_model_goes_the_same_way_and_loads(store: Store, anywhere: Anywhere, tmp_path: Path) -> None:
    first = push(store, anywhere)
    made = trained.publish(
        store,
        save_tiny_reward(tmp_path / "trained"),
        trained.manifest("rm", parents=[store.manifest("responses@1.0.0")], version="1.0.0"),
    )
    by_hand = {"pytorch_model.bin": b"old", "trainer_state.json": b"{}", "eval/scores.json": b"{}"}
    anywhere.put(MODEL, {"README.md": b"# Ours\n", **by_hand}, "model")
    push(store, anywhere, made.ref, MODEL)
    files = anywhere.files(MODEL, kind="model")
    assert is_whole(store, made.ref, files, "model") and by_hand.items() <= files.items()
    head = card.front_matter(files["README.md"].decode())
    assert head["datasets"] == [REPO] and first.commit in files["README.md"].decode()
    assert f'\nfolder = "{MODEL}"\n' in files["README.md"].decode()
    other = Store(tmp_path / "other")
    assert hub.pull(other, f"{MODEL}@v1.0.0", api=api(anywhere)).ref == made.ref
    assert verify(other, made.ref) == [] and other.manifest(made.ref) == made
    code = (
        "import json\nfrom transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
    )
    code += f"m, t = (kind.from_pretrained({MODEL!r}, revision='v1.0.0') for kind in (M, T))\n"
    code += "print(json.dumps(sum(p.numel() for p in m.parameters()) > 0 and len(t) > 0))"
    assert stranger(anywhere, tmp_path, code) is True


def evaluated(store: Store, made: Manifest, task: str, lines: list[Line], *data: Pinned) -> None:
    models = [Pinned(made.ref, made.digest)]
    result.save(store, Result(task, result.LOGIC[task], models, list(data), {}, {}, lines), [], 1)


def test_an_evaluation_after_the_push_brings_the_card_on_main_up_to_date(
    store: Store, there: Hub, tmp_path: Path
) -> None:
    folder = save_tiny_reward(tmp_path / "trained")

    def publish(version: str, seed: int = 0) -> Manifest:
        return trained.publish(store, folder, trained.manifest("rm", version=version, seed=seed))

    one = publish("1.0.0")
    first = push(store, there, one.ref, "ORG/rm")
    repo = there.repos["model", "ORG/rm"]
    text = there.files("ORG/rm", kind="model")["README.md"].decode()
    there.put("ORG/rm", {"README.md": (text + "\nBy people.\n").encode()}, "model")
    assert push(store, there, one.ref, "ORG/rm").action == "unchanged"
    lines = [Line(one.ref, "accuracy", "all", 10, 0.7, 0.4, 0.9, 0, 0.5)]
    evaluated(store, one, "preference", lines, Pinned("ORG/data", "b" * 40, "data"))
    commits = len(repo.commits)
    done = push(store, there, one.ref, "ORG/rm")
    assert (done.action, done.commit, repo.tags) == ("card", first.commit, {"v1.0.0": first.commit})
    assert len(repo.commits) == commits + 1 and push(store, there, one.ref, "ORG/rm").action == "unchanged"
    text = repo.head.files["README.md"].content.decode()
    assert "## Evaluations" in text and "By people." in text
    assert card.front_matter(text)["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.7
    other = Store(tmp_path / "other")
    hub.pull(other, "ORG/rm@main", api=api(there))
    assert "By people." in (other.path(one.ref) / "README.md").read_text("utf-8")
    # What is judged there is in the card beside what people wrote.
    lines = [Line(one.ref, "accuracy", "all", 10, 0.9, 0.8, 1.0, 0, 0.5)]
    evaluated(other, one, "static-hhh", lines)
    text = (other.path(one.ref) / "README.md").read_text("utf-8")
    assert "By people." in text and "static-hhh" in text and verify(other, one.ref) == []
    # After a later version, main is that one's.
    push(store, there, publish("1.1.0", 1).ref, "ORG/rm")
    commits = len(repo.commits)
    evaluated(store, one, "static-hhh", lines)
    assert push(store, there, one.ref, "ORG/rm").action == "unchanged" and len(repo.commits) == commits


def test_a_push_from_elsewhere_does_not_undo_results(store: Store, there: Hub, tmp_path: Path) -> None:
    made = trained.publish(store, save_tiny_reward(tmp_path / "out"), trained.manifest("rm"))
    shutil.copytree(store.path(made.ref), tmp_path / "other" / "rm" / made.version)
    lines = [Line(made.ref, "accuracy", "overall", 10, 0.7, 0.4, 0.9)]
    data = [Pinned("ORG/data", "b" * 40, "data")]
    evaluated(store, made, "preference", lines, *data)
    push(store, there, made.ref, "ORG/rm")
    before = there.repos["model", "ORG/rm"].head
    assert b"## Evaluations" in before.files["README.md"].content
    assert push(Store(tmp_path / "other"), there, made.ref, "ORG/rm").action == "unchanged"
    assert there.repos["model", "ORG/rm"].head is before


@pytest.mark.parametrize("fault", ["500", "412", "cut", "lost"])
def test_where_the_cards_commit_broke_the_same_command_ends_right(
    store: Store, there: Hub, tmp_path: Path, fault: str
) -> None:
    made = trained.publish(store, save_tiny_reward(tmp_path / "out"), trained.manifest("rm"))
    push(store, there, made.ref, "ORG/rm")
    lines = [Line(made.ref, "accuracy", "all", 10, 0.7)]
    evaluated(store, made, "static-hhh", lines)
    repo = there.repos["model", "ORG/rm"]
    commits = len(repo.commits)
    failed: list[str] = []

    def once(number: int, method: str, path: str) -> str | None:
        if "/commit/" in path and not failed:
            failed.append(path)
            return fault
        return None

    there.fault = once
    assert push(store, there, made.ref, "ORG/rm").action in ("card", "unchanged")
    assert failed and len(repo.commits) == commits + 1
    assert b"## Evaluations" in repo.head.files["README.md"].content


# --- other projects, and the command line --------------------------------------------------------------


def test_the_commands_say_what_they_did_and_never_the_token(store: Store, there: Hub, tmp_path: Path) -> None:
    root = ("--root", str(store.root))
    other = ("--root", str(tmp_path / "other"))
    broken = iter(["500", "lost"])
    there.fault = lambda number, method, path: next(broken, None) if "/commit/" in path else None
    runs = [
        (0, "is tagged now", command(there, tmp_path, "push", "responses@1.0.0", "--repo", REPO, *root)),
        (0, "no commit", command(there, tmp_path, "push", "responses@1.0.0", "--repo", REPO, *root)),
        (0, "verified", command(there, tmp_path, "pull", f"{REPO}@v1.0.0", *other)),
        (0, "agree", command(there, tmp_path, "verify", f"{REPO}@v1.0.0", *other)),
        (2, "no such revision", command(there, tmp_path, "pull", f"{REPO}@v7.0.0", *other)),
        (
            2,
            "hf auth login",
            command(there, tmp_path, "push", "responses@1.1.0", "--repo", REPO, *root, token="hf_Bad"),
        ),
    ]
    for code, said, done in runs:
        out = done.stdout + done.stderr
        assert done.returncode == code and said in " ".join(out.split()), out
        assert TOKEN not in out and "hf_Bad" not in out and "Traceback" not in out
        assert "127.0.0.1" not in out
    texts = [file.read_bytes() for root in (store.root, tmp_path / "other") for file in root.rglob("*.*")
             if file.is_file()]  # fmt: skip
    assert not any(TOKEN.encode() in text for text in texts)
    assert not any(TOKEN.encode() in content for content in there.files(REPO).values())


@pytest.mark.skipif(bool(OTHER), reason="starts this file anew")
def test_the_same_tests_run_against_a_hub_of_the_environment() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hub_server"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin and server.stdout
        named = {"ALMOST_DATA_TEST_HUB": server.stdout.readline().strip(), "ALMOST_DATA_TEST_ORG": "tester"}
        words = ["-q", "-rs", "-k", "one_commit_with or stale or who_may", str(Path(__file__))]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=Path(__file__).parents[2],
            env=os.environ | named | {"HF_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            check=False,
        )
        server.stdin.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 3 skipped" in done.stdout and "ALMOST_DATA_TEST_HUB is another one" in done.stdout
