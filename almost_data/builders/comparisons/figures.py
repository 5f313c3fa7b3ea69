"""Figures of comparisons: lengths, what each filter left, shortcuts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...cards.figures import drops_rows, funnel, shortcut_figures, side_lengths
from ...datasets.builder import Figures
from ...datasets.manifest import Manifest

if TYPE_CHECKING:
    import polars as pl


def pair_matrix(manifest: Manifest) -> tuple[list[str], list[list[int | None]]]:
    """Responders, best first, and how many comparisons chose row over column; None where that cannot be.

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
        [counts.get(f"{chosen} > {rejected}", 0 if i < j else None) for j, rejected in enumerate(names)]
        for i, chosen in enumerate(names)
    ]
    return names, grid


def figures(manifest: Manifest, tables: "Mapping[str, pl.DataFrame]") -> Figures:
    yield from side_lengths(tables["default"])
    if drops_rows(manifest):
        yield "funnel", funnel(manifest, ["response", "pair"])
    yield from shortcut_figures(manifest.diagnostics)
