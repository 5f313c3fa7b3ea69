"""Engines that Ray's workers run in tests, by `FILE.py:NAME`."""

import itertools
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from almost_data.generation import Reply, Request
from almost_data.generation.fake import FakeEngine


def _is_first(file: Path) -> bool:
    """Whether this process has made the file."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Placed(FakeEngine):
    """Says in which process it runs."""

    def settings(self) -> dict[str, object]:
        return {"decoding": {"process": str(os.getpid())}}


class Held(Placed):
    """Runs four batches, of all that are begun in its folder; the others wait until a file says `go`."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.load_seconds += 0.25
        place = next(place for place in itertools.count(1) if _is_first(Path(f"begun-{place}")))
        for _ in range(600):
            if place <= 4 or Path("go").exists():
                return super().generate(requests)
            time.sleep(0.1)
        raise AssertionError("nobody said go")


class Mortal(FakeEngine):
    """Its process is killed at a prompt that names a file to be made; for good where it cannot be made."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            grave = Path(request.text)
            if grave.is_absolute() and not grave.exists():
                if grave.parent.exists():
                    grave.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().generate([request])


class Watched(Placed):
    """Writes the id of each request to a file named after its host, and waits while `hold-HOST` exists."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        host = socket.gethostname()
        for request in requests:
            with Path(f"asked-{host}").open("a") as file:
                file.write(f"{request.id}\n")
            time.sleep(0.1)
            while Path(f"hold-{host}").exists():
                time.sleep(0.05)
            yield from super().generate([request])
