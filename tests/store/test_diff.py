"""Every row of either version is in the diff once, with the reason that the other one gives for it."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from almost_data.cards.card import page
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run import build, importing
from almost_data.store.diff import NOT_THERE, Diff, diff
from almost_data.store.store import Store
from tests import command
from tests.jsonl import jsonl
from tests.settings import fake_tiny

FILTER = '{ name = "loud", description = "No shouting.", python = "%s:loud" }'
SOURCE = "def loud(response):\n    return '!' in response\n"


@pytest.fixture(scope="module")
def store(fake_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Versions of one change each: a threshold, the pair rule, the seed, fewer queries."""
    root = tmp_path_factory.mktemp("diff") / "build"
    shutil.copytree(fake_store.root, root)
    (file := root.parent / "loud.py").write_text(SOURCE)
    store_of_versions = Store(root)
    for version, assignment, sources in (
        ("0.2.0", "comparisons.min_chars=150", {"responses": "responses@0.1.0"}),
        ("0.3.0", 'comparisons.pairing="all"', {"responses": "responses@0.1.0"}),
        ("0.4.0", "responses.seed=7", {"queries": "queries@0.1.0"}),
        ("0.5.0", "comparisons.limit=20", {"responses": "responses@0.1.0"}),
        ("0.6.0", f"comparisons.filters=[{FILTER % file}]", {"responses": "responses@0.1.0"}),
    ):
        preset = fake_tiny(assignment)
        build.BuildRun(store_of_versions, version, preset, FakeEngine(), sources).build("comparisons")
    return store_of_versions


def adds_up(store: Store, difference: Diff) -> bool:
    columns = zip(*(counts for _, *counts in difference.reasons), strict=True)
    sums = [sum(counts) for counts in columns] or [0, 0]
    pairs = [sum(counts) for counts in zip(*(counts for _, *counts, _ in difference.pairs), strict=True)]
    return (
        difference.kept + difference.lost == store.manifest(difference.a).rows
        and difference.kept + difference.gained == store.manifest(difference.b).rows
        and sums == [difference.lost, difference.gained]
        and pairs in ([], [difference.kept, difference.lost, difference.gained])
    )


@pytest.mark.parametrize("name", ["queries", "responses", "comparisons"])
def test_a_version_does_not_differ_from_itself(store: Store, name: str) -> None:
    difference = diff(store, f"{name}@0.1.0", f"{name}@0.1.0")
    assert not (difference.changes or difference.lost or difference.gained or difference.changed)
    assert adds_up(store, difference)


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0", "0.4.0", "0.5.0"])
def test_rows_add_up_and_each_reason_is_the_other_sides(store: Store, version: str) -> None:
    a, b = "comparisons@0.1.0", f"comparisons@{version}"
    difference = diff(store, a, b)
    assert adds_up(store, difference)
    assert difference.lost + difference.gained > 0
    turned = diff(store, b, a)
    assert (turned.lost, turned.gained, turned.kept) == (difference.gained, difference.lost, difference.kept)
    # The same by hand, row by row.
    ids = {ref: set(store.scan(ref).collect()["comparison_id"]) for ref in (a, b)}
    for ref, missing, column in ((b, ids[a] - ids[b], 1), (a, ids[b] - ids[a], 2)):
        pairs = {
            (row["chosen_reply_id"], row["rejected_reply_id"]): row["reason"]
            for row in store.scan(ref, "rejected").collect().iter_rows(named=True)
        }
        responses = dict(
            store.scan(ref, "rejected_responses").select("reply_id", "reason").collect().iter_rows()
        )
        counts: dict[str, int] = {}
        for id in missing:
            chosen, rejected = id.split("-")
            reason = pairs.get((chosen, rejected)) or responses.get(chosen) or responses.get(rejected)
            counts[reason or NOT_THERE] = counts.get(reason or NOT_THERE, 0) + 1
        assert {row[0]: row[column] for row in difference.reasons if row[column]} == counts


def test_a_new_threshold_is_named_and_explains_the_loss(store: Store) -> None:
    difference = diff(store, "comparisons@0.1.0", "comparisons@0.2.0")
    assert difference.changes == ["comparisons.min_chars: 50 -> 150"]
    assert difference.reasons[0][0] == "too_short"
    assert difference.examples["lost"]
    assert all("user: " in row.text for row in difference.examples["lost"])


def test_a_filter_of_one_s_own_is_named_once(store: Store) -> None:
    difference = diff(store, "comparisons@0.1.0", "comparisons@0.6.0")
    assert difference.changes == ["comparisons.filters: + loud"]


def test_a_response_that_was_left_alone_is_explained_by_the_others(store: Store) -> None:
    difference = diff(store, "comparisons@0.1.0", "comparisons@0.2.0")
    assert [reason for reason, lost, _ in difference.reasons if lost and reason == "few_survivors"]
    [cause] = difference.causes
    assert cause.startswith("few_survivors in comparisons@0.2.0: the other responses")
    assert "too_short " in cause
    printed = command.run(
        "diff", "comparisons@0.1.0", "comparisons@0.2.0", "--root", str(store.root), columns=200
    )
    assert cause in printed.stdout


def test_every_shortcut_has_its_change_in_one_form(store: Store) -> None:
    a, b = "comparisons@0.1.0", "comparisons@0.3.0"
    shifts = {shift.measure: shift for shift in diff(store, a, b).shortcuts}
    texts = [store.manifest(ref).diagnostics["text"] for ref in (a, b)]
    names = {row["name"] for text in texts for row in text["findings"]}
    assert {name.partition(" ")[0] for name in shifts} == names
    longer = [text["always_longer"] for text in texts]
    shift = shifts["always_longer"]
    assert [shift.a, shift.b] == [f"{share:.1%}" for share in longer]
    assert shift.change == f"{100 * (longer[1] - longer[0]):+.1f} points"
    assert shifts["equal_sides"].change == ""
    beyond = {row["name"]: row["value"] for row in texts[0]["findings"]}["surface_beyond_length"]
    assert shifts["surface_beyond_length"].a == beyond and beyond.endswith(" points")
    gaps = [text["length_gap"]["q50"] for text in texts]
    assert shifts["length_gap (characters)"].change == f"{gaps[1] - gaps[0]:+,.0f}"
    assert {shortcut.change for shortcut in diff(store, a, a).shortcuts} == {""}
    printed = command.run("diff", a, b, "--root", str(store.root), columns=80).stdout
    row = next(line.split() for line in printed.splitlines() if line.startswith("always_longer"))
    assert row == [shift.measure, shift.a, shift.b, *shift.change.split()]
    assert diff(store, "queries@0.1.0", "queries@0.1.0").shortcuts == []


def test_another_text_under_the_same_id_is_a_change(store: Store) -> None:
    difference = diff(store, "responses@0.1.0", "responses@0.4.0")
    assert (difference.lost, difference.gained) == (0, 0)
    assert difference.changed > 100


def test_two_kinds_are_not_compared(store: Store) -> None:
    with pytest.raises(InputError, match="have different names"):
        diff(store, "queries@0.1.0", "responses@0.1.0")
    with pytest.raises(InputError, match=r"no comparisons@9\.9\.9"):
        diff(store, "comparisons@0.1.0", "comparisons@9.9.9")


def test_markdown_of_hostile_text_is_text(tmp_path: Path) -> None:
    nasty = "<img src=x> ```\n# heading\n| a | b | [x](http://e.example)"
    store = Store(tmp_path / "build")
    for version, queries in (("0.1.0", [nasty, "plain"]), ("0.2.0", ["plain"])):
        file = tmp_path / f"{version}.jsonl"
        jsonl(file, ({"query": query} for query in queries))
        importing.import_queries(store, str(file), version)
    difference = diff(store, "queries@0.1.0", "queries@0.2.0")
    assert difference.lost == 1
    text = page("diff.md.jinja", **vars(difference))
    fence = "````text\n"
    assert fence in text
    assert "<img" in text.split(fence)[1].split("\n````")[0]
    assert "<img" not in text.split(fence)[0]


def test_a_version_alone_is_compared_with_the_one_before_it(store: Store) -> None:
    root = ("--root", str(store.root))
    alone = command.run("diff", "comparisons@0.3.0", *root).stdout
    assert alone == command.run("diff", "comparisons@0.2.0", "comparisons@0.3.0", *root).stdout
    done = command.run("diff", "comparisons@0.1.0", *root)
    assert done.returncode == 2 and "there is no version before it" in done.stderr


def test_a_version_with_a_suffix_is_compared_with_one_of_that_suffix(tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    file = jsonl(tmp_path / "queries.jsonl", [{"query": "Why?"}])
    for version in ("1.0.0-fr", "1.0.0", "1.1.0-fr", "1.1.0-de"):
        importing.import_queries(store, file, version)
    before = {"1.1.0-fr": "1.0.0-fr", "1.1.0-de": "1.0.0", "1.0.0": "1.0.0-fr"}
    for version, earlier in before.items():
        printed = command.run("diff", f"queries@{version}", "--root", str(store.root)).stdout
        assert printed.startswith(f"queries@{earlier} to queries@{version}")


def test_rows_have_the_colours_of_a_diff_and_measures_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    colours = Console(file=file, force_terminal=True, color_system="standard", width=100)
    for module in ("console", "diff"):
        monkeypatch.setattr(f"almost_data.cli.{module}.console", colours)
    command.run("diff", "comparisons@0.1.0", "comparisons@0.3.0", "--root", str(store.root))
    lines = file.getvalue().splitlines()
    [measure] = (line for line in lines if line.startswith("always_longer"))
    assert " points" in measure and "\x1b[3" not in measure
    assert any("\x1b[31m" in line and " lost" in line for line in lines)
