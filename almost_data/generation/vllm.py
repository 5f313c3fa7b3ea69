"""vLLM at its own speed: all requests of a model in flight at once, prefixes cached, replies as they finish.

Prompts are tokenised here, as the other engines do it, so that a prompt that does not fit fails
alone and before it runs. A dead engine is started again for the requests that are left.
"""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from ..errors import InputError
from ..models import weights
from ..models.device import free_memory
from . import CannotStart, Model, Reply, Request, cut_at_stop

IN_FLIGHT = 4096
"""Requests handed over at a time: many times what vLLM runs at once, and no more memory than that."""
CHUNK = 64
"""Prompts tokenised at once."""
ARGUMENTS = (
    *("block_size", "cpu_offload_gb", "distributed_executor_backend", "dtype", "enable_chunked_prefill"),
    *("enable_prefix_caching", "enforce_eager", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("max_model_len", "max_num_batched_tokens", "max_num_seqs", "pipeline_parallel_size"),
    "tensor_parallel_size",
)
"""Arguments of vLLM that a user may set: how and where a model runs. None says which model, or runs code."""
CPU_CACHE_BYTES = 4 << 30
"""For keys and values on a CPU, where vLLM would take most of the machine's memory; a quarter at most."""


class VLLMEngine:
    """Implements `Generator`. `arguments` are those of `vllm.EngineArgs` that `ARGUMENTS` names.

    With `row_seeds` each request has its own random numbers; it costs speed, and in bfloat16 does not
    make a reply independent of the batch.
    """

    name = "vllm"

    def __init__(self, row_seeds: bool = False, **arguments: Any) -> None:
        if "data_parallel_size" in arguments:
            raise InputError(
                "engine.data_parallel_size: copies of a model run under ray, with engine.workers"
            )
        for name in sorted(arguments.keys() - set(ARGUMENTS)):
            known = ", ".join(("row_seeds", *ARGUMENTS))
            raise InputError(f"engine.{name}: the vllm engine has no such option; it has: {known}")
        self.row_seeds = row_seeds
        self.arguments = arguments
        self.load_seconds = 0.0
        self._pinned: dict[Model, Model] = {}
        self._loaded: Model | None = None
        self._engine: Any = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._facts: dict[str, Any] = {}

    @property
    def honours_seed(self) -> bool:
        """Where asked, and in float32 only: else the rows that run together decide the last digits."""
        return self.row_seeds and self.arguments.get("dtype") in ("float32", "float")

    def resolve(self, model: Model) -> Model:
        if model not in self._pinned:
            self._pinned[model] = weights.locate(model)
        return self._pinned[model]

    def settings(self) -> dict[str, Any]:
        return {"engine": self.name, "row_seeds": self.row_seeds, **self._facts, "arguments": self.arguments}

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        groups: dict[Model, list[Request]] = defaultdict(list)
        seen: set[str] = set()
        for request in requests:
            if request.id in seen:
                raise ValueError(f"request id {request.id!r} occurs twice")
            seen.add(request.id)
            groups[self.resolve(request.model)].append(request)
        for model in sorted(groups, key=lambda model: model != self._loaded):
            self._load(model)
            yield from self._run(groups.pop(model))

    def close(self) -> None:
        """Stop the engine's processes, and so free what they hold."""
        engine, self._engine, self._loaded = self._engine, None, None
        if engine is not None:
            engine.engine_core.shutdown()
        if self._reaper is not None:
            self._reaper.kill()  # nothing to do
            self._reaper.communicate()
            self._reaper = None

    def _run(self, requests: list[Request]) -> Iterator[Reply]:
        # The longest first, so that none of them is left alone at the end; a shared prefix stays together.
        requests.sort(key=lambda r: (-r.sampling.max_new_tokens, r.prefix, -len(r.text)))
        engine, waiting = self._engine, iter(requests)
        running: dict[str, Request] = {}
        try:
            while True:
                while len(running) < IN_FLIGHT and (chunk := list(islice(waiting, CHUNK))):
                    for request, tokens in zip(chunk, self._tokens(chunk), strict=True):
                        if why := self._misfit(request, tokens):
                            yield Reply(request.id, "", "error", prompt_tokens=len(tokens), error=why)
                            continue
                        engine.add_request(request.id, {"prompt_token_ids": tokens}, self._sampling(request))
                        running[request.id] = request
                if not running:
                    return
                for output in engine.step():
                    if output.finished:
                        yield _reply(running.pop(output.request_id), output)
        except Exception:
            self.close()  # dead, or in a state that nobody knows: the next call starts another
            running.clear()
            raise
        finally:
            if running:  # the caller has gone
                engine.abort_request(list(running))

    def _tokens(self, requests: list[Request]) -> list[list[int]]:
        prompts = [request.prompt for request in requests]
        tokens: list[list[int]] = self._engine.get_tokenizer()(prompts, verbose=False)["input_ids"]
        return [ids if prompt else [] for ids, prompt in zip(tokens, prompts, strict=True)]

    def _misfit(self, request: Request, tokens: list[int]) -> str | None:
        new, context = request.sampling.max_new_tokens, self._facts["max_model_len"]
        if not tokens:
            return "the prompt is empty"
        if new < 1:
            return "max_new_tokens is below 1"
        if len(tokens) + new > context:
            return f"{len(tokens)} prompt tokens + {new} new ones exceed the model's context of {context}"
        return None

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=request.sampling.max_new_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            stop=list(request.sampling.stop) or None,
            seed=request.seed if self.row_seeds else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _load(self, model: Model) -> None:
        if self._loaded == model:
            return
        self.close()
        start = time.monotonic()
        folder = weights.fetch(model)
        try:
            self._engine = self._started(folder)
        except InputError:
            raise
        except Exception as error:
            self.close()
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CannotStart(
                f"vLLM cannot start {model.id}: {why}; vLLM's options, such as max_model_len, are set by "
                "--set engine.NAME=VALUE; --engine transformers runs anywhere"
            ) from error
        self._loaded = model
        config = self._engine.vllm_config
        self._facts = {
            "device": config.device_config.device_type,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "prefix_caching": config.cache_config.enable_prefix_caching,
        }
        self.load_seconds += time.monotonic() - start

    def _started(self, folder: Path) -> Any:
        # Read when vLLM is imported. What a user has set stays.
        for name in ("VLLM_LOGGING_LEVEL", "TORCH_CPP_LOG_LEVEL"):
            os.environ.setdefault(name, "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        # A forked process has not the mark by which it is found, and holds the reaper's input open.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        chosen: dict[str, Any] = {"enable_prefix_caching": True, "disable_log_stats": True}
        chosen["use_tqdm_on_load"] = False
        if current_platform.is_cpu():
            chosen |= self._on_cpu()
        arguments = EngineArgs(model=str(folder), trust_remote_code=False, **(chosen | self.arguments))
        mark = f"{_MARK}={uuid4()}"
        self._reaper = _reaper(mark)
        os.environ[_MARK] = mark.removeprefix(f"{_MARK}=")
        try:
            engine = LLMEngine.from_engine_args(arguments)
        finally:
            del os.environ[_MARK]
        _watch(engine.engine_core)
        return engine

    def _on_cpu(self) -> dict[str, Any]:
        """What vLLM would choose badly on a CPU."""
        if self.arguments.get("tensor_parallel_size", 1) == 1 and hasattr(os, "sched_getaffinity"):
            # By itself it keeps a core free, which on two cores is half of them.
            cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
        chosen: dict[str, Any] = {}
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            chosen["kv_cache_memory_bytes"] = min(CPU_CACHE_BYTES, free_memory() // 4)
        if self.row_seeds:
            # A seeded request whose prompt is computed in parts kills vLLM's CPU engine.
            chosen["enable_chunked_prefill"] = False
        return chosen


def _watch(client: Any) -> None:
    """Wake whoever waits for replies when an engine process was killed; vLLM's client (0.27) sleeps on."""
    manager = getattr(client.resources, "engine_manager", None)
    if manager is None:  # it runs in this process
        return

    def wait() -> None:
        connection.wait([process.sentinel for process in manager.processes])
        client.outputs_queue.put(RuntimeError("a process of vLLM's engine ended"))

    Thread(target=wait, name="vllm-watch", daemon=True).start()


_MARK = "ALMOST_DATA_VLLM"
"""Variable in the environment of an engine's processes, by which they are found."""
_REAPER = """
import glob, os, signal, sys
sys.stdin.read()
for file in glob.glob("/proc/[0-9]*/environ"):
    try:
        if sys.argv[1].encode() in open(file, "rb").read().split(bytes(1)):
            os.kill(int(file.split("/")[2]), signal.SIGKILL)
    except OSError:
        pass
"""


def _reaper(mark: str) -> "subprocess.Popen[bytes]":
    """A process that kills the engine's once its input ends, and so once this process is gone.

    After `kill -9` vLLM's processes would stay for ever, with all the memory that they hold.
    """
    command = [sys.executable, "-I", "-S", "-c", _REAPER, mark]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _reply(request: Request, output: Any) -> Reply:
    done = output.outputs[0]
    if done.finish_reason not in ("stop", "length"):
        return Reply(request.id, "", "error", error=f"vLLM ended the request: {done.finish_reason}")
    text, _ = cut_at_stop(done.text, request.sampling.stop)
    return Reply(
        id=request.id,
        text=text,
        finish_reason=done.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(done.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
    )
