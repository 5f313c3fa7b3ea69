"""Results in the card of the model that they are about: a table, and the Hub's `model-index`."""

import re
from typing import TYPE_CHECKING, Any

from .. import card
from ..hub import merging
from ..manifest import Manifest
from ..store import Store, is_ref

if TYPE_CHECKING:
    from .result import Line, Result

_NO_ID = re.compile(r"[^\w.-]+", re.ASCII)
AHEAD = "ahead of "
"""How the metric of a difference begins: it is in the table, and not in `model-index`."""


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

    A fake result has no part in it, nor has one of another model that once had its name. A damaged one is
    left out, and said in `wrong`.
    """
    from .result import results

    found = []
    for one in results(store, [] if wrong is None else wrong):
        if one.is_fake or not any(_is(made, model.id, model.revision) for model in one.models):
            continue
        others = {model.id for model in one.models}
        for line in one.lines:
            if line.who == made.ref:
                found.append(
                    {
                        "task": one.task,
                        "data": " + ".join(data.id for data in one.data),
                        "pins": {data.id: data.revision for data in one.data},
                        "config": one.settings.get("config"),
                        "split": one.settings.get("split"),
                        "line": line,
                        "beside": _beside(one, line, others),
                        "fingerprint": one.fingerprint,
                    }
                )
    return sorted(found, key=lambda row: (row["task"], row["data"], row["fingerprint"]))


def _is(made: Manifest, name: str, revision: str) -> bool:
    return name == made.ref and bool(revision) and made.digest.startswith(revision)


def _beside(one: "Result", line: "Line", others: set[str]) -> list[tuple[str, float]]:
    """The baselines of the same number, and what guessing gives."""
    same = [
        (other.who, other.value)
        for other in one.lines
        if (other.metric, other.subset) == (line.metric, line.subset)
        and other.who not in others
        and other.value is not None
    ]
    return same if line.chance is None else [*same, ("chance", line.chance)]


def _index(made: Manifest, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Hub's `model-index`, by huggingface_hub."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    kind = "text-classification" if card.recipe_name(made) == "rm" else "text-generation"
    given = [
        EvalResult(
            task_type=kind,
            task_name=f"{row['task']}, {row['line'].subset}",
            dataset_type=_id(row["data"] or row["task"]),
            dataset_name=row["data"] or row["task"],
            dataset_config=row["config"],
            dataset_split=row["split"],
            dataset_args=row["pins"] or None,
            metric_type=_NO_ID.sub("_", row["line"].metric),
            metric_name=row["line"].metric,
            metric_value=round(row["line"].value, 4),
            metric_args={
                "items": row["line"].n,
                "low": row["line"].low,
                "high": row["line"].high,
                "result": row["fingerprint"][:16],
            },
        )
        for row in found
        if row["line"].value is not None and not row["line"].metric.startswith(AHEAD)
    ]
    return eval_results_to_model_index(made.ref, given) if given else []


def _id(name: str) -> str:
    """A name as the Hub takes it for a dataset's: `ORG/NAME`, or letters, digits and `_ . -`."""
    owner, slash, rest = name.partition("@")[0].partition("/")
    return f"{_NO_ID.sub('-', owner)}{slash}{_NO_ID.sub('-', rest)}"
