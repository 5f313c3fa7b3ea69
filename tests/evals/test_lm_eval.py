"""lm-evaluation-harness: its numbers with intervals, and the difference from the model before."""

import json
import math
import re
import socket
from pathlib import Path

import polars as pl
import pytest
import yaml

from almost_data.errors import InputError
from almost_data.evals import lm_eval_tasks, result
from almost_data.evals.result import Line, Result
from almost_data.evals.subject import Subject, find
from almost_data.scoring import Options
from almost_data.store import Store
from tests.evals.known import cli, reward
from tests.tiny_models import save_tiny

N = 30


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks of choices, a group of both, and one that has no share for a metric."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("made_up_one", "made_up_two"):
        rows = [
            {"text": f"{name} fact {i}:", "choices": [f"{j} of {i + j}" for j in range(2)], "gold": i % 2}
            for i in range(N)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": 3},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    group = {
        "group": "made_up",
        "task": ["made_up_one", "made_up_two"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        "metadata": {"version": 1},
    }
    (folder / "made_up.yaml").write_text(yaml.safe_dump(group))
    text = config | {
        "task": "made_up_text",
        "output_type": "loglikelihood",
        "doc_to_target": "{{' ' + choices[0]}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    }
    del text["doc_to_choice"]
    (folder / "made_up_text.yaml").write_text(yaml.safe_dump(text))
    return folder


def tiny(store: Store, folder: Path, seed: int = 0) -> Subject:
    return find(store, str(save_tiny(folder, seed=seed)), options=Options(device="cpu"))


def lines(made: Result) -> dict[tuple[str, str, str], Line]:
    return {(one.who, one.metric, one.subset): one for one in made.lines}


def test_a_group_beside_the_model_before(store: Store, tmp_path: Path, tasks: Path) -> None:
    after, before = tiny(store, tmp_path / "after"), tiny(store, tmp_path / "before", seed=1)
    made = lm_eval_tasks.run(store, after, ["made_up"], tasks, before)
    found = lines(made)
    assert sorted(found) == [
        ("after", "acc", "made_up"),
        ("after less before", "acc", "made_up"),
        ("before", "acc", "made_up"),
    ]
    items = pl.read_parquet(result.folder(store, made) / "items.parquet").filter(pl.col("metric") == "acc")
    assert items.columns == ["model", "subset", "metric", "item", "value"] and len(items) == 4 * N
    by_model = {name: items.filter(pl.col("model") == name)["value"] for name in ("after", "before")}
    for name, values in by_model.items():
        one = found[name, "acc", "made_up"]
        mean, error = float(values.mean()), float(values.std()) / math.sqrt(2 * N)  # type: ignore[arg-type]
        assert one.n == 2 * N and one.value == pytest.approx(mean)
        # The harness pools the errors of a group's tasks by another formula, near to this one.
        assert one.low == pytest.approx(mean - 1.96 * error, abs=0.01)
    gaps = by_model["after"] - by_model["before"]
    tax = found["after less before", "acc", "made_up"]
    assert tax.value == pytest.approx(gaps.mean())
    error = float(gaps.std()) / math.sqrt(2 * N)  # type: ignore[arg-type]
    assert (tax.low, tax.high) == pytest.approx(
        (gaps.mean() - 1.96 * error, gaps.mean() + 1.96 * error), abs=1e-4
    )
    assert {row[0] for row in made.details["parts"]["rows"]} == {"made_up_one", "made_up_two"}
    assert [one.role for one in made.models] == ["model", "before"]
    assert set(made.settings["tasks"]) == {"made_up_one", "made_up_two"}
    assert all(one["version"] == 3 for one in made.settings["tasks"].values())
    for file in (at for at in result.folder(store, made).rglob("*") if at.is_file()):
        assert b"fact 3" not in file.read_bytes() and str(tmp_path).encode() not in file.read_bytes()


def test_against_itself_nothing_is_lost(store: Store, tmp_path: Path, tasks: Path) -> None:
    one = tiny(store, tmp_path / "lm")
    made = lm_eval_tasks.run(store, one, ["made_up_one"], tasks, one)
    tax = lines(made)["lm less lm", "acc", "made_up_one"]
    assert (tax.value, tax.low, tax.high) == (0, 0, 0)


def test_a_perplexity_is_no_share_and_stands_apart(store: Store, tmp_path: Path, tasks: Path) -> None:
    made = lm_eval_tasks.run(store, tiny(store, tmp_path / "lm"), ["made_up_text"], tasks, limit=5)
    assert [(one.metric, one.n) for one in made.lines] == [("acc", 5)]
    [row] = made.details["parts"]["rows"]
    assert row[:3] == ["made_up_text", "perplexity", 5] and float(row[3].split()[0]) > 1
    assert any("Only the first 5 items" in note for note in made.notes)


def test_other_items_or_another_task_file_are_another_evaluation(
    store: Store, tmp_path: Path, tasks: Path
) -> None:
    one = tiny(store, tmp_path / "lm")
    first = lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    assert lm_eval_tasks.run(store, one, ["made_up_one"], tasks) == first
    file = tasks / "made_up_one.yaml"
    file.write_text(file.read_text().replace("version: 3", "version: 4"))
    second = lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    rows = (tasks / "made_up_one.jsonl").read_text()
    (tasks / "made_up_one.jsonl").write_text(rows.replace("fact 3:", "fact three:"))
    third = lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3


def test_what_cannot_be_asked(store: Store, tmp_path: Path, tasks: Path) -> None:
    one = tiny(store, tmp_path / "lm")
    with pytest.raises(InputError, match="asks language models"):
        lm_eval_tasks.run(store, reward(lambda _: 0.0), ["made_up"], tasks)
    with pytest.raises(InputError, match=r"--tasks nothing: lm-evaluation-harness .* has no such task"):
        lm_eval_tasks.run(store, one, ["nothing"], tasks)
    with pytest.raises(InputError, match="--tasks: name a task"):
        lm_eval_tasks.run(store, one, [], tasks)
    with pytest.raises(InputError, match=r"--include .*: no such folder"):
        lm_eval_tasks.run(store, one, ["made_up"], tmp_path / "nowhere")
    with pytest.raises(InputError, match="--limit 0"):
        lm_eval_tasks.run(store, one, ["made_up"], tasks, limit=0)
    (tasks / "made_up_two.jsonl").unlink()
    with pytest.raises(InputError, match="--tasks made_up: cannot be loaded"):
        lm_eval_tasks.run(store, one, ["made_up"], tasks)


def test_command(tmp_path: Path, tasks: Path) -> None:
    folder = str(save_tiny(tmp_path / "lm"))
    what = ("lm-eval", "--model", folder, "--root", str(tmp_path / "build"), "--include", str(tasks))
    done = cli(*what, "--tasks", "made_up_one, made_up_two", "--limit", "4", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for name in ("made_up_one", "made_up_two"):
        assert re.search(rf"lm +acc +{name} +4 +0 +\d+.\d%", done.stdout)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    offline = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    failed = cli(*what, "--tasks", "lambada_openai", **offline)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1, failed.stderr
    assert "--tasks lambada_openai: cannot be loaded, or their data are not to be had" in failed.stderr
