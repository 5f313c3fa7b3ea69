"""Posts of Stack Exchange, read as a stream, from any of the forms that people have them in.

- `Posts.xml` of a data dump, or the dump packed as .7z or .zip, with Posts.xml in it (`dump`);
- rows in the layout of HuggingFaceH4/stack-exchange-preferences: Parquet, JSONL or a Hub dataset (`rows`).

Sources are not trusted: XML with a DTD is refused before an entity is read, an element and an archive have
a maximum size, and numbers are checked. Errors are InputErrors that name file and line or row.
"""

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ...errors import InputError
from .. import files
from ..formats import Tick, file_format
from . import dump, rows
from .posts import PACKED, ROWS, SITE, Post, Posts, license_of, vote_score

__all__ = [
    "SITE",
    "SUFFIXES",
    "Post",
    "Posts",
    "Tick",
    "license_of",
    "reading",
    "record",
    "site_of",
    "vote_score",
]

SUFFIXES = (".xml", *PACKED, *ROWS)


def record(source: str) -> dict[str, str]:
    """What identifies the source: name and sha256 of a file, or id and commit of a Hub dataset."""
    if not files.is_hub(source, SUFFIXES):
        files.check_file(source, SUFFIXES)
    return files.record(source, SUFFIXES)


def site_of(source: str, site: str | None) -> str | None:
    """The site of a dump, which does not name it; rows of the Hub's layout name theirs. Raises InputError.

    >>> site_of("dumps/stackoverflow.com-Posts.7z", None)
    'stackoverflow.com'
    """
    path = Path(source)
    if site is not None or _has_rows(source):
        return site
    name = path.stem.removesuffix("-Posts")
    if path.suffix in PACKED and re.fullmatch(SITE, name):
        return name
    raise InputError(f"{source}: a dump does not name its site: give community.site=HOST, its address")


def reading(source: str, site: str | None) -> AbstractContextManager[Posts]:
    """A function that reads the posts of a source, each call anew; unpacked files are deleted at the end."""
    if _has_rows(source):
        return nullcontext(lambda tick: rows.posts(source, site, tick))
    if site is None:
        raise ValueError("a dump needs the name of its site")
    return dump.reading(Path(source), site)


def _has_rows(source: str) -> bool:
    return file_format(Path(source)) in ROWS or files.is_hub(source, SUFFIXES)
