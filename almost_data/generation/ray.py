"""Runs another engine in many processes, on one machine or several: the workers are Ray's actors.

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
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import InputError
from . import CannotStart, Generator, Model, Reply, Request, cluster, engines, group_by_model
from .isolate import generate_isolated

BATCH = {"vllm": 1024, "openai": 512}
"""Requests in a batch, where the worker's engine runs many at once: several times as many. Else 32."""
RETRIES = 1
"""Deaths of a worker with one batch, after which the caller isolates the request that kills it."""
START_RETRIES = 3
"""Workers in a row that may die while they start."""
SEND_SECONDS = 0.1
"""How often a worker hands its replies over, at most."""
CLOSE_SECONDS = 60.0
"""How long `close` waits for workers to end."""


@dataclass(eq=False)
class RayEngine:
    """Implements `Generator`. Each of the `workers` runs the engine called `engine` with its `options`.

    Workers keep their models until `close`. A worker receives `batch` requests at a time, and hands replies
    over as they come; where it dies, another one takes its place and the requests without a reply. It has
    `cpus` (and so many threads) and `gpus` for itself. `honours_seed` is that of an engine on this machine:
    name the dtype where the workers' hardware is another.
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
        self._pool: list[_WorkerHandle] = []
        self._failed_starts = 0
        self._local_processes: set[int] = set()
        """Workers on this machine."""
        self._latest_model: Model | None = None

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
        """End the workers, and wait until their memory is free."""
        if not self._pool and not self._local_processes:
            return
        import ray

        idle = [w.actor.close.remote() for w in self._pool if w.has_started and not w.batch]
        ray.wait(idle, num_returns=len(idle), timeout=CLOSE_SECONDS)
        for worker in self._pool[:]:
            self._kill(worker)
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._local_processes and time.monotonic() < deadline:
            self._local_processes = {process for process in self._local_processes if _is_running(process)}
            time.sleep(0.05 * bool(self._local_processes))

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        groups = group_by_model(requests)
        if not groups:
            return
        cluster.start(self.ray_address)
        if not self._pool:
            cluster.check_room(self.workers, self.cpus, self.gpus)
        batches: deque[_Batch] = deque()
        for model in sorted(groups, key=lambda model: model != self._latest_model):
            group = sorted(groups.pop(model), key=lambda request: request.head)  # a batch shares heads
            for start in range(0, len(group), self.task_size):
                batches.append(_Batch({r.id: r for r in group[start : start + self.task_size]}))
            self._latest_model = model
        yield from self._run(batches)

    def _run(self, batches: "deque[_Batch]") -> Iterator[Reply]:
        """The replies as workers hand them over. A worker that started, or has finished, gets a batch."""
        import ray

        has_fatal = False
        self._end_busy()  # an earlier call may have been abandoned with batches unfinished
        for worker in self._pool:
            worker.event = worker.event or worker.actor.process.remote()  # asks whether it still lives
        try:
            while batches or any(worker.batch for worker in self._pool):
                self._assign(batches)
                waiting = {worker.event: worker for worker in self._pool if worker.event is not None}
                (event,), _ = ray.wait(list(waiting), num_returns=1)
                worker = waiting[event]
                batch = worker.batch
                yield from self._receive(worker)
                is_dead = worker not in self._pool
                if is_dead and batch and batch.pending:
                    batch.deaths += 1
                    if batch.deaths <= RETRIES:
                        batches.append(batch)
                    else:
                        has_fatal = True
        finally:
            self._end_busy()
        if has_fatal:
            raise RuntimeError(f"{RETRIES + 1} workers died with the same requests")

    def _assign(self, batches: "deque[_Batch]") -> None:
        """Give batches to the idle workers, and start workers for the rest."""
        import ray

        for worker in self._pool:
            if batches and worker.event is None:
                worker.batch = batches.popleft()
                worker.event = worker.actor.run.remote(list(worker.batch.pending.values()))
        starting = sum(worker.batch is None for worker in self._pool)
        for _ in range(min(self.workers - len(self._pool), len(batches) - starting)):
            kind = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(_Worker)
            actor = kind.remote(self.engine, self.options, os.getcwd())
            self._pool.append(_WorkerHandle(actor, actor.process.remote()))

    def _receive(self, worker: "_WorkerHandle") -> list[Reply]:
        """Replies that a worker hands over; none where it has started, finished its batch, or died.

        Its event is its host and process while it starts, and a stream of replies while it has a batch. One
        that died is no longer in the pool. Raises what the engine raised, and CannotStart where starts fail.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            if worker.batch is None:
                host, process = ray.get(worker.event)
                if host == socket.gethostname():
                    self._local_processes.add(process)
                worker.event, worker.has_started, self._failed_starts = None, True, 0
                return []
            replies, settings = ray.get(next(worker.event))
        except StopIteration:
            worker.batch = worker.event = None
            return []
        except RayTaskError as error:
            kind = InputError if isinstance(error.cause, InputError) else CannotStart
            raise kind(str(error.cause) or type(error.cause).__name__) from None
        except RayError as error:
            self._kill(worker)
            if worker.batch is None:
                self._failed_starts += 1
                if self._failed_starts > START_RETRIES:
                    reason = str(error).strip().rpartition("\n")[2]
                    raise CannotStart(f"Ray cannot start a worker: {reason}") from error
            return []
        for key, value in settings.items():  # a worker reports only the models that it has run
            known_value = self._worker_settings.get(key)
            are_dicts = isinstance(value, dict) and isinstance(known_value, dict)
            self._worker_settings[key] = known_value | value if are_dicts else value
        for reply in replies:
            del worker.batch.pending[reply.id]
        return list(replies)

    def _end_busy(self) -> None:
        for worker in self._pool[:]:
            if worker.batch:
                self._kill(worker)

    def _kill(self, worker: "_WorkerHandle") -> None:
        import ray

        ray.kill(worker.actor)
        self._pool.remove(worker)


@dataclass(eq=False)
class _Batch:
    """Requests of one model, and how many workers have died with them."""

    pending: dict[str, Request]
    deaths: int = 0


@dataclass(eq=False)
class _WorkerHandle:
    """A worker, as the building process sees it."""

    actor: Any
    event: Any
    """What it was asked for: its host and process, or the replies to its batch; None while it is idle."""
    batch: _Batch | None = None
    has_started: bool = False


class _Worker:
    """Runs in a process of its own, a Ray actor."""

    def __init__(self, engine: str, options: dict[str, Any], folder: str) -> None:
        self.engine: Generator | None = None
        self.name, self.options = engine, options
        if Path(folder).is_dir():
            os.chdir(folder)  # relative paths mean the same as in the building process

    def process(self) -> tuple[str, int]:
        return socket.gethostname(), os.getpid()

    def run(self, requests: list[Request]) -> Iterator[tuple[list[Reply], dict[str, Any]]]:
        """Replies as they come, and the engine's settings."""
        # Not in the constructor: to Ray its errors are deaths.
        self.engine = self.engine or engines.load(self.name, self.options)
        replies: list[Reply] = []
        sent = time.monotonic()
        try:
            for reply in generate_isolated(self.engine, requests):
                replies.append(reply)
                if time.monotonic() - sent > SEND_SECONDS:
                    yield replies, self.engine.settings()
                    replies, sent = [], time.monotonic()
        finally:
            yield replies, self.engine.settings()

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as another user
    return True
