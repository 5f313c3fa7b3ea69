"""The figures of a card: PNG bytes from manifest and tables, the same bytes for the same input."""

import io
import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..datasets.builder import Figures
from ..datasets.ledger import plural
from ..datasets.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
INK, GRID, PALE = "#767B82", "#8080804D", "#AAD9F4"
"""Text, grid and the fill of boxes: on the transparent ground they are readable in light and dark pages."""
WIDTH = 8.0
"""Inches; at DPI it fills the column of a README."""
DPI = 150
TITLE: dict[str, Any] = {"size": 11.5, "weight": "bold"}
"""Of a figure as a whole, as axes have theirs."""
PAIRS = 12
"""Responder pairs in a figure, at most: those with the most comparisons."""
_STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "grid.color": GRID,
    "legend.frameon": False,
    # A user's filter name may contain a dollar sign, which is not a formula.
    "text.parse_math": False,
}


def as_files(figures: "Figures") -> dict[str, bytes]:
    """Figures by name -> PNG bytes by relative path, in one style, whatever the user's matplotlibrc says."""
    import matplotlib

    # Reading the backend would import it, so it is not among the settings.
    plain: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if "backend" not in k}
    files: dict[str, bytes] = {}
    with matplotlib.rc_context(plain | _STYLE):
        for name, figure in figures:
            path = f"plots/{name}.png"
            if not re.fullmatch(r"[\w-]+", name) or path in files:
                raise ValueError(f"figure {name!r}: letters, digits, _ and -, and each name once")
            files[path] = png(figure)
    return files


def comparison_figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    """Lengths of both sides, what each filter left, shortcuts."""
    yield from side_lengths(tables["default"])
    yield from drawn_funnel(manifest, ["query", "response", "pair"])
    yield from shortcut_figures(manifest.diagnostics)


def side_lengths(comparisons: pl.DataFrame) -> Figures:
    """The histogram of the lengths of chosen and rejected; none without rows."""
    lengths = {
        side: comparisons.select(pl.col(side).list.last().struct.field("content").str.len_chars()).to_series()
        for side in ("chosen", "rejected")
    }
    if len(comparisons):
        figure, ax = new_figure(3.2)
        draw_lengths(ax, lengths, "response", "comparisons")
        ax.set_title(f"Length of both sides of {len(comparisons):,} comparisons (dashed: medians)")
        yield "lengths", figure


def shortcut_figures(diagnostics: Mapping[str, Any]) -> Figures:
    """The length gap and the shortcuts of comparisons, where the diagnostics have measured them."""
    text = diagnostics.get("text")
    if not text or not text["rows"]:
        return
    place = {
        (row["chosen_responder"], row["rejected_responder"]): number
        for number, row in enumerate(diagnostics.get("responder_pairs", []))
    }
    largest = sorted(text["responder_pairs"], key=lambda row: -row["rows"])[:PAIRS]
    pairs = [(row["chosen_responder"], row["rejected_responder"], row) for row in largest]
    pairs.sort(key=lambda pair: (place.get(pair[:2], len(place)), pair[:2]))
    named = [(f"{label(f'{a} >')}\n{label(b)}", row) for a, b, row in pairs] if len(pairs) > 1 else []
    total = len(text["responder_pairs"])
    title_end = f" ({PAIRS} largest of {total})" if total > PAIRS else ""
    yield "length_gap", _length_gap(text, named, title_end)
    overall = text | {"probe": text["probe"]["accuracy"]}
    yield "shortcuts", _accuracies([("all comparisons", overall), *named], text, title_end)


def _length_gap(
    diagnostics: dict[str, Any], pairs: list[tuple[str, dict[str, Any]]], title_end: str
) -> "Figure":
    """A histogram of the characters of chosen minus those of rejected, and a box for each responder pair.

    `pairs` are the labels of the boxes and their rows of the diagnostics.
    """
    heights = [2.2]
    if pairs:
        heights.append(0.5 + _heights([name for name, _ in pairs]))
    figure = blank_figure(0.9 + sum(heights))
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    top, bottom = axes[0], axes[-1]  # the same where there are no pairs
    gap = diagnostics["length_gap"]
    histogram = gap["histogram"]
    counts = np.array(histogram["counts"])
    edges = histogram["start"] + histogram["width"] * np.arange(len(counts) + 1)
    starts = edges[:-1]  # one of them is 0, so that no bin holds both kinds
    for is_side, colour, name in (
        (starts < 0, ORANGE, "rejected is longer"),
        (starts >= 0, BLUE, "chosen is longer, or equal"),
    ):
        top.bar(starts[is_side], counts[is_side], histogram["width"], align="edge", color=colour, label=name)
    top.axvline(gap["q50"], color=INK, linestyle="--", linewidth=1.6, label=f"median ({gap['q50']:+,.0f})")
    figure.legend(loc="outside lower center", ncols=3)
    width = f"{histogram['width']:,} character{'s' if histogram['width'] > 1 else ''}"
    top.set_ylabel(f"comparisons\nper {width}", size=9.5)
    top.set_title(f"Length of chosen minus length of rejected, {diagnostics['rows']:,} comparisons")
    count_axis(top, "y")
    if pairs:
        for y, (_, row) in enumerate(pairs):
            draw_box(bottom, y, row["length_gap"])
        bottom.axvline(0, color=INK, linewidth=0.8)
        bottom.set_yticks(range(len(pairs)), [f"{name} ({row['rows']:,})" for name, row in pairs], size=9)
        bottom.set_ylim(len(pairs) - 0.4, -0.6)
        bottom.set_title(f"By responder pair{title_end}; box: middle half, line: 5% to 95%")
    beyond = histogram["below"] + histogram["above"]
    bottom.set_xlabel("characters" + (f" ({beyond:,} further out not in the histogram)" if beyond else ""))
    ends = [*edges, *(row["length_gap"][end] for _, row in pairs for end in ("q05", "q95"))]
    bottom.set_xlim(min(ends), max(ends))
    bottom.xaxis.set_major_formatter(lambda value, _: f"{value:+,.0f}" if value else "0")
    return figure


def draw_box(ax: "Axes", y: float, quantiles: Mapping[str, float]) -> None:
    """A horizontal box of the quantiles `q05`, `q25`, `q50`, `q75` and `q95`."""
    q05, q25, q50, q75, q95 = (quantiles[f"q{share:02}"] for share in (5, 25, 50, 75, 95))
    ax.hlines(y, q05, q95, color=BLUE, linewidth=1.5, zorder=1)
    ax.barh(y, q75 - q25, left=q25, height=0.55, color=PALE, edgecolor=BLUE, zorder=2)
    ax.vlines(q50, y - 0.275, y + 0.275, color=BLUE, linewidth=3, zorder=3)


def _accuracies(
    rows: list[tuple[str, dict[str, Any]]], diagnostics: dict[str, Any], title_end: str
) -> "Figure":
    """How often always-longer and the surface model are right: a dot with its 95% interval for each."""
    from ..diagnostics.probe import wilson

    names = [f"{name} ({row['rows']:,})" for name, row in rows]
    figure, ax = new_figure(1.5 + _heights(names))
    probe = diagnostics["probe"]
    ends = {
        "always_longer": diagnostics["always_longer_interval"],
        "probe": [probe.get("low"), probe.get("high")],
    }
    values = []
    for key, offset, colour, marker, name in (
        ("always_longer", -0.16, ORANGE, "D", "the longer one"),
        ("probe", 0.16, BLUE, "o", "surface model"),
    ):
        for y, (_, row) in enumerate(rows):
            if row[key] is None:
                continue
            low, high = wilson(row[key], row["rows"]) if y else ends[key]
            ax.hlines(y + offset, low, high, color=colour, linewidth=1.8)
            ax.scatter(row[key], y + offset, s=40, c=colour, marker=marker, label="" if y else name, zorder=3)
            values += [row[key], low, high]
    ax.set_yticks(range(len(rows)), names, size=9)
    ax.xaxis.grid(True)
    ax.set_xlabel("comparisons in which it picks the chosen response (line: 95% interval)")
    share_axis(ax, values, len(rows))
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(f"How far a shortcut gets without reading{title_end}", x=0.01, ha="left", **TITLE)
    return figure


def share_axis(ax: "Axes", values: list[float], rows: int) -> None:
    """Accuracies along the x axis, beside that of a coin; the first of the `rows` is on top."""
    ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2)
    ax.annotate("tossing a coin", (0.5, -0.6), (4, 2), textcoords="offset points", size=9)
    ax.set_xlim(min(0.4, *values) - 0.03, max(0.7, *values) + 0.03)
    ax.set_ylim(rows - 0.4, -0.6)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _heights(names: list[str]) -> float:
    """Inches of rows with these labels, each as high as the one with the most lines."""
    return (0.14 + 0.17 * max((1 + name.count("\n") for name in names), default=0)) * len(names)


def drawn_funnel(manifest: Manifest, units: list[str]) -> Figures:
    """The funnel, where a filter dropped anything."""
    if any(entry.kept < entry.n_in for entry in manifest.ledger):
        yield "funnel", funnel(manifest, units)


def funnel(manifest: Manifest, units: list[str]) -> "Figure":
    """Rows that remain after each filter of the ledger that dropped some.

    There is a panel for each of the `units`, such as `response`, that the ledger has.
    """
    by_unit = {unit: [entry for entry in manifest.ledger if entry.unit == unit] for unit in units}
    by_unit = {unit: entries for unit, entries in by_unit.items() if entries}
    dropping = {
        unit: [entry for entry in entries if entry.kept < entry.n_in] for unit, entries in by_unit.items()
    }
    bar_counts = [len(entries) + 1 for entries in dropping.values()]
    figure = blank_figure(0.45 * len(by_unit) + 0.27 * sum(bar_counts))
    axes = figure.subplots(len(by_unit), 1, squeeze=False, height_ratios=[n + 0.6 for n in bar_counts])[:, 0]
    for ax, (unit, entries) in zip(axes, by_unit.items(), strict=True):
        rows, total = plural(unit), entries[0].n_in
        labels = [f"all {rows}", *(entry.filter for entry in dropping[unit])]
        numbers = [total, *(entry.kept for entry in dropping[unit])]
        texts = [f"{total:,}", *(f"{e.kept:,}  (-{e.n_in - e.kept:,})" for e in dropping[unit])]
        draw_bars(ax, labels, numbers, texts, first=GREY)
        idle = len(entries) - len(dropping[unit])
        omitted = f" ({idle} that dropped nothing left out)" if idle else ""
        ax.set_title(f"{rows.capitalize()} left after each filter{omitted}")
        # The numbers stand at the bars.
        ax.xaxis.set_visible(False)
        ax.spines["bottom"].set_visible(False)
    return figure


def draw_bars(ax: "Axes", names: list[str], numbers: list[int], texts: list[str], first: str = BLUE) -> None:
    """Horizontal bars with a text at the end of each, the first on top and in a colour of its own."""
    colours = [first] + [BLUE] * (len(names) - 1)
    ax.barh(range(len(names)), numbers, color=colours, height=0.7)
    for y, (number, text) in enumerate(zip(numbers, texts, strict=True)):
        ax.annotate(text, (number, y), (4, 0), textcoords="offset points", va="center", size=9.5)
    ax.set_yticks(range(len(names)), [short_label(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    # Room for the numbers at the end of the bars.
    ax.set_xlim(0, max(1, *numbers) * 1.18)
    count_axis(ax, "x")


def boxes(series: dict[str, pl.Series], title: str, unit: str) -> "tuple[Figure, Axes]":
    """A box for the values of each name, the first on top."""
    figure, ax = new_figure(1.3 + 0.42 * len(series))
    for y, values in enumerate(series.values()):
        draw_box(ax, y, {f"q{q:02}": values.quantile(q / 100) or 0.0 for q in (5, 25, 50, 75, 95)})
    ax.set_yticks(range(len(series)), [f"{label(name)} ({len(rows):,})" for name, rows in series.items()])
    ax.set_ylim(len(series) - 0.4, -0.6)
    ax.xaxis.grid(True)
    ax.set_title(title)
    ax.set_xlabel(f"{unit} (bar: median, box: middle half, line: 5th to 95th percentile)")
    return figure, ax


MAX_LENGTH_BINS = 1_000
"""A long text among a few short ones would have a bin for each character."""


def draw_lengths(ax: "Axes", series: dict[str, pl.Series], unit: str, rows: str) -> None:
    """Histograms over the same bins. The few longest texts are counted in the label, not drawn."""
    from ..diagnostics.shortcuts import bin_width

    values = np.concatenate([lengths.to_numpy() for lengths in series.values()])
    top = max(1, int(np.ceil(min(np.quantile(values, 0.995), 3 * np.quantile(values, 0.9)))))
    width = max(bin_width(values[values <= top]), -(-top // MAX_LENGTH_BINS))
    edges = np.arange(0, top + 2 * width, width)
    for (name, lengths), colour in zip(series.items(), (BLUE, ORANGE), strict=False):
        counts, _ = np.histogram(lengths.to_numpy(), edges)
        median = float(np.median(lengths.to_numpy()))
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
        ax.stairs(counts, edges, color=colour, linewidth=1.6, label=f"{name} (median {median:,.0f})")
        ax.axvline(median, color=colour, linestyle="--", linewidth=1.6)
    beyond = int((values > edges[-1]).sum())
    ax.set_xlabel(f"characters in a {unit}" + (f" ({beyond:,} longer ones not shown)" if beyond else ""))
    ax.set_ylabel(f"{rows}\nper {width:,} character{'s' if width > 1 else ''}")
    ax.set_xlim(0, edges[-1])
    count_axis(ax, "x")
    count_axis(ax, "y")
    if len(series) > 1:
        figure = ax.get_figure(root=True)
        assert figure is not None
        figure.legend(loc="outside lower center", ncols=len(series))


def new_figure(height: float) -> "tuple[Figure, Axes]":
    """A figure with one pair of axes, as wide as a README and `height` inches high."""
    figure = blank_figure(height)
    return figure, figure.subplots()


def blank_figure(height: float) -> "Figure":
    """A figure without axes, as wide as a README and `height` inches high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def count_axis(ax: "Axes", name: str) -> None:
    """Ticks of whole numbers, with commas, on the `x` or `y` axis."""
    from matplotlib.ticker import MaxNLocator

    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter("{x:,.0f}")


def short_label(name: str) -> str:
    """A name as a figure can show it: ASCII alone, its middle cut out beyond 60 characters."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    return plain if len(plain) <= 60 else f"{plain[:29]}...{plain[-28:]}"


def label(name: str) -> str:
    """A name on as many lines as it needs."""
    return textwrap.fill(short_label(name), 32)


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file, on a transparent ground."""
    buffer = io.BytesIO()
    # Neither date nor library version goes into the file.
    figure.savefig(buffer, format="png", dpi=DPI, transparent=True, metadata={"Software": None})
    return buffer.getvalue()
