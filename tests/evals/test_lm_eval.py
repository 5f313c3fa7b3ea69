"""lm-evaluation-harness: its numbers with intervals, and the difference from the model before."""

import json
import math
import os
import pickle
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from almost_data.evals.claims import Claim, Measure, judge

from almost_data.errors import InputError
from almost_data.evals import items, lm_eval_cache, lm_eval_tasks, result
from almost_data.evals.lm_eval_tasks import Number, difference
from almost_data.evals.result import Line, Result
from almost_data.evals.subject import Subject, find
from almost_data.scoring import Options
from almost_data.store.store import Store
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
    rows = pl.read_parquet(result.folder(store, made) / "items.parquet").filter(pl.col("metric") == "acc")
    assert rows.columns == ["model", "subset", "metric", "item", "value"] and len(rows) == 8 * N
    rows = rows.filter(pl.col("subset") == "made_up")
    by_model = {name: rows.filter(pl.col("model") == name)["value"] for name in ("after", "before")}
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
        (gaps.mean() - 1.96 * error, gaps.mean() + 1.96 * error), abs=0.02
    )
    assert {row[0] for row in made.details["parts"]["rows"]} == {"made_up_one", "made_up_two"}
    assert [one.role for one in made.models] == ["model", "before"]
    assert set(made.settings["tasks"]) == {"made_up_one", "made_up_two"}
    assert all(one["version"] == 3 for one in made.settings["tasks"].values())
    for file in (at for at in result.folder(store, made).rglob("*") if at.is_file()):
        assert b"fact 3" not in file.read_bytes() and str(tmp_path).encode() not in file.read_bytes()


def test_the_claim_of_a_group_is_decided_item_by_item(store: Store, tmp_path: Path, tasks: Path) -> None:
    """As MMLU, which is one."""
    who, found = ("before", "after"), []
    for seed, name in enumerate(who):
        made = lm_eval_tasks.run(store, tiny(store, tmp_path / name, seed), ["made_up"], tasks)
        [line] = made.lines
        found.append((line, items.values(store, made, line)))
    left, right = (Measure(name, "lm-eval", "made_up", "acc") for name in who)
    outcome = judge(Claim("t", "s", left, right), [line for line, _ in found], [some for _, some in found])
    assert outcome.paired and outcome.n == 2 * N
    for line, some in found:
        assert len(some) == 2 * N and line.value == pytest.approx(sum(at.value for at in some.values()) / 60)


def test_a_difference_of_few_items_that_agree_is_not_known_to_be_none() -> None:
    def number(values: list[float]) -> Number:
        return Number("t", "acc", len(values), sum(values) / len(values), 0.0, values, True)

    right = number([1.0] * 5)
    half = 1.96 * math.sqrt(2 / 7) / math.sqrt(7)  # with one item more for each side
    value, low, high = difference(right, right)
    assert value == 0 and (low, high) == (pytest.approx(-half, abs=1e-4), pytest.approx(half, abs=1e-4))
    assert difference(right, number([0.0] * 5))[2] == 1.0
    assert difference(number([1.0]), number([1.0])) == (0.0, None, None)


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


CHILD = """
import json, sys, time
from lm_eval.models.huggingface import HFLM
from almost_data.cli.app import main
log, calls = open(sys.argv[1], "w"), int(sys.argv[2])
ask, call = HFLM.loglikelihood, HFLM._model_call
def asked(self, requests, **how):
    log.write("".join(json.dumps(one.args) + chr(10) for one in requests))
    log.flush()
    return ask(self, requests, **how)
def called(self, *given, **how):
    global calls
    calls -= 1
    while calls < 0:
        time.sleep(1)
    return call(self, *given, **how)
HFLM.loglikelihood, HFLM._model_call = asked, called
main(sys.argv[3:])
"""
"""The command line, which notes what the model is asked, and hangs after so many batches."""


def start(log: Path, batches: int, root: Path, *what: str) -> subprocess.Popen[str]:
    code = ["-c", CHILD, str(log), str(batches), "eval", "lm-eval", "--root", str(root), *what]
    return subprocess.Popen([sys.executable, *code], stdout=subprocess.PIPE, text=True)


def cached(root: Path) -> set[str]:
    """Keys of the answers that are kept."""
    keys: set[str] = set()
    for file in (root / "evals" / ".lm-eval").glob("*.db"):
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        with closing(database), suppress(sqlite3.OperationalError):  # no table yet
            keys |= {key for (key,) in database.execute("SELECT key FROM unnamed")}
    return keys


@pytest.mark.crash
def test_killed_and_run_again_no_answer_is_asked_for_twice(tmp_path: Path, tasks: Path) -> None:
    from lm_eval.api.model import hash_args

    folder, root = str(save_tiny(tmp_path / "lm")), tmp_path / "build"
    what = ["--model", folder, "--include", str(tasks), "--tasks", "made_up", "--device", "cpu", "--json"]
    log = tmp_path / "log"
    child = start(log, 5, root, *what)
    try:
        deadline = time.monotonic() + 120
        while len(cached(root)) < 20 and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.1)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    finished = cached(root)
    assert len(finished) == 20 and list(result.results(Store(root))) == []
    assert len(log.read_text().splitlines()) == 4 * N
    again = start(log, 1000, root, *what)
    printed, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    asked = [json.loads(row) for row in log.read_text().splitlines()]
    assert len(asked) == 4 * N - 20
    assert not finished & {hash_args("loglikelihood", args) for args in asked}
    whole = cli("lm-eval", "--root", str(tmp_path / "other"), *what)
    one, other = json.loads(printed), json.loads(whole.stdout)
    assert [one[key] for key in ("digest", "fingerprint", "lines", "details")] == [
        other[key] for key in ("digest", "fingerprint", "lines", "details")
    ]
    assert len(list(result.results(Store(root)))) == 1


def test_two_processes_on_one_cache_end_alike(tmp_path: Path, tasks: Path) -> None:
    folder, root = str(save_tiny(tmp_path / "lm")), tmp_path / "build"
    what = ["--model", folder, "--include", str(tasks), "--tasks", "made_up", "--device", "cpu", "--json"]
    both = [start(tmp_path / f"log{n}", 1000, root, *what) for n in range(2)]
    printed = [json.loads(one.communicate(timeout=120)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert printed[0]["digest"] == printed[1]["digest"] and len(cached(root)) == 4 * N


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
    for one in (rolling, written):
        (tasks / f"{one['task']}.yaml").write_text(yaml.safe_dump(one))
    return ["made_up_one", "made_up_rolling", "made_up_written"]


def test_what_was_answered_serves_every_evaluation_and_progress_is_told(
    store: Store,
    tmp_path: Path,
    tasks: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from lm_eval.models.huggingface import HFLM

    one, names, told = tiny(store, tmp_path / "lm"), ways(tasks), []
    monkeypatch.setattr(lm_eval_tasks, "CHUNK", 25)
    first = lm_eval_tasks.run(store, one, names, tasks, progress=lambda *given: told.append(given))
    both = [("lm, loglikelihood", n, 60, 0) for n in (25, 50, 60)]
    others = ("loglikelihood_rolling", "generate_until")
    rest = [(f"lm, {kind}", n, 30, 0) for kind in others for n in (25, 30)]
    assert sorted(told) == sorted(both + rest)
    assert capfd.readouterr() == ("", "")
    for kind in ("loglikelihood", *others):
        monkeypatch.setattr(HFLM, kind, lambda *given, **how: pytest.fail("it was asked again"))
    shutil.rmtree(result.folder(store, first))
    again = lm_eval_tasks.run(store, one, names, tasks)
    assert (again.digest, again.lines, again.details) == (first.digest, first.lines, first.details)
    few = lm_eval_tasks.run(store, one, names[:1], tasks, limit=5)
    assert few.lines[0].n == 5


class Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


VALUES = {"not a pickle": b"{}", "more than two": pickle.dumps((1.0, True, 1)), "a list": pickle.dumps([1.0])}


@pytest.mark.parametrize("damage", ["hostile", *VALUES, "not a database", "empty", "half"])
def test_a_cache_that_is_not_the_librarys_own_is_not_read(
    store: Store, tmp_path: Path, tasks: Path, damage: str
) -> None:
    one, victim = tiny(store, tmp_path / "lm"), tmp_path / "victim"
    first = lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    shutil.rmtree(result.folder(store, first))
    [file] = (store.root / "evals" / ".lm-eval").iterdir()
    content = file.read_bytes()
    if damage == "hostile" or damage in VALUES:
        value = VALUES.get(damage) or pickle.dumps(Hostile(victim))
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE unnamed SET value = ?", (value,))
    else:
        known = {"not a database": b"{}" * 4096, "empty": b"", "half": content[: len(content) // 2]}
        file.write_bytes(known[damage])
    again = lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    assert (again.digest, again.lines) == (first.digest, first.lines)
    assert not victim.exists() and len(cached(store.root)) == 2 * N


HIDDEN = {
    "a view": "ALTER TABLE unnamed RENAME TO told; CREATE VIEW unnamed AS SELECT * FROM told;"
    "CREATE TRIGGER later INSTEAD OF INSERT ON unnamed BEGIN UPDATE told SET value = X'{}'; END",
    "a trigger": "CREATE TRIGGER later AFTER INSERT ON unnamed BEGIN UPDATE unnamed SET value = X'{}'; END",
}
"""What is plain until the library writes, and hostile when it reads what it asks next."""


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_cache_that_would_change_itself_is_not_read(
    store: Store, tmp_path: Path, tasks: Path, hidden: str
) -> None:
    one, victim, names = tiny(store, tmp_path / "lm"), tmp_path / "victim", ways(tasks)
    first = lm_eval_tasks.run(store, one, names, tasks)
    shutil.rmtree(result.folder(store, first))
    [file] = (store.root / "evals" / ".lm-eval").iterdir()
    with closing(sqlite3.connect(file)) as database:
        database.execute("DELETE FROM unnamed WHERE rowid < (SELECT min(rowid) FROM unnamed) + 3")
        database.commit()
        database.executescript(HIDDEN[hidden].format(pickle.dumps(Hostile(victim)).hex()))
    again = lm_eval_tasks.run(store, one, names, tasks)
    assert (again.digest, again.lines) == (first.digest, first.lines)
    assert not victim.exists() and len(cached(store.root)) == 4 * N


def test_a_cache_that_another_process_has_locked_is_left_alone(
    store: Store, tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiny(store, tmp_path / "lm")
    first = lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    shutil.rmtree(result.folder(store, first))
    [file] = (store.root / "evals" / ".lm-eval").iterdir()
    content = file.read_bytes()
    monkeypatch.setattr(lm_eval_cache, "BUSY", 0.1)
    with closing(sqlite3.connect(file)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"\.db: another process uses this cache of answers; try again$"):
            lm_eval_tasks.run(store, one, ["made_up_one"], tasks)
    assert file.read_bytes() == content
    assert lm_eval_tasks.run(store, one, ["made_up_one"], tasks).digest == first.digest


def test_what_a_killed_process_left_half_written_is_undone(tmp_path: Path) -> None:
    """And the answers before it are kept."""
    from sqlitedict import SqliteDict

    file = tmp_path / "x.db"
    with SqliteDict(file, autocommit=True) as kept:
        kept["a"] = (-1.0, True)
    code = (
        "import os, sqlite3, sys; one = sqlite3.connect(sys.argv[1]); one.execute('PRAGMA cache_size = 1');"
        "one.executemany('INSERT INTO unnamed VALUES (?, ?)', ((str(n), b'x' * 500) for n in range(3000)));"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert (tmp_path / "x.db-journal").exists()
    assert lm_eval_cache.is_plain(file)
    with SqliteDict(file) as kept:
        assert dict(kept) == {"a": (-1.0, True)}


def test_what_decides_an_answer_is_in_the_name_of_its_cache(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = str(save_tiny(tmp_path / "lm")), str(save_tiny(tmp_path / "more" / "lm", seed=1))
    cpu = Options(device="cpu")
    every = [
        find(store, folder, options=cpu),
        find(store, other, options=cpu),  # of the same name
        find(store, folder, options=cpu, max_tokens=100),
        find(store, folder, options=Options(device="cpu", dtype="bfloat16")),
    ]
    places = [lm_eval_cache.place(store, one) for one in every]
    monkeypatch.setattr(lm_eval_cache, "installed", lambda name: "0.0")
    places.append(lm_eval_cache.place(store, every[0]))
    assert len(set(places)) == 5 and every[0].pinned.id == every[1].pinned.id


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
    with pytest.raises(InputError, match="--before lm: the same model as --model"):
        lm_eval_tasks.run(store, one, ["made_up"], tasks, one)
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
        assert re.search(rf"\n  acc +{name} +4 +0 +\d+.\d%", done.stdout)
    same = cli(*what, "--tasks", "made_up_one", "--before", folder, "--device", "cpu")
    assert same.returncode == 2 and same.stderr.count("\n") == 1 and "--before lm: the same" in same.stderr
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    offline = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    failed = cli(*what, "--tasks", "lambada_openai", **offline)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1, failed.stderr
    assert "--tasks lambada_openai: cannot be loaded, or their data are not to be had" in failed.stderr
