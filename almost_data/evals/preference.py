"""Accuracy on preference data: how often a model scores chosen above rejected (Table 3 of the paper).

Any of TRL's preference formats, HH-RLHF's too. Beside the model stand always-longer, a surface model fitted
on the set's own train split, and whatever `versus` names, on the same rows: the As-is RM, or as an upper
bound a model trained on that very set.

Deviation from the paper: it gives accuracies alone. Here they have intervals over prompts, and differences
are paired.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..datasets.builder import text_id
from ..datasets.manifest import Manifest, Parent
from ..diagnostics.probe import transfer
from ..diagnostics.shortcuts import plain, sampled_queries
from ..errors import InputError
from ..readers import files
from ..scoring import BASELINE, Dialogue, Options
from ..store.names import is_ref
from ..store.store import Store
from ..training.data import Source, from_hub, from_store
from ..training.reward_report import BUCKETS, FEW, bucket, calibration, longer, right, share
from ..training.shapes import comparisons
from . import HELPFUL_BASE, HH_RLHF
from .choices import LONGEST
from .on_card import AHEAD
from .result import LOGIC, Line, Pinned, Result, known, save
from .stats import paired
from .subject import Progress, Subject, find, scores

TASK = "preference"
LOGIC_VERSION = LOGIC[TASK]
SURFACE = "surface model"
PER_CHARACTER = "accuracy, per character"
FILE_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
COLUMNS = ("prompt", "chosen", "rejected", "chosen_responder", "rejected_responder")
"""Columns of a file that are read."""
Numbers = NDArray[np.float64]


def run(
    store: Store,
    model: str,
    data: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    split: str = "test",
    versus: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Result:
    """Judge `model` on comparisons: of `name@version`, `ORG/NAME@REVISION`, or a JSONL or Parquet file.

    Of a file all rows are judged, of a dataset those of `split`, and of HH-RLHF the part `helpful-base` where
    no `config` is named; with `limit`, whole prompts drawn by the seed. A tie counts half. Raises InputError
    for what cannot be read or pinned, and where the model was trained on those rows.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give 1 or more, or leave it out")
    started = time.monotonic()
    if config is None and data.partition("@")[0] == HH_RLHF.partition("@")[0]:
        config = HELPFUL_BASE
    source, pinned = _open(store, data, config, split)
    names = [model, *versus]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise InputError(f"--versus {twice}: that one is judged already: name another")
    judged = _judged(source, split)
    subjects = [
        find(store, one, None if at else revision, options, flag=_flag(at)) for at, one in enumerate(names)
    ]
    notes = _sources(store, subjects, judged, split)
    draft = Result(
        task=TASK,
        logic_version=LOGIC_VERSION,
        models=[
            msgspec.structs.replace(one.pinned, role="versus" if at else "model")
            for at, one in enumerate(subjects)
        ],
        data=[pinned],
        prompts={},
        settings={
            "config": source.config,
            "split": None if _is_file(source) else split,
            "limit": limit,
            "seed": seed,
            "max_tokens": [one.scorer.max_tokens for one in subjects],
            # Of reward models it decides nothing but rounding.
            **({"dtype": dtypes} if any(dtypes := [one.dtype for one in subjects]) else {}),
        },
        lines=[],
    )
    if found := known(store, draft):
        return found
    rows = _some(judged.train, limit, seed)
    words = plain(rows)
    gaps: dict[str, Numbers] = {}
    how: dict[str, Any] = {}
    items: list[dict[str, Any]] = []
    lengths = _lengths(words)
    while subjects:
        one = subjects.pop(0)  # and with it its weights
        given = scores(store, one, TASK, list(_dialogues(one, rows)), progress, notes)
        sides = {side: np.array([given[f"{n}/{side}"] for n in range(len(rows))]) for side in lengths}
        gaps[one.model.id] = sides["chosen"] - sides["rejected"]
        how[one.model.id] = one.scorer.settings()
        items += _items(one.model.id, rows, sides)
        if not how.keys() - {one.model.id}:
            mine, kind = one.model.id, one.kind
            per_character = sides["chosen"] / lengths["chosen"] - sides["rejected"] / lengths["rejected"]
    queries = rows["query_id"]
    others = {LONGEST: right(longer(words))}
    surface = transfer(_surface(source, rows), words)
    others |= {} if surface is None else {SURFACE: surface}
    hits = {name: right(gap) for name, gap in gaps.items()} | others
    lines = [_line(name, "overall", found, queries) for name, found in hits.items()]
    if kind == "language":
        lines.insert(1, _line(mine, "overall", right(per_character), queries, PER_CHARACTER))
    lines += [
        _line(mine, name, hits[mine][inside], queries.filter(pl.Series(inside)))
        for number, name in enumerate(BUCKETS)
        if (inside := bucket(words) == number).sum() >= FEW
    ]
    lines += [_ahead(mine, name, hits[mine], found, queries) for name, found in hits.items() if name != mine]
    done = msgspec.structs.replace(
        draft,
        lines=lines,
        details=_details(mine, kind, hits, gaps[mine]),
        notes=[*notes, *_remarks(judged, rows, surface is None, kind)],
    )
    return save(store, done, items, time.monotonic() - started, scorers=how)


# --- what is judged ------------------------------------------------------------------------------------


def _open(store: Store, data: str, config: str | None, split: str) -> tuple[Source, Pinned]:
    """The rows to judge on as `train` of a Source, and as its `test` those that the surface model learns."""
    learned = "" if split == "train" else "train"
    if is_ref(data) and not Path(data).is_file():
        source = from_store(store, data, config, split, learned)
        made = source.manifest
        return source, Pinned(data, source.parent.digest, "data", made is not None and made.is_fake)
    name, at, revision = data.partition("@")
    if files.is_hub(data, FILE_SUFFIXES):
        if not at:
            raise InputError(f"--dataset {data}: give it a tag or a commit, as {data}@COMMIT")
        source = from_hub(store, name, revision, config, split, learned, "--split")
        return source, Pinned(
            name, str(source.revision), "data", bool(source.manifest and source.manifest.is_fake)
        )
    if config:
        raise InputError(f"--config goes with a dataset, and {data} is a file")
    record = files.record(data, FILE_SUFFIXES)
    read = [row for _, row in files.read_rows(data, FILE_SUFFIXES, COLUMNS.__contains__)]
    if not read:
        raise InputError(f"{data}: no row in it")
    columns = [name for name in COLUMNS if any(name in row for row in read)]
    try:
        rows = pl.DataFrame(
            [{name: row.get(name) for name in columns} for row in read], infer_schema_length=None
        )
    except (pl.exceptions.PolarsError, TypeError):
        raise InputError(
            f"{data}: {', '.join(columns)} must each be text, or messages, in all rows alike"
        ) from None
    mark = f"sha256:{record['sha256']}"
    parent = Parent(record["name"], mark, "")
    source = Source(parent, None, None, True, rows, rows.clear(), frozenset(rows.columns))
    return source, Pinned(parent.ref, mark, "data")


def _judged(source: Source, split: str) -> Source:
    """The comparisons to judge on, as its `train`."""
    if not len(source.train):
        raise InputError(f"{source.parent.ref}: no row to judge on")
    name = "judged" if _is_file(source) else split
    return comparisons(replace(source, test=source.train.clear(), has_test=True, splits=(name, "")))


def _surface(source: Source, rows: pl.DataFrame) -> pl.DataFrame:
    """The texts that the surface model learns: of the train split, on prompts that are not judged."""
    if not len(source.test):
        return plain(rows.clear())
    learned = comparisons(replace(source, train=source.test, test=source.test.clear(), has_test=True)).train
    return plain(learned.filter(~pl.col("query_id").is_in(rows["query_id"].unique().implode())))


def _some(rows: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    if limit is None or len(rows) <= limit:
        return rows
    drawn = sampled_queries(rows.group_by("query_id").agg(pairs=pl.len()), limit, seed)
    return rows.filter(pl.col("query_id").is_in(drawn.implode()))


def _sources(store: Store, subjects: Sequence[Subject], source: Source, split: str) -> list[str]:
    """What the models know of these rows, by their manifests. Raises InputError where they learned them."""
    notes = []
    ours = _marks(source.parent.ref, source.parent.digest)
    for at, one in enumerate(subjects):
        if one.manifest is None:
            continue
        name = one.model.id
        learned = list(_learned(store, one.manifest))
        if any(ours & _marks(parent.ref, parent.digest) for parent in learned):
            if split == "train" and not _is_file(source):
                raise InputError(
                    f"{_flag(at)} {name} was trained on the train split of {source.parent.ref}, and its "
                    "accuracy there says nothing: judge it on --split test"
                )
            notes.append(
                f"{name} was trained on the train split of {source.parent.ref}: for models that were not, it "
                "is an upper bound."
            )
        elif any(ours & _marks(made.ref, made.digest) for made in store.ancestors(one.manifest)):
            notes.append(f"{source.parent.ref} had a part in {name}, which was not itself trained on it.")
        for parent in learned:
            if not store.has(parent.ref) or store.manifest(parent.ref).kind != "dataset":
                continue
            known_ones = store.scan(parent.ref, split="train").select("query_id").collect()["query_id"]
            ids = set(source.train["query_id"])
            if both := len(ids & set(known_ones)):
                notes.append(
                    f"{both:,} of the {len(ids):,} prompts judged on are in the train split of {parent.ref}, "
                    f"which {name} was trained on: its accuracy is too high."
                )
    return list(dict.fromkeys(notes))


def _marks(ref: str, digest: str) -> set[str]:
    """What a dataset is known by; on the Hub, whatever the revision."""
    return {ref, digest, ref.partition("@")[0] if "/" in ref else ref}


def _is_file(source: Source) -> bool:
    return source.parent.digest.startswith("sha256:")


def _learned(store: Store, made: Manifest) -> Iterator[Parent]:
    """The datasets that a model was trained on, and those that its base models were."""
    ref = made.config["dataset"]["ref"]
    yield from (one for one in made.parents if one.ref == ref)
    base = made.config["base"]["id"]
    if is_ref(base) and store.has(base):
        yield from _learned(store, store.manifest(base))


def _dialogues(subject: Subject, rows: pl.DataFrame) -> Iterator[Dialogue]:
    """Both replies of every row: as the model's whole dialogue, or as a text and its continuation."""
    scorer: Any = subject.scorer
    for number, row in enumerate(rows.select("prompt", "chosen", "rejected").iter_rows(named=True)):
        for side in ("chosen", "rejected"):
            [reply] = row[side]
            if subject.kind == "reward":
                turns = tuple(turn["content"] for turn in [*row["prompt"], reply])
            else:
                context = scorer.context(row["prompt"])
                turns = (context, scorer.after(context, reply["content"]))
            yield Dialogue(f"{number}/{side}", turns)


def _items(who: str, rows: pl.DataFrame, sides: dict[str, Numbers]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows.select("query_id", "chosen", "rejected").iter_rows(named=True)):
        yield {
            "who": who,
            "row": number,
            "query_id": row["query_id"],
            **{f"{side}_id": text_id(row[side][0]["content"]) for side in sides},
            **{f"{side}_score": float(found[number]) for side, found in sides.items()},
            **{f"{side}_characters": len(row[side][0]["content"]) for side in sides},
        }


# --- what comes of it ----------------------------------------------------------------------------------


def _lengths(words: pl.DataFrame) -> dict[str, Numbers]:
    return {
        side: words[side].str.len_chars().clip(1).cast(pl.Float64).to_numpy()
        for side in ("chosen", "rejected")
    }


def _line(who: str, subset: str, found: Numbers, queries: pl.Series, metric: str = "accuracy") -> Line:
    one = share(found, queries)
    ties = int((found == 0.5).sum())
    return Line(who, metric, subset, len(found), one["accuracy"], one["low"], one["high"], ties, 0.5)


def _ahead(who: str, other: str, mine: Numbers, theirs: Numbers, queries: pl.Series) -> Line:
    """The paired difference; its interval draws whole prompts."""
    difference = mine - theirs
    value, low, high = paired(difference.tolist(), queries.to_list())
    equal = int((difference == 0).sum())
    line = Line(who, f"{AHEAD}{other}", "overall", len(mine), value, low, high, equal)
    # Of a few prompts drawn anew, hardly anything is another draw.
    return line if queries.n_unique() >= FEW else msgspec.structs.replace(line, low=None, high=None)


def _details(who: str, kind: str, hits: dict[str, Numbers], gap: Numbers) -> dict[str, Any]:
    mine = hits[who].mean()
    beside = [
        [name, f"{found.mean():.1%}", f"{mine / found.mean():.1%}" if found.mean() else "n/a"]
        for name, found in hits.items()
        if name != who
    ]
    found: dict[str, Any] = {
        "beside": {
            "title": "Its accuracy as a share of what others have",
            "columns": ["other", "accuracy", "share of it"],
            "rows": beside,
        }
    }
    sure = calibration(gap) if kind == "reward" and not who.startswith((BASELINE, "fake/")) else None
    if sure:
        found["calibration"] = {
            "title": f"Calibration: expected error {sure['ece']:.1%}",
            "columns": ["confidence", "comparisons", "mean confidence", "accuracy"],
            "rows": [
                [
                    f"{at['low']:.0%} to {at['high']:.0%}",
                    at["rows"],
                    f"{at['confidence']:.1%}",
                    f"{at['accuracy']:.1%}",
                ]
                for at in sure["bins"]
            ],
        }
    return found


def _remarks(judged: Source, rows: pl.DataFrame, alone: bool, kind: str) -> Iterator[str]:
    if kind == "language":
        yield (
            "A language model prefers the reply to which it gives the higher log-likelihood, which favours "
            "short ones; per character, it is divided by the reply's length."
        )
    wrong, why = judged.unusable
    if wrong:
        yield f"{wrong:,} of {judged.read:,} rows were not judged, as no dialogue can be read in them: {why}"
    if len(rows) < len(judged.train):
        yield f"{len(rows):,} of {len(judged.train):,} comparisons were judged: whole prompts, by the seed."
    if alone:
        yield "No surface model stands beside it: it learns from a train split of 50 comparisons at least."
    if judged.manifest and judged.manifest.is_fake:
        yield f"{judged.parent.ref} is text of the fake engine: nothing follows from it."


def _flag(place: int) -> str:
    return "--versus" if place else "--model"
