"""Rows that wait in files."""

import resource
import signal
import threading
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


def test_rows_are_written_by_another_thread_whose_error_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almost_data.datasets.spool.CHUNK", 2)
    threads: list[threading.Thread] = []
    write_bytes = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        threads.append(threading.current_thread())
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    ids = [{"query_id": f"{number:016x}"} for number in range(7)]
    spool = Spool(tmp_path / "rows", TABLE)
    spool.extend(ids)
    assert spool.scan().collect().rows(named=True) == ids
    assert [thread is threading.main_thread() for thread in threads] == [False, False, False, True]
    spool = Spool(tmp_path / "more", TABLE)
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        spool.extend(ids)
