"""Mistakes of an outside builder: refused when it is made, or in a build that leaves nothing behind."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from matplotlib.figure import Figure

from almost_data import (
    Builder,
    Built,
    Column,
    Config,
    Entry,
    Filter,
    InputError,
    NothingLeft,
    Table,
    apply_filters,
    prepare,
    registry,
)
from almost_data.datasets.builder import load_builder
from almost_data.datasets.manifest import decode_manifest, encode_manifest
from almost_data.errors import Defect
from almost_data.generation import Model, Request, Sampling, engines
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession
from almost_data.store.verify import verify
from tests.command import run as cli

TABLE = Table("one word a row", ("word",), (Column("word", "string", "a word", "tea"),), split_key=None)

REASON = Column("reason", "string", "why it was dropped", "short")
TABLES = {"default": TABLE, "rejected": msgspec.structs.replace(TABLE, columns=(*TABLE.columns, REASON))}


class WordsConfig(Config, frozen=True):
    words: tuple[str, ...] = ("tea", "leaf")


def build(config: WordsConfig, parents: Any, generator: Any, progress: Any) -> Built:
    rows = pl.DataFrame({"word": config.words})
    short = Filter("short", "word", "It has one letter.", "test", pl.col("word").str.len_chars() < 2)
    checked = apply_filters(rows, [short], "checks")
    return Built({"default": checked.kept, "rejected": checked.dropped}, checked.ledger, {})


WORDS = Builder(name="words", doc="Words.", config=WordsConfig, tables=TABLES, build=build, uses_engine=False)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "engine"},
        {"name": "Words"},
        {"tables": {"default": TABLE, "../x": TABLE}},
        {"tables": {"default": TABLE, "a b": TABLE}},
        {"tables": {"default": msgspec.structs.replace(TABLE, key=("letter",))}},
        {"tables": {"default": msgspec.structs.replace(TABLE, columns=(Column("word", "str", ""),))}},  # type: ignore[arg-type]
        {"flags": ("letters",)},
        {"hooks": {"word": {"word": "tea"}}},
    ],
)
def test_a_builder_of_parts_that_do_not_fit_is_refused_at_once(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="builder"):
        dataclasses.replace(WORDS, **change)


def test_rows_made_of_several_kept_rows_end_the_ledger_with_an_entry_of_another_unit(tmp_path: Path) -> None:
    def build_lengths(*arguments: Any) -> Built:
        built = build(*arguments)
        words = built.tables["default"]
        assert isinstance(words, pl.DataFrame)
        lengths = words.select(word=pl.col("word").str.len_chars().cast(pl.String)).unique()
        count = len(lengths)
        entry = Entry("lengths", "all", "length", "Each length is a row.", {}, "test", count, count, {})
        return Built({**built.tables, "default": lengths}, [*built.ledger, entry], {})

    setting = 'words.words=["tea", "sea", "leaf", "a"]'
    builder = dataclasses.replace(WORDS, build=build_lengths)
    run = prepare("fake", root=tmp_path, builders=[builder], assignments=(setting,))
    manifest = run.build(builder)[-1].manifest
    assert manifest.rows == 2 and manifest.ledger[0].kept == 3 and not verify(run.store, manifest.ref)


def test_a_file_cannot_take_the_name_of_a_built_in_builder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import dataclasses\nfrom almost_data.builders.queries import BUILDER\n"
        "MINE = dataclasses.replace(BUILDER, doc='mine')\nTABLE = BUILDER.tables\n"
    )
    with pytest.raises(InputError, match="choose another name"):
        load_builder(f"{tmp_path}/mine.py:MINE")
    with pytest.raises(InputError, match=r"not an almost_data\.Builder"):
        load_builder(f"{tmp_path}/mine.py:TABLE")


def test_nothing_left_says_which_filter_took_all(tmp_path: Path) -> None:
    run = prepare("fake", root=tmp_path, builders=[WORDS], assignments=('words.words=["a","b"]',))
    for _ in range(2):
        with pytest.raises(NothingLeft, match="short dropped 2 of 2"):
            run.build(WORDS)


def test_a_builder_that_drops_no_row_needs_no_ledger(tmp_path: Path) -> None:
    def build_all(*_: Any) -> Built:
        return Built({"default": pl.DataFrame({"word": ["tea", "leaf"]})}, [], {})

    run = prepare("fake", root=tmp_path)
    all_kept = dataclasses.replace(WORDS, build=build_all, tables={"default": TABLE})
    manifest = run.build(all_kept)[-1].manifest
    [entry] = manifest.ledger
    assert (entry.stage, entry.n_in, entry.kept) == ("words", 2, 2)
    assert not verify(run.store, manifest.ref)


@pytest.mark.parametrize("name", ["../evil", "twice"])
def test_a_figure_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    def figures(manifest: Any, tables: Any) -> Any:
        yield name, Figure()
        yield name, Figure()

    run = prepare("fake", root=tmp_path / "root")
    with pytest.raises(Defect, match="figure"):
        run.build(dataclasses.replace(WORDS, figures=figures))
    assert run.store.refs() == [] and not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "change",
    [
        {"parts": ["rejected"]},
        {"parts": ["../x"]},
        {"key": ["absent"]},
        {"columns": []},
    ],
)
def test_a_manifest_whose_tables_do_not_fit_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = prepare("fake", root=tmp_path)
    manifest = run.build(WORDS)[-1].manifest
    raw = msgspec.json.decode(encode_manifest(manifest))
    raw["tables"]["rejected"] = dict(raw["tables"]["default"])
    raw["tables"]["default"] |= change
    with pytest.raises(InputError, match="not a manifest"):
        decode_manifest(msgspec.json.encode(raw), "manifest.json")


@pytest.mark.parametrize("key", ["resolved", "reward_models", "file"])
def test_a_config_that_lineage_cannot_read_is_refused(tmp_path: Path, key: str) -> None:
    run = prepare("fake", root=tmp_path)
    raw = msgspec.json.decode(encode_manifest(run.build(WORDS)[-1].manifest))
    raw["config"][key] = "x"
    with pytest.raises(InputError, match="not a manifest"):
        decode_manifest(msgspec.json.encode(raw), "manifest.json")


def words_of(tmp_path: Path, change: str) -> Path:
    """A file with a builder of words, in which a line was added."""
    file = tmp_path / "words.py"
    file.write_text(
        "import dataclasses\nfrom pathlib import Path\nimport polars as pl\n"
        "from tests.run.test_broken_builders import WORDS\nfrom almost_data import Built\n"
        "def build(config, parents, generator, progress):\n"
        "    built = WORDS.build(config, parents, generator, progress)\n"
        "    return built\n"
        "def figures(manifest, tables):\n"
        "    yield from ()\n"
        "CHANGES = {}\n"
    )
    file.write_text(
        file.read_text() + "BUILDER = dataclasses.replace(WORDS, build=build, figures=figures, **CHANGES)\n"
    )
    file.write_text(file.read_text().replace(*change.split(" => ")))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "    return built =>     raise RuntimeError('no tea')",
            "builder words ({file}): RuntimeError: no tea",
        ),
        (
            "    return built =>     return built.tables",
            "({file}): TypeError: build returned dict, not Built",
        ),
        (
            "    return built =>     built.tables['default'] = pl.DataFrame({'tea': [1]})\n    return built",
            "({file}): ValueError: default: built without the column 'word' of its table",
        ),
        (
            "    return built =>     built.tables['tea'] = built.tables['default']\n    return built",
            "({file}): ValueError: rows of 'tea', which is not a table of the builder: default",
        ),
        (
            "    return built =>     built.tables['default'] = built.tables['default'][:1]\n    return built",
            "({file}): ValueError: ledger: its last entry keeps 2 rows, and default has 1: "
            "let the ledger be `apply_filters(...).ledger`",
        ),
        ("    yield from () =>     yield 1 / 0", "({file}): ZeroDivisionError: division by zero"),
        (
            "CHANGES = {} => CHANGES = {'card': Path('absent.md.jinja')}",
            "absent.md.jinja: no such card template",
        ),
    ],
)
def test_a_mistake_in_a_builder_is_one_line_that_names_it(tmp_path: Path, change: str, message: str) -> None:
    file = words_of(tmp_path, change)
    done = cli("build", f"{file}:BUILDER", "--root", str(tmp_path / "root"))
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1
    assert message.format(file=file) in done.stderr and "unexpected" not in done.stderr
    assert not list((tmp_path / "root").glob("words/*"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("yield Reply('x', '', 'stop')", "replied to 'x', which is not asked or was answered"),
        ("yield from ()", "crashes at every request: RuntimeError: the engine ended without a reply"),
        ("yield 'tea'", "crashes at every request: AttributeError: 'str' object has no attribute 'seconds'"),
        ("raise RuntimeError('no tea')", "crashes at every request: RuntimeError: no tea"),
    ],
)
def test_a_mistake_in_an_engine_is_one_line_that_names_it(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from almost_data.generation.fake import FakeEngine\nfrom almost_data import Reply\n"
        f"class Mine(FakeEngine):\n    name = 'mine'\n    def generate(self, requests):\n        {line}\n"
    )
    engine = registry.load("engines", f"{file}:Mine")()
    journal = JournaledGenerator(engine, JournalSession(tmp_path / "journal", "b"), 1.0)
    with pytest.raises(Defect) as defect:
        list(journal.generate([Request(f"{n}", Model("m", "1"), "", f"{n}", Sampling(4)) for n in range(9)]))
    assert str(defect.value) == f"engine mine ({file}) {message}"


def test_an_option_that_an_engine_needs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def engine(mark: str):\n    return 1 / 0\n")
    with pytest.raises(InputError, match=r"^engine\.mark: the .* engine needs this option"):
        engines.load(f"{file}:engine")
    with pytest.raises(Defect, match=f"{file}.: ZeroDivisionError"):
        engines.load(f"{file}:engine", {"mark": "!"})
