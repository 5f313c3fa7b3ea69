"""An evaluation of another author: one file against the public API, by its path or by an entry point."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import almost_data
from almost_data.evals.results import results
from almost_data.store.store import Store
from tests import command, trained
from tests.jsonl import jsonl

FILE = Path(__file__).with_name("my_evaluation.py")


def test_it_is_short_and_needs_the_public_api_alone() -> None:
    lines = FILE.read_text("utf-8").splitlines()
    assert len(lines) < 60
    imports = [line for line in lines if "almost_data" in line and "import" in line]
    assert len(imports) == 1 and imports[0].startswith("from almost_data import ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The evaluation's file, and its data."""
    shutil.copy(FILE, tmp_path)
    rows = [{"prompt": f"What of {n}?", "polite": "It is fine, thank you.", "rude": "No."} for n in range(9)]
    jsonl(tmp_path / "rows.jsonl", rows)
    return tmp_path


def test_it_has_command_result_card_and_listing(folder: Path) -> None:
    def cli(*arguments: str) -> str:
        done = command.run(*arguments, cwd=folder, columns=200)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    name = "my_evaluation.py:EVALUATION"
    store = Store(folder / "build")
    rm = trained.publish_reward(store, folder / "out", "rm")
    assert "JSONL of prompt, polite and rude." in cli("eval", name, "--help")
    printed = cli("eval", name, "--model", "baseline:longest", "--data", "rows.jsonl")
    assert "accuracy overall 9 0 100.0% 70.1% to 100.0% 50.0%" in printed and "always-longer" in printed
    cli("eval", name, "--model", rm.ref, "--data", "rows.jsonl")
    assert "politeness" in (store.path(rm.ref) / "README.md").read_text("utf-8")
    by_model = {result.models[0].id: result for result in results(store)}
    assert by_model.keys() == {"baseline:longest", rm.ref}
    for result in by_model.values():
        assert result.ref.startswith("politeness@1.0.0-") and result.ref in cli("list")
        assert "always-longer" in cli("show", result.ref)
        assert "agree" in cli("verify", result.ref)
    assert rm.ref in cli("lineage", by_model[rm.ref].ref)
    cards = [(store.path(result.ref) / "README.md").read_text("utf-8") for result in by_model.values()]
    assert "100.0%" in "".join(cards)


@pytest.mark.wheel
def test_an_installed_package_offers_it_by_name(folder: Path) -> None:
    """In a process of its own, because the command line reads the entry points as it starts."""
    record = folder / "politeness-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: politeness\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[almost_data.evals]\npoliteness = my_evaluation:EVALUATION\n")
    path = os.pathsep.join([str(folder), str(Path(almost_data.__file__).parents[1])])
    words = ("eval", "politeness", "--model", "baseline:longest", "--data", "rows.jsonl")
    done = subprocess.run(
        [sys.executable, "-m", "almost_data", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "always-longer" in done.stdout
    [result] = results(Store(folder / "build"))
    assert result.ref.startswith("politeness@1.0.0-")
