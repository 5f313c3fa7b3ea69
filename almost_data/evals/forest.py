"""The figure of a result: each number a dot with its interval, beside baselines and chance."""

import textwrap
from typing import TYPE_CHECKING

from ..cards.figures import BLUE, GREY, GRID, ORANGE, TITLE, as_files, new_figure, short_label, style
from .result import AHEAD, Line, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 24
"""Lines in the figure: the first ones."""
WRAP = 52
"""Characters of a line of a label, so that half of the width is for the numbers."""


def render(result: Result) -> dict[str, bytes]:
    """`plots/result.png`; nothing where no line has a value."""
    lines = [line for line in result.lines if line.value is not None][:MAX_LINES]
    if not lines:
        return {}
    with style():
        return as_files(iter([("result", _forest(result, lines))]))


def alt_text(result: Result) -> str:
    """The numbers of the figure in words."""
    lines = [line for line in result.lines if line.value is not None][:MAX_LINES]
    numbers = []
    for line in lines:
        ends = f" ({line.interval})" if line.interval else ""
        unit = " points" if line.is_difference else ""
        numbers.append(f"{_label(line, lines)} {line.as_text(line.value)}{unit}{ends}")
    return f"Values with 95% intervals: {'; '.join(numbers)}."


def _forest(result: Result, lines: list[Line]) -> "Figure":
    """Lines in the order of the result, with a rule between groups."""
    model = result.models[0].id if result.models else ""
    labels = [textwrap.fill(_label(line, lines), WRAP, break_on_hyphens=False) for line in lines]
    figure, ax = new_figure(1.5 + (0.46 if any("\n" in label for label in labels) else 0.34) * len(lines))
    for y, line in enumerate(lines):
        is_model = line.who == model
        colour = BLUE if is_model else ORANGE
        if line.low is not None and line.high is not None:
            ax.hlines(y, line.low, line.high, color=colour, linewidth=2)
        ax.scatter([float(line.value or 0)], [y], s=45, c=colour, marker="o" if is_model else "D", zorder=3)
        if line.chance is not None:
            ax.vlines(line.chance, y - 0.4, y + 0.4, color=GREY, linestyle="--", linewidth=1.2)
        if y and _group(lines[y - 1]) != _group(line):
            ax.axhline(y - 0.5, color=GRID, linewidth=0.8)
    if any(line.chance is None for line in lines):
        ax.axvline(0, color=GRID, linewidth=0.8, zorder=0.5)
    ax.set_yticks(range(len(lines)), labels)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.margins(x=0.05)
    ax.xaxis.grid(True)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    dashed = "; dashed: chance" if any(line.chance is not None for line in lines) else ""
    # Of the whole figure: under the axes alone they would be cut off where its labels are long.
    figure.supxlabel(f"line: 95% interval{dashed}; in brackets: items", fontsize="medium")
    figure.suptitle(f"{short_label(result.task)}: {short_label(model, 44)}", **TITLE)
    return figure


def _group(line: Line) -> tuple[str, str]:
    """Lines that belong together: the same number of several, or all differences."""
    return ("difference", "") if line.metric.startswith(AHEAD) else (line.metric, line.subset)


def _label(line: Line, lines: list[Line]) -> str:
    if line.metric.startswith(AHEAD):
        return f"{short_label(line.metric, 44)} ({line.n:,})"
    metrics = {row.metric for row in lines if not row.metric.startswith(AHEAD)}
    parts = [short_label(line.who, 26)]
    parts += [short_label(line.subset, 28)] if len({row.subset for row in lines}) > 1 else []
    parts += [short_label(line.metric, 28)] if len(metrics) > 1 else []
    return f"{', '.join(parts)} ({line.n:,})"
