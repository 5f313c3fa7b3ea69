"""`Posts.xml` of a data dump, plain or in a zip or 7z archive, streamed a chunk at a time."""

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.parsers import expat

from ...errors import InputError
from ..formats import Tick
from .posts import Post, Posts, author_of, license_of, vote_score

CHUNK = 1 << 20
MAX_ELEMENT = 16 << 20
"""Bytes without the end of an element: a post is far shorter."""
MAX_GROWTH = 100
"""A dump unpacks to about ten times its packed size; an archive that grows more than this is a bomb."""
FREE_GROWTH = 64 << 20
"""Smaller files are unpacked whatever their growth."""

Opener = Callable[[], IO[bytes]]


@contextmanager
def reading(path: Path, site: str) -> Iterator[Posts]:
    """A function that reads the posts of a dump. A 7z archive is unpacked once, into a temporary folder."""
    if path.suffix == ".xml":
        yield lambda tick: _posts(lambda: path.open("rb"), path.stat().st_size, str(path), site, tick)
    elif path.suffix == ".zip":
        opener, size = _open_zip(path)
        yield lambda tick: _posts(opener, size, str(path), site, tick)
    else:
        with tempfile.TemporaryDirectory() as folder:
            unpacked, size = _unpack_7z(path, Path(folder))
            yield lambda tick: _posts(lambda: unpacked.open("rb"), size, str(path), site, tick)


QUESTION, ANSWER = 1, 2
"""Values of `PostTypeId`."""


def _posts(opener: Opener, size: int, name: str, site: str, tick: Tick) -> Iterator[Post]:
    """The questions and answers of a dump; other kinds of posts are passed over."""
    with opener() as file:
        for line, row in _elements(file, size, name, tick):
            place = f"{name}:{line}"
            kind = _number(row, "PostTypeId", place)
            if kind not in (QUESTION, ANSWER):
                continue
            is_answer = kind == ANSWER
            display_name = " ".join(row.get("OwnerDisplayName", "").split())
            profile = ""
            if row.get("OwnerUserId"):
                profile = f"https://{site}/users/{_number(row, 'OwnerUserId', place)}"
            last_changed = row.get("LastEditDate") or row.get("CreationDate", "")
            yield Post(
                site=site,
                id=_number(row, "Id", place),
                question=_number(row, "ParentId", place) if is_answer else None,
                score=vote_score(_number(row, "Score", place)) if is_answer else 0,
                accepted=_number(row, "AcceptedAnswerId", place) if row.get("AcceptedAnswerId") else None,
                title=row.get("Title", ""),
                html=row.get("Body", ""),
                author=author_of(display_name, profile),
                license=row.get("ContentLicense") or license_of(last_changed),
            )


def _elements(file: IO[bytes], size: int, name: str, tick: Tick) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and attributes of each `row` in the single `posts` element."""
    parser = expat.ParserCreate("utf-8")
    rows: list[tuple[int, dict[str, str]]] = []
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        expected = ("posts", "row")[depth] if depth < 2 else None
        if tag != expected:
            problem = f"<{tag[:40]}> where {f'<{expected}>' if expected else 'no element'} should be"
            raise InputError(f"{name}:{parser.CurrentLineNumber}: {problem}: give a dump's Posts.xml")
        depth += 1
        if depth == 2:
            rows.append((parser.CurrentLineNumber, attributes))

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: Any) -> NoReturn:
        raise InputError(f"{name}:{parser.CurrentLineNumber}: it declares a DTD or entities: no dump does")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    bytes_read = bytes_without_row = rows_read = 0
    while True:
        chunk = _read(file, name)
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise InputError(f"{name}:{error.lineno}: broken XML ({reason}): fetch the dump again") from None
        bytes_read += len(chunk)
        bytes_without_row = 0 if rows else bytes_without_row + len(chunk)
        if bytes_without_row > MAX_ELEMENT:
            size_text = f"{bytes_without_row >> 20} MiB without the end of a row"
            raise InputError(f"{name}:{parser.CurrentLineNumber}: {size_text}: no dump has that")
        rows_read += len(rows)
        yield from rows
        rows.clear()
        if not chunk:
            return
        tick(rows_read, rows_read * size // bytes_read)


def _read(file: IO[bytes], name: str) -> bytes:
    try:
        return file.read(CHUNK)
    except Exception as error:  # each codec raises its own errors for damaged bytes
        raise _cannot_unpack(name, error) from None


def _cannot_unpack(name: str | Path, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}"
    return InputError(f"{name}: cannot be unpacked ({reason}): fetch it again, or unpack it yourself")


def _number(row: dict[str, str], key: str, place: str) -> int:
    value = row.get(key)
    sign = "-?" if key in ("Score", "OwnerUserId") else ""
    if value is None or not re.fullmatch(sign + "[0-9]{1,18}", value):
        problem = "missing" if value is None else f"{value[:40]!r}, not a whole number"
        raise InputError(f"{place}: {key} is {problem}: give a dump as Stack Exchange made it")
    return int(value)


def _open_zip(path: Path) -> tuple[Opener, int]:
    """A function that opens Posts.xml in a zip archive, and the file's size."""

    def opener() -> IO[bytes]:
        try:
            return zipfile.ZipFile(path).open("Posts.xml")
        except Exception as error:
            raise _cannot_unpack(path, error) from None

    try:
        with zipfile.ZipFile(path) as archive:
            _check_member(path, archive.namelist())
            size = archive.getinfo("Posts.xml").file_size
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _cannot_unpack(path, error) from None
    _check_size(path, size)
    return opener, size


def _unpack_7z(path: Path, folder: Path) -> tuple[Path, int]:
    """Posts.xml of a 7z archive, unpacked into a folder, and its size; no other member is unpacked."""
    import py7zr

    try:
        with path.open("rb") as file, py7zr.SevenZipFile(file) as archive:
            members = archive.list()
            _check_member(path, [member.filename for member in members])
            size = next(member.uncompressed for member in members if member.filename == "Posts.xml")
            _check_size(path, size)
            # The library writes no more than the size that was checked.
            archive.extract(folder, targets=["Posts.xml"])
        return folder / "Posts.xml", size
    except InputError:
        raise
    except Exception as error:  # the library and its codecs raise many kinds
        raise _cannot_unpack(path, error) from None


def _check_member(path: Path, names: list[str]) -> None:
    if names.count("Posts.xml") != 1:
        listing = ", ".join(name[:40] for name in names[:5]) or "nothing"
        raise InputError(f"{path}: needs exactly one Posts.xml, but holds: {listing}")


def _check_size(path: Path, size: int) -> None:
    if size > max(FREE_GROWTH, MAX_GROWTH * path.stat().st_size):
        raise InputError(
            f"{path}: Posts.xml in it is {size:,} bytes, over {MAX_GROWTH} times the archive: not a dump"
        )
