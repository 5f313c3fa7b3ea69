"""TruthfulQA: known answers, shortcuts, and agreement with lm-evaluation-harness and with transformers."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.evals import sources, truthfulqa
from almost_data.evals.result import Line, Result
from almost_data.evals.subject import find
from almost_data.generation.prompts import question
from almost_data.scoring import Options
from almost_data.store.store import Store
from tests.evals.known import cli, frame, judged, language, questions, reward
from tests.hub_server import serve
from tests.tiny_models import save_tiny


def line(result: Result, who: str, metric: str = "accuracy") -> Line:
    [matching] = [row for row in result.lines if (row.who, row.metric) == (who, metric)]
    return matching


def is_right(turns: tuple[str, ...]) -> float:
    return float("right" in turns[-1])


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(questions(tmp_path / "mc1.jsonl"))


def test_a_perfect_and_an_inverted_scorer(store: Store, data: str) -> None:
    result = judged(truthfulqa, store, reward(is_right), data)
    assert line(result, "known").value == 1.0 and line(result, "known").chance == 0.25
    assert line(result, "baseline:longest").value == line(result, "baseline:shortest").value == 0.0
    inverted = judged(truthfulqa, store, reward(lambda turns: -is_right(turns), "inverted"), data)
    assert line(inverted, "inverted").value == 0.0
    assert any("below guessing" in note for note in inverted.notes)


def test_equals_share_the_point(store: Store, data: str) -> None:
    result = judged(truthfulqa, store, reward(lambda _: 1.0), data)
    assert (line(result, "known").value, line(result, "known").ties) == (0.25, 12)
    short = judged(
        truthfulqa, store, reward(lambda turns: float(not turns[-1].startswith("It")), "half"), data
    )
    assert (line(short, "half").value, line(short, "half").ties) == (0.5, 12)
    assert any("no better than guessing" in note for note in result.notes)


def test_true_or_false(store: Store, data: str) -> None:
    def log(turns: tuple[str, ...]) -> float:
        context, word = turns
        return -1.0 if ("All right" in context) == (word.strip() == "true") else -3.0

    result = judged(truthfulqa, store, language(log), data)
    assert line(result, "known-lm").value == 1.0
    assert frame(store, result)["accuracy: scores"].to_list() == [[-1.0, -3.0, -3.0, -3.0]] * 12
    odds = "accuracy, true against false"
    assert frame(store, result)[f"{odds}: scores"].to_list() == [[2.0, -2.0, -2.0, -2.0]] * 12
    # A wrong answer behind which either word is likelier: P("true") takes it, and against P("false") not.
    second = judged(
        truthfulqa,
        store,
        language(lambda turns: log(turns) + 5 * ("All right" not in turns[0]), "louder"),
        data,
    )
    assert (line(second, "louder").value, line(second, "louder", odds).value) == (0.0, 1.0)
    assert result.prompts == {"truthfulqa_true": question("truthfulqa_true")}


def test_layouts(store: Store, tmp_path: Path, data: str) -> None:
    rows = [json.loads(text) for text in Path(data).read_text().splitlines()]
    examples = [
        {
            "input": row["question"],
            "target_scores": {text: int(at == 0) for at, text in reversed(list(enumerate(row["choices"])))},
        }
        for row in rows
    ]
    (tmp_path / "task_mc.json").write_text(json.dumps({"examples": examples}))
    (tmp_path / "hub.jsonl").write_text("".join(f"{json.dumps(_as_on_the_hub(row))}\n" for row in rows))
    for name in ("task_mc.json", "hub.jsonl"):
        result = judged(truthfulqa, store, reward(is_right), str(tmp_path / name))
        assert line(result, "known").value == 1.0 and line(result, "known").n == 12


def _as_on_the_hub(row: dict[str, Any]) -> dict[str, Any]:
    labels = [int(at == row["label"]) for at in range(len(row["choices"]))]
    return {"question": row["question"], "mc1_targets": {"choices": row["choices"], "labels": labels}}


def test_from_the_hub_at_a_commit(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [_as_on_the_hub(json.loads(text)) for text in Path(data).read_text().splitlines()]
    pl.DataFrame(rows).write_parquet(tmp_path / "x.parquet")
    card = "---\nconfigs:\n- config_name: multiple_choice\n  data_files: mc/*.parquet\n"
    card += "- config_name: generation\n  data_files: other/*.parquet\n---\n"
    parquet = (tmp_path / "x.parquet").read_bytes()
    files = {"README.md": card.encode(), "mc/validation.parquet": parquet, "other/x.parquet": b"broken"}
    with serve("ORG/mc1", files) as (endpoint, commit):
        env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        words = ("truthfulqa", "--model", "baseline:longest", "--root", str(tmp_path / "build"), "--json")
        done = cli(*words, "--data", "ORG/mc1@v1.0.0", **env)
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        [pinned] = printed["data"]
        assert (pinned["id"], pinned["revision"], pinned["role"]) == ("ORG/mc1", commit, "data")
        assert printed["lines"][0]["n"] == 12
        wrong = cli(*words, "--data", "ORG/other@v1.0.0", **env)
        assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1, wrong.stderr
        assert "ORG/other: no such file, and not available on the Hub" in wrong.stderr


def test_files_are_not_known_as_the_benchmark(store: Store, shared: Path) -> None:
    for name, n in (("mc1_derived.jsonl", 817), ("task_mc.json", 299)):
        data = str(shared / "truthfulqa" / name)
        result = judged(truthfulqa, store, find(store, "baseline:longest"), data)
        assert result.lines[0].n == n
        assert any("Not known to be the items of TruthfulQA's MC1" in note for note in result.notes)
        assert not any(map(truthfulqa.EVALUATION.is_official, result.data))


@pytest.mark.parametrize(("template", "bos"), [(False, False), (False, True), (True, False), (True, True)])
def test_true_is_what_transformers_computes(store: Store, tmp_path: Path, template: bool, bos: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = save_tiny(tmp_path / "lm", bos=bos, max_position_embeddings=1024)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if template:
        tokenizer.chat_template = (
            "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ '\\n' }}"
        )
        tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    data = questions(tmp_path / "q.jsonl", 2)
    result = judged(truthfulqa, store, find(store, str(folder), options={"device": "cpu"}), str(data))
    kept = frame(store, result)
    for row, true, odds in zip(
        data.read_text().splitlines(),
        kept["accuracy: scores"],
        kept["accuracy, true against false: scores"],
        strict=True,
    ):
        expected = []
        for answer in json.loads(row)["choices"]:
            text = question("truthfulqa_true").format(question=json.loads(row)["question"], answer=answer)
            prompt = f"<bos>{text}\n" if template else f"{'<bos>' * bos}Human: {text}\n\nAssistant:"
            logs = []
            for word in ("true", "false"):
                start = tokenizer(prompt, add_special_tokens=False)["input_ids"]
                ids = tokenizer(word if template else f" {word}", add_special_tokens=False)["input_ids"]
                with torch.no_grad():
                    log_probs = model(torch.tensor([start + ids])).logits[0].log_softmax(-1)
                logs.append(sum(float(log_probs[len(start) + at - 1, token]) for at, token in enumerate(ids)))
            expected.append((logs[0], logs[0] - logs[1]))
        assert list(zip(true, odds, strict=True)) == [pytest.approx(token, abs=1e-4) for token in expected]


def test_another_dtype_is_asked_anew(store: Store, data: str) -> None:
    """In bfloat16 all are tied; in float32, what the note asks for, the right one is the likeliest."""

    def fine(turns: tuple[str, ...]) -> float:
        return 0.0 if ("All right" in turns[0]) == (turns[1].strip() == "true") else -1.0

    coarse = judged(truthfulqa, store, language(lambda _: -1.0, options=Options(dtype="bfloat16")), data)
    again = judged(truthfulqa, store, language(fine, options=Options(dtype="float32")), data)
    assert (line(coarse, "known-lm").value, line(again, "known-lm").value) == (0.25, 1.0)
    assert [result.settings["dtype"] for result in (coarse, again)] == ["bfloat16", "float32"]
    assert "dtype" not in judged(truthfulqa, store, reward(is_right), data).settings


def test_the_official_file_of_choices_and_labels_is_read(tmp_path: Path) -> None:
    item = {
        "question": "Is tea a fruit?",
        "mc1_targets": {"No, a leaf.": 1, "Yes.": 0},
        "mc2_targets": {"No.": 1},
    }
    (file := tmp_path / "mc_task.json").write_text(json.dumps([item]), "utf-8")
    [read] = sources.read_files(str(file)).items
    assert (read.text, read.choices[read.right], len(read.choices)) == ("Is tea a fruit?", "No, a leaf.", 2)
