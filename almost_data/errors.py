"""The errors that the command line turns into a single line: exit code 2, and 1."""

import inspect
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class InputError(Exception):
    """What the user gave cannot be used; the message says what is wrong, where, and how to fix it."""


class Stopped(RuntimeError):
    """A run that stopped itself, for the reason in the message."""


class Defect(RuntimeError):
    """Code of a builder, an engine or a card failed: the message names it, the cause has the traceback."""


def source_file(code: Any) -> str:
    """The file that a function or a class comes from; empty where that is not known."""
    try:
        return inspect.getfile(inspect.unwrap(code))
    except (TypeError, OSError):
        return ""


@contextmanager
def blame(who: str, file: str) -> Iterator[None]:
    """Turn what the code of a file raises into a Defect that names it; errors meant for the user pass."""
    try:
        yield
    except (InputError, Stopped, Defect, MemoryError):
        raise
    except Exception as error:
        innermost = traceback.extract_tb(error.__traceback__)[-1].filename
        is_theirs = innermost == file and Path(__file__).parent not in Path(file).parents
        if isinstance(error, RuntimeError | OSError) and not is_theirs:
            raise
        raise Defect(f"{who} ({file}): {one_line(error)}") from error


def one_line(error: BaseException, length: int = 300) -> str:
    """A foreign library's exception as one line: its type, and the beginning of its message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:length]


def without_addresses(error: BaseException) -> str:
    """`one_line` of a Hub client's exception, without addresses and tokens, which its message may hold.

    >>> without_addresses(OSError("no route to https://h/x?key=1 with hf_abc"))
    'OSError: no route to … with …'
    """
    return re.sub(r"https?://\S+|hf_\w+", "…", one_line(error, 10_000))[:180]


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """` (did you mean 'x'?)` of the choice that is most like the word; nothing where none is.

    >>> did_you_mean("comparison", ["queries", "comparisons"])
    " (did you mean 'comparisons'?)"
    """
    matches = get_close_matches(str(word), [choice for choice in choices if choice != word], 1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
