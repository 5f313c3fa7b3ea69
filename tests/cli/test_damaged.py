"""What is read from disk is what its type says, or refused in one line: no verb ends in a traceback."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from almost_data.store.store import Store
from tests import trained
from tests.command import run as cli
from tests.evals.known import hhh

VALUES = (None, "x", 5, -1, 1.5, True, [], {}, [1], {"x": 1}, "\x1b[31m")
SAMPLE = 5
"""Changes of each artifact's manifest, drawn anew in every version of the test by its seed."""


@pytest.fixture(scope="module")
def damaged(fake_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Datasets, a model and an evaluation."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(fake_store.root, folder / "build")
    store = Store(folder / "build")
    trained.publish_reward(store, folder / "out", "rm", diagnostics=trained.measured("rm"))
    options = ("--model", "baseline:longest", "--data", str(hhh(folder / "hhh", 1)))
    assert cli("eval", "static-hhh", *options, "--root", str(store.root)).returncode == 0
    return store


def first(store: Store, name: str) -> str:
    return next(ref for ref in store.refs() if ref.startswith(f"{name}@"))


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in JSON data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def verbs(ref: str) -> Iterator[tuple[str, ...]]:
    yield from (("list",), ("show", ref), ("lineage", ref), ("verify", ref), ("journal",))
    if not ref.startswith("static-hhh"):
        yield "push", ref, "--repo", "ORG/x", "--dry-run"
    if ref.startswith(("queries", "responses", "comparisons")):
        yield "diff", ref, ref
        yield "build", "comparisons", "--engine", "fake", "--version", "0.9.0", "--from", ref


def assert_one_line(store: Store, ref: str, why: object) -> None:
    for verb in verbs(ref):
        done = cli(*verb, "--root", str(store.root))
        assert done.returncode in (0, 1, 2) and done.stderr.count("\n") <= 1, (verb, why, done.stderr)
        assert "unexpected" not in done.stderr and "\x1b" not in done.stdout + done.stderr, (verb, why)
        shutil.rmtree(store.root / "comparisons" / "0.9.0", ignore_errors=True)


@pytest.mark.parametrize("name", ["queries", "responses", "comparisons", "rm", "static-hhh"])
def test_a_value_of_another_type(damaged: Store, name: str) -> None:
    ref = first(damaged, name)
    file = damaged.path(ref) / "manifest.json"
    content = file.read_bytes()
    generator = random.Random(name)
    places = generator.sample(list(paths(json.loads(content))), SAMPLE)
    try:
        for place in places:
            record = json.loads(content)
            parent = record
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value = generator.choice(VALUES)
            file.write_text(json.dumps(record))
            assert_one_line(damaged, ref, (place, value))
    finally:
        file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES = (cut, flip, empty, Path.unlink)


@pytest.mark.parametrize("number", range(len(DAMAGES)))
@pytest.mark.parametrize("name", ["comparisons", "static-hhh"])
def test_a_damaged_file(damaged: Store, name: str, number: int) -> None:
    """Each damage to the manifest, the card and the rows of `default`, and one to each file beside them."""
    ref = first(damaged, name)
    folder = damaged.path(ref)
    for place, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        is_read = file.parent in (folder, folder / "data" / "default")
        if is_read or place % len(DAMAGES) == number:
            content = file.read_bytes()
            try:
                DAMAGES[number](file)
                assert_one_line(damaged, ref, f"{DAMAGES[number].__name__} {file.name}")
            finally:
                file.write_bytes(content)
