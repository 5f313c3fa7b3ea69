"""Rows that wait in files."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from almost_data.datasets.spool import Spool
from almost_data.datasets.tables import QUERY_ID, Table

TABLE = Table("a query a row", ("query_id",), (QUERY_ID,))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can be larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Not one of Polars, which would be blamed on the builder."""
    spool = Spool(tmp_path / "rows", TABLE)
    spool.add({"query_id": "0" * 16})
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        spool.scan()
    assert spool.scan().collect().height == 1
