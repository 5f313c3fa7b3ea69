"""A deleted artifact is gone, what others need is protected, and its replies are not asked for again."""

import pytest

from almost_data.cli.console import byte_size
from almost_data.errors import InputError
from almost_data.store.removal import children, remove
from almost_data.store.store import Store
from tests.command import run as cli


def test_what_others_stand_on_stays_unless_that_is_accepted(copy: Store) -> None:
    assert children(copy, ["responses@0.1.0"]) == {"responses@0.1.0": ["comparisons@0.1.0"]}
    with pytest.raises(InputError, match=r"comparisons@0\.1\.0 was made from it"):
        remove(copy, ["responses@0.1.0"])
    assert copy.has("responses@0.1.0")
    remove(copy, ["responses@0.1.0"], force=True)
    assert copy.refs() == ["comparisons@0.1.0", "queries@0.1.0"]
    assert not copy.path("responses@0.1.0").parent.exists()


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
    size = sum(manifest.disk_bytes for manifest in fake_store.manifests())
    assert "size" in lines[0] and "kB" in lines[1] and lines[-1] == f"3 versions, {byte_size(size)}"
