"""A result is whole or not there, whatever happens, and stands in the card of its model."""

import json
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from almost_data.cards.figures import new_figure
from almost_data.cards.front_matter import front_matter
from almost_data.cli.app import main
from almost_data.datasets.manifest import Manifest
from almost_data.errors import InputError
from almost_data.evals import TRUTHFULQA, forest, on_card, result, sources
from almost_data.evals.result import Line, Pinned, Result
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import trained
from tests.evals.known import hhh
from tests.markup import NASTY, Page


def made(model: Manifest | None = None, **changes: Any) -> Result:
    who = model.ref if model else "ORG/model"
    given: dict[str, Any] = {
        "task": "preference",
        "logic_version": result.LOGIC.get(changes.get("task", "preference"), 1),
        "models": [Pinned(who, model.digest[:16] if model else "a" * 40)],
        "data": [Pinned("ORG/data", "b" * 40, "data")],
        "prompts": {"asked": "Which one?"},
        "settings": {"seed": 0, "split": "test", "config": None},
        "lines": [
            Line(who, "accuracy", "all", 10, 0.7, 0.4, 0.9, 1, 0.5),
            Line("always the longer", "accuracy", "all", 10, 0.6, 0.3, 0.8, 0, 0.5),
            Line(who, "ahead of always the longer", "all", 10, 0.1, -0.2, 0.4),
        ],
    }
    return Result(**given | changes)


@pytest.fixture
def rm(store: Store, tmp_path: Path) -> Manifest:
    return trained.publish_reward(store, tmp_path / "out", "rm")


# --- whole or not there ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("figures")
def test_a_result_is_read_back_as_it_was_saved(store: Store) -> None:
    draft = made()
    assert result.known(store, draft) is None and list(result.results(store)) == []
    done = result.save(store, draft, [{"item": 1, "right": True}], 1.23, device="cpu")
    assert result.known(store, draft) == done and list(result.results(store)) == [done]
    assert done.environment["device"] == "cpu" and done.environment["seconds"] == 1.2
    place = result.folder(store, draft)
    assert sorted(one.name for one in place.iterdir()) == [
        "README.md",
        "items.parquet",
        "plots",
        "result.json",
    ]
    assert pl.read_parquet(place / "items.parquet").rows() == [(1, True)]
    assert imread(place / "plots" / "result.png").shape[1] == 1200
    page = Page("---\n---\n" + (place / "README.md").read_text("utf-8"))
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
    assert json.loads((place / "result.json").read_text())["fingerprint"] == result.identity(draft)
    assert not list((store.root / ".staging").iterdir())


def test_what_decides_the_numbers_is_another_result() -> None:
    changes: list[dict[str, Any]] = [
        {"task": "other"},
        {"logic_version": 1},
        {"models": [Pinned("ORG/model", "c" * 40)]},
        {"data": [Pinned("ORG/data", "c" * 40, "data")]},
        {"prompts": {"asked": "Which?"}},
        {"settings": {"seed": 1}},
    ]
    marks = [result.identity(made(**one)) for one in [{}, *changes]]
    assert len(set(marks)) == len(marks)
    assert result.identity(made(lines=[], notes=["x"], created="now")) == marks[0]


def test_the_first_of_two_stays(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: result.save(store, made(), [{"n": n}], n), range(4)))
    assert all(one == found[0] for one in found)
    assert len(list(result.results(store))) == 1 and not list((store.root / ".staging").iterdir())


CHILD = """
import os, signal, sys
from pathlib import Path
from almost_data.evals import result
from almost_data.store.store import Store
from tests.evals.test_result import made
real, seen = {module}.{name}, []
def dies(*given, **how):
    seen.append(1)
    if len(seen) > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **how)
{module}.{name} = dies
result.save(Store(sys.argv[1]), made(), [{{"n": 1}}], 1)
"""


@pytest.mark.crash
@pytest.mark.parametrize(
    "module,name,after", [("result", "_write", n) for n in range(4)] + [("os", "rename", 0)]
)
def test_killed_at_any_step_it_is_whole_or_not_there(
    store: Store, module: str, name: str, after: int
) -> None:
    code = CHILD.format(module=module, name=name, after=after)
    ended = subprocess.run([sys.executable, "-c", code, str(store.root)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert list(result.results(store)) == [] and result.known(store, made()) is None
    done = result.save(store, made(), [{"n": 1}], 1)
    assert list(result.results(store)) == [done] and not list((store.root / ".staging").iterdir())


REPLACING = CHILD.replace('[{{"n": 1}}], 1)', '[{{"n": 2}}], 1, replace=lambda old: True)')


@pytest.mark.crash
@pytest.mark.parametrize(
    "module,name,after",
    [("result", "_write", n) for n in range(4)]
    + [("os", "rename", 0)]
    + [("os", "replace", n) for n in range(4)],
)
def test_killed_while_it_replaces_there_is_a_result_all_the_time(
    store: Store, module: str, name: str, after: int
) -> None:
    first = result.save(store, made(), [{"n": 1}], 1)
    code = REPLACING.format(module=module, name=name, after=after)
    ended = subprocess.run([sys.executable, "-c", code, str(store.root)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert result.known(store, made()) == first
    again = result.save(store, made(), [{"n": 2}], 1, replace=lambda old: old == first)
    assert again.digest != first.digest and list(result.results(store)) == [again]
    assert pl.read_parquet(result.folder(store, made()) / "items.parquet")["n"].to_list() == [2]
    assert not list((store.root / ".staging").iterdir())


def test_only_what_it_names_is_replaced(store: Store) -> None:
    first = result.save(store, made(), [{"n": 1}], 1)
    assert result.save(store, made(), [{"n": 2}], 1, replace=lambda old: False) == first


def test_versions_device_and_dtype_are_on_the_page(store: Store) -> None:
    scorers = {"rm@0.1.0": {"device": "cpu", "dtype": "float32", "batch_tokens": 7}}
    result.save(store, made(), [], 1, device="cuda:0", dtype="bfloat16", scorers=scorers)
    page = Page("---\n---\n" + (result.folder(store, made()) / "README.md").read_text("utf-8"))
    ran = {row[0]: row[1] for row in page.table("ran with")[1:]}
    assert {"python", "almost_data", "transformers"} <= ran.keys()
    assert (ran["device"], ran["dtype"]) == ("cuda:0", "bfloat16")
    assert ran["rm@0.1.0: device"] == "cpu" and ran["rm@0.1.0: dtype"] == "float32"
    assert not any("batch" in name or "platform" in name for name in ran)


def test_a_folder_without_its_record_is_written_anew(store: Store) -> None:
    result.save(store, made(), [{"n": 1}], 1)
    (result.folder(store, made()) / "result.json").unlink()
    assert result.known(store, made()) is None
    assert result.known(store, made()) is None and result.save(store, made(), [], 1).digest


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"task": 1}', b"half", b"other", b"moved"],
)
def test_a_damaged_result_is_one_line_and_exit_2(
    store: Store, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    done = result.save(store, made(), [{"n": 1}], 1)
    good = result.save(store, made(task="static-hhh"), [], 1)
    file = result.folder(store, made()) / "result.json"
    text = file.read_bytes()
    file.write_bytes(
        {
            b"half": text[: len(text) // 2],
            b"other": result.encode(msgspec.structs.replace(done, settings={"seed": 7})),
            b"moved": result.encode(good),
        }.get(damage, damage)
    )
    for read in (lambda: result.known(store, made()), lambda: list(result.results(store))):
        with pytest.raises(InputError, match=rf"{file}: not .*: delete its folder") as told:
            read()
        assert "\n" not in str(told.value)
    wrong: list[str] = []
    assert list(result.results(store, wrong)) == [good] and len(wrong) == 1
    main(["list", "--root", str(store.root)])
    printed = capsys.readouterr().out
    assert "static-hhh" in printed and "delete its folder" in printed


def test_a_damaged_one_does_not_keep_another_from_the_card(store: Store, rm: Manifest) -> None:
    result.save(store, made(rm), [], 1)
    (result.folder(store, made(rm)) / "result.json").write_bytes(b"{")
    result.save(store, made(rm, task="static-hhh"), [], 1)
    text = (store.path(rm.ref) / "README.md").read_text("utf-8")
    assert "static-hhh" in text and "`preference`" not in text


def test_numbers_of_numpy_and_none_at_all(store: Store) -> None:
    lines = [
        Line("a", "accuracy", "all", np.int64(3), np.float64(0.5)),
        Line("b", "accuracy", "all", 0, float("nan")),
    ]
    done = result.save(store, made(lines=lines, details={"x": np.array([1.5])[0]}), [{"n": np.float32(1)}], 1)
    assert [one.value for one in done.lines] == [0.5, None] and done.details == {"x": 1.5}
    with pytest.raises(msgspec.ValidationError):
        result.save(store, made(lines=[Line("a", "accuracy", "all", "three", 0.5)], settings={}), [], 1)  # type: ignore[arg-type]
    assert len(list(result.results(store))) == 1


@pytest.mark.parametrize("task", ["../x", "a/b", "", "A", ".", "/tmp"])
def test_a_task_is_a_folders_name_and_no_way_out(store: Store, task: str) -> None:
    with pytest.raises(ValueError, match="cannot be a task"):
        result.save(store, made(task=task), [], 1)
    assert not (store.root / "evals").exists()


@pytest.mark.parametrize("name", NASTY)
def test_a_hostile_name_is_nothing_but_text(store: Store, name: str) -> None:
    lines = [Line(name, name, name, 3, 0.5, 0.1, 0.9, 0, 0.5)]
    details = {"t": {"title": name, "columns": [name], "rows": [[name]]}}
    models, data = [Pinned(name, name)], [Pinned(name, name, "data")]
    given = made(models=models, data=data, lines=lines, notes=[name], details=details, prompts={name: name})
    result.save(store, given, [{"who": name}], 1)
    text = (result.folder(store, given) / "README.md").read_text("utf-8")
    page = Page("---\n---\n" + text)
    assert page.open == [] and {len(row) for row in page.table("who")} == {8}
    main(["list", "--root", str(store.root)])


def test_a_full_disk_is_one_line_and_exit_1(store: Store, rm: Manifest) -> None:
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "from almost_data.cli.app import main\n"
    code += "import matplotlib.figure, polars, sys\nfrom almost_data.evals import result\n"
    code += "from tests.evals.test_result import made\nfrom almost_data.store.store import Store\n"
    code += "import almost_data.cli.show_eval as s\n"
    code += "s.listing = lambda store: result.save(store, made(), [{'n': n} for n in range(9)], 1)\n"
    code += f"main(['list', '--root', {str(store.root)!r}])"

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=full, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert list(result.results(store)) == [] and not list((store.root / ".staging").iterdir())


def test_a_file_in_the_place_of_the_results_is_told_before_anything_is_asked(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    (store.root / "evals").touch()
    asked = ("--model", "baseline:longest", "--data", str(hhh(tmp_path / "hhh")))
    with pytest.raises(SystemExit) as error:
        main(["eval", "static-hhh", *asked, "--root", str(store.root)])
    said = capsys.readouterr()
    assert error.value.code == 2 and said.err == f"almost-data: {store.root}/evals is in the way: move it\n"
    assert not said.out


def test_a_figure_shows_all_that_is_written_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a-rather-long-name-of-a-model-or-a-subset-with-its-version"
    lines = [
        Line(f"{long}-{n % 2}", f"{long}-{n // 2}", f"{long}-{n}", 20_000, 0.5, 0.4, 0.6, chance=0.5)
        for n in range(6)
    ]
    drawn: list[Any] = []

    def kept(height: float) -> Any:
        drawn.append(new_figure(height))
        return drawn[-1]

    monkeypatch.setattr(forest, "new_figure", kept)
    forest.render(made(models=[Pinned(long, "1")], lines=lines))
    [(figure, axes)] = drawn
    figure.draw_without_rendering()
    texts = [*figure.texts, axes.title, axes.xaxis.label, *axes.get_yticklabels()]
    for text in texts:
        at = text.get_window_extent()
        assert 0 <= at.x0 <= at.x1 <= figure.bbox.width and 0 <= at.y0 <= at.y1 <= figure.bbox.height, text
    assert axes.bbox.width > figure.bbox.width / 3


# --- the card ----------------------------------------------------------------------------------------------


def test_a_result_stands_in_its_models_card(
    store: Store, rm: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = store.path(rm.ref) / "README.md"
    before = readme.read_text("utf-8")
    done = result.save(store, made(rm), [{"n": 1}], 1)
    text = readme.read_text("utf-8")
    page = Page(text)
    assert page.open == [] and "Evaluations" in page.headings
    first, second = page.table("task")[1:]
    assert first[:7] == ["preference", "ORG/data", "all", "accuracy", "10", "70.0%", "40.0% to 90.0%"]
    assert first[7:] == ["always the longer 60.0%, chance 50.0%", done.fingerprint[:16]]
    assert second[3] == "ahead of always the longer" and second[5:7] == ["+10.0 points", "-20.0 to +40.0"]
    [entry] = front_matter(text)["model-index"]
    [found] = entry["results"]
    assert found["dataset"] == {
        "name": "ORG/data", "type": "ORG/data", "split": "test", "args": {"ORG/data": "b" * 40},
    }  # fmt: skip
    [metric] = found["metrics"]
    assert (metric["type"], metric["value"], metric["args"]["items"]) == ("accuracy", 0.7, 10)
    assert set(before.splitlines()) <= set(text.splitlines()), "nothing went"
    assert verify(store, rm.ref) == []
    main(["show", rm.ref, "--root", str(store.root)])
    assert "70.0%" in capsys.readouterr().out
    main(["list", "--root", str(store.root)])
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words == ["preference", rm.ref, "ORG/data", "accuracy", "70.0%", done.fingerprint[:16]]


def rows(store: Store, model: Manifest) -> list[list[str]]:
    return Page((store.path(model.ref) / "README.md").read_text("utf-8")).table("task")[1:]


def metrics(store: Store, model: Manifest) -> list[str]:
    head = front_matter((store.path(model.ref) / "README.md").read_text("utf-8"))
    [entry] = head.get("model-index", [{"results": []}])
    return [metric["name"] for one in entry["results"] for metric in one["metrics"]]


@pytest.mark.parametrize("task,judge", [("vicuna", "gpt-4"), ("human", None)])
def test_a_comparison_names_opponent_and_judge_on_both_cards(
    store: Store, rm: Manifest, task: str, judge: str | None
) -> None:
    mine, other = Pinned(rm.ref, rm.digest[:16]), Pinned("ORG/other", "c" * 40)
    numbers = {
        "win rate": (0.7, 0.5, 0.8),
        "win rate without ties": (0.8, 0.6, 0.9),
        "win": (0.6, 0.4, 0.7),
        "tie": (0.2, 0.1, 0.3),
        "lose": (0.2, 0.05, 0.4),
    }
    by = [Pinned(judge, "by chat", "judge")] if judge else []
    for a, b in ((mine, other), (other, mine)):
        lines = [Line(a.id, name, "overall", 10, *found) for name, found in numbers.items()]
        lines.append(Line("judge", "first place wins", "overall", 10, 0.5, 0.4, 0.6))
        models = [msgspec.structs.replace(a, role="model a"), msgspec.structs.replace(b, role="model b"), *by]
        result.save(store, made(task=task, models=models, lines=lines), [], 1)
    behind = f" against ORG/other, judged by {judge or 'people'}"
    found = [(row[3], *row[5:7]) for row in rows(store, rm)]
    assert len(found) == 10 and {name for name, _, _ in found} == {name + behind for name in numbers}
    assert {one for one in found if one[0] == "win rate" + behind} == {
        ("win rate" + behind, "70.0%", "50.0% to 80.0%"),
        ("win rate" + behind, "30.0%", "20.0% to 50.0%"),
    }
    wins, losses = ({one[1:] for one in found if one[0] == name + behind} for name in ("win", "lose"))
    assert wins == losses == {("60.0%", "40.0% to 70.0%"), ("20.0%", "5.0% to 40.0%")}
    assert not any(row[7] for row in rows(store, rm))


def test_a_metric_says_how_it_was_asked_for(store: Store, rm: Manifest) -> None:
    for how in ("ab", "likelihood"):
        result.save(store, made(rm, task="static-hhh", settings={"metric": how}), [], 1)
    assert {row[3] for row in rows(store, rm)} >= {"accuracy (ab)", "accuracy (likelihood)"}


def test_a_difference_is_no_baseline_and_in_points(store: Store, rm: Manifest, tmp_path: Path) -> None:
    sft = trained.publish_reward(store, tmp_path / "sft", "sft")
    lines = [
        Line(rm.ref, "acc", "mmlu", 10, 0.5, 0.4, 0.6),
        Line(sft.ref, "acc", "mmlu", 10, 0.52, 0.4, 0.6),
        Line(f"{rm.ref} less {sft.ref}", "acc", "mmlu", 10, -0.02, -0.05, 0.01),
    ]
    models = [Pinned(rm.ref, rm.digest[:16]), Pinned(sft.ref, sft.digest[:16], "before")]
    result.save(store, made(task="lm-eval", models=models, lines=lines, settings={}), [], 1)
    first, second = rows(store, rm)
    assert (first[3], first[7]) == ("acc", "") and second[3] == f"acc, ahead of {sft.ref}"
    assert second[5:8] == ["-2.0 points", "-5.0 to +1.0", ""]
    [only] = rows(store, sft)
    assert (only[3], only[5], only[7]) == ("acc", "52.0%", "")
    assert metrics(store, rm) == metrics(store, sft) == ["acc"]


def test_only_the_benchmark_itself_goes_to_the_hub_under_its_name(store: Store, rm: Manifest) -> None:
    real = next(one for one, what in sources.KNOWN.items() if "helpful" in what)
    other = sources.OTHER_ITEMS
    derived = next(one for one, what in sources.KNOWN.items() if "best and incorrect" in what)
    for seed, (task, data, count) in enumerate(
        [
            ("truthfulqa", [Pinned("mc1.jsonl", f"sha256:{derived}", "data")], 0),
            ("truthfulqa", [Pinned("mine.jsonl", "sha256:1", "data")], 0),
            ("vicuna", [], 0),
            ("human", [Pinned("table.csv", "sha256:1", "judgments")], 0),
            ("static-hhh", [Pinned("helpful.task.json", f"sha256:{real}", "data")], 1),
            ("truthfulqa", [Pinned("truthfulqa/truthful_qa", "c" * 40, "data")], 1),
            ("truthfulqa", [Pinned(*TRUTHFULQA.split("@"), "data")], 2),
            ("static-hhh", [Pinned("HuggingFaceH4/hhh_alignment", "d" * 40, "data")], 3),
            ("static-hhh", [Pinned("HuggingFaceH4/hhh_alignment", "d" * 40 + other, "data")], 3),
        ]
    ):
        result.save(store, made(rm, task=task, data=data, settings={"seed": seed}), [], 1)
        assert len(metrics(store, rm)) == count, (task, data)
    # Some of its items are in the table alone.
    data = [Pinned(*TRUTHFULQA.split("@"), "data")]
    result.save(store, made(rm, task="truthfulqa", data=data, settings={"limit": 30}), [], 1)
    assert len(metrics(store, rm)) == 3 and len(rows(store, rm)) == 20


def test_a_root_of_results_alone_is_not_empty(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "--root", str(store.root)])
    assert "nothing under" in capsys.readouterr().out
    result.save(store, made(), [], 1)
    main(["list", "--root", str(store.root)])
    printed = capsys.readouterr().out
    assert "nothing under" not in printed and "ORG/model" in printed


def test_huggingface_hub_reads_what_the_card_says(store: Store, rm: Manifest) -> None:
    from huggingface_hub import ModelCard

    result.save(store, made(rm, data=[Pinned("my file (1).jsonl", "sha256:1", "data")]), [], 1)
    read = ModelCard.load(store.path(rm.ref) / "README.md")
    [one] = read.data.eval_results
    assert (one.dataset_type, one.dataset_name, one.metric_value) == (
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
        result.save(store, made(rm, task="static-hhh", data=data, lines=lines), [], 1)
    read = ModelCard.load(store.path(rm.ref) / "README.md").data
    found = {
        (one.task_name, one.dataset_args["HuggingFaceH4/hhh_alignment"][0], one.metric_name, one.metric_value)
        for one in read.eval_results
    }
    assert found == {
        (f"static-hhh, {subset}", commit, metric, value)
        for subset, commit, value in (("helpful", "d", 0.7), ("honest", "d", 0.4), ("helpful", "e", 0.6))
        for metric in ("accuracy", "accuracy per byte")
    }
    assert read.model_name == rm.ref


def test_the_order_is_that_of_the_results_and_not_of_time(store: Store, rm: Manifest, tmp_path: Path) -> None:
    drafts = [made(rm, settings={"seed": seed}) for seed in range(4)] + [made(rm, task="static-hhh")]
    texts = []
    for order in (drafts, drafts[::-1]):
        other = Store(tmp_path / f"store-{len(texts)}")
        again = trained.publish_reward(other, tmp_path / "out", "rm")
        assert again.digest == rm.digest
        for one in order:
            result.save(other, one, [], 1)
        texts.append((other.path("rm@0.1.0") / "README.md").read_text("utf-8"))
    assert texts[0] == texts[1]


def test_two_at_once_are_both_in_the_card(store: Store, rm: Manifest) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: result.save(store, made(rm, settings={"seed": seed}), [], 1), range(8)))
    page = Page((store.path(rm.ref) / "README.md").read_text("utf-8"))
    assert len({row[-1] for row in page.table("task")[1:]}) == 8


def test_what_a_kill_kept_from_the_card_the_same_command_brings(
    store: Store, rm: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(on_card, "renew", killed)
    with pytest.raises(KeyboardInterrupt):
        result.save(store, made(rm), [], 1)
    monkeypatch.undo()
    assert "Evaluations" not in (store.path(rm.ref) / "README.md").read_text("utf-8")
    assert result.known(store, made(rm))
    assert "## Evaluations" in (store.path(rm.ref) / "README.md").read_text("utf-8")


def test_what_a_task_counted_otherwise_before_is_in_no_card(
    store: Store, rm: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    """But in the list, where it is called older; of a task that is not known nobody can tell."""
    lines = [Line(rm.ref, "accuracy", "all", 10, 0.123)]
    old = result.save(store, made(rm, logic_version=1, lines=lines), [], 1)
    now = result.save(store, made(rm), [], 1)
    unknown = result.save(store, made(rm, task="of-another-tool", logic_version=1), [], 1)
    text = (store.path(rm.ref) / "README.md").read_text("utf-8")
    rows = {(row[0], row[-1]) for row in Page(text).table("task")[1:]}
    assert rows == {(one.task, one.fingerprint[:16]) for one in (now, unknown)}
    [entry] = front_matter(text)["model-index"]
    found = {at["args"]["result"] for one in entry["results"] for at in one["metrics"]}
    assert found == {now.fingerprint[:16], unknown.fingerprint[:16]}
    main(["show", rm.ref, "--root", str(store.root)])
    shown = capsys.readouterr().out
    assert "70.0%" in shown and "12.3%" not in shown
    main(["list", "--root", str(store.root)])
    listed = capsys.readouterr().out.splitlines()
    assert [" (older) " in row for row in listed if old.fingerprint[:16] in row] == [True]
    assert [row.split()[0] for row in listed if "(older)" not in row and "70.0%" in row] == [
        "of-another-tool",
        "preference",
    ]


@pytest.mark.parametrize("how", ["fake model", "fake data", "another model of that name"])
def test_what_is_not_about_it_is_not_in_its_card(store: Store, rm: Manifest, how: str) -> None:
    before = (store.path(rm.ref) / "README.md").read_bytes()
    changes: dict[str, Any] = {
        "fake model": {"models": [Pinned(rm.ref, rm.digest[:16], fake=True)]},
        "fake data": {"data": [Pinned("comparisons@0.1.0", "b" * 64, "data", fake=True)]},
        "another model of that name": {"models": [Pinned(rm.ref, "0" * 16)]},
    }
    result.save(store, made(rm, **changes[how]), [], 1)
    assert (store.path(rm.ref) / "README.md").read_bytes() == before


def test_a_card_that_fails_leaves_the_old_one(
    store: Store, rm: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (store.path(rm.ref) / "README.md").read_bytes()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        result.save(store, made(rm), [], 1)
    monkeypatch.undo()
    assert (store.path(rm.ref) / "README.md").read_bytes() == before and len(list(result.results(store))) == 1
    assert not list((store.root / ".staging").iterdir())


def test_listing_what_was_judged_imports_no_torch(store: Store) -> None:
    result.save(store, made(), [], 1)
    code = "import sys\nfrom almost_data.cli.app import main\n"
    code += f"main(['list', '--root', {str(store.root)!r}])\n"
    code += "heavy = {'torch', 'polars', 'matplotlib', 'huggingface_hub', 'jinja2'}\n"
    code += "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ORG/model" in done.stdout
