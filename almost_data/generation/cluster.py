"""Ray, started on this machine or found at an address, for the engine that runs others on it."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from almost_data.errors import InputError
from almost_data.generation import CannotStart

STORE_BYTES = 300 << 20
"""Memory for what is on its way, where Ray is started here; the rest goes to disk."""
CONNECT_SECONDS = 10.0


def start(address: str | None) -> None:
    """Connect to Ray, or start it here until the process ends; nothing where that was done before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ half writes to stderr
    import ray
    import ray.data

    logger = logging.getLogger("ray.data")
    for handler in [one for one in logger.handlers if isinstance(one, logging.StreamHandler)]:
        logger.removeHandler(handler)  # its log file stays
    if ray.is_initialized():
        return
    if address:
        _knock(address)
        options: dict[str, Any] = {"address": address}
    else:
        options = {"address": "local", "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        with _silent():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise CannotStart(f"{address or 'Ray'}: {error}") from error


def check_room(workers: int, cpus: float, gpus: float) -> None:
    """Raise InputError where not all workers fit: Ray would wait for ever for room."""
    import ray

    each = {kind: need for kind, need in (("CPU", cpus), ("GPU", gpus)) if need > 0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(min(int(node.get(kind, 0) / need) for kind, need in each.items()) for node in nodes if each)
    if each and room < workers:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise InputError(
            f"engine.workers={workers} with engine.cpus={cpus:g} and engine.gpus={gpus:g} each: "
            f"Ray has room for {room}, on {len(nodes)} machine(s) with {there}"
        )


def _knock(address: str) -> None:
    """Ray itself tries for many minutes to reach what is not there, or is no Ray."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise InputError(f"--ray-address {address}: write HOST:PORT, such as 10.0.0.1:6379")
    status = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        subprocess.run(status, check=True, capture_output=True, text=True, timeout=3 * CONNECT_SECONDS)
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        why = "something answers there that is not Ray"
    except OSError as error:
        why = str(error)
    else:
        return
    raise CannotStart(f"--ray-address {address}: {why}; is this the address that `ray start --head` printed?")


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stderr, not from C++ either: there it says which log level it was told."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
