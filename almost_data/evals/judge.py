"""A judge behind an OpenAI-compatible chat server. The journal keeps its verdicts as replies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import InputError
from ..generation import Model, Request
from ..generation.answered import warnings
from ..generation.client import redacted
from ..generation.journal import MAX_FAILURES, JournaledGenerator
from ..generation.openai import OpenAIEngine
from ..scoring import verdicts
from ..scoring.verdicts import Verdict
from .evaluation import EvalSession

CONCURRENCY = 16
RETRIES = 5
"""Of one verdict: about 25 seconds of waiting."""
SECONDS = 120.0
"""That one verdict may take."""


def engine(url: str, timeout: float = SECONDS, retries: int = RETRIES) -> OpenAIEngine:
    """The judge's server. Raises InputError for a wrong address. The key is `OPENAI_API_KEY`."""
    with errors_name("eval.judge"):
        return OpenAIEngine((url,), concurrency=CONCURRENCY, timeout=timeout, retries=retries)


def only_model(server: OpenAIEngine) -> str:
    """The name of the one model that the server has. Raises InputError where it has none, or several."""
    with errors_name("eval.judge"):
        names = server.names()
    if len(names) != 1:
        listed = ", ".join(redacted(name, 100) for name in names[:10]) or "none"
        raise InputError(
            f"eval.judge_model: the judge's server has {len(names)} models: name one of: {listed}"
        )
    return names[0]


def check(server: OpenAIEngine, name: str) -> None:
    """Raise InputError where the server cannot be reached or does not list the judge."""
    with errors_name("eval.judge"):
        server.resolve(Model(name))
        server.check()


def ask(
    session: EvalSession,
    server: OpenAIEngine,
    requests: Sequence[Request],
    answers: int = 2,
    max_failures: float = MAX_FAILURES,
) -> dict[str, Verdict]:
    """The verdict of each request on so many answers, by its id. Those in the journal are not asked again."""
    journaled = JournaledGenerator(server, session.journal, max_failures, retry_failed=True)
    by_id: dict[str, Verdict] = {}
    tokens = 0
    for reply in journaled.generate(requests):
        tokens += reply.completion_tokens
        by_id[reply.id] = verdicts.read(reply, answers)
        session.progress("verdicts", len(by_id), len(requests), tokens)
    session.notes.extend(warnings(journaled.answered_as))
    return by_id


@contextmanager
def errors_name(setting: str) -> Iterator[None]:
    """Errors of the engine, naming the setting by which its server was given."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("engine.base_url", setting)) from None
