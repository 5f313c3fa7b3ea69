"""Figures of comparisons: lengths, responder pairs, what each filter left, shortcuts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...cards.figures import funnel, new_figure, short_label, shortcut_figures, side_lengths
from ...datasets.builder import Figures
from ...datasets.manifest import Manifest

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def pair_matrix(manifest: Manifest) -> tuple[list[str], list[list[int | None]]]:
    """Responders, best first, and how many comparisons chose row over column; None where the ladder forbids.

    Counts are those of the last filter on pairs; of the diagnostics, where no filter on pairs ran.
    """
    names = [str(row["responder"]) for row in manifest.diagnostics["responders"]]
    counts = {
        f"{row['chosen_responder']} > {row['rejected_responder']}": int(row["comparisons"])
        for row in manifest.diagnostics["responder_pairs"]
    }
    for entry in manifest.ledger:
        if entry.by_pair:
            counts = {pair: count.kept for pair, count in entry.by_pair.items()}
    grid = [
        [counts.get(f"{chosen} > {rejected}", 0) if i < j else None for j, rejected in enumerate(names)]
        for i, chosen in enumerate(names)
    ]
    return names, grid


def figures(manifest: Manifest, tables: "Mapping[str, pl.DataFrame]") -> Figures:
    yield from side_lengths(tables["default"])
    names, grid = pair_matrix(manifest)
    if len(names) > 2 and any(count for row in grid for count in row):
        yield "pairs", _heat_map(names, grid)
    units = [unit for unit in ("response", "pair") if any(entry.unit == unit for entry in manifest.ledger)]
    if units:
        yield "funnel", funnel(manifest, units)
    yield from shortcut_figures(manifest.diagnostics)


def _heat_map(names: list[str], grid: list[list[int | None]]) -> "Figure":
    import numpy as np

    # The best responder is never rejected, the worst never chosen: that column and row would be empty.
    chosen, rejected, cells = names[:-1], names[1:], [row[1:] for row in grid[:-1]]
    figure, ax = new_figure(2.2 + 0.42 * len(chosen))
    size = 10 if len(names) <= 8 else 7.5
    values = np.array([[np.nan if count is None else count for count in row] for row in cells])
    ax.imshow(values, cmap="Blues", vmin=0, aspect="auto")
    for (i, j), count in np.ndenumerate(values):
        if count >= 0:
            colour = "w" if count > 0.55 * np.nanmax(values) else "k"
            ax.text(j, i, f"{count:,.0f}", ha="center", va="center", size=size, color=colour)
    below = [short_label(name) for name in rejected]
    ax.set_xticks(range(len(rejected)), below, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(chosen)), [short_label(name) for name in chosen])
    ax.set_xticks(np.arange(len(rejected) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(chosen) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="w", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_ylabel("chosen")
    ax.set_xlabel("rejected")
    title = "Comparisons by responder pair (blank: the ladder has no such pair)"
    figure.suptitle(title, x=0.01, ha="left", size=11.5)
    return figure
