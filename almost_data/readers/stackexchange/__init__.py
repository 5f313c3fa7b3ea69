"""Posts of Stack Exchange, read as a stream, from what people have of them.

- `Posts.xml` of a data dump, or the dump packed as .7z or .zip, with Posts.xml in it (`dump`);
- rows in the layout of HuggingFaceH4/stack-exchange-preferences: Parquet, JSONL or a Hub dataset (`rows`).

All of it is hostile: XML with a DTD is refused before an entity is read, an element and an archive have a
size that they may not pass, and numbers are numbers. What cannot be used is an InputError that names file
and line or row.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError

PACKED = (".7z", ".zip")
ROWS = (".parquet", ".jsonl", ".ndjson")
SUFFIXES = (".xml", *PACKED, *ROWS)
SITE = r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+"
"""A host, such as `beer.stackexchange.com`."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")

Tick = Callable[[int, int], None]
"""Called with how many rows were read, and of about how many."""


class Post(NamedTuple):
    """A question or an answer."""

    site: str
    id: int
    question: int | None
    """Of an answer: the id of its question."""
    score: int
    """Of an answer: `vote_score` of its votes, without the bonus where `accepted` says who has it."""
    accepted: int | None
    """Of a question: the id of the accepted answer, where the answers' scores do not have its bonus yet."""
    title: str
    html: str
    author: str | None
    """Name or profile address, or both."""
    license: str | None

    @property
    def url(self) -> str:
        return f"https://{self.site}/{'questions' if self.question is None else 'a'}/{self.id}"


Posts = Callable[[Tick], Iterator[Post]]
"""Reads all posts; every call begins anew."""


def vote_score(votes: int) -> int:
    """Askell et al. 2021 (arXiv 2112.00861): log2(1 + votes) to the nearest integer; -1 where votes < 0.

    Exact, in integers: with n = 1 + votes, log2(n) rounds to k where 2^(2k-1) < n^2 < 2^(2k+1), and n^2 has
    2k or 2k + 1 bits. No n is halfway, for 2^(k + 1/2) is irrational. The accepted answer has one more.

    >>> [vote_score(votes) for votes in (-3, 0, 1, 2, 4, 5, 10, 11)]
    [-1, 0, 1, 2, 2, 3, 3, 4]
    """
    return -1 if votes < 0 else ((votes + 1) ** 2).bit_length() // 2


def license_of(date: str) -> str | None:
    """The licence of a post last changed on this day, as Stack Exchange states its terms; None without a day.

    >>> license_of("2014-01-21T20:26:05.383")
    'CC BY-SA 3.0'
    """
    if not re.match(r"\d{4}-\d\d-\d\d", date):
        return None
    return f"CC BY-SA {'2.5' if date < '2011-04-08' else '3.0' if date < '2018-05-02' else '4.0'}"


def record(source: str) -> dict[str, str]:
    """What identifies the source: name and sha256 of a file, or id and commit of a Hub dataset."""
    path = Path(source)
    if is_hub(source):
        name, _, revision = source.partition("@")
        return {"name": name, "revision": commit_of(name, revision or None)}
    if not path.is_file():
        raise InputError(f"{source}: {'not a file: give one file' if path.exists() else 'no such file'}")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{source}: cannot tell its format: name it one of {', '.join(SUFFIXES)}")
    try:
        stat = path.stat()
        return {"name": path.name, "sha256": _sha256(path, stat.st_size, stat.st_mtime_ns)}
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None


def site_of(source: str, site: str | None) -> str | None:
    """The site of a dump, which does not name it; rows of the Hub's layout name theirs. Raises InputError.

    >>> site_of("dumps/stackoverflow.com-Posts.7z", None)
    'stackoverflow.com'
    """
    path = Path(source)
    if is_hub(source) or path.suffix in ROWS:
        return site
    name = path.stem.removesuffix("-Posts")
    if site is None and path.suffix in PACKED and re.fullmatch(SITE, name):
        return name
    if site is None:
        raise InputError(
            f"{source}: a dump does not name its site: give --set community.site=HOST, its address"
        )
    return site


def reading(source: str, site: str | None) -> AbstractContextManager[Posts]:
    """What reads the posts of a source, as often as wanted. What was unpacked is gone at the end."""
    from . import dump, rows

    if is_hub(source) or Path(source).suffix in ROWS:
        return nullcontext(lambda tick: rows.posts(source, site, tick))
    if site is None:
        raise ValueError("a dump needs the name of its site")
    return dump.reading(Path(source), site)


def author_of(name: str, profile: str) -> str | None:
    """How a post names its author: name or profile address, or both; None where it has neither."""
    return f"{name} ({profile})" if name and profile else name or profile or None


@lru_cache
def commit_of(name: str, revision: str | None) -> str:
    """The commit of a Hub dataset; asked once a process, and not at all where it is given."""
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:
        raise unavailable(name, error) from None


def unavailable(name: str, error: Exception) -> InputError:
    why = type(error).__name__  # messages may quote addresses and headers
    return InputError(f"{name}: no such file, and not to be had from the Hub ({why}): check name and login")


def is_hub(source: str) -> bool:
    path = Path(source)
    return not path.exists() and path.suffix not in SUFFIXES and HUB_ID.fullmatch(source) is not None


@lru_cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Of a file of this size and time: hashed once, however often it is asked for."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
