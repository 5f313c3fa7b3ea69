"""A server of completions and chat on 127.0.0.1 that misbehaves on order, and counts what it was asked."""

import hashlib
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTEXT = 256
"""Words of prompt and reply together."""
SYLLABLES = "ba ko li mu ra te vo zi".split()


Raw = tuple[int, dict[str, str], bytes]


def no_fault(prompt: str, attempt: int) -> str | None:
    return None


class CompletionsServer(ThreadingHTTPServer):
    """Text depends on model, prompt, temperature and seed alone; one word is one token.

    `fault` names what goes wrong with an attempt (1, 2, ...) at a prompt, or None: a status such as
    "429", "garbage", "no choices", "abort", "filter", "drop", "half" or "hang". A chat's prompt is its last
    message, and `chat` says what is answered, None for null.
    """

    daemon_threads = False  # closing waits for them
    request_queue_size = 256

    def __init__(self, models: tuple[str, ...] = ("m",), port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.models = models
        self.fault: Callable[[str, int], str | None] = no_fault
        self.chat: Callable[[str], str | None] = lambda prompt: f"You said: {prompt}"
        self.finish_reason = "stop"
        """Of a chat."""
        self.raw: Callable[[dict[str, Any]], Raw | None] = lambda body: None
        """Status, headers and bytes to answer with instead."""
        self.headers: list[dict[str, str]] = []
        """Of all requests."""
        self.names: dict[str, str] = {}
        """Model -> the name in its answers, where that is another."""
        self.message: dict[str, Any] = {}
        """Fields of a chat's message besides its content."""
        self.answered: Counter[str] = Counter()
        """Chats by prompt."""
        self.capacity = 1000
        """Attempts at once; one more is answered 429."""
        self.delay = 0.0
        self.context = CONTEXT
        """Words of a chat's prompt."""
        self.key: str | None = None
        """What it wants as a Bearer token."""
        self.retry_after = "0.01"
        self.bodies: list[dict[str, Any]] = []
        self.attempts: Counter[str] = Counter()
        self.connections: set[socket.socket] = set()
        self.accepted = self.flying = self.peak = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __exit__(self, *error: object) -> None:
        """As if killed: connections break off."""
        self.closing.set()
        self.shutdown()
        self.thread.join()
        with self.lock:
            for connection in self.connections:
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    server: CompletionsServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)
            self.server.accepted += 1

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        if self._refused():
            return
        if self.path == "/v1/models" and self.server.models:
            models = [
                {"id": id, "object": "model", "created": 0, "owned_by": ""} for id in self.server.models
            ]
            self._send(200, {"object": "list", "data": models})
        else:
            self._error(404, "Not Found")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return None
        server = self.server
        if self.path.endswith("/chat/completions"):
            body["prompt"] = body["messages"][-1]["content"]
        with server.lock:
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.attempts[body["prompt"]] += 1
            attempt = server.attempts[body["prompt"]]
            server.flying += 1
            server.peak = max(server.peak, server.flying)
            full = server.flying > server.capacity
        fault = "429" if full else server.fault(body["prompt"], attempt)
        server.closing.wait(server.delay)
        if fault == "hang":
            server.closing.wait(5)
        with server.lock:  # before the answer, after which the client may ask again
            server.flying -= 1
        if raw := server.raw(body):
            return self._bytes(raw[0], raw[2], headers=raw[1])
        return self._answer(body, fault)

    def _answer(self, body: dict[str, Any], fault: str | None) -> None:
        if fault in ("hang", "drop") or self.server.closing.is_set():
            self.close_connection = True
        elif fault and fault.isdigit():
            self._error(int(fault), f"told to say {fault} to {self.headers['Authorization']}")
        elif fault == "max_tokens":
            error = {"message": "Unsupported parameter", "type": "error", "param": "max_tokens", "code": None}
            self._send(400 if "max_tokens" in body else 500, {"error": error})
        elif fault == "no message":
            self._send(200, {"choices": [{"index": 0, "text": "Well", "finish_reason": "stop"}]})
        elif fault == "no choices":
            self._send(200, {"choices": []})
        elif fault in ("garbage", "half"):
            self._bytes(200, b'{"choices": [{"te', missing=100 if fault == "half" else 0)
        elif fault:
            message = (
                {"message": {"role": "assistant", "content": "Well"}}
                if "messages" in body
                else {"text": "Well"}
            )
            choice = {"index": 0, "finish_reason": fault, "logprobs": None, **message}
            self._send(200, {"choices": [choice]})
        elif len(body["prompt"].split()) >= self.server.context:
            self._error(400, f"This model's maximum context length is {CONTEXT} tokens")
        elif "messages" in body:
            content = self.server.chat(body["prompt"])
            message = {"role": "assistant", "content": content} | self.server.message
            choice = {"index": 0, "message": message, "finish_reason": self.server.finish_reason}
            with self.server.lock:
                self.server.answered[body["prompt"]] += 1
            usage = {"prompt_tokens": 3, "completion_tokens": 2}
            self._send(200, {"model": self._name(body), "choices": [choice], "usage": usage})
        else:
            self._complete(body)

    def _complete(self, body: dict[str, Any]) -> None:
        read, limit = len(body["prompt"].split()), body["max_tokens"]
        if read + limit > CONTEXT:
            return self._error(400, f"This model's maximum context length is {CONTEXT} tokens")
        decides = [body["model"], body["prompt"], body["temperature"], body.get("seed")]
        rng = random.Random(hashlib.sha256(json.dumps(decides).encode()).digest())
        words = [" " + "".join(rng.choices(SYLLABLES, k=3)) for _ in range(rng.randint(2, 60))]
        text, reason = "".join(words[:limit]), "length" if len(words) > limit else "stop"
        places = [at for stop in body.get("stop") or [] if (at := text.find(stop)) >= 0]
        if places:
            text, reason = text[: min(places)], "stop"
        usage = {"prompt_tokens": read, "completion_tokens": len(text.split()), "total_tokens": 0}
        choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
        details = {"prompt_tokens_details": {"cached_tokens": read // 2}}
        return self._send(200, {"model": self._name(body), "choices": [choice], "usage": usage | details})

    def _name(self, body: dict[str, Any]) -> str:
        return self.server.names.get(body["model"], body["model"])

    def _refused(self) -> bool:
        wrong = self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}"
        if wrong:
            key = str(self.headers["Authorization"]).split()[-1]
            self._error(401, f"Incorrect API key provided: {key}.")
        return bool(wrong)

    def _error(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": "error", "code": status}})

    def _send(self, status: int, value: object) -> None:
        self._bytes(status, json.dumps(value).encode())

    def _bytes(
        self, status: int, body: bytes, missing: int = 0, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status == 429:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = self.close_connection or missing > 0

    def log_message(self, *args: object) -> None:
        pass
