"""What the results in a store say of a model."""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from ..datasets.manifest import Manifest
from ..store.store import Store
from .result import AHEAD, LESS, SIDE_A, SIDE_B, Line, Result
from .results import results


class CardRow(NamedTuple):
    """A number of a model in its card."""

    result: Result
    line: Line
    metric: str
    """With how it was measured."""
    beside: list[tuple[str, float]]
    """The same number of each baseline, and what guessing gives."""


def evaluations(store: Store, manifest: Manifest) -> list[CardRow]:
    """What the results in the store say of a model, one row a number, by task, data and fingerprint.

    Left out are fake results, those of another model that once had this name, and those of an older logic of
    their evaluation.
    """
    about = [result for result in results(store) if not result.is_fake and _is_about(result, manifest)]
    if not about:
        return []
    from .evaluation import is_outdated  # loads all that evaluates

    rows: list[CardRow] = []
    for result in about:
        if is_outdated(result):
            continue
        lines = _lines_about(result, manifest.ref)
        rows += [CardRow(result, line, _metric(result, line), _beside(result, line)) for line in lines]
    return sorted(rows, key=lambda row: (row.result.task, row.result.data_name, row.result.fingerprint))


def _is_about(result: Result, manifest: Manifest) -> bool:
    return any(
        model.id == manifest.ref and bool(model.revision) and manifest.digest.startswith(model.revision)
        for model in result.models
    )


def _lines_about(result: Result, ref: str) -> Iterator[Line]:
    """The lines of a model: its own, its lead over another model, and as side b those of side a mirrored."""
    names = {model.id for model in result.models}
    difference = f"{ref}{LESS}"
    sides = result.by_role(SIDE_A), result.by_role(SIDE_B)
    for line in result.lines:
        rival = line.who.removeprefix(difference)
        if line.who == ref:
            yield line
        elif line.who.startswith(difference) and rival in names:
            yield replace(line, who=ref, metric=f"{line.metric}, {AHEAD}{rival}")
        elif (line.who, ref) == sides and (mirrored := line.mirrored(ref)):
            yield mirrored


def _metric(result: Result, line: Line) -> str:
    """The metric with how it was measured; of a comparison, against which side, and judged by whom."""
    a, b = result.by_role(SIDE_A), result.by_role(SIDE_B)
    if a and b:
        judge = result.by_role("judge") or "people"
        return f"{line.metric} against {b if line.who == a else a}, judged by {judge}"
    metric = result.settings.get("metric")
    return f"{line.metric} ({metric})" if metric else line.metric


def _beside(result: Result, line: Line) -> list[tuple[str, float]]:
    """The same number of each baseline, and what guessing gives."""
    names = {model.id for model in result.models}
    models = names | {f"{name}{LESS}{rival}" for name in names for rival in names}
    numbers = [
        (baseline.who, baseline.value)
        for baseline in result.lines
        if (baseline.metric, baseline.subset) == (line.metric, line.subset)
        and baseline.who not in models
        and baseline.value is not None
    ]
    return numbers if line.chance is None else [*numbers, ("chance", line.chance)]
