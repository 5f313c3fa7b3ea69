"""The steps of CONTRIBUTING, followed to the letter: its files are written, its commands run."""

import os
import pydoc
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import almost_data
from almost_data.datasets.settings_docs import field_docs
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import command, trained

PROJECT = Path(__file__).parents[1]
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
FILE = re.compile(r"`(\w+\.(?:py|toml))`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
MOST_LINES = 59
"""Of a file that adds a builder, an engine or an evaluation from outside."""


def section(title: str) -> str:
    return CONTRIBUTING.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run(line: str, folder: Path) -> str:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "almost_data"]
    done = command.run(*words[3:], cwd=folder, columns=120)
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def follow(title: str, folder: Path) -> dict[str, str]:
    """Write the section's files, run its commands, and return what each printed."""
    text = section(title)
    files = FILE.findall(text)
    assert files
    for name, content in files:
        assert len(content.splitlines()) <= MOST_LINES, name
        imports = {line.split()[1] for line in content.splitlines() if line.startswith(("from ", "import "))}
        assert imports <= {"almost_data", "polars"}, f"{name} needs the public API alone"
        (folder / name).write_text(content, "utf-8")
    commands = [line for block in COMMANDS.findall(text) for line in block.splitlines()]
    return {line: run(line, folder) for line in commands}


def test_a_builder(tmp_path: Path) -> None:
    printed = follow("Add a builder", tmp_path)
    store = Store(tmp_path / "build")
    manifest = store.manifest("translations@0.1.0")
    assert verify(store, manifest.ref) == [] and manifest.is_fake
    assert sum(manifest.ledger[-1].dropped.values()) + manifest.ledger[-1].kept == manifest.ledger[-1].n_in
    assert (store.path(manifest.ref) / "plots" / "rows.png").is_file()
    assert "translations" in printed["python -m almost_data list"]
    assert "queries@0.1.0" in printed["python -m almost_data lineage translations"]
    own_help = run("python -m almost_data build translations.py:BUILDER --help", tmp_path)
    assert "--model" in own_help and "--pairing" not in own_help
    (tmp_path / "translations.py").unlink()  # a dataset is readable where its builder is not
    for verb in ("show", "verify", "lineage", "diff translations@0.1.0"):
        run(f"python -m almost_data {verb} translations@0.1.0", tmp_path)


def test_a_filter(tmp_path: Path) -> None:
    follow("Add a filter", tmp_path)
    ledger = Store(tmp_path / "build").manifest("comparisons@0.1.0").ledger
    assert {"no_apology", "few_links"} <= {entry.filter for entry in ledger}


def test_an_engine(tmp_path: Path) -> None:
    follow("Add an engine", tmp_path)
    store = Store(tmp_path / "build")
    engine = store.manifest("responses@0.1.0").environment["engine"]
    assert (engine["name"], engine["settings"]) == ("shouting", {"mark": "!!!"})
    assert store.scan("responses@0.1.0").collect()["response"].str.ends_with("!!!").all()


def test_an_evaluation(tmp_path: Path) -> None:
    printed = follow("Add an evaluation", tmp_path)
    [ref] = Store(tmp_path / "build").refs()
    assert ref.startswith("politeness@1.0.0-") and ref in printed["python -m almost_data list"]
    assert "100.0%" in printed["python -m almost_data show politeness"]
    assert "agree" in printed["python -m almost_data verify politeness"]
    store = Store(tmp_path / "build")
    rm = trained.publish_reward(store, tmp_path / "out", "rm")
    run(f"python -m almost_data eval politeness.py:EVALUATION --model {rm.ref}", tmp_path)
    assert "politeness" in (store.path(rm.ref) / "README.md").read_text("utf-8")
    [of_rm] = set(store.refs("politeness")) - {ref}
    assert rm.ref in run(f"python -m almost_data lineage {of_rm}", tmp_path)


@pytest.mark.wheel
def test_an_evaluation_of_an_installed_package_has_a_name(tmp_path: Path) -> None:
    """In a process of its own, because the command line reads the entry points as it starts."""
    [(name, content)] = FILE.findall(section("Add an evaluation"))
    (tmp_path / name).write_text(content, "utf-8")
    record = tmp_path / "politeness-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: politeness\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[almost_data.evals]\npoliteness = politeness:EVALUATION\n")
    path = os.pathsep.join([str(tmp_path), str(PROJECT)])
    words = [sys.executable, "-m", "almost_data", "eval", "politeness", "--model", "baseline:longest"]
    subprocess.run(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True)
    [ref] = Store(tmp_path / "build").refs()
    assert ref.startswith("politeness@1.0.0-")


@pytest.mark.parametrize("name", re.findall(r"`(almost_data/[\w/.]+|tests/[\w/.]+)`", CONTRIBUTING))
def test_every_path_that_it_names_exists(name: str) -> None:
    assert (PROJECT / name).exists() or "NAME" in name


@pytest.mark.parametrize("name", ["Builder", "Built", "Evaluation", "Filter"])
def test_help_shows_what_stands_under_each_field(name: str) -> None:
    public = getattr(almost_data, name)
    text = pydoc.render_doc(public, renderer=pydoc.plaintext)
    docs = {field: doc for field, doc in field_docs(public).items() if doc}
    assert docs and all(f" |  {field}: {doc}" in text for field, doc in docs.items())


def test_the_public_api_is_what_it_says() -> None:
    assert set(re.findall(r"almost_data\.([A-Z]\w+)", CONTRIBUTING)) <= set(almost_data.__all__)
