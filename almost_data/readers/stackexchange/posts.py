"""One post of Stack Exchange, and what its votes and dates mean."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..formats import Tick

PACKED = (".7z", ".zip")
ROWS = (".parquet", ".jsonl", ".ndjson")
SITE = r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+"
"""A host, such as `beer.stackexchange.com`."""


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
"""Reads all posts; every call starts again."""


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


def author_of(name: str, profile: str) -> str | None:
    """How a post names its author: name or profile address, or both; None where it has neither."""
    return f"{name} ({profile})" if name and profile else name or profile or None
