"""Imported preferences are a dataset like any other: shown, compared, pushed, judged on, trained on."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.cli import app as cli
from almost_data.datasets.builder import prompt_id, text_id
from almost_data.datasets.tables import all_turns
from almost_data.errors import InputError
from almost_data.run import importing
from almost_data.store.store import Store
from almost_data.store.verify import verify
from almost_data.training.arguments import Inputs
from almost_data.training.data import open_dataset
from almost_data.training.shapes import comparisons, dialogues, prompts
from tests.jsonl import jsonl

ORCA = [
    {
        "system": "Be kind.",
        "question": f"How much is {n} + {n}?",
        "chosen": f"It is {2 * n}.",
        "rejected": "Much.",
    }
    for n in range(40)
]


def run(*arguments: str, code: int = 0) -> None:
    if code:
        with pytest.raises(SystemExit) as error:
            cli.main(list(arguments))
        assert error.value.code == code
    else:
        cli.main(list(arguments))


def test_rows_are_comparisons_with_what_is_known_and_null_elsewhere(store: Store, tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "chosen": "Yes.", "rejected": "No.", "chosen_model": "large", "score_chosen": 4.5},
        {"prompt": "a?", "chosen": "Yes.", "rejected": "No.", "source": "again"},
        {"prompt": None, "chosen": "Yes.", "rejected": "No."},
        {"prompt": "b?", "chosen": "Yes.", "rejected": "Yes. "},
        {
            "prompt": [{"role": "user", "content": "c?"}],
            "chosen": "Yes.",
            "rejected": "No.",
            "source": "quiz",
        },
    ]
    manifest = importing.import_preferences(store, jsonl(tmp_path / "a.jsonl", rows), "1.0.0")
    assert verify(store, manifest.ref) == [] and manifest.is_import and manifest.name == "comparisons"
    read = {row["prompt"][0]["content"]: row for row in store.scan(manifest.ref).collect().to_dicts()}
    assert set(read) == {"a?", "c?"} and read["a?"]["query_id"] == text_id("a?")
    assert read["a?"]["chosen"] == [{"role": "assistant", "content": "Yes."}]
    assert (read["a?"]["chosen_responder"], read["a?"]["chosen_score"]) == ("large", 4.5)
    assert read["a?"]["rejected_responder"] is None and read["c?"]["source"] == "quiz"
    rejected = store.scan(manifest.ref, "rejected").collect().sort("row")
    assert rejected["reason"].to_list() == ["duplicate", "no_prompt", "equal_sides"]
    assert rejected["place"].to_list() == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]
    assert json.loads(rejected["text"][1]) == rows[2]
    entries = [(entry.filter, entry.n_in, entry.kept) for entry in manifest.ledger]
    assert entries == [("layout", 5, 5), ("no_prompt", 5, 4), ("equal_sides", 4, 3), ("duplicate", 3, 2)]
    assert manifest.ledger[0].description == (
        "Rows are read as: TRL, explicit prompt (prompt, chosen, rejected)."
    )


def test_an_import_says_first_which_layout_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = jsonl(tmp_path / "a.jsonl", ORCA)
    run("import", "preferences", file, "--version", "1.0.0", "--root", str(tmp_path / "build"))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "read as: Orca DPO (question, chosen, rejected)"
    command = next(line for line in lines if " build filtered " in line)
    assert "--version 1.0.0 --checks chat" in command, "without a rule it would be a copy"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
def test_the_columns_that_are_not_read_are_named_in_the_line_on_the_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "score_chosen": 4, "system": None}
    file, root = str(tmp_path / f"a.{suffix}"), str(tmp_path / "build")
    frame = pl.DataFrame([row | {"question": None, "so": "So.", "no": "No.", "lang": "en", "two\nlines": 1}])
    frame.write_ndjson(file) if suffix == "jsonl" else getattr(frame, f"write_{suffix}")(file)
    layout = "TRL, explicit prompt (prompt, chosen, rejected); not read: so, no"
    responses = "prompt (prompt, system), response (so, no); not read: chosen, rejected, score_chosen"
    lines = {
        ("import", "preferences", "--version", "1.0.0"): f"read as: {layout}",
        ("import", "queries", "--version", "1.0.0"): (
            "read as: query (prompt, system); not read: chosen, rejected, score_chosen, so, no"
        ),
        ("import", "responses", "--version", "1.0.0", "--ladder", "so,no"): f"read as: {responses}",
        ("audit",): f"a.{suffix}: read as {layout}",
    }
    for command, line in lines.items():
        run(*command, file, "--root", root)
        assert f"{line}, lang, two lines" in capsys.readouterr().out.splitlines()


def test_several_turns_have_an_id_of_all_of_them(store: Store, tmp_path: Path) -> None:
    manifest = importing.import_preferences(store, jsonl(tmp_path / "a.jsonl", ORCA), "1.0.0")
    rows = store.scan(manifest.ref).collect().to_dicts()
    assert len({row["query_id"] for row in rows}) == 40
    assert all(row["query_id"] == prompt_id(row["prompt"]) for row in rows)
    assert rows[0]["prompt"][0] == {"role": "system", "content": "Be kind."}
    text = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    assert "Orca DPO (question, chosen, rejected)" in text and "They were not made here" in text
    assert "responders* (a language model" not in text and "ladder" not in text and str(tmp_path) not in text


def test_the_commands_of_a_dataset_take_it(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, root = jsonl(tmp_path / "orca.jsonl", ORCA), ["--root", str(store.root)]
    longer = jsonl(tmp_path / "more.jsonl", [*ORCA[3:], ORCA[0] | {"question": "Why?"}])
    run("import", "preferences", file, "--version", "1.0.0", "--license", "mit", *root)
    run("import", "preferences", longer, "--version", "1.1.0", *root)
    run("show", "comparisons@1.0.0", *root)
    run("lineage", "comparisons@1.0.0", *root)
    run("verify", "comparisons@1.0.0", *root)
    run("diff", "comparisons@1.0.0", "comparisons@1.1.0", *root)
    run("push", "comparisons@1.0.0", "--repo", "ORG/pairs", "--dry-run", *root)
    run("eval", "preference", "--model", "baseline:longest", "--dataset", "comparisons@1.0.0", *root)
    run("eval", "preference", "--model", "baseline:longest", "--dataset", file, *root)
    output = capsys.readouterr().out
    assert "Orca DPO" in output or "layout" in output
    assert "Traceback" not in output


def test_a_rejected_row_is_shown_with_its_place_and_its_reason_once(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ORCA, {"question": "q", "chosen": "Same.", "rejected": "Same."}]
    importing.import_preferences(store, jsonl(tmp_path / "pairs.jsonl", rows), "1.0.0")
    run("sample", "comparisons", "--dropped", "equal_sides", "--root", str(store.root))
    printed = capsys.readouterr().out
    assert f"place: pairs.jsonl:{len(rows)}" in printed
    assert printed.count("Chosen and rejected are the same text.") == 1


def test_recipes_read_it(store: Store, tmp_path: Path) -> None:
    manifest = importing.import_preferences(store, jsonl(tmp_path / "a.jsonl", ORCA), "1.0.0")
    source = open_dataset(Inputs(dataset=manifest.ref, artifact="rm@0.1.0", root=str(store.root)))
    for shape in (comparisons, dialogues, prompts):
        shaped = shape(source)
        assert len(shaped.train) + len(shaped.test) == 40 and shaped.unusable == (0, "")
    columns = "prompt=prompt,chosen=rejected,rejected=chosen"
    named = Inputs(dataset=manifest.ref, artifact="rm@0.1.0", root=str(store.root), columns=columns)
    swapped = comparisons(open_dataset(named))
    assert swapped.train["chosen"].equals(comparisons(source).train["rejected"])
    assert swapped.record()["columns"]["chosen"] == "rejected"
    first = comparisons(source).train.to_dicts()[0]
    system, question = first["prompt"]
    assert system == {"role": "system", "content": "Be kind."}
    assert question["content"].startswith("How much is")


@pytest.mark.parametrize(
    "rows",
    [
        [{"good": "Yes.", "bad": "No.", "ask": "a?"}],
        [{"question": "q", "instruction": "i", "chosen": "a", "rejected": "b"}],
    ],
)
def test_what_fits_no_layout_is_exit_2_with_the_flag(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]]
) -> None:
    file = jsonl(tmp_path / "a.jsonl", rows)
    arguments = ["import", "preferences", file, "--version", "1.0.0", "--root", str(store.root)]
    run(*arguments, code=2)
    message = capsys.readouterr().err
    assert "--columns prompt=NAME" in message and all(name in message for name in rows[0])
    assert message.count("\n") == 1 and store.refs() == []
    names = list(rows[0])
    columns = f"chosen={names[-2]},rejected={names[-1]},prompt={names[0]}"
    run(*arguments, "--columns", columns)
    run(*arguments[:-3], "2.0.0", *arguments[-2:], "--columns", "wrong", code=2)


def test_nothing_usable_is_refused_with_the_reasons(store: Store, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 3)
    with pytest.raises(InputError, match=r"no row that can be used .*equal_sides dropped 3 of 3"):
        importing.import_preferences(store, file, "1.0.0")
    assert store.refs() == [] and not list(store.root.glob(".import-*"))


def test_more_rows_than_are_written_at_a_time_are_the_same_dataset(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*ORCA, *({"question": None, "chosen": "a", "rejected": "b"} for _ in range(9))]
    file = jsonl(tmp_path / "a.jsonl", rows)
    whole = importing.import_preferences(store, file, "1.0.0")
    monkeypatch.setattr("almost_data.datasets.spool.CHUNK", 4)
    monkeypatch.setattr("almost_data.datasets.spool.BLOCK_ROWS", 8)
    parts = importing.import_preferences(store, file, "2.0.0")
    assert parts.digest == whole.digest and verify(store, parts.ref) == []


# --- queries and responses -------------------------------------------------------------------------------


def test_queries_of_messages_and_of_alpaca(store: Store, tmp_path: Path) -> None:
    def queries(rows: list[dict[str, Any]], version: str) -> tuple[list[str], list[str]]:
        manifest = importing.import_queries(store, jsonl(tmp_path / "q.jsonl", rows), version)
        assert verify(store, manifest.ref) == []
        rejected = (
            store.scan(manifest.ref, "rejected").collect()
            if "rejected" in manifest.counts
            else pl.DataFrame()
        )
        texts = store.scan(manifest.ref).select(all_turns()).collect()["prompt"].sort().to_list()
        return texts, rejected["reason"].to_list() if len(rejected) else []

    single = [{"role": "user", "content": "Why?"}]
    messages = [
        {"prompt": single},
        {"prompt": [{"from": "human", "value": "How?"}]},
        {"prompt": [{"role": "system", "content": "Be kind."}, *single]},
        {"prompt": [*single, {"role": "assistant", "content": "So."}]},
    ]
    assert queries(messages, "1.0.0") == (["Be kind.\n\nWhy?", "How?", "Why?"], ["no_user_turn_last"])
    alpaca = [
        {"instruction": "Name a city.", "input": "", "output": "Rome.", "text": "### Instruction ... Rome."},
        {"instruction": "Translate:", "input": "bread", "output": "pain", "text": "### ... pain"},
    ]
    assert queries(alpaca, "2.0.0") == (["Name a city.", "Translate:\n\nbread"], [])
    fastchat = [{"question_id": 1, "turns": ["Why?"]}, {"question_id": 2, "turns": ["How?", "And now?"]}]
    assert queries(fastchat, "3.0.0") == (["How?", "Why?"], [])
    for row in (
        {"prompt": "a", "question": "b"},
        {"text": "a", "output": "b"},
        {"question": "q", "context": "c"},
    ):
        with pytest.raises(InputError, match=r"import\.columns query=NAME"):
            importing.import_queries(store, jsonl(tmp_path / "q.jsonl", [row]), "4.0.0")


def test_responses_to_messages_and_in_messages(store: Store, tmp_path: Path) -> None:
    ask = [{"role": "user", "content": "Why?"}]
    rows = [
        {"question": ask, "a": [{"role": "assistant", "content": "So."}], "b": "No."},
        {"question": [{"role": "system", "content": "s"}, *ask], "a": "So.", "b": "No."},
    ]
    manifest = importing.import_responses(store, jsonl(tmp_path / "r.jsonl", rows), ["a", "b"], "1.0.0")
    kept = store.scan(manifest.ref).collect()
    assert sorted(kept["response"]) == ["No.", "No.", "So.", "So."]
    assert {prompt_id(prompt): len(prompt) for prompt in kept["prompt"].to_list()} == {
        text_id("Why?"): 1,
        prompt_id(rows[1]["question"]): 2,
    }
    assert set(kept["query_id"]) == {prompt_id(row["question"]) for row in rows}
    assert verify(store, manifest.ref) == []
