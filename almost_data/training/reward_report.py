"""How good a reward model is on comparisons that it did not learn from, and by what it decides."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..diagnostics.probe import draw, interval, transfer
from ..diagnostics.shortcuts import plain
from ..errors import InputError
from ..scoring import Dialogue, Scorer
from .data import Source

JUDGED = 2_000
"""Comparisons of a set that are scored, at most: whole queries, drawn by hash."""
NEAR = 0.1
"""Sides whose lengths differ by less than this share of the longer one count as equally long."""
BINS = 5
FEW = 8
"""Comparisons below which a responder pair is not worth leaving out, nor a length bucket worth a number."""
BUCKETS = ("rejected longer by over 10%", "within 10%", "chosen longer by over 10%")


@dataclass(frozen=True)
class Parts:
    """Comparisons to learn from, and two kinds of them to judge on."""

    train: pl.DataFrame
    held_out: pl.DataFrame
    """Of prompts that are not trained on."""
    left_out: pl.DataFrame
    """Of a responder pair that is not trained on, whatever the prompt."""
    pair: str | None


def leave_out(source: Source, wanted: str) -> Parts:
    """The rows without one responder pair, which is `A > B`, or `auto`, or `none`.

    A ladder labels by who wrote, so a model can learn responders by their style. A pair that it never saw
    shows how much of what it learned is more than that. `auto` takes the pair with the fewest rows, FEW at
    least, where there are three pairs or more. Raises InputError for a pair that is not there.
    """
    train, test = source.train, source.test
    if wanted == "none" or "chosen_responder" not in train.columns:
        if wanted not in ("none", "auto"):
            raise InputError(f"--leave_out_pair {wanted!r}: {source.parent.ref} does not say who wrote what")
        return Parts(train, test, train.clear(), None)
    name = pl.concat_str("chosen_responder", pl.lit(" > "), "rejected_responder")
    pairs = train.group_by(pair=name).len().drop_nulls().sort("len", "pair")
    if wanted == "auto":
        enough = pairs.filter(pl.col("len") >= FEW)
        if len(enough) < 3:
            return Parts(train, test, train.clear(), None)
        wanted = enough["pair"][0]
    elif wanted not in pairs["pair"]:
        raise InputError(
            f"--leave_out_pair {wanted!r}: there is no such pair; there are: {', '.join(pairs['pair'])}"
        )
    left = name.eq_missing(pl.lit(wanted))
    if len(train) and not len(train.filter(~left)):
        raise InputError(
            f"--leave_out_pair {wanted!r}: every row is of that pair, so none is left to train on"
        )
    return Parts(train.filter(~left), test.filter(~left), pl.concat([train, test]).filter(left), wanted)


def report(scorer: Scorer, parts: Parts) -> dict[str, Any]:
    """What the model gets right on held-out prompts and on a responder pair that it never saw.

    A tie counts half. Intervals are 95%, and take the comparisons of a query as one another's copies. The
    surface model (`probe.transfer`) and always-longer are judged on the same rows. The result is JSON data.
    """
    pair = parts.pair
    trained = pl.col("query_id").is_in(parts.train["query_id"].unique().implode())
    sets = {
        "held-out prompts": parts.held_out,
        f"left-out pair, held-out prompts: {pair}": parts.left_out.filter(~trained),
        f"left-out pair, trained prompts: {pair}": parts.left_out.filter(trained),
    }
    sets = {name: _some(rows) for name, rows in sets.items() if len(rows)}
    if not sets:
        return {"subsets": [], "left_out_pair": pair, "buckets": [], "calibration": None, "rewards": None}
    texts = [
        (name, number, row) for name, rows in sets.items() for number, row in enumerate(rows.rows(named=True))
    ]
    turns = [
        Dialogue(f"{name}/{number}/{side}", tuple(t["content"] for t in [*row["prompt"], *row[side]]))
        for name, number, row in texts
        for side in ("chosen", "rejected")
    ]
    scores = {one.id: one.value for one in scorer.score(turns)}
    subsets, gaps, learned = [], [], plain(parts.train)
    for name, rows in sets.items():
        by_side = {
            side: np.array([scores[f"{name}/{n}/{side}"] for n in range(len(rows))])
            for side in ("chosen", "rejected")
        }
        gap = by_side["chosen"] - by_side["rejected"]
        gaps.append(gap)
        words = plain(rows)
        surface = transfer(learned, words)
        subsets.append(
            {
                "name": name,
                "queries": rows["query_id"].n_unique(),
                **share(right(gap), rows["query_id"]),
                "always_longer": float(right(longer(words)).mean()),
                "probe": None if surface is None else float(surface.mean()),
            }
        )
    every = pl.concat([rows.select("query_id", "prompt", "chosen", "rejected") for rows in sets.values()])
    gap = np.concatenate(gaps)
    values = np.array(list(scores.values()))
    return {
        "subsets": subsets,
        "left_out_pair": pair,
        "buckets": buckets(every, gap),
        "calibration": calibration(gap),
        "rewards": {"mean": float(values.mean()), "std": float(values.std()), "rows": len(values)},
    }


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    if len(rows) <= JUDGED:
        return rows
    drawn = pl.Series("draw", [draw(query, 0, "judged") for query in rows["query_id"]])
    some = rows.with_columns(drawn).sort("draw", maintain_order=True)
    whole = some.filter(pl.col("draw") < some["draw"][JUDGED])
    return (whole if len(whole) else some.head(JUDGED)).drop("draw")


def right(gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """1.0 where chosen scores higher, 0.5 for a tie, else 0.0."""
    return np.where(gap == 0, 0.5, gap > 0)


def longer(words: pl.DataFrame) -> NDArray[np.float64]:
    """By row (of `plain`) how many characters chosen has more than rejected."""
    lengths = [words[side].str.len_chars().cast(pl.Float64).to_numpy() for side in ("chosen", "rejected")]
    return np.asarray(lengths[0] - lengths[1])


def share(found: NDArray[np.float64], queries: pl.Series) -> dict[str, Any]:
    """How many of the rows are `right`, with a 95% interval over queries."""
    low, high = interval(found, queries)
    return {"rows": len(found), "accuracy": float(found.mean()), "low": low, "high": high}


def buckets(rows: pl.DataFrame, gap: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Accuracy where chosen is the shorter, an equally long and the longer one."""
    place = bucket(plain(rows))
    found = []
    for number, name in enumerate(BUCKETS):
        inside = place == number
        if inside.sum() >= FEW:
            found.append(
                {"name": name, **share(right(gap[inside]), rows["query_id"].filter(pl.Series(inside)))}
            )
    return found


def bucket(words: pl.DataFrame) -> NDArray[np.int64]:
    """By row (of `plain`) which of BUCKETS it is in."""
    longest = words.select(
        pl.max_horizontal(pl.col("chosen").str.len_chars(), pl.col("rejected").str.len_chars(), 1)
    ).to_series()
    by = longer(words) / longest.cast(pl.Float64).to_numpy()
    return np.asarray(1 + (by >= NEAR).astype(np.int64) - (by <= -NEAR))


def calibration(gap: NDArray[np.float64]) -> dict[str, Any] | None:
    """How sure the model is (the logistic of the gap) of the side it prefers, and how often it is right."""
    if len(gap) < FEW:
        return None
    sure = 1 / (1 + np.exp(-np.abs(gap)))
    hits = right(gap)
    edges = np.linspace(0.5, 1, BINS + 1)
    place = np.clip(np.digitize(sure, edges) - 1, 0, BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        inside = place == number
        if inside.any():
            confidence, accuracy = float(sure[inside].mean()), float(hits[inside].mean())
            error += inside.mean() * abs(confidence - accuracy)
            bins.append(
                {
                    "low": float(edges[number]),
                    "high": float(edges[number + 1]),
                    "rows": int(inside.sum()),
                    "confidence": confidence,
                    "accuracy": accuracy,
                }
            )
    return {"ece": float(error), "bins": bins}
