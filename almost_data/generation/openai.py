"""The engine for a server that somebody else runs: any that has OpenAI's completions API, as vLLM's has.

Few-shot prompts go to `/completions` as they are, so for builds a server with nothing but chat is of no use.
With `chat` on, as for a judge, each prompt is a user's message to `/chat/completions`.
`openai` retries what is worth it, with jitter and as Retry-After says, up to two minutes; `client.py`
decides how much is asked at once: half as much after each refusal (429, 503), a little more with each answer.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from almost_data.errors import InputError
from almost_data.generation import Model, Reply, Request, cut_at_stop
from almost_data.generation.client import Limit, clean, gated, key, said

if TYPE_CHECKING:
    from openai import AsyncOpenAI, Timeout

AS_SERVED = "as-served"
"""The revision of a model that a server was started with: nobody else can see or pin it."""
BY_CHAT = "as-served, by chat"
"""The same, asked by chat: another prompt for the model, so another key in the journal."""
STOPS = 4
"""Stop strings that OpenAI's own server takes at most; any more are cut off here."""
CONNECT_SECONDS = 10.0
LIST_SECONDS = 30.0
LIST_RETRIES = 2
"""A server that is not there is told at once, not after the patience that a long build deserves."""
_LISTED = 10
"""Served models named in an error."""


class OpenAIEngine:
    """Implements `Generator`. A server batches as it likes, so no seed decides a reply.

    The API key is `OPENAI_API_KEY` of the environment. Of several servers that list a model, each gets
    its share of the requests. 14 retries last about 70 seconds: a server may be started anew meanwhile.
    """

    name = "openai"
    honours_seed = False
    load_seconds = 0.0
    chat = False
    """Set by evaluations, and no option of builds, whose prompts are no messages."""
    _limit_name = "max_tokens"

    def __init__(
        self,
        base_url: tuple[str, ...] = (),
        concurrency: int = 64,
        timeout: float = 600.0,
        retries: int = 14,
        row_seeds: bool = False,
    ) -> None:
        if not base_url:
            raise InputError("--engine openai: give the server's address with --base-url http://HOST:PORT/v1")
        if concurrency < 1 or timeout <= 0 or retries < 0:
            raise InputError("--engine openai: concurrency is 1 or more, timeout above 0, retries 0 or more")
        if find_spec("openai") is None:
            raise InputError("--engine openai needs a package: pip install 'almost_data[openai]'")
        self._hosts = {url: _host(url) for url in base_url}
        self.concurrency = concurrency
        self.timeout = timeout
        self.retries = retries
        self.row_seeds = row_seeds
        self._listed: dict[str, list[str]] = {}
        self._counts = {"lowest_limit": concurrency, "rate_limited": 0, "server_errors": 0, "dropped": 0}

    def resolve(self, model: Model) -> Model:
        """The model, if a server lists it. A revision that is given is kept, and cannot be checked:
        "as-served" says that nobody knows which one the server runs."""
        self._servers(model)
        return Model(model.id, model.revision or (BY_CHAT if self.chat else AS_SERVED))

    def settings(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "base_url": list(self._hosts.values()),
            "concurrency": self.concurrency,
            "row_seeds": self.row_seeds,
            **self._counts,
        }

    def close(self) -> None:
        pass  # the memory is the server's

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        from anyio.from_thread import start_blocking_portal

        wanted = list(requests)
        if len({request.id for request in wanted}) < len(wanted):
            raise ValueError("two requests have the same id")
        if not wanted:
            return
        # By model: a server that swaps models swaps each in once.
        models: dict[Model, list[Request]] = defaultdict(list)
        for request in wanted:
            models[request.model].append(request)
        shares: dict[str, list[Request]] = defaultdict(list)
        for model, some in models.items():
            servers = self._servers(model)
            for number, request in enumerate(some):
                shares[servers[number % len(servers)]].append(request)
        replies: SimpleQueue[Reply | None] = SimpleQueue()
        with start_blocking_portal() as portal:  # which cancels the work where this ends early
            work = portal.start_task_soon(self._work, shares, replies.put)
            work.add_done_callback(lambda _: replies.put(None))
            left = len(wanted)
            try:
                while (reply := replies.get()) is not None:
                    left -= 1
                    yield reply
            finally:
                if not left:  # it closes its connections, and would leave them open if cancelled there
                    work.result()
            work.result()

    def names(self) -> list[str]:
        """What the servers call their models. Raises InputError where one is not there."""
        for url in self._hosts:
            if url not in self._listed:
                self._listed[url] = self._list(url)
        return sorted({id for listed in self._listed.values() for id in listed})

    def _servers(self, model: Model) -> list[str]:
        """The addresses of the servers that list the model."""
        ids = self.names()
        if servers := [url for url, listed in self._listed.items() if model.id in listed]:
            return servers
        served = ", ".join(clean(id, 100) for id in ids[:_LISTED]) or "nothing"
        more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
        raise InputError(
            f"{clean(model.id, 100)}: not served at {', '.join(self._hosts.values())}, where the names are: "
            f"{served}{more}. Give one of these, or start the server with another --served-model-name"
        )

    def _list(self, url: str) -> list[str]:
        import openai

        at = f"--engine openai: {self._hosts[url]}"
        timeout, retries = self._patience(LIST_SECONDS), min(self.retries, LIST_RETRIES)
        api_key = key()
        try:
            with openai.OpenAI(base_url=url, api_key=api_key, timeout=timeout, max_retries=retries) as client:
                return [str(model.id) for model in client.models.list().data]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise InputError(f"{at}: set OPENAI_API_KEY to a key that it takes ({said(error)})") from None
        except openai.APIStatusError as error:
            raise InputError(f"{at}: no list of models under this address ({said(error)})") from None
        except openai.APIConnectionError as error:
            raise InputError(f"{at}: is the server running? ({said(error)})") from None
        except Exception as error:  # whatever a server of another kind sends
            raise InputError(f"{at}: what it sent is no list of models ({said(error)})") from None

    def _patience(self, seconds: float) -> "Timeout":
        from openai import Timeout

        seconds = min(self.timeout, seconds)
        return Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))

    async def _work(self, shares: dict[str, list[Request]], done: Callable[[Reply], None]) -> None:
        async with asyncio.TaskGroup() as group:
            for url, share in shares.items():
                group.create_task(self._share(url, share, done))

    async def _share(self, url: str, share: list[Request], done: Callable[[Reply], None]) -> None:
        """Ask one server: `concurrency` workers take from one line, so no more than that exists at once."""
        from openai import AsyncOpenAI

        line = iter(share)

        async def worker() -> None:
            for request in line:
                done(await self._ask(client, request))

        http = gated(Limit(self.concurrency, self._counts))
        timeout = self._patience(self.timeout)
        async with (
            AsyncOpenAI(
                base_url=url, api_key=key(), timeout=timeout, max_retries=self.retries, http_client=http
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(self.concurrency, len(share))):
                group.create_task(worker())

    async def _ask(self, client: "AsyncOpenAI", request: Request) -> Reply:
        how = request.sampling
        if not request.prompt:
            return _failed(request, "the prompt is empty")
        if how.max_new_tokens < 1:
            return _failed(request, "max_new_tokens is below 1")
        asked: dict[str, Any] = {self._limit_name: how.max_new_tokens}
        asked |= {"temperature": how.temperature, "top_p": how.top_p}
        if how.stop:
            asked["stop"] = list(how.stop[:STOPS])
        if self.row_seeds and request.seed is not None:
            asked["seed"] = request.seed % 2**63
        try:
            made = await self._create(client, request, asked)
        except Exception as error:  # one request's fault is one failed reply
            if self.chat and "max_tokens" in asked and getattr(error, "param", None) == "max_tokens":
                self._limit_name = "max_completion_tokens"  # as OpenAI's newer models want it
                return await self._ask(client, request)
            return _failed(request, said(error))
        choice, usage = made.choices[0], made.usage
        text, cut = cut_at_stop((choice.message.content or "") if self.chat else choice.text, how.stop)
        reason = "stop" if cut else choice.finish_reason
        if reason not in ("stop", "length"):
            return _failed(request, f"the server ended it: {clean(str(reason))}")
        return Reply(
            id=request.id,
            text=text,
            finish_reason=cast(Literal["stop", "length"], reason),
            prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
            completion_tokens=getattr(usage, "completion_tokens", None) or 0,
            cached_tokens=getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None) or 0,
        )

    async def _create(self, client: "AsyncOpenAI", request: Request, asked: dict[str, Any]) -> Any:
        if self.chat:
            message: Any = {"role": "user", "content": request.prompt}
            return await client.chat.completions.create(model=request.model.id, messages=[message], **asked)
        return await client.completions.create(model=request.model.id, prompt=request.prompt, **asked)


def _host(url: str) -> str:
    """HOST:PORT of an address. What an error says of a bad one leaves out all of it: it may hold a secret."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in url or "?" in url or "#" in url or " " in url or not url.isprintable():
        raise InputError(
            "--engine openai: a --base-url looks like http://HOST:PORT/v1, with http or https and without a "
            "user, password or query; the key goes into OPENAI_API_KEY"
        )
    return parts.netloc


def _failed(request: Request, error: str) -> Reply:
    return Reply(request.id, "", "error", error=error)
