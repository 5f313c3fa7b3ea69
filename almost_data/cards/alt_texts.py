"""What the figures of a card show, in words and numbers, for readers who do not see them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..datasets.ledger import Entry, plural
from ..datasets.manifest import Manifest
from .plots_model import RewardPath, logged, reward_paths

Diagnostics = Mapping[str, Any]

MOST = 12
"""Parts of a figure that are named, at most."""


def alt_texts(manifest: Manifest) -> dict[str, str]:
    """Path of a figure -> its text, as far as the manifest has the numbers."""
    diagnostics = manifest.diagnostics
    texts = {"funnel": _funnel(manifest.ledger), **_of_data(diagnostics), **_of_training(diagnostics)}
    return {f"plots/{name}.png": words for name, words in texts.items() if words}


def _of_data(diagnostics: Diagnostics) -> dict[str, str]:
    """The figures of a dataset."""
    texts = {}
    if diagnostics.get("mean_chosen_chars"):
        chosen, rejected = (f"{diagnostics[f'mean_{side}_chars']:,.0f}" for side in ("chosen", "rejected"))
        texts["lengths"] = (
            f"Lengths of both sides: a mean of {chosen} characters for chosen, {rejected} for rejected."
        )
    if mean := diagnostics.get("mean_prompt_chars"):
        texts["query_lengths"] = f"Lengths of the queries: a mean of {mean:,.0f} characters."
    responders = diagnostics.get("responders")
    if responders and isinstance(responders, dict):  # comparisons and ratings have a list of other numbers
        means = [f"{name} {row['mean_chars']:,.0f}" for name, row in responders.items()]
        texts["response_lengths"] = f"Mean length of the responses in characters: {_listed(means)}."
    if responders and diagnostics.get("ladder_pairs"):
        means = [f"{row['responder']} {row['mean_rating']:.3g}" for row in responders]
        texts["ratings"] = f"Mean rating of the responses: {_listed(means)}."
    best = diagnostics.get("best_of_n") or {}
    if curve := best.get("curve"):
        points = [f"best of {p['n']}: {p['score']:.3g}, {p['characters']:,.0f} characters" for p in curve]
        ends = points if len(points) < 3 else [points[0], points[-1]]
        texts["best_of_n"] = f"Expected score and length of the {_listed(ends)}."
    if scores := best.get("scores"):
        all_replies, picked = scores["mean"], scores["chosen_mean"]
        texts["scores"] = (
            f"Scores: a mean of {all_replies:.3g} for all replies, {picked:.3g} for picked ones."
        )
    text = diagnostics.get("text") or {}
    if text.get("rows"):
        texts |= {"length_gap": _length_gap(text), "shortcuts": _shortcuts(text)}
    return texts


def _of_training(diagnostics: Diagnostics) -> dict[str, str]:
    """The figures of a trained model."""
    report = diagnostics.get("report") or {}
    accuracies = [
        f"{row['name']} {row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%}) of {row['rows']:,}"
        for key in ("subsets", "buckets")
        for row in report.get(key) or []
        if row["rows"]
    ]
    points = logged(diagnostics)
    ends = {name: list(curve.values()) for name, curve in points.items()}
    curves = [f"{name} {values[0]:.3g} to {values[-1]:.3g}" for name, values in ends.items()]
    ece = (report.get("calibration") or {}).get("ece")
    error = "" if ece is None else f": expected calibration error {ece:.1%}"
    return {
        "accuracy": f"Accuracy with 95% interval: {_listed(accuracies)}." if accuracies else "",
        "calibration": f"Accuracy by confidence{error}." if error else "",
        "curves": f"Training curves, first to last value: {_listed(curves)}." if curves else "",
        **{path.name: _reward_path(path) for path in reward_paths(points)},
    }


def _reward_path(path: RewardPath) -> str:
    """The first step, the one with the highest reward, and the last."""
    highest = max(path.points, key=lambda point: point[2])
    points = {"the first": path.points[0], "the highest": highest, "the last": path.points[-1]}
    words = [
        f"{reward:.3g} at {across:.3g} in step {step:,.0f} ({name})"
        for name, (step, across, reward) in points.items()
    ]
    return f"{path.title}: {', '.join(words)}. It is drawn over the {path.axis}."


def _funnel(ledger: Iterable[Entry]) -> str:
    """`Funnel of responses: 235 in, 228 after too_short.`"""
    sentences = []
    by_unit: dict[str, list[Entry]] = {}
    for entry in ledger:
        by_unit.setdefault(entry.unit, []).append(entry)
    for unit, entries in by_unit.items():
        steps = [f"{entry.kept:,} after {entry.filter}" for entry in entries if entry.kept < entry.n_in]
        sentences.append(f"Funnel of {plural(unit)}: {_listed([f'{entries[0].n_in:,} in', *steps])}.")
    return " ".join(sentences)


def _length_gap(text: Mapping[str, Any]) -> str:
    gap = text["length_gap"]
    overall = (
        f"Length of chosen minus rejected in {text['rows']:,} comparisons: median {gap['q50']:+,.0f} "
        f"characters, 5% to 95% from {gap['q05']:+,.0f} to {gap['q95']:+,.0f}; chosen is longer in "
        f"{text['share_chosen_longer']:.1%}."
    )
    pairs = [f"{_pair(row)} {row['length_gap']['q50']:+,.0f}" for row in text["responder_pairs"]]
    return overall + (f" Medians by responder pair: {_listed(pairs)}." if len(pairs) > 1 else "")


def _shortcuts(text: Mapping[str, Any]) -> str:
    probe = text["probe"]
    overall = f"Picking the longer response is right in {text['always_longer']:.1%}"
    if probe["accuracy"] is not None:
        overall += f", a model of the surface in {probe['accuracy']:.1%}"
        overall += f" ({probe['low']:.1%} to {probe['high']:.1%})"
    pairs = list(_by_pair(text["responder_pairs"]))
    return f"{overall}." + (f" By responder pair: {_listed(pairs)}." if len(pairs) > 1 else "")


def _by_pair(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        probe = "" if row["probe"] is None else f" and {row['probe']:.1%}"
        yield f"{_pair(row)} {row['always_longer']:.1%}{probe} of {row['rows']:,}"


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row['chosen_responder']} over {row['rejected_responder']}"


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:MOST]) + (f" and {len(parts) - MOST:,} more" if len(parts) > MOST else "")
