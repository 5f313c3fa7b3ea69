"""Files and folders that people name to be written: whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError


@contextmanager
def replacing(file: Path, setting: str) -> Iterator[Path]:
    """A path to write to; `file` is replaced by it when it is whole. Raises InputError, naming the setting.

    A symbolic link stays, and its target is replaced. A pipe or a device is written to.
    """
    target = Path(os.path.realpath(file))
    with writing_to(target, f"{setting} {file}", target.parent):
        if file.exists() and not file.is_file():
            yield file
            return
        staging = _staging(target)
        try:
            yield staging
            os.replace(staging, target)
        except BaseException:
            with suppress(OSError):  # its folder may be none, or its name too long
                staging.unlink()
            raise


@contextmanager
def new_folder(folder: Path, setting: str) -> Iterator[Path]:
    """A folder to write to, which becomes `folder` when it is whole. Raises InputError, naming the setting.

    What a killed process left is deleted.
    """
    with writing_to(folder, f"{setting} {folder}"):
        if os.path.lexists(folder):
            raise InputError(f"{setting} {folder}: exists already: name a new folder")
        staging = _staging(folder)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            yield staging
            os.rename(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _refuse_artifact(output: str, target: Path) -> None:
    """Raise InputError for a place in an artifact of a store: what was published never changes."""
    for folder in target.parents:
        if (folder / "manifest.json").is_file() and (folder.parent.parent / ".locks").is_dir():
            ref = f"{folder.parent.name}@{folder.name}"
            raise InputError(f"{output}: belongs to {ref}, which never changes: name a place elsewhere")


def _staging(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextmanager
def writing_to(path: Path, output: str, needed: Path | None = None) -> Iterator[None]:
    """Turn an error of the disk into one that names the output, and the `needed` folder that is none.

    Raises InputError for a path in an artifact, too.
    """
    try:
        _refuse_artifact(output, Path(os.path.realpath(path)))
        yield
    except Exception as error:
        message = str(error)
        if not isinstance(error, OSError) and "(os error" not in message:
            raise
        # Polars puts the number of the error behind its sentence, and the Parquet library's before it.
        reason = getattr(error, "strerror", None) or message.partition(" (os error")[0].rpartition(": ")[2]
        fix = "make its folder first" if needed and not os.path.isdir(needed) else "name a place elsewhere"
        raise InputError(f"{output}: cannot be written: {reason}: {fix}") from None
