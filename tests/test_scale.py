"""The page on scale: each cell is what `--dry-run` says of that size, or follows from what was measured."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from almost_data.run import build, cost
from tests.bench.bench_growth import TEXT, make_journal

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("scale")


@pytest.mark.parametrize("place", [0, 1])
def test_the_table_is_that_of_a_dry_run(scale: ModuleType, tmp_path: Path, place: int) -> None:
    ladder = scale.LADDERS[place]
    table = {name: cells for name, *cells in scale.rows(ladder)}
    for column, queries in enumerate(scale.SIZES.values()):
        changes = (*ladder.assignments, "queries.model=ORG/any", f"queries.target={queries}")
        run = build.prepare("fake", root=tmp_path, preset=ladder.preset, assignments=changes)
        lines = [line for line in cost.lines(run.plan("responses"), run.store) if line.task != "queries"]
        hours = sum(line.gpu_hours or 0 for line in lines)
        assert {name: cells[column] for name, cells in table.items()}.items() >= {
            "requests": scale.amount(len(lines) * queries),
            "tokens read": scale.amount(sum(line.tokens_in for line in lines)),
            "tokens written, at most": scale.amount(sum(line.tokens_out for line in lines)),
            "dataset `responses`, at most": scale.amount(sum(line.disk for line in lines)) + "B",
            "hours on 1 GPU": scale.amount(hours),
            "hours on 8 GPUs": scale.amount(hours / 8),
            "hours on 64 GPUs": scale.amount(hours / 64),
        }.items()


def test_memory_beyond_what_was_measured_is_marked(scale: ModuleType) -> None:
    (cells,) = ([*cells] for name, *cells in scale.rows(scale.LADDERS[0]) if name == "its memory")
    assert [cell.endswith("*") for cell in cells] == [False, True, True]
    assert scale.driver_memory(1)[0] <= scale.driver_memory(10**6)[0] < scale.driver_memory(10**8)[0]


def test_a_journal_is_as_large_as_the_table_says(scale: ModuleType, tmp_path: Path) -> None:
    replies = 20_000
    make_journal(tmp_path / "journal.sqlite", replies)
    added = (tmp_path / "journal.sqlite").stat().st_size / replies - len(TEXT)
    assert added == pytest.approx(scale.measured("journal: bytes of a reply besides its text"), rel=0.25)


def test_a_number_that_was_not_measured_is_refused(scale: ModuleType) -> None:
    with pytest.raises(LookupError, match="no line 'a guess'"):
        scale.measured("a guess")


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (5e4, "50 k"), (999_999, "1 M"), (1.92e10, "19.2 G")]
)
def test_amounts_have_three_digits(scale: ModuleType, value: float, text: str) -> None:
    assert scale.amount(value) == text
