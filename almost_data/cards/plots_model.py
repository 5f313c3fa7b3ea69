"""The figures of a trained model's card, from what its manifest says was measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..datasets.builder import Figures
from ..datasets.manifest import Manifest
from .figures import BLUE, GREY, ORANGE, WIDTH, as_files, new_figure, short_label, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN = "#009E73"
PANELS = 6
"""Curves in a figure, at most: the first ones."""
REWARD = ("reward", "objective/scores", "objective/rlhf_reward")
KL = ("kl", "objective/kl")
LENGTH = ("length", "completions/mean_length")
"""What trainers call the curves of these; the first name that there is counts."""

Points = dict[float, float]
"""Step -> value."""


def render(manifest: Manifest) -> dict[str, bytes]:
    """The figures of a model by relative path, `plots/NAME.png`. One without data is left out."""
    with style():
        return as_files(_figures(manifest))


def _figures(manifest: Manifest) -> Figures:
    found = manifest.diagnostics
    curves = {name: _points(points) for name, points in (found.get("curves") or {}).items()}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    report = found.get("report") or {}
    if curves:
        yield "curves", _curves(dict(list(curves.items())[:PANELS]))
    calibration = report.get("calibration") or {}
    if bins := [one for one in calibration.get("bins") or [] if one["rows"]]:
        yield "calibration", _calibration(bins, calibration["ece"])
    groups = [[one for one in report.get(key) or [] if one["rows"]] for key in ("subsets", "buckets")]
    if any(groups):
        yield "accuracy", _accuracy([group for group in groups if group])
    reward, kl, length = (_named(curves, names) for names in (REWARD, KL, LENGTH))
    if steps := sorted(reward.keys() & kl.keys()):
        title = "Reward against distance from the starting policy"
        yield "reward_kl", _path(steps, kl, reward, title, "KL divergence from the starting policy")
    if steps := sorted(reward.keys() & length.keys()):
        title = "Reward against the length of replies"
        yield "reward_length", _path(steps, length, reward, title, "mean length of a reply, in tokens")


def _points(points: Sequence[Sequence[float | None]]) -> Points:
    """The logged values; a step at which there was none is left out."""
    return {step: value for step, value in points if step is not None and value is not None}


def _named(curves: dict[str, Points], names: Sequence[str]) -> Points:
    return next((curves[name] for name in names if name in curves), {})


def _curves(curves: dict[str, Points]) -> "Figure":
    """A panel for each curve, two in a row, over the same steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(2, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True).flat
    for ax, (name, points) in zip(axes, curves.items(), strict=False):
        few = len(points) <= 30
        ax.plot(
            list(points), list(points.values()), color=BLUE, linewidth=1.6, marker="o" * few, markersize=3
        )
        ax.set_title(short_label(name))
        ax.grid(True, color="#DDDDDD")
        ax.margins(x=0.02, y=0.1)
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useOffset=False)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        ax.tick_params(labelbottom=True)
    for ax in list(axes)[len(curves) :]:
        ax.set_visible(False)
    figure.supxlabel("step", size=10.5)
    return figure


def _calibration(bins: list[dict[str, Any]], ece: float | None) -> "Figure":
    """How often it is right by how sure it is, and below that how many comparisons a bin has."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, high = min(0.5, *(one["low"] for one in bins)), max(one["high"] for one in bins)
    confidences, accuracies = ([one[key] for one in bins] for key in ("confidence", "accuracy"))
    above.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1.2, label="calibrated")
    above.plot(confidences, accuracies, color=BLUE, marker="o", label="this model", clip_on=False, zorder=3)
    above.set_ylim(min(0.45, *accuracies) - 0.05, 1.04)
    above.set_xlim(low, high)
    above.grid(True, color="#DDDDDD")
    above.set_ylabel("is right")
    above.legend(frameon=False, loc="best")
    error = "" if ece is None else f" (expected calibration error {ece:.1%})"
    above.set_title(f"How sure it is, and how often it is right{error}")
    rows = [one["rows"] for one in bins]
    widths = [one["high"] - one["low"] for one in bins]
    below.bar([one["low"] for one in bins], rows, widths, align="edge", color="#A6CEE8", edgecolor=BLUE)
    for one in bins:
        middle = (one["low"] + one["high"]) / 2
        below.annotate(
            f"{one['rows']:,}", (middle, one["rows"]), (0, 2), textcoords="offset points", ha="center", size=9
        )
    below.set_ylim(0, max(rows) * 1.35)
    below.set_yticks([])
    below.spines["left"].set_visible(False)
    below.set_ylabel("comparisons")
    below.set_xlabel("its confidence in the reply that it scores higher")
    below.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    above.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _accuracy(groups: list[list[dict[str, Any]]]) -> "Figure":
    """Dots with intervals, the subsets above and the lengths below a line."""
    rows = [one for group in groups for one in group]
    figure, ax = new_figure(1.7 + 0.36 * len(rows))
    ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2)
    ax.annotate("tossing a coin", (0.5, -0.6), (4, 2), textcoords="offset points", color=GREY, size=9)
    ax.hlines(
        range(len(rows)), [one["low"] for one in rows], [one["high"] for one in rows], color=BLUE, linewidth=2
    )
    values = [one[key] for one in rows for key in ("low", "high")]
    for key, colour, marker, name in (
        ("always_longer", ORANGE, "D", "the longer one"),
        ("probe", GREEN, "s", "surface model"),
        ("random_head", GREY, "X", "untrained head"),
        ("accuracy", BLUE, "o", "this model (line: 95% interval)"),
    ):
        there = [y for y, one in enumerate(rows) if one.get(key) is not None]
        measured = [rows[y][key] for y in there]
        if there:
            ax.scatter(measured, there, s=45, c=colour, marker=marker, label=name, zorder=3)
            values += measured
    if len(groups) > 1:
        ax.axhline(len(groups[0]) - 0.5, color="#BBBBBB", linewidth=0.8)
    ax.set_xlim(min(0.4, *values) - 0.03, max(0.7, *values) + 0.03)
    ax.set_yticks(range(len(rows)), [f"{short_label(one['name'], 44)} ({one['rows']:,})" for one in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.yaxis.grid(True, color="#DDDDDD")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel("accuracy")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(
        "How often it scores chosen above rejected, on comparisons that were not trained on",
        x=0.01,
        ha="left",
        size=11.5,
    )
    return figure


def _path(steps: list[float], across: Points, up: Points, title: str, label: str) -> "Figure":
    """One point a logged step, dark ones late."""
    figure, ax = new_figure(3.6)
    xs, ys = ([curve[step] for step in steps] for curve in (across, up))
    ax.plot(xs, ys, color="#CCCCCC", linewidth=1, zorder=1)
    dots = ax.scatter(xs, ys, c=steps, cmap="viridis_r", s=28, zorder=2)
    if len(steps) > 1:
        figure.colorbar(dots, ax=ax, label="step", pad=0.02)
    _ends(ax, steps, xs, ys)
    ax.grid(True, color="#DDDDDD")
    ax.margins(0.08, 0.15)
    ax.ticklabel_format(style="plain", useOffset=False)
    ax.set_title(title)
    ax.set_xlabel(label)
    ax.set_ylabel("mean reward")
    return figure


def _ends(ax: "Axes", steps: list[float], xs: list[float], ys: list[float]) -> None:
    """The first and the last step by number, on a white ground, each on the side where the path is not."""
    rises = ys[-1] >= ys[0]
    for place in sorted({0, len(steps) - 1}):
        above = rises == bool(place)
        ax.annotate(
            f"step {steps[place]:,.0f}",
            (xs[place], ys[place]),
            (0, 8 if above else -8),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            size=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
