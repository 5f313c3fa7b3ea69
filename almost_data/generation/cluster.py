"""Ray, started on this machine or reached at an address, for the engine that runs others on it."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InputError
from . import CannotStart

STORE_BYTES = 300 << 20
"""Memory for objects in transit, where Ray is started here; the rest goes to disk."""
CONNECT_SECONDS = 10.0


def start(address: str | None) -> None:
    """Connect to Ray, or start it here until the process ends; a second call does nothing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ half writes to stderr
    import ray

    if ray.is_initialized():
        return
    if address:
        check_reachable(address)
        options: dict[str, Any] = {"address": address}
    else:
        options = {"address": "local", "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        with _silent_stderr():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise CannotStart(f"{address or 'Ray'}: {error}") from error


def check_room(workers: int, cpus: float, gpus: float) -> None:
    """Raise InputError where not all workers fit: Ray would wait for room without end."""
    import ray

    needs = {kind: amount for kind, amount in (("CPU", cpus), ("GPU", gpus)) if amount > 0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(min(int(node.get(kind, 0) / need) for kind, need in needs.items()) for node in nodes if needs)
    if needs and room < workers:
        sizes = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise InputError(
            f"engine.workers={workers} with engine.cpus={cpus:g} and engine.gpus={gpus:g} each: "
            f"Ray has room for {room}, on {len(nodes)} machine(s) with {sizes}"
        )


def check_reachable(address: str) -> None:
    """Raise CannotStart where no Ray answers at the address: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise InputError(f"engine.ray_address {address}: write HOST:PORT, such as 10.0.0.1:6379")
    status = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        subprocess.run(status, check=True, capture_output=True, text=True, timeout=3 * CONNECT_SECONDS)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        reason = "a server that is not Ray answers there"
    except OSError as error:
        reason = str(error)
    else:
        return
    raise CannotStart(
        f"engine.ray_address {address}: {reason}; is this the address that `ray start --head` printed?"
    )


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing on stderr, not from C++ either, which prints its log level there."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
