"""The figures of a card: PNG bytes from manifest and tables, the same bytes for the same input."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..datasets.manifest import Manifest
from ..datasets.schema import RESERVED

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
WIDTH = 8.0
"""Inches; at DPI it fills the column of a README."""
DPI = 150
BINS = 40
"""At most; fewer where there are few rows."""
PAIRS = 20
"""Responder pairs in a figure, at most: those with the most comparisons."""
_STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    # A user's filter name may hold a dollar sign: it is no formula.
    "text.parse_math": False,
}


def render(manifest: Manifest, tables: "dict[str, pl.DataFrame]") -> dict[str, bytes]:
    """The figures of a dataset by relative path, `plots/NAME.png`. One without data is left out."""
    with style():
        return as_files(FIGURES[manifest.name](manifest, tables))


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure, whatever the user's own is."""
    import matplotlib

    # No user's matplotlibrc. The backend is left alone: to ask for it would import one.
    plain: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if "backend" not in k}
    with matplotlib.rc_context(plain | _STYLE):
        yield


def as_files(figures: "Figures") -> dict[str, bytes]:
    """Figures by name -> PNG bytes by relative path."""
    return {f"plots/{name}.png": _png(figure) for name, figure in figures}


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


Figures = Iterator[tuple[str, "Figure"]]
"""Name and figure, as they are drawn."""


def _queries(manifest: Manifest, tables: "dict[str, pl.DataFrame]") -> Figures:
    if (accepted := tables.get("default")) is not None and len(accepted):
        figure, ax = new_figure(3.0)
        _lengths(ax, {"": accepted["query"].str.len_chars()}, "query", "queries")
        ax.set_title(f"Length of the {len(accepted):,} accepted queries (dashed: median)")
        yield "query_lengths", figure
    dropped: dict[str, int] = {}
    for entry in manifest.ledger:
        for reason, rows in {**entry.dropped, "failed": entry.failed}.items():
            dropped[reason] = dropped.get(reason, 0) + rows
    dropped = {reason: rows for reason, rows in dropped.items() if rows}
    if dropped:
        figure, ax = new_figure(1.1 + 0.34 * len(dropped))
        _bars(ax, list(dropped), list(dropped.values()), [f"{rows:,}" for rows in dropped.values()])
        ax.set_title(f"Why {sum(dropped.values()):,} candidates were dropped")
        ax.set_xlabel("candidates, by the first filter that dropped them")
        yield "dropped_queries", figure


def _responses(manifest: Manifest, tables: "dict[str, pl.DataFrame]") -> Figures:
    frames = [frame for name, frame in tables.items() if name not in RESERVED and len(frame)]
    frames.sort(key=lambda frame: (frame["rank"][0] is None, frame["rank"][0] or 0))
    if not frames:
        return
    figure, ax = new_figure(1.3 + 0.42 * len(frames))
    for y, frame in enumerate(frames):
        lengths = frame["response"].str.len_chars()
        low, first, middle, third, high = (lengths.quantile(q) or 0.0 for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        ax.hlines(y, low, high, color=BLUE, linewidth=1.5)
        ax.barh(y, third - first, left=first, height=0.55, color="#A6CEE8", edgecolor=BLUE)
        ax.vlines(middle, y - 0.275, y + 0.275, color=BLUE, linewidth=3)
    ax.set_yticks(range(len(frames)), [short_label(str(f["responder"][0])) for f in frames])
    ax.set_ylim(len(frames) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.xaxis.grid(True, color="#DDDDDD")
    ax.set_title("Length of responses by responder, best of the ladder first")
    ax.set_xlabel("characters (bar: median, box: middle half, line: 5th to 95th percentile)")
    _thousands(ax, "x")
    yield "response_lengths", figure


def _comparisons(manifest: Manifest, tables: "dict[str, pl.DataFrame]") -> Figures:
    yield from _sides(tables["default"])
    names, grid = pair_matrix(manifest)
    if len(names) > 2 and any(count for row in grid for count in row):
        yield "pairs", _heat_map(names, grid)
    units = [unit for unit in ("response", "pair") if any(entry.unit == unit for entry in manifest.ledger)]
    if units:
        yield "funnel", _funnel(manifest, units)
    yield from _shortcuts(manifest)


def _community(manifest: Manifest, tables: "dict[str, pl.DataFrame]") -> Figures:
    yield from _sides(tables["default"])
    yield "funnel", _funnel(manifest, ["query", "response", "pair"])
    yield from _shortcuts(manifest)


def _demonstrations(manifest: Manifest, tables: "dict[str, pl.DataFrame]") -> Figures:
    best = manifest.diagnostics["best_of_n"]
    if not best or not best["turns"]:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots(1, 2)
    numbers = [one["n"] for one in best["curve"]]
    for ax, key, name in zip(axes, ("score", "characters"), ("score", "length in characters"), strict=True):
        ax.plot(numbers, [one[key] for one in best["curve"]], color=BLUE, marker="o")
        ax.set_title(f"Expected {name}")
        ax.set_xlabel("best of so many replies")
        ax.set_xticks(numbers[:: 1 + len(numbers) // 17])
        ax.yaxis.grid(True, color="#DDDDDD")
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
            reference["mean"], color="k", linestyle="--", linewidth=1.4, label="mean of its test scores"
        )
    ax.legend(frameon=False)
    ax.set_xlabel("score of the reward model")
    ax.set_ylabel("share of the replies")
    ax.set_title("Scores of all replies and of the picked ones")
    yield "scores", figure


def _sides(frame: "pl.DataFrame") -> Figures:
    """The lengths of chosen and rejected."""
    import polars as pl

    lengths = {
        side: frame.select(pl.col(side).list.last().struct.field("content").str.len_chars()).to_series()
        for side in ("chosen", "rejected")
    }
    if len(frame):
        figure, ax = new_figure(3.2)
        _lengths(ax, lengths, "response", "comparisons")
        ax.set_title("Length of chosen and rejected responses (dashed: medians)")
        yield "lengths", figure


def _shortcuts(manifest: Manifest) -> Figures:
    """What the diagnostics of the texts show: of comparisons of any kind, where they were measured."""
    text = manifest.diagnostics.get("text")
    if not text or not text["rows"]:
        return
    place = {
        (row["chosen_responder"], row["rejected_responder"]): number
        for number, row in enumerate(manifest.diagnostics.get("responder_pairs", []))
    }
    most = sorted(text["responder_pairs"], key=lambda row: -row["rows"])[:PAIRS]
    pairs = [(row["chosen_responder"], row["rejected_responder"], row) for row in most]
    pairs.sort(key=lambda pair: (place.get(pair[:2], len(place)), pair[:2]))
    named = [(f"{short_label(a, 20)} > {short_label(b, 20)}", row) for a, b, row in pairs]
    yield "length_gap", _length_gap(text, named if len(named) > 1 else [])
    overall = text | {"probe": text["probe"]["accuracy"]}
    rows = [("all comparisons", overall), *(named if len(named) > 1 else [])]
    yield "shortcuts", _accuracies(rows, text["probe"])


def _length_gap(text: dict[str, Any], pairs: list[tuple[str, dict[str, Any]]]) -> "Figure":
    """A histogram of the gap, and below it a box for each responder pair."""
    import numpy as np
    from matplotlib.figure import Figure

    heights = [2.6] + [0.7 + 0.3 * len(pairs)] * bool(pairs)
    figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    gap = text["length_gap"]
    shown = gap["histogram"]
    counts = np.array(shown["counts"])
    edges = shown["start"] + shown["width"] * np.arange(len(counts) + 1)
    for side, colour, name in (
        (edges[:-1] < 0, ORANGE, "rejected is longer"),
        (edges[:-1] >= 0, BLUE, "chosen is longer, or equal"),
    ):
        axes[0].bar(edges[:-1][side], counts[side], shown["width"], align="edge", color=colour, label=name)
    axes[0].axvline(gap["q50"], color="k", linestyle="--", linewidth=1.6, label="median")
    axes[0].legend(frameon=False)
    width = f"{shown['width']:,} character{'s' if shown['width'] > 1 else ''}"
    axes[0].set_ylabel(f"comparisons per {width}", size=9.5)
    axes[0].set_title(f"Length of chosen minus length of rejected, {text['rows']:,} comparisons")
    _thousands(axes[0], "y")
    for y, (_, row) in enumerate(pairs):
        box = row["length_gap"]
        axes[1].hlines(y, box["q05"], box["q95"], color=BLUE, linewidth=1.5)
        axes[1].barh(y, box["q75"] - box["q25"], left=box["q25"], height=0.6, color="#A6CEE8", edgecolor=BLUE)
        axes[1].vlines(box["q50"], y - 0.3, y + 0.3, color=BLUE, linewidth=3)
    if pairs:
        axes[1].axvline(0, color="k", linewidth=0.8)
        axes[1].set_yticks(range(len(pairs)), [name for name, _ in pairs], size=9)
        axes[1].set_ylim(len(pairs) - 0.4, -0.6)
        axes[1].set_title("By responder pair (box: middle half, line: 5% to 95%)")
    beyond = shown["below"] + shown["above"]
    axes[-1].set_xlabel("characters" + (f" ({beyond:,} further out not shown above)" if beyond else ""))
    ends = [*edges, *(row["length_gap"][end] for _, row in pairs for end in ("q05", "q95"))]
    axes[-1].set_xlim(min(ends), max(ends))
    axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:+,.0f}" if value else "0")
    return figure


def _accuracies(rows: list[tuple[str, dict[str, Any]]], probe: dict[str, Any]) -> "Figure":
    """Dots: how often always-longer and the probe are right."""
    figure, ax = new_figure(1.6 + 0.32 * len(rows))
    ax.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2)
    ax.annotate("tossing a coin", (0.5, -0.6), (4, 2), textcoords="offset points", color=GREY, size=9)
    lines = [("always_longer", ORANGE, "D", "the longer one")]
    if probe["accuracy"] is not None:
        ax.hlines(0, probe["low"], probe["high"], color=BLUE, linewidth=2)
        lines.append(("probe", BLUE, "o", "surface model (line: 95% interval)"))
    for key, colour, marker, name in lines:
        ax.scatter(
            [row[key] for _, row in rows],
            range(len(rows)),
            s=45,
            c=colour,
            marker=marker,
            label=name,
            zorder=3,
        )
    values = [row[key] for _, row in rows for key, *_ in lines]
    ax.set_xlim(min(0.4, *values) - 0.03, max(0.7, *values) + 0.03)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.yaxis.grid(True, color="#DDDDDD")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel("comparisons in which it picks the chosen response")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("How far a shortcut gets without reading", x=0.01, ha="left", size=11.5)
    return figure


def _heat_map(names: list[str], grid: list[list[int | None]]) -> "Figure":
    import numpy as np

    # Nobody ranks above the best one or below the worst one: their column and row would be empty.
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


def _funnel(manifest: Manifest, units: list[str]) -> "Figure":
    from matplotlib.figure import Figure

    entries = [[entry for entry in manifest.ledger if entry.unit == unit] for unit in units]
    bars = [len(some) + 1 for some in entries]
    figure = Figure(figsize=(WIDTH, 1.1 * len(units) + 0.3 * sum(bars)), layout="constrained")
    axes = figure.subplots(len(units), 1, squeeze=False, height_ratios=[n + 1 for n in bars])[:, 0]
    for ax, unit, some in zip(axes, units, entries, strict=True):
        numbers = [some[0].n_in, *(entry.kept for entry in some)]
        losses = [0, *(entry.n_in - entry.kept for entry in some)]
        texts = [f"{n:,}" + f"  (-{less:,})" * bool(less) for n, less in zip(numbers, losses, strict=True)]
        rows = "queries" if unit == "query" else f"{unit}s"
        names = [f"all {rows}", *(entry.filter for entry in some)]
        _bars(ax, names, numbers, texts, first=GREY)
        ax.set_title(f"{rows.capitalize()} left after each filter (lost to it)")
        ax.set_xlabel(rows)
    return figure


def _bars(ax: "Axes", names: list[str], numbers: list[int], texts: list[str], first: str = BLUE) -> None:
    colours = [first] + [BLUE] * (len(names) - 1)
    ax.barh(range(len(names)), numbers, color=colours, height=0.7)
    for y, (number, text) in enumerate(zip(numbers, texts, strict=True)):
        ax.annotate(text, (number, y), (4, 0), textcoords="offset points", va="center", size=9.5)
    ax.set_yticks(range(len(names)), [short_label(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    # Room for the numbers at the end of the bars.
    ax.set_xlim(0, max(1, *numbers) * 1.18)
    _thousands(ax, "x")


def _lengths(ax: "Axes", series: "dict[str, pl.Series]", what: str, rows: str) -> None:
    """Histograms over the same bins. The few longest are counted in the label, so they cannot squeeze it."""
    import numpy as np

    every = np.concatenate([lengths.to_numpy() for lengths in series.values()])
    top = max(1, int(np.ceil(min(np.quantile(every, 0.995), 3 * np.quantile(every, 0.9)))))
    bins = min(BINS, max(8, round(2 * len(every) ** 0.5)))
    width = max(1, -(-top // bins))
    edges = np.arange(0, top + 2 * width, width)
    for (name, lengths), colour in zip(series.items(), (BLUE, ORANGE), strict=False):
        counts, _ = np.histogram(lengths.to_numpy(), edges)
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
        ax.stairs(counts, edges, color=colour, linewidth=1.6, label=f"{name} ({len(lengths):,})")
        ax.axvline(float(np.median(lengths.to_numpy())), color=colour, linestyle="--", linewidth=1.6)
    beyond = int((every > edges[-1]).sum())
    ax.set_xlabel(f"characters in a {what}" + (f" ({beyond:,} longer ones not shown)" if beyond else ""))
    ax.set_ylabel(f"{rows} per {width:,} character{'s' if width > 1 else ''}")
    ax.set_xlim(0, edges[-1])
    _thousands(ax, "x")
    _thousands(ax, "y")
    if len(series) > 1:
        ax.legend(frameon=False)


def new_figure(height: float) -> "tuple[Figure, Axes]":
    """One pair of axes, of the width of a README and so many inches high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _thousands(ax: "Axes", axis: str) -> None:
    from matplotlib.ticker import MaxNLocator

    one = ax.xaxis if axis == "x" else ax.yaxis
    one.set_major_locator(MaxNLocator(6, integer=True))
    one.set_major_formatter("{x:,.0f}")


def short_label(name: str, most: int = 34) -> str:
    """A name as a figure can show it: of glyphs that every font has, its middle cut out where it is long."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    return plain if len(plain) <= most else f"{plain[: most // 2 - 1]}...{plain[-(most // 2 - 2) :]}"


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    # Neither date nor library version goes into the file.
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


FIGURES = {
    "queries": _queries,
    "responses": _responses,
    "comparisons": _comparisons,
    "community": _community,
    "demonstrations": _demonstrations,
}
"""Dataset -> what draws its figures."""
