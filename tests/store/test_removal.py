"""A deleted artifact is gone, what others need is protected, and its replies are not asked for again."""

import os
import shutil
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from almost_data import prepare
from almost_data.cli.console import byte_size
from almost_data.datasets.manifest import Manifest
from almost_data.errors import InputError
from almost_data.run import build
from almost_data.store.removal import plan, remove
from almost_data.store.store import Store
from tests.command import run as cli


def test_what_others_stand_on_stays_unless_that_is_accepted(copy: Store) -> None:
    assert plan(copy, ["responses@0.1.0"]).children == {"responses@0.1.0": ["comparisons@0.1.0"]}
    with pytest.raises(InputError, match=r"comparisons@0\.1\.0 was made from it"):
        remove(copy, ["responses@0.1.0"])
    assert copy.has("responses@0.1.0")
    remove(copy, ["responses@0.1.0"], force=True)
    assert copy.refs() == ["comparisons@0.1.0", "queries@0.1.0"]
    assert not copy.path("responses@0.1.0").parent.exists()


def test_what_others_built_until_it_is_locked_counts(copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = copy.path("comparisons@0.1.0"), copy.root / "comparisons" / "theirs"
    ours.rename(theirs)
    lock = Store.lock

    def build_first(store: Store, ref: str) -> AbstractContextManager[None]:
        theirs.rename(ours)
        return lock(store, ref)

    monkeypatch.setattr(Store, "lock", build_first)
    with pytest.raises(InputError, match=r"comparisons@0\.1\.0 was made from it"):
        remove(copy, ["responses@0.1.0"])
    assert copy.has("responses@0.1.0")


def test_what_something_is_made_from_is_not_deleted(copy: Store) -> None:
    kept = [copy.keep(["queries@0.1.0", "responses@0.1.0"]), copy.keep(["responses@0.1.0"])]
    error = pytest.raises(InputError, match=r"responses@0\.1\.0 is in use by another process")
    with kept[0], kept[1], error:
        remove(copy, ["responses@0.1.0"], force=True)
    remove(copy, ["responses@0.1.0"], force=True)


def test_a_build_holds_its_parents(copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare("fake", root=copy.root, version="0.2.0", sources=["responses@0.1.0"])
    publish = build.publish_dataset

    def remove_parent(store: Store, *content: Any) -> Manifest:
        with pytest.raises(InputError, match=r"responses@0\.1\.0 is in use by another process"):
            remove(store, ["responses@0.1.0"], force=True)
        return publish(store, *content)

    monkeypatch.setattr(build, "publish_dataset", remove_parent)
    run.build("comparisons")
    assert run.store.has("comparisons@0.2.0")


def test_a_version_comes_while_the_only_one_of_its_name_goes(
    copy: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the name, which `rm` deletes with its last version, stays until the new one is in it."""
    rename, place = os.rename, copy.path("comparisons@0.2.0")
    removal = threading.Thread(target=copy.discard, args=["comparisons@0.1.0"])

    def remove_first(source: Path, target: Path) -> None:
        if target == place:
            removal.start()
            removal.join(0.5)
        rename(source, target)

    shutil.copytree(copy.path("comparisons@0.1.0"), tmp_path / "new")
    monkeypatch.setattr(os, "rename", remove_first)
    copy.adopt("comparisons@0.2.0", tmp_path / "new")
    removal.join()
    assert copy.refs("comparisons") == ["comparisons@0.2.0"]


def test_rm_asks_and_says_what_the_journal_keeps(copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ["--root", str(copy.root)]
    assert "--yes" in cli("rm", "comparisons@0.1.0", *root).stderr
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "nothing was deleted" in cli("rm", "comparisons@0.1.0", *root).stdout
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert cli("rm", "comparisons@0.1.0", *root).returncode == 0
    done = cli("rm", "responses@0.1.0", "--yes", *root)
    assert "200 replies" in done.stdout and "journal --prune" in done.stdout
    assert copy.refs() == ["queries@0.1.0"]
    assert cli("rm", "queries", "--yes", *root).returncode == 2, "a version is named"


def test_several_are_deleted_together_or_none(copy: Store) -> None:
    options = ["--yes", "--root", str(copy.root)]
    done = cli("rm", "comparisons@0.1.0", "responses@9.0.0", *options)
    assert done.returncode == 2 and "responses@9.0.0" in done.stderr and len(copy.refs()) == 3
    done = cli("rm", "responses@0.1.0", "queries@0.1.0", *options)
    assert "comparisons@0.1.0 was made from it" in done.stderr and len(copy.refs()) == 3
    done = cli("rm", "queries@0.1.0", "responses@0.1.0", "comparisons@0.1.0", *options)
    assert done.returncode == 0 and copy.refs() == []
    assert cli("rm", *options).returncode == 2


def test_list_shows_sizes(fake_store: Store) -> None:
    lines = cli("list", "--root", str(fake_store.root)).stdout.splitlines()
    size = plan(fake_store, fake_store.refs()).bytes
    assert "size" in lines[0] and "kB" in lines[1] and lines[-1] == f"3 versions, {byte_size(size)}"


def test_a_damaged_version_is_deleted_and_what_was_not_checked_is_said(copy: Store) -> None:
    options = ["--yes", "--root", str(copy.root)]
    (copy.path("comparisons@0.1.0") / "manifest.json").write_text("{")
    done = cli("rm", "responses@0.1.0", *options, columns=300)
    assert done.returncode == 0 and not copy.has("responses@0.1.0")
    assert "not checked: whether comparisons@0.1.0 was made from what is deleted: " in done.stdout
    done = cli("rm", "comparisons@0.1.0", *options, columns=300)
    assert done.returncode == 0 and copy.refs() == ["queries@0.1.0"]
    assert "not checked: what comparisons@0.1.0 is: " in done.stdout and "not a manifest" in done.stdout


def test_a_damaged_parent_is_kept_for_its_children(copy: Store) -> None:
    (copy.path("queries@0.1.0") / "manifest.json").write_text("{")
    assert plan(copy, ["queries@0.1.0"]).children == {"queries@0.1.0": ["responses@0.1.0"]}
    removal = plan(copy, copy.refs()[::-1])
    assert removal.refs == ["comparisons@0.1.0", "responses@0.1.0", "queries@0.1.0"]
    assert removal.children == {} and len(removal.unchecked) == 1
    remove(copy, copy.refs())
    assert copy.refs() == []
