"""A version is pushed whole or not at all, as one commit with a tag."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from almost_data import hub
from almost_data.cards import merging
from almost_data.cli.app import main
from almost_data.errors import InputError
from almost_data.run import importing
from almost_data.store.store import Store
from tests.hub.pushes import FOREIGN, REPO, api, environment, is_whole, push, shard
from tests.hub_server import TOKEN, Hub


def test_a_version_is_one_commit_with_its_tag(store: Store, server: Hub) -> None:
    progress: list[tuple[int, int]] = []
    done = push(store, server, progress=lambda *at: progress.append(at))
    digest = store.manifest("responses@1.0.0").digest
    assert server.titles(REPO) == [f"responses@1.0.0, digest {digest[:12]}"]
    head = api(server).dataset_info(REPO)
    assert server.tags(REPO) == {"v1.0.0": head.sha} and done.commit == head.sha
    assert is_whole(store, "responses@1.0.0", server.files(REPO)) and not head.private
    assert ".gitattributes" in server.files(REPO)
    assert progress[0][0] == 0 and progress[-1][0] == progress[-1][1] > 0
    place = hub.Place("dataset", REPO, "v1.0.0", done.commit, digest)
    assert hub.place(store, "responses@1.0.0") == place


def test_stale_files_go_with_the_commit_and_what_people_added_stays(store: Store, server: Hub) -> None:
    push(store, server)
    by_hand = {"notes.md": b"mine", "data/extra.csv": b"a,b\n", ".gitattributes": b"# changed\n"}
    server.put(REPO, by_hand)
    first = server.files(REPO)
    done = push(store, server, "responses@1.1.0")
    last = server.files(REPO)
    assert len(server.titles(REPO)) == 3
    assert {shard(store), "data/good/test-00000-of-00001.parquet"} <= first.keys()
    assert shard(store) in done.deleted and any(path.startswith("data/good/") for path in done.deleted)
    assert is_whole(store, "responses@1.1.0", last) and by_hand.items() <= last.items()
    assert is_whole(store, "responses@1.0.0", server.files(REPO, "v1.0.0"))


def test_the_same_content_again_is_no_commit_and_sends_nothing(store: Store, server: Hub) -> None:
    first = push(store, server)
    sent: list[tuple[int, int]] = []
    again = push(store, server, progress=lambda *at: sent.append(at))
    assert (again.action, again.commit) == ("unchanged", first.commit)
    assert len(server.titles(REPO)) == 1 and not sent
    # Also after a later version: it does not take main back.
    push(store, server, "responses@1.1.0")
    assert push(store, server).action == "unchanged"
    assert is_whole(store, "responses@1.1.0", server.files(REPO))


def test_a_tag_with_other_content_is_refused_before_anything_is_sent(store: Store, server: Hub) -> None:
    push(store, server)
    shutil.rmtree(store.path("responses@1.0.0"))
    rows = store.root / "rows.jsonl"
    rows.write_text('{"prompt": "Why?", "a": "So it is, and so it was.", "b": "So."}\n')
    importing.import_responses(store, str(rows), ["a", "b"], "1.0.0")
    sent: list[tuple[int, int]] = []
    tags = server.tags(REPO)
    with pytest.raises(InputError, match=r"v1\.0\.0 exists with other content"):
        push(store, server, progress=lambda *at: sent.append(at))
    assert not sent and server.tags(REPO) == tags


def test_main_does_not_go_back_and_a_repository_holds_one_thing(
    store: Store, server: Hub, tmp_path: Path
) -> None:
    push(store, server, "responses@1.1.0")
    with pytest.raises(InputError, match=r"is at 1\.1\.0 already"):
        push(store, server, "responses@1.0.0")
    (tmp_path / "q.txt").write_text("Why is the sky blue?\nWhat is a monad?\n")
    importing.import_queries(store, str(tmp_path / "q.txt"), "1.0.0")
    with pytest.raises(InputError, match="holds responses, not queries: push to another"):
        push(store, server, "queries@1.0.0")
    (tmp_path / "q.txt").write_text("Why is the sky green?\nWhat is a functor?\n")
    importing.import_queries(store, str(tmp_path / "q.txt"), "1.1.0")
    with pytest.raises(InputError, match="holds responses, not queries: push to another"):
        push(store, server, "queries@1.1.0")
    server.put(FOREIGN, {"data/default/train-00000-of-00001.parquet": b"PAR1"})
    with pytest.raises(InputError, match="did not push"):
        push(store, server, "queries@1.0.0", FOREIGN)


@pytest.mark.parametrize(
    "repo",
    ["responses", "ORG/a/b", "../x", "ORG/..", "ORG/a--b", "ORG/x.git", "-x/y", "ORG/é", "ORG/x y", ""],
)
def test_bad_repository_names_are_refused_offline(repo: str, store: Store) -> None:
    with pytest.raises(InputError, match="is not a valid repository name"):
        hub.plan(store, "responses@1.0.0", repo)


def test_the_folder_of_an_artifact_is_not_taken_for_a_repository(store: Store) -> None:
    with pytest.raises(InputError, match=r"is a folder, .*: write responses@1\.0\.0"):
        hub.plan(store, "responses@1.0.0", "build/responses/1.0.0")


def test_fake_text_is_never_published(fake_store: Store, server: Hub) -> None:
    with pytest.raises(InputError, match="fake engine"):
        push(fake_store, server, "comparisons@0.1.0", "ORG/comparisons")
    assert not server.recorded


def test_a_damaged_artifact_is_never_published(store: Store, server: Hub) -> None:
    file = next(store.path("responses@1.0.0").glob("data/good/*.parquet"))
    file.write_bytes(next(store.path("responses@1.1.0").glob("data/good/*.parquet")).read_bytes())
    with pytest.raises(InputError, match="is damaged"):
        push(store, server)
    assert not server.recorded


def test_private_is_private_and_a_public_one_is_refused(store: Store, server: Hub) -> None:
    push(store, server, private=True)
    assert api(server).dataset_info(REPO).private
    with pytest.raises(InputError, match="not on the Hub"):
        hub.pull(Store(store.root / "x"), REPO, api=api(server, token=False))
    api(server).update_repo_settings(REPO, private=False, repo_type="dataset")
    with pytest.raises(InputError, match="is public"):
        push(store, server, "responses@1.1.0", private=True)


@pytest.mark.parametrize(
    ("token", "repo", "match"),
    [(False, REPO, "hf auth login"), ("hf_wrong", REPO, "hf auth login"), (TOKEN, "OTHER/x", "may not")],
)
def test_who_may_not_write_is_told_so(
    store: Store, server: Hub, token: str | bool, repo: str, match: str
) -> None:
    with pytest.raises(InputError, match=match) as raised:
        hub.push(store, "responses@1.0.0", repo, api=api(server, token))
    assert "127.0.0.1" not in str(raised.value) and "hf_w" not in str(raised.value)


def test_xet_sends_chunks_and_those_only_once(store: Store, server: Hub, tmp_path: Path) -> None:
    server.chunks = tmp_path / "chunks"
    server.chunks.mkdir()
    variables = environment(server, tmp_path) | {"HF_HUB_DISABLE_XET": "0"}
    sent = []
    for repo in (REPO, "ORG/copy"):
        words = ["push", "responses@1.0.0", "--repo", repo, "--root", str(store.root)]
        subprocess.run([sys.executable, "-m", "almost_data", *words], env=variables, check=True)
        assert is_whole(store, "responses@1.0.0", server.files(repo, "v1.0.0"))
        chunks = [file.stat().st_size for file in server.chunks.rglob("default.*")]
        sent.append(sum(chunks))
    assert server.received == 0, "something went by LFS"
    assert 0 < sent[0] == sent[1]


def test_a_hub_without_xet_says_how_to_go_without(store: Store, server: Hub, tmp_path: Path) -> None:
    words = ["push", "responses@1.0.0", "--repo", REPO, "--root", str(store.root)]
    variables = environment(server, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "almost_data", *words],
        env=variables | {"HF_HUB_DISABLE_XET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    host = server.endpoint.removeprefix("http://")
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == (
        f"almost-data: {REPO}: the request to Xet storage ({host}) failed (answer 404): "
        f"set HF_HUB_DISABLE_XET=1 to go without Xet; {REPO} was created for it, and may be empty until then"
    )
    tries = [path for _, path in server.recorded if "xet-write-token" in path]
    assert len(tries) == 1, "what is not there is not retried"
    push(store, server)  # in this process, where conftest sets HF_HUB_DISABLE_XET
    assert is_whole(store, "responses@1.0.0", server.files(REPO, "v1.0.0"))


def test_a_dry_run_says_all_and_asks_nothing(store: Store, printed: io.StringIO, tmp_path: Path) -> None:
    main(["push", "responses@1.0.0", "--repo", REPO, "--dry-run", "--private", "--root", str(store.root)])
    out = printed.getvalue()
    assert shard(store).rpartition("/")[0] in out
    assert "manifest.json" in out and out.count("\n") <= 18 and merging.BEGIN not in out
    assert f"private dataset repository {REPO}" in out and "tag the commit v1.0.0" in out
    main(["push", "responses@1.0.0", "--repo", REPO, "--dry-run", "--card", "--root", str(store.root)])
    assert merging.BEGIN in printed.getvalue()
    assert not (store.root / "hub").exists()
