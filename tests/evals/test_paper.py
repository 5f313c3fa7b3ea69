"""`eval tables` on models in a store: real evaluations of small models, run once, and a report on disk."""

import json
from pathlib import Path

import pytest

from almost_data.cli import main
from almost_data.evals import static_hhh
from almost_data.evals.result import results
from almost_data.evals.subject import find
from almost_data.store import Store
from tests import trained
from tests.evals.known import hhh
from tests.tiny_models import save_tiny, save_tiny_reward

VERSION = "1.0.0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A reward model and two policies, made up, of one version."""
    made = Store(tmp_path / "store")
    trained.publish(made, save_tiny_reward(tmp_path / "rm"), trained.manifest("rm", version=VERSION))
    for seed, name in enumerate(("sft", "ppo")):
        folder = save_tiny(tmp_path / name, seed=seed)
        trained.publish(made, folder, trained.manifest(name, version=VERSION))
    return made


def tables(store: Store, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    main(["eval", "tables", "--version", VERSION, "--root", str(store.root), *more])
    return capsys.readouterr().out


def test_numbers_are_those_of_the_benchmark_and_are_measured_once(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(hhh(tmp_path / "hhh"))
    said = tables(store, capsys, "--hhh", data)
    assert "Table 1: 5 of 5 claims not run; missing: the paper's data: harmless.task.json is not" in said
    assert "Table 4: 3 of 3 claims not run; missing: a preference set" in said
    place = store.root / "evals" / "tables" / VERSION
    found = json.loads((place / "tables.json").read_text())
    table = found["tables"][1]
    assert table["name"] == "Table 1, on other data" and len(table["claims"]) == 4
    alone = static_hhh.run(store, find(store, f"sft@{VERSION}"), data)
    [line] = [one for one in alone.lines if (one.who, one.subset) == (f"sft@{VERSION}", "helpful")]
    [mine] = [one for one in table["lines"] if (one["role"], one["subset"]) == ("sft", "helpful")]
    assert (mine["value"], mine["n"]) == (line.value, line.n)
    before = {one.fingerprint: one.created for one in results(store, static_hhh.TASK)}
    assert len(before) == 3
    assert said.endswith(tables(store, capsys, "--hhh", data))
    assert {one.fingerprint: one.created for one in results(store, static_hhh.TASK)} == before
    assert json.loads(tables(store, capsys, "--hhh", data, "--json")) == found
    text = (place / "README.md").read_text()
    assert "plots/claims.png" in text and (place / "plots" / "claims.png").is_file()
    assert found["is_small"] and "a test of the plumbing" in text
    assert str(tmp_path) not in text + json.dumps(found)


def test_nothing_given_is_nothing_run(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    said = tables(store, capsys)
    assert "Table 1: 5 of 5 claims not run" in said and "reproduced" not in said
    assert not list(results(store))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--version", "9.9.9"), "none of its models is in the store"),
        (("--hhh", "/nowhere/hhh"), "no such file or folder"),
        (("--limit", "0"), "give 1 or more"),
        (("--vicuna", "q.jsonl"), "go together"),
        (("--baseline", "b.jsonl"), "--baseline goes with"),
        (("--preference-config", "helpful-base"), "goes with --preference"),
    ],
)
def test_bad_usage_is_told_before_anything_runs(
    store: Store, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["eval", "tables", *(() if "--version" in more else ("--version", VERSION)), *more,
              "--root", str(store.root)])  # fmt: skip
    assert error.value.code == 2 and why in capsys.readouterr().err
    assert not (store.root / "evals").exists()


def test_a_judge_wants_questions_and_a_name(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        tables(store, capsys, "--judge", "http://127.0.0.1:9/v1")
    assert error.value.code == 2 and "--judge-model" in capsys.readouterr().err


def test_a_report_takes_the_place_of_the_one_before_whole_or_not_at_all(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables(store, capsys, "--hhh", str(hhh(tmp_path / "hhh")))
    place = store.root / "evals" / "tables" / VERSION
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    assert {file.name for file in before} == {"README.md", "tables.json", "claims.png"}

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Path, "write_bytes", full)
        tables(store, capsys)
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before
    left = store.root / ".staging" / f"eval-tables-{VERSION}"
    left.mkdir(parents=True)  # as a kill leaves it
    (left / "half").touch()
    tables(store, capsys)
    assert sorted(one.name for one in place.iterdir()) == ["README.md", "tables.json"]
    assert not list((store.root / ".staging").iterdir())
