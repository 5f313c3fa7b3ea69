"""The errors that the command line turns into a single line: exit code 2, and 1."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """What the user gave cannot be used; the message says what is wrong, where, and how to fix it."""


class Stopped(RuntimeError):
    """A run that stopped itself, for the reason in the message."""


def one_line(error: BaseException, length: int = 300) -> str:
    """A foreign library's exception as one line: its type, and the beginning of its message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:length]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """` (did you mean 'x'?)` of the choice that is most like the word; nothing where none is.

    >>> did_you_mean("comparison", ["queries", "comparisons"])
    " (did you mean 'comparisons'?)"
    """
    matches = get_close_matches(word, list(choices), 1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
