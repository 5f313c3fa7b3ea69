"""An evaluation of another author: one file against the public API, by its path or by an entry point."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import almost_data
from almost_data.evals.results import results
from almost_data.store.store import Store
from tests import trained

FILE = Path(__file__).with_name("my_evaluation.py")


def test_it_is_short_and_needs_the_public_api_alone() -> None:
    lines = FILE.read_text("utf-8").splitlines()
    assert len(lines) < 60
    imports = [line for line in lines if "almost_data" in line and "import" in line]
    assert len(imports) == 1 and imports[0].startswith("from almost_data import ")


@pytest.mark.parametrize("way", ["file", "entry point"])
def test_it_has_command_result_card_and_listing(way: str, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(FILE, package)
    name = str(package / "my_evaluation.py") + ":EVALUATION"
    if way == "entry point":
        name = "politeness"
        record = package / "politeness-1.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text("Metadata-Version: 2.1\nName: politeness\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text(
            "[almost_data.evals]\npoliteness = my_evaluation:EVALUATION\n"
        )
    path = os.pathsep.join([str(package), str(Path(almost_data.__file__).parents[1])])

    def cli(*arguments: str) -> str:
        command = [sys.executable, "-m", "almost_data", *arguments]
        env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    store = Store(tmp_path / "build")
    rm = trained.publish_reward(store, tmp_path / "out", "rm")
    rows = [{"prompt": f"What of {n}?", "polite": "It is fine, thank you.", "rude": "No."} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "JSONL of prompt, polite and rude." in cli("eval", name, "--help")
    printed = cli("eval", name, "--model", "baseline:longest", "--data", "rows.jsonl")
    assert "accuracy overall 9 0 100.0% 70.1% to 100.0% 50.0%" in printed and "always-longer" in printed
    cli("eval", name, "--model", rm.ref, "--data", "rows.jsonl")
    assert "politeness" in (store.path(rm.ref) / "README.md").read_text("utf-8")
    first, second = results(store)
    assert {model.id for result in (first, second) for model in result.models} == {"baseline:longest", rm.ref}
    for result in (first, second):
        assert result.ref.startswith("politeness@1.0.0-") and result.ref in cli("list")
        assert "always-longer" in cli("show", result.ref)
        assert "agree" in cli("verify", result.ref)
    assert rm.ref in cli("lineage", next(one.ref for one in (first, second) if one.models[0].id == rm.ref))
    assert "100.0%" in (store.path(first.ref) / "README.md").read_text("utf-8") + (
        store.path(second.ref) / "README.md"
    ).read_text("utf-8")
