"""Servers as they are: several, with keys, rates and prices, and every shape of an answer."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from almost_data.builders.responder import Responder
from almost_data.builders.responses import BUILDER, ResponsesConfig
from almost_data.datasets.manifest import total_usage
from almost_data.errors import InputError
from almost_data.generation import CannotStart, Model, Reply, Request, Sampling, Usage, engines, servers
from almost_data.generation.client import MAX_BYTES, _retry_after
from almost_data.generation.completions import greatest_cost
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession, count
from almost_data.generation.openai import OpenAIEngine
from almost_data.generation.servers import Price, Server
from almost_data.models.chat import user_turn
from almost_data.store.store import Store
from tests.command import run as run_command
from tests.completions_server import CompletionsServer, Raw
from tests.waiting import until

KEY = "sk-proj-0123456789abcdef"
MODEL = Model("m")
PRICE = Price(input=1e5, output=1e6)
"""0.1 for a token of the prompt, 1 for a token of the reply."""


def text(count: int = 1, model: Model = MODEL, **sampling: Any) -> list[Request]:
    chosen = Sampling(**{"max_new_tokens": 20, **sampling})
    return [Request(f"r{n}", model, "Human: ", f"number {n}?", chosen, seed=n) for n in range(count)]


def chat(**sampling: Any) -> list[Request]:
    return [Request.chat("r0", MODEL, user_turn("Why?"), Sampling(**{"max_new_tokens": 20, **sampling}))]


def ask(server: CompletionsServer, requests: list[Request], **options: Any) -> dict[str, Reply]:
    engine = OpenAIEngine(server.url, **{"retries": 1, "timeout": 5.0, **options})
    return {reply.id: reply for reply in engine.generate(requests)}


def answer(server: CompletionsServer, value: Any, status: int = 200, **headers: str) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    server.raw = lambda _: (status, headers, body)


def completion(reason: Any = "stop", usage: Any = None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": reason, **choice}], "usage": usage}


@pytest.mark.parametrize("requests", [text(), chat()], ids=["text", "chat"])
@pytest.mark.parametrize(
    ("reason", "tokens", "expected"),
    [
        *((name, 5, "stop") for name in ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP")),
        *((name, 20, "length") for name in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((name, 5, "error") for name in ("content_filter", "tool_calls", 5, ["stop"])),
        (None, 5, "stop"),
        (None, 20, "length"),
        ("", None, "stop"),
    ],
)
def test_how_a_reply_ended_in_the_words_of_servers(
    server: CompletionsServer, requests: list[Request], reason: Any, tokens: int | None, expected: str
) -> None:
    choice = {"message": {"content": "Well."}} if requests[0].messages else {"text": "Well."}
    answer(server, completion(reason, {"completion_tokens": tokens}, **choice))
    assert ask(server, requests)["r0"].finish_reason == expected
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 3)),
        ({"prompt_tokens": "7", "completion_tokens": "3"}, (7, 3)),
        ({"prompt_tokens": 7.0, "completion_tokens": None}, (7, 0)),
        ({"prompt_tokens": -7, "completion_tokens": "many"}, (0, 0)),
        ({"prompt_tokens": 10**400, "completion_tokens": [3]}, (0, 0)),
        ({"prompt_tokens": "inf", "completion_tokens": 2**70, "prompt_tokens_details": 1}, (0, 0)),
        (None, (0, 0)),
        ("none", (0, 0)),
    ],
)
def test_token_counts_are_numbers_or_nothing(
    server: CompletionsServer, usage: Any, expected: tuple[int, int]
) -> None:
    answer(server, completion(usage=usage, text="Well."))
    reply = ask(server, text())["r0"]
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("Well.", *expected)


@pytest.mark.parametrize(
    ("message", "reasoning", "reply"),
    [
        ({"content": [{"type": "text", "text": "Fo"}, {"type": "text", "text": "ur."}]}, None, "Four."),
        (
            {"content": [{"type": "thinking", "thinking": "2 + 2"}, {"type": "text", "text": "Four."}]},
            "2 + 2",
            "Four.",
        ),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2 + 2"}]}]},
            "2 + 2",
            "",
        ),
        ({"content": "2 + 2</think>Four."}, "2 + 2", "Four."),
        ({"content": "Write <think>x</think>."}, None, "Write <think>x</think>."),
        ({"content": None, "reasoning": 5}, None, ""),
        ({"role": "assistant"}, None, ""),
    ],
)
def test_content_in_every_shape(
    server: CompletionsServer, message: dict[str, Any], reasoning: str | None, reply: str
) -> None:
    answer(server, completion(message=message))
    got = ask(server, chat())["r0"]
    assert (got.error, got.reasoning, got.text) == (None, reasoning, reply)


DEEP = b'{"choices":' + b"[" * 100_000
HOSTILE: dict[str, bytes | Any] = {
    "deep": DEEP,
    "list": [],
    "number": 7,
    "null": None,
    "no text": {"choices": [{"finish_reason": "stop"}]},
    "text of numbers": completion(text=5, message={"content": 5}),
    "choices of text": {"choices": "text"},
    "message of text": completion(message="Well.", text=None),
    "an image": completion(message={"content": [{"type": "image_url", "image_url": "x"}]}),
    "half a character": b'{"choices":[{"text":"\\ud800","message":{"content":"\\ud800"}}]}',
    "not UTF-8": b'{"choices":[{"text":"\xff"}]}',
    "HTML": b"<html>" + b"x" * 5000,
    "huge": b" " * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("requests", [text(), chat()], ids=["text", "chat"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_reply_is_a_failed_reply(
    server: CompletionsServer, requests: list[Request], name: str
) -> None:
    answer(server, HOSTILE[name])
    reply = ask(server, requests)["r0"]
    assert reply.finish_reason == "error"
    assert reply.error and len(reply.error) <= 300 and reply.error.isprintable()


@pytest.mark.parametrize(
    "body", [DEEP, b"[]", b'{"error": []}', b'{"error": {"message": {"a": 1}, "param": [1]}}', b"\xff" * 99]
)
def test_an_error_in_any_shape_is_a_failed_reply(server: CompletionsServer, body: bytes) -> None:
    answer(server, body, status=400)
    assert "HTTP 400" in str(ask(server, text())["r0"].error)


@pytest.mark.parametrize("listed", [DEEP, b"[]", b'{"data": [{"name": "m"}]}', b"\xff"])
def test_a_list_of_models_that_cannot_be_read_is_an_input_error(listed: bytes) -> None:
    from tests.completions_server import _Handler

    with CompletionsServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Handler, "do_GET", lambda self: self._bytes(200, listed))
        with pytest.raises(InputError, match=r"name the models in engine\.servers"):
            ask(server, text())


def test_a_server_without_a_list_of_models_serves_those_that_are_named(server: CompletionsServer) -> None:
    server.models = ()
    with pytest.raises(InputError, match=r"name the models in engine\.servers \(HTTP 404"):
        ask(server, text())
    engine = OpenAIEngine(servers=(Server(base_url=server.url, models=("m",)),))
    assert [reply.error for reply in engine.generate(text())] == [None]


def test_each_server_has_its_own_models_and_key(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-default")
    monkeypatch.setenv("BIG_KEY", KEY)
    server.key = KEY
    with CompletionsServer(("small",)) as local, CompletionsServer(("other",)) as default:
        big = Server(base_url=server.url, models=("big",), key="BIG_KEY")
        engine = OpenAIEngine(default.url, (big, Server(base_url=local.url)))
        requests = [replace(text()[0], id=name, model=Model(name)) for name in ("big", "small", "other")]
        assert all(reply.error is None for reply in engine.generate(requests))
        bodies = [[body["model"] for body in each.bodies] for each in (server, local, default)]
        assert bodies == [["big"], ["small"], ["other"]]
        sent = [each.headers[0].get("Authorization") for each in (server, local, default)]
        assert sent == [f"Bearer {KEY}", None, "Bearer sk-default"]
        assert KEY not in str(engine.settings()) + str(vars(engine))
        monkeypatch.delenv("BIG_KEY")
        with pytest.raises(InputError, match=r"engine\.servers: BIG_KEY, the key of .* environment"):
            list(engine.generate(requests))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_leaks_no_key(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with CompletionsServer() as thief:
        answer(server, {}, status, Location=f"{thief.url}/completions?key={KEY}")
        error = str(ask(server, text())["r0"].error)
        assert f"HTTP {status}: the server redirects to 127.0.0.1" in error
        assert KEY not in error
        assert (thief.accepted, len(server.bodies)) == (0, 1)


@pytest.mark.parametrize("location", ["http://[::1", "/v2/models", ""])
def test_a_redirect_to_no_host_is_reported(server: CompletionsServer, location: str) -> None:
    server.raw = lambda _: (302, {"Location": location}, b"")
    assert "redirects to another path" in str(ask(server, text())["r0"].error)


@pytest.mark.parametrize("host", ["a..b", ".", "h" * 70])
def test_a_name_that_no_host_has_is_an_address_without_a_server(host: str) -> None:
    engine = OpenAIEngine(f"http://{host}/v1", retries=0)
    listed = OpenAIEngine(servers=(Server(base_url=f"http://{host}/v1"),), retries=0)
    with pytest.raises(InputError, match=r"engine\.servers: .*: is the server running\?"):
        listed.names()
    with pytest.raises(InputError, match=r"engine\.base_url: .*: is the server running\?"):
        engine.names()


def test_servers_are_set_as_a_user_writes_them() -> None:
    written = {"base_url": "http://h/v1", "models": ["m"], "price": {"input": 0.5, "output": 1}}
    engine = engines.load("openai", {"servers": [written]})
    assert isinstance(engine, OpenAIEngine)
    assert engine.price("m") == Price(input=0.5, output=1.0)
    assert engine.price("n") is None
    assert engine.settings()["prices"] == {"m": {"input": 0.5, "output": 1.0}}
    assert json.loads(json.dumps(engine.settings())) == engine.settings()
    assert engines.load("openai", {"base_url": "http://h/v1"}).settings()["servers"] == ["h"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"url": "http://h"}, r"engine\.servers\[0\].*|engine\.\?"),
        ({"key": KEY}, r"engine\.servers\[0\]\.key"),
        ({"price": {"input": 1}}, r"engine\.servers\[0\]\.price"),
        ({"requests_per_minute": 0}, r"engine\.servers\[0\]\.requests_per_minute"),
    ]
    for fields, message in wrong:
        with pytest.raises(InputError, match=message) as error:
            engines.load("openai", {"servers": [written | fields]})
        assert KEY not in str(error.value)


def test_stop_strings_that_a_server_refuses_are_cut_here(server: CompletionsServer) -> None:
    refusal = {"error": {"message": "Unsupported parameter", "param": "stop"}}

    def refuse(body: dict[str, Any]) -> Raw | None:
        return (400, {}, json.dumps(refusal).encode()) if "stop" in body else None

    server.raw = refuse
    server.chat = lambda prompt: "One.\n\nHuman: two"
    assert ask(server, chat(stop=("Human:",)))["r0"].text == "One.\n\n"
    refusal["error"]["param"] = "temperature"
    answer(server, refusal, status=400)
    assert "HTTP 400" in str(ask(server, chat())["r0"].error)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of `Rates`, in whole tenths of a second, none of them waited for."""
    recorded: list[float] = []

    async def sleep(seconds: float) -> None:
        recorded.append(round(seconds, 1))

    monkeypatch.setattr(servers, "sleep", sleep)
    return recorded


def test_requests_and_tokens_keep_to_their_rates(waits: list[float]) -> None:
    async def run() -> None:
        requests, tokens = servers.Rates(30, None), servers.Rates(None, 600)
        for _ in range(3):
            await requests.enter(1000)
        waits.append(-1)
        await tokens.enter(100)
        tokens.correct(-50)
        await tokens.enter(100)
        await servers.Rates(None, None).enter(1e6)

    asyncio.run(run())
    assert waits == [2, 4, -1, 5]


def test_a_servers_own_rates_are_heeded(waits: list[float]) -> None:
    async def run() -> None:
        for remaining, reset in (("1", "9s"), ("0", "soon"), ("0", "1m2s"), ("0", "6h")):
            rates = servers.Rates(None, None)
            rates.heed(
                {"x-ratelimit-remaining-requests": remaining, "x-ratelimit-reset-requests": reset}, 500
            )
            await rates.enter(1)
        rates = servers.Rates(None, None)
        rates.heed({"x-ratelimit-remaining-tokens": "499", "x-ratelimit-reset-tokens": "700ms"}, 500)
        await rates.enter(1)

    asyncio.run(run())
    assert waits == [62, servers.LONGEST_PAUSE, 0.7]


def test_a_wait_is_seconds_or_a_date() -> None:
    assert _retry_after("3") == 3.0
    assert not any(map(_retry_after, ("", "0", "-1", "soon", "Thu, 01 Jan 1970 00:00:00 GMT")))
    soon = _retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert soon is not None and 0 < soon <= 30


def test_a_request_that_is_put_off_for_hours_has_failed(server: CompletionsServer) -> None:
    server.retry_after = "3600"
    server.fault = lambda prompt, attempt: "429"
    assert "HTTP 429" in str(ask(server, text())["r0"].error)
    assert len(server.bodies) == 1


def priced(server: CompletionsServer, **options: Any) -> OpenAIEngine:
    return OpenAIEngine(servers=(Server(base_url=server.url, price=PRICE),), **{"concurrency": 1, **options})


def test_replies_have_their_cost(server: CompletionsServer, tmp_path: Path) -> None:
    requests = text(5)
    first, second = (
        list(JournaledGenerator(engine, JournalSession(tmp_path / "journal")).generate(requests))
        for engine in (priced(server), priced(server))
    )
    assert len(server.bodies) == 5
    usages = []
    for replies in (first, second):
        usages.append(Usage())
        for reply in replies:
            assert reply.cost == pytest.approx(0.1 * reply.prompt_tokens + reply.completion_tokens)
            usages[-1].add(reply)
    assert usages[0] == usages[1]
    assert usages[0].cost > 5
    answer(server, completion(text="Well, well."))  # without counts the cost is estimated
    assert 2 < next(iter(priced(server).generate(text()))).cost < 4


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_run_spends_no_more_than_its_money(
    server: CompletionsServer, tmp_path: Path, concurrency: int
) -> None:
    requests = text(50)
    greatest = greatest_cost(requests[-1], PRICE)
    kept: list[Reply] = []

    def run(**options: Any) -> None:
        session = JournalSession(tmp_path / "journal")
        kept.extend(JournaledGenerator(priced(server, **options), session).generate(requests))

    with pytest.raises(CannotStart, match=r"run\.max_cost 100: .* is spent, .* requests are not sent"):
        run(max_cost=100, concurrency=concurrency)
    assert 100 - greatest < sum(reply.cost for reply in kept) <= 100
    assert all(reply.cost <= greatest for reply in kept)
    assert len(server.bodies) == len(kept)
    kept.clear()
    run()
    assert (len(server.bodies), len(kept)) == (50, 50)


UNREADABLE = {
    "no choice": {"choices": []},
    "no choices": {"error": {"message": "overloaded"}},
    "an image": completion(message={"content": [{"type": "image_url", "image_url": "x"}]}, text=7),
    "filtered": completion("content_filter", text="W", message={"content": "W"}),
}


@pytest.mark.parametrize("requests", [text(4), chat() * 4], ids=["text", "chat"])
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_failed_reply_that_was_billed_counts(
    server: CompletionsServer, tmp_path: Path, requests: list[Request], name: str
) -> None:
    """Once, in the cost and in the limit; a later version that keeps the failure has its cost too."""
    answer(server, UNREADABLE[name] | {"usage": {"prompt_tokens": 10, "completion_tokens": 2}})
    limit = replace(requests[0].sampling, max_new_tokens=2)
    requests = [replace(request, id=str(n), seed=n, sampling=limit) for n, request in enumerate(requests)]
    max_cost = greatest_cost(requests[0], PRICE) + 4

    def run(session: JournalSession, **options: Any) -> list[Reply]:
        generator = JournaledGenerator(priced(server, retries=2, **options), session, max_failures=1.0)
        return list(generator.generate(requests))

    session = JournalSession(tmp_path / "journal", "first@1.0.0")
    with pytest.raises(CannotStart, match=r"run\.max_cost .*: 6 is spent, 2 requests are not sent"):
        run(session, max_cost=max_cost)
    assert len(server.bodies) == 2, "what was billed is not asked for again"
    paid = run(session)
    assert [(reply.finish_reason, reply.cost) for reply in paid] == [("error", pytest.approx(3))] * 4
    session.mark_published()
    server.bodies.clear()
    again = run(JournalSession(tmp_path / "journal", "second@1.0.0"))
    assert [reply.cost for reply in again] == [reply.cost for reply in paid]
    assert server.bodies == []


def test_attempts_that_were_billed_are_in_the_cost_of_the_reply(server: CompletionsServer) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    answers = iter([completion("abort", usage, text="We"), completion("stop", usage, text="Well.")])
    server.raw = lambda _: (200, {}, json.dumps(next(answers)).encode())
    (reply,) = priced(server).generate(text())
    assert (reply.text, reply.cost) == ("Well.", pytest.approx(6))


def test_an_attempt_that_was_billed_is_not_repeated_for_money_that_is_not_left(
    server: CompletionsServer,
) -> None:
    [request] = text()
    answer(server, completion("abort", {"prompt_tokens": 10, "completion_tokens": 2}, text="We"))
    (reply,) = priced(server, max_cost=greatest_cost(request, PRICE) + 1).generate([request])
    assert (len(server.bodies), reply.finish_reason, reply.cost) == (1, "error", pytest.approx(3))


def test_a_limit_of_money_needs_prices(server: CompletionsServer) -> None:
    with pytest.raises(InputError, match=r"run\.max_cost: engine\.servers has no price for m at 127"):
        ask(server, text(), max_cost=1.0)


LADDER = """
[responses]
probes = []
responders = [
    { name = "big", model = "m", prompt = "hhh", shots = 1, max_new_tokens = 20 },
    { name = "small", model = "n", prompt = "hhh", shots = 1, max_new_tokens = 20 },
]
[[engine.servers]]
base_url = "URL"
price = { input = 0.5, output = 1000 }
"""
BUILD = ("build", "responses", "--engine", "openai", "--config", "ladder.toml", "--from", "queries")
ROOT = ("--root", "out")


@pytest.fixture
def folder(server: CompletionsServer, tmp_path: Path) -> Path:
    """A folder with a store of two queries, and a ladder of two models."""
    server.models = ("m", "n")
    (tmp_path / "queries.txt").write_text("How do I keep basil alive indoors?\nWhat is tea made from?\n")
    (tmp_path / "ladder.toml").write_text(LADDER.replace("URL", server.url))
    done = run_command("import", "queries", "queries.txt", "--version", "1.0.0", *ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def twins(*servers: Server, **changes: Any) -> None:
    """Plan two responders that are equal but for their names, and these changes of the second."""
    first = Responder(name="big", model="default", prompt="hhh", shots=1)
    second = msgspec.structs.replace(first, name="small", **changes)
    BUILDER.pins(ResponsesConfig(responders=(first, second)), OpenAIEngine(servers=servers))


def test_equal_responders_are_refused_where_servers_would_mix_them() -> None:
    """The address is no part of a responder, so both servers would answer for both of them."""
    first, second = (Server(base_url=f"http://{host}/v1") for host in ("a", "b"))
    named = [msgspec.structs.replace(server, models=("default",)) for server in (first, second)]
    for mixing in ((first, second), named):
        with pytest.raises(InputError, match=r"'big' and 'small'.* 2 servers would share .* its own name"):
            twins(*mixing)
        with pytest.raises(InputError):
            twins(*mixing, model="default@2")
    for apart in ((first,), (first, first), (named[0], second)):
        twins(*apart)
    for changes in ({"shots": 3}, {"model": "tiny"}):
        twins(first, second, **changes)


def test_a_build_says_as_what_its_models_answered(
    server: CompletionsServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each model; the replies of the journal are those of the same server."""
    server.names = {"m": "m-2024-08-06", "n": "tiny"}
    warning = "Asked for 'n', the server answered as 'tiny'. Its replies may be those of another model."
    for version in ("1.0.0", "1.1.0"):
        done = run_command(*BUILD, "--version", version, *ROOT, cwd=folder, columns=200)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Asked for 'm', the server answered as 'm-2024-08-06'.") == 1
        assert done.stdout.count(warning) == 1
        assert caplog.messages == [warning], "only while it is asked"
        artifact = Store(folder / "out")[f"responses@{version}"]
        assert artifact.manifest.environment["engine"]["answered_as"] == {
            "m": ["m-2024-08-06"],
            "n": ["tiny"],
        }
        assert warning in artifact.manifest.diagnostics["notes"]
        assert "| asked for `m` | the server answered as `m-2024-08-06` |" in artifact.card
    server.names = {}
    done = run_command(*BUILD, "--version", "2.0.0", "--set", "responses.seed=7", *ROOT, cwd=folder)
    assert "answered" not in done.stdout
    assert "answered_as" not in Store(folder / "out").manifest("responses@2.0.0").environment["engine"]


def test_a_build_tells_its_cost(server: CompletionsServer, folder: Path) -> None:
    """Dry, stopped by its money, and whole."""

    def build(*arguments: str) -> Any:
        return run_command(*BUILD, *arguments, *ROOT, cwd=folder, columns=200)

    dry = build("--dry-run")
    assert dry.returncode == 0, dry.stderr
    for words in ("cost, at most", "in the currency of your prices", "Build with a small --limit first"):
        assert words in " ".join(dry.stdout.split())
    assert server.accepted == 0
    stopped = build("--max-cost", "0.025", "--set", "engine.concurrency=1")
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1)
    assert "--max-cost 0.025: " in stopped.stderr
    assert len(server.bodies) == 1
    done = build()
    assert done.returncode == 0, done.stderr
    assert len(server.bodies) == 4
    store = Store(folder / "out")
    manifest = store.manifest("responses@0.1.0")
    spent, total = manifest.environment["engine"]["spent"], total_usage([manifest])["cost"]
    assert 0 < spent < total, "the stopped run paid for a reply"
    again = build("--version", "0.2.0", "--dry-run").stdout
    [whole] = [line for line in again.splitlines() if line.startswith("all ")]
    assert "expected" in again and whole.endswith(f" {total:.4g}"), "as long as the replies before"
    line = (
        f"cost of the replies: {total:,.4g}, {spent:,.4g} of that in this run, in the currency of your prices"
    )
    assert line in done.stdout
    again = build("--version", "0.1.1")
    assert f"cost of the replies: {total:,.4g}, 0 of that in this run" in again.stdout
    assert "spent" not in store.manifest("responses@0.1.1").environment["engine"]
    card = next((folder / "out" / "responses").rglob("README.md")).read_text("utf-8")
    assert "the replies cost" in card
    assert server.url not in card
    ladder = '{name="a", model="m", prompt="hhh", shots=1}, {name="b", model="x", prompt="hhh", shots=1}'
    wrong = build("--version", "0.2.0", "--set", f"responses.responders=[{ladder}]")
    assert wrong.returncode == 2
    assert "x: not served at" in wrong.stderr


@pytest.mark.crash
def test_killed_and_run_again_no_reply_is_paid_twice(server: CompletionsServer, folder: Path) -> None:
    """The second half hangs until the first is in the journal; then kill -9."""
    late = "What is tea made from?"
    server.fault = lambda prompt, attempt: "hang" if late in prompt else None
    command = [sys.executable, "-m", "almost_data", *BUILD, *ROOT]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        journal = folder / "out" / "journal.sqlite"
        until(lambda: journal.is_file() and count(journal) == 2, "half of the replies are on disk")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    server.fault = lambda prompt, attempt: None
    server.bodies.clear()
    assert run_command(*BUILD, *ROOT, cwd=folder).returncode == 0
    assert [late in body["prompt"] for body in server.bodies] == [True, True]
    total = total_usage([Store(folder / "out").manifest("responses@0.1.0")])
    assert total["requests"] == 4
    assert total["cost"] == pytest.approx(
        (0.5 * total["prompt_tokens"] + 1000 * total["completion_tokens"]) / 1e6
    )
