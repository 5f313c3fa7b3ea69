"""Samples: which rows they are, that all of them have their texts, and what is said where some cannot."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from almost_data.datasets.tables import last_turn
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run import importing
from almost_data.run.build import BuildRun
from almost_data.store.samples import Selection, absent_texts, examples, sample
from almost_data.store.store import Store
from tests.command import run as cli
from tests.jsonl import jsonl
from tests.settings import fake_tiny

REF = "comparisons@0.1.0"


def test_dropped_rows_have_text_and_reason(fake_store: Store) -> None:
    ledger = fake_store.manifest(REF).ledger
    for reason, n in [item for entry in ledger for item in entry.dropped.items()]:
        sampled = sample(fake_store, REF, Selection(dropped=reason), 5)
        assert sampled.matching == n and len(sampled.rows) == min(n, 5)
        assert all(row.reason == reason and row.prompt for row in sampled.rows)
        assert all(side.text for row in sampled.rows for side in row.sides)
    everything = sample(fake_store, REF, Selection(dropped="any"), 10_000)
    assert len(everything.rows) == sum(sum(entry.dropped.values()) for entry in ledger)


def test_conditions_are_kept_by_every_row(fake_store: Store) -> None:
    longer = sample(fake_store, REF, Selection(longer="rejected"), 1000)
    assert longer.rows and all(
        len(row.sides[0].text or "") < len(row.sides[1].text or "") for row in longer.rows
    )
    pair = sample(fake_store, REF, Selection(pair="fake-270M-Faithful-3shot>fake-270M-HHH-5shot"))
    assert {row.sides[1].responder for row in pair.rows} == {"fake-270M-HHH-5shot"}
    where = "prompt LIKE 'How %' AND chosen_length > 100 AND split = 'train'"
    rows = sample(fake_store, REF, Selection(where=where)).rows
    assert rows and all(row.prompt[0]["content"].startswith("How ") and row.split == "train" for row in rows)


def test_the_responses_to_a_query_are_one_row(fake_store: Store) -> None:
    sampled = sample(fake_store, "responses@0.1.0", n=3)
    assert len(sampled.rows) == 3 and all(len(row.sides) == 5 for row in sampled.rows)
    queries = fake_store.scan("responses@0.1.0").select(pl.col("query_id").n_unique()).collect().item()
    assert sampled.matching == queries
    assert len(examples(fake_store, fake_store.manifest("responses@0.1.0"), 2)) == 2


def test_the_seed_decides(fake_store: Store) -> None:
    first, again, second = (sample(fake_store, REF, Selection(seed=seed), 5).rows for seed in (0, 0, 1))
    assert first == again != second


def test_examples_are_of_distinct_queries(fake_store: Store) -> None:
    rows = examples(fake_store, fake_store.manifest(REF), 4)
    assert len({row.prompt[0]["content"] for row in rows}) == 4


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(dropped="to_short"), "did you mean 'too_short'"),
        (Selection(dropped="too_short", longer="rejected"), "these rows are no pairs"),
        (Selection(where="chosen_len > 3"), "did you mean 'chosen_length'"),
        (Selection(where="CAST(chosen AS INT) > 1"), "no Polars SQL condition .*: write one such as prompt"),
        (Selection(where="chosen = tea"), "no column 'tea' in .*a text stands in single quotes"),
        (Selection(where="nonsense("), "no Polars SQL condition .*: write one such as prompt LIKE"),
        (Selection(where="chosen_length"), "not true or false"),
        (Selection(pair="a>b"), "it has: fake-"),
        (Selection(config="defualt"), "no config 'defualt'"),
        (Selection(id="nope"), "no row with the id 'nope'"),
        (Selection(sort="chosen_len"), "did you mean 'chosen_length'"),
    ],
)
def test_what_does_not_fit_is_named_with_what_there_is(
    fake_store: Store, selection: Selection, message: str
) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        sample(fake_store, REF, selection)
    with pytest.raises(InputError, match=r"responses@0\.1\.0 dropped no row"):
        sample(fake_store, "responses@0.1.0", Selection(dropped="any"))
    with pytest.raises(InputError, match="give 1 or more"):
        sample(fake_store, REF, n=0)


def test_texts_of_an_absent_parent_are_missed_and_said_so(tmp_path: Path) -> None:
    settings = fake_tiny("comparisons.drops_with_text=false")
    store = Store(tmp_path / "build")
    BuildRun(store, "0.1.0", settings, FakeEngine()).build("comparisons")
    shutil.rmtree(store.path("responses@0.1.0"))
    done = cli("sample", REF, "--dropped", "too_short", "--root", str(tmp_path / "build"))
    assert done.returncode == 0
    assert "the text is not in the store" in done.stdout and "responses@0.1.0" in done.stdout


def test_an_empty_reply_is_shown_as_empty(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "large": "So.", "small": small} for prompt, small in (("Why?", ""), ("Who?", "I."))
    ]
    file = jsonl(tmp_path / "answers.jsonl", rows)
    store = Store(tmp_path / "build")
    importing.import_responses(store, file, ["large", "small"], "1.0.0")
    done = cli("sample", "responses@1.0.0", "--dropped", "missing", "--root", str(store.root))
    assert "(no text)" in done.stdout and "not in the store" not in done.stdout
    assert "stores no text" not in done.stdout


def test_a_comparison_s_id_alone_makes_no_comparison_of_a_row() -> None:
    """As in a dataset of another package, a row for each comparison."""
    assert absent_texts(["query_id", "comparison_id", "opener"]) == {"prompt": "query_id"}
    assert absent_texts(["comparison_id", "question_url"]).keys() == {"chosen", "rejected"}


def test_sample_prints_boxes_with_reasons_and_json(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    done = cli("sample", "comparisons", "--dropped", "too_short", "-n", "2", *root)
    assert done.stdout.count("╭") == 2 and "dropped too_short: " in done.stdout
    assert '"reason":' in cli("sample", "comparisons", "--json", "-n", "1", *root).stdout


def test_rows_are_sorted_by_a_column_or_a_length(fake_store: Store) -> None:
    sampled = sample(fake_store, REF, Selection(sort="chosen_length"), 5)
    lengths = [len(row.sides[0].text or "") for row in sampled.rows]
    texts = fake_store.scan(REF).select(last_turn("chosen")).collect()["chosen"]
    assert lengths == texts.str.len_chars().sort(descending=True).head(5).to_list()
    assert sampled.matching == len(texts)


def test_an_id_shows_what_was_kept_of_it_and_what_was_dropped(fake_store: Store) -> None:
    kept, dropped = (sample(fake_store, REF, Selection(dropped=reason), 1) for reason in (None, "any"))
    for row in (*kept.rows, *dropped.rows):
        [same] = sample(fake_store, REF, Selection(id=row.id)).rows
        assert same == row
    chosen, _, rejected = kept.rows[0].id.partition("-")
    for reply in (chosen, rejected):
        assert kept.rows[0] in sample(fake_store, REF, Selection(id=reply), 100).rows
    query = kept.frame["query_id"][0]
    rows = sample(fake_store, REF, Selection(id=query), 1000).rows
    counts = [
        fake_store.scan(REF, config).filter(query_id=query).collect().height
        for config in fake_store.configs(REF)
    ]
    assert len(rows) == sum(counts) and {row.reason is None for row in rows} == {True, False}
    pair = fake_store.scan(REF, "rejected").collect().row(0, named=True)
    pair_id = f"{pair['chosen_reply_id']}-{pair['rejected_reply_id']}"
    assert [row.reason for row in sample(fake_store, REF, Selection(id=pair_id)).rows] == [pair["reason"]]
    done = cli("sample", REF, "--id", kept.rows[0].id, "--root", str(fake_store.root))
    assert "kept: it passed too_short, " in done.stdout


def test_the_id_of_a_reply_among_responses_shows_all_replies_to_its_query(fake_store: Store) -> None:
    [row] = sample(fake_store, "responses@0.1.0", n=1).rows
    ids = fake_store.scan("responses@0.1.0").filter(query_id=row.id).collect()["reply_id"]
    for id in (row.id, *ids):
        [same] = sample(fake_store, "responses@0.1.0", Selection(id=id)).rows
        assert same.id == row.id and same.sides == row.sides and len(same.sides) == 5


def test_a_box_names_the_ids_that_are_not_its_title(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    kept = fake_store.sample("comparisons", 1)["query_id"][0]
    assert f" query {kept} " in cli("sample", "comparisons", "-n", "1", *root).stdout
    query, chosen, rejected = (
        sample(fake_store, REF, Selection(dropped="chosen_too_short"), 1).rows[0].id.split()
    )
    dropped = cli("sample", "comparisons", "--dropped", "chosen_too_short", "-n", "1", *root).stdout
    assert f"query {query}, chosen {chosen}, rejected {rejected} " in dropped


def test_a_condition_that_only_dropped_rows_fit_says_so(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    texts = fake_store.scan(REF).select(last_turn("chosen").str.len_chars()).collect()["chosen"]
    condition = f"chosen_length < {texts.min()}"
    matching = sample(fake_store, REF, Selection(dropped="any", where=condition)).matching
    done = cli("sample", "comparisons", "--where", condition, *root)
    assert matching and f"{matching} dropped rows match: --dropped any shows them" in done.stdout
    assert "dropped rows match" not in cli("sample", "comparisons", "--where", "false", *root).stdout


def test_other_columns_of_a_row_without_replies_are_shown(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("Is tea a fruit?\n")
    root = ["--root", str(tmp_path / "build")]
    assert cli("import", "queries", str(tmp_path / "q.txt"), "--version", "1.0.0", *root).returncode == 0
    assert "source: import" in cli("sample", "queries", *root).stdout
