"""Files that people name to be written: whole or not at all."""

import os
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
    is_special = file.exists() and not file.is_file()
    staging = file if is_special else target.with_name(f".{target.name}.part")
    try:
        yield staging
        if not is_special:
            os.replace(staging, target)
    except BaseException as error:
        if not is_special:
            with suppress(OSError):  # its folder may be none, or its name too long
                staging.unlink()
        message = str(error)
        if isinstance(error, OSError) or "(os error" in message:
            # Polars puts the number of the error behind its sentence, and the Parquet library's before it.
            reason = (
                getattr(error, "strerror", None) or message.partition(" (os error")[0].rpartition(": ")[2]
            )
            fix = "" if target.parent.is_dir() else ": make its folder first"
            raise InputError(f"{setting} {file}: cannot be written: {reason}{fix}") from None
        raise
