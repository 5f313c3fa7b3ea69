"""Results in the card of the model that they are about: a table, and the Hub's `model-index`."""

import re
from functools import partial
from typing import Any

from ..cards import merging
from ..cards.model import recipe_name, render_model
from ..datasets.manifest import Manifest
from ..store.store import Store
from .evaluation import installed_evaluation
from .model_results import CardRow, evaluations
from .result import Result

_NO_ID = re.compile(r"[^\w.-]+", re.ASCII)


def renew(store: Store, result: Result) -> None:
    """Render the cards of a result's models in the store anew, with all their results."""
    for model in result.models:
        if model.id in store.refs(model.id.partition("@")[0]) and not result.is_fake:
            store.renew_card(model.id, partial(render, store))


def render(store: Store, manifest: Manifest, figures: list[str], existing: str) -> str:
    """The card of a model with its results. What people wrote on `existing`, if it was pulled, stays."""
    rows = evaluations(store, manifest)
    text = render_model(manifest, figures, store.ancestors(manifest), rows, _index(manifest, rows))
    return merging.merge(text, existing, manifest.ref) if merging.BEGIN in existing else text


def _is_official(result: Result) -> bool:
    """Whether a result is of all of a public dataset, and under a benchmark's name of its own data."""
    evaluation = installed_evaluation(result.task)
    is_data = all(data.role == "data" for data in result.data)
    is_benchmark = evaluation is None or all(map(evaluation.is_official, result.data))
    return bool(result.data) and is_data and is_benchmark and not result.settings.get("limit")


def _index(manifest: Manifest, rows: list[CardRow]) -> list[dict[str, Any]]:
    """The Hub's `model-index`, by huggingface_hub: an entry for each subset of each result.

    The library would merge all results on a dataset, so each result goes through it by itself.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    task_type = "text-classification" if recipe_name(manifest) == "rm" else "text-generation"
    groups: dict[tuple[str, str], list[Any]] = {}
    for result, line, metric, _ in rows:
        if line.value is None or line.is_difference or not _is_official(result):
            continue
        entry = EvalResult(
            task_type=task_type,
            task_name=f"{result.task}, {line.subset}",
            dataset_type=_hub_name(result.data_name or result.task),
            dataset_name=result.data_name or result.task,
            dataset_config=result.settings.get("config"),
            dataset_split=result.settings.get("split"),
            dataset_args={data.id: data.revision for data in result.data} or None,
            metric_type=_NO_ID.sub("_", line.metric),
            metric_name=metric,
            metric_value=round(line.value, 4),
            metric_args={
                "items": line.n,
                "low": line.low,
                "high": line.high,
                "result": result.fingerprint[:16],
            },
        )
        groups.setdefault((result.fingerprint, line.subset), []).append(entry)
    entries = [
        entry
        for group in groups.values()
        for entry in eval_results_to_model_index(manifest.ref, group)[0]["results"]
    ]
    return [{"name": manifest.ref, "results": entries}] if entries else []


def _hub_name(name: str) -> str:
    """A name as the Hub accepts it for a dataset's: `ORG/NAME`, or letters, digits and `_ . -`."""
    owner, slash, rest = name.partition("@")[0].partition("/")
    return f"{_NO_ID.sub('-', owner)}{slash}{_NO_ID.sub('-', rest)}"
