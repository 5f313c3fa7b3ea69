"""An engine without a model: the same text for the same request, with the faults of real text.

Its replies are too short now and then, end in a question, evade ("I don't know"), run into the next
turn, or hit the token limit, so that every filter and every stop marker has work to do. Its models are
called `fake/...`, so that nothing made with it passes for a real model's.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

from . import Model, Reply, Request, cut_at_stop

REVISION = "1"
"""Goes up whenever the same request would get another text."""

_THINGS = (
    "sourdough starter|balcony garden|used bicycle|watercolour set|night sky|compost bin|chess opening|"
    "train journey|spreadsheet|garden shed|violin lesson|first marathon|mountain hut|bread oven|rain barrel|"
    "school play|knitting pattern|savings plan|old radio|job interview|wooden table|language course|fish tank|"
    "road atlas|bird feeder|house plant|tax form|camping stove|poetry reading|kitchen knife"
).split("|")
_PLACES = (
    "in a small flat|on a tight budget|before the winter|with two children|without a car|after work|in one week|"
    "for a friend|at high altitude|with bad knees|in a rented house|for a beginner|on a rainy weekend|near the sea"
).split("|")
_ASKS = (
    "How do I look after a {0} {1}?|What should I know about a {0} {1}?|Can you plan a {0} {1} for me?|"
    "Why do people want a {0} {1}?|Write a short note about a {0} {1}.|Which mistakes come with a {0} {1}?|"
    "Compare a {0} and a {2} {1}.|Is a {0} worth it {1}, or is a {2} better?|Explain a {0} to someone {1}."
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

    def resolve(self, model: Model) -> Model:
        name = model.id.removeprefix("fake/").rpartition(":")[2].strip("/").replace("/", "--")
        return Model(f"fake/{name}", REVISION)

    def settings(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        seen: set[str] = set()
        for request in requests:
            if request.id in seen:
                raise ValueError(f"two requests have the id {request.id!r}")
            seen.add(request.id)
            yield _reply(request)


def _reply(request: Request) -> Reply:
    asked = f"{request.model.id}\0{request.prompt}\0{request.sampling}\0{request.seed}"
    rng = random.Random(hashlib.sha256(asked.encode()).digest())
    if not request.prompt:
        return Reply(request.id, "", "error", error="empty prompt")
    text = " " + (_query(rng) if request.prompt.endswith("Query:") else _answer(rng))
    text, stopped = cut_at_stop(text, request.sampling.stop)
    # A word and the space before it count as one token.
    words = text.split(" ")[1:]
    limit = request.sampling.max_new_tokens
    cut = len(words) > limit
    if cut:
        text = "".join(" " + word for word in words[:limit])
    return Reply(
        id=request.id,
        text=text,
        finish_reason="length" if cut else "stop",
        prompt_tokens=len(request.prompt.split()),
        completion_tokens=min(len(words), limit) + (not cut and not stopped),
    )


def _query(rng: random.Random) -> str:
    first, second = rng.sample(_THINGS, 2)
    query = rng.choice(_ASKS).format(first, rng.choice(_PLACES), second)
    fault = rng.random()
    if fault < 0.05:
        query = ""
    elif fault < 0.1:
        query = first.capitalize()
    return f"{query}\nQuery: {rng.choice(_ASKS).format(second, rng.choice(_PLACES), first)}"


def _answer(rng: random.Random) -> str:
    first, second = rng.sample(_THINGS, 2)
    count = rng.randint(2, 12)
    text = " ".join(rng.choice(_SENTENCES).format(first, second) for _ in range(count))
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
    if rng.random() < 0.5:
        text += f"\n\nHuman: {_query(rng).partition(chr(10))[0]}\n\nAssistant: {rng.choice(_SENTENCES)}"
    elif rng.random() < 0.5:
        text += "\n\n-----\n\nHuman: Thank you."
    return text
