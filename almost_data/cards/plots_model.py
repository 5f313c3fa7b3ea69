"""The figures of a trained model's card, drawn from its manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..datasets.builder import Figures
from ..datasets.manifest import Manifest
from .figures import (
    BLUE,
    GREY,
    GRID,
    ORANGE,
    PALE,
    TITLE,
    as_files,
    blank_figure,
    label,
    new_figure,
    share_axis,
    short_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN = "#009E73"
PANELS = 6
"""Most curves of a figure: the first ones."""
PATHS = {
    "reward_kl": (
        "Reward against distance from the starting policy",
        "KL divergence from the starting policy",
        "kl",
    ),
    "reward_length": ("Reward against the length of replies", "mean length of a reply, in tokens", "length"),
}
"""Figure -> its title, and the axis and name of the curve that the reward is drawn over."""

Points = dict[float, float]
"""Step -> value."""
Entry = dict[str, Any]
"""A bin, subset or bucket of a report."""


@dataclass(frozen=True)
class RewardPath:
    """The mean reward over another curve, at the steps at which both were logged."""

    name: str
    title: str
    axis: str
    """Of the other curve."""
    points: list[tuple[float, float, float]]
    """Step, other curve, reward."""


def reward_paths(curves: Mapping[str, Points]) -> Iterator[RewardPath]:
    """The figures of rewards that the logged curves give."""
    reward = curves.get("reward", {})
    for name, (title, axis, curve) in PATHS.items():
        across = curves.get(curve, {})
        if steps := sorted(reward.keys() & across.keys()):
            yield RewardPath(name, title, axis, [(step, across[step], reward[step]) for step in steps])


def render(manifest: Manifest) -> dict[str, bytes]:
    """The figures that a model has data for, by relative path `plots/NAME.png`."""
    return as_files(_figures(manifest))


def _figures(manifest: Manifest) -> Figures:
    curves, report = logged(manifest.diagnostics), manifest.diagnostics.get("report") or {}
    if curves:
        yield "curves", _curves(dict(list(curves.items())[:PANELS]))
    calibration = report.get("calibration") or {}
    if bins := _with_rows(calibration.get("bins")):
        yield "calibration", _calibration(bins, calibration["ece"])
    groups = [group for key in ("subsets", "buckets") if (group := _with_rows(report.get(key)))]
    if groups:
        yield "accuracy", _accuracy(groups)
    for path in reward_paths(curves):
        yield path.name, _path(path)


def _with_rows(entries: list[Entry] | None) -> list[Entry]:
    return [entry for entry in entries or [] if entry["rows"]]


def logged(diagnostics: Mapping[str, Any]) -> dict[str, Points]:
    """The curves of at least two logged values, by name."""
    curves = {
        name: {step: value for step, value in points if None not in (step, value)}
        for name, points in (diagnostics.get("curves") or {}).items()
    }
    return {name: points for name, points in curves.items() if len(points) > 1}


def _curves(curves: dict[str, Points]) -> "Figure":
    """A panel for each curve, two side by side, over the same steps."""
    from matplotlib.ticker import MaxNLocator

    columns = min(2, len(curves))
    lines = -(-len(curves) // columns)
    figure = blank_figure(0.6 + 1.9 * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharex=True).flat)
    for ax, (name, points) in zip(axes, curves.items(), strict=False):
        marker = "o" if len(points) <= 30 else ""
        ax.plot(list(points), list(points.values()), color=BLUE, linewidth=1.6, marker=marker, markersize=3)
        ax.set_title(short_label(name))
        ax.grid(True)
        ax.margins(x=0.02, y=0.1)
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useOffset=False)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        ax.tick_params(labelbottom=True)
    for ax in axes[len(curves) :]:
        ax.set_visible(False)
    figure.supxlabel("step", size=10.5)
    return figure


def _calibration(bins: list[Entry], ece: float | None) -> "Figure":
    """Accuracy by confidence, over a histogram of the comparisons."""
    figure = blank_figure(4.6)
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, high = min(0.5, *(entry["low"] for entry in bins)), max(entry["high"] for entry in bins)
    confidences, accuracies = ([entry[key] for entry in bins] for key in ("confidence", "accuracy"))
    curve.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1.2, label="calibrated")
    curve.plot(confidences, accuracies, color=BLUE, marker="o", label="this model", clip_on=False, zorder=3)
    curve.set_ylim(min(0.45, *accuracies) - 0.05, 1.04)
    curve.set_xlim(low, high)
    curve.grid(True)
    curve.set_ylabel("accuracy")
    figure.legend(loc="outside lower center", ncols=2)
    error = "" if ece is None else f" (expected calibration error {ece:.1%})"
    curve.set_title(f"Accuracy by confidence{error}")
    for entry in bins:
        width, middle = entry["high"] - entry["low"], (entry["low"] + entry["high"]) / 2
        histogram.bar(entry["low"], entry["rows"], width, align="edge", color=PALE, edgecolor=BLUE)
        label = {"textcoords": "offset points", "ha": "center", "size": 9}
        histogram.annotate(f"{entry['rows']:,}", (middle, entry["rows"]), (0, 2), **label)
    histogram.set_ylim(0, max(entry["rows"] for entry in bins) * 1.35)
    histogram.set_yticks([])
    histogram.spines["left"].set_visible(False)
    histogram.set_ylabel("comparisons")
    histogram.set_xlabel("confidence in the response that it scores higher")
    for axis in (histogram.xaxis, curve.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _accuracy(groups: list[list[Entry]]) -> "Figure":
    """Accuracies with intervals: the subsets, a line, and the length buckets."""
    rows = [entry for group in groups for entry in group]
    lows, highs = ([entry[key] for entry in rows] for key in ("low", "high"))
    figure, ax = new_figure(1.7 + 0.44 * len(rows))
    ax.hlines([place + 0.2 for place in range(len(rows))], lows, highs, color=BLUE, linewidth=2)
    values = lows + highs
    for key, offset, colour, marker, name in (
        ("always_longer", -0.2, ORANGE, "D", "the longer one"),
        ("probe", -0.07, GREEN, "s", "surface model"),
        ("random_head", 0.07, GREY, "X", "untrained head"),
        ("accuracy", 0.2, BLUE, "o", "this model (line: 95% interval)"),
    ):
        measured = {place: entry[key] for place, entry in enumerate(rows) if entry.get(key) is not None}
        if measured:
            x, y = list(measured.values()), [place + offset for place in measured]
            ax.scatter(x, y, s=45, c=colour, marker=marker, label=name, zorder=3)
            values += x
    if len(groups) > 1:
        ax.axhline(len(groups[0]) - 0.5, color=GRID, linewidth=0.8)
    ax.set_yticks(range(len(rows)), [f"{label(row['name'])} ({row['rows']:,})" for row in rows])
    ax.yaxis.grid(True)
    ax.set_xlabel("accuracy")
    share_axis(ax, values, len(rows))
    figure.legend(loc="outside lower center", ncols=2)
    title = "How often it scores chosen above rejected, on comparisons that were not trained on"
    figure.suptitle(title, x=0.01, ha="left", **TITLE)
    return figure


def _path(path: RewardPath) -> "Figure":
    """A point per logged step, darker with time."""
    from matplotlib.ticker import MaxNLocator

    figure, ax = new_figure(3.6)
    steps, xs, ys = map(list, zip(*path.points, strict=True))
    ax.plot(xs, ys, color=GRID, linewidth=1, zorder=1)
    dots = ax.scatter(xs, ys, c=steps, cmap="viridis_r", s=28, zorder=2)
    if len(steps) > 1:
        figure.colorbar(dots, ax=ax, label="step", pad=0.02, ticks=MaxNLocator(5, integer=True))
    _ends(ax, steps, xs, ys)
    ax.grid(True)
    ax.margins(0.08, 0.15)
    ax.ticklabel_format(style="plain", useOffset=False)
    ax.set_title(path.title)
    ax.set_xlabel(path.axis)
    ax.set_ylabel("mean reward")
    return figure


def _ends(ax: "Axes", steps: list[float], xs: list[float], ys: list[float]) -> None:
    """Labels of the first and the last step, each on the side where the path is not."""
    rises = ys[-1] >= ys[0]
    for place in sorted({0, len(steps) - 1}):
        is_over = rises == bool(place)
        ax.annotate(
            f"step {steps[place]:,.0f}",
            (xs[place], ys[place]),
            (0, 8 if is_over else -8),
            textcoords="offset points",
            ha="center",
            va="bottom" if is_over else "top",
            size=9,
        )
