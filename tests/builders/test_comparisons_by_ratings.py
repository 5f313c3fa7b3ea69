"""Comparisons by ladder, ratings or both, against pairs that a plain loop picks; thresholds of RIP."""

from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.cli.summary import _next_commands
from almost_data.datasets.manifest import Manifest
from almost_data.errors import InputError
from almost_data.run import importing
from almost_data.run.build import BuildRun, prepare
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.command import run as run_command
from tests.jsonl import jsonl

LOW = """
[[comparisons.filters]]
name = "close_call"
unit = "pair"
description = "The chosen response must be rated clearly higher."
drop = "chosen_rating < rejected_rating + 0.3"

[[comparisons.filters]]
name = "rated_low"
description = "A response that is rated low teaches nothing."
drop = "rating < 0.2"
"""
LADDER = ("large", "middle", "small")
BARE = ("checks=[]", "length_sd=none")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Responses of many lengths, and ratings of them by a hash and by length."""
    folder = tmp_path_factory.mktemp("rated")
    rows: list[dict[str, Any]] = [
        {"prompt": f"What of {n}?"}
        | {name: f"{name} says of {n}." + " more" * (n * place % 7) for place, name in enumerate(LADDER, 1)}
        for n in range(40)
    ]
    file = folder / "answers.jsonl"
    jsonl(file, rows)
    store = Store(folder / "build")
    importing.import_responses(store, str(file), list(LADDER), "1.0.0")
    importing.import_responses(store, str(file), list(LADDER[:2]), "2.0.0")
    for version, rater in (("1.0.0", "baseline:random"), ("1.1.0", "baseline:longest")):
        run_of(store, version, [f"ratings.rm={rater}"]).build("ratings")
    return store


def run_of(
    store: Store, version: str, settings: list[str], *sources: str, responses: str = "1.0.0"
) -> BuildRun:
    return prepare(
        root=store.root,
        version=version,
        assignments=settings,
        sources=[f"responses@{responses}", *sources],
    )


def compare(store: Store, version: str, *settings: str, ratings: str = "ratings@1.0.0") -> Manifest:
    assigned = [f"comparisons.{setting}" for setting in (*BARE, *settings)]
    return run_of(store, version, assigned, ratings).build("comparisons")[-1].manifest


def by_query(store: Store, ref: str) -> list[list[dict[str, Any]]]:
    """The rated responses to each query, the best of the ladder first."""
    ratings = store.scan(ref).sort("query_id", "rank").collect()
    return [rows.rows(named=True) for _, rows in ratings.group_by("query_id", maintain_order=True)]


def chosen_over(store: Store, manifest: Manifest) -> set[tuple[str, str]]:
    ids = store.scan(manifest.ref).select("comparison_id").collect()["comparison_id"]
    return {(chosen, rejected) for chosen, rejected in (id.split("-") for id in ids)}


def test_both_keeps_the_ladders_pairs_where_the_ratings_agree(store: Store) -> None:
    manifest = compare(store, "1.0.0", "pairing=all", "margin=0.2")
    assert manifest.config["settings"]["label"] == "both", "where ratings are given"
    expected = {
        (better["reply_id"], worse["reply_id"])
        for replies in by_query(store, "ratings@1.0.0")
        for better, worse in combinations(replies, 2)
        if better["rating"] - worse["rating"] >= 0.2
    }
    assert chosen_over(store, manifest) == expected and verify(store, manifest.ref) == []
    rows = store.scan(manifest.ref).collect()
    assert (rows["chosen_rating"] - rows["rejected_rating"]).min() >= 0.2  # type: ignore[operator]
    assert [parent.ref for parent in manifest.parents] == ["responses@1.0.0", "ratings@1.0.0"]
    rule = manifest.ledger[-1]
    assert (rule.stage, rule.n_in, rule.kept) == ("agreement", 120, len(expected))
    assert rule.dropped == {"ratings_disagree": 120 - len(expected)}
    assert rule.params == {"margin": 0.2, "rater": "baseline:random"}
    assert {pair: count.n_in for pair, count in rule.by_pair.items()} == {
        f"{better} > {worse}": 40 for better, worse in combinations(LADDER, 2)
    }
    assert manifest.diagnostics["rating_agreement"] == len(expected) / 120
    assert any("the As-is RM, has to agree" in fact for fact in manifest.diagnostics["paper_facts"])
    card = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    for text in (
        "should be better is the chosen one, wherever a model's ratings agree.",
        "`baseline:random` must rate chosen higher than rejected, by 0.2 or more.",
        f"The ratings agreed with {len(expected) / 120:.1%} of the pairs",
    ):
        assert text in card
    printed = run_command("show", manifest.ref, "--root", str(store.root)).stdout
    assert "ratings, chosen > rejected" in printed and printed.count("large > small") == 1


def test_the_card_of_imported_answers_says_nothing_of_their_models(store: Store) -> None:
    card = (store.path(compare(store, "7.0.0").ref) / "README.md").read_text("utf-8")
    assert "Several *responders* answered each query" in card
    assert "That who stands higher on the ladder answers better is assumed" in card
    assert "larger model with more examples" not in card and "plumbing run" not in card


def test_ratings_alone_turn_the_ladder_round(store: Store) -> None:
    manifest = compare(store, "1.1.0", "label=ratings", "pairing=all")
    expected = {
        (better["reply_id"], worse["reply_id"])
        for replies in by_query(store, "ratings@1.0.0")
        for better, worse in combinations(sorted(replies, key=lambda row: -row["rating"]), 2)
    }
    assert chosen_over(store, manifest) == expected and verify(store, manifest.ref) == []
    pairs = store.scan(manifest.ref).select("chosen_responder", "rejected_responder").collect()
    assert len(pairs.unique()) == 6
    card = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    assert "The label is the *rating* of each response" in card
    assert "| `small` |" in card, "the matrix has rows and columns of all responders"


def test_equal_ratings_make_no_pair(store: Store) -> None:
    manifest = compare(store, "1.2.0", "label=ratings", "pairing=all", ratings="ratings@1.1.0")
    ties = sum(
        first["rating"] == second["rating"]
        for replies in by_query(store, "ratings@1.1.0")
        for first, second in combinations(replies, 2)
    )
    [rule] = [entry for entry in manifest.ledger if entry.filter == "not_rated_higher"]
    assert ties > 0 and rule.dropped == {"not_rated_higher": ties}
    assert manifest.diagnostics["share_chosen_longer"] == 1.0


@pytest.mark.parametrize(("version", "label"), [("1.3.0", "ladder"), ("1.4.0", "ratings"), ("1.8.0", "both")])
def test_extremes_are_the_best_over_the_worst(store: Store, version: str, label: str) -> None:
    manifest = compare(store, version, f"label={label}", "pairing=extremes")
    expected = set()
    for replies in by_query(store, "ratings@1.0.0"):
        ordered = sorted(replies, key=lambda row: -row["rating"]) if label == "ratings" else replies
        if label != "both" or ordered[0]["rating"] > ordered[-1]["rating"]:
            expected.add((ordered[0]["reply_id"], ordered[-1]["reply_id"]))
    assert chosen_over(store, manifest) == expected
    dropped = dict(store.scan(manifest.ref, "rejected").collect()["reason"].value_counts().iter_rows())
    disagree = {"ratings_disagree": 40 - len(expected)} if label == "both" else {}
    assert dropped == {"not_extremes": 80, **disagree}


def test_thresholds_drop_pairs_for_a_reason_each(store: Store) -> None:
    manifest = compare(
        store,
        "1.5.0",
        *("label=ratings", "pairing=extremes"),
        *("min_rejected_rating=0.1", "min_rejected_chars=20", "max_rating_gap=0.6"),
    )
    rows = store.scan(manifest.ref).collect()
    dropped = dict(store.scan(manifest.ref, "rejected").collect()["reason"].value_counts().iter_rows())
    text = pl.col("rejected").list.last().struct.field("content").str.len_chars()
    gap = pl.col("chosen_rating") - pl.col("rejected_rating")
    kept = rows.select((pl.col("rejected_rating") >= 0.1) & (text >= 20) & (gap <= 0.6))
    assert kept.to_series().all() and len(rows) < 40
    counts = {entry.filter: sum(entry.dropped.values()) for entry in manifest.ledger if entry.unit == "pair"}
    assert {name: n for name, n in counts.items() if n} == dropped
    assert {"rejected_rated_low", "rating_gap"} <= set(dropped)


def test_without_ratings_there_are_no_columns_of_them(store: Store) -> None:
    plain = run_of(store, "1.6.0", [f"comparisons.{setting}" for setting in BARE]).build("comparisons")
    assert "chosen_rating" not in plain[-1].manifest.table("default").names
    assert plain[-1].manifest.config["settings"]["label"] == "ladder"
    rated = compare(store, "1.7.0", "label=ladder")
    assert {"chosen_rating", "rejected_rating"} <= set(rated.table("default").names)
    assert chosen_over(store, rated) == chosen_over(store, plain[-1].manifest)
    assert rated.fingerprint != plain[-1].manifest.fingerprint


def test_ratings_of_other_responses_are_refused(store: Store) -> None:
    run = run_of(store, "3.0.0", [], "ratings@1.0.0", responses="2.0.0")
    with pytest.raises(InputError, match=r"^run\.ratings ratings@1\.0\.0: it was made from responses@1"):
        run.build("comparisons")


def test_a_label_that_needs_ratings_builds_them(store: Store, tmp_path: Path) -> None:
    settings = ["comparisons.label=both", "ratings.rm=baseline:longest"]
    plan = run_of(store, "4.0.0", settings).plan("comparisons")
    assert [(step.action, step.manifest.ref) for step in plan.steps] == [
        ("reuse", "responses@1.0.0"),
        ("build", "ratings@4.0.0"),
        ("build", "comparisons@4.0.0"),
    ]
    missing = r"^run\.ratings is missing.*which `build ratings` makes.*\(ratings\.judge, ratings\.rm: name a"
    with pytest.raises(InputError, match=missing):
        run_of(store, "4.0.0", settings[:1]).plan("comparisons")
    with pytest.raises(InputError, match=r"name a rater.*, or set run\.from to ratings@1\.0\.0\)$"):
        run_of(store, "1.0.0", settings[:1]).plan("comparisons")


def test_the_command_line_takes_ratings(store: Store) -> None:
    done = run_command(
        *("build", "comparisons", "--from", "responses@1.0.0", "--ratings", "ratings@1.0.0", "--dry-run"),
        *("--engine", "fake", "--version", "5.0.0", "--root", str(store.root)),
    )
    assert done.returncode == 0, done.stderr
    wrong = run_command("build", "comparisons", "--ratings", "responses@1.0.0", "--root", str(store.root))
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "almost-data: --ratings responses@1.0.0: give ratings@VERSION\n",
    )
    assert done.stdout.count("exists") == 2 and "comparisons@5.0.0" in done.stdout


def test_the_command_that_follows_ratings_names_them_and_not_their_settings(store: Store) -> None:
    where = ("--from", "responses@1.0.0", "--version", "6.0.0")
    done = run_command("build", "ratings", *where, "--rm", "baseline:random", "--root", str(store.root))
    assert done.returncode == 0, done.stderr
    command = done.stdout.partition("Next\n")[2].strip().partition("\n")[0].partition(" --root")[0]
    assert command.endswith(" ".join([*where, "--ratings", "ratings@6.0.0"])), command
    assert "--set" not in command and "--engine" not in command and "engine-seconds" not in done.stdout


def test_the_command_that_follows_names_a_version_that_is_free(store: Store) -> None:
    compare(store, "8.0.0", "pairing=all")
    ratings = store.manifest("ratings@1.0.0")
    compare(store, "8.0.0-b", "pairing=all")
    for version, free in (("8.0.0", "8.1.0"), ("8.0.0-b", "8.1.0-b")):
        options = ["--engine", "vllm", "--from", "responses@1.0.0", "--version", version]
        command = _next_commands(store, ratings, options)[0].partition(" build ")[2].partition(" --root")[0]
        assert command == f"comparisons --from responses@1.0.0 --version {free} --ratings ratings@1.0.0"


def test_filters_of_users_see_the_ratings_and_ask_for_them(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "filters.toml"
    file.write_text(LOW)

    def build(*sources: str) -> Manifest:
        assigned = [f"comparisons.{setting}" for setting in (*BARE, "pairing=all", "label=ladder")]
        run = prepare(
            root=store.root,
            version="9.0.0",
            config=file,
            assignments=assigned,
            sources=["responses@1.0.0", *sources],
        )
        return run.build("comparisons")[-1].manifest

    with pytest.raises(InputError, match=r"ratings\.judge, ratings\.rm: name a rater"):
        build()
    manifest = build("ratings@1.0.0")
    expected = {
        (better["reply_id"], worse["reply_id"])
        for replies in by_query(store, "ratings@1.0.0")
        for better, worse in combinations([row for row in replies if row["rating"] >= 0.2], 2)
        if better["rating"] >= worse["rating"] + 0.3
    }
    assert expected and chosen_over(store, manifest) == expected
    dropped = {entry.filter: sum(entry.dropped.values()) for entry in manifest.ledger}
    assert dropped["close_call"] and dropped["rated_low"] and dropped["unrated"] == 0
