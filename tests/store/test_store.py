import fcntl
import os
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almost_data.datasets.builder import text_id
from almost_data.datasets.digest import Blocks, RowHasher, Rows, frames, ranges, splits
from almost_data.datasets.manifest import Manifest, decode_manifest, encode_manifest
from almost_data.datasets.tables import arrow_schema
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.models.chat import user_turn
from almost_data.run import build, presets
from almost_data.store.names import check_version, parse_ref
from almost_data.store.publish import Record, Tables, publish
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import schema
from tests.forged import edit

REFS = ["queries@0.1.0", "responses@0.1.0", "comparisons@0.1.0"]


def publish_rows(store: Store, manifest: Manifest, rows: Mapping[str, Rows]) -> Manifest:
    """Publish rows under the identity and the ledger of a manifest, with a card that says nothing."""
    record = Record(diagnostics=manifest.diagnostics, ledger=manifest.ledger)
    content = Tables(manifest.tables, rows)
    return publish(store, manifest, content, record, [], lambda _: {"README.md": b"-"})


def without_card(findings: list[str]) -> list[str]:
    return [finding for finding in findings if not finding.startswith("README")]


@pytest.mark.parametrize(
    "ref", ["x", "x@", "x@1", "x@1.0", "../x@1.0.0", "x@../1", "X@1.0.0", "x@1.0.0-", "x@01.0.0", "x@1.0.0\n"]
)
def test_bad_references_are_refused(ref: str) -> None:
    with pytest.raises(InputError):
        parse_ref(ref)


@pytest.mark.parametrize("version", ["0.1.0", "10.20.30", "1.0.0-beta-2"])
def test_versions(version: str) -> None:
    assert check_version(version) == version


def test_files_are_parquet_for_the_hub(fake_store: Store) -> None:
    file = fake_store.files("comparisons@0.1.0", "default", "train")[0]
    assert file.name == "train-00000-of-00001.parquet"
    assert pq.read_schema(file).equals(arrow_schema(schema.TABLES["comparisons"]["default"]))


def test_every_example_row_fits_its_schema() -> None:
    for dataset, tables in schema.TABLES.items():
        for config, table in tables.items():
            frame = schema.frame(dataset, config, [table.example])
            assert frame.to_arrow().cast(arrow_schema(table)).num_rows == 1
            assert set(table.key) <= set(table.names)


def test_no_query_is_in_two_splits_and_children_inherit_them(fake_store: Store) -> None:
    where: dict[str, set[str]] = {}
    for ref in REFS:
        for config in fake_store.configs(ref):
            for split in ("train", "test"):
                for query in fake_store.scan(ref, config, split).collect()["query_id"]:
                    where.setdefault(query, set()).add(split)
    assert {len(splits_of_query) for splits_of_query in where.values()} == {1}


def test_test_split_is_five_percent() -> None:
    rng = random.Random(0)
    frame = pl.DataFrame({"query_id": [f"{rng.getrandbits(64):016x}" for _ in range(20_000)]})
    assert len(splits(frame)["test"]) / len(frame) == pytest.approx(0.05, abs=0.005)


def test_digest_ignores_row_order_and_sees_every_cell(fake_store: Store) -> None:
    for ref in REFS:
        name = ref.split("@")[0]
        manifest = fake_store.manifest(ref)
        tables = {config: fake_store.scan(ref, config).collect() for config in fake_store.configs(ref)}
        shuffled = {config: rows.sample(fraction=1, shuffle=True, seed=1) for config, rows in tables.items()}
        assert schema.digest(manifest.tables, shuffled) == manifest.digest
        assert schema.digest(manifest.tables, dict(reversed(tables.items()))) == manifest.digest
        for config, frame in tables.items():
            table = schema.table(name, config)
            for column in table.columns:
                if column.name in ("query_id", *table.key):
                    continue
                reread = schema.frame(name, config, [table.example])[column.name]
                changed = frame.with_columns(pl.concat([reread, frame[column.name][1:]]))
                if not changed.equals(frame):
                    changed_digest = schema.digest(manifest.tables, tables | {config: changed})
                    assert changed_digest != manifest.digest, (config, column.name)


def test_digest_ignores_where_frames_end(fake_store: Store) -> None:
    tables = schema.TABLES["comparisons"]
    for ref, config in [("comparisons@0.1.0", "default"), ("comparisons@0.1.0", "rejected")]:
        rows = fake_store.scan(ref, config)
        whole = schema.digest(tables, {config: rows.collect()})
        for most in (1, 7, 10_000):
            parts = [part.collect() for part in ranges(rows, most)]
            assert sum(map(len, parts)) == rows.collect().height
            assert schema.digest(tables, {config: Blocks(lambda parts=parts: iter(parts))}) == whole
    first, second, *_ = [part.collect() for part in ranges(rows, 20)]
    with pytest.raises(ValueError, match="before the one before it ends"):
        schema.digest(tables, {"rejected": Blocks(lambda: iter([second, first]))})
    with pytest.raises(ValueError, match=r"same key query_id, chosen_reply_id, .* \('\w{16}', "):
        schema.digest(tables, {"rejected": pl.concat([first, first])})
    assert len(list(frames(first))) == 1


def test_large_tables_are_cut_into_shards_and_read_back(
    fake_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almost_data.store.rows.SHARD_BYTES", 20_000)
    manifest = fake_store.manifest("comparisons@0.1.0")
    tables = {c: fake_store.scan(manifest.ref, c) for c in fake_store.configs(manifest.ref)}
    blocks = {c: Blocks(lambda r=r: (part.collect() for part in ranges(r, 30))) for c, r in tables.items()}
    store = Store(tmp_path / "build")
    assert publish_rows(store, manifest, blocks).digest == manifest.digest
    files = store.files(manifest.ref, "default", "train")
    assert len(files) > 2
    assert all(file.name.endswith(f"-of-{len(files):05d}.parquet") for file in files)
    rows, same_rows = (of.scan(manifest.ref).collect().sort("comparison_id") for of in (store, fake_store))
    assert rows.equals(same_rows)
    assert without_card(verify(store, manifest.ref)) == []


@pytest.mark.parametrize("part", [3000, 10**9])
def test_verify_reads_rows_in_any_order_in_parts(
    fake_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr("almost_data.store.rows.SHARD_BYTES", 20_000)
    monkeypatch.setattr("almost_data.store.rows.ROW_GROUP", 7)
    manifest = fake_store.manifest("comparisons@0.1.0")
    tables = {c: fake_store.scan(manifest.ref, c).collect() for c in fake_store.configs(manifest.ref)}
    shuffled = {c: rows.sample(fraction=1, shuffle=True, seed=1) for c, rows in tables.items()}
    store = Store(tmp_path / "build")
    assert publish_rows(store, manifest, shuffled).digest == manifest.digest
    monkeypatch.setattr("almost_data.store.verify_rows.PART_BYTES", part)
    assert without_card(verify(store, manifest.ref)) == []
    monkeypatch.setattr("almost_data.store.verify_rows.MAX_PART", 100)
    assert any("have to be read at once" in line for line in verify(store, manifest.ref))


@pytest.mark.parametrize("is_read", [True, False])
def test_a_long_row_is_read_where_the_file_has_bytes_for_it(
    fake_store: Store, tmp_path: Path, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almost_data.store.publish.ledger_problems", lambda *_: [])
    query = random.Random(1).randbytes(10_000_000).hex() if is_read else "a" * 20_000_000
    manifest = fake_store.manifest("queries@0.1.0")
    tables = {config: fake_store.scan(manifest.ref, config).collect() for config in ("default", "rejected")}
    tables["default"] = tables["default"][:1].with_columns(
        prompt=pl.Series([user_turn(query)], dtype=tables["default"].schema["prompt"])
    )
    store = Store(tmp_path / "build")
    publish_rows(store, manifest, tables)
    problems = verify(store, manifest.ref)
    assert any("row group 0 would take" in line for line in problems) != is_read
    assert not any(line.startswith("digest") for line in problems)


def test_digest_tells_null_from_empty_and_where_text_is_cut() -> None:
    def of(*texts: str | None) -> str:
        same = {"query_id": "00", "source": "mined", "reason": "x", "nearest": None, "score": 0}
        rows = [same | {"query": text, "candidate": i} for i, text in enumerate(texts)]
        frame = schema.frame("queries", "rejected", rows)
        return schema.digest(schema.TABLES["queries"], {"rejected": frame})

    assert len({of(""), of(None), of("ab", "c"), of("a", "bc"), of("abc", "")}) == 5


Harm = Callable[[Path], object]


def shard(folder: Path) -> Path:
    return next((folder / "data" / "default").glob("train-*"))


def rows_changed(change: Callable[[pa.Table], pa.Table]) -> Harm:
    return lambda folder: pq.write_table(change(pq.read_table(shard(folder))), shard(folder))


def manifest_changed(change: Callable[[Manifest], dict[str, object]]) -> Harm:
    def harm(folder: Path) -> None:
        file = folder / "manifest.json"
        manifest = decode_manifest(file.read_bytes(), "")
        file.write_bytes(encode_manifest(msgspec.structs.replace(manifest, **change(manifest))))

    return harm


def first_entry(manifest: Manifest, **changes: object) -> dict[str, object]:
    return {"ledger": [msgspec.structs.replace(manifest.ledger[0], **changes), *manifest.ledger[1:]]}


def renamed_reason(manifest: Manifest) -> dict[str, object]:
    return first_entry(manifest, dropped={"other": sum(manifest.ledger[0].dropped.values())})


def copy_rows(folder: Path) -> None:
    shutil.copytree(folder / "data" / "default", folder / "data" / "more")


def rename_a_config(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("default", "other"))


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (rows_changed(lambda rows: rows.take([0, *range(len(rows) - 1)])), "same key"),
        (rows_changed(lambda rows: rows.set_column(0, rows.schema.field(0), rows["chosen"])), "digest"),
        (rows_changed(lambda rows: rows.slice(1)), "counts"),
        (lambda folder: shard(folder).unlink(), "counts"),
        (lambda folder: shard(folder).write_bytes(b"PAR1 nothing PAR1"), "cannot be used"),
        (copy_rows, "not in the manifest"),
        (lambda folder: next(folder.glob("plots/*.png")).unlink(), "plots/"),
        (lambda folder: (folder / "evil.py").write_text("1"), "evil.py: not part of an artifact"),
        (rename_a_config, "README.md"),
        (manifest_changed(lambda manifest: first_entry(manifest, kept=0)), "ledger"),
        (manifest_changed(renamed_reason), "rows too_short"),
        (manifest_changed(lambda manifest: {"config": manifest.config | {"settings": {}}}), "fingerprint"),
    ],
)
def test_verify_names_every_kind_of_damage(copy: Store, harm: Harm, problem: str) -> None:
    harm(copy.path("comparisons@0.1.0"))
    problems = verify(copy, "comparisons@0.1.0")
    assert any(problem in line for line in problems), problems


def test_a_copied_folder_is_not_another_version(copy: Store) -> None:
    shutil.copytree(copy.path("queries@0.1.0"), copy.root / "queries" / "0.2.0")
    with pytest.raises(InputError, match=r"says it is queries@0\.1\.0"):
        copy.manifest("queries@0.2.0")


def test_an_artifact_that_names_itself_as_its_parent_has_an_end(copy: Store) -> None:
    manifest = copy.manifest("responses@0.1.0")
    parents = [*manifest.parents, msgspec.structs.replace(manifest.parents[0], ref=manifest.ref)]
    edit(copy.path(manifest.ref), parents=parents)
    ancestors = copy.ancestors(copy.manifest("comparisons@0.1.0"))
    assert [ancestor.ref for ancestor in ancestors] == ["responses@0.1.0", "queries@0.1.0"]


def test_counts_of_responses_default_are_the_sum(fake_store: Store) -> None:
    tables = {
        c: fake_store.scan("responses@0.1.0", c).collect() for c in fake_store.configs("responses@0.1.0")
    }
    hasher = RowHasher(fake_store.manifest("responses@0.1.0").tables)
    for config, frame in tables.items():
        for split, rows in splits(frame).items():
            hasher.add(config, split, rows)
    by_config = hasher.counts()
    assert next(iter(by_config)) == "default"
    total = sum(by_config["default"].values())
    assert total == sum(len(rows) for config, rows in tables.items() if config != "rejected")
    assert fake_store.scan("responses@0.1.0").collect().height == total


def test_rows_are_hashed_while_they_are_written_and_an_error_of_the_hasher_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    add = RowHasher.add

    def added(hasher: RowHasher, config: str, split: str, rows: pl.DataFrame) -> None:
        threads.append(threading.current_thread())
        add(hasher, config, split, rows)

    monkeypatch.setattr(RowHasher, "add", added)
    queries = schema.frame("queries", "default", [{"query_id": text_id("?"), "prompt": user_turn("?")}])
    assert Tables(schema.TABLES["queries"], {"default": queries}).write(tmp_path / "a").counts
    assert threads and threading.main_thread() not in threads
    with pytest.raises(ValueError, match="two rows have the same key"):
        Tables(schema.TABLES["queries"], {"default": pl.concat([queries, queries])}).write(tmp_path / "b")


def test_a_forked_child_holds_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has copies of the descriptors of its parent."""
    flock, copies = fcntl.flock, list[int]()

    def copied(file: IO[str], operation: int) -> None:
        copies.append(os.dup(file.fileno()))
        flock(file, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", copied)
        with Store(tmp_path).lock("queries@1.0.0"):
            pass
    with Store(tmp_path).lock("queries@1.0.0"):
        list(map(os.close, copies))


@pytest.mark.parametrize("name", ["{:016x}".format, str, lambda number: text_id(str(number))])
def test_ranges_are_short_also_where_ids_are_close(name: Callable[[int], str]) -> None:
    """A limit takes the lowest ids, which are no sample of all."""
    ids = sorted(name(number) for number in range(20) for _ in range(number % 4))
    rows = pl.LazyFrame({"query_id": ids})
    parts = [part.collect() for part in ranges(rows, 5)]
    assert pl.concat(parts).equals(rows.collect())
    assert len(parts) == 6 and max(map(len, parts)) < 5 + 3


def test_what_killed_processes_left_is_deleted_and_what_others_use_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    killed = (f"{REFS[0]}.rows", f"{REFS[0]}.removed", REFS[0], f"{REFS[2]}.rows")
    fetched = f"hub-{'0' * 40}"
    for name in (*killed, fetched):
        (tmp_path / ".staging" / name / "default").mkdir(parents=True)
    with store.scratch(f"{REFS[1]}.rows") as running, store.scratch(f"{REFS[2]}.rows") as folder:
        assert list(folder.iterdir()) == []
        assert {path.name for path in folder.parent.iterdir()} == {running.name, folder.name, fetched}
    assert [path.name for path in folder.parent.iterdir()] == [fetched]


def test_a_dataset_is_on_the_disk_before_it_is_visible_and_then_its_name_is(
    tmp_path: Path, fake_preset: presets.Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut spares: the files and folders of the dataset, then the entries that lead to it."""
    synced: list[int] = []
    synced_at_rename: list[int] = []
    published: set[int] = set()
    fsync, rename, place = os.fsync, os.rename, tmp_path / "queries" / "0.1.0"

    def recorded_fsync(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    def recorded_rename(source: Path, target: Path) -> None:
        if Path(target) == place:
            published.update(path.stat().st_ino for path in (Path(source), *Path(source).rglob("*")))
            synced_at_rename.extend(synced)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    build.BuildRun(Store(tmp_path), "0.1.0", fake_preset, FakeEngine()).build("queries")
    assert len(published) > 5 and published <= set(synced_at_rename)
    assert [place.parent.stat().st_ino, tmp_path.stat().st_ino] == synced[len(synced_at_rename) :][:2]


def test_only_columns_of_few_values_have_a_dictionary(fake_store: Store) -> None:
    """One of texts is a large page that any new text changes, so that the Hub stores it anew."""
    row_group = pq.read_metadata(fake_store.files("comparisons@0.1.0", "default")[0]).row_group(0)
    columns = [row_group.column(n) for n in range(row_group.num_columns)]
    with_dictionary = {column.path_in_schema for column in columns if column.has_dictionary_page}
    assert with_dictionary == {
        *(f"{name}.list.element.role" for name in ("prompt", "chosen", "rejected")),
        *("chosen_responder", "rejected_responder"),
    }
    assert all(column.has_offset_index for column in columns)


def test_what_is_not_there_is_named_beside_what_is(fake_store: Store) -> None:
    def error(ref: str) -> str:
        with pytest.raises(InputError) as raised:
            fake_store.manifest(ref)
        return str(raised.value)

    assert "of that name there is queries@0.1.0; choose one of these" in error("queries@9.0.0")
    assert "no artifact has that name (did you mean 'responses'?): name one of" in error("response@0.1.0")
    assert "imported preferences are comparisons@7.0.0" in error("preferences@7.0.0")
    assert "name one of comparisons, queries, responses" in error("rm@7.0.0")
    assert error("ratings@7.0.0").endswith(": build or import it")
    with pytest.raises(InputError, match=r"no queries@2 under .*there is queries@0\.1\.0"):
        fake_store.resolve("queries@2")


@pytest.mark.parametrize("damage", ["manifest", "file"])
def test_rows_with_columns_that_the_manifest_lacks_are_refused(copy: Store, damage: str) -> None:
    """Although every hash agrees: whoever edited it knew the format."""
    folder = copy.path("comparisons@0.1.0")
    file = copy.files("comparisons@0.1.0", "rejected")[0]
    if damage == "file":
        pl.read_parquet(file).rename(lambda name: f"{name}_").write_parquet(file)
        edit(folder)
    else:
        tables = dict(copy.manifest("comparisons@0.1.0").tables)
        columns = tables["rejected"].columns
        renamed = (*columns[:-1], msgspec.structs.replace(columns[-1], name="renamed"))
        tables["rejected"] = msgspec.structs.replace(tables["rejected"], columns=renamed)
        edit(folder, tables=tables)
    with pytest.raises(InputError, match=f"^{file}: its columns are not those of manifest.json"):
        copy.scan("comparisons@0.1.0", "rejected")
