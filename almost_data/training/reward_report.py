"""The report on a reward model: its accuracy on unseen comparisons, shortcuts and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..diagnostics.probe import interval, transfer
from ..diagnostics.shortcuts import plain, sampled_rows
from ..errors import InputError
from ..models.chat import Messages
from ..scoring import Dialogue, Scorer
from .data import Source

JUDGED = 2_000
"""Most comparisons of a subset to score: whole queries, drawn by hash."""
NEAR = 0.1
"""Sides count as equally long if their lengths differ by less than this share of the longer side."""
BINS = 5
FEW = 8
"""Fewest comparisons of a responder pair to leave out, or of a length bucket to report."""
Numbers = NDArray[np.float64]
BUCKETS = ("rejected longer by over 10%", "within 10%", "chosen longer by over 10%")


@dataclass(frozen=True)
class Parts:
    """Comparisons to learn from, and two sets to judge on."""

    train: pl.DataFrame
    held_out: pl.DataFrame
    """Comparisons whose prompts are not trained on."""
    left_out: pl.DataFrame
    """Comparisons of a responder pair that is not trained on, whatever the prompt."""
    pair: str | None


def leave_out(source: Source, pair: str) -> Parts:
    """Take one responder pair out of training; `pair` is `A > B`, `auto` or `none`.

    Ranks follow from who wrote a reply, so a model can learn the responders' styles. Accuracy on a pair that
    it never saw shows how much it learned beyond style. `auto` takes the pair with the fewest rows, of the
    pairs with FEW rows or more; with fewer than three such pairs it takes none. Raises InputError for a pair
    that is not in the rows, or that all rows are of.
    """
    train, test = source.train, source.test
    all_trained = Parts(train, test, train.clear(), None)
    setting = f"recipe.leave_out_pair {pair!r}"
    if pair == "none":
        return all_trained
    responders = ("chosen_responder", "rejected_responder")
    if not set(responders) <= set(train.columns):
        if pair == "auto":
            return all_trained
        raise InputError(f"{setting}: {source.parent.ref} does not name the responders")
    name = pl.concat_str(*responders, separator=" > ")
    pairs = train.group_by(pair=name).len().drop_nulls().sort("len", "pair")
    if pair == "auto":
        large_pairs = pairs.filter(pl.col("len") >= FEW)["pair"]
        if len(large_pairs) < 3:
            return all_trained
        pair = large_pairs[0]
    elif pair not in pairs["pair"]:
        raise InputError(f"{setting}: no such pair; the pairs are: {', '.join(pairs['pair'])}")
    is_left_out = name.eq_missing(pl.lit(pair))  # rows without a responder stay
    if not len(train.filter(~is_left_out)):
        raise InputError(f"{setting}: all rows are of that pair, so none is left to train on")
    left_out = pl.concat([train, test]).filter(is_left_out)
    return Parts(train.filter(~is_left_out), test.filter(~is_left_out), left_out, pair)


def report(scorer: Scorer, parts: Parts) -> dict[str, Any]:
    """Accuracy on held-out prompts and on the left-out responder pair, as JSON data.

    A tie counts half. Intervals are 95%, over queries. The surface model (`probe.transfer`) and always-longer
    are judged on the same rows.
    """
    is_trained = pl.col("query_id").is_in(parts.train["query_id"].unique().implode())
    subsets = {
        "held-out prompts": parts.held_out,
        f"left-out pair, held-out prompts: {parts.pair}": parts.left_out.filter(~is_trained),
        f"left-out pair, trained prompts: {parts.pair}": parts.left_out.filter(is_trained),
    }
    subsets = {name: sampled_rows(rows, JUDGED).head(JUDGED) for name, rows in subsets.items() if len(rows)}
    columns = ("query_id", "prompt", "chosen", "rejected")
    rows = pl.concat([part.select(columns) for part in (parts.held_out.clear(), *subsets.values())])
    chosen, rejected = scores(scorer, rows)
    gaps, learned = chosen - rejected, plain(parts.train)
    entries, start = [], 0
    for name, subset in subsets.items():
        texts = plain(subset)
        surface = transfer(learned, texts)
        entries.append(
            {
                "name": name,
                "queries": subset["query_id"].n_unique(),
                **share(right(gaps[start : start + len(subset)]), subset["query_id"]),
                "always_longer": float(right(longer(texts)).mean()),
                "probe": None if surface is None else float(surface.mean()),
            }
        )
        start += len(subset)
    values = np.concatenate([chosen, rejected])
    rewards = (
        {"mean": float(values.mean()), "std": float(values.std()), "rows": len(values)}
        if len(values)
        else None
    )
    return {
        "subsets": entries,
        "left_out_pair": parts.pair,
        "buckets": buckets(rows, gaps),
        "calibration": calibration(gaps),
        "rewards": rewards,
    }


def scores(scorer: Scorer, rows: pl.DataFrame) -> tuple[Numbers, Numbers]:
    """The scores of each row's chosen and rejected dialogue."""
    pairs = rows.select("prompt", "chosen", "rejected").iter_rows()
    values = scores_of(scorer, [(*prompt, *reply) for prompt, *replies in pairs for reply in replies])
    return values[::2], values[1::2]


def scores_of(scorer: Scorer, dialogues: Sequence[Messages]) -> Numbers:
    """The score of each dialogue."""
    named = [Dialogue(str(number), messages) for number, messages in enumerate(dialogues)]
    values = {score.id: score.value for score in scorer.score(named)}
    return np.array([values[dialogue.id] for dialogue in named], np.float64)


def right(gaps: Numbers) -> Numbers:
    """1.0 where chosen scores higher, 0.5 for a tie, else 0.0."""
    return np.where(gaps == 0, 0.5, gaps > 0)


def longer(texts: pl.DataFrame) -> Numbers:
    """Characters of chosen minus those of rejected, by row of `plain`."""
    lengths = [texts[side].str.len_chars().cast(pl.Float64).to_numpy() for side in ("chosen", "rejected")]
    return np.asarray(lengths[0] - lengths[1])


def share(hits: Numbers, queries: pl.Series) -> dict[str, Any]:
    """The mean of `right`, with a 95% interval over queries."""
    low, high = interval(hits, queries)
    return {"rows": len(hits), "accuracy": float(hits.mean()), "low": low, "high": high}


def buckets(rows: pl.DataFrame, gaps: Numbers) -> list[dict[str, Any]]:
    """Accuracy where chosen is shorter, equally long and longer."""
    places = bucket(plain(rows))
    masks = {name: places == place for place, name in enumerate(BUCKETS)}
    return [
        {"name": name, **share(right(gaps[mask]), rows["query_id"].filter(pl.Series(mask)))}
        for name, mask in masks.items()
        if mask.sum() >= FEW
    ]


def bucket(texts: pl.DataFrame) -> NDArray[np.int64]:
    """The place in BUCKETS of each row of `plain`."""
    longest = texts.select(
        pl.max_horizontal(pl.col("chosen").str.len_chars(), pl.col("rejected").str.len_chars(), 1)
    ).to_series()
    difference = longer(texts) / longest.cast(pl.Float64).to_numpy()
    return np.asarray(1 + (difference >= NEAR).astype(np.int64) - (difference <= -NEAR))


def calibration(gaps: Numbers) -> dict[str, Any] | None:
    """Accuracy by confidence in the higher-scored side (logistic of the gap), and the calibration error."""
    if len(gaps) < FEW:
        return None
    confidences = 1 / (1 + np.exp(-np.abs(gaps)))
    hits = right(gaps)
    edges = np.linspace(0.5, 1, BINS + 1)
    bin_of = np.clip(np.digitize(confidences, edges) - 1, 0, BINS - 1)
    bins = [
        {
            "low": float(edges[place]),
            "high": float(edges[place + 1]),
            "rows": int(mask.sum()),
            "confidence": float(confidences[mask].mean()),
            "accuracy": float(hits[mask].mean()),
        }
        for place in range(BINS)
        if (mask := bin_of == place).any()
    ]
    error = sum(entry["rows"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins) / len(gaps)
    return {"ece": error, "bins": bins}
