"""The work folder of a training, TRL's `output_dir`: its checkpoints, and the recipe that they are of."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..outputs import writing_to
from ..store.files import hold

RECIPE = "recipe.json"
FINAL = "final"
"""Folder of the trained model, before it is published."""


def last_checkpoint(folder: Path, fingerprint: str) -> str | None:
    """The last whole checkpoint in the folder; None where there is none.

    Raises InputError where the checkpoints are not of the recipe with this fingerprint.
    """
    numbers = {checkpoint: checkpoint.name.rpartition("-")[2] for checkpoint in folder.glob("checkpoint-*")}
    whole = [checkpoint for checkpoint, n in numbers.items() if n.isdecimal() and _is_whole(checkpoint)]
    note = folder / RECIPE
    if whole and not (note.is_file() and note.read_bytes() == fingerprint.encode()):
        raise InputError(
            f"{folder} has checkpoints of another recipe: give another recipe.output_dir, or delete that "
            "folder"
        )
    last = max(whole, key=lambda checkpoint: int(numbers[checkpoint]), default=None)
    return str(last) if last else None


def _is_whole(checkpoint: Path) -> bool:
    """TRL writes `trainer_state.json` last: without it, or with half of it, the run ended in between."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def held(folder: Path, fingerprint: str) -> Iterator[None]:
    """Hold the folder, which is created, for the recipe with this fingerprint: two would mix checkpoints.

    A model that an earlier run left is deleted, as the next one may have fewer files. Raises InputError where
    another process trains there, or nothing can be written.
    """
    output, note = f"recipe.output_dir {folder}", folder / RECIPE
    with writing_to(note, output):
        folder.mkdir(parents=True, exist_ok=True)
        note.open("a").close()
    with hold(note, f"{output}: another process trains there: name another folder"):
        last_checkpoint(folder, fingerprint)  # of another recipe, whose run has just ended
        with writing_to(note, output):
            shutil.rmtree(folder / FINAL, ignore_errors=True)
            note.write_text(fingerprint)
        yield
