"""lm-evaluation-harness: its numbers with intervals, and the difference from the model before."""

import json
import math
import re
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import yaml

from almost_data.errors import InputError
from almost_data.evals import lm_eval_model
from almost_data.evals.result import Line, Result
from almost_data.evals.results import results
from almost_data.evals.subject import Subject, find
from almost_data.generation.journal import REPLIES
from almost_data.generation.journal_file import count
from almost_data.store.store import Store
from tests.crash import Server
from tests.evals import asked
from tests.evals.known import cli, frame, on_tasks, reward
from tests.jsonl import jsonl
from tests.tiny_models import save_tiny

pytestmark = pytest.mark.engine
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
        jsonl(folder / f"{name}.jsonl", rows)
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
    return find(store, str(save_tiny(folder, seed=seed)), options={"device": "cpu"})


def lines(measured: Result) -> dict[tuple[str, str, str], Line]:
    return {(line.who, line.metric, line.subset): line for line in measured.lines}


def test_a_group_beside_the_model_before(store: Store, tmp_path: Path, tasks: Path) -> None:
    after, before = tiny(store, tmp_path / "after"), tiny(store, tmp_path / "before", seed=1)
    measured = on_tasks(store, after, ["made_up"], tasks, before)
    by_key = lines(measured)
    assert sorted(by_key) == [
        ("after", "acc", "made_up"),
        ("after less before", "acc", "made_up"),
        ("before", "acc", "made_up"),
    ]
    rows = frame(store, measured).filter(pl.col("metric") == "acc")
    assert rows.columns == ["model", "subset", "metric", "item", "value"] and len(rows) == 8 * N
    rows = rows.filter(pl.col("subset") == "made_up")
    by_model = {name: rows.filter(pl.col("model") == name)["value"] for name in ("after", "before")}
    for name, values in by_model.items():
        line = by_key[name, "acc", "made_up"]
        mean, error = float(values.mean()), float(values.std()) / math.sqrt(2 * N)  # type: ignore[arg-type]
        assert line.n == 2 * N and line.value == pytest.approx(mean)
        # The harness pools the errors of a group's tasks by another formula, near to this one.
        assert line.low == pytest.approx(mean - 1.96 * error, abs=0.01)
    gaps = by_model["after"] - by_model["before"]
    tax = by_key["after less before", "acc", "made_up"]
    assert tax.value == pytest.approx(gaps.mean())
    error = float(gaps.std()) / math.sqrt(2 * N)  # type: ignore[arg-type]
    assert (tax.low, tax.high) == pytest.approx(
        (gaps.mean() - 1.96 * error, gaps.mean() + 1.96 * error), abs=0.02
    )
    assert {row[0] for row in measured.details["parts"]["rows"]} == {"made_up_one", "made_up_two"}
    assert [line.role for line in measured.models] == ["model", "before"]
    assert set(measured.settings["tasks"]) == {"made_up_one", "made_up_two"}
    assert all(line["version"] == 3 for line in measured.settings["tasks"].values())
    for file in (at for at in store.path(measured.ref).rglob("*") if at.is_file()):
        assert b"fact 3" not in file.read_bytes() and str(tmp_path).encode() not in file.read_bytes()


def test_a_perplexity_is_no_share_and_stands_apart(store: Store, tmp_path: Path, tasks: Path) -> None:
    measured = on_tasks(store, tiny(store, tmp_path / "lm"), ["made_up_text"], tasks, limit=5)
    assert [(line.metric, line.n) for line in measured.lines] == [("acc", 5)]
    [row] = measured.details["parts"]["rows"]
    assert row[:3] == ["made_up_text", "perplexity", 5] and float(row[3].split()[0]) > 1
    assert any("Only the first 5 items" in note for note in measured.notes)


def test_other_items_or_another_task_file_are_another_evaluation(
    store: Store, tmp_path: Path, tasks: Path
) -> None:
    subject = tiny(store, tmp_path / "lm")
    first = on_tasks(store, subject, ["made_up_one"], tasks)
    assert on_tasks(store, subject, ["made_up_one"], tasks) == first
    file = tasks / "made_up_one.yaml"
    file.write_text(file.read_text().replace("version: 3", "version: 4"))
    second = on_tasks(store, subject, ["made_up_one"], tasks)
    rows = (tasks / "made_up_one.jsonl").read_text()
    (tasks / "made_up_one.jsonl").write_text(rows.replace("fact 3:", "fact three:"))
    third = on_tasks(store, subject, ["made_up_one"], tasks)
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It has imported the library, which takes most of the time of a run."""
    with Server(tmp_path_factory.mktemp("runs"), asked.__name__) as server:
        yield server


def kept(root: Path) -> int:
    """Answers in the journal."""
    journal = root / "journal.sqlite"
    return count(journal) if journal.is_file() else 0


@pytest.mark.crash
def test_killed_and_run_again_no_answer_is_asked_for_twice(
    tmp_path: Path, tasks: Path, server: Server
) -> None:
    folder, root = str(save_tiny(tmp_path / "lm")), tmp_path / "build"
    words = ["--model", folder, "--include", str(tasks), "--tasks", "made_up", "--device", "cpu", "--json"]
    run, log = ("eval", "lm-eval", "--root", str(root), *words), tmp_path / "log"
    batches = REPLIES // asked.CHUNK + 1
    assert server.run(*run, log=str(log), point="asked", at=batches + 1).code == -9
    kept_answers = kept(root)
    assert REPLIES <= kept_answers <= batches * asked.CHUNK < 4 * N and results(Store(root)) == []
    finished = log.read_text().splitlines()[:kept_answers]
    log.unlink()
    again = server.run(*run, log=str(log))
    assert again.code == 0, again.err
    rest = log.read_text().splitlines()
    assert len(rest) == 4 * N - kept_answers and not set(finished) & set(rest)
    whole = cli("lm-eval", "--root", str(tmp_path / "other"), *words)
    resumed, uninterrupted = json.loads(again.out), json.loads(whole.stdout)
    assert [resumed[key] for key in ("digest", "fingerprint", "lines", "details")] == [
        uninterrupted[key] for key in ("digest", "fingerprint", "lines", "details")
    ]
    assert len(list(results(Store(root)))) == 1


@pytest.mark.crash
def test_two_processes_on_one_journal_end_alike(tmp_path: Path, tasks: Path, server: Server) -> None:
    folder, root = str(save_tiny(tmp_path / "lm")), tmp_path / "build"
    words = ["--model", folder, "--include", str(tasks), "--tasks", "made_up", "--device", "cpu", "--json"]
    run = ("eval", "lm-eval", "--root", str(root), *words)
    runs = [server.start(*run, log=str(tmp_path / f"log{n}")) for n in range(2)]
    ends = [run.wait() for run in runs]
    assert [done.code for done in ends] == [0, 0]
    printed = [json.loads(done.out) for done in ends]
    assert printed[0]["digest"] == printed[1]["digest"] and kept(root) == 4 * N


def ways(tasks: Path) -> list[str]:
    """Tasks of the other two ways in which the library asks."""
    config = yaml.safe_load((tasks / "made_up_text.yaml").read_text()) | {"doc_to_target": "{{text}}"}
    rolling = config | {
        "task": "made_up_rolling",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "metric_list": [{"metric": "word_perplexity"}],
    }
    written = config | {
        "task": "made_up_written",
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["!"], "max_gen_toks": 4, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    for result in (rolling, written):
        (tasks / f"{result['task']}.yaml").write_text(yaml.safe_dump(result))
    return ["made_up_one", "made_up_rolling", "made_up_written"]


def test_what_was_answered_serves_every_evaluation_and_progress_is_told(
    store: Store,
    tmp_path: Path,
    tasks: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from lm_eval.models.huggingface import HFLM

    subject, names, reports = tiny(store, tmp_path / "lm"), ways(tasks), []
    capfd.readouterr()
    monkeypatch.setattr(lm_eval_model, "CHUNK", 25)
    first = on_tasks(store, subject, names, tasks, progress=lambda *report: reports.append(report))
    both_kinds = [("lm, loglikelihood", n, 60, 0) for n in range(1, 61)]
    others = ("loglikelihood_rolling", "generate_until")
    rest = [(f"lm, {kind}", n, 30, 0) for kind in others for n in range(1, 31)]
    assert sorted(reports) == sorted(both_kinds + rest)
    assert capfd.readouterr() == ("", "")
    for kind in ("loglikelihood", *others):
        monkeypatch.setattr(HFLM, kind, lambda *report, **how: pytest.fail("it was asked again"))
    shutil.rmtree(store.path(first.ref))
    again = on_tasks(store, subject, names, tasks)
    assert (again.digest, again.lines, again.details) == (first.digest, first.lines, first.details)
    few = on_tasks(store, subject, names[:1], tasks, limit=5)
    assert few.lines[0].n == 5


def test_what_cannot_be_asked(
    store: Store, tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    subject = tiny(store, tmp_path / "lm")
    with pytest.raises(InputError, match="needs a language model"):
        on_tasks(store, reward(lambda _: 0.0), ["made_up"], tasks)
    no_task = r"eval.tasks nothing: lm-evaluation-harness .* has no such task"
    with monkeypatch.context() as patch, pytest.raises(InputError, match=no_task):
        # Reading the library's own tasks takes seconds; a test of one of them does it.
        patch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
        on_tasks(store, subject, ["nothing"], tasks)
    with pytest.raises(InputError, match=r"eval\.tasks: name a task"):
        on_tasks(store, subject, [], tasks)
    with pytest.raises(InputError, match=r"eval.include .*: no such folder"):
        on_tasks(store, subject, ["made_up"], tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"eval\.before lm: the same model as eval\.model"):
        on_tasks(store, subject, ["made_up"], tasks, subject)
    with pytest.raises(InputError, match=r"eval\.limit 0"):
        on_tasks(store, subject, ["made_up"], tasks, limit=0)
    (tasks / "made_up_two.jsonl").unlink()
    with pytest.raises(InputError, match=r"eval\.tasks made_up: the tasks or their data cannot be loaded"):
        on_tasks(store, subject, ["made_up"], tasks)


def test_command(tmp_path: Path, tasks: Path) -> None:
    folder = str(save_tiny(tmp_path / "lm"))
    words = ("lm-eval", "--model", folder, "--root", str(tmp_path / "build"), "--include", str(tasks))
    done = cli(*words, "--tasks", "made_up_one, made_up_two", "--limit", "4", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for name in ("made_up_one", "made_up_two"):
        assert re.search(rf"\n  acc +{name} +4 +0 +\d+.\d%", done.stdout)
    same = cli(*words, "--tasks", "made_up_one", "--before", folder, "--device", "cpu")
    assert (
        same.returncode == 2
        and same.stderr.count("\n") == 1
        and re.search(r"(--|eval\.)before lm: the same", same.stderr)
    )


@pytest.mark.crash
def test_a_benchmark_that_cannot_be_fetched_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks.manager import TaskIndex

    # Of the library's own tasks this one alone: to read all takes half a minute.
    files = staticmethod(lambda folder: folder.glob("lambada/lambada_openai.yaml"))
    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", files)
    folder = str(save_tiny(tmp_path / "lm"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    offline = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    words = ("lm-eval", "--model", folder, "--root", str(tmp_path / "build"))
    failed = cli(*words, "--tasks", "lambada_openai", **offline)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1, failed.stderr
    assert "tasks lambada_openai: the tasks or their data cannot be loaded" in failed.stderr
