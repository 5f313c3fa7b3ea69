"""`Posts.xml` of a data dump, as it is or packed. Streamed: no more than a chunk of it is in memory."""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn
from xml.parsers import expat

from ...errors import InputError
from . import Post, Posts, Tick, author_of, license_of, vote_score

if TYPE_CHECKING:
    import py7zr

CHUNK = 1 << 20
MOST_ELEMENT = 16 << 20
"""Bytes without the end of an element: a post is far shorter."""
MOST_GROWTH = 100
"""A dump unpacks to about ten times its packed size; what grows more than this is a bomb."""
FREE_GROWTH = 64 << 20
"""Up to this size it does not matter."""


@contextmanager
def reading(path: Path, site: str) -> Iterator[Posts]:
    """What reads the posts of a dump. A 7z archive is unpacked once, into a temporary folder."""
    if path.suffix == ".xml":
        yield lambda tick: _posts(lambda: path.open("rb"), path.stat().st_size, str(path), site, tick)
    elif path.suffix == ".zip":
        opener, size = _zipped(path)
        yield lambda tick: _posts(opener, size, str(path), site, tick)
    else:
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder) / "Posts.xml"
            _unpack(path, unpacked)
            size = unpacked.stat().st_size
            yield lambda tick: _posts(lambda: unpacked.open("rb"), size, str(path), site, tick)


def _posts(open_: Callable[[], IO[bytes]], size: int, name: str, site: str, tick: Tick) -> Iterator[Post]:
    with open_() as file:
        for line, row in _elements(file, size, name, tick):
            where = f"{name}:{line}"
            kind = _number(row, "PostTypeId", where)
            if kind not in (1, 2):
                continue
            user, shown = row.get("OwnerUserId"), " ".join(row.get("OwnerDisplayName", "").split())
            profile = f"https://{site}/users/{_number(row, 'OwnerUserId', where)}" if user else ""
            date = row.get("LastEditDate") or row.get("CreationDate", "")
            yield Post(
                site=site,
                id=_number(row, "Id", where),
                question=_number(row, "ParentId", where) if kind == 2 else None,
                score=vote_score(_number(row, "Score", where)) if kind == 2 else 0,
                accepted=_number(row, "AcceptedAnswerId", where) if row.get("AcceptedAnswerId") else None,
                title=row.get("Title", ""),
                html=row.get("Body", ""),
                author=author_of(shown, profile),
                license=row.get("ContentLicense") or license_of(date),
            )


def _elements(file: IO[bytes], size: int, name: str, tick: Tick) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and attributes of each `row` of the one `posts`."""
    parser = expat.ParserCreate("utf-8")
    rows: list[tuple[int, dict[str, str]]] = []
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        wanted = ("posts", "row")[depth] if depth < 2 else None
        if tag != wanted:
            there = f"<{tag[:40]}> where {f'<{wanted}>' if wanted else 'no element'} should be"
            raise InputError(f"{name}:{parser.CurrentLineNumber}: {there}: give a dump's Posts.xml")
        depth += 1
        if depth == 2:
            rows.append((parser.CurrentLineNumber, attributes))

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: Any) -> NoReturn:
        raise InputError(f"{name}:{parser.CurrentLineNumber}: it declares a DTD or entities, as no dump does")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    read = since = done = 0
    while True:
        chunk = _read(file, name)
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            why = expat.ErrorString(error.code)
            raise InputError(f"{name}:{error.lineno}: broken XML ({why}): fetch the dump anew") from None
        read, since = read + len(chunk), 0 if rows else since + len(chunk)
        if since > MOST_ELEMENT:
            line = parser.CurrentLineNumber
            raise InputError(f"{name}:{line}: {since >> 20} MiB without the end of a row: no dump has that")
        done += len(rows)
        yield from rows
        rows.clear()
        if not chunk:
            return
        tick(done, done * size // read)


def _read(file: IO[bytes], name: str) -> bytes:
    try:
        return file.read(CHUNK)
    except Exception as error:  # each way to pack has errors of its own for damaged bytes
        raise InputError(f"{name}: cannot be unpacked ({error}): fetch the dump anew") from None


def _number(row: dict[str, str], key: str, where: str) -> int:
    value = row.get(key)
    sign = "-?" if key in ("Score", "OwnerUserId") else ""
    if value is None or not re.fullmatch(sign + "[0-9]{1,18}", value):
        there = "missing" if value is None else f"{value[:40]!r}, no whole number"
        raise InputError(f"{where}: {key} is {there}: give a dump as Stack Exchange made it")
    return int(value)


def _zipped(path: Path) -> tuple[Callable[[], IO[bytes]], int]:
    """What opens Posts.xml in a zip archive, and its size."""
    import zipfile

    def open_() -> IO[bytes]:
        try:
            return zipfile.ZipFile(path).open("Posts.xml")
        except Exception as error:
            raise InputError(f"{path}: cannot be unpacked ({error}): fetch the dump anew") from None

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _check_member(path, names)
            size = archive.getinfo("Posts.xml").file_size
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path}: no zip archive that can be read ({error}): fetch the dump anew") from None
    _check_size(path, size)
    return open_, size


def _unpack(path: Path, target: Path) -> None:
    """Write Posts.xml of a 7z archive to `target`, and nothing anywhere else."""
    import py7zr

    try:
        with path.open("rb") as file, py7zr.SevenZipFile(file) as archive:
            members = archive.list()
            _check_member(path, [one.filename for one in members])
            size = next(one.uncompressed for one in members if one.filename == "Posts.xml")
            _check_size(path, size)
            with target.open("wb") as out:
                archive.extract(targets=["Posts.xml"], factory=_factory(out, size, path))
    except InputError:
        raise
    except Exception as error:  # the library and its codecs raise many kinds
        why = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path}: cannot be unpacked ({why}): fetch it anew, or unpack it yourself"
        ) from None


def _factory(out: IO[bytes], size: int, path: Path) -> "py7zr.io.WriterFactory":
    import py7zr

    class Writer(py7zr.io.Py7zIO):
        def write(self, s: bytes | bytearray) -> int:
            if out.tell() + len(s) > size:
                raise InputError(f"{path}: Posts.xml is larger than the archive says: fetch the dump anew")
            return out.write(s)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            out.flush()

        def size(self) -> int:
            return out.tell()

    class Factory(py7zr.io.WriterFactory):
        def create(self, filename: str) -> py7zr.io.Py7zIO:
            return Writer()

    return Factory()


def _check_member(path: Path, names: list[str]) -> None:
    if names.count("Posts.xml") != 1:
        there = ", ".join(name[:40] for name in names[:5]) or "nothing"
        raise InputError(f"{path}: wants one Posts.xml in it; there is: {there}")


def _check_size(path: Path, size: int) -> None:
    if size > max(FREE_GROWTH, MOST_GROWTH * path.stat().st_size):
        raise InputError(
            f"{path}: Posts.xml in it is {size:,} bytes, over {MOST_GROWTH} times the archive: no dump is so"
        )
