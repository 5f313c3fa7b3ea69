"""Comparisons of others: preference data of a file or a Hub dataset, in the layout that it has."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ...cards.figures import shortcut_figures, side_lengths
from ...datasets.builder import Builder, Built, Figures, prompt_id, text_id
from ...datasets.config import Config
from ...datasets.digest import Rows
from ...datasets.filters import Filter, account, chain
from ...datasets.ids import IdSet
from ...datasets.manifest import Manifest
from ...datasets.spool import Spool
from ...datasets.tables import PROMPT, REASON, Table, integer, number, reply, string
from ...diagnostics import shortcuts
from ...errors import InputError
from ...models.chat import assistant_turn
from ...readers.layout import SIDES, Preference
from ...readers.preferences import Preferences, ReadRow, Rejected
from ...readers.reasons import REASONS
from .tables import TABLES as BUILT_TABLES

_ANSWERS = {"chosen": "No, tea is made from the leaves of a shrub.", "rejected": "Yes, tea is a fruit."}
TABLES = {
    "default": Table(
        "one comparison a row, as TRL's RewardTrainer and DPOTrainer read it",
        BUILT_TABLES["default"].key,
        (
            PROMPT,
            *(
                reply(side, f"the {word} reply", _ANSWERS[side])
                for side, word in (("chosen", "better"), ("rejected", "worse"))
            ),
            string(
                "comparison_id",
                "hashes of prompt and reply, of both sides",
                "9d6b1d3a41c52f90-03ab7f2e11d45c68",
            ),
            string("query_id", "hash of the prompt", "29b96e1ccfe1b398"),
            *(
                string(f"{side}_responder", f"model of the {side} reply; null if not known", "large")
                for side in SIDES
            ),
            *(number(f"{side}_score", f"score of the {side} reply; null likewise", 4.5) for side in SIDES),
            string("source", "where the row is from, by the file's own word; null likewise", "ultrachat"),
        ),
    ),
    "rejected": Table(
        "one row of the source that could not be used",
        ("row",),
        (
            integer("row", "place among the rows that were rejected, from 0", 0),
            string("place", "file and line, or row", "pairs.jsonl:7"),
            REASON,
            string("detail", "what is wrong, in a sentence", REASONS["no_prompt"]),
            string("text", "the row as JSON", '{"prompt": null, "chosen": "No.", "rejected": "Yes."}'),
        ),
        split_key=None,
    ),
}


def build(preferences: Preferences, folder: Path, source: str) -> Built:
    """The comparisons of a source, which is read once; `folder` holds them until they are written.

    Raises InputError where no row can be used.
    """
    spools = {name: Spool(folder / name, table) for name, table in TABLES.items()}
    ids = IdSet()
    reasons: Counter[str] = Counter()
    first_problem = ""
    rows = repeated = 0
    for read in preferences.rows:
        rows += 1
        if isinstance(read.result, Rejected):
            reasons[read.result.reason] += 1
            first_problem = first_problem or f"{Path(read.place).name}: {read.result.detail.rstrip('.')}"
            _reject(spools["rejected"], read, read.result)
            continue
        for preference in read.result:
            comparison = _comparison(preference, read.origin)
            if ids.add(comparison["comparison_id"]):
                spools["default"].add(comparison)
                continue
            repeated += 1
            _reject(spools["rejected"], read, Rejected("duplicate", REASONS["duplicate"]))
    ledger = chain("reading", [_read_as(preferences), *map(_rule, reasons)], rows, reasons)
    kept = spools["default"].rows
    if not kept:
        counts = f"{account(ledger)}, such as {first_problem}"
        fix = "correct the rows, or name other columns in import.columns"
        raise InputError(f"{source}: no row that can be used ({counts}): {fix}")
    ledger += chain("pairs", [_rule("duplicate", "pair")], kept + repeated, {"duplicate": repeated})
    blocks = spools["default"].by_query(shortcuts.SAMPLE)
    tables: dict[str, Rows] = {"default": blocks}
    if spools["rejected"].rows:
        tables["rejected"] = spools["rejected"].in_order()
    assert blocks.sample is not None
    return Built(tables, ledger, preference_diagnostics(blocks.sample, kept, spools["default"].scan()))


def _comparison(preference: Preference, origin: str | None) -> dict[str, Any]:
    query_id = prompt_id(preference.prompt)
    chosen, rejected = preference.chosen, preference.rejected
    ids = [text_id(f"{query_id}\0{side.text}") for side in (chosen, rejected)]
    return {
        "prompt": preference.prompt,
        "chosen": [assistant_turn(chosen.text)],
        "rejected": [assistant_turn(rejected.text)],
        "comparison_id": "-".join(ids),
        "query_id": query_id,
        "chosen_responder": chosen.model,
        "rejected_responder": rejected.model,
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "source": origin,
    }


def _reject(spool: Spool, read: ReadRow, rejected: Rejected) -> None:
    place = Path(read.place).name  # no folder of this machine
    reason, detail = rejected.reason, rejected.detail
    spool.add({"row": spool.rows, "place": place, "reason": reason, "detail": detail, "text": read.text})


def _read_as(preferences: Preferences) -> Filter:
    return Filter("layout", "row", f"Rows are read as: {preferences.described}.", preferences.layout.source)


def _rule(reason: str, unit: str = "row") -> Filter:
    return Filter(reason, unit, REASONS[reason], "almost_data")


def preference_diagnostics(sample: pl.DataFrame, comparisons: int, rows: pl.LazyFrame) -> dict[str, Any]:
    """Numbers of comparisons whose responders may not be known; `rows` are all of them."""
    plain = shortcuts.plain(sample)
    models = [f"{side}_responder" for side in SIDES]
    if plain.select(pl.any_horizontal(pl.col(models).is_null()).any()).item():
        plain = plain.drop(models)
    text = shortcuts.diagnose(plain)
    pairs = text["responder_pairs"]
    return {
        "comparisons": comparisons,
        "queries": rows.select(pl.col("query_id").n_unique()).collect().item(),
        "several_turns": (sample["prompt"].list.len() > 1).sum() / len(sample),
        "responder_pairs": [{name: pair[name] for name in models} for pair in pairs],
        "text": text,
    }


def _figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    yield from side_lengths(tables["default"])
    yield from shortcut_figures(manifest.diagnostics)


BUILDER = Builder(
    name="comparisons",
    doc="Preference data of others: a better and a worse reply to each prompt.",
    config=Config,
    tables=TABLES,
    build=build,
    uses_engine=False,
    tags=("preference", "rlhf", "dpo", "reward-model"),
    card="preferences.md.jinja",
    figures=_figures,
)
