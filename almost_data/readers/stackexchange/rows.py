"""Rows in the layout of HuggingFaceH4/stack-exchange-preferences: a question with its answers and scores."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from ...errors import InputError
from ..files import ALL_SPLITS, HubPart, read_rows
from ..formats import Tick
from .posts import ROWS, SITE, Post, author_of

_Id = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]


class _Answer(msgspec.Struct):
    answer_id: _Id
    pm_score: Annotated[int, msgspec.Meta(ge=-1, le=100)]
    text: str
    author: str | None = None
    author_profile: str | None = None


class _Question(msgspec.Struct):
    """A row of the Hub's layout. `selected` is not read: pm_score includes its bonus already."""

    qid: _Id
    question: str
    answers: list[_Answer]
    metadata: list[str] = []


def posts(source: str, site: str | None, tick: Tick) -> Iterator[Post]:
    """The question of each row, then its answers."""
    for place, row in read_rows(
        source, ROWS, _Question.__struct_fields__.__contains__, tick, HubPart(split=ALL_SPLITS)
    ):
        try:
            question = msgspec.convert(row, _Question)
        except msgspec.ValidationError as error:
            raise InputError(f"{place}: not a question with answers: {error}") from None
        urls = [match for url in question.metadata if (match := re.match(rf"https?://({SITE})(/\S*)?$", url))]
        host = urls[0][1] if urls else site
        if host is None:
            raise InputError(f"{place}: metadata has no address of the site: give community.site=HOST")
        asker = next((url[0] for url in urls if "/users/" in url[0]), "")
        fields: dict[str, Any] = {"site": host, "accepted": None, "title": "", "license": None}
        author = author_of("", asker)
        yield Post(id=question.qid, question=None, score=0, html=question.question, author=author, **fields)
        for answer in question.answers:
            profile = answer.author_profile or ""
            profile = profile if re.match(r"https?://\S+$", profile) else ""
            author = author_of(" ".join((answer.author or "").split()), profile)
            yield Post(
                id=answer.answer_id,
                question=question.qid,
                score=answer.pm_score,
                html=answer.text,
                author=author,
                **fields,
            )
