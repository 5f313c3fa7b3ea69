"""Results in the card of the model that they are about: a table, and the Hub's `model-index`."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ..cards import card
from ..datasets.manifest import Manifest
from ..hub import merging
from ..store.names import is_ref
from ..store.store import Store

if TYPE_CHECKING:
    from .result import Line, Result

_NO_ID = re.compile(r"[^\w.-]+", re.ASCII)
AHEAD = "ahead of "
"""How the metric of a difference begins: it is in the table, and not in `model-index`."""
A, B = "model a", "model b"
"""Roles of the models of a comparison, whose lines are of the first."""
MIRRORED = {
    "win rate": "win rate",
    "win rate without ties": "win rate without ties",
    "win": "lose",
    "tie": "tie",
    "lose": "win",
}
"""A metric of side a -> that of side b."""


def renew(store: Store, result: "Result") -> None:
    """Render anew the cards of a result's models that are in the store: each has all its results then.

    Where the card is one that was pulled, what people wrote on it stays.
    """
    for model in result.models:
        if is_ref(model.id) and store.has(model.id) and not result.is_fake:

            def render(made: Manifest, figures: list[str], there: str) -> str:
                found = evaluations(store, made)
                index = _index(made, found)
                text = card.render_model(made, figures, store.ancestors(made), found, index)
                return merging.merge(text, there, made.ref) if merging.BEGIN in there else text

            store.renew_card(model.id, render)


def evaluations(store: Store, made: Manifest, wrong: list[str] | None = None) -> list[dict[str, Any]]:
    """What the results under the root say of a model, a line each: by task, data and fingerprint.

    A fake result has no part in it, nor has one of another model that once had its name, or one of an older
    logic of its task. A damaged one is left out, and said in `wrong`.
    """
    from .result import results

    found = []
    for one in results(store, [] if wrong is None else wrong):
        if one.is_fake or one.is_older or not any(_is(made, at.id, at.revision) for at in one.models):
            continue
        for line in _about(one, made.ref):
            found.append(
                {
                    "task": one.task,
                    "data": one.on,
                    "pins": {data.id: data.revision for data in one.data},
                    "config": one.settings.get("config"),
                    "split": one.settings.get("split"),
                    "line": line,
                    "metric": _metric(one, line),
                    "is_difference": AHEAD in line.metric,
                    "is_official": _is_official(one),
                    "beside": _beside(one, line),
                    "fingerprint": one.fingerprint,
                }
            )
    return sorted(found, key=lambda row: (row["task"], row["data"], row["fingerprint"]))


def _is(made: Manifest, name: str, revision: str) -> bool:
    return name == made.ref and bool(revision) and made.digest.startswith(revision)


def _about(one: "Result", ref: str) -> "Iterator[Line]":
    """The lines of a model: its own, how far it is ahead of another, and of side b what those of a say."""
    sides = {model.role: model.id for model in one.models}
    less = f"{ref} less "
    for line in one.lines:
        if line.who == ref:
            yield line
        elif line.who.startswith(less) and (other := line.who.removeprefix(less)) in sides.values():
            yield replace(line, who=ref, metric=f"{line.metric}, {AHEAD}{other}")
        elif (line.who, ref) == (sides.get(A), sides.get(B)) and line.metric in MIRRORED:
            yield mirrored(line, ref)


def mirrored(line: "Line", ref: str) -> "Line":
    """What a line of side a says of side b."""
    metric = MIRRORED[line.metric]
    if metric != line.metric or line.metric == "tie":
        return replace(line, who=ref, metric=metric)
    value, low, high = (None if one is None else 1 - one for one in (line.value, line.high, line.low))
    return replace(line, who=ref, value=value, low=low, high=high)


def _metric(one: "Result", line: "Line") -> str:
    """The metric with how it was asked for, and of a comparison with whom, and who judged."""
    sides = {model.role: model.id for model in one.models}
    if A in sides and B in sides:
        judge = sides.get("judge", "people")
        return f"{line.metric} against {sides[B if line.who == sides[A] else A]}, judged by {judge}"
    asked = one.settings.get("metric")
    return f"{line.metric} ({asked})" if asked else line.metric


def _beside(one: "Result", line: "Line") -> list[tuple[str, float]]:
    """The baselines of the same number, and what guessing gives."""
    names = {model.id for model in one.models}
    models = names | {f"{mine} less {other}" for mine in names for other in names}
    same = [
        (other.who, other.value)
        for other in one.lines
        if (other.metric, other.subset) == (line.metric, line.subset)
        and other.who not in models
        and other.value is not None
    ]
    return same if line.chance is None else [*same, ("chance", line.chance)]


def _is_official(one: "Result") -> bool:
    """Whether a result is of data that others can have; of a task with a benchmark's name, of all of it."""
    from .sources import OFFICIAL, is_official

    known = all(data.role == "data" for data in one.data)
    named = one.task not in OFFICIAL or all(is_official(one.task, data) for data in one.data)
    return bool(one.data) and known and named and not one.settings.get("limit")


def _index(made: Manifest, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Hub's `model-index`, by huggingface_hub: an entry for each subset of each result.

    The library would take all results on a dataset for one, so it is given one at a time.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    kind = "text-classification" if card.recipe_name(made) == "rm" else "text-generation"
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found:
        if row["line"].value is not None and row["is_official"] and not row["is_difference"]:
            groups.setdefault((row["fingerprint"], row["line"].subset), []).append(row)
    entries: list[dict[str, Any]] = []
    for rows in groups.values():
        some = [
            EvalResult(
                task_type=kind,
                task_name=f"{row['task']}, {row['line'].subset}",
                dataset_type=_id(row["data"] or row["task"]),
                dataset_name=row["data"] or row["task"],
                dataset_config=row["config"],
                dataset_split=row["split"],
                dataset_args=row["pins"] or None,
                metric_type=_NO_ID.sub("_", row["line"].metric),
                metric_name=row["metric"],
                metric_value=round(row["line"].value, 4),
                metric_args={
                    "items": row["line"].n,
                    "low": row["line"].low,
                    "high": row["line"].high,
                    "result": row["fingerprint"][:16],
                },
            )
            for row in rows
        ]
        entries += eval_results_to_model_index(made.ref, some)[0]["results"]
    return [{"name": made.ref, "results": entries}] if entries else []


def _id(name: str) -> str:
    """A name as the Hub takes it for a dataset's: `ORG/NAME`, or letters, digits and `_ . -`."""
    owner, slash, rest = name.partition("@")[0].partition("/")
    return f"{_NO_ID.sub('-', owner)}{slash}{_NO_ID.sub('-', rest)}"
