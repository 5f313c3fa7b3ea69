"""Comparisons that exist are filtered as those that are made: the same rules keep the same rows."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.builders import filtered
from almost_data.datasets.builder import NothingLeft
from almost_data.datasets.manifest import Manifest
from almost_data.errors import InputError
from almost_data.run import importing
from almost_data.run.build import prepare
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.command import run as run_command
from tests.jsonl import jsonl

WORDS = "a green tea leaf grows on the shrub that they pick by hand each spring before any rain".split()
FILTER = """
[[filtered.filters]]
name = "{}"
description = "It is left out."
drop = "{}"
"""


def pairs(count: int = 40) -> list[dict[str, Any]]:
    """Preferences whose sides differ in length by 0 to 6 words."""
    return [
        {
            "question": f"What is {WORDS[n % 17]} number {n * n} to {WORDS[n * 5 % 17]}?",
            "chosen": " ".join(WORDS[n % 5 : n % 5 + 4 + n % 7]) + ".",
            "rejected": " ".join(WORDS[n % 3 : n % 3 + 7 - n % 4]) + f" {n}.",
            "source": "forum" if n % 4 == 0 else "web",
        }
        for n in range(count)
    ]


def imported(tmp_path: Path, rows: list[dict[str, Any]], version: str = "1.0.0") -> Store:
    file = tmp_path / f"pairs-{version}.jsonl"
    jsonl(file, rows)
    store = Store(tmp_path / "build")
    importing.import_preferences(store, str(file), version)
    return store


def build(store: Store, *settings: str, version: str = "1.0.0", **options: Any) -> Manifest:
    run = prepare(
        root=store.root,
        version=version,
        assignments=[f"filtered.{setting}" for setting in settings],
        sources=["comparisons@1.0.0"],
        **options,
    )
    return run.build("filtered")[-1].manifest


def ids(store: Store, ref: str) -> set[str]:
    return set(store.scan(ref).select("comparison_id").collect()["comparison_id"])


def test_every_pair_is_kept_or_dropped_by_the_first_rule_that_says_so(tmp_path: Path) -> None:
    rows = pairs()
    rows[1]["chosen"] = "I'm sorry, but I cannot help with that request at all."
    rows[3]["chosen"], rows[3]["rejected"] = "Tea. " * 30, "No."
    store = imported(tmp_path, rows)
    rule = tmp_path / "rule.toml"
    rule.write_text(
        '[[filtered.filters]]\nname = "forum"\ndescription = "A forum."\ndrop = "source = \'forum\'"\n',
        "utf-8",
    )
    manifest = build(store, "checks=chat", "max_length_gap=100", config=rule)
    dropped = store.scan("filtered@1.0.0", "rejected").collect()
    expected = {"refusal": 1, "loop": 1, "forum": 10}
    assert dict(Counter(dropped["reason"])) == expected
    assert [(entry.filter, sum(entry.dropped.values())) for entry in manifest.ledger if entry.dropped] == [
        ("loop", 1),
        ("refusal", 1),
        ("forum", 10),
    ]
    assert manifest.ledger[0].n_in == 40 and manifest.ledger[-1].kept == 28
    kept = store.scan("filtered@1.0.0").collect()
    source = store.scan("comparisons@1.0.0").collect()
    assert len(kept) == 28 and kept.columns == source.columns
    assert (
        pl.concat([kept, dropped.select(kept.columns)])
        .sort("comparison_id")
        .equals(source.sort("comparison_id"))
    )
    assert verify(store, "filtered@1.0.0") == []
    assert "forum" in (store.path("filtered@1.0.0") / "README.md").read_text("utf-8")
    refused = dropped.filter(pl.col("reason") == "refusal").row(0, named=True)
    assert refused["chosen"][0]["content"] == rows[1]["chosen"] and refused["stage"] == "response checks"


RULES = [
    ["max_length_gap=12"],
    ["balance_length=0.5"],
    ["dedup_prompts=true", "dedup_pairs=true"],
    ["target=9"],
    ["max_length_gap=30", "balance_length=0.6", "target=7", "seed=3"],
]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_rules_keep_the_rows_that_they_keep_where_comparisons_are_made(
    tmp_path: Path, rules: list[str]
) -> None:
    """Every pair of a ladder, and then the rules, is what the builder of comparisons does at once."""
    rows = [
        {
            "prompt": row["question"],
            "one": row["chosen"],
            "three": row["rejected"],
            "two": f"{row['rejected']} So.",
        }
        for row in pairs()
    ]
    file = tmp_path / "answers.jsonl"
    jsonl(file, rows)
    store = Store(tmp_path / "build")
    importing.import_responses(store, str(file), ["one", "three", "two"], "1.0.0")
    plain = ["comparisons.checks=none", "comparisons.pairing=all", "comparisons.length_sd=none"]

    def comparisons(version: str, *rules: str) -> None:
        prepare(
            root=store.root, version=version, assignments=[*plain, *rules], sources=["responses@1.0.0"]
        ).build("comparisons")

    comparisons("1.0.0")
    comparisons("1.1.0", *(f"comparisons.{rule}" for rule in rules))
    build(store, *rules)
    assert ids(store, "filtered@1.0.0") == ids(store, "comparisons@1.1.0") < ids(store, "comparisons@1.0.0")


def test_a_range_at_a_time_is_the_same_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = imported(tmp_path, pairs())
    rules = ("max_length_gap=30", "dedup_pairs=true", "balance_length=0.5", "target=11")
    whole = build(store, *rules)
    monkeypatch.setattr(filtered, "RANGE_ROWS", 28)
    parts = build(store, *rules, version="1.1.0")
    assert whole.digest == parts.digest and whole.ledger == parts.ledger


def test_queries_of_a_benchmark_are_counted_or_dropped(tmp_path: Path) -> None:
    rows = pairs()
    store = imported(tmp_path, rows)
    benchmark = tmp_path / "bench.txt"
    benchmark.write_text(f"{rows[5]['question']}\n{rows[6]['question']}\n", "utf-8")
    counted = build(store, f'benchmarks=["{benchmark}"]')
    assert counted.diagnostics["contamination"][0]["overlapping_queries"] == 2
    assert counted.diagnostics["comparisons"] == 40
    clean = build(store, f'benchmarks=["{benchmark}"]', "decontaminate=true", version="1.1.0")
    assert clean.ledger[0].dropped == {"contaminated": 2} and clean.ledger[0].unit == "pair"
    with pytest.raises(InputError, match=r"filtered\.decontaminate: name files"):
        build(store, "decontaminate=true", version="1.2.0")


def test_pairs_that_a_filter_could_not_decide_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter on a column that is null keeps the pair, and a note says for how many."""
    rows = [row | {"source": row["source"] if row["source"] == "forum" else None} for row in pairs()]
    store = imported(tmp_path, rows)
    rule = tmp_path / "rule.toml"
    rule.write_text(FILTER.format("forum", "source = 'forum'"), "utf-8")
    monkeypatch.setattr(filtered, "RANGE_ROWS", 28)
    manifest = build(store, config=rule)
    entry = next(entry for entry in manifest.ledger if entry.filter == "forum")
    assert (entry.n_in, entry.kept, entry.undecided) == (40, 30, 30)
    note = "forum could not be decided for 30 of 40 pairs, which were kept: it is null there, as a column"
    assert [line for line in manifest.diagnostics["notes"] if line.startswith(note)]
    rule.write_text(FILTER.format("forum", "source IS NOT NULL AND source = 'forum'"), "utf-8")
    assert build(store, config=rule, version="1.1.0").diagnostics["notes"] == []


def test_what_the_comparisons_lack_cannot_be_read_by_a_filter(tmp_path: Path) -> None:
    store = imported(tmp_path, pairs())
    rule = tmp_path / "rule.toml"
    rule.write_text(
        '[[filtered.filters]]\nname = "low"\ndescription = "Low."\ndrop = "chosen_rating < 3"\n', "utf-8"
    )
    with pytest.raises(
        InputError, match=r"filtered\.filters, low: these comparisons have no 'chosen_rating'"
    ):
        build(store, config=rule)
    with pytest.raises(InputError, match=r"filtered\.length_tokenizer is read by"):
        build(store, "length_tokenizer=a/b")


def test_where_nothing_is_left_the_dropped_pairs_are_kept_with_their_reason(tmp_path: Path) -> None:
    store = imported(tmp_path, pairs())
    with pytest.raises(NothingLeft, match="too_short dropped 40 of 40"):
        build(store, 'checks=["too_short"]')
    assert set(store.scan("filtered@1.0.0", "rejected").collect()["reason"]) == {"too_short"}


def test_the_command_has_an_option_for_each_rule(tmp_path: Path) -> None:
    store = imported(tmp_path, pairs())
    arguments = ["build", "filtered", "--from", "comparisons@1.0.0", "--root", str(store.root)]
    done = run_command(*arguments, "--checks", "chat", "--max-length-gap", "20", "--target", "5")
    assert done.returncode == 0, done.stderr
    assert "length_gap" in done.stdout and "not_needed" in done.stdout
    wrong = run_command(*arguments, "--pairing", "all", "--version", "2.0.0")
    assert wrong.returncode == 2 and "--pairing" in wrong.stderr
