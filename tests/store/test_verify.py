"""`verify` sees every byte of an artifact, opens only regular files, and says what it cannot prove."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from almost_data.datasets.manifest import Manifest, encode_manifest
from almost_data.errors import InputError
from almost_data.store.places import Place, remember
from almost_data.store.store import Store
from almost_data.store.verify import unproven, verify
from tests.command import run as cli
from tests.forged import edit

REF = "responses@0.1.0"


def flip_first_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def add_comment(file: Path) -> None:
    file.write_text(file.read_text("utf-8") + "<!-- seen -->\n", "utf-8")


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("README.md", add_comment),
        ("plots/*.png", flip_first_byte),
        ("data/*/train-*.parquet", flip_first_byte),
    ],
)
def test_a_changed_byte_is_seen(copy: Store, pattern: str, damage: Callable[[Path], None]) -> None:
    folder = copy.path(REF)
    file = next(folder.glob(pattern))
    damage(file)
    path = file.relative_to(folder).as_posix()
    assert any(problem.startswith(f"{path}: ") for problem in verify(copy, REF))


@pytest.mark.parametrize("pattern", ["README.md", "data/*/train-*.parquet", "plots/*.png", "data"])
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_no_regular_file_is_named_and_not_opened(copy: Store, pattern: str, kind: str) -> None:
    place = next(copy.path(REF).glob(pattern))
    place.rename(copy.root / "moved")
    if kind == "link":
        place.symlink_to(copy.root / "moved")
    else:
        os.mkfifo(place)
    done = cli("verify", REF, "--root", str(copy.root), columns=200)
    path = place.relative_to(copy.path(REF)).as_posix()
    assert done.returncode == 1 and not done.stderr
    assert f"{path}: {'a symbolic link' if kind == 'link' else 'not a regular file'}" in done.stdout


def reworded_ledger(manifest: Manifest) -> Manifest:
    first = msgspec.structs.replace(manifest.ledger[0], description="Nothing was dropped.")
    return msgspec.structs.replace(manifest, ledger=[first, *manifest.ledger[1:]])


@pytest.mark.parametrize(
    "change",
    [
        reworded_ledger,
        lambda manifest: msgspec.structs.replace(manifest, created="1999-01-01T00:00:00+00:00"),
        lambda manifest: msgspec.structs.replace(manifest, environment={}),
        lambda manifest: msgspec.structs.replace(
            manifest, diagnostics=manifest.diagnostics | {"notes": ["Checked by hand."]}
        ),
    ],
)
def test_an_edited_manifest_is_told_apart_by_itself_and_by_its_children(
    copy: Store, change: Callable[[Manifest], Manifest]
) -> None:
    file = copy.path(REF) / "manifest.json"
    changed = change(copy.manifest(REF))
    file.write_bytes(encode_manifest(changed))
    assert verify(copy, REF) == [
        "manifest.json: edited since it was published: its sha256 is not that of its content"
    ]
    edit(copy.path(REF))  # the forger seals it anew
    assert "comparisons@0.1.0 was built from another manifest" in " ".join(verify(copy, REF))
    assert f"the manifest of {REF} is not the one" in " ".join(verify(copy, "comparisons@0.1.0"))


def test_what_is_not_proven_is_said(copy: Store) -> None:
    assert unproven(copy, REF) == []
    shutil.rmtree(copy.path("queries@0.1.0"))
    lines = " ".join(unproven(copy, "comparisons@0.1.0"))
    assert (
        "nobody replaced the whole folder: no push, pull or dataset" in lines
        and "not in this store" not in lines
    )
    assert unproven(copy, REF) == ["that it was made from queries@0.1.0, not in this store: pull or build it"]
    done = cli("verify", "comparisons@0.1.0", "--root", str(copy.root), columns=200)
    assert (
        done.returncode == 0
        and "agree" in done.stdout
        and "nothing is wrong. This check cannot show:" in done.stdout
    )


def test_a_recorded_commit_is_named_as_what_to_compare_with(copy: Store) -> None:
    ref = "comparisons@0.1.0"
    digest = copy.manifest(ref).digest
    for recorded, is_named in ((digest, True), ("another", False)):
        remember(copy, ref, Place("dataset", "org/name", "v0.1.0", "abc123", recorded))
        done = cli("verify", ref, "--root", str(copy.root), columns=200)
        assert done.returncode == 0 and ("`verify org/name@abc123`" in done.stdout) == is_named


def test_a_changed_file_is_not_read(copy: Store) -> None:
    file = copy.files("queries@0.1.0", "default")[0]
    flip_first_byte(file)
    with pytest.raises(InputError, match=f"{file.name}: damaged: not the bytes that were published"):
        copy.scan("queries@0.1.0")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="not a regular file"):
        copy.scan("queries@0.1.0")


def test_a_name_is_of_one_kind(copy: Store) -> None:
    with pytest.raises(InputError, match=r"queries@0\.1\.0 is a dataset of that name"):
        copy.check_place("queries@1.0.0-abc", "evaluation")
