"""How a command ends: one line on stderr with the exit code, also where a signal ends it."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn

KEPT = "interrupted: what was generated is kept; run the same command to go on"
RESUMES = "interrupted: the same command resumes from the last checkpoint (one a save_steps; PPO has none)"
FIXES = {
    errno.ENOSPC: "free some and run the same command again",
    errno.ENOENT: "another process may have deleted it meanwhile: run the same command again",
    errno.EROFS: "make it writable, or name another folder by --root",
    errno.EACCES: "get the right to it, or name another file or folder",
}
"""What to do after an error of the system."""
MAX_MESSAGE = 1_200
"""Most characters of an error's line."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
received: list[int] = []
"""The signals to end that came."""
_before: dict[int, Any] = {}
"""The handlers before `watch`, which `interruptible` puts back at its end; empty within it."""


def end(code: int, message: str) -> NoReturn:
    """End the process with one line, without what a terminal obeys."""
    from ..cards.markdown import clean

    line = clean(" ".join(message.split()))
    if len(line) > MAX_MESSAGE:
        line = f"{line[: MAX_MESSAGE // 2]} ... {line[-MAX_MESSAGE // 2 :]}"
    print(f"almost-data: {line}", file=sys.stderr)
    raise SystemExit(code)


def end_by_system(error: BaseException) -> None:
    """End where an exception is an error of the system, or holds one in the words of a library."""
    code, file = getattr(error, "errno", None), getattr(error, "filename", None)
    if in_words := re.search(r"\(os error (\d+)\)(?:: (/.*))?", str(error)):
        code, file = int(in_words[1]), in_words[2]
    if code == errno.ENAMETOOLONG:
        end(2, f"{str(file or error)[:100]}...: the path is too long")
    if code in FIXES:
        place = file or ("the disk" if code == errno.ENOSPC else type(error).__name__)
        end(1, f"{place}: {os.strerror(code)}: {FIXES[code]}")
    if isinstance(error, OSError | MemoryError):
        end(1, f"{type(error).__name__}: {error}")


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
    watch(message)
    if not _before:
        yield
        return
    previous = dict(_before)
    _before.clear()
    try:
        yield
    except BaseException as error:
        if not (received or isinstance(error, KeyboardInterrupt)):
            raise
        end(128 + (received[0] if received else signal.SIGINT), message)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def watch(message: str = RESUMES) -> None:
    """From now on a signal to end ends the process with the message; within `interruptible`, by an exception.

    A script calls it before its own imports, which may take longer than anything else.
    """
    is_main = threading.current_thread() is threading.main_thread()
    ours = (signal.SIG_DFL, signal.default_int_handler)
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS if is_main}
    previous = {number: handler for number, handler in handlers.items() if handler in ours}
    if previous:
        received.clear()
        _before.update(previous)
    for number in previous:
        signal.signal(number, partial(_interrupt, os.getpid(), message))


def _interrupt(process: int, message: str, number: int, frame: FrameType | None) -> None:
    if os.getpid() != process:  # a child that was forked
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt
    received.append(number)
    # Libraries that are being imported turn the exception into others; all that is kept is on the disk.
    if _before or _is_importing(frame) or len(received) > 2:
        os.write(2, f"almost-data: {message}\n".encode())
        os._exit(128 + number)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
