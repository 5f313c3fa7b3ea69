"""The wheel, in a clean environment outside the clone: it builds, and others load what it built."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(PROJECT)], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_carries_cards_presets_and_prompts(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("comparisons", "responses", "queries", "dataset"):
        assert f"almost_data/cards/templates/{name}.md.jinja" in names
    for name in (
        *("run/presets/tiny.toml", "generation/prompts/hhh.txt", "generation/prompts/seeds.txt", "py.typed"),
        *(
            "store/trainers/openrlhf/train_dpo.sh",
            "viewer/viewer.html",
            "viewer/viewer.css",
            "viewer/viewer.js",
        ),
    ):
        assert f"almost_data/{name}" in names
    assert not any(name.startswith(("tests/", "cards/", "recipes/")) for name in names)


def test_a_clean_environment_builds_comparisons_and_datasets_loads_them(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = PROJECT / "constraints.txt"
    options = ["-q", "--disable-pip-version-check", "--no-compile", "-c", str(constraints)]
    subprocess.run([str(python), "-m", "pip", "install", *options, str(wheel)], check=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean["HF_HOME"] = str(tmp_path / "hf")
    program = str(tmp_path / "venv" / "bin" / "almost-data")
    for arguments in (["build", "comparisons", "--engine", "fake"], ["verify", "comparisons@0.1.0"]):
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    code = (
        "import datasets, importlib.util\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "for config in ('default', 'rejected', 'rejected_responses'):\n"
        "    print(config, datasets.load_dataset('build/comparisons/0.1.0', config)['train'].num_rows)\n"
    )
    loaded = subprocess.run(
        [str(python), "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    configs = [line.split()[0] for line in loaded.stdout.splitlines()]
    assert configs == ["default", "rejected", "rejected_responses"]
