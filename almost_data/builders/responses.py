"""Responses: every query answered by every responder of the ladder.

Deviations from the paper and its released code: the prompt ends in `Assistant:` without a space
(see `almost_data.generation.prompts`); the shipped few-shot dialogues are the project's own.
"""

import hashlib
import re
from pathlib import Path
from typing import Protocol

import polars as pl

from ..datasets import schema
from ..datasets.builder import (
    BuilderSpec,
    Built,
    Config,
    NotNegative,
    Parents,
    Positive,
    Progress,
    Share,
    Temperature,
    reply_id,
    row_seed,
    text_id,
)
from ..datasets.filters import Filter
from ..errors import InputError
from ..generation import Generator, Model, Reply, Request, Sampling, Usage, prompts

PAPER_TOKENS = {"faithful": 768, "hhh": 384}
"""New tokens by prompt, where a responder sets none (released code)."""
AT_ONCE = 10_000
"""Rows that are kept as dicts."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Responder(Config, frozen=True, kw_only=True):
    """A model, a prompt and a number of shots."""

    name: str
    """Names its config and folder, and stands in every row."""
    model: str
    """Hub id, local folder or `pypi:PACKAGE`."""
    revision: str | None = None
    """Commit of the model; None takes the current one, and the manifest pins it."""
    prompt: str
    """`hhh`, `faithful`, `user`, or the path of a file in the same format."""
    shots: NotNegative
    """Dialogues of the prompt that are shown, the first ones."""
    max_new_tokens: Positive | None = None
    """None takes the paper's number for the prompt (`PAPER_TOKENS`)."""


class ResponsesConfig(Config, frozen=True, kw_only=True):
    """Defaults are the paper's (2.1); responders have none."""

    responders: tuple[Responder, ...]
    """The ladder, best first."""
    probes: tuple[Responder, ...] = ()
    """Generated for study; they have no rank and never enter comparisons."""
    temperature: Temperature = 1.0
    top_p: Share = 0.9
    seed: int = 0
    limit: Positive | None = None
    """Answer only the first queries by query_id; what `--limit` sets."""


FAILED = Filter(
    "failed",
    "response",
    "The engine gave an error instead of a response.",
    "almost_data",
)


def build(config: ResponsesConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Ask every responder every query, all requests in one go, and sort the replies by query."""
    queries = parents["queries"]("default").sort("query_id").collect()[: config.limit].rows(named=True)
    everyone = ladder(config)
    asked: dict[str, tuple[int, Responder, int | None, dict[str, str]]] = {}
    requests = []
    for responder, rank in everyone:
        sampling, model, head = ask_how(config, responder, generator)
        for query in queries:
            name = reply_id(query["query_id"], responder.name)
            asked[name] = (len(asked), responder, rank, query)
            seed = row_seed(config.seed, "responses", f"{query['query_id']}:{responder.name}")
            requests.append(Request(name, model, head, prompts.ask(query["query"]), sampling, seed))
    tables = {responder.name: Rows() for responder, _ in everyone}
    rejected: list[dict[str, object]] = []
    usage = {name: Usage() for name in tables}
    tokens = 0
    progress("responses", 0, len(requests), 0)
    for done, reply in enumerate(generator.generate(requests), start=1):
        place, responder, rank, query = asked[reply.id]
        row = _row(reply, responder, rank, query)
        usage[responder.name].add(reply)
        tokens += reply.completion_tokens
        if reply.error:
            rejected.append(row | {"response": None, "row": place, "reason": "failed", "error": reply.error})
        else:
            tables[responder.name].append(row)
        progress("responses", done, len(requests), tokens)
    built = finish({name: rows.frame() for name, rows in tables.items()}, rejected, [FAILED], "generation")
    built.usage.update(usage)
    return built


class Rows:
    """The rows of one responder, most of them in frames, which take a fraction of a dict's memory."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.frames = [schema.frame("responses", "default", [])]

    def append(self, row: dict[str, object]) -> None:
        self.rows.append(row)
        if len(self.rows) == AT_ONCE:
            self.frames, self.rows = [*self.frames, schema.frame("responses", "default", self.rows)], []

    def frame(self) -> pl.DataFrame:
        return pl.concat([*self.frames, schema.frame("responses", "default", self.rows)], rechunk=True)


def finish(
    tables: dict[str, pl.DataFrame],
    rejected: list[dict[str, object]],
    filters: list[Filter],
    stage: str,
) -> Built:
    """Tables, ledger and diagnostics from the rows of each responder; generated and imported ones alike."""
    frames = {name: rows.sort("query_id") for name, rows in tables.items() if len(rows)}
    if not frames:
        why = rejected[-1]["error"] if rejected and filters == [FAILED] else "no row was usable"
        raise RuntimeError(f"no response: {why}")
    n_in = sum(map(len, tables.values())) + len(rejected)
    ledger = []
    for rule in filters:
        dropped = sum(row["reason"] == rule.name for row in rejected)
        kept = n_in - dropped
        ledger.append(rule.entry(stage, n_in, kept, failed=dropped if rule is FAILED else 0))
        n_in = kept
    by_responder = {
        name: {
            "responses": len(frame),
            "mean_chars": _mean(frame["response"].str.len_chars()),
            "share_cut_at_token_limit": _mean(frame["finish_reason"] == "length"),
        }
        for name, frame in frames.items()
    }
    if rejected:
        frames["rejected"] = schema.frame("responses", "rejected", rejected).sort("row")
    return Built(frames, ledger, {"responders": by_responder})


def ladder(config: ResponsesConfig) -> list[tuple[Responder, int | None]]:
    """Responders with their ranks, best first, then probes.

    Raises InputError for a name that is no folder name, reserved, or used twice, or an unknown prompt.
    """
    ranked: list[tuple[Responder, int | None]] = [(r, rank) for rank, r in enumerate(config.responders)]
    ranked += [(responder, None) for responder in config.probes]
    check_names([responder.name for responder, _ in ranked])
    if len(config.responders) < 2:
        raise InputError("responses.responders: a ladder has at least two responders")
    return ranked


def check_names(names: list[str]) -> None:
    """Raise InputError at the first name that cannot be a config and folder, or that comes twice."""
    for place, name in enumerate(names):
        if not NAME.fullmatch(name) or name in schema.RESERVED:
            raise InputError(
                f"responder {name!r}: use letters, digits, '.', '_' and '-', and none of "
                + ", ".join(sorted(schema.RESERVED))
            )
        if name in names[:place]:
            raise InputError(f"responder {name!r} stands twice: name each one once")


class Drawn(Protocol):
    """What a config says of how replies are drawn."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...


def ask_how(config: Drawn, responder: Responder, generator: Generator) -> tuple[Sampling, Model, str]:
    """How a responder's replies are drawn, its model, and the head of its prompt; InputError names it."""
    tokens = responder.max_new_tokens or PAPER_TOKENS.get(responder.prompt)
    if not tokens:
        raise InputError(f"responder {responder.name!r}: set max_new_tokens for prompt {responder.prompt!r}")
    model = generator.resolve(Model(responder.model, responder.revision))
    try:
        head = prompts.load(responder.prompt).head(responder.shots)
    except InputError as error:
        raise InputError(f"responder {responder.name!r}: {error}") from None
    return Sampling(tokens, config.temperature, config.top_p, prompts.STOP), model, head


def _row(reply: Reply, responder: Responder, rank: int | None, query: dict[str, str]) -> dict[str, object]:
    return {
        "query_id": query["query_id"],
        "prompt": query["query"],
        "responder": responder.name,
        "rank": rank,
        "response": reply.text.strip(),
        "finish_reason": reply.finish_reason,
        "reply_id": reply.id,
    }


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return float(mean) if isinstance(mean, int | float) else None


def pins(config: ResponsesConfig, generator: Generator) -> dict[str, object]:
    """What decides a responder's text, of all of them."""
    return pin_responders(config, [responder for responder, _ in ladder(config)], generator)


def pin_responders(config: Drawn, responders: list[Responder], generator: Generator) -> dict[str, object]:
    """Per responder its model, revision, prompt's hash and token limit; the prompts' texts once."""
    resolved: dict[str, object] = {}
    shots: dict[str, int] = {}
    for responder in responders:
        sampling, model, head = ask_how(config, responder, generator)
        resolved[responder.name] = {
            "id": model.id,
            "revision": model.revision,
            "prompt_sha256": hashlib.sha256(head.encode()).hexdigest(),
            "tokens": {"used": sampling.max_new_tokens, "paper": PAPER_TOKENS.get(responder.prompt)},
        }
        shots[responder.prompt] = max(shots.get(responder.prompt, 0), responder.shots)
    texts: dict[str, str] = {}
    for prompt, most in shots.items():
        text = prompts.load(prompt).head(most)
        name = Path(prompt).name
        texts[name if name not in texts else f"{name} ({text_id(text)})"] = text
    return {"resolved": resolved, "prompts": texts}


SPEC = BuilderSpec("responses", 1, ResponsesConfig, ("queries",), build, pins)
