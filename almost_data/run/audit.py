"""The audit of anybody's preference data: read in whatever layout, measured, held against thresholds."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from os.path import basename
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from ..builders import checks
from ..datasets.builder import Progress, RewardModel, prompt_id, silent
from ..datasets.digest import ranges
from ..datasets.filters import Filter
from ..datasets.spool import write_rows
from ..datasets.tables import Table, all_turns, frame, last_turn, messages, string
from ..diagnostics import audit as measures
from ..diagnostics.rules import LEVELS, finding, is_share
from ..errors import InputError, did_you_mean
from ..inputs import parse_toml, read_text
from ..models.chat import assistant_turn
from ..readers import benchmark_file
from ..readers.files import WHOLE, HubPart
from ..readers.layout import SIDES, Preference
from ..readers.preferences import Preferences, Rejected, read_preferences
from ..readers.reasons import REASONS, TIE
from ..scoring import Dialogue, Scorer
from ..scoring.scorer import MAX_TOKENS
from ..store.sources import check_rows, check_sides, stored_ref
from ..store.store import Store
from .garbage import rare_collection
from .scorers import load_scorer

CHUNK, WORKERS = 20_000, 2
"""Comparisons whose texts are in memory at once, in each of so many threads."""
SCORED = 2_000
"""Comparisons that a reward model scores, at most."""
PLACES = 5
"""Rows of each reason that are named by their place."""
CHECKS = {
    "identity": "identity",
    "refusal": "refusal",
    "reasoning": "reasoning_left",
    "cut_off": "cut_off",
    "loop": "loop",
    "other_language": "other_language",
}
"""Measure -> the response check that it counts."""
_TABLE = Table(
    "one comparison a row",
    ("query_id",),
    (
        string("place", "file and line, or row"),
        string("query_id", "hash of the prompt"),
        messages("prompt", "the conversation", []),
        *(string(side, f"the {side} reply") for side in SIDES),
        *(string(f"{side}_responder", "its model; null if not known") for side in SIDES),
    ),
)
"""What is kept of a file while an audit runs."""
MAX_RELATIVE_GAP = 10
"""A larger limit of `length_gap` is taken for a number of characters."""
UNUSABLE = {f"left_out.{reason}" for reason in REASONS if reason not in ("equal_sides", TIE)}
"""Measures of the rows that hold no comparison, by reason. Equal sides and ties have their own."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What preferences are compared with, and held against."""

    benchmark: tuple[str, ...] = ()
    """File of a benchmark's prompts to search for, such as bench.jsonl; repeatable."""
    rm: str | None = None
    """Reward model that also judges: name@version, folder or Hub id."""
    thresholds: Path | None = None
    """TOML with [max] and [min] of measure = number; exit code 1 where one is broken."""


@dataclass(frozen=True)
class Texts:
    """Comparisons as text, in parts, and what was left out on the way."""

    layout: str
    parts: list[pl.LazyFrame]
    facts: list[pl.DataFrame]
    """Of each part, what `measures.comparison_facts` finds."""
    rows: int
    left_out: dict[str, int]
    not_read: Sequence[str] = ()
    """Columns of the source."""
    places: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the first places of rows that were left out for it."""


def audit(
    store: Store,
    source: str,
    options: AuditOptions = AuditOptions(),
    progress: Progress = silent,
    columns: Mapping[str, str] | None = None,
    part: HubPart = WHOLE,
) -> dict[str, Any]:
    """Measure the preferences of a file, a folder, a Hub dataset or `name@version`; JSON data, worst first.

    `columns` say which column holds what: prompt, system, chosen, rejected. Raises InputError where they
    cannot be read, or a threshold names no measure.
    """
    limits = read_thresholds(options.thresholds)
    benchmarks = {Path(path).name: benchmark_file.read_prompts(path) for path in options.benchmark}
    reward_model = RewardModel(options.rm, MAX_TOKENS) if options.rm else None
    scorer = load_scorer(store, reward_model, {}) if reward_model else None
    with rare_collection(), _texts(store, source, columns, part, progress) as texts:
        if not texts.parts:
            reasons = ", ".join(f"{reason}: {rows}" for reason, rows in texts.left_out.items())
            examples = [f", such as {texts.places[reason][0]}: {REASONS[reason]}" for reason in texts.places]
            problem = f"{reasons or 'no row'}{''.join(examples[:1]).rstrip('.')}"
            fix = "correct the rows, or name other columns in audit.columns"
            raise InputError(f"{source}: no comparison in it ({problem}): {fix}")
        numbered = (rows.with_columns(part=pl.lit(n, pl.UInt32)) for n, rows in enumerate(texts.facts))
        result = measures.measure(
            [part.drop("messages") for part in texts.parts],
            pl.concat(numbered),
            texts.rows,
            texts.left_out,
            CHECKS,
            benchmarks,
        )
        if scorer:
            result["measures"].append(_agreement(scorer, texts.parts, progress))
        result["measures"].sort(key=lambda row: LEVELS.index(row["level"]))
    thresholds = [_held(limit, result) for limit in limits]
    about = {
        "source": stored_ref(store, source) or _name(source),
        "layout": texts.layout,
        "not_read": list(texts.not_read),
    }
    return {**about, "left_out_at": texts.places, **result, "thresholds": thresholds}


# --- reading ----------------------------------------------------------------------------------------------


@contextmanager
def _texts(
    store: Store, source: str, columns: Mapping[str, str] | None, part: HubPart, progress: Progress
) -> Iterator[Texts]:
    if ref := stored_ref(store, source):
        if columns or part != WHOLE:
            raise InputError(
                f"{ref}: a dataset of the store: leave out audit.columns, import.hub_config and import.split"
            )
        yield _stored(store, ref)
        return

    def tick(done: int, total: int) -> None:
        progress("reading", done, max(total, done + 1), 0)  # the total is an estimate

    preferences = read_preferences(source, columns, part, tick)
    with tempfile.TemporaryDirectory(prefix="almost-data-audit-") as folder:
        yield _read(preferences, Path(folder), progress)


def _stored(store: Store, ref: str) -> Texts:
    """The comparisons of a dataset in the store, of whatever builder."""
    check_sides(store.manifest(ref))
    check_rows(store.manifest(ref))
    rows = store.scan(ref)
    names = rows.collect_schema().names()
    if "prompt" not in names:
        raise InputError(f"{ref}: not preference data: its default table has no column 'prompt'")
    place = "comparison_id" if "comparison_id" in names else "query_id"
    responders = [name for name in ("chosen_responder", "rejected_responder") if name not in names]
    rows = rows.with_columns(
        pl.col(place).alias("place"),
        *map(last_turn, ("chosen", "rejected")),
        *(pl.lit(None, pl.String).alias(name) for name in responders),
    ).select(_TABLE.names)
    parts, checks = list(map(_as_text, ranges(rows, CHUNK))), _checks()
    with ThreadPoolExecutor(WORKERS) as pool:
        facts = list(pool.map(lambda part: measures.comparison_facts(part.collect(), checks), parts))
    return Texts("a dataset of the store", parts, facts, store.manifest(ref).rows, {})


def _read(preferences: Preferences, folder: Path, progress: Progress) -> Texts:
    """The comparisons of a file, a folder or a Hub dataset, kept in files of `folder`.

    While the next ones are read, those before are written and measured by another thread.
    """
    left_out, places = Counter[str](), defaultdict[str, list[str]](list)
    rows_read = 0

    def comparisons() -> Iterator[dict[str, Any]]:
        nonlocal rows_read
        for read in preferences.rows:
            rows_read += 1
            place = basename(read.place)
            if not isinstance(read.result, Rejected):
                yield from (_row(place, preference) for preference in read.result)
                continue
            left_out[read.result.reason] += 1
            if left_out[read.result.reason] <= PLACES:
                places[read.result.reason].append(place)

    parts: list[pl.LazyFrame] = []
    pending: list[Future[pl.DataFrame]] = []
    rows, checks = comparisons(), _checks()
    with ThreadPoolExecutor(1) as pool:
        while chunk := list(islice(rows, CHUNK)):
            file = folder / f"{len(parts):06}.parquet"
            texts = frame(_TABLE, chunk)
            if pending:
                pending[-1].result()  # two chunks are in memory at most
            pending.append(pool.submit(_keep, texts, file, checks))
            parts.append(_as_text(pl.scan_parquet(file, glob=False)))
        facts = [future.result() for future in pending]
    progress("reading", rows_read, rows_read, 0)
    layout, columns = preferences.layout.described, preferences.not_read
    return Texts(layout, parts, facts, rows_read, dict(left_out), columns, places)


def _row(place: str, preference: Preference) -> dict[str, Any]:
    chosen, rejected = preference.chosen, preference.rejected
    return {
        "place": place,
        "query_id": prompt_id(preference.prompt),
        "prompt": preference.prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "chosen_responder": chosen.model,
        "rejected_responder": rejected.model,
    }


def _keep(rows: pl.DataFrame, file: Path, checks: Mapping[str, Filter]) -> pl.DataFrame:
    """Write the rows, and return the facts of them."""
    write_rows(rows, file)
    return measures.comparison_facts(_as_text(rows.lazy()).collect(), checks)


def _as_text(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The comparisons as they are measured."""
    roles = pl.col("prompt").list.eval(pl.element().struct.field("role"))
    return rows.with_columns(
        all_turns(),
        turns=pl.col("prompt").list.len().cast(pl.Int64),
        has_system=roles.list.contains("system"),
        messages=pl.col("prompt"),
    )


def _checks() -> dict[str, Filter]:
    named = checks.response_checks()
    return {measure: named[check] for measure, check in CHECKS.items()}


def _name(source: str) -> str:
    """A source as a report names it: without the folders of this machine."""
    return Path(source).resolve().name if Path(source).exists() else source


# --- the reward model -------------------------------------------------------------------------------------


def _agreement(scorer: Scorer, parts: Sequence[pl.LazyFrame], progress: Progress) -> dict[str, Any]:
    """How often the reward model scores the chosen reply higher; equal scores count half."""
    sizes = [int(part.select(pl.len()).collect().item()) for part in parts]
    fraction = min(1.0, SCORED / sum(sizes))
    sample = pl.concat(
        part.select("messages", "chosen", "rejected").collect().sample(fraction=fraction, seed=number)
        for number, part in enumerate(parts)
    )
    dialogues = (
        Dialogue(f"{number} {side}", (*row["messages"], assistant_turn(row[side])))
        for number, row in enumerate(sample.iter_rows(named=True))
        for side in ("chosen", "rejected")
    )
    scores: dict[str, float] = {}
    progress("reward model", 0, 2 * len(sample), 0)
    for score in scorer.score(dialogues):
        scores[score.id] = score.value
        progress("reward model", len(scores), 2 * len(sample), 0)
    gaps = [scores[f"{number} chosen"] - scores[f"{number} rejected"] for number in range(len(sample))]
    share = sum(0.5 if gap == 0 else gap > 0 for gap in gaps) / len(gaps)
    return finding("reward_model", f"{share:.1%} ({len(gaps):,} comparisons, {scorer.model.id})", share)


# --- thresholds -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """A number that a measure must not pass."""

    measure: str
    bound: str
    """`max` or `min`."""
    number: float


class _Thresholds(msgspec.Struct, forbid_unknown_fields=True):
    max: dict[str, float] = {}
    min: dict[str, float] = {}


def read_thresholds(path: Path | None) -> list[Limit]:
    """The limits of a TOML file. Raises InputError."""
    if path is None:
        return []
    try:
        toml = parse_toml(read_text(path))
        for bound, table in toml.items():
            for name, value in table.items() if isinstance(table, dict) else ():
                if isinstance(value, dict):  # of a key with a dot, TOML makes a table
                    key = f'"{name}.{next(iter(value), "REASON")}"'
                    raise InputError(f"{path}: [{bound}] {name}: put the name in quotes: {key}")
        tables = msgspec.convert(toml, _Thresholds)
    except (ValueError, msgspec.ValidationError) as error:
        problem = str(error).replace("Object contains unknown field", "in neither:")
        raise InputError(
            f"{path}: write tables [max] and [min], such as [max] and below it always_longer = 0.65 "
            f"({problem})"
        ) from None
    pairs: Iterable[tuple[str, Mapping[str, float]]] = (("max", tables.max), ("min", tables.min))
    limits = [Limit(name, bound, number) for bound, table in pairs for name, number in table.items()]
    for limit in limits:
        if is_share(limit.measure) and not 0 <= limit.number <= 1:
            example = f", such as {limit.number / 100:g}" if 1 < limit.number <= 100 else ""
            problem = f"{limit.measure} is a share, and {limit.number:g} is none"
            raise InputError(f"{path}: [{limit.bound}] {problem}: write a number from 0 to 1{example}")
        if limit.measure == "length_gap" and abs(limit.number) > MAX_RELATIVE_GAP:
            problem = f"length_gap is a share of the rejected length, and {limit.number:g} is too large"
            raise InputError(f"{path}: [{limit.bound}] {problem}: write 0.25 for a quarter")
    return limits


def _held(limit: Limit, result: Mapping[str, Any]) -> dict[str, Any]:
    """A limit beside what was measured. Raises InputError for a name that no measure has."""
    numbers = {row["name"]: row["number"] for row in result["measures"]}
    if limit.measure in UNUSABLE:
        numbers.setdefault(limit.measure, 0.0)  # no row was left out for that reason
    if limit.measure not in numbers:
        why = {"reward_model": "it needs a model in audit.rm"}
        if reason := result["text"]["probe"].get("reason"):
            why |= dict.fromkeys(("surface_model", "surface_beyond_length"), f"it {reason}")
        reason = f": {why[limit.measure]}" if limit.measure in why else did_you_mean(limit.measure, numbers)
        names = ", ".join(numbers)
        raise InputError(
            f"audit.thresholds: {limit.measure} was not measured{reason}; measured were: {names}"
        )
    number = numbers[limit.measure]
    holds = number <= limit.number if limit.bound == "max" else number >= limit.number
    return {"measure": limit.measure, limit.bound: limit.number, "number": number, "holds": holds}
