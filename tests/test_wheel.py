"""The wheel, in a clean environment outside the clone: it builds, and others load what it built."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


def required(lines: Iterable[str]) -> Collection[Distribution]:
    """The installed packages that a package's metadata require, and those that these require."""
    packages: dict[tuple[str, str], Distribution] = {}
    waiting = [(line, "") for line in lines]
    for line, extra in waiting:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for its_extra in ("", *requirement.extras):
            key = (requirement.name, its_extra)
            if key not in packages:
                packages[key] = distribution(requirement.name)
                waiting += [(line, its_extra) for line in packages[key].requires or ()]
    return packages.values()


def place(package: Distribution, folder: Path) -> None:
    """Link an installed package into a folder of packages."""
    for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (folder / name).exists():
            (folder / name).symlink_to(package.locate_file(name))


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Path:
    """Python of an environment with the wheel and the packages that its metadata require, and no other."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    [installed] = distributions(name="almost_data", path=[str(packages)])
    for package in required(installed.requires or ()):
        place(package, packages)
    subprocess.run([*pip, "check"], check=True)
    return python


def test_a_clean_environment_builds_comparisons_and_datasets_loads_them(
    environment: Path, tmp_path: Path
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean["HF_HOME"] = str(tmp_path / "hf")
    program = str(environment.with_name("almost-data"))
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
        [str(environment), "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    configs = [line.split()[0] for line in loaded.stdout.splitlines()]
    assert configs == ["default", "rejected", "rejected_responses"]
