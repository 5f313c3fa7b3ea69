"""The figure of a result: each number a dot with its interval, beside baselines and chance."""

import textwrap
from typing import TYPE_CHECKING

from ..cards.figures import BLUE, GREY, ORANGE, as_files, new_figure, short_label, style
from .on_card import AHEAD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Line, Result

MOST = 24
"""Lines in the figure, at most: the first ones."""
WRAP = 52
"""Characters of a line of a label, so that half of the width is left to the numbers."""


def render(result: "Result") -> dict[str, bytes]:
    """`plots/result.png`; nothing where no line has a value."""
    lines = [one for one in result.lines if one.value is not None][:MOST]
    if not lines:
        return {}
    with style():
        return as_files(iter([("result", _forest(result, lines))]))


def _forest(result: "Result", lines: "list[Line]") -> "Figure":
    """Lines in the order of the result, a rule between the groups of them."""
    models = {model.id for model in result.models[:1]}
    labels = [textwrap.fill(_label(one, lines), WRAP, break_on_hyphens=False) for one in lines]
    figure, ax = new_figure(1.5 + (0.46 if any("\n" in one for one in labels) else 0.34) * len(lines))
    for y, one in enumerate(lines):
        value = float(one.value or 0)
        mine = one.who in models
        colour = BLUE if mine else ORANGE
        if one.low is not None and one.high is not None:
            ax.hlines(y, one.low, one.high, color=colour, linewidth=2)
        ax.scatter([value], [y], s=45, c=colour, marker="o" if mine else "D", zorder=3)
        if one.chance is not None:
            ax.vlines(one.chance, y - 0.4, y + 0.4, color=GREY, linestyle="--", linewidth=1.2)
        if y and _group(lines[y - 1]) != _group(one):
            ax.axhline(y - 0.5, color="#BBBBBB", linewidth=0.8)
    if any(one.value is not None and one.chance is None for one in lines):
        ax.axvline(0, color="#BBBBBB", linewidth=0.8, zorder=0.5)
    ax.set_yticks(range(len(lines)), labels)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.margins(x=0.05)
    ax.xaxis.grid(True, color="#EEEEEE")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    dashed = "; dashed: chance" if any(one.chance is not None for one in lines) else ""
    # Of the whole figure: under the axes alone they would be cut off where its labels are long.
    figure.supxlabel(f"line: 95% interval{dashed}; in brackets: items", fontsize="medium")
    figure.suptitle(
        f"{short_label(result.task)}: {short_label(next(iter(models), ''), 44)}", fontsize="large"
    )
    return figure


def _group(line: "Line") -> tuple[str, str]:
    """What stands together: the same number of several, or all differences."""
    return ("difference", "") if line.metric.startswith(AHEAD) else (line.metric, line.subset)


def _label(one: "Line", lines: "list[Line]") -> str:
    if one.metric.startswith(AHEAD):
        return f"{short_label(one.metric, 44)} ({one.n:,})"
    metrics = {other.metric for other in lines if not other.metric.startswith(AHEAD)}
    parts = [short_label(one.who, 26)]
    parts += [short_label(one.subset, 28)] if len({other.subset for other in lines}) > 1 else []
    parts += [short_label(one.metric, 28)] if len(metrics) > 1 else []
    return f"{', '.join(parts)} ({one.n:,})"
