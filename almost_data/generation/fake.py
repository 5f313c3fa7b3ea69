"""An engine without a model: the same text for the same request, with the faults of real text.

Some replies are too short, end in a question, evade ("I don't know"), run into the next turn, or hit the
token limit, so that every filter and every stop marker has work to do. Under the template option
`enable_thinking` each reply to messages has reasoning. The prompt of a judge gets a verdict. Its models are
called `fake/...`, so that its text never passes for a real model's.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from . import Model, Reply, Request, cut_at_stop

REVISION = "1"
"""Goes up whenever the same request would get another text."""

_SYLLABLES = "ba|ko|li|mu|ra|te|vo|zi|pha|dre|gnu|sto|que|wim|lor|nax".split("|")
_SCORES = re.compile(r"\n(Scores?: X(?: Y)?)\s*\Z")
"""How the prompt of a judge ends."""
_OPENINGS = (
    "How do I repair|What is the history of|Can you plan a visit to|Why do people collect|"
    "Explain like a teacher|Which mistakes come with|Please compare every kind of|Is it worth buying|"
    "List five uses of"
).split("|")
_MIDDLES = "made from|next to|smelling of|older than|shared with|hidden under|named after|painted like".split(
    "|"
)
_ENDINGS = (
    "on a tight budget|before the winter|with two children|without a car|in one week|for a friend|"
    "at high altitude|in a rented house|on a rainy weekend|near the sea|during a heat wave|"
    "by next Tuesday|while travelling"
).split("|")
_SENTENCES = (
    "Start with what you already have at hand.|Take it one step at a time, and write down what works.|"
    "A {0} needs less effort than most people think.|The first week is the hardest part of it.|"
    "Ask somebody who owns a {0} before you spend money.|Check it again after a few days.|"
    "It helps to compare a {0} with a {1} first.|There is no single right answer here.|"
    "Keep the instructions somewhere dry.|A cheap one will do for the first year.|"
    "If it breaks, a local shop can often repair it.|Two hours on a Sunday are enough for this.|"
    "Leave some room for mistakes!|Most of the cost is in the small parts.|Read the label before you begin."
).split("|")


class FakeEngine:
    """Deterministic text; honours seeds, loads nothing, never fails."""

    name = "fake"
    honours_seed = True
    load_seconds = 0.0

    def resolve(self, model: Model) -> Model:
        name = model.id.removeprefix("fake/").rpartition(":")[2].strip("/").replace("/", "--")
        return Model(f"fake/{name}", REVISION)

    def settings(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        ids: set[str] = set()
        rng = random.Random()
        for request in requests:
            if request.id in ids:
                raise ValueError(f"request id {request.id!r} occurs twice")
            ids.add(request.id)
            yield _reply(request, rng)


def _reply(request: Request, rng: random.Random) -> Reply:
    prompt = request.prompt
    if request.messages:
        prompt = json.dumps([request.messages, request.template_options], ensure_ascii=False)
    if not prompt:
        return Reply.failed(request.id, "the prompt is empty")
    prefix, text = ("", prompt) if request.messages else (request.prefix, request.text)
    begun, prompt_tokens = _begin(request.model.id, prefix)
    # Not the stop strings or the token limit: they only cut the text.
    settings = (request.sampling.temperature, request.sampling.top_p, request.seed, request.sample)
    key = begun.copy()
    key.update(f"{text}\0{settings}".encode())
    rng.seed(key.digest())
    prompt_tokens += len(text.split())
    if prefix and text and not prefix[-1].isspace() and not text[0].isspace():
        prompt_tokens -= 1  # a word goes on
    text = " " + _text(rng, prompt, request)
    text, stopped = cut_at_stop(text, request.sampling.stop)
    options = request.template_options
    thinks = options != "{}" and json.loads(options).get("enable_thinking") is True
    words = text.count(" ")  # a word and the space before it count as one token
    limit = request.sampling.max_new_tokens
    cut = words > limit
    if cut:
        text = " ".join(text.split(" ", limit + 1)[: limit + 1])
    return Reply(
        id=request.id,
        text=text,
        finish_reason="length" if cut else "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=min(words, limit) + (not cut and not stopped),
        reasoning=rng.choice(_SENTENCES).format("reader", "reply") if thinks else None,
    )


def _text(rng: random.Random, prompt: str, request: Request) -> str:
    if prompt.endswith("Query:"):
        return _queries(rng)
    if request.messages and (form := _SCORES.search(request.messages[-1]["content"])):
        return _verdict(rng, form[1])
    return answer(rng, is_chat=bool(request.messages))


@lru_cache(64)
def _begin(model: str, prefix: str) -> "tuple[hashlib._Hash, int]":
    """The hash of what thousands of requests share, to go on from, and its words."""
    return hashlib.sha256(f"{model}\0{prefix}".encode()), len(prefix.split())


def _word(rng: random.Random) -> str:
    """A word of no language, so that there is no end of different queries."""
    return "".join(_choices(rng, _SYLLABLES, 3))


def _choices(rng: random.Random, options: Sequence[str], count: int) -> list[str]:
    """What `count` calls of `rng.choice(options)` give, in less than half of their time."""
    draw, size = rng.getrandbits, len(options)
    choices: list[str] = []
    bits = size.bit_length()
    while len(choices) < count:
        if (place := draw(bits)) < size:
            choices.append(options[place])
    return choices


def question(rng: random.Random) -> str:
    noun, second_noun = _word(rng), _word(rng)
    tail = rng.choice(
        ["", f" {rng.choice(_MIDDLES)} {second_noun}", f" or a {second_noun}, said to be {_word(rng)}"]
    )
    return f"{rng.choice(_OPENINGS)} the {noun}{tail} {rng.choice(_ENDINGS)}{rng.choice('??.')}"


def _queries(rng: random.Random) -> str:
    fault = rng.random()
    query = "" if fault < 0.05 else _word(rng).capitalize() if fault < 0.1 else question(rng)
    return f"{query}\nQuery: {question(rng)}"


def _verdict(rng: random.Random, form: str) -> str:
    """A judge's verdict, in the form that the prompt ends in; now and then without scores."""
    reason = rng.choice(_SENTENCES).format("reader", "reply")
    return (
        reason
        if rng.random() < 0.05
        else f"{reason}\n\n{re.sub('[XY]', lambda _: str(rng.randint(1, 10)), form)}"
    )


def answer(rng: random.Random, is_chat: bool = False) -> str:
    """Nonsense that often has a fault which a check finds; a chat model's never runs into the next turn."""
    nouns = _word(rng), _word(rng)
    count = rng.randint(2, 12)
    text = " ".join(_choices(rng, _SENTENCES, count)).format(*nouns)
    fault = rng.random()
    if fault < 0.06:
        text = "Yes, of course."
    elif fault < 0.12:
        text += " Which one do you have in mind?"
    elif fault < 0.16:
        text += " Here is a list:"
    elif fault < 0.2:
        text = "Well, " + text
    elif fault < 0.25:
        text = rng.choice(["I don't know. ", "I don\u2019t know, sorry. ", "I do not know that. "]) + text
    elif fault < 0.29:
        text += " <Image>."
    elif fault < 0.34:
        text = text.rstrip(".!")
    if is_chat:
        return text
    if rng.random() < 0.5:
        text += f"\n\nHuman: {question(rng)}\n\nAssistant: {rng.choice(_SENTENCES)}"
    elif rng.random() < 0.5:
        text += "\n\n-----\n\nHuman: Thank you."
    return text
