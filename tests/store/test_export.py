"""Files of rows: every format has the same rows and reads back, and a spreadsheet calculates none."""

import csv
import errno
import json
from pathlib import Path

import polars as pl
import pytest

from almost_data.errors import InputError
from almost_data.outputs import replacing
from almost_data.readers.preferences import read_preferences
from almost_data.store.export import escape_spreadsheet_cell, export
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.command import run as cli

REF = "comparisons@0.1.0"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "flat.csv"])
def test_every_format_reads_back_as_the_same_preferences(
    fake_store: Store, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    n = export(fake_store, REF, file, is_flat="flat" in name)
    read = [row.result[0] for row in read_preferences(str(file)).rows if isinstance(row.result, list)]
    stored = fake_store.scan(REF).collect()
    assert n == len(read) == len(stored)
    texts = {chosen[0]["content"] for chosen in stored["chosen"]}
    assert {pair.chosen.text for pair in read} == texts
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_says_where_it_replaced_a_file(fake_store: Store, tmp_path: Path) -> None:
    words = ("export", REF, "-o", str(tmp_path / "rows.csv"), "--root", str(fake_store.root))
    replaced = ["in place of the file that was there" in cli(*words).stdout for _ in range(2)]
    assert replaced == [False, True]


def test_dropped_rows_are_written_with_their_texts(fake_store: Store, tmp_path: Path) -> None:
    file = tmp_path / "dropped.jsonl"
    n = export(fake_store, REF, file, config="rejected", where="reason = 'already_chosen'")
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert n == len(rows) and all(row["chosen"] and row["reason"] == "already_chosen" for row in rows)


def test_a_flat_csv_has_no_formula(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    texts = ["=1+1", "-2+3", "a\n=HYPERLINK()", "plain"]
    rows = [{"prompt": f"{text}?", "chosen": text, "rejected": "no"} for text in texts]
    source.write_text("\n".join(map(json.dumps, rows)))
    assert (
        cli("import", "preferences", str(source), "--version", "1.0.0", "--root", str(store.root)).returncode
        == 0
    )
    file = tmp_path / "out.csv"
    export(store, "comparisons@1.0.0", file, is_flat=True)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        cells = [row["chosen"] for row in csv.DictReader(opened)]
    assert sorted(cells) == sorted(map(escape_spreadsheet_cell, texts)) != sorted(texts)
    export(store, "comparisons@1.0.0", tmp_path / "out.parquet", is_flat=True)
    assert sorted(pl.read_parquet(tmp_path / "out.parquet")["chosen"]) == sorted(texts)


@pytest.mark.parametrize(
    "arguments",
    ["-o a.txt", "-o nowhere/a.csv", "-o a.csv --config x", "-o a.csv --where x", "-o a.csv --to verl"],
)
def test_bad_exports_are_refused_and_leave_nothing(fake_store: Store, tmp_path: Path, arguments: str) -> None:
    done = cli("export", "comparisons", *arguments.split(), "--root", str(fake_store.root), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("Why is moss green?\n")
    root = ("--root", str(tmp_path / "build"))
    assert (
        "1 train, 0 test"
        in cli("import", "queries", "q.txt", "--version", "1.0.0", *root, cwd=tmp_path).stdout
    )
    done = cli("export", "queries", "-o", str(tmp_path / "a.jsonl"), *root)
    assert "split test has no row: no query of queries@1.0.0 falls into it" in done.stdout
    assert "1 `train`, 0 `test`" in (tmp_path / "build/queries/1.0.0/README.md").read_text("utf-8")


def test_a_dataset_of_which_every_row_was_dropped_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "q", "chosen": "a b", "rejected": "a"}\n')
    root, out = ("--root", str(tmp_path / "build")), ("-o", str(tmp_path / "out.jsonl"))
    cli("import", "preferences", "pairs.jsonl", *root, "--version", "1.0.0", cwd=tmp_path)
    words = ("--from", "comparisons", "--version", "1.0.0", "--max-length-gap", "1", *root)
    assert cli("build", "filtered", *words).returncode == 1
    line = "filtered@1.0.0 is empty, as every row was dropped: `sample filtered@1.0.0 --dropped any` shows"
    for words in (("audit",), ("export", *out), ("export", "--to", "verl", "-o", str(tmp_path / "new"))):
        done = cli(*words, "filtered", *root)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and line in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"build", "pairs.jsonl"}
    assert cli("sample", "filtered@1.0.0", "--dropped", "any", *root).returncode == 0
    assert cli("export", "filtered", "--config", "rejected", *out, *root).returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.ComputeError("parquet: underlying IO error: No space left (os error 28)"),
        OSError(28, "No space left"),
    ],
)
def test_a_full_disk_is_a_line_and_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    file = tmp_path / "a.parquet"
    line = f"export.out {file}: cannot be written: No space left: name a place elsewhere"
    with pytest.raises(InputError, match=f"^{line}$"), replacing(file, "export.out") as staging:
        staging.write_bytes(b"half")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refused)  # as for whoever is not root
    message = r"view\.out .*a\.html: cannot be written: Permission denied"
    with pytest.raises(InputError, match=message), replacing(tmp_path / "a.html", "view.out"):
        raise AssertionError


def test_a_file_in_no_folder_asks_for_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "absent" / "a.jsonl"
    with pytest.raises(InputError, match="make its folder first"), replacing(file, "export.out") as staging:
        staging.write_bytes(b"rows")


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("words", ["export REF -o FILE", "export REF --to verl -o DIR", "view REF -o PAGE"])
def test_no_output_goes_into_an_artifact(copy: Store, tmp_path: Path, words: str, is_link: bool) -> None:
    folder = copy.path(REF)
    data = next(folder.glob("data/default/*.parquet"))
    places = {"FILE": data, "DIR": folder / "new", "PAGE": folder / "page.html"}
    (tmp_path / "link").symlink_to(folder)
    for name, place in places.items():
        path = tmp_path / "link" / place.relative_to(folder) if is_link else place
        words = words.replace(name, str(path))
    done = cli(*words.replace("REF", REF).split(), "--root", str(copy.root), columns=300)
    assert done.returncode == 2 and f"belongs to {REF}, which never changes" in done.stderr
    assert verify(copy, REF) == []


def test_an_interrupted_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.csv", "export.out") as staging:
        staging.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
