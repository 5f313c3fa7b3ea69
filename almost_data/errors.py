"""The errors that the command line turns into a single line: exit code 2, and 1."""


class InputError(Exception):
    """What the user gave cannot be used; the message says what is wrong, where, and how to fix it."""


class Stopped(RuntimeError):
    """A run that stopped itself, for the reason in the message."""


def one_line(error: BaseException, length: int = 300) -> str:
    """A foreign library's exception as one line: its type, and the beginning of its message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:length]
