"""What the figures of a card show, in words and numbers, for readers who do not see them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..datasets.manifest import Entry, Manifest
from .figures import plural

MOST = 12
"""Parts of a figure that are named, at most."""


def alt_texts(manifest: Manifest) -> dict[str, str]:
    """Path of a figure -> its text, as far as the manifest has the numbers."""
    text = manifest.diagnostics.get("text") or {}
    texts = {"funnel": _funnel(manifest.ledger)}
    if text.get("rows"):
        texts |= {"length_gap": _length_gap(text), "shortcuts": _shortcuts(text)}
    return {f"plots/{name}.png": words for name, words in texts.items() if words}


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
