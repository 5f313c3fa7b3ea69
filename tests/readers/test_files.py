"""Every format gives the same rows; what cannot be read is one line with its place and what to do."""

import gzip
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almost_data.errors import InputError
from almost_data.readers import benchmark_file, files
from almost_data.readers.files import TABLE_SUFFIXES, HubPart, read_rows, record
from tests.command import script
from tests.hub_server import serve

ROWS = [
    {"prompt": "What is\u2028this, or that?", "reply": 'He said: "no"\tand left\nat once'},
    {"prompt": "问？", "reply": "答。"},
    {"prompt": "", "reply": "-"},
]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(separator: str) -> bytes:
    cells = [["prompt", "reply"], *([row["prompt"], row["reply"]] for row in ROWS)]
    lines = (separator.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in cells)
    return "".join(f"{line}\r\n" for line in lines).encode()


TEXTS = {
    "a.jsonl": jsonl(ROWS),
    "a.ndjson": b"\xef\xbb\xbf" + jsonl(ROWS),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "lines.json": jsonl(ROWS),
    "a.csv": separated(","),
    "bom.csv": b"\xef\xbb\xbf" + separated(","),
    "a.tsv": separated("\t"),
    "commas.tsv": separated(","),
    "excel.csv": b"sep=;\r\n" + separated(";"),
    "blank.csv": b"\r\n,,\r\n" + separated(","),
    "data.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "indented.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "A.JSONL": jsonl(ROWS),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda text: text,
    ".gz": lambda text: gzip.compress(text[:30]) + gzip.compress(text[30:]),
    ".zst": lambda text: pa.Codec("zstd").compress(text, asbytes=True),
}


def read(source: Path | str, **options: Any) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(str(source), TABLE_SUFFIXES, **options)]


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_packed_or_not_gives_the_same_rows(tmp_path: Path, name: str, suffix: str) -> None:
    file = tmp_path / f"{name}{suffix}"
    file.write_bytes(PACKERS[suffix](TEXTS[name]))
    assert read(file) == ROWS
    assert set(record(str(file), TABLE_SUFFIXES)) == {"name", "sha256"}


def test_a_folder_is_its_files_in_order_and_known_by_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    (folder / "part").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name, rows in (("b.jsonl", ROWS[1:2]), ("a.jsonl", ROWS[:1]), ("part/c.jsonl", ROWS[2:])):
        (folder / name).write_bytes(jsonl(rows))
    (folder / "README.md").write_text("about", "utf-8")
    (folder / ".cache" / "d.jsonl").write_bytes(jsonl(ROWS))
    assert read(folder) == ROWS
    before = record(str(folder), TABLE_SUFFIXES)
    (folder / "part" / "c.jsonl").write_bytes(jsonl(ROWS[1:]))
    after = record(str(folder), TABLE_SUFFIXES)
    assert before["name"] == after["name"] == "pairs" and before["sha256"] != after["sha256"]
    (folder / "d.csv").write_bytes(TEXTS["a.csv"])
    with pytest.raises(InputError, match=r"a folder of \.csv and \.jsonl: give one file, or one format"):
        read(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no file in this folder"):
        read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": NaN}\n', r"a\.jsonl:2: NaN is not JSON: write null"),
        ("a.jsonl", b'{"a": [-Infinity]}\n', r"a\.jsonl:1: -Infinity is not JSON: write null"),
        ("a.jsonl", b'{"a": 1e999}\n', r"a\.jsonl:1: a number too large for a float"),
        (
            "a.jsonl",
            b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
            r"a\.jsonl:1: JSON that is nested too deep",
        ),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: not a JSON object: write one"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl:1: not UTF-8 text"),
        (
            "a.jsonl",
            b'{"a": "b"}\n{"a": "1", "b": {"a": 0}, "a": "2"}\n',
            r"a\.jsonl:2: two values of 'a': rename",
        ),
        ("a.jsonl", b'{"b": [{"a": 1, "a": 2}]}', r"a\.jsonl:1: two values of 'a': rename"),
        ("a.jsonl", b'{"b": {"a" : 1, "\\u0061"\t: 2}}', r"a\.jsonl:1: two values of 'a': rename"),
        ("a.json", b'[{"a": 1}, {"a": 1, "b": {"c": 1, "c": 1}}]', r"a\.json: two values of 'c': rename"),
        ("a.json", b'[{"a": NaN}]', r"a\.json: NaN is not JSON: write null"),
        ("a.json", b'[{"a": 1}', r"a\.json: broken JSON"),
        ("a.jsonl", b'{"a": "b: NaN", \n', r"a\.jsonl:1: broken JSON"),
        (
            "a.json",
            b'{\n"rows": [{"a": 1}]\n}',
            r"a\.json: one JSON object, and no list of rows: write a list",
        ),
        (
            "a.json",
            b'{"a": ["b", "c"], "d": ["e", null]}',
            r"a\.json: a list for each column: write a list of",
        ),
        ("a.json", b'{"train": [{"a": 1}]}', r"a\.json: one JSON object, and no list of rows: write a list"),
        ("a.json", b'{"a": {"0": 1, "1": 2}}', r"a\.json: columns or rows by number.*records"),
        ("a.json", b'{"0": {"a": 1}, "1": {"a": 2}}', r"a\.json: columns or rows by number.*records"),
        (
            "a.json",
            b'{"a": {"q": 1}, "b": {"q": 2}, "c": {"q": 3, "r": 1}, "d": {"q": 3}}',
            r"a\.json: rows by their names, and no list of them: write a list of texts or objects, or JSONL",
        ),
        ("a.json", b"[1, 2]", r"a\.json: not a JSON object: write a list"),
        ("a.json", b'["\xe9"]', r"a\.json: not UTF-8 text"),
        ("a.jsonl", b'{"a": "\\ud83d"}', r"a\.jsonl:1: half of a surrogate pair.*: leave it out"),
        ("a.jsonl", b'{"a": 1}\n\0\0\0', r"a\.jsonl:2: a NUL character"),
        ("a.csv", "a,b\n1,2".encode("utf-16-le"), r"a\.csv:1: a NUL character.*: save it as UTF-8"),
        ("a.csv", "a,b\n1,2".encode("utf-16"), r"a\.csv: UTF-16 text: save it as UTF-8"),
        ("a.csv", b"a,b\r1,2\r", r"a\.csv:1: .*lines end in a carriage return alone.*line feeds"),
        ("a.csv", b"PK\x03\x04", r"a\.csv: a ZIP archive or a spreadsheet: unpack it, or save"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), r"a\.jsonl: packed by gzip: end its name in \.gz"),
        ("a.jsonl.gz", PACKERS[".zst"](b"{}"), r"a\.jsonl\.gz: packed by Zstandard: end its name in \.zst"),
        ("a.csv", b"PAR1", r"a\.csv: Parquet: end its name in \.parquet"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", r"a\.parquet: a Git LFS pointer"),
        ("a.json", b"<!DOCTYPE html><html></html>", r"a\.json: a web page: download the file itself"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"a\.csv:3: 3 cells under 2 column names: quote cells that hold ','"),
        ("a.csv", b"a,b\n1\n", r"a\.csv:2: 1 cells under 2 column names: quote cells that hold a line break"),
        ("a.csv", b"a,b\n1,2\na,b\n3,4", r"a\.csv:3: the header again, .* joined: delete this line"),
        ("a.csv", b"\xef\xbb\xbfa,b\n1,2\n\xef\xbb\xbfa,b\n", r"a\.csv:3: a byte order mark.*: delete it"),
        ("a.jsonl", b'{"a": 1}\n\xef\xbb\xbf{"a": 2}', r"a\.jsonl:2: a byte order mark.*: delete it"),
        (
            "a.csv",
            b"Exported\na,b\n1,2\n",
            r"a\.csv:2: 2 cells under 1 .*, or delete 'Exported', if that is a",
        ),
        ("a.csv", b"a,b\n1\n", r"a\.csv:2: .* line break, or write the cells that are missing"),
        ("a.json", b'{"columns": ["a", "b"], "data": [["1", "2"]]}', r"a\.json: columns, and rows as lists"),
        ("a.json", b'{"a": [[{"b": 1}], []], "c": [[], []]}', r"a\.json: a list for each column: write"),
        ("a.tsv", b'a\tb\tc\n"1\t2\t3\n4"\t5\t6\n', r"a\.tsv:2: a quote that opens a cell joins lines"),
        ("a.csv", b'a,b\n"1,2\n', r"a\.csv:2: broken CSV"),
        ("a.csv", b"a,a\n1,2\n", r"a\.csv:1: two columns have the same name"),
        ("a.jsonl.gz", b"not packed", r"a\.jsonl\.gz: cannot be unpacked.*or name it without \.gz"),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS) * 99, mtime=0)[:200], r"a\.jsonl\.gz: cannot be unpacked"),
        ("a.csv.zst", b"not packed either", r"a\.csv\.zst: cannot be unpacked"),
        ("a.parquet", b"PAR1", r"a\.parquet: cannot be read as Parquet"),
        ("a.parquet.gz", b"", r"a\.parquet\.gz: packed Parquet: unpack it"),
        ("a.doc", b"", r"a\.doc: cannot tell its format: save it as one of .*\.jsonl.*\.gz, \.zst"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_an_address_is_answered_by_what_is_read_in_its_place() -> None:
    with pytest.raises(InputError, match="addresses are not read: give ORG/NAME of the Hub, or download"):
        list(read_rows("https://huggingface.co/datasets/ORG/NAME", TABLE_SUFFIXES))


def test_a_key_that_is_also_a_value_or_within_one_stands_once(tmp_path: Path) -> None:
    rows = [{"a": "a", "b": [{"a": 1}, {"a": 2}]}, {"a": '{"a": 1, "a": 2}', "b": '":'}]
    for name, content in (("a.jsonl", jsonl(rows)), ("a.json", json.dumps(rows, indent=1).encode())):
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == rows


def test_of_parquet_only_the_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    """Other columns may hold what Python cannot: a zone without a name, the year 148108."""
    table = pa.table(
        {
            "prompt": ["a"],
            "zone": pa.array([0], pa.timestamp("us", "+05:30")),
            "far": pa.array([2**62], pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", needs={"prompt"}.__contains__) == [{"prompt": "a"}]
    opened = files.open_rows(
        partial(files.read_rows, str(tmp_path / "a.parquet"), TABLE_SUFFIXES), {"prompt"}.__contains__
    )
    assert opened.columns == ["prompt", "zone", "far"] and opened.sample == [{"prompt": "a"}]
    assert [row for _, row in opened.rows] == opened.sample
    names = [f"c{number}" for number in range(12)]
    assert files.not_read(names).endswith(", c9 and 2 more") and files.not_read([]) == ""
    assert files.not_read(["a" * 61]) == f"; not read: {'a' * 60}"


def test_a_time_within_a_column_that_python_cannot_hold_is_one_line(tmp_path: Path) -> None:
    for kind in (pa.timestamp("us"), pa.timestamp("us", "No/Where")):
        numbers = pa.list_(pa.struct({"content": pa.string(), "at": pa.int64()}))
        times = pa.array([[{"content": "Why?", "at": 2**62}]], numbers)
        turns = times.cast(pa.list_(pa.struct({"content": pa.string(), "at": kind})))
        pq.write_table(pa.table({"prompt": turns}), tmp_path / "a.parquet")
        with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
            read(tmp_path / "a.parquet")


def test_two_columns_of_parquet_with_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns have the same name"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_csv_header_says_what_parts_its_cells(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + separated(mark))
    assert read(tmp_path / "a.csv") == ROWS


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    """Spreadsheets leave them at the end of every line."""
    for text in (b"a,b,,\n1,2,,\n", b"a,b\n1,2,,\n"):
        (tmp_path / "a.csv").write_bytes(text)
        assert [(row["a"], row["b"]) for row in read(tmp_path / "a.csv")] == [("1", "2")]


def test_a_folder_of_save_to_disk_is_refused(tmp_path: Path) -> None:
    """Its rows may be selected by a file of indices."""
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}', "utf-8")
    for folder in (tmp_path, tmp_path / "train"):
        with pytest.raises(InputError, match=r"saved by `save_to_disk`: write Parquet: .*load_from_disk"):
            read(folder)


def test_rows_are_streamed(tmp_path: Path) -> None:
    """A mistake in a later line is found when it is reached, and not before."""
    for name, text in (("a.jsonl", b'{"a": "1"}\n' * 9 + b"{"), ("a.csv", b"a\n" + b"1\n" * 9 + b"1,2\n")):
        (tmp_path / name).write_bytes(text)
        rows = read_rows(str(tmp_path / name), TABLE_SUFFIXES)
        assert [next(rows)[1] for _ in range(9)] == [{"a": "1"}] * 9
        with pytest.raises(InputError):
            next(rows)


def test_the_examples_of_a_big_bench_task_are_rows(tmp_path: Path) -> None:
    examples = [{"input": "Which barks?", "target_scores": {"Dog": 1, "Cat": 0}}]
    for name, indent in (("x.task.json", None), ("y.json", 2)):
        task = {"name": "x", "examples": examples}
        (tmp_path / name).write_text(json.dumps(task, indent=indent), "utf-8")
        assert read(tmp_path / name) == examples
        assert benchmark_file.read_prompts(str(tmp_path / name)) == ["Which barks?"]


def test_rows_of_jsonl_may_have_a_column_named_data(tmp_path: Path) -> None:
    rows = [{"a": str(n), "data": [{"b": 1}], "votes": {"0": 1}} for n in range(2)]
    (tmp_path / "a.json").write_bytes(jsonl(rows))
    assert read(tmp_path / "a.json") == rows


def test_parts_of_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS))
    with pytest.raises(
        InputError, match=r"a file: import\.hub_config and import\.split are for Hub datasets"
    ):
        record(str(tmp_path / "a.jsonl"), TABLE_SUFFIXES, HubPart(split="train"))


HUB = """
import sys
from almost_data.errors import InputError
from almost_data.readers.files import TABLE_SUFFIXES, HubPart, read_rows
for part in ((), ("b",), ("b", "train"), ("b", "all"), ("b", "dev"), ("c",), ("a",)):
    try:
        rows = read_rows("someone/parts", TABLE_SUFFIXES, part=HubPart(*part))
        print(*part, [row["prompt"] for _, row in rows])
    except InputError as error:
        print(error)
"""


def test_configs_and_splits_of_the_hub_are_named_where_there_are_several(tmp_path: Path) -> None:
    card = b"""---
configs:
- config_name: a
  data_files: a.parquet
- config_name: b
  data_files:
  - {split: train, path: b.parquet}
  - {split: test, path: c.parquet}
---
"""
    contents: dict[str, bytes] = {"README.md": card}
    for name in "abc":
        pl.DataFrame({"prompt": [name]}).write_parquet(tmp_path / f"{name}.parquet")
        contents[f"{name}.parquet"] = (tmp_path / f"{name}.parquet").read_bytes()
    with serve("someone/parts", contents) as (endpoint, _):
        done = script(HUB, env={"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")})
    assert done.stdout.splitlines() == [
        "someone/parts: several configs: give import.hub_config a, b",
        "someone/parts: several splits: give import.split train, test, or all",
        "b train ['b']",
        "b all ['b', 'c']",
        "someone/parts: no split 'dev': import.split is one of train, test",
        "someone/parts: no config or folder 'c': it has a, b",
        "a ['a']",
    ]


def test_a_file_of_the_same_size_and_time_is_hashed_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    hashes = set()
    for text in (b'{"a": 1}', b'{"a": 2}'):
        file.write_bytes(text)
        os.utime(file, (0, 0))  # as archives unpack files
        hashes.add(record(str(file), TABLE_SUFFIXES)["sha256"])
    assert len(hashes) == 2
