"""Audits of preference data: faults are measured, clean data pass, thresholds decide the exit code."""

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from almost_data import Store
from almost_data.cards import card
from almost_data.cli import app as cli
from almost_data.diagnostics import shortcuts
from almost_data.diagnostics.probe import draw
from almost_data.diagnostics.rules import LEVELS
from almost_data.errors import InputError
from almost_data.readers.files import HubPart
from almost_data.run.audit import AuditOptions, audit
from tests.jsonl import jsonl

ROWS = 1_200
WORDS = [a + b + c for a in ("ba", "ko", "li", "mu") for b in ("dal", "men", "tor", "vik") for c in "aeiou"]
BENCHMARK = "The eight words of this benchmark are in a row here"


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize() + "."


def clean_rows(rows: int = ROWS) -> list[dict[str, str]]:
    rng = random.Random(5)
    names = ("prompt", "chosen", "rejected")
    return [{name: sentence(rng, rng.randint(14, 24)) for name in names} for _ in range(rows)]


def planted_rows() -> Iterator[dict[str, str]]:
    """10% near copies of a prompt, 5% of a benchmark, 3% equal sides, 20% talk of an AI, 2% loops."""
    rows = clean_rows()
    for number, row in enumerate(rows):
        if number % 10 == 1:
            row["prompt"] = rows[number - 1]["prompt"][:-1] + ", please."
        if number % 20 == 2:
            row["prompt"] = f"{row['prompt']} {BENCHMARK}"
        if number % 5 == 3:
            row["chosen"] = f"As an AI language model, I say: {row['chosen']}"
        if number % 50 == 6:
            row["chosen"] += " Do it step by step." * 7
        if number % 100 in {4, 14, 24}:
            row["rejected"] = row["chosen"]
        yield row


def numbers(result: dict[str, Any]) -> dict[str, float]:
    return {row["name"]: row["number"] for row in result["measures"]}


def test_each_planted_fault_is_measured(tmp_path: Path) -> None:
    (tmp_path / "bench.txt").write_text(BENCHMARK)
    options = AuditOptions(benchmark=(str(tmp_path / "bench.txt"),))
    result = audit(Store(tmp_path), jsonl(tmp_path / "pairs.jsonl", list(planted_rows())), options)
    measured = numbers(result)
    assert result["rows"] == ROWS
    assert result["left_out"] == {"equal_sides": 36}
    assert measured["equal_sides"] == measured["left_out"] == pytest.approx(0.03)
    assert "left_out.equal_sides" not in measured, "the same rows have one number"
    places = [f"pairs.jsonl:{line}" for line in (5, 15, 25, 105, 115)]
    assert result["left_out_at"] == {"equal_sides": places}
    assert measured["near_copies"] == pytest.approx(0.10, abs=0.01)
    assert measured["contamination.bench.txt"] == pytest.approx(0.05, abs=0.01)
    assert measured["identity"] == pytest.approx(0.20, abs=0.01)
    assert measured["loop"] == pytest.approx(0.02, abs=0.002)
    assert BENCHMARK not in json.dumps(result)
    levels = [row["level"] for row in result["measures"]]
    assert levels == sorted(levels, key=LEVELS.index), "worst first"


def test_the_first_comparison_of_each_fault_is_shown_where_the_fault_is(tmp_path: Path) -> None:
    rows = [*clean_rows(60), *clean_rows(1)]
    rows[7]["chosen"] = f"As an AI language model, I say: {rows[7]['chosen']}"
    rows[9]["chosen"] += f" {sentence(random.Random(1), 30)} It stops because"
    rows[11]["chosen"] = "I'm sorry, but\nI can't help with that.\u202e"
    result = audit(Store(tmp_path), jsonl(tmp_path / "pairs.jsonl", rows))
    examples = {row["name"]: row["example"] for row in result["measures"] if "example" in row}
    assert examples["identity"].startswith("As an AI language model, I ")
    assert examples["cut_off"].startswith("…") and examples["cut_off"].endswith("It stops because")
    assert examples["duplicates"] == f"{rows[0]['prompt'][:120]}…"
    assert examples["refusal"] == "I'm sorry, but I can't help with that.\u202e"
    assert examples.keys() == {"identity", "cut_off", "refusal", "duplicates"}
    assert "\u202e" not in card.audit_page(result), "nor in the page's other texts"


def test_parts_change_nothing_and_the_first_rows_are_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = jsonl(tmp_path / "pairs.jsonl", planted_rows())
    whole = audit(Store(tmp_path), file)
    monkeypatch.setattr("almost_data.run.audit.CHUNK", 100)
    assert audit(Store(tmp_path), file) == whole
    [identity] = [row for row in whole["measures"] if row["name"] == "identity"]
    assert identity["places"] == ["pairs.jsonl:4", "pairs.jsonl:9", "pairs.jsonl:14"]


def test_samples_are_drawn_once_and_parts_do_not_change_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = jsonl(tmp_path / "pairs.jsonl", planted_rows())
    monkeypatch.setattr(shortcuts, "SAMPLE", 200)
    monkeypatch.setattr("almost_data.diagnostics.audit.TWIN_PROMPTS", 300)
    queries: list[str] = []

    def counted(query_id: str, seed: int, purpose: str) -> float:
        queries.append(query_id)
        return draw(query_id, seed, purpose)

    monkeypatch.setattr(shortcuts, "draw", counted)
    whole = audit(Store(tmp_path), file)
    assert len(queries) == len(set(queries)) == whole["prompts"]
    assert whole["sampled"] == {"texts": 200, "prompts": 300}
    monkeypatch.setattr("almost_data.run.audit.CHUNK", 100)
    assert audit(Store(tmp_path), file) == whole


def test_the_last_line_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def last_line(rows: list[dict[str, Any]], *options: str) -> str:
        cli.main(["audit", jsonl(tmp_path / "my pairs.jsonl", rows), *options])
        return capsys.readouterr().out.splitlines()[-1].replace(str(tmp_path), "")

    assert last_line(clean_rows()) == (
        "next: almost-data audit '/my pairs.jsonl' --thresholds FILE fails where later data are worse"
    )
    named = ("--columns", "prompt=prompt,chosen=chosen,rejected=rejected")
    assert last_line([*clean_rows(), {"prompt": "?", "chosen": "", "rejected": "No."}], *named) == (
        f"next: almost-data view '/my pairs.jsonl' {' '.join(named)} -o rows.html "
        "shows the rows in a browser; "
        f"almost-data import preferences '/my pairs.jsonl' {' '.join(named)} --version 1.0.0 "
        "keeps those that were left out, with the reason of each"
    )


def test_prompts_that_differ_in_numbers_alone_are_counted(tmp_path: Path) -> None:
    rows = clean_rows(40)
    for number, row in enumerate(rows):
        row["prompt"] = f"{rows[number % 4]['prompt'].partition(' (')[0]} (question {number})"
    result = audit(Store(tmp_path), jsonl(tmp_path / "pairs.jsonl", rows))
    [row] = [row for row in result["measures"] if row["name"] == "only_numbers"]
    assert (row["number"], row["level"]) == (0.9, "worry")
    assert row["value"] == "90.0% (36 of 40 prompts); without them 4 are left"


def test_clean_data_pass_every_measure(tmp_path: Path) -> None:
    result = audit(Store(tmp_path), jsonl(tmp_path / "pairs.jsonl", clean_rows()))
    assert {row["name"] for row in result["measures"] if row["level"] != "fine"} == set()
    assert result["scripts"] == {"Latin": 1.0}
    assert result["turns"] == {"1": 1.0}


def test_copies_and_contradictions_are_told_apart(tmp_path: Path) -> None:
    rows = clean_rows(60)
    turned = {"prompt": rows[0]["prompt"], "chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]}
    result = audit(Store(tmp_path), jsonl(tmp_path / "p.jsonl", [*rows, rows[1], turned]))
    measured = numbers(result)
    assert measured["duplicates"] == pytest.approx(1 / 62)
    assert measured["contradictions"] == pytest.approx(2 / 62)


def test_a_tie_is_counted_and_no_fault(tmp_path: Path) -> None:
    winners = ["model_a", "model_b"] * 15 + ["tie"] * 9 + ["?"]
    rows = [
        {
            "prompt": row["prompt"],
            "response_a": row["chosen"],
            "response_b": row["rejected"],
            "winner": winner,
        }
        for row, winner in zip(clean_rows(40), winners, strict=True)
    ]
    result = audit(Store(tmp_path), jsonl(tmp_path / "p.jsonl", rows))
    measured = numbers(result)
    assert (measured["ties"], measured["left_out"]) == (9 / 40, 1 / 40)
    assert result["left_out"] == {"tie": 9, "no_preference": 1}
    assert result["rows"] == result["comparisons"] + sum(result["left_out"].values())
    assert "left_out.tie" not in measured
    [ties] = [row for row in result["measures"] if row["name"] == "ties"]
    assert ties["level"] == "fine"


def test_a_conversation_and_its_columns_are_read_as_named(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why is tea hot?"},
        {"role": "assistant", "content": "It is brewed."},
        {"role": "user", "content": "And iced tea?"},
    ]
    rows = [{"talk": turns, "good": f"Brewed hot, then cooled {n}.", "bad": "No."} for n in range(30)]
    columns = {"prompt": "talk", "chosen": "good", "rejected": "bad"}
    result = audit(Store(tmp_path), jsonl(tmp_path / "p.jsonl", rows), columns=columns)
    assert result["turns"] == {"4": 1.0}
    assert result["system_prompts"] == 1.0
    assert numbers(result)["always_longer"] == 1.0


def test_a_dataset_of_the_store_is_audited_as_its_file_is(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "pairs.jsonl", clean_rows(80))
    root = tmp_path / "build"
    cli.main(["import", "preferences", source, "--version", "1.0.0", "--root", str(root)])
    of_file = audit(Store(root), source)
    of_store = audit(Store(root), "comparisons")
    assert numbers(of_file) == numbers(of_store)
    assert (of_file["source"], of_store["source"]) == ("pairs.jsonl", "comparisons@1.0.0")
    assert {row["name"]: row["value"] for row in of_file["measures"]}["always_longer"].endswith("%)")
    for how in ({"columns": {"prompt": "chosen"}}, {"part": HubPart("a", None)}):
        with pytest.raises(InputError, match=r"^comparisons@1\.0\.0: a dataset of the store: leave out"):
            audit(Store(root), "comparisons", **how)
    cli.main(
        ["build", "responses", "--engine", "fake", "--limit", "4", "--version", "0.1.0", "--root", str(root)]
    )
    with pytest.raises(
        InputError, match=r"is a dataset of responses, .*: `build comparisons --from responses@0\.1\.0` makes"
    ):
        audit(Store(root), "responses@0.1.0")


def test_a_row_with_an_empty_side_is_counted_as_one(tmp_path: Path) -> None:
    rows = clean_rows(40)
    rows[3]["chosen"] = rows[4]["rejected"] = " "
    measured = numbers(audit(Store(tmp_path), jsonl(tmp_path / "pairs.jsonl", rows)))
    assert measured["empty_sides"] == measured["left_out.no_reply"] == 2 / 40


def test_a_reward_model_is_asked_where_one_is_given(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "pairs.jsonl", clean_rows(40))
    result = audit(Store(tmp_path), source, AuditOptions(rm="fake/judge"))
    assert 0.2 < numbers(result)["reward_model"] < 0.8


def test_thresholds_decide_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = jsonl(tmp_path / "pairs.jsonl", list(planted_rows()))
    limits = tmp_path / "limits.toml"
    limits.write_text('[max]\nidentity = 0.05\nalways_longer = 0.9\n"left_out.no_prompt" = 0\n')
    page = tmp_path / "audit.html"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["audit", source, "--thresholds", str(limits), "--out", str(page)])
    printed, errors = capsys.readouterr()
    assert stopped.value.code == 1
    progress = [line.partition(", ")[0] for line in printed.splitlines() if line.startswith("reading:")]
    assert progress == [f"reading: {ROWS:,} of {ROWS:,}"]
    assert printed.count("rows that hold no comparison") == 1, "its reasons have the same sentence"
    assert errors == "almost-data: thresholds broken: identity is 0.2062, max 0.05\n"
    assert "left out, equal_sides: pairs.jsonl:5, pairs.jsonl:15" in printed
    [identity] = [
        line for line in " ".join(printed.split()).split("worry: ") if line.startswith("identity: ")
    ]
    places = re.findall(r"pairs\.jsonl:(\d+)", identity.partition("For example ")[2].partition(". ")[0])
    assert len(places) == 3 and all((int(place) - 1) % 5 == 3 for place in places)
    assert 'starts with "As" 100%' in printed.partition("more in chosen: ")[2].partition("\n")[0]
    html = page.read_text("utf-8")
    assert html.count("data:image/png") == 2
    assert "broken" in html
    verdicts = re.findall(r'<td class="(worry|watch|fine)">', html)
    assert verdicts == sorted(verdicts, key=["worry", "watch", "fine"].index)
    assert "Left out for <code>equal_sides</code>: pairs.jsonl:5" in html and "goes by" in html
    limits.write_text("[max]\nidentity = 0.3\n")
    cli.main(["audit", source, "--thresholds", str(limits)])
    assert "all thresholds hold: identity is 0.2062, max 0.3" in capsys.readouterr().out
    limits.write_text("[max]\npairs_per_query = 3\nlength_gap = 2.5\n[min]\nlength_gap = -9\n")
    cli.main(["audit", source, "--thresholds", str(limits)])
    printed = capsys.readouterr().out
    assert ", max 2.5 times the rejected length; " in printed and ", max 3; " in printed
    cli.main(["audit", source, "--thresholds", str(limits), "--json"])
    assert json.loads(capsys.readouterr().out)["thresholds"][0]["holds"]
    cli.main(["audit", source, "--markdown"])
    assert "talk of themselves as an AI | 20.6%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[max]\nnonsense = 1\n", "nonsense was not measured; measured were: "),
        ("[max]\nreward_model = 1\n", "reward_model was not measured: it needs a model in audit.rm; "),
        ("[max]\nsurface_model = 1\n", "it needs 50 comparisons on .* queries; here are 30 on 30; measured"),
        ("[max]\nalways_long = 1\n", r"always_long was not measured \(did you mean 'always_longer'\?\)"),
        ("always_longer = 0.6\n", r"write tables \[max\] and \[min\], such as \[max\] and below it"),
        ('[max]\n"left_out.nonsense" = 0\n', r"left_out\.nonsense was not measured"),
        ("[most]\nidentity = 1\n", r"write tables \[max\] and \[min\]"),
        ('[max]\nidentity = "low"\n', r"write tables \[max\] and \[min\]"),
        ("[max]\nalways_longer = 60\n", r"limits\.toml: \[max\] always_longer is a share.* such as 0\.6"),
        ("[min]\nidentity = -0.1\n", "identity is a share, and -0.1 is none: write a number from 0 to 1"),
        ("[max]\nlength_gap = 300\n", "length_gap is a share of the rejected length, and 300 is too large"),
        ("[max]\ncut_off = nan\n", r"max\.cut_off: nan is no number that can be compared"),
        ('[max]\n"left_out.no_prompt" = 5\n', r"left_out\.no_prompt is a share"),
        (
            "[max]\nleft_out.no_reply = 0.1\n",
            r'\[max\] left_out: put the name in quotes: "left_out\.no_reply"',
        ),
        ("[max", r"write tables \[max\] and \[min\]"),
    ],
)
def test_bad_thresholds_are_refused_in_a_line(tmp_path: Path, text: str, why: str) -> None:
    source = jsonl(tmp_path / "pairs.jsonl", clean_rows(30))
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(InputError, match=why) as error:
        audit(Store(tmp_path), source, AuditOptions(thresholds=tmp_path / "limits.toml"))
    assert "\n" not in str(error.value)


def test_thresholds_in_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "limits.toml")
    with pytest.raises(InputError, match=r"limits\.toml: not a file"):
        audit(Store(tmp_path), str(tmp_path), AuditOptions(thresholds=tmp_path / "limits.toml"))


def test_a_file_without_a_comparison_is_refused_with_the_first_row_and_its_fault(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "a"}])
    message = r"in it \(equal_sides: 1, such as a\.jsonl:1: Chosen and .* text\): correct the rows, or"
    with pytest.raises(InputError, match=message):
        audit(Store(tmp_path / "build"), file)


def test_a_folder_of_two_layouts_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    jsonl(folder / "a.jsonl", clean_rows(30))
    jsonl(folder / "b.jsonl", clean_rows(30))
    assert audit(Store(tmp_path), str(folder))["rows"] == 60
    jsonl(folder / "c.jsonl", [{"messages": [], "large": "Yes.", "small": "No."}])
    with pytest.raises(
        InputError, match=r"the first is TRL, .*c\.jsonl has no column 'chosen' but large, me"
    ):
        audit(Store(tmp_path), str(folder))


def test_hostile_text_is_inert_in_the_page(tmp_path: Path) -> None:
    rows = clean_rows(40)
    name = "<img src=x onerror=alert(1)>.jsonl"
    page = tmp_path / "audit.html"
    cli.main(["audit", jsonl(tmp_path / name, rows), "--out", str(page), "--json"])
    assert "<img src=x" not in page.read_text("utf-8")
