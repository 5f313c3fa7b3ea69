"""An engine of another author: one file against the public API, by its path or by an entry point."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import almost_data
from almost_data.errors import InputError
from almost_data.generation import engines
from almost_data.store.store import Store
from tests import command

FILE = Path(__file__).with_name("my_engine.py")
BUILD = ("build", "responses", "--limit", "4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(FILE, tmp_path)
    return tmp_path


def test_it_is_short_and_needs_the_public_api_alone() -> None:
    lines = FILE.read_text("utf-8").splitlines()
    assert len(lines) < 60
    assert [line for line in lines if "almost_data" in line and "import" in line] == [
        "from almost_data import InputError, Model, Reply, Request, cut_at_stop"
    ]


@pytest.mark.wheel
def test_an_installed_package_offers_it_by_name(folder: Path) -> None:
    """In a process of its own, because the command line reads the entry points as it starts."""
    metadata = folder / "site" / "capitals-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "my_engine.py").rename(folder / "site" / "capitals_package.py")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: capitals\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[almost_data.engines]\ncapitals = capitals_package:ENGINE\n")
    path = os.pathsep.join([str(folder / "site"), str(Path(almost_data.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "almost_data", *BUILD, "--engine", "capitals", "--set", "engine.repeat=3"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    store = Store(folder / "build")
    engine = store.manifest("responses@0.1.0").environment["engine"]
    assert (engine["name"], engine["settings"]) == ("capitals", {"repeat": 3, "mark": "!"})
    texts = store.scan("responses@0.1.0").collect()["response"]
    assert len(texts) and all(text.isupper() for text in texts.str.head(8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--engine", "capitals"), "no 'capitals' among the engines: choose vllm, transformers"),
        (("--engine", "nowhere.py:ENGINE"), "nowhere.py: no such file"),
        (("--engine", "my_engine.py:OTHER"), "my_engine.py: has no 'OTHER'"),
        (
            ("--engine", "my_engine.py:ENGINE", "--set", "engine.speed=3"),
            "engine.speed: the my_engine.py:ENGINE engine has no such option; it has: repeat, mark",
        ),
    ],
)
def test_a_wrong_name_or_option_is_one_line(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    done = command.run(*BUILD, *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ENGINE = 3", "an engine is a class or function"),
        (
            "class ENGINE:\n    name = 'x'\n    def generate(self, requests): ...",
            "it lacks load_seconds, hon",
        ),
        ("1 / 0", "cannot be run: ZeroDivisionError"),
    ],
)
def test_what_is_no_engine_is_refused(code: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(code)
    with pytest.raises(InputError, match=message):
        engines.load(f"{tmp_path / 'wrong.py'}:ENGINE")


def test_its_options_are_checked_by_their_types() -> None:
    with pytest.raises(InputError, match=r"engine\.repeat: needs a whole number, not text"):
        engines.load(f"{FILE}:ENGINE", {"repeat": "often"})
    with pytest.raises(InputError, match=r"engine\.repeat 0: give 1 or more"):
        engines.load(f"{FILE}:ENGINE", {"repeat": 0})
