"""What is pulled is what was pushed; anything else is refused in one line."""

import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almost_data import hub, registry
from almost_data.cli.app import main
from almost_data.errors import InputError
from almost_data.hub import client
from almost_data.run import build, importing
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.forged import edit
from tests.hub.pushes import COPY, REPO, api, command, environment, is_whole, push, shard
from tests.hub_server import Hub


def test_what_is_pulled_is_what_was_pushed(
    store: Store, server: Hub, tmp_path: Path, printed: io.StringIO
) -> None:
    done = push(store, server)
    push(store, server, "responses@1.1.0")
    target = Store(tmp_path / "other")
    pulled = hub.pull(target, f"{REPO}@v1.0.0", api=api(server, token=False))
    assert (pulled.ref, pulled.action, pulled.place.commit) == ("responses@1.0.0", "fetched", done.commit)
    assert verify(target, "responses@1.0.0") == [] and target.refs() == ["responses@1.0.0"]
    assert hub.place(target, "responses@1.0.0") == pulled.place
    assert not list((target.root / ".staging").iterdir())
    assert hub.pull(target, f"{REPO}@{done.commit}", api=api(server)).action == "unchanged"
    assert hub.pull(target, REPO, api=api(server)).ref == "responses@1.1.0"
    main(["lineage", "responses@1.0.0", "--root", str(target.root)])
    assert f"{REPO}@{done.commit} commit {done.commit[:12]}" in printed.getvalue()
    # And pushed from there, it is the same version.
    assert push(target, server).action == "unchanged"
    again = push(target, server, repo=COPY)
    assert is_whole(store, "responses@1.0.0", server.files(COPY, again.commit))
    text = server.files(COPY)["README.md"].decode()
    assert text.count("almost_data: begin") == 1
    assert f'load_dataset("{COPY}", revision="v1.0.0"' in text and f'"{REPO}"' not in text
    assert 'load_dataset("build/' not in text and "wherever it is" not in text
    local = (target.path("responses@1.0.0") / "README.md").read_text("utf-8")
    assert 'load_dataset("build/responses/1.0.0"' in local and f'load_dataset("{REPO}"' not in local


def test_another_one_of_that_name_is_not_overwritten(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    target = Store(tmp_path / "other")
    (tmp_path / "r.jsonl").write_text('{"prompt": "Why?", "a": "So it is, and so it was.", "b": "So."}\n')
    before = importing.import_responses(target, str(tmp_path / "r.jsonl"), ["a", "b"], "1.0.0")
    with pytest.raises(InputError, match="with another content"):
        hub.pull(target, REPO, api=api(server))
    assert target.manifest("responses@1.0.0") == before


def test_a_tampered_file_is_not_taken(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    files = server.files(REPO)
    shards = sorted(path for path in files if path.startswith("data/good/train"))
    server.put(REPO, {shards[0]: files[shards[1]]})
    target = Store(tmp_path / "other")
    with pytest.raises(InputError, match="does not agree"):
        hub.pull(target, REPO, api=api(server))
    assert target.refs() == [] and not list((target.root / ".staging").iterdir())
    assert hub.verify(target, REPO, api=api(server)) and not hub.verify(
        target, f"{REPO}@v1.0.0", api=api(server)
    )


@pytest.mark.parametrize(
    "path", ["data/../../evil.parquet", "../manifest.json", "a//b.json", "x\\..\\y.json"]
)
def test_a_name_that_leads_elsewhere_is_refused(store: Store, server: Hub, tmp_path: Path, path: str) -> None:
    push(store, server)
    server.put(REPO, {path: b"x"})
    with pytest.raises(InputError, match="is not a valid file name"):
        hub.pull(Store(tmp_path / "other"), REPO, api=api(server))
    assert not list(tmp_path.rglob("evil*")) and not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    "change", [{"version": "../../x"}, {"name": "../x"}, {"kind": "model"}, {"name": "hub"}]
)
def test_a_manifest_does_not_choose_the_folder(
    store: Store, server: Hub, tmp_path: Path, change: dict[str, str]
) -> None:
    push(store, server)
    record = json.loads(server.files(REPO)["manifest.json"]) | change
    server.put(REPO, {"manifest.json": json.dumps(record).encode()})
    with pytest.raises(InputError):
        hub.pull(Store(tmp_path / "other"), REPO, api=api(server))
    assert not [file for file in (tmp_path / "other").rglob("*") if file.is_file()]


def test_only_files_of_an_artifact_are_fetched(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    server.put(
        REPO, {"load.py": b"boom", "data/good/x.pkl": b"boom", "setup.sh": b"boom", "pages/a.html": b"x"}
    )
    target = Store(tmp_path / "other")
    hub.pull(target, REPO, api=api(server))
    suffixes = {file.suffix for file in target.path("responses@1.0.0").rglob("*") if file.is_file()}
    assert suffixes == {".md", ".json", ".png", ".parquet"}
    assert not any(path.endswith(("load.py", ".pkl", ".sh", ".html")) for _, path in server.recorded)


PULL = """
import sys
from almost_data.cli import app as cli
for repo in sys.argv[2:]:
    code = 0
    try:
        cli.main(["pull", repo, "--root", f"{sys.argv[1]}/{repo}"])
    except SystemExit as end:
        code = end.code
    print("code", code)
# ru_maxrss would count what the process that started this one held.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024, flush=True)
"""
REFUSED = {
    "page": "row group 0 would take 300 MB or more",
    "dictionary": "row group 0 would take",
    "prefix": "a page of response is malformed",
    "rows": "3,000 rows; the manifest has",
    "columns": "columns are not those of the schema",
}
"""A file that grows -> why it is not read."""


def bomb(kind: str, table: pa.Table) -> pa.Table:
    """Rows of a responder, of which a few kB of a file stand for hundreds of MB or more."""
    rows = {name: table[name] for name in table.column_names}
    if kind == "page":  # one byte, 300 million times
        rows = {name: values.slice(0, 1) for name, values in rows.items()}
        rows["response"] = pa.chunked_array([["a" * 300_000_000]])
    elif kind == "dictionary":  # one entry of 8 MB for every row
        indices = pa.array([0] * len(table), pa.int32())
        rows["response"] = pa.chunked_array([pa.DictionaryArray.from_arrays(indices, ["a" * 8_000_000])])
    elif kind == "prefix":  # all but the first text is what that one begins with
        rows["response"] = pa.chunked_array([["a" * 1_000_000] * len(table)])
    elif kind == "rows":
        rows = {name: pa.chunked_array([values.chunks[0][:1]] * 3000) for name, values in rows.items()}
    elif kind == "columns":
        rows |= {f"x{n}": rows["rank"] for n in range(2000)}
    return pa.table(rows)


@pytest.mark.crash
def test_files_that_grow_are_refused_before_they_do(store: Store, server: Hub, tmp_path: Path) -> None:
    repos = [f"ORG/{kind}" for kind in ("none", *REFUSED)]
    for repo in repos:
        push(store, server, repo=repo)
    path, folder = shard(store), store.path("responses@1.0.0")
    table = pq.read_table(folder / path)
    for kind in REFUSED:
        how: dict[str, Any] = {"compression": "zstd", "dictionary_pagesize_limit": 2**30}
        if kind == "prefix":
            how |= {"use_dictionary": False, "column_encoding": {"response": "DELTA_BYTE_ARRAY"}}
        pq.write_table(bomb(kind, table), folder / path, store_schema=False, **how)
        assert (folder / path).stat().st_size < 1_000_000
        edit(folder)
        files = {name: (folder / name).read_bytes() for name in (path, "manifest.json")}
        server.put(f"ORG/{kind}", files)
    command = [sys.executable, "-c", PULL, str(tmp_path), *repos]
    variables = environment(server, tmp_path)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    *codes, peak = [line for line in done.stdout.splitlines() if line.startswith("code ") or line.isdigit()]
    assert int(peak) < 300, "MiB"
    assert codes == ["code 0"] + ["code 2"] * len(REFUSED), done.stderr
    for line, expected in zip(done.stderr.splitlines(), REFUSED.values(), strict=True):
        assert expected in line
    assert [repo for repo in repos if Store(tmp_path / repo).refs()] == ["ORG/none"]


def test_what_is_not_ours_or_not_there_is_one_line(server: Hub, tmp_path: Path) -> None:
    server.put("ORG/plain", {"README.md": b"# x\n"})
    server.put("ORG/large", {"manifest.json": b" " * (client.MAX_MANIFEST + 1)})
    server.put("ORG/odd", {"manifest.json": b"{}"})
    server.put("ORG/deep", {"manifest.json": b'{"config":{"a":' + b"[" * 1_000_000})
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
            hub.pull(Store(tmp_path / "other"), where, api=api(server))


def test_a_wrong_etag_decides_nothing(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    server.fault = lambda *_: "etag"
    target = Store(tmp_path / "other")
    hub.pull(target, REPO, api=api(server))
    assert verify(target, "responses@1.0.0") == []


@pytest.mark.parametrize("fault", ["half", "cut", "500"])
def test_a_pull_that_broke_goes_on(store: Store, server: Hub, tmp_path: Path, fault: str) -> None:
    client.RETRY_WAITS = ()  # type: ignore[assignment]  # set back by the fixture
    push(store, server)
    target = Store(tmp_path / "other")
    begin = len(server.recorded)
    server.fault = lambda number, method, path: fault if number - begin in (30, 31) else None
    for _ in range(4):
        try:
            hub.pull(target, REPO, api=api(server))
            break
        except RuntimeError as error:
            assert "http" not in str(error) and target.refs() == [], "a path may be signed"
    assert verify(target, "responses@1.0.0") == []


@pytest.mark.crash
def test_what_a_dead_pull_left_goes_with_the_next_one(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    push(store, server, "responses@1.1.0", COPY)
    target = Store(tmp_path / "other")
    words = ["pull", REPO, "--root", str(target.root)]

    def staged() -> list[str]:
        return [folder.name for folder in target.root.glob(".staging/*")]

    def stop(number: int, method: str, path: str) -> str | None:
        return "slow" if f"/{REPO}/resolve/" in path and path.endswith(".parquet") else None

    server.fault = stop
    with subprocess.Popen(
        [sys.executable, "-m", "almost_data", *words],
        env=environment(server, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not list(target.root.glob(".staging/*/responses/1.0.0/data/*")):
            assert process.poll() is None
            time.sleep(0.02)
        [staging] = staged()
        # It is in use, so it stays.
        hub.pull(target, COPY, api=api(server))
        assert staged() == [staging] and process.poll() is None
        process.kill()
    shutil.rmtree(target.path("responses@1.1.0"))
    hub.pull(target, COPY, api=api(server))
    assert staged() == [] and target.refs() == ["responses@1.1.0"]


def test_a_build_stands_on_what_is_on_the_hub(store: Store, server: Hub, tmp_path: Path) -> None:
    first = push(store, server)
    target = Store(tmp_path / "other")
    words = ["build", "comparisons", "--version", "2.0.0", "--engine", "transformers"]
    words += ["--root", str(target.root), "--from"]
    done = command(server, tmp_path, *words, f"{REPO}@v1.0.0")
    assert done.returncode == 0, done.stderr
    [parent] = target.manifest("comparisons@2.0.0").parents
    assert (parent.ref, parent.digest) == ("responses@1.0.0", store.manifest("responses@1.0.0").digest)
    where = hub.place(target, parent.ref)
    assert where and (where.repo, where.commit) == (REPO, first.commit)
    unpinned = command(server, tmp_path, *words, REPO)
    assert unpinned.returncode == 2 and "name a tag or a commit" in unpinned.stderr


OPENINGS = """
from polars import col
from almost_data import Builder, Built, Column, Config, Filter, Table, apply_filters, last_turn


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
    opening = last_turn("prompt").str.split(" ").list.head(config.words).list.join(" ").alias("opening")
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
    store: Store, server: Hub, tmp_path: Path
) -> None:
    (tmp_path / "openings.py").write_text(OPENINGS)
    (tmp_path / "q.txt").write_text("Why is the sky blue?\nWhy is tea hot?\nWhat is a monad?\n")
    importing.import_queries(store, str(tmp_path / "q.txt"), "1.0.0")
    builder = registry.load("builders", f"{tmp_path / 'openings.py'}:BUILDER")
    run = build.prepare("transformers", root=store.root, version="1.0.0", builders=(builder,))
    assert run.build(builder)[-1].manifest.counts["default"]
    pushed = push(store, server, "openings@1.0.0", "ORG/openings")
    assert is_whole(store, "openings@1.0.0", server.files("ORG/openings", "v1.0.0"))
    target = ("--root", str(tmp_path / "other"))
    for words, expected in (
        (("pull", "ORG/openings@v1.0.0"), f"at commit {pushed.commit}"),
        (("verify", "openings@1.0.0"), "agree"),
        (("verify", "ORG/openings"), "agree"),
        (("show", "openings@1.0.0"), "rare"),
        (("lineage", "openings@1.0.0"), "queries@1.0.0"),
        (("list",), "openings"),
    ):
        done = command(server, tmp_path, *words, *target)
        assert done.returncode == 0 and expected in " ".join(done.stdout.split()), done.stdout + done.stderr
    pulled = Store(tmp_path / "other")
    assert pulled.scan("openings@1.0.0").collect()["opening"].to_list() == ["Why"]
    assert pulled.scan("openings@1.0.0", "rejected").collect()["reason"].to_list() == ["rare"]
