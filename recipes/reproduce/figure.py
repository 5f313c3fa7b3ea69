"""The figure of the paper's claims: each difference that was measured, with its interval and verdict."""

import textwrap
from typing import Any

from almost_data.cards.figures import BLUE, GREY, ORANGE, as_files, new_figure, short_label, style
from almost_data.cards.plots_model import GREEN
from almost_data.datasets.builder import Figures

COLOURS = {
    "reproduced": GREEN,
    "not reproduced": ORANGE,
    "too small to say": BLUE,
    "at chance": GREY,
}
WRAP = 56
"""Characters of a line of a claim in the figure."""


def render(tables: list[dict[str, Any]]) -> dict[str, bytes]:
    """`plots/claims.png`, where anything was measured; `tables` as `study.report` has them."""
    with style():
        return as_files(_figures(tables))


def _figures(tables: list[dict[str, Any]]) -> Figures:
    rows = [
        (f"{table['name']}: {claim['says']}", claim)
        for table in tables
        for claim in table["claims"]
        if claim["difference"] is not None
    ]
    if not rows:
        return
    figure, axes = new_figure(1.2 + 0.4 * len(rows))
    for place, (_, claim) in enumerate(rows):
        middle, low, high = (100 * claim[key] for key in ("difference", "low", "high"))
        colour = COLOURS[claim["verdict"]]
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(middle, place, "o", color=colour, markersize=5)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(
        range(len(rows)),
        [textwrap.fill(short_label(name, 200), WRAP, break_on_hyphens=False) for name, _ in rows],
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("difference in points, 95% interval")
    for verdict in dict.fromkeys(claim["verdict"] for _, claim in rows):
        axes.plot([], [], "o-", color=COLOURS[verdict], label=verdict, markersize=5, linewidth=2)
    figure.legend(loc="outside upper right", ncols=4, frameon=False)
    yield "claims", figure
