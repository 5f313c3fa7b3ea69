"""How a command ends: one line on stderr with the exit code, also where a signal ends it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import NoReturn

KEPT = "interrupted: what was generated is kept; run the same command to go on"
MAX_MESSAGE = 1_200
"""Most characters of an error's line."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
received: list[int] = []
"""The signals to end that came."""


def end(code: int, message: str) -> NoReturn:
    """End the process with one line, without what a terminal obeys."""
    from ..cards.markdown import clean

    line = clean(" ".join(message.split()))
    if len(line) > MAX_MESSAGE:
        line = f"{line[: MAX_MESSAGE // 2]} ... {line[-MAX_MESSAGE // 2 :]}"
    print(f"almost-data: {line}", file=sys.stderr)
    raise SystemExit(code)


def traceback_file() -> str:
    """A file with the traceback of the present exception; of a disk that takes none, its error."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile("w", prefix="almost-data-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
    except OSError as error:
        return f"no file: {error.strerror or error}"
    return file.name


@contextmanager
def interruptible(message: str = KEPT) -> Iterator[None]:
    """A signal to end, at any time, ends the process with 128 plus its number, and the message."""
    is_main = threading.current_thread() is threading.main_thread()
    ours = (signal.SIG_DFL, signal.default_int_handler)
    previous = {n: signal.getsignal(n) for n in SIGNALS if is_main and signal.getsignal(n) in ours}
    if not previous:
        yield
        return
    received.clear()
    for number in previous:
        signal.signal(number, partial(_interrupt, os.getpid(), message))
    try:
        yield
    except BaseException as error:
        if not (received or isinstance(error, KeyboardInterrupt)):
            raise
        end(128 + (received[0] if received else signal.SIGINT), message)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(process: int, message: str, number: int, frame: FrameType | None) -> None:
    if os.getpid() != process:  # a child that was forked
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt
    received.append(number)
    # Libraries that are being imported turn the exception into others; all that is kept is on the disk.
    if _is_importing(frame) or len(received) > 2:
        os.write(2, f"almost-data: {message}\n".encode())
        os._exit(128 + number)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
