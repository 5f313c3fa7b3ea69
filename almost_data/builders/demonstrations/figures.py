"""Figures of demonstrations: what picking the best of N does to score and length."""

from collections.abc import Mapping

import polars as pl

from ...cards.figures import BLUE, INK, ORANGE, WIDTH, new_figure
from ...datasets.builder import Figures
from ...datasets.manifest import Manifest


def figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    best = manifest.diagnostics["best_of_n"]
    if not best or not best["turns"]:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots(1, 2)
    numbers = [point["n"] for point in best["curve"]]
    for ax, key, name in zip(axes, ("score", "characters"), ("score", "length (characters)"), strict=True):
        ax.plot(numbers, [point[key] for point in best["curve"]], color=BLUE, marker="o")
        ax.set_title(f"Expected {name}")
        ax.set_xlabel(f"best of so many replies ({best['turns']:,} turns)")
        ax.set_xticks(numbers[:: 1 + len(numbers) // 17])
        ax.yaxis.grid(True)
    yield "best_of_n", figure
    scores = best["scores"]
    figure, ax = new_figure(3.0)
    for key, colour, name in (("all", ORANGE, "all replies"), ("chosen", BLUE, "picked replies")):
        total = max(1, sum(scores[key]))
        heights = [count / total for count in scores[key]]
        ax.stairs(heights, scores["edges"], fill=True, color=colour, alpha=0.35)
        ax.stairs(heights, scores["edges"], color=colour, linewidth=1.6, label=f"{name} ({total:,})")
    if reference := scores.get("reference"):
        ax.axvline(
            reference["mean"], color=INK, linestyle="--", linewidth=1.4, label="mean of its test scores"
        )
    figure.legend(loc="outside lower center", ncols=3)
    ax.set_xlabel("score of the reward model")
    ax.set_ylabel("share of the replies")
    ax.set_title("Scores of all replies and of the picked ones")
    yield "scores", figure
