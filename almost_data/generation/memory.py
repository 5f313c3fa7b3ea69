"""Memory of one small GPU, which an engine and reward models use in turns."""

from . import Closing


class SharedMemory:
    """Memory that one user holds at a time: to acquire it closes the one that holds it."""

    def __init__(self) -> None:
        self._holder: Closing | None = None

    def acquire(self, user: Closing) -> None:
        if self._holder is not None and self._holder is not user:
            self._holder.close()
        self._holder = user
