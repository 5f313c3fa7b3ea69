"""Rows in the layout of HuggingFaceH4/stack-exchange-preferences: a question with its answers and scores."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ...errors import InputError
from . import SITE, Post, Tick, author_of, commit_of, is_hub, unavailable

MOST_LINE = 64 << 20
"""Bytes of a line of JSONL: a question and all its answers are far fewer."""
_Id = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]


class _Answer(msgspec.Struct):
    answer_id: _Id
    pm_score: Annotated[int, msgspec.Meta(ge=-1, le=100)]
    text: str
    author: str | None = None
    author_profile: str | None = None


class _Question(msgspec.Struct):
    """A row of the Hub's layout. `selected` is not read: pm_score has its bonus already."""

    qid: _Id
    question: str
    answers: list[_Answer]
    metadata: list[str] = []


def posts(source: str, site: str | None, tick: Tick) -> Iterator[Post]:
    for where, row in _question_rows(source, tick):
        urls = [found for url in row.metadata if (found := re.match(rf"https?://({SITE})(/\S*)?$", url))]
        host = urls[0][1] if urls else site
        if host is None:
            raise InputError(f"{where}: metadata has no address of the site: give --set community.site=HOST")
        asker = next((url[0] for url in urls if "/users/" in url[0]), "")
        yield Post(host, row.qid, None, 0, None, "", row.question, author_of("", asker), None)
        for one in row.answers:
            profile = one.author_profile or ""
            author = author_of(
                " ".join((one.author or "").split()), profile if re.match(r"https?://\S+$", profile) else ""
            )
            yield Post(host, one.answer_id, row.qid, one.pm_score, None, "", one.text, author, None)


def _question_rows(source: str, tick: Tick) -> Iterator[tuple[str, _Question]]:
    """Each row with the place where it stands."""
    path = Path(source)
    if path.suffix in (".jsonl", ".ndjson") and not is_hub(source):
        decoder, size, read = msgspec.json.Decoder(_Question), path.stat().st_size, 0
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MOST_LINE):
                number, read = number + 1, read + len(line)
                if len(line) == MOST_LINE:
                    raise InputError(
                        f"{source}:{number}: a line of {MOST_LINE >> 20} MiB: no question is so long"
                    )
                if line.strip():
                    try:
                        yield f"{source}:{number}", decoder.decode(line)
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        raise InputError(f"{source}:{number}: no question with answers: {error}") from None
                tick(number, number * size // read)
        return
    rows, total = _hub_rows(source) if is_hub(source) else _parquet_rows(path)
    for number, row in enumerate(rows, start=1):
        where = f"{source}: row {number}"
        try:
            yield where, msgspec.convert(row, _Question)
        except msgspec.ValidationError as error:
            raise InputError(f"{where}: no question with answers: {error}") from None
        tick(number, total)


def _parquet_rows(path: Path) -> tuple[Iterator[Any], int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows() -> Iterator[Any]:
        try:
            with pq.ParquetFile(path) as file:
                wanted = [name for name in _Question.__struct_fields__ if name in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=256, columns=wanted):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            why = str(error).partition("\n")[0]
            raise InputError(f"{path}: cannot be read as Parquet ({why}): write it anew") from None

    try:
        return rows(), pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as Parquet ({why}): write it anew") from None


def _hub_rows(source: str) -> tuple[Iterator[Any], int]:
    import datasets

    name, _, revision = source.partition("@")
    commit = commit_of(name, revision or None)
    try:
        found = datasets.load_dataset(name, revision=commit)
    except Exception as error:  # network, Hub client and file readers each raise kinds of their own
        raise unavailable(source, error) from None
    return (row for split in found.values() for row in split), sum(map(len, found.values()))
