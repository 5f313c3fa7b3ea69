"""The engine for a running server that has OpenAI's completions API, such as vLLM's.

Text goes to `/completions` as it is, and messages go to `/chat/completions`, where the server applies the
model's own chat template.
The `openai` client retries temporary faults for up to two minutes, with jitter and Retry-After; `client.py`
decides how many requests are in flight: half as many after each refusal (429, 503), more with each answer.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from msgspec import Meta

from ..errors import InputError
from ..models.chat import split_reasoning
from . import Model, Reply, Request, cut_at_stop, group_by_model
from .client import ConcurrencyLimit, api_key, describe, limited_client, redacted

if TYPE_CHECKING:
    from openai import AsyncOpenAI, Timeout

AS_SERVED = "as-served"
"""The revision of a model on a server: a client can neither see nor pin it."""
STOPS = 4
"""Stop strings that OpenAI's own server takes at most; further ones are cut off here."""
CONNECT_SECONDS = 10.0
LIST_SECONDS = 30.0
LIST_RETRIES = 2
"""For the list of models: a server that does not run is reported at once, not after all retries."""
_NAMES_SHOWN = 10
"""Served models named in an error."""


@dataclass(eq=False)
class OpenAIEngine:
    """Implements `Generator`. A server batches as it likes, so no seed decides a reply.

    The API key is `OPENAI_API_KEY` of the environment. Several servers that list a model share its
    requests. 14 retries last about 70 seconds, enough for a server to be restarted.
    """

    name = "openai"
    honours_seed = False
    load_seconds = 0.0
    _limit_name = "max_tokens"

    base_url: tuple[str, ...] = ()
    concurrency: Annotated[int, Meta(ge=1)] = 64
    timeout: Annotated[float, Meta(gt=0)] = 600.0
    retries: Annotated[int, Meta(ge=0)] = 14
    row_seeds: bool = False

    def __post_init__(self) -> None:
        if not self.base_url:
            raise InputError("engine.base_url: give the server's address, as http://HOST:PORT/v1")
        if find_spec("openai") is None:
            raise InputError("the openai engine needs a package: pip install 'almost_data[openai]'")
        self._hosts = {url: _host(url) for url in self.base_url}
        self._served: dict[str, list[str]] = {}
        self._counts = dict.fromkeys(("rate_limited", "server_errors", "dropped"), 0)
        self._counts["lowest_limit"] = self.concurrency

    def resolve(self, model: Model) -> Model:
        """The model, if a server lists it. A given revision is kept, and cannot be checked."""
        self._servers(model)
        return Model(model.id, model.revision or AS_SERVED)

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

        shares: dict[str, list[Request]] = defaultdict(list)
        for model, group in group_by_model(requests).items():  # a server that swaps models swaps each in once
            servers = self._servers(model)
            for number, request in enumerate(group):
                shares[servers[number % len(servers)]].append(request)
        if not shares:
            return
        replies: SimpleQueue[Reply | None] = SimpleQueue()
        with start_blocking_portal() as portal:  # cancels the work if the caller stops early
            work = portal.start_task_soon(self._work, shares, replies.put)
            work.add_done_callback(lambda _: replies.put(None))
            while (reply := replies.get()) is not None:
                yield reply
            work.result()

    def names(self) -> list[str]:
        """The servers' names of their models. Raises InputError where a server does not answer."""
        for url in self._hosts:
            if url not in self._served:
                self._served[url] = self._list_models(url)
        return sorted({id for ids in self._served.values() for id in ids})

    def _servers(self, model: Model) -> list[str]:
        """The addresses of the servers that list the model."""
        names = self.names()
        if servers := [url for url, ids in self._served.items() if model.id in ids]:
            return servers
        served = ", ".join(redacted(id, 100) for id in names[:_NAMES_SHOWN]) or "nothing"
        rest = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        raise InputError(
            f"{redacted(model.id, 100)}: not served at {', '.join(self._hosts.values())}; served there: "
            f"{served}{rest}. Give one of these, or start the server with another --served-model-name"
        )

    def _list_models(self, url: str) -> list[str]:
        import openai

        timeout, retries = self._timeout(LIST_SECONDS), min(self.retries, LIST_RETRIES)
        key = api_key()
        try:
            with openai.OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=retries) as client:
                return [str(model.id) for model in client.models.list().data]
        except Exception as error:
            if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
                advice = "set OPENAI_API_KEY to a key that it takes"
            elif isinstance(error, openai.APIStatusError):
                advice = "no list of models under this address"
            elif isinstance(error, openai.APIConnectionError):
                advice = "is the server running?"
            else:
                advice = "its list of models cannot be read"
            raise InputError(f"engine.base_url: {self._hosts[url]}: {advice} ({describe(error)})") from None

    def _timeout(self, seconds: float) -> "Timeout":
        from openai import Timeout

        seconds = min(self.timeout, seconds)
        return Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))

    async def _work(self, shares: dict[str, list[Request]], done: Callable[[Reply], None]) -> None:
        import anyio

        async with anyio.create_task_group() as group:
            for url, share in shares.items():
                group.start_soon(self._ask_server, url, share, done)

    async def _ask_server(self, url: str, share: list[Request], done: Callable[[Reply], None]) -> None:
        """`concurrency` workers take requests from one iterator, so there are never more tasks than that."""
        import anyio
        from openai import AsyncOpenAI

        queue = iter(share)
        client = AsyncOpenAI(
            base_url=url,
            api_key=api_key(),
            timeout=self._timeout(self.timeout),
            max_retries=self.retries,
            http_client=limited_client(ConcurrencyLimit(self.concurrency, self._counts)),
        )

        async def worker() -> None:
            for request in queue:
                done(await self.ask(client, request))

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(self.concurrency, len(share))):
                    group.start_soon(worker)
        finally:
            with anyio.CancelScope(shield=True):  # connections are closed where the work is cancelled too
                await client.close()

    async def ask(self, client: "AsyncOpenAI", request: Request) -> Reply:
        """The reply to one request; after a lasting fault, a failed reply."""
        sampling = request.sampling
        if refusal := request.refusal(len(request.prompt) or len(request.messages)):
            return Reply.failed(request.id, refusal)
        fields: dict[str, Any] = {
            self._limit_name: sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            fields["stop"] = list(sampling.stop[:STOPS])
        if self.row_seeds and request.seed is not None:
            fields["seed"] = request.seed % 2**63
        try:
            completion = await self._create(client, request, fields)
        except Exception as error:
            if request.messages and "max_tokens" in fields and getattr(error, "param", None) == "max_tokens":
                self._limit_name = "max_completion_tokens"  # the name that OpenAI's newer models require
                return await self.ask(client, request)
            return Reply.failed(request.id, describe(error))
        choice, usage = completion.choices[0], completion.usage
        reasoning, text = _reply_parts(choice) if request.messages else (None, choice.text)
        text, cut = cut_at_stop(text, sampling.stop)
        reason = "stop" if cut else choice.finish_reason
        if reason not in ("stop", "length"):
            return Reply.failed(request.id, f"the server ended the reply: {redacted(str(reason))}")
        return Reply(
            id=request.id,
            text=text,
            finish_reason=cast(Literal["stop", "length"], reason),
            prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
            completion_tokens=getattr(usage, "completion_tokens", None) or 0,
            reasoning=reasoning,
            cached_tokens=getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None) or 0,
        )

    async def _create(self, client: "AsyncOpenAI", request: Request, fields: dict[str, Any]) -> Any:
        if request.messages:
            messages: Any = list(request.messages)
            options = json.loads(request.template_options)
            extra = {"chat_template_kwargs": options} if options else None
            return await client.chat.completions.create(
                model=request.model.id, messages=messages, extra_body=extra, **fields
            )
        return await client.completions.create(model=request.model.id, prompt=request.prompt, **fields)


def _reply_parts(choice: Any) -> tuple[str | None, str]:
    """The model's reasoning and the reply of a chat; servers name the field or leave it in the text."""
    message = choice.message
    reasoning, text = split_reasoning(message.content or "")
    fields = (getattr(message, name, None) for name in ("reasoning", "reasoning_content"))
    return next(filter(None, fields), reasoning), text


def _host(url: str) -> str:
    """HOST:PORT of an address. The error about an invalid one omits it: it may hold a secret."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(c in url for c in "@?# ") or not url.isprintable():
        raise InputError(
            "engine.base_url: an address looks like http://HOST:PORT/v1, with http or https and without a "
            "user, password or query; the key goes into OPENAI_API_KEY"
        )
    return parts.netloc
