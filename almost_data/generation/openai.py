"""The engine for running servers that have OpenAI's completions API, such as vLLM's.

Text goes to `/completions` as it is, and messages go to `/chat/completions`, where the server applies the
model's own chat template. Several servers, each with its models, key, rates and price:

    [[engine.servers]]
    base_url = "https://HOST/v1"
    models = ["big"]                       # without them the server is asked for its list
    key = "BIG_API_KEY"                    # the environment variable that holds it
    requests_per_minute = 500
    price = { input = 0.5, output = 1.5 }  # of a million tokens

Temporary faults are asked again for up to two minutes, with jitter and Retry-After (`client.py`). Half as
many requests are in flight after each refusal (429, 503), and more with each answer (`servers.py`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..errors import InputError
from . import CannotStart, Model, Reply, Request, group_by_model
from .client import Client, ServerFault, redacted
from .completions import ADAPTABLE, CHARACTERS, encode, greatest_cost, read_names, read_reply, served_name
from .servers import DEFAULT_KEY, Budget, Price, Server

AS_SERVED = "as-served"
"""The revision of a model on a server: a client can neither see nor pin it."""
LIST_SECONDS = 30.0
LIST_RETRIES = 2
"""For the list of models: a server that does not run is reported at once, not after all retries."""
_NAMES_SHOWN = 10
"""Served models named in an error."""


@dataclass(eq=False)
class OpenAIEngine:
    """Implements `Generator`. A server batches as it likes, so no seed decides a reply.

    Servers in `base_url` get the key in `OPENAI_API_KEY`. Several servers that have a model share its
    requests; `concurrency` is for each server. 14 retries last about 70 seconds, enough for a server to be
    restarted. Where a `max_cost` in money is set, a request is sent only if it and all in flight fit into
    what remains at their greatest cost, by the prices in `servers`; answers that hold no reply count where
    the server counts their tokens.
    """

    name = "openai"
    honours_seed = False
    load_seconds = 0.0

    base_url: str | tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    concurrency: Annotated[int, Meta(ge=1)] = 64
    timeout: Annotated[float, Meta(gt=0)] = 600.0
    retries: Annotated[int, Meta(ge=0)] = 14
    row_seeds: bool = False
    max_cost: Annotated[float, Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        urls = (self.base_url,) if isinstance(self.base_url, str) else self.base_url
        self._servers = [*(Server(base_url=url, key=DEFAULT_KEY) for url in urls), *self.servers]
        if not self._servers:
            raise InputError(
                "engine.base_url: give the server's address, as http://HOST:PORT/v1, or set engine.servers"
            )
        self._hosts = [server.host for server in self._servers]
        self._listed: dict[Server, tuple[str, ...]] = {}
        self._counts = dict.fromkeys(("rate_limited", "server_errors", "dropped"), 0)
        self._counts["lowest_limit"] = self.concurrency
        self._budget = Budget(self.max_cost)
        self._resolved: dict[str, None] = {}

    def resolve(self, model: Model) -> Model:
        """The model as served, by its whole name. No server is asked before `check`."""
        self._resolved[model.id] = None
        return Model(model.id, AS_SERVED)

    def check(self) -> None:
        """Raise InputError where a resolved model is on no server, or a server does not answer."""
        self._check(self._resolved)

    def _check(self, models: Iterable[str]) -> None:
        for model in models:
            for server in self._serving(model):
                server.api_key()
                if self.max_cost is not None and server.price is None:
                    raise InputError(
                        f"run.max_cost: engine.servers has no price for {redacted(model, 100)} at "
                        f"{server.host}: give one (0 where it costs nothing)"
                    )

    def addresses(self, model: str) -> list[str]:
        """Those that may have a model, each once; asks no server."""
        return list(dict.fromkeys(server.url for server in self._candidates(model)))

    def price(self, model: str) -> Price | None:
        """The highest price of a model, if one is given; asks no server."""
        prices = [server.price for server in self._candidates(model) if server.price]
        return max(prices, key=lambda price: price.input + price.output, default=None)

    def settings(self) -> dict[str, Any]:
        prices = {
            ", ".join(server.models) or server.host: msgspec.to_builtins(server.price)
            for server in self._servers
            if server.price
        }
        return {
            "engine": self.name,
            "servers": list(dict.fromkeys(self._hosts)),
            "concurrency": self.concurrency,
            "row_seeds": self.row_seeds,
            **({"prices": prices} if prices else {}),
            **self._counts,
        }

    def close(self) -> None:
        pass  # the memory is the server's

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Send each model's requests to its servers in turn; replies come as they arrive."""
        from anyio.from_thread import start_blocking_portal

        groups = group_by_model(requests)
        self._check(model.id for model in groups)
        shares: dict[Server, list[Request]] = defaultdict(list)
        for model, group in groups.items():  # a server that swaps models swaps each in once
            servers = self._serving(model.id)
            for number, request in enumerate(group):
                shares[servers[number % len(servers)]].append(request)
        missing = sum(map(len, shares.values()))
        if not missing:
            return
        replies: SimpleQueue[Reply | None] = SimpleQueue()
        with start_blocking_portal() as portal:  # cancels the work if the caller stops early
            work = portal.start_task_soon(self._work, shares, replies.put)
            work.add_done_callback(lambda _: replies.put(None))
            while (reply := replies.get()) is not None:
                missing -= 1
                yield reply
            work.result()
        if missing:
            raise CannotStart(
                f"run.max_cost {self.max_cost:g}: {self._budget.spent:.4g} is spent, {missing:,} requests "
                "are not sent, for the next could cost more than what remains; the journal keeps the "
                "replies: run again with another run.max_cost to go on"
            )

    async def _work(self, shares: dict[Server, list[Request]], done: Callable[[Reply], None]) -> None:
        import asyncio

        async with asyncio.TaskGroup() as group:
            for server, share in shares.items():
                group.create_task(self._ask_server(server, share, done))

    async def _ask_server(self, server: Server, share: list[Request], done: Callable[[Reply], None]) -> None:
        """`concurrency` workers take requests from one iterator, so there are never more tasks than that."""
        import asyncio

        queue = iter(share)
        refused: set[str] = set()

        async def worker() -> None:
            for request in queue:
                if not await self._budget.reserve(request.id, greatest_cost(request, server.price)):
                    return
                try:
                    reply = await self.ask(client, request, refused)
                finally:
                    self._budget.settle(request.id)
                done(reply)

        connections = Client(server, self.concurrency, self.timeout, self.retries, self._counts)
        async with connections as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.concurrency, len(share))):
                group.create_task(worker())

    async def ask(self, client: Client, request: Request, refused: set[str]) -> Reply:
        """The reply to one request; after a lasting fault, a failed reply.

        `refused` are the parameters that the server does not take.
        """
        if refusal := request.refusal(len(request.prompt) or len(request.messages)):
            return Reply.failed(request.id, refusal)
        name = served_name(request.model.id, self._models(client.server)) or request.model.id
        path = "/chat/completions" if request.messages else "/completions"
        expected = request.size / CHARACTERS + request.sampling.max_new_tokens
        left_out = set(refused)
        billed = 0.0  # for attempts without a reply

        def read(answer: bytes) -> Reply:
            nonlocal billed
            try:
                return read_reply(request, name, client.server.price, answer)
            except ServerFault as fault:
                billed += fault.cost
                self._budget.spent += fault.cost
                fault.is_temporary &= self._budget.fits()  # or another attempt could cost too much
                raise

        try:
            body = encode(request, name, refused, self.row_seeds)
            reply = await client.ask(path, body, read, expected)
        except ServerFault as fault:
            if fault.param in ADAPTABLE - left_out:
                refused.add(str(fault.param))
                return await self.ask(client, request, refused)
            return Reply.failed(request.id, str(fault), cost=billed)
        except Exception as error:  # the server's words, in a shape that no server was seen to use
            return Reply.failed(request.id, redacted(f"{type(error).__name__}: {error}"), cost=billed)
        client.rates.correct(reply.prompt_tokens + reply.completion_tokens - expected)
        self._budget.spent += reply.cost
        reply.cost += billed
        return reply

    def names(self) -> list[str]:
        """The servers' names of their models. Raises InputError where a server does not answer."""
        return sorted({name for server in self._servers for name in self._models(server)})

    def _models(self, server: Server) -> tuple[str, ...]:
        if not server.models and server not in self._listed:
            self._listed[server] = self._list_models(server)
        return server.models or self._listed[server]

    def _candidates(self, model: str) -> list[Server]:
        """The servers that name the model; where none does, those that name no model."""
        named = [server for server in self._servers if served_name(model, server.models)]
        return named or [server for server in self._servers if not server.models]

    def _serving(self, model: str) -> list[Server]:
        """The servers that have the model; only where none names it are others asked for their lists."""
        candidates = self._candidates(model)
        if servers := [server for server in candidates if served_name(model, self._models(server))]:
            return servers
        names = self.names()
        served = ", ".join(redacted(id, 100) for id in names[:_NAMES_SHOWN]) or "nothing"
        rest = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        raise InputError(
            f"{redacted(model, 100)}: not served at {', '.join(self._hosts)}; served there: "
            f"{served}{rest}. Give one of these, or start the server with another --served-model-name"
        )

    def _list_models(self, server: Server) -> tuple[str, ...]:
        from anyio.from_thread import start_blocking_portal

        async def ask() -> tuple[str, ...]:
            timeout, retries = min(self.timeout, LIST_SECONDS), min(self.retries, LIST_RETRIES)
            async with Client(server, 1, timeout, retries, dict(self._counts)) as client:
                return await client.ask("/models", b"", read_names)

        try:
            with start_blocking_portal() as portal:
                names: tuple[str, ...] = portal.call(ask)
                return names
        except ServerFault as fault:
            end = "" if server.base_url.rstrip("/").endswith("/v1") else "it most often ends in /v1; "
            advice = (
                f"no list of models under this address: {end}check it, or name the models in engine.servers"
            )
            if fault.status is None:
                advice = "is the server running?"
            elif fault.status in (401, 403):
                advice = f"set {server.key or 'the key in engine.servers'} to a key that it takes"
            setting = "engine.servers" if server in self.servers else "engine.base_url"
            raise InputError(f"{setting}: {server.host}: {advice} ({fault})") from None
