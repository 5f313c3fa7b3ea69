"""Our openai engine against the bare `AsyncOpenAI` client, on a server that answers in 50 ms.

    python -m tests.bench openai

Both send the same requests of five models, from one process; the server is another one. At 64 requests at
once the server's own limit is 1,280 a second, at 256 it is 5,120. Processor time is the client's alone.
"""

import asyncio
import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from almost_data.generation import Model, Request, Sampling, prompts
from almost_data.generation.openai import OpenAIEngine
from almost_data.models.chat import user_turn
from tests.bench import Result

MODELS = tuple(f"m{number}" for number in range(5))
COUNT = 1000
"""Requests of each model."""
SECONDS = 0.05
SAMPLING = Sampling(384, 1.0, 0.9, prompts.STOP)
COMPLETION = (
    b'{"id":"c","object":"%s","created":1,"model":"m0","choices":[{"index":0,%s,"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":500,"completion_tokens":9,"total_tokens":509}}'
)
REPLY = b'"Give it six hours of light a day."'
TEXT = COMPLETION % (b"text_completion", b'"text":' + REPLY)
CHAT = COMPLETION % (b"chat.completion", b'"message":{"role":"assistant","content":%s}' % REPLY)
LIST = b'{"object":"list","data":[%s],"answered":%%d}' % b",".join(
    b'{"id":"%s"}' % name.encode() for name in MODELS
)


class SlowServer(asyncio.Protocol):
    """Answers each request in `SECONDS`, with as little work as HTTP allows.

    The list of models says how many requests were answered.
    """

    answered = 0

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if end and len(body) >= length:
            self.buffer = body[length:]
            loop = asyncio.get_running_loop()
            loop.call_later(SECONDS, self.transport.write, _answer(self._body(head, length)))

    def _body(self, head: bytes, length: int) -> bytes:
        if not length:
            return LIST % SlowServer.answered
        SlowServer.answered += 1
        return CHAT if b"/chat/completions " in head else TEXT


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def serve(port: Any) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(SlowServer, "127.0.0.1", 0, backlog=1024)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def slow_server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=serve, args=(queue,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{queue.get()}/v1"
    finally:
        process.kill()


def all_requests() -> list[Request]:
    head = prompts.load("hhh").head(3)
    return [
        Request(
            f"{model}-{number}", Model(model), head, prompts.ask(user_turn(f"What of {number}?")), SAMPLING
        )
        for model in MODELS
        for number in range(COUNT)
    ]


def ours(url: str, at_once: int) -> None:
    replies = list(OpenAIEngine((url,), concurrency=at_once).generate(all_requests()))
    assert all(reply.text for reply in replies) and len(replies) == COUNT * len(MODELS)


def bare(url: str, at_once: int) -> None:
    from openai import AsyncOpenAI

    async def run() -> None:
        queue = iter(all_requests())
        texts = []

        async def worker(client: AsyncOpenAI) -> None:
            for request in queue:
                completion = await client.completions.create(
                    model=request.model.id,
                    prompt=request.prompt,
                    max_tokens=SAMPLING.max_new_tokens,
                    temperature=SAMPLING.temperature,
                    top_p=SAMPLING.top_p,
                    stop=list(SAMPLING.stop),
                )
                texts.append(completion.choices[0].text)

        async with AsyncOpenAI(base_url=url, api_key="EMPTY") as client:
            await asyncio.gather(*(worker(client) for _ in range(at_once)))
        assert len(texts) == COUNT * len(MODELS)

    asyncio.run(run())


def measure(work: Callable[[str, int], None], url: str, at_once: int) -> tuple[float, float]:
    """Requests a second, and microseconds of processor time for each."""
    start, worked = time.perf_counter(), time.process_time()
    work(url, at_once)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    return COUNT * len(MODELS) / seconds, worked / (COUNT * len(MODELS)) * 1e6


def run() -> list[Result]:
    results = []
    for library in ("aiohttp", "anyio.from_thread", "openai"):
        importlib.import_module(library)  # at first use they take longer than a thousand requests
    with slow_server() as url:
        for at_once in (64, 256):
            fast, light_rates = measure(ours, url, at_once)
            plain, heavy = measure(bare, url, at_once)
            label = f"openai engine, a server that answers in 50 ms, {at_once} at once: against AsyncOpenAI"
            results += [
                Result(label, "requests/s", fast, plain, "3x" if at_once == 256 else "the server's 1,280"),
                Result(f"{label}, processor time", "microseconds", light_rates, heavy, ""),
            ]
    return results
