"""Any other engine in many processes, on one machine or several: Ray Data starts, feeds and restarts them.

    almost-data build comparisons --engine ray --set engine.workers=2

Several machines: install the same version of the package, and Ray, on each of them, and put models that
are folders in the same place on each. Start Ray on one, join it from the others, and build on any of
them; the store and the journal are on that one:

    ray start --head --port=6379           # on HEAD
    ray start --address=HEAD:6379          # on each other machine
    almost-data build comparisons --engine ray --ray-address HEAD:6379 \\
        --set engine.workers=4 --set engine.gpus=1 --set 'engine.options={dtype="bfloat16"}'

Ray asks for a token: `ray get-auth-token --generate` on HEAD, the same `~/.ray/auth_token` on each
machine, and `RAY_AUTH_MODE=token` in the environment of all three commands.

Tested with several workers on one machine, Ray started by the engine or by `ray start`. Not on several.
"""

import os
import socket
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from almost_data.errors import InputError
from almost_data.generation import CannotStart, Generator, Model, Reply, Request, cluster, engines
from almost_data.generation.isolate import answers

BATCH = {"vllm": 1024, "openai": 512}
"""Requests given to a worker at once, where its engine runs many: several times as many. Else 32."""
RETRIES = 3
"""Deaths of a worker with one batch, after which the caller isolates the request that kills it."""
LEAVE_SECONDS = 60.0
"""How long `close` waits for workers to be gone."""


class RayEngine:
    """Implements `Generator`. Each of the `workers` runs the engine called `engine` with its `options`.

    A worker is given `batch` requests at a time, and their replies come back, and into the journal,
    together. It has `cpus` (and so many threads) and `gpus` for itself. `honours_seed` is told by an engine
    made here: name the dtype where the workers' hardware is another.
    """

    name = "ray"
    load_seconds = 0.0
    """Each reply says what its worker spent, since many run at once."""

    def __init__(
        self,
        engine: engines.EngineName | None = None,
        workers: int = 1,
        batch: int | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        ray_address: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        if engine == "ray":
            raise InputError("engine.engine: ray runs another engine: vllm, transformers, openai or fake")
        if min(workers, 1 if batch is None else batch) < 1 or min(cpus, gpus) < 0:
            raise InputError("engine.workers, engine.batch: at least 1; engine.cpus, engine.gpus: at least 0")
        if find_spec("ray") is None:
            raise InputError("--engine ray: Ray is not installed; run: pip install 'almost_data[ray]'")
        self.engine: engines.EngineName = engine or engines.default()[0]
        self.options = options or {}
        self.workers = workers
        self.batch = batch or BATCH.get(self.engine, 32)
        self.cpus = cpus
        self.gpus = gpus
        self.address = ray_address
        self.local: Generator = engines.load(self.engine, self.options)
        self._told: dict[str, Any] = {}
        self._workers: set[int] = set()
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
            "batch": self.batch,
            "cpus": self.cpus,
            "gpus": self.gpus,
            "worker": {"engine": self.engine, **self.local.settings(), **self._told},
        }

    def close(self) -> None:
        """Wait for the workers on this machine to be gone.

        They end with the call that they were started for, but a moment later, with what they have in memory.
        """
        end = time.monotonic() + LEAVE_SECONDS
        while self._workers and time.monotonic() < end:
            self._workers = {one for one in self._workers if _runs(one)}
            time.sleep(0.05 * bool(self._workers))

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        models: dict[Model, list[Request]] = defaultdict(list)
        seen: set[str] = set()
        for request in requests:
            if request.id in seen:
                raise ValueError(f"request id {request.id!r} occurs twice")
            seen.add(request.id)
            models[request.model].append(request)
        if not models:
            return
        cluster.start(self.address)
        cluster.check_room(self.workers, self.cpus, self.gpus)
        for group in models.values():
            yield from self._run(group)

    def _run(self, requests: list[Request]) -> Iterator[Reply]:
        """The replies to requests of one model, a batch at a time as workers finish them."""
        from ray.data import ActorPoolStrategy, from_arrow
        from ray.util.annotations import RayDeprecationWarning

        requests = sorted(requests, key=lambda request: request.prefix)  # a batch shares what it can
        tables = [_table(requests[at : at + self.batch]) for at in range(0, len(requests), self.batch)]
        with warnings.catch_warnings():
            # Keyword arguments that Ray Data does not know itself go in 2.64; nothing replaces this one yet.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            done = from_arrow(tables).map_batches(
                _Worker,
                fn_constructor_kwargs={"engine": self.engine, "options": self.options, "folder": os.getcwd()},
                batch_size=None,  # a table is one block, and so one task
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=min(self.workers, len(tables))),
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                max_task_retries=RETRIES,
            )
        done.context.enable_progress_bars = False
        done.context.execution_no_progress_timeout_s = -1  # a batch takes as long as it takes
        for block in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for line in block["done"].to_pylist():
                yield from self._take(msgspec.json.decode(line, type=_Done))

    def _take(self, done: "_Done") -> Iterator[Reply]:
        for key, value in done.settings.items():  # a worker knows the models that it has run, not all of them
            both = isinstance(value, dict) and isinstance(self._told.get(key), dict)
            self._told[key] = self._told[key] | value if both else value
        if done.host == socket.gethostname():
            self._workers.add(done.process)
        yield from done.replies
        if done.refused is not None:
            raise (InputError if done.input_error else CannotStart)(done.refused)


@dataclass
class _Done:
    """What a worker says of a batch, on the wire as JSON."""

    replies: list[Reply] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    """Why it runs no more requests, whichever."""
    input_error: bool = False
    host: str = ""
    process: int = 0


class _Worker:
    """Runs in a process of its own, which Ray starts again if it dies."""

    def __init__(self, engine: engines.EngineName, options: dict[str, Any], folder: str) -> None:
        self.engine: Generator | None = None
        self.name, self.options = engine, options
        if Path(folder).is_dir():
            os.chdir(folder)  # relative paths mean what they mean where the build runs

    def load(self) -> Generator:
        return engines.load(self.name, self.options)

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        done = _Done(host=socket.gethostname(), process=os.getpid())
        try:
            self.engine = self.engine or self.load()  # not in the constructor: its errors are deaths to Ray
            done.replies.extend(answers(self.engine, _requests(table)))
            done.settings = self.engine.settings()
        except Exception as error:
            done.refused = str(error) or type(error).__name__
            done.input_error = isinstance(error, InputError)
        return pa.table({"done": [msgspec.json.encode(done)]})


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    return True


def _table(requests: list[Request]) -> Any:
    """Requests as Arrow columns; a prefix that they share is there once."""
    import pyarrow as pa

    lines = [msgspec.json.encode(replace(request, prefix="")) for request in requests]
    prefixes = pa.array([request.prefix for request in requests], pa.string())
    return pa.table({"prefix": prefixes.dictionary_encode(), "request": lines})


def _requests(table: Any) -> list[Request]:
    decode = msgspec.json.Decoder(Request).decode
    rows = zip(table["prefix"].to_pylist(), table["request"].to_pylist(), strict=True)
    return [replace(decode(line), prefix=prefix) for prefix, line in rows]
