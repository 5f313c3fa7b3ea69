"""Figures are deterministic PNG bytes at any size of data, and one without data is left out."""

import io
import subprocess
import sys

import matplotlib
import msgspec
import polars as pl
import pytest
from matplotlib.image import imread
from matplotlib.patches import StepPatch

from almost_data.builders.comparisons.builder import pair_matrix
from almost_data.cards.figures import MAX_LENGTH_BINS, as_files, draw_lengths, new_figure
from almost_data.datasets.ledger import Count, Entry
from almost_data.datasets.manifest import BuilderId, Manifest
from almost_data.diagnostics.shortcuts import diagnose
from almost_data.store import store
from tests import schema
from tests.png import chunks

pytestmark = pytest.mark.usefixtures("figures")
NAMES = [f"{size}B-A-Rather-Long-Name-Of-A-Model-{size}-and-its-prompt-3shot" for size in range(12, 0, -1)]
WANT = {
    "queries": ["funnel", "query_lengths"],
    "responses": ["response_lengths"],
    "comparisons": ["funnel", "length_gap", "lengths", "shortcuts"],
}


def draw(manifest: Manifest, tables: dict[str, pl.DataFrame]) -> dict[str, bytes]:
    """The figures of a dataset's card by path."""
    return as_files(schema.builder(manifest.name).figures(manifest, tables))


def names_of_figures(manifest: Manifest, tables: dict[str, pl.DataFrame]) -> set[str]:
    """The same figures, which are not painted."""
    return {name for name, _ in schema.builder(manifest.name).figures(manifest, tables)}


@pytest.mark.parametrize("name", sorted(WANT))
def test_every_dataset_has_its_figures(fake_store: store.Store, name: str) -> None:
    manifest = fake_store.manifest(f"{name}@0.1.0")
    tables = {c: fake_store.scan(manifest.ref, c).collect() for c in fake_store.configs(manifest.ref)}
    shuffled = {config: frame.sample(fraction=1, shuffle=True, seed=1) for config, frame in tables.items()}
    # Neither the order of rows nor the user's style may show; the stored figures were made without either.
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.parse_math": True}):
        figures = draw(manifest, shuffled)
    assert sorted(figures) == [f"plots/{figure}.png" for figure in WANT[name]]
    for path, png in figures.items():
        assert (fake_store.path(manifest.ref) / path).read_bytes() == png
        assert chunks(png) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}, "a date or version is in the file"
        pixels = imread(io.BytesIO(png))
        assert 1100 <= pixels.shape[1] <= 1300 and pixels.shape[0] <= 1500
        assert pixels[0, 0, 3] == 0, "the ground is transparent, for light and dark pages"


def test_a_figure_without_data_is_left_out() -> None:
    manifest, tables = comparisons(NAMES[:3], 0)
    assert draw(msgspec.structs.replace(manifest, ledger=[]), tables) == {}
    empty = {"default": schema.frame("queries", "default", [])}
    assert draw(msgspec.structs.replace(manifest, name="queries", ledger=[]), empty) == {}
    assert draw(msgspec.structs.replace(manifest, name="responses"), {"rejected": pl.DataFrame()}) == {}


@pytest.mark.parametrize(("responders", "rows"), [(0, 700), (2, 1), (12, 50_000)])
def test_figures_of_what_the_texts_give_away(responders: int, rows: int) -> None:
    names = NAMES[:responders] or NAMES[:2]
    manifest, tables = comparisons(names, rows)
    order = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    plain = pl.DataFrame(
        {
            "comparison_id": [f"{i}" for i in range(rows)],
            "query_id": [f"{i // 2:016x}" for i in range(rows)],
            "prompt": [f"What is {i // 2}?" for i in range(rows)],
            "chosen": [f"{i} " * (i % 31) for i in range(rows)],
            "rejected": [f"{i} " * (i % 17) for i in range(rows)],
            "chosen_responder": [order[i % len(order)][0] for i in range(rows)],
            "rejected_responder": [order[i % len(order)][1] for i in range(rows)],
        }
    )
    text = diagnose(plain if responders else plain.drop("chosen_responder", "rejected_responder"))
    measured = msgspec.structs.replace(manifest, diagnostics=manifest.diagnostics | {"text": text})
    figures = draw(measured, tables)
    assert "plots/lengths.png" in figures and "plots/funnel.png" in figures
    assert names_of_figures(measured, tables) - names_of_figures(manifest, tables) == {
        "length_gap",
        "shortcuts",
    }
    for path in ("plots/length_gap.png", "plots/shortcuts.png"):
        pixels = imread(io.BytesIO(figures[path]))
        assert 1100 <= pixels.shape[1] <= 1300 and pixels.shape[0] <= 2100


def test_names_of_filters_are_no_markup() -> None:
    manifest, tables = comparisons(NAMES[:3], 5)
    odd = [
        msgspec.structs.replace(e, filter="$\\frac{$ \u202e \U0001f600 " + "x" * 300) for e in manifest.ledger
    ]
    assert "plots/funnel.png" in draw(msgspec.structs.replace(manifest, ledger=odd), tables)


def test_pair_matrix_is_the_last_filters_and_sums_up() -> None:
    manifest, _ = comparisons(NAMES[:4], 60)
    names, grid = pair_matrix(manifest)
    assert names == NAMES[:4] and sum(count or 0 for row in grid for count in row) == 60
    assert all((count is None) == (j <= i) for i, row in enumerate(grid) for j, count in enumerate(row))
    without = msgspec.structs.replace(manifest, ledger=[])
    assert pair_matrix(without) == (names, grid), "the diagnostics say the same"


def test_matplotlib_is_loaded_late_and_without_pyplot() -> None:
    code = (
        "import sys, almost_data.cards.figures; assert 'matplotlib' not in sys.modules; "
        "from tests import schema; schema.TABLES; assert 'matplotlib' not in sys.modules; "
        "from tests.cards.test_plots import comparisons, draw, NAMES; draw(*comparisons(NAMES[:3], 9)); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def comparisons(names: list[str], rows: int) -> tuple[Manifest, dict[str, pl.DataFrame]]:
    """A manifest and tables with `rows` comparisons dealt out to the responder pairs."""
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    dealt = {pair: rows // len(pairs) + (place < rows % len(pairs)) for place, pair in enumerate(pairs)}
    by_pair = {f"{a} > {b}": Count(n + 3, n, {"chosen_too_short": 3}) for (a, b), n in dealt.items()}
    before = rows + 3 * len(pairs)
    params = {"description": "d", "params": {}, "source": "s"}
    ledger = [
        Entry("checks", "too_short", "response", **params, n_in=9, kept=9, dropped={}),
        Entry(
            "pairs",
            "chosen_too_short",
            "pair",
            **params,
            n_in=before,
            kept=rows,
            dropped={"chosen_too_short": before - rows},
            by_pair=by_pair,
        ),
    ]
    diagnostics = {
        "responders": [{"responder": name} for name in names],
        "responder_pairs": [
            {"chosen_responder": a, "rejected_responder": b, "comparisons": n} for (a, b), n in dealt.items()
        ],
    }
    manifest = Manifest(
        kind="dataset",
        name="comparisons",
        version="1.0.0",
        builder=BuilderId("comparisons", 1),
        config={},
        fingerprint="",
        digest="",
        parents=[],
        tables=schema.TABLES["comparisons"],
        ledger=ledger,
        counts={"default": {"train": rows}},
        diagnostics=diagnostics,
        environment={},
        created="",
    )
    count = pl.int_range(rows, dtype=pl.Int64, eager=True)

    def message(step: int) -> pl.Series:
        text = pl.select(pl.lit("word ").repeat_by(count * step % 97 + 1).list.join("")).to_series()
        return pl.DataFrame({"role": pl.repeat("assistant", rows, eager=True), "content": text}).to_struct()

    frame = pl.DataFrame({"chosen": message(31), "rejected": message(17)}).select(pl.all().reshape((-1, 1)))
    return manifest, {"default": frame.with_columns(pl.all().arr.to_list())}


@pytest.mark.parametrize("lengths", [[1, 200_000], [200_000, 200_001], [1], [0]])
def test_long_texts_among_few_have_no_bin_for_each_character(lengths: list[int]) -> None:
    _, axes = new_figure(2)
    draw_lengths(axes, {"response": pl.Series(lengths)}, "response", "responses")
    steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    assert steps and all(len(patch.get_data().edges) <= MAX_LENGTH_BINS + 3 for patch in steps)
