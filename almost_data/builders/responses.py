"""Responses: every query answered by every responder of the ladder.

Deviations from the paper and its released code: the prompt ends in `Assistant:` without a space
(see `almost_data.generation.prompts`); the shipped few-shot dialogues are the project's own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from ..cards.figures import boxes, count_axis
from ..datasets.builder import (
    Builder,
    Built,
    Estimate,
    Figures,
    Parents,
    Progress,
    reply_id,
    row_seed,
)
from ..datasets.config import Config, Positive, Share, Temperature
from ..datasets.filters import Filter
from ..datasets.manifest import Manifest
from ..datasets.tables import ERROR, PROMPT, QUERY_ID, REASON, Table, frame, integer, polars_schema, string
from ..errors import InputError
from ..generation import Generator, Reply, Usage
from .responder import Responder, asking, fake_responder, pin_responders, reply_work

AT_ONCE = 10_000
"""Most rows kept as dicts."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
RESPONDER = string("responder", "name of the responder: a model and its prompt", "30B-HHH-5shot")
REPLY_ID = string("reply_id", "names one response: hash of query_id and responder", "9d6b1d3a41c52f90")
REASONING = string("reasoning", "what the model thought before it replied; null where it did not")
_COLUMNS = (
    QUERY_ID,
    PROMPT,
    RESPONDER,
    integer("rank", "place in the ladder, 0 is best; null for a probe", 1),
    string("response", "the reply, cut at the stop markers", "Give it six hours of light a day."),
    REASONING,
    string("finish_reason", "`stop`, or `length`: cut at the token limit; null if imported", "stop"),
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
    """Answer only the first queries by query_id; `--limit` sets it."""


FAILED = Filter(
    "failed",
    "response",
    "The engine gave an error instead of a response.",
    "almost_data",
)
REASONING_ONLY = Filter(
    "reasoning_only",
    "response",
    "The model wrote reasoning and no reply, or was cut while it reasoned.",
    "almost_data",
    (pl.col("response") == "") & pl.col("reasoning").is_not_null(),
)


def is_reasoning_only(reply: Reply) -> bool:
    """Whether `REASONING_ONLY` drops it."""
    return reply.reasoning is not None and not reply.text.strip()


def build(config: ResponsesConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Ask every responder every query, all requests in one go, and sort the replies by query."""
    queries = parents["queries"]("default").select("query_id", "prompt").sort("query_id").collect()
    queries = queries[: config.limit]
    ranked = ladder(config)
    origins: dict[str, tuple[int, Responder, int | None, str]] = {}
    requests = []
    for responder, rank in ranked:
        how = asking(config, responder, generator)
        for query_id, prompt in queries.iter_rows():
            name = reply_id(query_id, responder.name)
            origins[name] = (len(origins), responder, rank, query_id)
            seed = row_seed(config.seed, "responses", f"{query_id}:{responder.name}")
            requests.append(how.request(name, tuple(prompt), seed))
    buffers = {responder.name: ResponderBuffer() for responder, _ in ranked}
    rejected: list[dict[str, object]] = []
    usage = {name: Usage() for name in buffers}
    tokens = 0
    progress("responses", 0, len(requests), 0)
    for done, reply in enumerate(generator.generate(requests), start=1):
        place, responder, rank, query_id = origins[reply.id]
        row = _row(reply, responder, rank, query_id)
        usage[responder.name].add(reply)
        tokens += reply.completion_tokens
        if reply.error:
            rejected.append(row | {"response": None, "row": place, "reason": "failed", "error": reply.error})
        elif is_reasoning_only(reply):
            rejected.append(row | {"row": place, "reason": REASONING_ONLY.name})
        else:
            buffers[responder.name].append(row)
        progress("responses", done, len(requests), tokens)
    frames = {name: buffer.frame(queries) for name, buffer in buffers.items()}
    prompt_of = dict(
        queries.filter(pl.col("query_id").is_in([row["query_id"] for row in rejected])).iter_rows()
    )
    rejected = [row | {"prompt": prompt_of[str(row["query_id"])]} for row in rejected]
    by_chat = any(responder.style == "chat" for responder, _ in ranked)
    built = finish(frames, rejected, [FAILED, *([REASONING_ONLY] if by_chat else [])], "generation")
    built.usage.update(usage)
    return built


class ResponderBuffer:
    """The rows of one responder, most of them in frames, which take a fraction of a dict's memory."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.frames: list[pl.DataFrame] = []

    def append(self, row: dict[str, object]) -> None:
        self.rows.append(row)
        if len(self.rows) == AT_ONCE:
            self._flush()

    def frame(self, queries: pl.DataFrame) -> pl.DataFrame:
        """All rows, with the prompts of `queries`."""
        self._flush()
        rows = pl.concat(self.frames, rechunk=True)
        with_prompts = rows.join(queries, on="query_id", how="left", maintain_order="left")
        return with_prompts.select(TABLES["default"].names)

    def _flush(self) -> None:
        schema = polars_schema(TABLES["default"])
        schema.pop("prompt")
        self.frames, self.rows = [*self.frames, pl.DataFrame(self.rows, schema=schema)], []


def finish(
    tables: dict[str, pl.DataFrame],
    rejected: list[dict[str, object]],
    filters: list[Filter],
    stage: str,
) -> Built:
    """Tables, ledger and diagnostics from the rows of each responder; generated and imported ones alike."""
    frames = {name: rows.sort("query_id") for name, rows in tables.items()}
    if not any(map(len, frames.values())):
        why = rejected[-1]["error"] if rejected and filters[0] is FAILED else "no row was usable"
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
            "responses": len(rows),
            "mean_chars": _mean(rows["response"].str.len_chars()),
            "share_cut_at_token_limit": _mean(rows["finish_reason"] == "length"),
        }
        for name, rows in frames.items()
        if len(rows)
    }
    if rejected:
        frames["rejected"] = frame(TABLES["rejected"], rejected).sort("row")
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
        if not NAME.fullmatch(name) or name in TABLES:
            raise InputError(
                f"responder {name!r}: use letters, digits, '.', '_' and '-', and none of {', '.join(TABLES)}"
            )
        if name in names[:place]:
            raise InputError(f"duplicate responder {name!r}: give each its own name")


def _row(reply: Reply, responder: Responder, rank: int | None, query_id: str) -> dict[str, object]:
    return {
        "query_id": query_id,
        "responder": responder.name,
        "rank": rank,
        "response": reply.text.strip(),
        "reasoning": reply.reasoning,
        "finish_reason": reply.finish_reason,
        "reply_id": reply.id,
    }


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return float(mean) if isinstance(mean, int | float) else None


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
    """Probes are asked like the ladder, and nothing reads their responses."""
    queries = min(parents["queries"].rows, config.limit or parents["queries"].rows)
    tokens = parents["queries"].text_tokens or QUERY_TOKENS
    work = [reply_work("responses", responder, queries, tokens) for responder, _ in ladder(config)]
    ranked = work[: len(config.responders)]
    longest = max(responder.reply_tokens for responder in ranked)
    return Estimate(queries * len(ranked), tuple(work), tokens + longest)


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
    pins=lambda config, generator: pin_responders(
        config, [responder for responder, _ in ladder(config)], generator
    ),
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
