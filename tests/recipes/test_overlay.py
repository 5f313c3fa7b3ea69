"""The tests of PPO, in a process that has TRL 1.12 laid over today's; and what `ppo.py` says without it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import overlay
from tests.recipes import running

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(overlay.HAS_PPO, reason="PPO's tests run in this process"),
]
FILES = ("recipes", "training/test_arguments.py", "training/test_preflight.py")


@pytest.mark.skipif(not overlay.FOLDER.exists(), reason="no overlay: `make .venv/.ppo` installs it")
def test_every_test_that_needs_the_overlay_passes_on_it() -> None:
    tests = Path(__file__).parents[1]
    options = ["-q", "-k", "ppo", "-p", "no:xdist", *(str(tests / name) for name in FILES)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    places = [str(overlay.FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        env=environment | {"PYTHONPATH": os.pathsep.join(places)},
        cwd=tests.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    summary = done.stdout.splitlines()[-1]
    assert re.search(r"\b[2-9]\d passed", summary) and "skipped" not in summary, summary


def test_without_the_overlay_one_line_names_what_to_install() -> None:
    done = running.shell("ppo", "--help")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "pip install 'almost_data[ppo]'" in line and "recipes/rloo.py needs neither" in line
