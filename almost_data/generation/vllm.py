"""vLLM at its own speed: all requests of a model in flight at once, prefixes cached, replies as they finish.

Prompts are tokenised here, as in the other engines, so that a prompt that does not fit fails alone and
before it runs. A dead engine is started again for the unanswered requests.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from ..errors import InputError, one_line
from ..models import weights
from ..models.chat import end_of_turn
from ..models.device import free_memory, has_bfloat16
from . import CannotStart, Model, Reply, Request, cut_at_stop, group_by_model
from .encoding import Prompt, check_templates, encode
from .engines import no_option

IN_FLIGHT = 4096
"""Requests in vLLM's queue: many times what it runs at once, and few enough to bound memory."""
ARGUMENTS = (
    *("block_size", "cpu_offload_gb", "distributed_executor_backend", "dtype", "enable_chunked_prefill"),
    *("enable_prefix_caching", "enforce_eager", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("max_model_len", "max_num_batched_tokens", "max_num_seqs", "pipeline_parallel_size"),
    "tensor_parallel_size",
)
"""Arguments of vLLM that a user may set: how and where a model runs. None names a model, or runs code."""
CPU_CACHE_BYTES = 4 << 30
"""For keys and values on a CPU, where vLLM would take most of the machine's memory; a quarter at most."""
GRACE = 20.0
"""Seconds in which an engine process may end by itself; after 8 it kills workers that do not."""


class VLLMEngine:
    """Implements `Generator`. `arguments` are those of `vllm.EngineArgs` that `ARGUMENTS` names.

    With `row_seeds` each request has its own random numbers; it costs speed, and in bfloat16 does not
    make a reply independent of the batch.
    """

    name = "vllm"

    def __init__(self, row_seeds: bool = False, **arguments: Any) -> None:
        if "data_parallel_size" in arguments:
            raise InputError(
                "engine.data_parallel_size: copies of a model run on the ray engine, with engine.workers"
            )
        if unknown := arguments.keys() - set(ARGUMENTS):
            names = ", ".join(("row_seeds", *ARGUMENTS))
            raise no_option("vllm", min(unknown), names)
        self.row_seeds = row_seeds
        self.arguments = arguments
        self.load_seconds = 0.0
        self.llm: Any = None
        """vLLM's own engine, while a model is loaded."""
        self._pinned: dict[Model, Model] = {}
        self._loaded: Model | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._effective: dict[str, Any] = {}
        """Settings that vLLM chose for the model loaded last."""

    @property
    def honours_seed(self) -> bool:
        """With row seeds and in float32 only: else the rest of the batch changes the last digits."""
        dtype = self._effective.get("dtype", self.arguments.get("dtype"))
        return self.row_seeds and dtype in ("float32", "float")

    def resolve(self, model: Model) -> Model:
        if model not in self._pinned:
            self._pinned[model] = weights.locate(model)
        return self._pinned[model]

    def settings(self) -> dict[str, Any]:
        fixed = {"engine": self.name, "row_seeds": self.row_seeds}
        return {**fixed, **self._effective, "arguments": self.arguments}

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        groups = group_by_model(requests, self.resolve)
        check_templates(groups)
        for model in sorted(groups, key=lambda model: model != self._loaded):
            self._ensure_loaded(model)
            yield from self._run(groups.pop(model))

    def close(self) -> None:
        """Stop the engine's processes, and so free their memory."""
        llm, self.llm, self._loaded = self.llm, None, None
        if llm is not None:
            _end(llm.engine_core.resources.engine_manager.processes)
            llm.engine_core.shutdown()
        if self._reaper is not None:
            self._reaper.communicate()  # its input ends: it kills what is left, and ends
            self._reaper = None

    def _run(self, requests: list[Request]) -> Iterator[Reply]:
        # The longest first, so that none of them runs alone at the end; what is shared stays together.
        requests.sort(key=lambda r: (-r.sampling.max_new_tokens, r.head, -r.size))
        llm = self.llm
        tokenizer, context = llm.get_tokenizer(), self._effective["max_model_len"]
        turn_end = end_of_turn(tokenizer)
        waiting = encode(tokenizer, requests)
        running: dict[str, Prompt] = {}
        try:
            while True:
                while len(running) < IN_FLIGHT and (prompt := next(waiting, None)):
                    request = prompt.request
                    if refusal := prompt.refusal(context):
                        yield prompt.failed(refusal)
                        continue
                    stop = turn_end if request.messages else None
                    tokens = {"prompt_token_ids": prompt.tokens.tolist()}
                    llm.add_request(request.id, tokens, self._sampling(request, stop))
                    running[request.id] = prompt
                if not running:
                    return
                for output in llm.step():
                    if output.finished:
                        yield _reply(running.pop(output.request_id), output)
        except Exception:
            self.close()  # dead, or in an unknown state: the next call starts another
            running.clear()
            raise
        finally:
            if running:  # the caller has stopped reading
                llm.abort_request(list(running))

    def _sampling(self, request: Request, turn_end: int | None) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=request.sampling.max_new_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            stop=list(request.sampling.stop) or None,
            stop_token_ids=None if turn_end is None else [turn_end],
            seed=request.seed if self.row_seeds else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _ensure_loaded(self, model: Model) -> None:
        """Run the engine on this model; one that runs another is stopped first. Raises CannotStart."""
        if self._loaded == model:
            return
        self.close()
        start = time.monotonic()
        folder = weights.fetch(model)
        try:
            self.llm = self._start(folder)
        except Exception as error:
            self.close()
            raise CannotStart(
                f"vLLM cannot start {model.id}: {one_line(error)}; set vLLM's options, such as "
                "engine.max_model_len, or take the transformers engine, which runs anywhere"
            ) from error
        self._loaded = model
        config = self.llm.vllm_config
        self._effective = {
            "device": config.device_config.device_type,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "prefix_caching": config.cache_config.enable_prefix_caching,
        }
        self.load_seconds += time.monotonic() - start

    def _start(self, folder: Path) -> Any:
        """Load a model. The engine's processes carry a mark, by which a reaper ends them with this one."""
        # vLLM reads these when it is imported. Variables that a user has set stay.
        for name in ("VLLM_LOGGING_LEVEL", "TORCH_CPP_LOG_LEVEL"):
            os.environ.setdefault(name, "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        # A forked process would lack the mark by which the reaper finds it, and hold its input open.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        defaults: dict[str, Any] = {"enable_prefix_caching": True, "disable_log_stats": True}
        defaults["use_tqdm_on_load"] = False
        if current_platform.is_cpu():
            defaults |= self._cpu_defaults()
        arguments = EngineArgs(model=str(folder), trust_remote_code=False, **(defaults | self.arguments))
        mark = str(uuid4())
        resource_tracker.ensure_running()  # it is this process's own, and shall not have the mark
        self._reaper = _start_reaper(f"{_MARK}={mark}")
        os.environ[_MARK] = mark
        try:
            # In a process of its own, whatever vLLM's variable says: one that is killed ends no build.
            llm = _deaf_to_interrupts(
                lambda: LLMEngine.from_engine_args(arguments, enable_multiprocessing=True)
            )
        finally:
            del os.environ[_MARK]
        _wake_when_killed(llm.engine_core)
        return llm

    def _cpu_defaults(self) -> dict[str, Any]:
        """Settings for a CPU, where vLLM's defaults are bad."""
        if self.arguments.get("tensor_parallel_size", 1) == 1 and hasattr(os, "sched_getaffinity"):
            # By itself it keeps a core free, which on two cores is half of them.
            cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
        defaults: dict[str, Any] = {}
        if not has_bfloat16("cpu"):
            defaults["dtype"] = "float32"  # bfloat16 is emulated there, and far slower
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            defaults["kv_cache_memory_bytes"] = min(CPU_CACHE_BYTES, free_memory() // 4)
        if self.row_seeds:
            # A seeded request whose prompt is computed in parts kills vLLM's CPU engine.
            defaults["enable_chunked_prefill"] = False
        return defaults


def _deaf_to_interrupts(start: Callable[[], Any]) -> Any:
    """What `start` returns. The processes that it starts ignore Ctrl-C, which a terminal sends to all.

    Else vLLM's worker would end before its engine, which would print a traceback. Ctrl-C ends the waiting.
    """
    future: Future[Any] = Future()

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread, and inherited
        try:
            future.set_result(start())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="vllm-start", daemon=True).start()
    return future.result()


def _end(processes: list[BaseProcess]) -> None:
    """End vLLM's engine processes, before their workers: one that outlives its worker prints a traceback."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)
        process.kill()


def _wake_when_killed(client: Any) -> None:
    """Raise in the thread that waits for replies when an engine process was killed; vLLM's client (0.32)
    would wait for ever."""
    manager = client.resources.engine_manager

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


def _start_reaper(mark: str) -> "subprocess.Popen[bytes]":
    """Start a process that kills the engine's processes when its input ends: when this process ends.

    After `kill -9` vLLM's processes would keep running, with all their memory.
    """
    command = [sys.executable, "-I", "-S", "-c", _REAPER, mark]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _reply(prompt: Prompt, output: Any) -> Reply:
    completion, request = output.outputs[0], prompt.request
    if completion.finish_reason not in ("stop", "length"):
        return Reply.failed(request.id, f"vLLM ended the request: {completion.finish_reason}")
    text, _ = cut_at_stop(completion.text, request.sampling.stop)
    reasoning, text = prompt.split(text)
    return Reply(
        id=request.id,
        text=text,
        finish_reason=completion.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(completion.token_ids),
        reasoning=reasoning,
        cached_tokens=output.num_cached_tokens or 0,
    )
