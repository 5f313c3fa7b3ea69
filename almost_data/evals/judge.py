"""A judge behind an OpenAI-compatible chat server: a question and two answers in, two scores out.

Its verdicts are replies like any other, so the journal keeps them. What it says is read strictly: two
scores in our own form on the last line, or as the first line of the saved reviews of FastChat (`8 9.5`).
Anything else is no verdict, which is counted and kept, and never a tie.
"""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Literal

from ..errors import InputError
from ..generation import Generator, Model, Reply, Request, Sampling
from ..generation.client import redacted
from ..generation.openai import BY_CHAT, OpenAIEngine

LOWEST, HIGHEST = 1.0, 10.0
TOKENS = 1024
"""Of an explanation with its scores."""
CONCURRENCY = 16
RETRIES = 5
"""Of one verdict, about 25 seconds apart from the time that the judge takes."""
SECONDS = 120.0
"""That one verdict may take."""
Why = Literal["no scores", "out of range", "two verdicts", "cut off", "failed"]

_NUMBER = r"(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)"
_PAIR = rf"{_NUMBER}(?:[ \t]*,[ \t]*|[ \t]+){_NUMBER}"
_FIRST = re.compile(_PAIR)
_LAST = re.compile(rf"scores?:[ \t]*{_PAIR}", re.IGNORECASE)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""What a reasoning model writes first, where its server does not take it off."""


@dataclass(frozen=True)
class Verdict:
    """What a judge said of two answers; without scores, `why` says what was wrong with it."""

    text: str
    scores: tuple[float, float] | None
    """Of the answer in first place, and of the one in second place."""
    why: Why | None = None
    error: str | None = None


def prompt() -> str:
    """The text that a judge is asked with, before question and answers are put in."""
    return resources.files("almost_data.generation.prompts").joinpath("judge.txt").read_text("utf-8")


def ask(question: str, first: str, second: str) -> str:
    """The prompt for one verdict, each text in a fence that none of the three can close.

    The word in the fence is a hash of the texts, and another one where it should occur in them.
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
    return [Request(id, model, "", ask(question, one, two), sampling) for id, question, one, two in pairs]


def served(name: str) -> Model:
    """A judge by the name that its server gives it: nobody can pin more of it."""
    return Model(name, BY_CHAT)


def engine(url: str, timeout: float = SECONDS, retries: int = RETRIES, flag: str = "--judge") -> OpenAIEngine:
    """What asks the server. Raises InputError where the address is none. The key is `OPENAI_API_KEY`."""
    return chat((url,), flag, concurrency=CONCURRENCY, timeout=timeout, retries=retries)


def chat(base_url: tuple[str, ...], flag: str, **options: float) -> OpenAIEngine:
    """The openai engine, asking by chat; its errors name `flag`."""
    try:
        made = OpenAIEngine(base_url, **options)  # type: ignore[arg-type]
    except InputError as error:
        raise _renamed(error, flag) from None
    made.chat = True
    return made


def only(made: OpenAIEngine) -> str:
    """The name of the one model that the server has. Raises InputError where it has none, or several."""
    try:
        names = made.names()
    except InputError as error:
        raise _renamed(error, "--judge") from None
    if len(names) != 1:
        known = ", ".join(redacted(name, 100) for name in names[:10]) or "none"
        raise InputError(f"--judge-model: the judge's server has {len(names)} models: name one of: {known}")
    return names[0]


def check(made: Generator, name: str, flag: str = "--judge") -> None:
    """Raise InputError where the server is not there or does not list the judge."""
    try:
        made.resolve(served(name))
    except InputError as error:
        raise _renamed(error, flag) from None


def _renamed(error: InputError, flag: str) -> InputError:
    """What the engine says, of the flag by which its server was given."""
    return InputError(str(error).replace("engine.base_url", flag))


def read(reply: Reply) -> Verdict:
    """The verdict in a judge's reply."""
    if reply.error is not None:
        return Verdict("", None, "failed", reply.error)
    return parse(reply.text, whole=reply.finish_reason == "stop")


def parse(text: str, whole: bool = True, lowest: float = LOWEST) -> Verdict:
    """The two scores in a judge's text; of one that is not `whole`, the last line is not taken for its last.

    >>> parse("The second one is wrong.\\n\\nScores: 8 3.5").scores
    (8.0, 3.5)
    >>> parse("8 9\\nThe second one says more.").scores
    (8.0, 9.0)
    >>> parse("Both are fine, 8 or 9.").why
    'no scores'
    """
    lines = [line.strip(" \t\r*_`#") for line in _THOUGHT.sub("", text, count=1).strip().split("\n")]
    found = [match for match in (_FIRST.fullmatch(lines[0]),) if match]
    if last := _LAST.fullmatch(lines[-1].rstrip(".")):
        if not whole and not found:
            return Verdict(text, None, "cut off")
        found += [last] if whole else []
    if not found:
        return Verdict(text, None, "no scores" if whole else "cut off")
    pairs = {(float(match[1]), float(match[2])) for match in found}
    if len(pairs) > 1:
        return Verdict(text, None, "two verdicts")
    return checked(text, next(iter(pairs)), lowest)


def checked(text: str, scores: tuple[float, float], lowest: float = LOWEST) -> Verdict:
    """A verdict of these scores, if they are on the scale."""
    if not all(math.isfinite(score) and lowest <= score <= HIGHEST for score in scores):
        return Verdict(text, None, "out of range")
    return Verdict(text, scores)
