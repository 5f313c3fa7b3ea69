"""The report on models in a store: real evaluations of small models, run once, and files on disk."""

import csv
import hashlib
import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import human as human_script
import pytest
import tables as tables_script

from almost_data.cli.app import main
from almost_data.evals import preference, static_hhh, truthfulqa, vicuna
from almost_data.evals.results import results
from almost_data.store.store import Store
from tests import trained
from tests.completions_server import CompletionsServer
from tests.evals.known import evaluated, hhh
from tests.evals.test_vicuna import rows, shown_answers
from tests.reproduce.test_claims import NOBODY
from tests.tiny_models import save_tiny, save_tiny_reward

VERSION = "1.0.0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A reward model and two policies, made up, of one version."""
    models_store = Store(tmp_path / "store")
    trained.publish(models_store, save_tiny_reward(tmp_path / "rm"), trained.manifest("rm", version=VERSION))
    for seed, name in enumerate(("sft", "ppo")):
        folder = save_tiny(tmp_path / name, seed=seed)
        trained.publish(models_store, folder, trained.manifest(name, version=VERSION))
    return models_store


def tables(store: Store, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    tables_script.main(["--version", VERSION, "--root", str(store.root), *arguments])
    return capsys.readouterr().out


def test_numbers_are_those_of_the_benchmark_and_are_measured_once(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(hhh(tmp_path / "hhh"))
    printed = tables(store, capsys, "--hhh", data)
    assert "Table 1: 5 of 5 claims not run; missing: the paper's data: harmless.task.json: not the" in printed
    assert "Table 4: 3 of 3 claims not run; missing: HH-RLHF helpful-base (--preference" in printed
    place = store.root / "reproduce" / "tables" / VERSION
    content = json.loads((place / "tables.json").read_text())
    table = content["tables"][1]
    assert table["name"] == "Table 1, on other data or terms" and len(table["claims"]) == 4
    alone = evaluated(static_hhh.EVALUATION, store, model=f"sft@{VERSION}", data=data)
    [line] = [
        sft_line
        for sft_line in alone.lines
        if (sft_line.who, sft_line.subset) == (f"sft@{VERSION}", "helpful")
    ]
    [mine] = [
        sft_line
        for sft_line in table["lines"]
        if (sft_line["role"], sft_line["subset"]) == ("sft", "helpful")
    ]
    assert (mine["value"], mine["n"]) == (line.value, line.n)
    before = {sft_line.fingerprint: sft_line.created for sft_line in results(store)}
    assert len(before) == 3
    assert printed.endswith(tables(store, capsys, "--hhh", data))
    assert {sft_line.fingerprint: sft_line.created for sft_line in results(store)} == before
    assert json.loads(tables(store, capsys, "--hhh", data, "--json")) == content
    text = (place / "README.md").read_text()
    assert content["is_small"] and "a test of the plumbing" in text
    assert str(tmp_path) not in text + json.dumps(content)


def test_nothing_given_is_nothing_run(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    printed = tables(store, capsys)
    assert "Table 1: 5 of 5 claims not run" in printed and "reproduced" not in printed
    assert not list(results(store))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--version", "9.9.9"), "none of its models is in the store"),
        (("--hhh", "/nowhere/hhh"), "no such file or folder"),
        (("--limit", "0"), "give 1 or more"),
        (("--vicuna", "q.jsonl"), "go together"),
        (("--judge", "http://127.0.0.1:9/v1"), "--vicuna and --judge go together"),
        (("--baseline", "b.jsonl"), "no such file"),
        (("--preference-config", "helpful-base"), "goes with --preference"),
    ],
)
def test_bad_usage_is_told_before_anything_runs(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SystemExit) as error:
        version = () if "--version" in arguments else ("--version", VERSION)
        tables_script.main([*version, *arguments, "--root", str(store.root)])
    assert error.value.code == 2 and why in capsys.readouterr().err
    assert not (store.root / "reproduce").exists() and not results(store)


def test_make_takes_the_papers_benchmarks_where_the_models_are_the_papers() -> None:
    def run_make(*words: str) -> str:
        command = ["make", "-n", "--no-print-directory", "tables", "POSTS=x", "SITE=y", *words]
        # Under `make test` a make inside would take the outer one's flags and variables.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout

    def last(*words: str) -> str:
        return " ".join(run_make(*words).replace("\\\n", " ").partition("reproduce/tables.py ")[2].split())

    assert last() == "--version 0.9.0"
    assert last("PREFERENCE=a/b@c", "LIMIT=3", "JUDGE_MODEL=m") == (
        "--version 0.9.0 --preference a/b@c --judge-model m --limit 3"
    )
    rated = run_make()
    steps = (
        "build ratings ",
        "--rm asis@0.9.0\n",
        "build comparisons ",
        "--ratings ratings@0.9.0\n",
        "heuristic agreed label-ratings;",
    )
    assert sorted(steps, key=rated.index) == list(steps)
    for words, runs in (((), 0), (("SINGLE_TURN=0",), 0), (("SINGLE_TURN=no",), 0), (("SINGLE_TURN=1",), 1)):
        printed = run_make("PREFERENCE=a/b@c", *words)
        assert printed.count("rm@0.9.0-single-turn") == runs and printed.count("rm@0.9.0-upper") == 1, words
    printed = run_make("PRESET=almost", "SINGLE_TURN=no")
    assert "single-turn" not in printed and "single-turn" in run_make("PRESET=almost")
    assert last("PRESET=almost", "TASKS=") == (
        f"--version 2.0.0 --hhh {static_hhh.HUB} --truthfulqa {truthfulqa.HUB} "
        f"--preference {preference.HH_RLHF} --preference-config {preference.HELPFUL_BASE}"
    )


def prefer_ppo(table: Path) -> None:
    """Fill in a table of people's judgments: never the saved answer, which begins with `It is`."""
    lines = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"), newline="")))
    for line in lines:
        line["choice"] = "2" if line["answer 1"].startswith("It is") else "1"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def figures(store: Store) -> list[dict[str, Any]]:
    """What the report says of Figure 3, from each side."""
    report = json.loads((store.root / "reproduce" / "tables" / VERSION / "tables.json").read_text())
    return [table for table in report["tables"] if table["name"].startswith("Figure 3")]


def test_people_stand_beside_the_judge_where_they_were_asked(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models answer, a judge prefers the baseline, and people PPO: by the commands that a user gives."""
    questions_file = rows(
        tmp_path / "question.jsonl", [{"question_id": n, "text": f"What of {n}?"} for n in range(24)]
    )
    saved = rows(tmp_path / "alpaca.jsonl", [{"question_id": n, "text": f"It is {n}."} for n in range(24)])
    official = hashlib.sha256(questions_file.read_bytes()).hexdigest()
    official_data = replace(vicuna.EVALUATION, official=frozenset([official]))
    monkeypatch.setattr(vicuna, "EVALUATION", official_data)
    ways = ("--vicuna", str(questions_file), "--engine", "transformers", "--max-new-tokens", "4")
    with CompletionsServer(("judge",)) as server:
        server.chat = lambda prompt: (
            "Scores: 8 3" if shown_answers(prompt)[0].startswith("It is") else "Scores: 3 8"
        )
        judge = ("--judge", server.url, "--judge-model", "judge")
        tables(store, capsys, *ways, *judge, "--baseline", str(saved))
    judged = next(
        result
        for result in results(store)
        if [f"ppo@{VERSION}", "alpaca.jsonl"] == [model.id for model in result.models[:2]]
    )

    def human(*words: str) -> None:
        human_script.main([*words, "--root", str(store.root)])
        capsys.readouterr()

    table = tmp_path / "table.csv"
    human("export", "--result", judged.ref, "--data", str(questions_file), "--out", str(table))
    prefer_ppo(table)
    printed = tables(store, capsys, "--baseline", str(saved))
    assert f"Figure 3, by people: 2 of 2 claims not run; missing: {NOBODY}" in printed
    human("import", str(table))
    printed = tables(store, capsys)
    assert f"Figure 3, by people: 2 of 2 claims not run; missing: {NOBODY}; a baseline's answers" in printed
    printed = tables(store, capsys, "--baseline", str(saved))
    assert f"Figure 3, by people: 2 of 2 claims not run; missing: {NOBODY}; the paper's terms: " in printed
    by = {figure["name"]: figure["claims"][-1] for figure in figures(store)}
    people = by["Figure 3, by people, on other data or terms"]
    assert (people["verdict"], people["n"]) == ("reproduced", 24)
    assert by["Figure 3, by a judge"]["verdict"] == "not run"
    with CompletionsServer(("judge",)) as server:  # what was judged is not asked again
        judge = ("--judge", server.url, "--judge-model", "judge")
        tables(store, capsys, *ways, *judge, "--baseline", str(saved))
        assert not server.bodies
    verdicts = {figure["name"]: [claim["verdict"] for claim in figure["claims"]] for figure in figures(store)}
    assert verdicts["Figure 3, by a judge, on other data or terms"][1] == "not reproduced"
    assert verdicts["Figure 3, by people, on other data or terms"] == ["reproduced"]
    terms = "the paper's terms: answers with max_new_tokens 1024, not 4"
    [people] = [figure for figure in figures(store) if figure["name"] == "Figure 3, by people"]
    assert people["missing"] == [NOBODY, terms]
    # Other answers of a file of that name are another baseline.
    rows(saved, [{"question_id": n, "text": f"It was {n}."} for n in range(24)])
    assert "Figure 3, by people: 2 of 2 claims not run" in tables(store, capsys, "--baseline", str(saved))


def test_a_judge_that_is_gone_is_asked_once_and_what_it_said_before_stands(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = rows(
        tmp_path / "question.jsonl", [{"question_id": n, "text": f"What of {n}?"} for n in range(3)]
    )
    saved = rows(tmp_path / "alpaca.jsonl", [{"question_id": n, "text": f"It is {n}."} for n in range(3)])
    ways = ["--vicuna", str(questions), "--engine", "transformers", "--max-new-tokens", "4"]
    with CompletionsServer(("judge",)) as server:
        server.chat = lambda prompt: "Scores: 8 3"
        ways += ["--judge", server.url, "--judge-model", "judge"]
        tables(store, capsys, *ways)  # ppo against sft
        before = len(server.bodies)
        assert before == 6
        server.fault = lambda prompt, attempt: "400"
        printed = tables(store, capsys, *ways, "--baseline", str(saved))
        # Of ppo and sft against the baseline, the second one is not tried.
        assert 0 < len(server.bodies) - before <= 6
    assert "Figure 3, by a judge: 2 of 2 claims not run; missing: the paper's data" in printed
    assert "requests failed" in printed
    content = json.loads((store.root / "reproduce" / "tables" / VERSION / "tables.json").read_text())
    [table] = [
        entry
        for entry in content["tables"]
        if entry["name"] == "Figure 3, by a judge, on other data or terms"
    ]
    assert len(table["claims"]) == 1


def test_imported_answers_are_responders_too(store: Store, tmp_path: Path) -> None:
    names = ["30B-HHH-3shot", "13B-HHH-3shot", "7B-HHH-3shot"]
    answers = rows(
        tmp_path / "it.jsonl", [{"prompt": f"What of {n}?"} | dict.fromkeys(names, "So.") for n in range(9)]
    )
    main(["import", "responses", str(answers), "--ladder", ",".join(names), "--version", f"{VERSION}-vicuna",
          "--root", str(store.root)])  # fmt: skip
    _, content = tables_script.report(store, tables_script.Inputs(VERSION))
    [table] = [entry for entry in content["tables"] if entry["name"] == "Table 2"]
    assert [entry["formula"] for entry in table["claims"]][-1] == (
        f"{names[0]} against baseline - 2 x {names[1]} against baseline + {names[2]} against baseline"
    )
    assert len(table["claims"]) == 4 and table["missing"] == ["a baseline's answers (--baseline)"]


def test_a_report_takes_the_place_of_the_one_before_whole_or_not_at_all(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables(store, capsys, "--hhh", str(hhh(tmp_path / "hhh")))
    place = store.root / "reproduce" / "tables" / VERSION
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    assert {file.name for file in before} == {"README.md", "tables.json"}

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Path, "write_bytes", full)
        tables(store, capsys)
    assert "No space" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before
    staging = store.root / ".staging" / f"eval-tables-{VERSION}"
    staging.mkdir(parents=True)  # as a kill leaves it
    (staging / "half").touch()
    tables(store, capsys)
    assert sorted(path.name for path in place.iterdir()) == ["README.md", "tables.json"]
    assert not list((store.root / ".staging").iterdir())
