"""Responses: every query answered by every responder of the ladder.

Deviations from the paper and its released code: the prompt ends in `Assistant:` without a space
(see `almost_data.generation.prompts`); the shipped few-shot dialogues are the project's own.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import polars as pl

from ..cards.figures import boxes, count_axis
from ..datasets.builder import Builder, Built, Estimate, Figures, Parents, Progress, reply_id, row_seed
from ..datasets.config import Positive
from ..datasets.digest import Rows, first_queries, ranges
from ..datasets.filters import Filter, chain
from ..datasets.manifest import Manifest
from ..datasets.spool import CARD_ROWS, Spool
from ..datasets.tables import ERROR, PROMPT, QUERY_ID, REASON, Table, all_turns, integer, string
from ..errors import InputError
from ..generation import Generator, Messages, Reply, Request, Usage
from ..models import split_revision
from .responder import (
    Responder,
    SamplingConfig,
    fake_responder,
    pin_responders,
    pinned_responder,
    reply_work,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
RESPONDER = string("responder", "name of the responder: a model and its prompt", "30B-HHH-5shot")
REPLY_ID = string("reply_id", "names one response: hash of query_id and responder", "9d6b1d3a41c52f90")
REASONING = string("reasoning", "what the model thought before it replied; null where it did not")
FINISH_REASON = string(
    "finish_reason", "`stop`, or `length`: cut at the token limit; null if not known", "stop"
)
_COLUMNS = (
    QUERY_ID,
    PROMPT,
    RESPONDER,
    integer("rank", "place in the ladder, 0 is best; null for a probe", 1),
    string("response", "the reply, cut at the stop markers", "Give it six hours of light a day."),
    REASONING,
    FINISH_REASON,
    REPLY_ID,
)
TABLES = {
    "default": Table("one response a row", ("query_id", "responder"), _COLUMNS, parts=()),
    "rejected": Table(
        "one response that never came or cannot be used a row",
        ("row", "responder"),
        (
            *_COLUMNS,
            integer("row", "place among the requests, or the imported rows, from 0", 12),
            REASON,
            ERROR,
        ),
    ),
}
QUERY_TOKENS = 15
"""Tokens of a mined query, roughly."""


class ResponsesConfig(SamplingConfig, frozen=True, kw_only=True):
    """Defaults are the paper's (2.1); responders have none."""

    responders: tuple[Responder, ...]
    """The ladder, best first."""
    probes: tuple[Responder, ...] = ()
    """Generated for study; they have no rank, are not rated, and never enter comparisons."""
    limit: Positive | None = None
    """Answer only the first queries by query_id; `run.limit` sets it."""


FAILED = Filter("failed", "response", "The engine gave an error instead of a response.", "almost_data")
REASONING_ONLY = Filter(
    "reasoning_only",
    "response",
    "The model wrote reasoning and no reply, or was cut while it reasoned.",
    "almost_data",
    (pl.col("response") == "") & pl.col("reasoning").is_not_null(),
)


def build(
    config: ResponsesConfig, parents: Parents, generator: Generator, progress: Progress, folder: Path
) -> Built:
    """Ask every responder every query, all requests in one go; replies wait in files of `folder`."""
    queries = first_queries(parents["queries"]("default").select("query_id", "prompt"), config.limit)
    parts = list(ranges(queries))
    ranked = [(pinned_responder(config, responder, generator), rank) for responder, rank in ladder(config)]
    # Of each request that is not answered yet: its place, query_id, prompt, responder and rank.
    waiting: dict[str, tuple[int, str, Messages, str, int | None]] = {}
    total = len(ranked) * int(queries.select(pl.len()).collect().item())

    def requests() -> Iterator[Request]:
        place = 0
        for pinned, rank in ranked:
            responder = pinned.responder.name
            for part in parts:
                for query_id, turns in part.collect().sort("query_id").iter_rows():
                    name, prompt = reply_id(query_id, responder), tuple(turns)
                    waiting[name] = (place, query_id, prompt, responder, rank)
                    seed = row_seed(config.seed, "responses", f"{query_id}:{responder}")
                    yield pinned.request(name, prompt, seed)
                    place += 1

    names = [pinned.responder.name for pinned, _ in ranked]
    spools = {name: Spool(folder / name, TABLES["default"]) for name in names}
    rejected = Spool(folder / "rejected", TABLES["rejected"])
    reasons, usage, tokens, error = Counter[str](), {name: Usage() for name in names}, 0, None
    progress("responses", 0, total, 0)
    for done, reply in enumerate(generator.generate(requests()), start=1):
        place, query_id, prompt, responder, rank = waiting.pop(reply.id)
        usage[responder].add(reply)
        tokens += reply.completion_tokens
        row = {
            "query_id": query_id,
            "prompt": prompt,
            "responder": responder,
            "rank": rank,
            "response": None if reply.error else reply.text.strip(),
            "reasoning": reply.reasoning,
            "finish_reason": reply.finish_reason,
            "reply_id": reply.id,
        }
        if reason := _reason(reply):
            error = reply.error or error
            rejected.add(row | {"row": place, "reason": reason, "error": reply.error})
            reasons[reason] += 1
        else:
            spools[responder].add(row)
        progress("responses", done, total, tokens)
    if not any(spool.rows for spool in spools.values()):
        raise RuntimeError(f"no response: {error or 'no row was usable'}")
    is_chat = any(pinned.responder.style == "chat" for pinned, _ in ranked)
    ledger = chain("generation", [FAILED, REASONING_ONLY] if is_chat else [FAILED], total, reasons)
    tables: dict[str, Rows] = {name: spool.by_query(CARD_ROWS) for name, spool in spools.items()}
    if rejected.rows:
        tables["rejected"] = rejected.by_row(CARD_ROWS)
    return Built(tables, ledger, {"responders": summaries(spools)}, usage=usage)


def summaries(spools: Mapping[str, Spool]) -> dict[str, dict[str, Any]]:
    """Numbers of each responder that has responses, generated and imported ones alike."""
    numbers = {
        "responses": pl.len(),
        "mean_prompt_chars": all_turns().str.len_chars().mean(),
        "mean_chars": pl.col("response").str.len_chars().mean(),
        "share_cut_at_token_limit": (pl.col("finish_reason") == "length").mean(),
    }
    return {
        name: spool.scan().select(**numbers).collect(engine="streaming").row(0, named=True)
        for name, spool in spools.items()
        if spool.rows
    }


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


def _pins(config: ResponsesConfig, generator: Generator) -> dict[str, Any]:
    """What decides the replies. InputError where servers would mix the replies of two equal responders."""
    responders = [responder for responder, _ in ladder(config)]
    addresses: Callable[[str], list[str]] = getattr(generator, "addresses", lambda model: [])
    for first, second in combinations(responders, 2):
        # A server cannot be asked for a revision.
        is_one_model = split_revision(first.model)[0] == split_revision(second.model)[0]
        second_as_first = msgspec.structs.replace(second, name=first.name, model=first.model)
        if is_one_model and first == second_as_first and len(addresses(first.model)) > 1:
            raise InputError(
                f"responders {first.name!r} and {second.name!r}: both are model {first.model!r} with "
                f"the same prompt, and {len(addresses(first.model))} servers would share their requests: "
                "give each server's model its own name, in the responders and in engine.servers (models)"
            )
    return pin_responders(config, responders, generator)


def check_names(names: list[str]) -> None:
    """Raise InputError at the first name that cannot be a config and folder, or that comes twice."""
    for place, name in enumerate(names):
        if name in TABLES:
            raise InputError(
                f"responder {name!r}: this is the name of a table of responses: give it another (in an "
                f"import, NAME={name})"
            )
        if not NAME.fullmatch(name):
            raise InputError(
                f"responder {name!r}: use letters, digits, '.', '_' and '-' (in an import, NAME={name})"
            )
        if name in names[:place]:
            raise InputError(f"duplicate responder {name!r}: give each its own name")


def _reason(reply: Reply) -> str | None:
    """Why a reply is dropped; None where it is a response."""
    if reply.error:
        return FAILED.name
    return REASONING_ONLY.name if reply.reasoning is not None and not reply.text.strip() else None


def ladder_rows(sources: Sequence[Manifest]) -> list[dict[str, Any]]:
    """Responders, best first, then probes (rank None). Imported ones have only names."""
    generated = next((manifest for manifest in sources if "responders" in manifest.config["settings"]), None)
    if generated is None:
        names = sources[0].config["settings"].get("ladder") or [
            row["responder"] if isinstance(row, dict) else row for row in sources[0].diagnostics["responders"]
        ]
        return [{"name": name, "rank": rank, "id": None} for rank, name in enumerate(names)]
    settings, resolved = generated.config["settings"], generated.config["resolved"]
    ranked = [*enumerate(settings["responders"]), *((None, probe) for probe in settings["probes"])]
    return [responder | resolved[responder["name"]] | {"rank": rank} for rank, responder in ranked]


def _as_fake(config: ResponsesConfig) -> ResponsesConfig:
    return msgspec.structs.replace(
        config,
        responders=tuple(map(fake_responder, config.responders)),
        probes=tuple(map(fake_responder, config.probes)),
    )


def _estimate(config: ResponsesConfig, parents: Mapping[str, Estimate]) -> Estimate:
    """Probes are asked like the ladder, and no dataset is made from their responses."""
    queries = min(parents["queries"].rows, config.limit or parents["queries"].rows)
    tokens = parents["queries"].text_tokens or QUERY_TOKENS
    work = tuple(reply_work("responses", responder, queries, tokens) for responder, _ in ladder(config))
    size = len(config.responders)
    longest = max(responder.reply_tokens for responder in work[:size])
    return Estimate(queries * size, work, tokens + longest, size)


def measured(manifest: Manifest) -> Estimate:
    """The estimate of responses that exist: those of the ladder, at their mean length."""
    summary = manifest.diagnostics["responders"]
    names = [row["name"] for row in ladder_rows([manifest]) if row["rank"] is not None]
    ladder = [summary[name] for name in names if name in summary]
    characters = [numbers["mean_prompt_chars"] + numbers["mean_chars"] for numbers in ladder]
    rows = sum(numbers["responses"] for numbers in ladder)
    return Estimate(rows, (), round(mean(characters or [0]) / 4), len(ladder) or 1)


def figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    """Length of the responses of each responder, best of the ladder first."""
    frames = [rows for name, rows in tables.items() if name not in TABLES and len(rows)]
    frames.sort(key=lambda rows: (rows["rank"][0] is None, rows["rank"][0] or 0))
    if not frames:
        return
    lengths = {str(rows["responder"][0]): rows["response"].str.len_chars() for rows in frames}
    title = "Length of responses by responder, best of the ladder first"
    figure, ax = boxes(lengths, title, "characters")
    ax.set_xlim(left=0)
    count_axis(ax, "x")
    yield "response_lengths", figure


_STYLE_FACTS = {
    "raw": "Prompts: the example dialogues that ship with `almost_data` are its own, and the prompt ends in "
    "`Assistant:` without the space that the released code has, which splits the first word of a reply "
    "for BPE tokenizers.",
    "chat": "Chat models answer messages by their own chat template; the paper has base models that continue "
    "a text of example dialogues.",
}


BUILDER = Builder(
    name="responses",
    doc="Every query answered by every responder of the ladder.",
    config=ResponsesConfig,
    tables=TABLES,
    parents=("queries",),
    build=build,
    uses_folder=True,
    pins=_pins,
    as_fake=_as_fake,
    estimate=_estimate,
    tags=("synthetic", "responses", "almost"),
    card="responses.md.jinja",
    card_values=lambda manifest, sources: {"ladder": ladder_rows(sources)},
    paper_facts=lambda config: (
        "Models: the paper's ladder is LLaMA 30B-Faithful-3shot, 30B-HHH-5shot, 13B-HHH-3shot, "
        "7B-HHH-3shot, 7B-HHH-1shot, best first; the ladder used is in the table above.",
        *(_STYLE_FACTS[style] for style in _STYLE_FACTS if style in {r.style for r, _ in ladder(config)}),
    ),
    figures=figures,
)
