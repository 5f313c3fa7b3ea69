"""Accuracy on preference data: how often a model scores chosen above rejected (Table 3 of the paper).

Any layout of `readers.layouts` is read. Beside the model are always-longer, a surface model
fitted on the set's own train split, and the models of `versus`, on the same rows: the As-is RM, or a model
trained on that very set as an upper bound.

Deviation from the paper: it gives accuracies alone. Here they have intervals over prompts, and differences
are paired.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from msgspec.structs import replace

from ..datasets.builder import text_id
from ..diagnostics.probe import transfer
from ..diagnostics.shortcuts import plain, sampled_rows
from ..errors import InputError
from ..readers.layout import SIDES
from ..readers.preferences import parse_columns
from ..scoring import Dialogue
from ..training.reward_report import BUCKETS, FEW, Numbers, bucket, longer, right
from .choices import LONGEST
from .evaluation import EvalSession, Evaluation, ItemValue, ModelOptions
from .preference_data import Comparisons, open_comparisons, training_notes
from .result import AHEAD, READ_AS, EvalPlan, Line, Measurement
from .stats import paired
from .subject import Kind, Subject

HH_RLHF = "Anthropic/hh-rlhf@09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
HELPFUL_BASE = "helpful-base"
"""The part of HH-RLHF that the paper judges reward models on."""
SURFACE = "surface model"
PER_CHARACTER = "accuracy, per character"
Scores = dict[str, Numbers]
"""Of each comparison, by side."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    dataset: str = HH_RLHF
    """name@version, a name, file, folder or ORG/NAME@REVISION, in any layout that an import reads."""
    config: str | None = None
    """Config of a dataset of the store."""
    hub_config: str | None = None
    """Config of a Hub dataset, or a folder in it; for HH-RLHF the default is helpful-base."""
    columns: str | None = None
    """Columns to read, where no layout fits: prompt=q,chosen=good,rejected=bad."""
    split: str = "test"
    """Split of the dataset to judge on. Of a file all rows are judged."""
    versus: tuple[str, ...] = ()
    """Another model on the same comparisons; repeatable."""


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """The accuracy of the model and its rivals; a tie counts half.

    Raises InputError for what cannot be read or pinned, and where a model was trained on those rows.
    """
    names = [options.model, *options.versus]
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"eval.versus {duplicate}: it is judged already: name another")
    is_hh = options.dataset.partition("@")[0] == HH_RLHF.partition("@")[0]
    hub_config = HELPFUL_BASE if options.hub_config is None and is_hh else options.hub_config
    columns = parse_columns(options.columns)
    judged = open_comparisons(
        session.store, options.dataset, options.split, columns, options.config, hub_config
    )
    subjects = [session.subject(options)]
    subjects += [session.subject(options, name, "eval.versus") for name in options.versus]
    notes = training_notes(session.store, subjects, judged)
    dtypes = [subject.dtype for subject in subjects]

    def measure() -> Measurement:
        session.notes.extend(notes)
        return _measure(session, subjects, judged, options)

    return EvalPlan(
        models=[
            replace(subject.pinned, role="versus" if number else "model")
            for number, subject in enumerate(subjects)
        ],
        data=[judged.pinned],
        settings={
            "config": judged.source.config,
            "split": None if judged.is_file else options.split,
            **({"columns": columns} if columns else {}),
            "limit": options.limit,
            "seed": options.seed,
            "max_tokens": [subject.scorer.max_tokens for subject in subjects],
            # Of reward models it decides nothing but rounding.
            **({"dtype": dtypes} if any(dtypes) else {}),
        },
        measure=measure,
    )


def _measure(
    session: EvalSession, subjects: list[Subject], judged: Comparisons, options: Options
) -> Measurement:
    rows = judged.source.train
    if options.limit is not None:
        rows = sampled_rows(rows, options.limit, options.seed)
    texts, queries = plain(rows), rows["query_id"]
    scores: dict[str, Scores] = {}
    for subject in subjects:
        by_id = session.scores(subject, _dialogues(subject, rows))
        sides = (np.array([by_id[f"{n}/{side}"] for n in range(len(rows))]) for side in SIDES)
        scores[subject.model.id] = dict(zip(SIDES, sides, strict=True))
        subject.scorer.close()  # frees its weights before the next model is loaded
    credits = {name: right(by_side["chosen"] - by_side["rejected"]) for name, by_side in scores.items()}
    credits[LONGEST] = right(longer(texts))
    surface = transfer(judged.surface_texts(rows), texts)
    if surface is not None:
        credits[SURFACE] = surface
    model = subjects[0]
    return Measurement(
        lines=_lines(model, scores[model.model.id], credits, texts, queries),
        items=[row for name, by_side in scores.items() for row in _items(name, by_side, rows)],
        key=("who", "row"),
        notes=list(_remarks(judged, rows, surface is None, model.kind)),
        environment={"scorers": {subject.model.id: subject.scorer.settings() for subject in subjects}},
    )


def _dialogues(subject: Subject, rows: pl.DataFrame) -> Iterator[Dialogue]:
    """Both replies of each row: as a reward model's whole dialogue, or as a text and its continuation."""
    for number, row in enumerate(rows.select("prompt", *SIDES).iter_rows(named=True)):
        for side in SIDES:
            [reply] = row[side]
            if subject.kind == "reward":
                yield Dialogue(f"{number}/{side}", (*row["prompt"], reply))
            else:
                model = subject.likelihood
                context = model.context(row["prompt"])
                yield Dialogue.of(f"{number}/{side}", context, model.after(context, reply["content"]))


def _items(name: str, scores: Scores, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows.select("query_id", *SIDES).iter_rows(named=True)):
        texts = {side: row[side][0]["content"] for side in SIDES}
        yield {
            "who": name,
            "row": number,
            "query_id": row["query_id"],
            **{f"{side}_id": text_id(text) for side, text in texts.items()},
            **{f"{side}_score": float(scores[side][number]) for side in SIDES},
            **{f"{side}_characters": len(text) for side, text in texts.items()},
        }


def item_value(row: dict[str, Any], line: Line) -> ItemValue | None:
    """Whether chosen is above rejected, for an overall line."""
    measure = "characters" if line.who == LONGEST else "score"
    if line.subset != "overall" or (measure == "score" and row["who"] != line.who):
        return None
    gap = row[f"chosen_{measure}"] - row[f"rejected_{measure}"]
    return ItemValue(str(row["row"]), 0.5 if gap == 0 else float(gap > 0), row["query_id"])


def _lines(
    model: Subject, scores: Scores, credits: dict[str, Numbers], texts: pl.DataFrame, queries: pl.Series
) -> list[Line]:
    """Accuracies of all, of the model by length too (a language model's per character too), and its lead.

    `credits` has, by model or baseline, 1 for each row it gets right, 0.5 for a tie, and 0 otherwise.
    """
    who = model.model.id

    def line(name: str, values: Numbers, metric: str = "accuracy") -> Line:
        return Line.of(name, metric, values.tolist(), chance=0.5, groups=queries.to_list())

    lines = [line(name, values) for name, values in credits.items()]
    if model.kind == "language":
        lengths = {side: texts[side].str.len_chars().clip(1).cast(pl.Float64).to_numpy() for side in SIDES}
        chosen, rejected = (scores[side] / lengths[side] for side in SIDES)
        lines.insert(1, line(who, right(chosen - rejected), PER_CHARACTER))
    for number, name in enumerate(BUCKETS):
        inside = bucket(texts) == number
        if inside.sum() >= FEW:
            groups = queries.filter(pl.Series(inside)).to_list()
            values = credits[who][inside].tolist()
            lines.append(Line.of(who, "accuracy", values, name, 0.5, groups))
    rivals = [name for name in credits if name != who]
    return lines + [_ahead(who, rival, credits[who] - credits[rival], queries) for rival in rivals]


def _ahead(who: str, rival: str, gaps: Numbers, queries: pl.Series) -> Line:
    """The paired difference, with an interval over prompts."""
    ties = int((gaps == 0).sum())
    difference = paired(gaps.tolist(), queries.to_list())
    return Line(who, f"{AHEAD}{rival}", "overall", len(gaps), *difference, ties)


def _remarks(judged: Comparisons, rows: pl.DataFrame, has_no_surface: bool, kind: Kind) -> Iterator[str]:
    source = judged.source
    if kind == "language":
        yield (
            "A language model prefers the reply with the higher log-likelihood, which favours short ones; "
            "per character, it is divided by the reply's length."
        )
    yield f"{READ_AS}{source.read_as}."
    if count := source.unusable[0]:
        rows_read = f"{count:,} of {source.read:,} rows"
        yield f"{rows_read} were not judged, as no dialogue can be read in them: {source.rejects}"
    if len(rows) < len(source.train):
        yield f"{len(rows):,} of {len(source.train):,} comparisons were judged: whole prompts, by the seed."
    if has_no_surface:
        yield (
            "No surface model is beside it: it is fitted on prompts of a train split that are not judged, "
            "and needs 50 comparisons of them."
        )
    if source.manifest and source.manifest.is_fake:
        yield f"{source.parent.ref} is text of the fake engine: nothing follows from it."


EVALUATION = Evaluation(
    name="preference",
    logic_version=4,
    options=Options,
    plan=plan,
    description="Accuracy on comparisons, beside always-longer, a model of the surface, and other models.",
    item_value=item_value,
)
