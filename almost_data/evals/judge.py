"""A judge behind an OpenAI-compatible chat server: a question and two answers in, two scores out.

The journal keeps its verdicts as replies. They are read strictly: two scores on the last line in the form
that the prompt asks for, or on the first line as in the saved reviews of FastChat (`8 9.5`). Any other text
is counted as unread, and never as a tie.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Literal

from ..errors import InputError
from ..generation import Model, Reply, Request, Sampling
from ..generation.client import redacted
from ..generation.openai import AS_SERVED, OpenAIEngine
from ..models.chat import split_reasoning, user_turn

LOWEST, HIGHEST = 1.0, 10.0
TOKENS = 1024
"""Of an explanation with its scores."""
CONCURRENCY = 16
RETRIES = 5
"""Of one verdict: about 25 seconds of waiting."""
SECONDS = 120.0
"""That one verdict may take."""
Why = Literal["no scores", "out of range", "two verdicts", "cut off", "failed"]

_NUMBER = r"(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)"
_PAIR = rf"{_NUMBER}(?:[ \t]*,[ \t]*|[ \t]+){_NUMBER}"
_FIRST = re.compile(_PAIR)
_LAST = re.compile(rf"scores?:[ \t]*{_PAIR}", re.IGNORECASE)
_EMPHASIS = re.compile(r"[*_`#]")
"""Marks of Markdown, as in `**Scores:** 8 7`."""


@dataclass(frozen=True)
class Verdict:
    """A judge's text on two answers; without scores, `why` says why it was not read."""

    text: str
    scores: tuple[float, float] | None
    """Of the first answer, and of the second one."""
    why: Why | None = None
    error: str | None = None


def prompt() -> str:
    """The judge's prompt, without question and answers."""
    return resources.files("almost_data.generation.prompts").joinpath("judge.txt").read_text("utf-8")


def ask(question: str, first: str, second: str) -> str:
    """The prompt for one verdict, each text in a fence that none of the three can close.

    The word in the fence is a hash of the texts, and another hash where it occurs in them.
    """
    texts = (question, first, second)
    tag = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:12]
    while any(tag in text for text in texts):
        tag = hashlib.sha256(tag.encode()).hexdigest()[:12]
    # In one pass: a `$answer_2` in an answer is text.
    return Template(prompt()).substitute(tag=tag, question=question, answer_1=first, answer_2=second)


def requests(
    model: Model, pairs: Iterable[tuple[str, str, str, str]], temperature: float = 0.0, tokens: int = TOKENS
) -> list[Request]:
    """One request for each (id, question, first answer, second answer)."""
    sampling = Sampling(tokens, temperature)
    return [
        Request.chat(request_id, model, user_turn(ask(question, first, second)), sampling)
        for request_id, question, first, second in pairs
    ]


def served(name: str) -> Model:
    """A judge by its name on the server, which is all that pins it."""
    return Model(name, AS_SERVED)


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


@contextmanager
def errors_name(setting: str) -> Iterator[None]:
    """Errors of the engine, naming the setting by which its server was given."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("engine.base_url", setting)) from None


def read(reply: Reply) -> Verdict:
    """The verdict in a judge's reply."""
    if reply.error is not None:
        return Verdict("", None, "failed", reply.error)
    return parse(reply.text, whole=reply.finish_reason == "stop")


def parse(text: str, whole: bool = True, lowest: float = LOWEST) -> Verdict:
    """The two scores in a judge's text. Of a text that is not `whole`, only the first line is read.

    >>> parse("The second one is wrong.\\n\\nScores: 8 3.5").scores
    (8.0, 3.5)
    >>> parse("**Scores:** 8 3").scores
    (8.0, 3.0)
    >>> parse("8 9\\nThe second one says more.").scores
    (8.0, 9.0)
    >>> parse("Both are fine, 8 or 9.").why
    'no scores'
    """
    plain = _EMPHASIS.sub("", split_reasoning(text)[1])
    lines = [line.strip() for line in plain.strip().split("\n")]
    matches = [match for match in (_FIRST.fullmatch(lines[0]),) if match]
    if last := _LAST.fullmatch(lines[-1].rstrip(".")):
        if not whole and not matches:
            return Verdict(text, None, "cut off")
        matches += [last] if whole else []
    if not matches:
        return Verdict(text, None, "no scores" if whole else "cut off")
    pairs = {(float(match[1]), float(match[2])) for match in matches}
    if len(pairs) > 1:
        return Verdict(text, None, "two verdicts")
    return checked(text, next(iter(pairs)), lowest)


def checked(text: str, scores: tuple[float, float], lowest: float = LOWEST) -> Verdict:
    """The verdict of these scores, if they are on the scale."""
    if not all(math.isfinite(score) and lowest <= score <= HIGHEST for score in scores):
        return Verdict(text, None, "out of range")
    return Verdict(text, scores)
