"""The name by which a server answers, where it is not the one that it was asked for.

A dated version of the model (`gpt-4o-2024-08-06` of `gpt-4o`) and the path of its file are usual; any other
name may mean that another model wrote the replies.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..models import split_revision

FILE = "…/"
"""Stands for the folders of a path, which are a server's own."""
_PATH = re.compile(r"(?:[/~.]|[A-Za-z]:[\\/]).*|.*\.(?:gguf|safetensors)", re.IGNORECASE | re.DOTALL)
_TAIL = re.compile(
    r"(?:[-:@_.](?:\d{4}-\d\d-\d\d|\d{3,8}|v\d+(?:[.:]\d+)*|latest|preview|beta|exp|free|stable))+$"
)
"""Dates, versions and tags behind the name of a model; a size or a kind is no such thing."""


def answered_name(model: str, answered: Any) -> str | None:
    """What to record of the name in an answer; None where it says nothing new.

    >>> answered_name("m", "m"), answered_name("m", "n"), answered_name("m", "/models/n.gguf")
    (None, 'n', '…/n.gguf')
    """
    if not isinstance(answered, str) or not answered.strip() or answered == model:
        return None
    return FILE + re.split(r"[\\/]", answered.rstrip("\\/"))[-1] if _PATH.fullmatch(answered) else answered


def may_be_another(model: str, answered: str) -> bool:
    """Whether a name is neither a file nor a version of the model that was asked for.

    >>> may_be_another("gpt-4o", "gpt-4o-2024-08-06"), may_be_another("gpt-4o", "gpt-4o-mini")
    (False, True)
    """
    return not answered.startswith(FILE) and _base(model) != _base(answered)


def _base(name: str) -> str:
    """A model's name without organisation, revision, dates and tags."""
    return _TAIL.sub("", split_revision(name)[0].rpartition("/")[2].lower())


def sentence(model: str, answered: Iterable[str]) -> str:
    """`Asked for 'a', the server answered as 'b'.`, as summaries and cards say it."""
    return f"Asked for {model!r}, the server answered as {' and '.join(map(repr, sorted(answered)))}."


def warnings(names: Mapping[str, Iterable[str]]) -> list[str]:
    """A sentence for each model whose replies may be those of another one."""
    others = {
        model: [name for name in answered if may_be_another(model, name)] for model, answered in names.items()
    }
    return [
        f"{sentence(model, answered)} Its replies may be those of another model."
        for model, answered in others.items()
        if answered
    ]
