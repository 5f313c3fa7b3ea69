"""The same recipe gives the same rows: digests of a fake run of all five datasets, pinned."""

import subprocess
import sys
from pathlib import Path

import pytest

from almost_data.store.store import Store
from tests import command

ROOT = Path(__file__).parents[1]
RUN = ["--engine", "fake", "--version", "1.0.0", "--set", "queries.target=60"]
BY_IDS = ["--set", "comparisons.drops_with_text=false"]
DIGESTS = {
    "queries": "69ff526beaef3e3abbba7a1e5176209256fa596984d2a3978c10cbe77362122d",
    "responses": "288c4994d82c32f57ab1f1a599ad69be72e09cc5f28b6bb46cfa98d85fa2c1ee",
    "comparisons": "319e5219038b9db30511c3504694428c6c62a2d36d47f625c39e8752e36bdeb6",
    "demonstrations": "126370250a75a767e48f9531413690897bcacd2be4fe430db218d8014f7073fe",
    "community": "1caebc72dfd65b5f84b73af082aaf22760caf9b83dd3f761ddfd6570fc33f0d0",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("pinned")
    posts = root / "posts.xml"
    subprocess.run([sys.executable, str(ROOT / "recipes/tiny_posts.py"), str(posts)], check=True)
    for arguments in (
        ["ratings", *RUN, "--rm", "fake/asis"],
        ["comparisons", *RUN, *BY_IDS, "--pairing", "all", "--ratings", "ratings@1.0.0"],
        ["demonstrations", *RUN, *"--rm fake/rm --second-rm fake/second --turns 4 --preference".split()],
        ["community", "--version", "1.0.0", "--source", str(posts), "--site", "made-up.example"],
    ):
        done = command.run("build", *arguments, "--root", str(root / "build"))
        assert done.returncode == 0, done.stderr
    return Store(root / "build")


@pytest.mark.parametrize("name", DIGESTS)
def test_the_rows_of_a_recipe_stay_the_same(store: Store, name: str) -> None:
    assert store.manifest(f"{name}@1.0.0").digest == DIGESTS[name]
