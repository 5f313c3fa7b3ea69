"""The card and figures of demonstrations."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from almost_data.builders.demonstrations.builder import BUILDER
from almost_data.cards import card, figures
from almost_data.cards.markdown import sig
from almost_data.datasets.builder import text_id
from almost_data.datasets.manifest import Manifest
from almost_data.generation import Request
from tests.builders.demonstrations.scripted import QUERIES, REF, Judge, Scripted, build_dialogues
from tests.markup import NASTY, Page, headings, spoil


def figure_files(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> dict[str, bytes]:
    return figures.as_files(BUILDER.figures(manifest, tables))


@pytest.mark.parametrize(
    "how",
    [
        {"n": 1},
        {"n": 4},
        {"n": 4, "turns": 4, "preference": True, "checks": True, "conversations_per_query": 2},
        {"n": 4, "rejected": True, "preference": True},
        {"n": 2, "halves": True},
    ],
    ids=["self-play", "rmsp", "whole", "rejected", "no whole turn"],
)
@pytest.mark.usefixtures("figures")
def test_the_card_says_what_was_done(tmp_path: Path, how: dict[str, Any]) -> None:
    settings = {key: value for key, value in how.items() if key not in ("rejected", "halves")}

    def say(request: Request) -> str | None:
        if how.get("halves"):
            return "" if request.sample else None
        return "" if how.get("rejected") and request.id.startswith(text_id(QUERIES[0])) else None

    built = build_dialogues(tmp_path, Scripted(say), **settings)
    text = (built.store.path(REF) / "README.md").read_text("utf-8")
    assert text == card.render(
        BUILDER,
        built.manifest,
        built.tables,
        sorted(figure_files(built.manifest, built.tables)),
        built.store.ancestors(built.manifest),
    )
    page = Page(text)
    assert page.open == [] and page.headings == headings("demonstrations")
    assert "\n\n| responder |" in text, "the paragraph before runs into the table"
    assert ("reward-model-guided self-play* (RMSP), step 2" in text) == (how["n"] > 1)
    assert ("*Self-Play*, which" in text) == (how["n"] == 1)
    assert ("No reward model picked here" in text) == (how["n"] == 1)
    whole = how["n"] > 1 and not how.get("halves")
    assert ("Columns of `preference`" in text) == ("preference" in built.tables)
    assert ("Columns of `rejected`" in text) == bool(how.get("rejected"))
    assert ("response checks of comparisons drop" in text) == bool(how.get("checks"))
    assert ("user responder wrote" in text) == (how.get("turns", 2) > 2)
    assert {cells[0] for cells in page.table("conversations that ended")[1:]} == set(
        built.manifest.diagnostics["ends"]
    )
    names = sorted(file.name for file in (built.store.path(REF) / "plots").glob("*.png"))
    assert names == (["best_of_n.png", "scores.png"] if whole else [])
    if whole:
        lines = page.table("picked from")[1:]
        best = built.manifest.diagnostics["best_of_n"]
        assert [line[0] for line in lines] == [str(k + 1) for k in range(how["n"])]
        assert [line[1] for line in lines] == [sig(point["score"]) for point in best["curve"]]
        assert len(set(re.findall(r"!\[[^]]*\]\((plots/[^)]+)\)", text))) == 2
    if how.get("halves"):
        assert built.manifest.diagnostics["best_of_n"] == {"turns": 0}
        assert "In no turn do all 2 replies have a score" in text


def test_chat_models_on_imported_queries_have_nothing_of_the_paper(tmp_path: Path) -> None:
    built = build_dialogues(tmp_path)
    settings = built.manifest.config["settings"]
    chats = {role: settings[role] | {"style": "chat"} for role in ("assistant", "user")}
    config = built.manifest.config | {"settings": settings | chats}
    manifest = msgspec.structs.replace(built.manifest, config=config)
    text = card.render(BUILDER, manifest, built.tables, [], built.store.ancestors(manifest))
    assert "\n# Demonstrations 0.1.0\n" in text and not re.search("ALMoST|Kim et al|the paper", text)


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    replies = iter([*NASTY, *NASTY] * 9)
    built = build_dialogues(
        tmp_path, Scripted(lambda request: next(replies)), queries=NASTY, turns=4, preference=True
    )
    ancestors = built.store.ancestors(built.manifest)
    paths = sorted(figure_files(built.manifest, built.tables))
    sides = [built.manifest]
    for nasty in NASTY:
        bad = spoil(
            built.manifest,
            nasty,
            [msgspec.structs.replace(e, description=nasty) for e in built.manifest.ledger],
        )
        best = bad.diagnostics["best_of_n"]
        opening = {"words": " ".join(nasty.split()[:4]), "share": 0.5}
        bad = msgspec.structs.replace(
            bad,
            config=bad.config
            | {
                "reward_models": {"scorer": {"id": nasty, "revision": nasty}},
                "resolved": {nasty: next(iter(bad.config["resolved"].values()))},
            },
            diagnostics=bad.diagnostics
            | {"best_of_n": best | {"most_frequent_opening": opening}, "ends": {nasty: 3}},
        )
        sides.append(bad)
    for manifest in sides:
        text = card.render(BUILDER, manifest, built.tables, paths, ancestors)
        assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", text.split("\n---\n", 1)[1])
        page = Page(text)
        assert page.open == [] and page.headings == headings("demonstrations")
        ours = "h1 h2 p a br em strong code pre ul ol li blockquote details summary img hr".split()
        assert {tag for tag, _ in page.tags} <= {*ours, "table", "thead", "tbody", "tr", "th", "td"}
        assert {a["src"] for tag, a in page.tags if tag == "img"} == set(paths)
        assert {a["href"] for tag, a in page.tags if tag == "a"} == {"https://arxiv.org/abs/2305.13735"}
        for table in page.tables:
            assert {len(row) for row in table} == {len(table[0])}, "a cell broke its row"


@pytest.mark.usefixtures("figures")
def test_figures_are_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    built = build_dialogues(tmp_path, judge=Judge(usual={"mean": 0.5, "std": 1.0, "rows": 9}))
    files = figure_files(built.manifest, {name: rows.reverse() for name, rows in built.tables.items()})
    assert sorted(files) == ["plots/best_of_n.png", "plots/scores.png"]
    for path, content in files.items():
        assert content == (built.store.path(REF) / path).read_bytes() and content[:4] == b"\x89PNG"
