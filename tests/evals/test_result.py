"""A result is an artifact of the store, whole or not there, and stands in the card of its model."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from almost_data.cards.front_matter import front_matter
from almost_data.cli.app import main
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.records import Pinned
from almost_data.errors import InputError
from almost_data.evals import truthfulqa
from almost_data.evals.evaluation import OTHER_ITEMS, carry_out, find_result
from almost_data.evals.result import Line
from almost_data.evals.results import results
from almost_data.generation.journal_file import status
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import trained
from tests.command import run as cli
from tests.evals.known import hhh, planned, saved
from tests.markup import NASTY, Page


@pytest.fixture
def rm(store: Store, tmp_path: Path) -> Manifest:
    return trained.publish_reward(store, tmp_path / "out", "rm")


# --- whole or not there ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("figures")
def test_a_result_is_an_artifact_of_the_store(store: Store) -> None:
    assert find_result(*planned(store)) is None and results(store) == []
    items = [{"id": "1", "right": True, "scores": [1.5, 2], "chars": 3, "text": None}]
    done = saved(store, None, items, environment={"device": "cpu"})
    assert find_result(*planned(store)) == done and results(store) == [done]
    assert done.ref == f"preference@4.0.0-{done.fingerprint[:16]}" and store.has(done.ref)
    assert done.environment["device"] == "cpu" and done.environment["seconds"] >= 0
    assert verify(store, done.ref) == []
    assert store.manifest(done.ref).kind == "evaluation"
    place = store.path(done.ref)
    assert sorted(entry.name for entry in place.iterdir()) == ["README.md", "data", "manifest.json"]
    assert store.scan(done.ref).collect().rows() == [("1", True, "[1.5, 2]", 3, None)]
    page = Page((place / "README.md").read_text("utf-8"))
    assert page.table("who")[1] == [
        "ORG/model",
        "accuracy",
        "all",
        "10",
        "1",
        "70.0%",
        "40.0% to 90.0%",
        "50.0%",
    ]
    assert not list((store.root / ".staging").iterdir())


def test_models_and_data_of_the_store_are_its_parents(store: Store, rm: Manifest) -> None:
    done = saved(store, rm)
    assert [parent.ref for parent in store.manifest(done.ref).parents] == [rm.ref]
    changed = saved(store, rm, models=[Pinned(rm.ref, "0" * 16)])
    assert store.manifest(changed.ref).parents == []


def test_what_decides_the_numbers_is_another_result(store: Store) -> None:
    changes: list[dict[str, Any]] = [
        {"task": "other"},
        {"logic_version": 1},
        {"models": [Pinned("ORG/model", "c" * 40)]},
        {"data": [Pinned("ORG/data", "c" * 40, "data")]},
        {"prompts": {"asked": "Which?"}},
        {"settings": {"seed": 1}},
    ]
    marks = [saved(store, **change).fingerprint for change in [{}, *changes]]
    assert len(set(marks)) == len(marks)
    assert saved(store, lines=[], notes=["x"]).fingerprint == marks[0]


def test_the_first_of_two_stays(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        stored_results = list(pool.map(lambda n: saved(store, None, [{"id": str(n)}]), range(4)))
    assert all(result == stored_results[0] for result in stored_results)
    assert len(results(store)) == 1 and not list((store.root / ".staging").iterdir())


CHILD = """
import os, signal, sys
from almost_data.store import publish
from almost_data.store.store import Store
from tests.evals.known import saved
real, seen = {module}.{name}, []
def dies(*given, **how):
    seen.append(1)
    if len(seen) > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **how)
{module}.{name} = dies
saved(Store(sys.argv[1]), None, [{{"id": "2"}}])
"""


@pytest.mark.crash
@pytest.mark.parametrize(
    "module,name,after", [("publish", "write_file", n) for n in range(2)] + [("os", "rename", 0)]
)
def test_an_attempt_that_is_killed_at_any_step_leaves_the_one_before(
    store: Store, module: str, name: str, after: int
) -> None:
    before = [saved(store, None, [{"id": "1"}], failed=1)]
    code = CHILD.format(module=module, name=name, after=after)
    ended = subprocess.run([sys.executable, "-c", code, str(store.root)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert results(store) == before
    done = saved(store, None, [{"id": "2"}])
    assert results(store) == [done] and store.scan(done.ref).collect().rows() == [("2",)]
    assert len(store.refs()) == 1 and not list((store.root / ".staging").iterdir())


def test_an_attempt_with_fewer_failures_takes_the_place(store: Store) -> None:
    first = saved(store, None, [{"id": "1"}], failed=2)
    assert saved(store, None, [{"id": "2"}], failed=2) == first
    second = saved(store, None, [{"id": "2"}], failed=1)
    assert (first.ref, second.ref) == tuple(
        f"preference@4.{attempt}.0-{first.fingerprint[:16]}" for attempt in (0, 1)
    )
    assert results(store) == [second] and store.refs() == [second.ref]
    assert saved(store, None, [{"id": "3"}]).failed == 0 and len(store.refs()) == 1


def test_versions_device_and_dtype_are_on_the_page(store: Store) -> None:
    scorers = {"rm@0.1.0": {"device": "cpu", "dtype": "float32", "batch_tokens": 7}}
    environment = {"device": "cuda:0", "dtype": "bfloat16", "scorers": scorers}
    done = saved(store, environment=environment)
    page = Page((store.path(done.ref) / "README.md").read_text("utf-8"))
    ran = {row[0]: row[1] for row in page.table("ran with")[1:]}
    assert {"python", "almost_data", "transformers"} <= ran.keys()
    assert (ran["device"], ran["dtype"]) == ("cuda:0", "bfloat16")
    assert ran["rm@0.1.0: device"] == "cpu" and ran["rm@0.1.0: dtype"] == "float32"
    assert not any("batch" in name or "platform" in name for name in ran)


@pytest.mark.parametrize("damage", ["empty", "half", "other", "moved", "lines"])
def test_a_damaged_result_is_one_line_and_no_other_is_hidden(store: Store, damage: str) -> None:
    done, good = saved(store), saved(store, task="static-hhh")
    file = store.path(done.ref) / "manifest.json"
    text = file.read_text()
    file.write_text(
        {
            "empty": "",
            "half": text[: len(text) // 2],
            "other": text.replace(done.fingerprint, "0" * 64),
            "moved": (store.path(good.ref) / "manifest.json").read_text(),
            "lines": text.replace('"lines"', '"rows"'),
        }[damage]
    )
    with pytest.raises(InputError) as caught:
        find_result(*planned(store))
    assert "\n" not in str(caught.value) and done.ref.partition("@")[2] in str(caught.value)
    assert good in results(store)


def test_numbers_of_numpy_and_none_at_all(store: Store) -> None:
    lines = [
        Line("a", "accuracy", "all", np.int64(3), np.float64(0.5)),
        Line("b", "accuracy", "all", 0, float("nan")),
    ]
    details = {"x": np.array([1.5])[0]}
    done = saved(store, None, [{"id": "1", "n": np.float32(1)}], lines=lines, details=details)
    assert [line.value for line in done.lines] == [0.5, None] and done.details == {"x": 1.5}
    with pytest.raises(msgspec.ValidationError):
        saved(store, lines=[Line("a", "accuracy", "all", "three", 0.5)], settings={})  # type: ignore[arg-type]
    assert len(results(store)) == 1


def test_a_result_without_items_keeps_its_lines_as_rows(store: Store) -> None:
    done = saved(store, None, [])
    rows = store.scan(done.ref).collect()
    assert rows["value"].to_list() == [0.7, 0.6, 0.1] and verify(store, done.ref) == []


@pytest.mark.parametrize("task", ["../x", "a/b", "", "A", ".", "/tmp"])
def test_a_task_is_a_folders_name_and_no_way_out(store: Store, task: str) -> None:
    with pytest.raises(InputError, match="is not a reference"):
        saved(store, task=task)
    assert not store.root.exists()


@pytest.mark.parametrize("name", NASTY)
def test_a_hostile_name_is_nothing_but_text(store: Store, name: str) -> None:
    done = saved(
        store,
        models=[Pinned(name, name)],
        data=[Pinned(name, name, "data")],
        lines=[Line(name, name, name, 3, 0.5, 0.1, 0.9, 0, 0.5)],
        notes=[name],
        details={"t": {"title": name, "columns": [name], "rows": [[name]]}},
        prompts={name: name},
        items=[{"id": name}],
    )
    page = Page((store.path(done.ref) / "README.md").read_text("utf-8"))
    assert page.open == [] and {len(row) for row in page.table("who")} == {8}
    assert verify(store, done.ref) == []
    main(["list", "--root", str(store.root)])


# --- the card ----------------------------------------------------------------------------------------------


def test_a_result_stands_in_its_models_card(
    store: Store, rm: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = store.path(rm.ref) / "README.md"
    before = readme.read_text("utf-8")
    done = saved(store, rm)
    text = readme.read_text("utf-8")
    page = Page(text)
    assert page.open == [] and "Evaluations" in page.headings
    first, second = page.table("task")[1:]
    assert first[:7] == ["preference", "ORG/data", "all", "accuracy", "10", "70.0%", "40.0% to 90.0%"]
    assert first[7:] == ["always the longer 60.0%, chance 50.0%", done.fingerprint[:16]]
    assert second[3] == "ahead of always the longer" and second[5:7] == ["+10.0 points", "-20.0 to +40.0"]
    [entry] = front_matter(text)["model-index"]
    [result_entry] = entry["results"]
    assert result_entry["dataset"] == {
        "name": "ORG/data", "type": "ORG/data", "split": "test", "args": {"ORG/data": "b" * 40},
    }  # fmt: skip
    [metric] = result_entry["metrics"]
    assert (metric["type"], metric["value"], metric["args"]["items"]) == ("accuracy", 0.7, 10)
    assert set(before.splitlines()) <= set(text.splitlines()), "nothing went"
    assert verify(store, rm.ref) == []
    main(["show", rm.ref, "--root", str(store.root)])
    assert "70.0%" in capsys.readouterr().out
    main(["list", "--root", str(store.root)])
    words = capsys.readouterr().out.partition("evaluation")[2].split()
    assert [done.ref, rm.ref, "ORG/data", "accuracy", "70.0%"] == words[4:9]
    narrow = cli("list", "--root", str(store.root), columns=60).stdout.splitlines()
    assert narrow[-2].split() == [done.ref, rm.ref, "ORG/data", "accuracy", "70.0%"]


def rows(store: Store, model: Manifest) -> list[list[str]]:
    return Page((store.path(model.ref) / "README.md").read_text("utf-8")).table("task")[1:]


def metrics(store: Store, model: Manifest) -> list[str]:
    head = front_matter((store.path(model.ref) / "README.md").read_text("utf-8"))
    [entry] = head.get("model-index", [{"results": []}])
    return [metric["name"] for entry_of in entry["results"] for metric in entry_of["metrics"]]


@pytest.mark.parametrize("task,judge", [("vicuna", "gpt-4"), ("human", None)])
def test_a_comparison_names_opponent_and_judge_on_both_cards(
    store: Store, rm: Manifest, task: str, judge: str | None
) -> None:
    mine, theirs = Pinned(rm.ref, rm.digest[:16]), Pinned("ORG/other", "c" * 40)
    numbers = {
        "win rate": (0.7, 0.5, 0.8),
        "win rate without ties": (0.8, 0.6, 0.9),
        "win": (0.6, 0.4, 0.7),
        "tie": (0.2, 0.1, 0.3),
        "lose": (0.2, 0.05, 0.4),
    }
    by = [Pinned(judge, "by chat", "judge")] if judge else []
    for a, b in ((mine, theirs), (theirs, mine)):
        lines = [Line(a.id, name, "overall", 10, *values) for name, values in numbers.items()]
        lines.append(Line("judge", "first place wins", "overall", 10, 0.5, 0.4, 0.6))
        models = [replace(a, role="model a"), replace(b, role="model b"), *by]
        saved(store, task=task, models=models, lines=lines)
    behind = f" against ORG/other, judged by {judge or 'people'}"
    values = [(row[3], *row[5:7]) for row in rows(store, rm)]
    assert len(values) == 10 and {name for name, _, _ in values} == {name + behind for name in numbers}
    assert {line_name for line_name in values if line_name[0] == "win rate" + behind} == {
        ("win rate" + behind, "70.0%", "50.0% to 80.0%"),
        ("win rate" + behind, "30.0%", "20.0% to 50.0%"),
    }
    wins, losses = (
        {line_name[1:] for line_name in values if line_name[0] == name + behind} for name in ("win", "lose")
    )
    assert wins == losses == {("60.0%", "40.0% to 70.0%"), ("20.0%", "5.0% to 40.0%")}
    assert not any(row[7] for row in rows(store, rm))


def test_a_metric_says_how_it_was_asked_for(store: Store, rm: Manifest) -> None:
    for how in ("ab", "reward"):
        saved(store, rm, task="static-hhh", settings={"metric": how})
    assert {row[3] for row in rows(store, rm)} >= {"accuracy (ab)", "accuracy (reward)"}


def test_a_difference_is_no_baseline_and_in_points(store: Store, rm: Manifest, tmp_path: Path) -> None:
    sft = trained.publish_reward(store, tmp_path / "sft", "sft")
    lines = [
        Line(rm.ref, "acc", "mmlu", 10, 0.5, 0.4, 0.6),
        Line(sft.ref, "acc", "mmlu", 10, 0.52, 0.4, 0.6),
        Line(f"{rm.ref} less {sft.ref}", "acc", "mmlu", 10, -0.02, -0.05, 0.01),
    ]
    models = [Pinned(rm.ref, rm.digest[:16]), Pinned(sft.ref, sft.digest[:16], "before")]
    saved(store, task="lm-eval", models=models, lines=lines, settings={})
    first, second = rows(store, rm)
    assert (first[3], first[7]) == ("acc", "") and second[3] == f"acc, ahead of {sft.ref}"
    assert second[5:8] == ["-2.0 points", "-5.0 to +1.0", ""]
    [only] = rows(store, sft)
    assert (only[3], only[5], only[7]) == ("acc", "52.0%", "")
    assert metrics(store, rm) == metrics(store, sft) == ["acc"]


def test_only_the_benchmark_itself_goes_to_the_hub_under_its_name(store: Store, rm: Manifest) -> None:
    for seed, (task, data, count) in enumerate(
        [
            ("truthfulqa", [Pinned("mine.jsonl", "sha256:1", "data")], 0),
            ("vicuna", [], 0),
            ("human", [Pinned("table.csv", "sha256:1", "judgments")], 0),
            ("static-hhh", [Pinned("helpful.task.json", "sha256:1", "data")], 1),
            ("truthfulqa", [Pinned("truthfulqa/truthful_qa", "c" * 40, "data")], 1),
            ("truthfulqa", [Pinned(*truthfulqa.HUB.split("@"), "data")], 2),
            ("static-hhh", [Pinned("HuggingFaceH4/hhh_alignment", "d" * 40, "data")], 3),
            ("static-hhh", [Pinned("HuggingFaceH4/hhh_alignment", "d" * 40 + OTHER_ITEMS, "data")], 3),
        ]
    ):
        saved(store, rm, task=task, data=data, settings={"seed": seed})
        assert len(metrics(store, rm)) == count, (task, data)
    # Some of its items are in the table alone.
    data = [Pinned(*truthfulqa.HUB.split("@"), "data")]
    saved(store, rm, task="truthfulqa", data=data, settings={"limit": 30})
    assert len(metrics(store, rm)) == 3 and len(rows(store, rm)) == 18


def test_a_root_of_results_alone_is_not_empty(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "--root", str(store.root)])
    assert "nothing under" in capsys.readouterr().out
    saved(store)
    main(["list", "--root", str(store.root)])
    printed = capsys.readouterr().out
    assert "nothing under" not in printed and "ORG/model" in printed


def test_huggingface_hub_reads_what_the_card_says(store: Store, rm: Manifest) -> None:
    from huggingface_hub import ModelCard

    saved(store, rm, data=[Pinned("my file (1).jsonl", "sha256:1", "data")])
    read = ModelCard.load(store.path(rm.ref) / "README.md")
    [evaluation] = read.data.eval_results
    assert (evaluation.dataset_type, evaluation.dataset_name, evaluation.metric_value) == (
        "my-file-1-.jsonl",
        "my file (1).jsonl",
        0.7,
    )


def test_huggingface_hub_reads_each_number_under_its_own_name(store: Store, rm: Manifest) -> None:
    from huggingface_hub import ModelCard

    for commit, subsets in (("d", {"helpful": 0.7, "honest": 0.4}), ("e", {"helpful": 0.6})):
        data = [Pinned("HuggingFaceH4/hhh_alignment", commit * 40, "data")]
        lines = [
            Line(rm.ref, metric, subset, 10, value)
            for subset, value in subsets.items()
            for metric in ("accuracy", "accuracy per byte")
        ]
        saved(store, rm, task="static-hhh", data=data, lines=lines)
    read = ModelCard.load(store.path(rm.ref) / "README.md").data
    expected = {
        (
            evaluation.task_name,
            evaluation.dataset_args["HuggingFaceH4/hhh_alignment"][0],
            evaluation.metric_name,
            evaluation.metric_value,
        )
        for evaluation in read.eval_results
    }
    assert expected == {
        (f"static-hhh, {subset}", commit, metric, value)
        for subset, commit, value in (("helpful", "d", 0.7), ("honest", "d", 0.4), ("helpful", "e", 0.6))
        for metric in ("accuracy", "accuracy per byte")
    }
    assert read.model_name == rm.ref


def test_the_order_is_that_of_the_results_and_not_of_time(store: Store, rm: Manifest, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{"settings": {"seed": seed}} for seed in range(4)] + [
        {"task": "static-hhh"}
    ]
    texts = []
    for order in (changes, changes[::-1]):
        other_store = Store(tmp_path / f"store-{len(texts)}")
        shutil.copytree(store.path(rm.ref), other_store.path(rm.ref))
        for result in order:
            saved(other_store, rm, **result)
        texts.append((other_store.path(rm.ref) / "README.md").read_text("utf-8"))
    assert texts[0] == texts[1]


def test_two_at_once_are_both_in_the_card(store: Store, rm: Manifest) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: saved(store, rm, settings={"seed": seed}), range(8)))
    page = Page((store.path(rm.ref) / "README.md").read_text("utf-8"))
    assert len({row[-1] for row in page.table("task")[1:]}) == 8


def test_what_a_kill_kept_from_the_card_the_same_command_brings(store: Store, rm: Manifest) -> None:
    carry_out(*planned(store, rm))
    assert "Evaluations" not in (store.path(rm.ref) / "README.md").read_text("utf-8")
    saved(store, rm)
    assert "## Evaluations" in (store.path(rm.ref) / "README.md").read_text("utf-8")


def test_what_an_older_logic_counted_is_in_no_card(
    store: Store, rm: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its version says so in the list; of an evaluation that is not installed nobody can tell."""
    lines = [Line(rm.ref, "accuracy", "all", 10, 0.123)]
    old = saved(store, rm, logic_version=1, lines=lines)
    now = saved(store, rm)
    unknown = saved(store, rm, task="of-another-tool", logic_version=1)
    text = (store.path(rm.ref) / "README.md").read_text("utf-8")
    rows = {(row[0], row[-1]) for row in Page(text).table("task")[1:]}
    assert rows == {(result.task, result.fingerprint[:16]) for result in (now, unknown)}
    [entry] = front_matter(text)["model-index"]
    fingerprints = {at["args"]["result"] for result in entry["results"] for at in result["metrics"]}
    assert fingerprints == {now.fingerprint[:16], unknown.fingerprint[:16]}
    main(["show", rm.ref, "--root", str(store.root)])
    printed = capsys.readouterr().out
    assert "70.0%" in printed and "12.3%" not in printed
    assert (old.ref[:14], now.ref[:14]) == ("preference@1.0", "preference@4.0")


@pytest.mark.parametrize("how", ["fake model", "fake data", "another model of that name"])
def test_what_is_not_about_it_is_not_in_its_card(store: Store, rm: Manifest, how: str) -> None:
    before = (store.path(rm.ref) / "README.md").read_bytes()
    changes: dict[str, Any] = {
        "fake model": {"models": [Pinned(rm.ref, rm.digest[:16], fake=True)]},
        "fake data": {"data": [Pinned("comparisons@0.1.0", "b" * 64, "data", fake=True)]},
        "another model of that name": {"models": [Pinned(rm.ref, "0" * 16)]},
    }
    saved(store, rm, **changes[how])
    assert (store.path(rm.ref) / "README.md").read_bytes() == before


def test_a_card_that_fails_leaves_the_old_one(
    store: Store, rm: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (store.path(rm.ref) / "README.md").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        saved(store, rm)
    monkeypatch.undo()
    assert (store.path(rm.ref) / "README.md").read_bytes() == before and len(list(results(store))) == 1
    assert not list((store.root / ".staging").iterdir())


def test_listing_what_was_judged_imports_no_torch(store: Store) -> None:
    saved(store)
    code = "import sys\nfrom almost_data.cli.app import main\n"
    code += f"main(['list', '--root', {str(store.root)!r}])\n"
    code += "heavy = {'torch', 'polars', 'matplotlib', 'huggingface_hub', 'jinja2'}\n"
    code += "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ORG/model" in done.stdout


def test_a_damaged_result_is_named_by_list_and_verify(store: Store) -> None:
    ref = carry_out(*planned(store)).ref
    file = store.path(ref) / "manifest.json"
    record = json.loads(file.read_bytes())
    record["diagnostics"]["lines"][0]["n"] = "many"
    file.write_text(json.dumps(record))
    root = ("--root", str(store.root))
    listed = cli("list", *root, columns=300)
    assert listed.returncode == 0 and "diagnostics.lines[0].n" in listed.stdout
    verified = cli("verify", ref, *root)
    assert verified.returncode == 2 and "diagnostics.lines[0].n" in verified.stderr


def test_a_finished_evaluation_is_in_the_journal_as_such(store: Store, tmp_path: Path) -> None:
    options = ("static-hhh", "--model", "baseline:longest", "--data", str(hhh(tmp_path / "hhh", 1)))
    root = ("--root", str(store.root))
    assert cli("eval", *options, *root).returncode == 0
    [build] = status(store.journal, store.refs())
    assert build.published and store.has(build.name)
    assert "in the store" in cli("journal", *root, columns=200).stdout
    tree = cli("lineage", "static-hhh", *root, columns=200).stdout
    assert "baseline:longest  revision" in tree
    shutil.rmtree(store.path(build.name))
    assert cli("journal", "--prune", *root).stdout.startswith("8 replies and scores deleted")
