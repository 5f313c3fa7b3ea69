import gc
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.datasets.manifest import Manifest
from almost_data.datasets.tables import last_turn
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run import build as build_
from almost_data.run import garbage, importing, presets
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.command import at_hub, run
from tests.hub_server import serve
from tests.jsonl import jsonl
from tests.settings import fake_tiny

LONG = "A reply of more than fifty characters that ends as a reply should end."
WIDE = [{"prompt": f"Question {n}?", "good": LONG + "!", "poor": LONG, "other": 3} for n in range(30)]


def build(store: Store, version: str) -> dict[str, object]:
    run = build_.BuildRun(store, version, presets.load("tiny"), FakeEngine())
    steps = run.build("comparisons")
    assert [step.action for step in steps] == [
        "reuse",
        "build",
    ]  # no queries are mined for imported responses
    assert verify(store, steps[-1].manifest.ref) == []
    return steps[-1].manifest.diagnostics


def test_wide_long_jsonl_and_parquet_give_the_same_rows(store: Store, tmp_path: Path) -> None:
    long = [
        {"prompt": row["prompt"], "responder": n, "response": row[n]}
        for row in reversed(WIDE)
        for n in ("poor", "good")
    ]
    files = {
        "1.0.0": jsonl(tmp_path / "wide.jsonl", WIDE),
        "2.0.0": jsonl(tmp_path / "long.jsonl", long),
        "3.0.0": str(tmp_path / "wide.parquet"),
        "4.0.0": str(tmp_path / "long.parquet"),
    }
    pl.DataFrame(WIDE).write_parquet(files["3.0.0"])
    pl.DataFrame(long).write_parquet(files["4.0.0"])
    manifests = [importing.import_responses(store, file, ["good", "poor"], v) for v, file in files.items()]
    assert len({m.digest for m in manifests}) == 1
    assert all(verify(store, m.ref) == [] for m in manifests)
    assert manifests[0].config["file"]["name"] == "wide.jsonl"
    wide, rows = [manifests[place].ledger[0].description for place in (0, 1)]
    assert wide == "Rows are read as: prompt (prompt), response (good, poor); not read: other."
    assert rows == "Rows are read as: prompt (prompt), response (response), responder (responder)."
    assert build(store, "1.0.0")["comparisons"] == 30
    comparisons = store.manifest("comparisons@1.0.0")
    assert comparisons.diagnostics["models"] == []
    assert comparisons.config["settings"]["checks"] == "chat", "imported answers are no base model's"
    [note] = comparisons.diagnostics["notes"]
    assert note.startswith("No length rule")


def test_the_same_file_again_is_no_new_import_and_another_is_refused(store: Store, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", WIDE)
    first = importing.import_responses(store, file, ["good", "poor"], "1.0.0")
    assert importing.import_responses(store, file, ["good", "poor"], "1.0.0") == first
    with pytest.raises(
        InputError, match=r"responses@1\.0\.0 exists already, from another recipe \(import\.ladder"
    ):
        importing.import_responses(store, file, ["poor", "good"], "1.0.0")
    comparisons = jsonl(tmp_path / "p.jsonl", [{"prompt": "p", "chosen": "c", "rejected": "r"}])
    importing.import_preferences(store, comparisons, "1.0.0")
    with pytest.raises(InputError, match="made by import-preferences, not by comparisons: choose another"):
        build(store, "1.0.0")


def test_unusable_rows_are_kept_with_a_reason(store: Store, tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "responder": "a", "response": " text "},
        {"prompt": "p ", "responder": "a", "response": "again"},
        {"prompt": "p", "responder": "b", "response": None},
        {"prompt": "q", "responder": "b", "response": "  "},
        {"prompt": " ", "responder": "b", "response": "text"},
        {"prompt": "q", "responder": "c", "response": "text"},
        {"prompt": "q", "responder": "b", "response": "line one\u2028line two"},
    ]
    manifest = importing.import_responses(store, jsonl(tmp_path / "a.jsonl", rows), ["a", "b"], "1.0.0")
    rejected = store.scan(manifest.ref, "rejected").collect().sort("row")
    assert rejected["reason"].to_list() == ["duplicate", "missing", "missing", "no_prompt", "not_in_ladder"]
    assert store.scan(manifest.ref).collect()["response"].sort().to_list() == [
        "line one\u2028line two",
        "text",
    ]
    assert manifest.ledger[0].n_in == 7


def test_queries_from_text_and_jsonl(store: Store, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("\ufeffFirst?\n\n Second? \nFirst?\n", "utf-8")
    manifest = importing.import_queries(store, str(tmp_path / "q.txt"), "1.0.0")
    assert set(store.scan(manifest.ref).select(last_turn()).collect()["prompt"]) == {"First?", "Second?"}
    assert store.scan(manifest.ref, "rejected").collect()["reason"].to_list() == ["duplicate"]
    rows = [{"query": "First?"}, {"query": " "}, {"query": "Second?", "more": 1}]
    again = importing.import_queries(store, jsonl(tmp_path / "q.jsonl", rows), "2.0.0")
    assert store.scan(again.ref, "rejected").collect()["reason"].to_list() == ["empty"]
    assert verify(store, manifest.ref) == verify(store, again.ref) == []
    for number, column in enumerate(("prompt", "question", "text"), start=3):
        answers = [{"question_id": n, column: row["query"]} for n, row in enumerate(rows)]
        file = jsonl(tmp_path / f"{column}.jsonl", answers)
        assert importing.import_queries(store, file, f"{number}.0.0").digest == again.digest
    (tmp_path / "rows.txt").write_text(json.dumps(rows[0]), "utf-8")
    with pytest.raises(InputError, match=r"rows\.txt:1: a JSON object in a text file: name the file \.jsonl"):
        importing.import_queries(store, str(tmp_path / "rows.txt"), "9.0.0")
    run = build_.BuildRun(store, "2.0.0", fake_tiny(), FakeEngine())
    assert [s.manifest.builder.name for s in run.build("responses")] == ["import-queries", "responses"]


def test_named_columns_hold_responder_and_response(store: Store, tmp_path: Path) -> None:
    """AlpacaEval's outputs: a row an answer."""
    rows = [{"instruction": "p", "generator": name, "output": f"{name} says."} for name in ("x", "y")]
    file = jsonl(tmp_path / "outputs.jsonl", rows)
    with pytest.raises(InputError, match=r"say import\.columns responder=NAME,response=NAME"):
        importing.import_responses(store, file, ["x", "y"], "1.0.0")
    for columns in (
        {"responder": "model", "response": "output"},
        {"responder": "generator", "response": "z"},
    ):
        with pytest.raises(InputError, match=r"no column '(model|z)'; it has: generator, inst"):
            importing.import_responses(store, file, ["x", "y"], "1.0.0", importing.Options(columns))
    for columns in ({"responder": "generator"}, {"response": "output"}):
        with pytest.raises(InputError, match="alone is not enough: name both, responder=NAME,response=NAME"):
            importing.import_responses(store, file, ["x", "y"], "1.0.0", importing.Options(columns))
    columns = {"responder": "generator", "response": "output"}
    with pytest.raises(InputError, match=r"best first; the file has: x, y$"):
        importing.import_responses(store, file, [], "1.0.0", importing.Options(columns))
    importing.import_responses(store, file, ["x", "y"], "1.0.0", importing.Options(columns))
    kept = store.scan("responses@1.0.0", "y").select("responder", "response").collect().rows()
    assert kept == [("y", "y says.")]


def test_a_named_column_holds_the_system_prompt(store: Store, tmp_path: Path) -> None:
    rows = [{"talk": "Why?", "persona": "Be kind.", "system": "not this", "x": "A.", "y": "B."}]
    file, turns = jsonl(tmp_path / "a.jsonl", rows), [("system", "Be kind."), ("user", "Why?")]
    columns = {"prompt": "talk", "system": "persona"}
    importing.import_responses(store, file, ["x", "y"], "1.0.0", importing.Options(columns))
    columns = {"query": "talk", "system": "persona"}
    importing.import_queries(store, file, "1.0.0", importing.Options(columns))
    for ref in ("responses@1.0.0", "queries@1.0.0"):
        prompts = store.scan(ref).collect()["prompt"].to_list()
        assert {tuple(turn.values()) for prompt in prompts for turn in prompt} == set(turns)
    for named, match in (
        ({"system": "persona"}, "name the query too"),
        (columns | {"system": "z"}, "no column"),
    ):
        with pytest.raises(InputError, match=match):
            importing.import_queries(store, file, "2.0.0", importing.Options(named))


@pytest.mark.parametrize(
    ("name", "content", "ladder", "match"),
    [
        ("a.jsonl", b'{"prompt": "p", "x": "1", "y": "2"}\n{"prompt": \n', "x,y", r"a\.jsonl:2: broken JSON"),
        ("a.jsonl", b"", "x,y", r"a\.jsonl: no row"),
        ("a.jsonl", b'{"prompt": "p", "x": "1"}', "x,y", r"a\.jsonl: no column 'y'.*it has: prompt, x"),
        ("a.jsonl", b'{"prompt": "p", "model_y": "1", "x": ""}', "x,mode_y", "did you mean 'model_y'"),
        ("a.jsonl", b'{"x": "p", "y": "1"}', "x,y", r"a\.jsonl: no column 'prompt'"),
        ("a.jsonl", b'{"prompt": "p", "x": "1", "y": "1"}', "x,x", "duplicate responder 'x'"),
        (
            "a.jsonl",
            b'{"prompt": "p", "x": "1", "y": 7}',
            "x,y",
            r"of 'y', such as a\.jsonl:1: y must be text",
        ),
        (
            "a.jsonl",
            b'{"prompt": "p", "x": "1", "y": ""}',
            "x,y",
            r"no usable response of 'y', such as a\.jsonl:1",
        ),
        (
            "a.jsonl",
            b'{"prompt": ["p"], "x": "1", "y": "2"}',
            "x,y",
            r"a\.jsonl:1: prompt must be text or a list of turns, not a list of texts",
        ),
        (
            "a.jsonl",
            b'{"prompt": "p", "responder": ["x"], "response": "y"}',
            "x,y",
            r"a\.jsonl:1: responder must",
        ),
        ("a.jsonl", b'{"prompt": "p", "x": "1", "y": "2"}', "x,prompt", "'prompt' is a column of its own"),
        ("a.jsonl", b'{"prompt": " ", "x": "", "y": ""}', "x,y", r"a\.jsonl: no usable response"),
        ("a.txt", b"one\n", "x,y", r"a\.txt: plain text, without columns: give one of \.jsonl"),
        ("a.dat", b"one\n", "x,y", r"a\.dat: cannot tell its format: save it as one of \.jsonl"),
    ],
)
def test_bad_files_are_one_line_and_leave_nothing(
    store: Store, tmp_path: Path, name: str, content: bytes, ladder: str, match: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        importing.import_responses(store, str(tmp_path / name), ladder.split(","), "1.0.0")
    assert "\n" not in str(caught.value)
    assert store.refs() == []


def test_80_real_questions_with_four_real_models_answers(store: Store, tmp_path: Path, shared: Path) -> None:
    folder = shared / "fastchat_vicuna80"
    ladder = ["gpt35", "vicuna-13b", "alpaca-13b", "llama-13b"]
    questions = [json.loads(line) for line in (folder / "question.jsonl").read_text("utf-8").splitlines()]
    rows = {q["question_id"]: {"prompt": q["text"]} for q in questions}
    for model in ladder:
        for line in (folder / "answer" / f"answer_{model}.jsonl").read_text("utf-8").splitlines():
            answer = json.loads(line)
            rows[answer["question_id"]][model] = answer["text"]
    manifest = importing.import_responses(
        store, jsonl(tmp_path / "vicuna.jsonl", list(rows.values())), ladder, "1.0.0"
    )
    assert manifest.ledger[0].n_in == 320
    assert (
        sum(manifest.counts["default"].values()) == manifest.ledger[-1].kept == 319
    )  # one real answer is empty
    numbers = build(store, "1.0.0")
    assert numbers["queries"] == 80
    assert numbers["comparisons"] > 100
    dropped = store.scan("comparisons@1.0.0", "rejected_responses").collect()
    failed = dropped.filter(pl.col("reason") != "few_survivors")
    assert len(failed) <= 0.05 * 319, "of real answers 95% pass the checks for chat models"


def test_a_hub_dataset_is_read_over_http_at_a_pinned_commit(tmp_path: Path) -> None:
    pl.DataFrame(WIDE).write_parquet(tmp_path / "wide.parquet")
    files = {
        "data/train-00000-of-00001.parquet": (tmp_path / "wide.parquet").read_bytes(),
        "README.md": b"# hello\n",
    }
    with serve("someone/answers", files) as (endpoint, commit):
        words = ["--ladder", "good,poor", "--version", "1.0.0", "--root", str(tmp_path / "build")]
        with at_hub({"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}):
            done = run("import", "responses", "someone/answers", *words)
            refused = run("import", "responses", "someone/nothing", *words)
        assert done.returncode == 0, done.stderr
        assert (
            done.stdout.splitlines()[0] == "read as: prompt (prompt), response (good, poor); not read: other"
        )
    manifest = Store(tmp_path / "build").manifest("responses@1.0.0")
    assert manifest.config["file"] == {"name": "someone/answers", "revision": commit}
    assert sum(manifest.counts["default"].values()) == 60
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "almost-data: someone/nothing: no such file, and not available on the Hub"
    )
    assert refused.stderr.count("\n") == 1


def test_the_last_turn_of_a_whole_conversation_is_the_response(store: Store, tmp_path: Path) -> None:
    def user(text: str) -> dict[str, str]:
        return {"role": "user", "content": text}

    def reply(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    head = [{"role": "system", "content": "Be kind."}, user("Hi"), reply("Hello."), user("Why?")]
    whole = {name: [*head, reply(f"So, {name}.")] for name in ("good", "poor")}
    long = [{"responder": name, "messages": turns} for name, turns in whole.items()]
    prompted = {"prompt": head[:2], "good": whole["good"], "poor": "So, poor."}
    beside = {name: turns[1:] for name, turns in whole.items()} | {"system": "Be kind."}
    for version, rows in (("1.0.0", [whole]), ("2.0.0", long), ("5.0.0", [beside])):
        manifest = importing.import_responses(
            store, jsonl(tmp_path / "a.jsonl", rows), ["good", "poor"], version
        )
        read = store.scan(manifest.ref).collect()
        assert read["prompt"].to_list() == [head, head] and verify(store, manifest.ref) == []
        assert read["response"].to_list() == ["So, good.", "So, poor."]
    manifest = importing.import_responses(
        store, jsonl(tmp_path / "a.jsonl", [prompted]), ["good", "poor"], "3.0.0"
    )
    assert store.scan(manifest.ref).collect()["prompt"].to_list() == [head, head[:2]]
    second_rows = [{"prompt": "Where?", "good": whole["good"], "poor": "Here."}]
    second_rows.append({"prompt": "When?", "good": "Now.", "poor": "Then."})
    manifest = importing.import_responses(
        store, jsonl(tmp_path / "a.jsonl", second_rows), ["good", "poor"], "4.0.0"
    )
    assert store.scan(manifest.ref, "rejected").collect()["reason"].to_list() == ["prompts_differ"]


def test_more_rows_than_are_kept_in_memory_are_the_same_dataset(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*WIDE, {"prompt": None, "good": "a", "poor": "b"}, {"prompt": "x", "good": "a", "poor": None}] * 2
    file = jsonl(tmp_path / "a.jsonl", rows)
    for build_one in (
        lambda version: importing.import_responses(store, file, ["good", "poor"], version),
        lambda version: importing.import_queries(
            store, file, version, importing.Options({"query": "prompt"})
        ),
    ):
        whole = build_one("1.0.0")
        with monkeypatch.context() as patch:
            patch.setattr("almost_data.datasets.spool.CHUNK", 3)
            patch.setattr("almost_data.datasets.spool.BLOCK_ROWS", 8)
            parts = build_one("2.0.0")
        assert (
            parts.digest == whole.digest and parts.ledger == whole.ledger and verify(store, parts.ref) == []
        )


def test_a_prompt_of_messages_beside_a_column_of_each_responder(store: Store, tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    file = jsonl(tmp_path / "chats.jsonl", [{"id": 1, "messages": prompt, "good": "So.", "poor": "No."}])
    for version, columns in (("1.0.0", {}), ("2.0.0", {"prompt": "messages"})):
        options = importing.Options(columns)
        manifest = importing.import_responses(store, file, ["good", "poor"], version, options)
        assert store.scan(manifest.ref).collect()["prompt"].to_list() == [prompt, prompt]
    whole = [*prompt, {"role": "assistant", "content": "So."}]
    file = jsonl(tmp_path / "whole.jsonl", [{"messages": whole, "good": "So.", "poor": "No."}])
    with pytest.raises(InputError, match=r"every row is rejected.*no_user_turn_last"):
        importing.import_responses(store, file, ["good", "poor"], "3.0.0")


def test_an_import_without_a_ladder_names_who_could_be_on_it(store: Store, tmp_path: Path) -> None:
    wide = jsonl(tmp_path / "wide.jsonl", [{"prompt": "Why?", "good": "So.", "poor": "No."}])
    with pytest.raises(
        InputError, match=r"^import\.ladder is missing: .* has: good, poor; where a row has one"
    ):
        importing.import_responses(store, wide, [], "1.0.0")
    rows = [{"prompt": "Why?", "responder": name, "response": "So."} for name in ("one", "two")]
    with pytest.raises(InputError, match=r"best first; the file has: one, two$"):
        importing.import_responses(store, jsonl(tmp_path / "long.jsonl", rows), [], "1.0.0")
    with pytest.raises(InputError, match=r"read by `import preferences`, and `build filtered` filters it"):
        importing.import_responses(store, wide, ["chosen", "rejected"], "1.0.0")
    done = run("import", "responses", wide, "--version", "1.0.0", "--root", str(store.root))
    assert (done.returncode, done.stderr[:32]) == (2, "almost-data: --ladder is missing")


@pytest.mark.parametrize("reply", ['["So.", "Or so."]', "['So.', 'Or so.']"])
def test_replies_that_are_lists_of_texts_are_refused_unless_they_are_named(
    store: Store, tmp_path: Path, reply: str
) -> None:
    wide = jsonl(tmp_path / "wide.jsonl", [{"prompt": "Why?", "good": reply, "poor": reply}])
    with pytest.raises(InputError, match=r"texts as JSON, in good and poor: write one reply a row, or"):
        importing.import_responses(store, wide, ["good", "poor"], "1.0.0")
    rows = [{"prompt": "Why?", "responder": name, "response": reply} for name in ("good", "poor")]
    long = jsonl(tmp_path / "long.jsonl", rows)
    with pytest.raises(InputError, match=r"lists of texts, or turns or texts as JSON, in response: "):
        importing.import_responses(store, long, ["good", "poor"], "1.0.0")
    options = importing.Options(columns={"responder": "responder", "response": "response"})
    manifest = importing.import_responses(store, long, ["good", "poor"], "1.0.0", options)
    assert store.scan(manifest.ref).collect()["response"].to_list() == [reply] * 2


def test_comparisons_are_in_the_language_that_the_import_names(store: Store, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Combien de jours a le mois {n} ?", "grand": LONG, "petit": f"{n} jours."}
        for n in range(30)
    ]
    file = jsonl(tmp_path / "fr.jsonl", rows)
    for version, language in (("1.0.0", "fr"), ("2.0.0", None)):
        options = importing.Options(card=presets.card(None, language))
        importing.import_responses(store, file, ["grand", "petit"], version, options)
        for assignments, expected in (
            ((), language),
            (("card.language=nl",), "nl"),
            (("card.language=en",), "en"),  # which is the preset's own
        ):
            preset = presets.load(assignments=("comparisons.length_sd=None", *assignments))
            sources = {"responses": f"responses@{version}"}
            run = build_.BuildRun(store, f"{version}-{expected or 'unknown'}", preset, FakeEngine(), sources)
            manifest = run.build("comparisons")[-1].manifest
            assert manifest.config["card"]["language"] == expected
            assert manifest.config["settings"]["length_sd"] is None


def test_rows_with_images_are_rejected_in_queries_and_responses(store: Store, tmp_path: Path) -> None:
    """Unless the user names the column, and says by that that the text is all of the prompt."""
    answers = {"good": "So.", "poor": "No."}
    rows = [{"prompt": f"Q {n}?", **answers, "images": ["x.png"] if n == 1 else []} for n in range(3)]
    whole = [
        {
            name: [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": text}]
            for name, text in answers.items()
        }
        | {"images": row["images"]}
        for row in rows
    ]
    ladder, file = ["good", "poor"], jsonl(tmp_path / "a.jsonl", rows)
    queries = importing.import_queries(store, file, "1.0.0", importing.Options())
    for version, content in (("1.0.0", rows), ("2.0.0", whole)):
        source = jsonl(tmp_path / f"{version}.jsonl", content)
        responses = importing.import_responses(store, source, ladder, version)
        assert store.scan(responses.ref, "rejected").collect()["reason"].to_list() == ["image"] * 2
        assert sum(responses.counts["default"].values()) == 4
    assert store.scan(queries.ref, "rejected").collect()["reason"].to_list() == ["image"]
    named = importing.Options({"prompt": "prompt"})
    assert "rejected" not in importing.import_responses(store, file, ladder, "3.0.0", named).counts
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"'images': only text is read.* import\.columns prompt=NAME"):
        importing.import_responses(store, str(tmp_path / "a.parquet"), ladder, "4.0.0")
    importing.import_responses(store, str(tmp_path / "a.parquet"), ladder, "4.0.0", named)


def test_a_refusal_names_all_columns_of_the_file(store: Store, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"good": "So.", "poor": "No."}])
    with pytest.raises(InputError, match=r"no column 'prompt'; it has: good, poor: say which"):
        importing.import_responses(store, file, ["good", "poor"], "1.0.0")
    with pytest.raises(InputError, match="column 'good' holds replies: name that of the prompt"):
        importing.import_responses(
            store, file, ["good", "poor"], "1.0.0", importing.Options({"prompt": "good"})
        )


@pytest.mark.parametrize("layout", ["wide", "long", "parquet"])
def test_how_a_reply_ended_is_read_where_its_column_says_whose_it_is(
    store: Store, tmp_path: Path, layout: str
) -> None:
    """`cut_off` then trusts it more than the text, and a dropped row shows it."""
    cut = "So it is a leaf that is dried, and then it is poured over with the"
    texts = {"good": ["It is.", "No, a leaf.", cut], "poor": ["A leaf.", "A fruit.", "A leaf."]}
    ends = {"good": ["MAX_TOKENS", "eos", None], "poor": ["stop", "content_filter", "length"]}
    wide = [
        {
            "prompt": f"Q {n}?",
            **{name: replies[n] for name, replies in texts.items()},
            "good_finish_reason": ends["good"][n],
            "stop_reason_poor": ends["poor"][n],
        }
        for n in range(3)
    ]
    long = [
        {"prompt": f"Q {n}?", "responder": name, "response": replies[n], "finish_reason": ends[name][n]}
        for name, replies in texts.items()
        for n in range(3)
    ]
    file = jsonl(tmp_path / "a.jsonl", long if layout == "long" else wide)
    if layout == "parquet":
        pl.DataFrame(wide).write_parquet(file := str(tmp_path / "a.parquet"))
    manifest = importing.import_responses(store, file, ["good", "poor"], "1.0.0")
    assert "finish_reason (" in manifest.ledger[0].description
    rows = store.scan(manifest.ref).sort(pl.col("prompt").list.first().struct.field("content"), "responder")
    read = rows.collect()["finish_reason"].to_list()
    assert read == ["length", "stop", "stop", None, None, "length"]
    checks = ("comparisons.checks=cut_off", "comparisons.check_sides=both")
    build_.prepare(root=store.root, version="1.0.0", assignments=checks).build("comparisons")
    dropped = store.scan("comparisons@1.0.0", "rejected_responses").filter(pl.col("reason") == "cut_off")
    assert dict(dropped.select("response", "finish_reason").collect().iter_rows()) == {
        "It is.": "length",
        cut: None,
        "A leaf.": "length",
    }


@pytest.mark.parametrize("shape", ["wide", "long"])
def test_replies_that_repeat_their_prompt_are_refused_unless_the_prompt_is_named(
    store: Store, tmp_path: Path, shape: str
) -> None:
    """What a library returns that gives the whole text back."""
    wide = [{"prompt": f"Why {n}?", "good": f"So {n}.", "poor": f" Why {n}?\nNo."} for n in range(3)]
    long = [
        {"prompt": row["prompt"], "responder": name, "response": f"{row['prompt']} {row[name]}"}
        for row in wide
        for name in ("good", "poor")
    ]
    file = jsonl(tmp_path / "a.jsonl", wide if shape == "wide" else long)
    column = "poor" if shape == "wide" else "response"
    refusal = f"{column} begins with the text of prompt: .*import.columns prompt=prompt"
    with pytest.raises(InputError, match=refusal) as error:
        importing.import_responses(store, file, ["good", "poor"], "1.0.0")
    assert "\n" not in str(error.value)
    options = importing.Options({"prompt": "prompt"})
    manifest = importing.import_responses(store, file, ["good", "poor"], "1.0.0", options)
    assert manifest.rows == 6


def test_the_column_of_how_replies_ended_can_be_named(store: Store, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "responder": n, "response": f"So {n}.", "why_ended": "length"} for n in range(2)
    ]
    file = jsonl(tmp_path / "a.jsonl", rows)
    options = importing.Options({"finish_reason": "why_ended"})
    manifest = importing.import_responses(store, file, ["a=1", "b=0"], "1.0.0", options)
    read = store.scan(manifest.ref).sort("rank").select("responder", "response", "finish_reason").collect()
    assert read.rows() == [("a", "So 1.", "length"), ("b", "So 0.", "length")]
    with pytest.raises(InputError, match=r"import\.ladder is missing: .*; the file has: 0, 1"):
        importing.import_responses(store, file, [], "1.0.0")
    wide = jsonl(tmp_path / "b.jsonl", [{"prompt": "Why?", "a": "So.", "b": "No.", "why_ended": "length"}])
    with pytest.raises(InputError, match="finish_reason=why_ended alone is not enough: name both"):
        importing.import_responses(store, wide, ["a", "b"], "1.0.0", options)


def test_a_file_of_which_every_row_is_rejected_is_told_where_and_what_to_do(
    store: Store, tmp_path: Path
) -> None:
    turn = {"role": "critic", "content": "Why?"}
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": [turn]}, {"prompt": "\u200b"}])
    where = (
        r"rejected \(unknown_role: .*\), such as a\.jsonl:1: a turn has the role 'critic': correct the rows"
    )
    with pytest.raises(InputError, match=where):
        importing.import_queries(store, file, "1.0.0")
    long = [{"prompt": "Why?", "responder": name, "response": {"text": "So."}} for name in ("a", "b")]
    where = (
        r"rejected \(unknown_role: .*\), such as b\.jsonl:1: no role in text: correct the rows, or name other"
    )
    with pytest.raises(InputError, match=where):
        importing.import_responses(store, jsonl(tmp_path / "b.jsonl", long), ["a", "b"], "1.0.0")


def test_how_replies_ended_is_not_read_where_it_is_not_said_whose(store: Store, tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "good": "So.", "poor": "No.", "finish_reason": "length"}]
    manifest = importing.import_responses(store, jsonl(tmp_path / "a.jsonl", rows), ["good", "poor"], "1.0.0")
    assert manifest.ledger[0].description.endswith(
        "response (good, poor); finish_reason is not read: name it good_finish_reason."
    )
    assert store.scan(manifest.ref).collect()["finish_reason"].to_list() == [None, None]


def test_garbage_is_collected_rarely_during_an_import(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thresholds: list[int] = []
    publish = importing.publish_dataset

    def publish_dataset(*arguments: Any) -> Manifest:
        thresholds.append(gc.get_threshold()[0])
        return publish(*arguments)

    monkeypatch.setattr(importing, "publish_dataset", publish_dataset)
    before = gc.get_threshold()
    importing.import_queries(store, jsonl(tmp_path / "q.jsonl", [{"query": "Why is tea hot?"}]), "1.0.0")
    assert thresholds == [garbage.OBJECTS] and gc.get_threshold() == before
