"""Runs another engine in many processes, on one machine or several: Ray Data starts and restarts them.

    almost-data build comparisons --engine ray --set engine.workers=2

Several machines: install the same version of the package, and Ray, on each, and put models that are
folders in the same place on each. Start Ray on one machine, join it from the others, and build on any;
the store and the journal are on the machine that builds:

    ray start --head --port=6379           # on HEAD
    ray start --address=HEAD:6379          # on each other machine
    almost-data build comparisons --engine ray --ray-address HEAD:6379 \\
        --set engine.workers=4 --set engine.gpus=1 --set 'engine.options={dtype="bfloat16"}'

Ray asks for a token: `ray get-auth-token --generate` on HEAD, the same `~/.ray/auth_token` on each
machine, and `RAY_AUTH_MODE=token` in the environment of all three commands.

Tested with several workers on one machine, Ray started by the engine or by `ray start`, and on several hosts
that are network namespaces of one machine, of which one is lost and one joins late.
"""

import os
import socket
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import InputError
from . import CannotStart, Generator, Messages, Model, Reply, Request, cluster, engines, group_by_model
from .isolate import generate_isolated

BATCH = {"vllm": 1024, "openai": 512}
"""Requests in a worker's task, where its engine runs many at once: several times as many. Else 32."""
RETRIES = 3
"""Crashes of a worker with one batch, after which the caller isolates the request that kills it."""
CLOSE_SECONDS = 60.0
"""How long `close` waits for workers to end."""


@dataclass(eq=False)
class RayEngine:
    """Implements `Generator`. Each of the `workers` runs the engine called `engine` with its `options`.

    A worker receives `batch` requests at a time, and their replies come back, and into the journal,
    together. It has `cpus` (and so many threads) and `gpus` for itself. `honours_seed` is that of an engine
    on this machine: name the dtype where the workers' hardware is another.
    """

    name = "ray"
    load_seconds = 0.0
    """Many workers load at once, so each reply has its worker's time instead."""

    engine: str = field(default_factory=lambda: engines.default()[0])
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    batch: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cpus: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    gpus: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    ray_address: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engine == "ray":
            raise InputError("engine.engine: ray runs another engine, such as vllm, transformers or openai")
        if find_spec("ray") is None:
            raise InputError("the ray engine needs a package: pip install 'almost_data[ray]'")
        self.task_size = self.batch or BATCH.get(self.engine, 32)
        self.local: Generator = engines.load(self.engine, self.options)
        self._worker_settings: dict[str, Any] = {}
        self._local_workers: set[int] = set()
        """Processes on this machine that have answered."""

    @property
    def honours_seed(self) -> bool:
        return self.local.honours_seed

    def resolve(self, model: Model) -> Model:
        return self.local.resolve(model)

    def settings(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "ray": version("ray"),
            "workers": self.workers,
            "batch": self.task_size,
            "cpus": self.cpus,
            "gpus": self.gpus,
            "worker": {"engine": self.engine, **self.local.settings(), **self._worker_settings},
        }

    def close(self) -> None:
        """Wait for the workers on this machine to end.

        They end shortly after the call that they were started for, and hold their memory until then.
        """
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._local_workers and time.monotonic() < deadline:
            self._local_workers = {process for process in self._local_workers if _is_running(process)}
            time.sleep(0.05 * bool(self._local_workers))

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        if groups := group_by_model(requests):
            cluster.start(self.ray_address)
            cluster.check_room(self.workers, self.cpus, self.gpus)
        for group in groups.values():
            yield from self._run(group)

    def _run(self, requests: list[Request]) -> Iterator[Reply]:
        """The replies to requests of one model, a batch at a time as workers finish them."""
        from ray.data import ActorPoolStrategy, from_arrow
        from ray.util.annotations import RayDeprecationWarning

        requests = sorted(requests, key=lambda request: request.head)  # a batch shares heads
        tables = [
            _encode(requests[at : at + self.task_size]) for at in range(0, len(requests), self.task_size)
        ]
        with warnings.catch_warnings():
            # Keyword arguments that Ray Data does not know itself go in 2.64; nothing replaces this one yet.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            results = from_arrow(tables).map_batches(
                _Worker,
                fn_constructor_kwargs={"engine": self.engine, "options": self.options, "folder": os.getcwd()},
                batch_size=None,  # a table is one block, and so one task
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=min(self.workers, len(tables))),
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                max_task_retries=RETRIES,
            )
        results.context.enable_progress_bars = False
        results.context.execution_no_progress_timeout_s = -1  # a batch may take any time
        for block in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for line in block["result"].to_pylist():
                yield from self._unpack(msgspec.json.decode(line, type=_BatchResult))

    def _unpack(self, result: "_BatchResult") -> Iterator[Reply]:
        for key, value in result.settings.items():  # a worker reports only the models that it has run
            merge = isinstance(value, dict) and isinstance(self._worker_settings.get(key), dict)
            self._worker_settings[key] = self._worker_settings[key] | value if merge else value
        if result.host == socket.gethostname():
            self._local_workers.add(result.process)
        yield from result.replies
        if result.refusal is not None:
            raise (InputError if result.is_input_error else CannotStart)(result.refusal)


@dataclass
class _BatchResult:
    """A worker's result of one batch, on the wire as JSON."""

    replies: list[Reply] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None
    """Why the worker can run no requests at all."""
    is_input_error: bool = False
    host: str = ""
    process: int = 0


class _Worker:
    """Runs in a process of its own, which Ray starts again if it dies."""

    def __init__(self, engine: str, options: dict[str, Any], folder: str) -> None:
        self.engine: Generator | None = None
        self.name, self.options = engine, options
        if Path(folder).is_dir():
            os.chdir(folder)  # relative paths mean the same as in the building process

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        result = _BatchResult(host=socket.gethostname(), process=os.getpid())
        try:
            # Not in the constructor: to Ray its errors are crashes.
            self.engine = self.engine or engines.load(self.name, self.options)
            result.replies.extend(generate_isolated(self.engine, _decode(table)))
            result.settings = self.engine.settings()
        except Exception as error:
            result.refusal = str(error) or type(error).__name__
            result.is_input_error = isinstance(error, InputError)
        return pa.table({"result": [msgspec.json.encode(result)]})


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as another user
    return True


def _encode(requests: list[Request]) -> Any:
    """Requests as Arrow columns; a prefix, or messages, that they share are stored once."""
    import pyarrow as pa

    encode = msgspec.json.encode
    shared = [encode((request.prefix, request.messages[: request.shared_messages])) for request in requests]
    lines = [
        encode(replace(request, prefix="", messages=request.messages[request.shared_messages :]))
        for request in requests
    ]
    return pa.table({"shared": pa.array(shared).dictionary_encode(), "request": lines})


def _decode(table: Any) -> list[Request]:
    decode = msgspec.json.Decoder(Request).decode
    decode_shared = cache(msgspec.json.Decoder(tuple[str, Messages]).decode)
    requests = []
    for head, line in zip(table["shared"].to_pylist(), table["request"].to_pylist(), strict=True):
        (prefix, messages), request = decode_shared(head), decode(line)
        requests.append(replace(request, prefix=prefix, messages=messages + request.messages))
    return requests
