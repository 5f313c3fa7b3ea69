"""The errors that the command line turns into a single line: exit code 2, and 1."""


class InputError(Exception):
    """What the user gave cannot be used; the message says what is wrong, where, and how to mend it."""


class Stopped(RuntimeError):
    """A run that ends itself, for the reason in the message."""
