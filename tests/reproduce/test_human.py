"""Answers for people: the table that goes out, and what comes in again."""

import csv
import io
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import human
import judging_table
import pytest

from almost_data.datasets.records import Pinned
from almost_data.errors import InputError
from almost_data.evals import vicuna
from almost_data.evals.result import Result
from almost_data.evals.results import results
from almost_data.store.store import Store
from tests.completions_server import CompletionsServer
from tests.evals.known import evaluated, rows

COUNT = 8


@pytest.fixture
def result(store: Store, server: CompletionsServer, tmp_path: Path) -> Result:
    """Answers of two sides; the judge prefers side a on even questions."""
    answers = {side: [f"{side} says {n}." for n in range(COUNT)] for side in "ab"}
    answers["a"][0] = "=HYPERLINK(0)"
    answers["b"][1] = "-1+1\n@SUM(1)\n- a list"
    answers["b"][2] = 'quoted ", and; =1+1 \x1b[31mred'
    for side, texts in answers.items():
        rows(tmp_path / f"{side}.jsonl", [{"question_id": n, "text": text} for n, text in enumerate(texts)])
    questions = [{"question_id": n, "text": f"Question {n}?"} for n in range(COUNT)]
    questions[3]["text"] = "+ what?"
    rows(tmp_path / "question.jsonl", questions)

    def verdict(prompt: str) -> str:
        number = next(n for n in range(COUNT) if str(questions[n]["text"]) in prompt)
        is_a_first = prompt.index(answers["a"][number]) < prompt.index(answers["b"][number])
        return "Scores: 8 3" if is_a_first == (number % 2 == 0) else "Scores: 3 8"

    server.models, server.chat, server.context = ("judge",), verdict, 100_000
    return compared(store, server, tmp_path)


def compared(store: Store, server: CompletionsServer, folder: Path, **changes: str) -> Result:
    sides = {side: str(folder / f"{side}.jsonl") for side in "ab"} | changes
    data = folder / "question.jsonl"
    return evaluated(vicuna.EVALUATION, store, judge=server.url, data=data, **sides)


def export(store: Store, result: Result, tmp_path: Path, name: str = "table.csv", **how: Any) -> Path:
    out = tmp_path / name
    human.export(store, result.ref, tmp_path / "question.jsonl", out, **how)
    return out


def read(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig"), newline="")))


def write(
    table: Path, filled: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8-sig"
) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, judging_table.COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(filled)
    table.write_bytes(text.getvalue().encode(encoding, "replace"))
    return table


def places(store: Store) -> dict[str, judging_table.Item]:
    comparisons = (result for result in results(store) if result.task == "vicuna")
    return {
        name: item
        for result in comparisons
        for name, item in judging_table.table_items(store, result).items()
    }


def imported(store: Store, table: Path) -> Result:
    return evaluated(human.EVALUATION, store, table=table)


def choose(store: Store, row: dict[str, str], side: str) -> str:
    if side not in "ab":
        return side
    return "1" if places(store)[row["item"]].first == side else "2"


def test_the_table_is_blinded_and_shuffled_and_does_not_say_whose_answers_are(
    store: Store, result: Result, tmp_path: Path
) -> None:
    table = read(export(store, result, tmp_path))
    assert len(table) == 3 * COUNT
    assert Counter(row["judgment"] for row in table) == {f"{n} of 3": COUNT for n in (1, 2, 3)}
    firsts = {row["item"]: row["answer 1"] for row in table}
    assert len(firsts) == COUNT
    assert {place.first for place in places(store).values()} == {"a", "b"}
    assert [row["question"] for row in table[:COUNT]] != [f"Question {n}?" for n in range(COUNT)]
    for row in table:
        place = places(store)[row["item"]]
        assert row["choice"] == ""
        if place.question_id not in "0123":
            assert row["question"] == f"Question {place.question_id}?"
            assert row["answer 1"] == f"{place.first} says {place.question_id}."
            assert row["answer 2"] == f"{place.second} says {place.question_id}."
    text = (tmp_path / "table.csv").read_text("utf-8-sig")
    assert not [model.id for model in result.models if model.id in text]
    assert result.fingerprint[:12] not in text and result.digest[:12] not in text


def test_no_cell_is_a_formula_or_a_terminals_command(store: Store, result: Result, tmp_path: Path) -> None:
    table = export(store, result, tmp_path)
    cells = [cell for row in read(table) for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    assert any("; '=1+1" in cell or ";' =1+1" in cell for cell in cells)
    assert any("\n'@SUM(1)\n- a list" in cell for cell in cells)
    assert b"\x1b" not in table.read_bytes()


def test_a_result_has_the_same_table_each_time(store: Store, result: Result, tmp_path: Path) -> None:
    first = export(store, result, tmp_path).read_bytes()
    assert export(store, result, tmp_path, "again.csv").read_bytes() == first
    with pytest.raises(InputError, match="exists"):
        export(store, result, tmp_path)


def test_an_export_without_answers_or_of_other_questions_is_refused(
    store: Store, server: CompletionsServer, result: Result, tmp_path: Path
) -> None:
    failures = [{"question_id": n, "text": "", "error": "timeout"} for n in range(COUNT)]
    failed = str(rows(tmp_path / "failed.jsonl", failures))
    with pytest.raises(InputError, match="no question has both answers"):
        export(store, compared(store, server, tmp_path, a=failed), tmp_path)
    with pytest.raises(InputError, match=r"no vicuna@1\.0\.0 under"):
        human.export(store, "vicuna@1.0.0", tmp_path / "question.jsonl", tmp_path / "x.csv")
    second_data = rows(tmp_path / "other.jsonl", [{"question_id": 0, "text": "Another?"}])
    with pytest.raises(InputError, match="checksum"):
        human.export(store, result.ref, second_data, tmp_path / "x.csv")


def test_people_by_majority_with_their_agreement(store: Store, result: Result, tmp_path: Path) -> None:
    """By hand: aaa, aab, abt, bbb, tta, b--, at-, and one item without any judgment."""
    table = export(store, result, tmp_path)
    choices = dict(enumerate(["aaa", "aab", "abt", "bbb", "tta", "b", "at", ""]))
    filled = read(table)
    for row in filled:
        votes = choices[int(places(store)[row["item"]].question_id)]
        number = int(row["judgment"][0]) - 1
        side = {"a": "a", "b": "b", "t": "TIE "}[votes[number]] if number < len(votes) else " "
        row["choice"] = choose(store, row, side)
    report = imported(store, write(table, filled))
    lines = {line.metric: line for line in report.lines}
    counts = [round((line.value or 0) * line.n) for line in (lines["win"], lines["tie"], lines["lose"])]
    assert counts == [2, 3, 2]
    assert lines["win"].n == 7
    assert (lines["win rate"].value, lines["win rate"].ties) == (0.5, 3)
    same = [1, 1 / 3, 0, 1, 1 / 3, 0]
    assert lines["two judgments agree"].value == pytest.approx(sum(same) / len(same))
    # The judge has a, b, a, b, ... and people a, a, tie, b, tie, b, tie.
    assert lines["agree with the judge"].value == pytest.approx(3 / 7)
    assert lines["first place wins"].n == 7
    # Coincidences by hand, each pair weighted by 1 / (m - 1).
    pairs: Counter[tuple[str, str]] = Counter()
    for votes in choices.values():
        for at, vote in enumerate(votes):
            for later_vote in votes[:at] + votes[at + 1 :]:
                pairs[vote, later_vote] += 1 / (len(votes) - 1)  # type: ignore[assignment]
    total = sum(pairs.values())
    margins = {side: sum(n for (vote, _), n in pairs.items() if vote == side) for side in "abt"}
    observed = sum(n for (vote, later_vote), n in pairs.items() if vote != later_vote) / total
    expected = sum(margins[x] * margins[y] for x in "abt" for y in "abt" if x != y) / (total * (total - 1))
    assert report.details["alpha"] == pytest.approx(1 - observed / expected, abs=1e-6)
    assert report.details["missing"] == 24 - 18
    assert report.task == "human"
    lineage = [vote for vote in report.data if vote.role == "evaluation"]
    assert [(vote.id, vote.revision) for vote in lineage] == [(result.ref, result.digest[:16])]
    assert imported(store, table) == report
    assert "aaa" not in (store.path(report.ref) / "README.md").read_text("utf-8")


def test_a_spreadsheets_semicolons_are_read_and_another_encoding_is_refused(
    store: Store, result: Result, tmp_path: Path
) -> None:
    filled = read(export(store, result, tmp_path))
    for row in filled:
        row["choice"] = "tie"
    with pytest.raises(InputError, match="save it as UTF-8"):
        imported(
            store,
            write(tmp_path / "ansi.csv", [row | {"question": "\u00e9"} for row in filled], ";", "cp1252"),
        )
    report = imported(store, write(tmp_path / "from-excel.csv", filled, ";"))
    assert [line.value for line in report.lines[:5]] == [0.5, None, 0, 1, 0]
    assert report.details["alpha"] is None


def test_rows_that_are_gone_are_missing(store: Store, result: Result, tmp_path: Path) -> None:
    filled = read(export(store, result, tmp_path))[:2]
    for row in filled:
        row["choice"] = "1"
    report = imported(store, write(tmp_path / "short.csv", filled))
    assert (report.details["missing"], report.lines[0].n) == (22, 2)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("choice", "3", 'choice "3": write 1, 2, tie'),
        ("choice", "=1", "choice"),
        ("choice", "\x1b[31m", r"\\u001b"),
        ("judgment", "4", "leave it as exported, such as 1 of 3"),
        ("judgment", "4 of 3", "leave it as exported"),
        ("judgment", "1 of 4", "leave it as exported"),
        ("judgment", "2 of 3", "duplicate judgment 2 of 3"),
        ("item", "../../x-0001", "no item of this table"),
        ("item", "", "no item of this table"),
    ],
)
def test_a_bad_row_is_named_by_its_line(
    store: Store, result: Result, tmp_path: Path, column: str, value: str, says: str
) -> None:
    table = export(store, result, tmp_path)
    filled = read(table)
    filled[3][column] = value
    lines = sum(cell.count("\n") for row in filled[:3] for cell in row.values())
    with pytest.raises(InputError, match=says) as error:
        imported(store, write(table, filled))
    line = int(str(error.value).partition("table.csv:")[2].partition(":")[0])
    if "duplicate" not in says:
        assert line == 5 + lines
    assert str(error.value).isprintable()


@pytest.mark.parametrize("item", ["", "../../../etc/passwd", "0" * 12 + "-0001"])
def test_a_table_of_another_store_is_refused(store: Store, result: Result, tmp_path: Path, item: str) -> None:
    filled = read(export(store, result, tmp_path))
    filled[0]["item"] = item
    with pytest.raises(InputError, match="import into the store that exported it"):
        imported(store, write(tmp_path / "bad.csv", filled))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no row"), (b"a,b\n1,2\n", "no column"), (b"item,judgment,choice\n", "no row")],
)
def test_what_is_no_table_is_refused(store: Store, tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        imported(store, tmp_path / "x.csv")
    with pytest.raises(InputError, match="no such file"):
        imported(store, tmp_path / "nowhere.csv")


# --- for the tables --------------------------------------------------------------------------------------


def judged(store: Store, result: Result, tmp_path: Path, name: str, sides: str) -> Result:
    """A table in which item n was won by `sides[n]`; others were left empty."""
    filled = read(export(store, result, tmp_path, f"{name}-out.csv", judgments=1))
    for row in filled:
        at = int(places(store)[row["item"]].question_id)
        row["choice"] = choose(store, row, sides[at]) if at < len(sides) else ""
    return imported(store, write(tmp_path / f"{name}.csv", filled))


def test_a_pair_of_sides_is_found_whichever_came_first(store: Store, result: Result, tmp_path: Path) -> None:
    a, b = result.models[:2]
    with pytest.raises(InputError, match="export, then import"):
        human.between(store, a, b)
    judged(store, result, tmp_path, "empty", "")
    with pytest.raises(InputError, match="export, then import"):
        human.between(store, a, b)
    judgments = judged(store, result, tmp_path, "whole", "aaaaabba")
    judged(store, result, tmp_path, "later", "bb")
    comparison = human.between(store, a, b)
    assert comparison.lines == judgments.lines and (comparison.lines[0].value, comparison.lines[0].n) == (
        0.75,
        8,
    )
    assert [source.role for source in comparison.data] == ["judgments", "evaluation", "data"]
    assert comparison.data[-1] == result.data[0] and comparison.fingerprint == judgments.fingerprint
    [turned] = human.between(store, b, a).lines
    line = judgments.lines[0]
    assert line.low is not None and line.high is not None
    assert (turned.who, turned.metric, turned.value) == (b.id, "win rate", 0.25)
    assert (turned.low, turned.high) == (1 - line.high, 1 - line.low)
    assert human.between(store, b, a).models == [b, a]


def test_other_weights_are_another_side(store: Store, result: Result, tmp_path: Path) -> None:
    a, b = result.models[:2]
    judged(store, result, tmp_path, "whole", "aaaaaaaa")
    with pytest.raises(InputError, match="then import"):
        human.between(store, a, Pinned(b.id, "sha256:0"))
    with pytest.raises(InputError, match="then import"):
        human.between(store, a, a)


def test_judgments_of_unknown_questions_are_not_taken(store: Store, result: Result, tmp_path: Path) -> None:
    judged(store, result, tmp_path, "whole", "aaaaaaaa")
    shutil.rmtree(store.path(result.ref))
    with pytest.raises(InputError, match=f"{result.ref}, whose answers people judged"):
        human.between(store, *result.models[:2])
