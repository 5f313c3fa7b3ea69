"""Python's garbage collector during work on many rows."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 20_000
"""New objects between two passes of the garbage collector; Python's 700 costs a twelfth of the time."""


@contextmanager
def rare_collection() -> Iterator[None]:
    """Collect cycles rarely: many rows are in memory, which are in no cycle."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
