"""Files: locked, written to the disk, and as they were published (size, hash, regular files)."""

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..datasets.records import FileRecord
from ..errors import InputError
from ..models.files import cached_sha256, file_sha256

CARD = "README.md"


def records(folder: Path, hashed: Mapping[str, FileRecord] | None = None) -> dict[str, FileRecord]:
    """Size and hash of every file below a folder that is to be published, by path; `hashed` are done."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {
        path: (hashed or {}).get(path) or FileRecord(file.stat().st_size, file_sha256(file))
        for path, file in sorted(files.items())
    }


def kind_problem(file: Path) -> str:
    """Why a file is not one to be opened; empty for a regular file. A link may lead anywhere."""
    try:
        mode = file.lstat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISLNK(mode):
        return "a symbolic link, which no artifact has"
    return "" if stat.S_ISREG(mode) else "not a regular file"


def file_problem(file: Path, record: FileRecord, is_cached: bool = False) -> str:
    """How a file differs from what was published; empty where it does not. A hash may be `cached`."""
    if problem := kind_problem(file):
        return problem
    try:
        if (size := file.stat().st_size) != record.bytes:
            return f"{size:,} bytes, where {record.bytes:,} were published"
        actual = cached_sha256(file) if is_cached else file_sha256(file)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if actual == record.sha256 else "not the bytes that were published"


def published(folder: Path, path: str, record: FileRecord) -> Path:
    """A file of an artifact, to be read. Raises InputError where it is not the one that was published."""
    if problem := file_problem(folder / path, record, is_cached=True):
        raise InputError(f"{folder / path}: damaged: {problem}: build or pull it anew")
    return folder / path


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes) -> None:
    """Write a file and its folders, and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sync(path)


@contextmanager
def hold(file: Path, busy: str, wait: bool = False, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is created. Raises InputError, with `busy`, where another process does.

    With `wait` it waits for that process; several may hold it `shared`.
    """
    with file.open("a") as handle:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(handle, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise InputError(busy) from None
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child has the file open and would hold the lock
