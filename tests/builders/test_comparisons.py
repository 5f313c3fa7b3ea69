"""The rules against a plain row-at-a-time reading of them, over generated text with every edge."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings
from msgspec import structs

from almost_data.builders.comparisons.builder import BUILDER, build
from almost_data.builders.comparisons.config import ComparisonsConfig, without_unread_settings
from almost_data.datasets.builder import Built, reply_id, silent, text_id
from almost_data.datasets.config import FilePath
from almost_data.datasets.digest import frames
from almost_data.datasets.ledger import check_ledger
from almost_data.datasets.manifest import BuilderId, Manifest, canonical_json
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.models.chat import user_turn
from almost_data.run import presets
from almost_data.store.store import Store
from tests import command, schema

Row = dict[str, object]
LADDER = ["A", "B", "C", "D", "E"]


def rows_of(queries: list[list[str]]) -> list[Row]:
    rows = []
    for number, texts in enumerate(queries):
        query = f"query {number}"
        for rank, text in enumerate(texts):
            rows.append(
                {
                    "query_id": text_id(query),
                    "prompt": user_turn(query),
                    "responder": LADDER[rank],
                    "rank": rank,
                    "response": text,
                    "finish_reason": "stop",
                    "reply_id": reply_id(text_id(query), LADDER[rank]),
                }
            )
    return rows


def run(rows: list[Row], config: ComparisonsConfig, ratings: Sequence[float] = ()) -> Built | None:
    """What is built, its tables as frames; `ratings` are those of the rows."""
    frame = schema.frame("responses", "default", rows)
    parents = {"responses": lambda _: frame.lazy()}
    if ratings:
        columns = {"rating": pl.Series(ratings, dtype=pl.Float64), "rater": pl.lit("judge")}
        parents["ratings"] = lambda _: frame.lazy().with_columns(**columns)
    built = build(schema.with_defaults(config), parents, FakeEngine(), silent)
    check_ledger(built.ledger)
    if "default" not in built.tables:
        return None
    return replace(built, tables={name: pl.concat(frames(rows)) for name, rows in built.tables.items()})


def reason_for_response(text: str) -> str | None:
    """The response checks, read from the paper and the released code, one at a time."""
    if len(text) < 50:
        return "too_short"
    if text[-1] in "?:":
        return "ends_open"
    if text.lower().startswith("well"):
        return "starts_well"
    if text[-1] not in ".!":
        return "unfinished"
    if re.search(r"(don('|’)t|do not)\s+know", text, re.IGNORECASE):
        return "dont_know"
    if "human:" in text.lower() or "<image>" in text.lower():
        return "turn_marker"
    return None


def long_enough(chosen: int, rejected: int, lengths: list[int]) -> bool:
    """len(chosen) >= len(rejected) or len(chosen) >= M - S/2, S/2 >= M - len(chosen) without a root."""
    if chosen >= rejected:
        return True
    mean = Fraction(sum(lengths), len(lengths))
    variance = sum((length - mean) ** 2 for length in lengths) / len(lengths)
    return chosen >= mean or variance / 4 >= (mean - chosen) ** 2


def by_hand(
    rows: list[Row], pairing: str, length_over: str, ratings: Sequence[float] = ()
) -> tuple[dict[str, str], dict[tuple[str, str], str | None]]:
    """Reply id -> reason, and (chosen, rejected) -> reason or None: the walk down the ladder, and then the
    paper's as-is filter, of the pairs that are left."""
    rating_of = dict(zip((str(row["reply_id"]) for row in rows), ratings, strict=False))
    dropped: dict[str, str] = {}
    pairs: dict[tuple[str, str], str | None] = {}
    for query in dict.fromkeys(row["query_id"] for row in rows):
        mine = [row for row in rows if row["query_id"] == query]
        survivors = []
        for row in mine:
            if reason := reason_for_response(str(row["response"])):
                dropped[str(row["reply_id"])] = reason
            else:
                survivors.append(row)
        if len(survivors) < 2:
            dropped |= {str(row["reply_id"]): "few_survivors" for row in survivors}
            continue
        over = survivors if length_over == "survivors" else mine
        lengths = [len(str(row["response"])) for row in over]
        already = set()
        for high, low in combinations(survivors, 2):
            key = (str(high["reply_id"]), str(low["reply_id"]))
            if pairing == "first" and high["responder"] in already:
                pairs[key] = "already_chosen"
            elif pairing == "extremes" and (high is not survivors[0] or low is not survivors[-1]):
                pairs[key] = "not_extremes"
            elif (is_equal := high["response"] == low["response"]) or not long_enough(
                len(str(high["response"])), len(str(low["response"])), lengths
            ):
                pairs[key] = "equal_sides" if is_equal else "chosen_too_short"
            else:
                pairs[key] = None
                already.add(high["responder"])
    for (chosen, rejected), reason in pairs.items() if ratings else ():
        if reason is None and not rating_of[chosen] > rating_of[rejected]:
            pairs[chosen, rejected] = "ratings_disagree"
    return dropped, pairs


def text(length: int, mark: str) -> str:
    return (mark + "x" * length)[: length - 1] + "." if length else ""


MARKS = [
    "",
    "Well, ",
    "wellness ",
    "I don't know ",
    "I DON’T KNOW ",
    "do not\nknow ",
    "do not Know ",
    "human: ",
    "<IMAGE>",
    "ünï ",
    "北京 ",
]
TEXTS = st.one_of(
    st.builds(text, st.sampled_from([0, 49, 50, 51, 60, 60, 80, 100, 140, 250]), st.sampled_from(MARKS)),
    st.builds(
        lambda t, end: t[:-1] + end,
        st.builds(text, st.integers(50, 90), st.just("")),
        st.sampled_from(list("?:!.,x…")),
    ),
    st.text(max_size=120).map(str.strip),
    st.just("y" * 99_999 + "."),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(TEXTS, min_size=1, max_size=5), min_size=1, max_size=16),
    st.sampled_from(["first", "all", "extremes"]),
    st.sampled_from(["survivors", "all"]),
    st.none() | st.randoms(use_true_random=False),
)
def test_decisions_are_those_of_the_rules_read_by_hand(
    queries: list[list[str]], pairing: str, over: str, random: Random | None
) -> None:
    rows = rows_of(queries)
    ratings = [random.randrange(3) for _ in rows] if random else []
    dropped, pairs = by_hand(rows, pairing, over, ratings)
    label = "both" if ratings else "ladder"
    built = run(rows, ComparisonsConfig(pairing=pairing, length_over=over, label=label), ratings)
    kept = {"-".join(pair) for pair, reason in pairs.items() if reason is None}
    if built is None:
        assert not kept
        return
    assert set(built.tables["default"]["comparison_id"]) == kept
    empty = pl.DataFrame(schema={"reply_id": pl.String, "reason": pl.String})
    rejected = built.tables.get("rejected_responses", empty)
    assert dict(rejected.select("reply_id", "reason").iter_rows()) == dropped
    if "rejected" in built.tables:
        columns = built.tables["rejected"].select("chosen_reply_id", "rejected_reply_id", "reason")
        assert {(c, r): why for c, r, why in columns.iter_rows()} == {p: w for p, w in pairs.items() if w}
    else:
        assert len(kept) == len(pairs)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=2, max_size=5), min_size=1, max_size=16), st.randoms())
def test_row_order_decides_nothing(queries: list[list[str]], random: object) -> None:
    rows = rows_of(queries)
    first = run(rows, ComparisonsConfig())
    random.shuffle(rows)  # type: ignore[attr-defined]
    second = run(rows, ComparisonsConfig())
    assert (first is None) == (second is None)
    if first and second:
        assert all(first.tables[name].equals(second.tables[name]) for name in first.tables)
        assert first.ledger == second.ledger


def good(length: int, letter: str = "a") -> str:
    return letter * (length - 1) + "."


def distinct(*lengths: int) -> list[str]:
    """A good answer of each length, no two of them the same."""
    return [good(length, letter) for length, letter in zip(lengths, "abcde", strict=False)]


def test_without_any_pair_rule_the_ledger_still_counts_the_pairs() -> None:
    built = run(rows_of([[good(60), good(90), good(70)]]), ComparisonsConfig(pairing="all", length_sd=None))
    assert built is not None
    pairs = [(entry.filter, entry.n_in, entry.kept) for entry in built.ledger[-2:]]
    assert pairs == [("ladder", 3, 3), ("equal_sides", 3, 3)]


@pytest.mark.parametrize("pairing", ["first", "all", "extremes"])
@pytest.mark.parametrize("check_sides", ["both", "chosen"])
def test_replies_that_are_the_same_text_make_no_comparison(pairing: str, check_sides: str) -> None:
    queries = [[good(60), good(60), good(50, "b")], [good(70), good(70)]]
    built = run(rows_of(queries), ComparisonsConfig(pairing=pairing, check_sides=check_sides))
    assert built is not None
    chosen = built.tables["default"].select("chosen_responder", "rejected_responder").rows()
    assert chosen == ([("A", "C")] if pairing == "extremes" else [("A", "C"), ("B", "C")])
    [entry] = [entry for entry in built.ledger if entry.filter == "equal_sides"]
    assert entry.dropped == {"equal_sides": 1 if pairing == "extremes" else 2}


def test_more_responders_than_fit_a_byte() -> None:
    row = rows_of([[good(60)]])[0]
    many = [
        dict(row, responder=f"r{n}", rank=n, reply_id=reply_id("q", f"r{n}"), response=f"{n:03}{good(60)}")
        for n in range(300)
    ]
    built = run(many, ComparisonsConfig())
    assert built is not None
    assert len(built.tables["default"]) == 299


@pytest.mark.parametrize(("length", "kept"), [(49, False), (50, True)])
def test_min_chars_is_fifty(length: int, kept: bool) -> None:
    built = run(rows_of([distinct(length, 50)]), ComparisonsConfig())
    assert (built is not None) == kept


def test_length_rule_at_its_exact_threshold() -> None:
    """Two survivors of 60 and 100: M - S/2 = 80 - 10 = 70."""
    assert run(rows_of([[good(60), good(100)]]), ComparisonsConfig()) is None
    assert run(rows_of([[good(100), good(60)]]), ComparisonsConfig()) is not None
    # 55, 55, 55, 63: M = 57 and S^2 = 12, so M - S/2 = 55.27, and 55 is too short against 63 only.
    uneven = run(rows_of([distinct(55, 55, 55, 63)]), ComparisonsConfig(pairing="all"))
    assert uneven is not None
    pairs = set(uneven.tables["default"].select("chosen_responder", "rejected_responder").rows())
    assert pairs == {("A", "B"), ("A", "C"), ("B", "C")}
    exact = distinct(60, 60, 60, 60, 110)  # M = 70, S = 20, M - S/2 = 60: exactly as long
    built = run(rows_of([exact]), ComparisonsConfig(pairing="all"))
    assert built is not None
    assert f"{reply_id(text_id('query 0'), 'A')}-{reply_id(text_id('query 0'), 'E')}" in set(
        built.tables["default"]["comparison_id"]
    )


def test_first_takes_the_first_partner_that_passes_and_no_other() -> None:
    built = run(rows_of([distinct(60, 200, 60, 60)]), ComparisonsConfig())
    assert built is not None
    pairs = built.tables["default"].select("chosen_responder", "rejected_responder").rows()
    assert pairs == [("A", "C"), ("B", "C"), ("C", "D")]
    reasons = built.tables["rejected"].select("chosen_responder", "rejected_responder", "reason").rows()
    assert ("A", "B", "chosen_too_short") in reasons
    assert ("A", "D", "already_chosen") in reasons


def test_every_dropped_row_is_kept_with_stage_and_reason_and_counts_match_the_ledger() -> None:
    queries = [[good(60), "short", good(90), good(70)], ["Well, " + good(60), good(80)], [good(99)] * 5]
    rows = rows_of(queries)
    built = run(rows, ComparisonsConfig())
    assert built is not None
    tally: dict[str, int] = {}
    for config in ("rejected", "rejected_responses"):
        assert built.tables[config]["stage"].null_count() == built.tables[config]["reason"].null_count() == 0
        for reason, n in built.tables[config].group_by("reason").len().iter_rows():
            tally[reason] = n
    ledger: dict[str, int] = {}
    for entry in built.ledger:
        ledger |= entry.dropped
    assert tally == ledger
    assert built.ledger[0].n_in == len(rows)
    assert built.ledger[-1].kept == len(built.tables["default"])
    assert sum(count.kept for count in built.ledger[-1].by_pair.values()) == len(built.tables["default"])


def test_settings_change_what_they_say() -> None:
    rows = rows_of([[good(40), good(45)], ["Well " + good(60), good(100)]])
    assert run(rows, ComparisonsConfig()) is None
    low = run(rows, ComparisonsConfig(min_chars=0))
    assert low is None  # the length rule drops 40 against 45 too: M - S/2 = 41.25
    loose = run(rows, ComparisonsConfig(min_chars=0, length_sd=None, checks=("too_short",)))
    assert loose is not None
    assert len(loose.tables["default"]) == 2
    names = [entry.filter for entry in loose.ledger]
    assert names == ["too_short", "few_survivors", "already_chosen", "equal_sides"]


def test_probes_and_queries_beyond_the_limit_take_no_part() -> None:
    rows = rows_of([[good(100), good(60)] for _ in range(5)])
    probe = dict(rows[0], rank=None, responder="probe", reply_id="0" * 16)
    built = run([*rows, probe], ComparisonsConfig(limit=2))
    assert built is not None
    assert built.tables["default"]["query_id"].to_list() == sorted({str(r["query_id"]) for r in rows})[:2]
    assert built.ledger[0].n_in == 4


def test_a_check_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"comparisons\.checks: duplicate check 'too_short'"):
        BUILDER.pins(ComparisonsConfig(checks=("too_short", "too_short")), FakeEngine())


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(TEXTS, min_size=1, max_size=5), min_size=4, max_size=12),
    st.sampled_from(["first", "all"]),
    st.sampled_from([None, 1, 3, 5, 100]),
    st.booleans(),
)
def test_parts_of_a_large_set_make_what_the_whole_makes(
    queries: list[list[str]], pairing: str, limit: int | None, is_rated: bool
) -> None:
    rows = rows_of(queries)
    ratings = [len(str(row["response"])) % 3 for row in rows] if is_rated else []
    label = "both" if is_rated else "ladder"
    config = ComparisonsConfig(pairing=pairing, limit=limit, label=label)  # type: ignore[arg-type]
    results = []
    for most in (3, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("almost_data.builders.comparisons.builder.RANGE_ROWS", most)
            built = run(rows, config, ratings)
        hashed = built and schema.digest(BUILDER.tables, built.tables)
        results.append(
            built and (hashed, built.ledger, canonical_json(built.diagnostics | {"text": 0}), built.notes)
        )
    assert results[0] == results[1]


def test_checks_and_length_rule_follow_from_the_ladder_unless_they_are_set(fake_store: Store) -> None:
    def settings(parent: Manifest, **fields: Any) -> tuple[Any, ...]:
        config = BUILDER.resolve(ComparisonsConfig(**fields), {"responses": parent})
        return config.checks, config.check_sides, config.length_sd

    def with_ladder(count: int, **values: Any) -> Manifest:
        responders = parent.config["settings"]["responders"][:count]
        ladder = [responder | values for responder in responders]
        return structs.replace(parent, config={"settings": {"responders": ladder}})

    parent = fake_store.manifest("responses@0.1.0")
    assert settings(parent) == settings(with_ladder(3)) == ("paper", "both", 0.5)
    assert settings(with_ladder(2)) == ("paper", "chosen", None)
    assert settings(with_ladder(3, style="chat")) == ("chat", "both", 0.5)
    imported = structs.replace(
        parent, builder=BuilderId("import-responses", 1), config={"settings": {"ladder": ["a", "b"]}}
    )
    assert settings(imported) == ("chat", "chosen", None)
    changed = settings(imported, checks="none", check_sides="both", length_sd=0.25)
    assert changed == ("none", "both", 0.25)
    assert presets.load("almost").settings(BUILDER).checks == "paper"


def test_only_the_chosen_side_is_checked_for_being_cut_off() -> None:
    rows = rows_of([[good(90), good(60)]] * 3)
    for place in (0, 3, 5):  # a chosen one, and two rejected ones
        rows[place]["finish_reason"] = "length"
    built = run(rows, ComparisonsConfig(checks="cut_off", check_sides="chosen", length_sd=None))
    assert built and len(built.tables["default"]) == 2
    assert [entry.dropped for entry in built.ledger if entry.filter == "cut_off"] == [{"cut_off": 1}]
    dropped = built.tables["rejected"].filter(pl.col("reason") == "cut_off")
    assert dropped["chosen_finish_reason"].to_list() == ["length"]
    note = "Only the chosen responses are checked: 2 of the 2 rejected ones would fail a check (cut_off 2)."
    assert note in built.notes


def test_what_two_survivors_mean_for_the_length_rule_is_said() -> None:
    two, three = [good(90), good(60)], [good(90), good(60), good(70)]
    for queries, length_sd, words in (
        ([two, two, three], 0.5, "In 67% of the queries"),
        ([two, two, three], None, "No length rule"),
        ([two, three], 0.5, None),
    ):
        built = run(rows_of(queries), ComparisonsConfig(length_sd=length_sd))
        assert built is not None
        assert [note.startswith(words or "") for note in built.notes] == ([True] if words else [])


@pytest.mark.parametrize(("gap", "kept"), [(40, True), (41, False)])
def test_the_length_gap_is_judged_on_both_sides(gap: int, kept: bool) -> None:
    config = ComparisonsConfig(checks="none", length_sd=None, max_length_gap=40)
    for lengths in ((100 + gap, 100), (100, 100 + gap)):
        built = run(rows_of([[good(length) for length in lengths], [good(100), good(101)]]), config)
        assert built is not None
        assert len(built.tables["default"]) == 1 + kept
        dropped = [entry.dropped for entry in built.ledger if entry.filter == "length_gap"]
        assert dropped == [{} if kept else {"length_gap": 1}]


def test_queries_of_a_benchmark_are_dropped_with_their_responses(tmp_path: Path) -> None:
    shared = "the eight words that the two of them share"
    (tmp_path / "bench.txt").write_text(f"Now {shared}\n")
    rows = rows_of([[good(100), good(90)]] * 3)
    for row in rows[:2]:
        row["prompt"] = user_turn(f"Here are {shared} in a query")
    for row in rows[2:4]:  # one run of three
        row["prompt"] = user_turn(f"Those {shared.removeprefix('the ')}")
    config = ComparisonsConfig(
        checks="none", benchmarks=(FilePath(str(tmp_path / "bench.txt")),), decontaminate=True
    )
    built = run(rows, config)
    assert built is not None
    assert built.ledger[0].filter == "contaminated"
    assert (built.ledger[0].n_in, built.ledger[0].dropped) == (6, {"contaminated": 2})
    assert rows[0]["query_id"] not in set(built.tables["default"]["query_id"])
    assert set(built.tables["rejected_responses"]["stage"]) == {"decontamination"}
    assert built.diagnostics["contamination"][0]["overlapping_queries"] == 0
    counted = run(rows, structs.replace(config, decontaminate=False))
    assert counted is not None
    assert counted.diagnostics["contamination"][0]["overlapping_queries"] == 1
    with pytest.raises(InputError, match="name files of benchmark prompts"):
        BUILDER.pins(structs.replace(config, benchmarks=()), FakeEngine())


def uneven(count: int, seed: int = 0) -> list[Row]:
    """Three responders; a better one writes more in about 85% of its pairs, and sometimes exactly as much."""
    random = Random(seed)
    texts = [
        [good(random.choice([60, 80, 100, 120]) + 20 * (2 - rank)) for rank in range(3)] for _ in range(count)
    ]
    return rows_of(texts)


PLAIN = ComparisonsConfig(checks="none", length_sd=None, pairing="all")


@pytest.mark.parametrize("share", [0.5, 0.6, 0.75])
def test_no_side_is_the_longer_one_in_more_than_the_share(share: float) -> None:
    rows = uneven(300)
    plain, balanced = run(rows, PLAIN), run(rows, structs.replace(PLAIN, balance_length=share))
    assert plain is not None
    assert balanced is not None
    pairs = balanced.tables["default"]
    gap = pl.col("chosen").list[0].struct["content"].str.len_chars().cast(pl.Int64)
    gap -= pl.col("rejected").list[0].struct["content"].str.len_chars().cast(pl.Int64)
    for _, of_pair in pairs.group_by("chosen_responder", "rejected_responder"):
        longer, shorter = (of_pair.select((gap * sign > 0).sum()).item() for sign in (1, -1))
        assert shorter
        assert longer == int(share / (1 - share) * shorter + 1e-9)  # as many as may stay, stay
    entry = balanced.ledger[-1]
    dropped = balanced.tables["rejected"].filter(reason="length_balance")
    assert (entry.stage, entry.filter, entry.n_in) == (
        "selection",
        "length_balance",
        len(plain.tables["default"]),
    )
    assert entry.dropped == {"length_balance": len(dropped)} == {"length_balance": entry.n_in - len(pairs)}
    assert set(dropped["stage"]) == {"selection"}
    assert sum(count.kept for count in entry.by_pair.values()) == len(pairs)
    of_pairs = {
        row["chosen_responder"] + row["rejected_responder"]: row
        for row in balanced.diagnostics["responder_pairs"]
    }
    assert sum(row["comparisons"] for row in of_pairs.values()) == len(pairs)
    assert balanced.diagnostics["share_chosen_longer"] == pytest.approx(pairs.select((gap > 0).mean()).item())
    if share == 0.5:
        assert balanced.diagnostics["text"]["always_longer"] == 0.5
        assert balanced.notes[-1].startswith("Length was balanced: the longer reply is right in 50.0%")


def test_a_ladder_of_two_is_balanced_and_says_what_the_surface_gives_away() -> None:
    random = Random(3)
    texts = [[good(random.randrange(80, 400)), "b" + good(random.randrange(60, 300))] for _ in range(400)]
    plain, balanced = (run(rows_of(texts), structs.replace(PLAIN, balance_length=at)) for at in (None, 0.5))
    assert plain is not None and plain.diagnostics["text"]["always_longer"] > 0.6
    assert balanced is not None and len(balanced.tables["default"]) > 100
    text = balanced.diagnostics["text"]
    assert abs(text["always_longer"] - 0.5) <= 0.02
    # Length says nothing any more, but the first letter of each side does: the probe stands beside it.
    assert text["probe"]["accuracy"] > 0.9
    assert f"{text['probe']['accuracy']:.1%}" in balanced.notes[-1]


@pytest.mark.parametrize("balance", [None, 0.5])
def test_a_target_keeps_exactly_so_many_and_keeps_the_balance(balance: float | None) -> None:
    rows = uneven(100)
    everything = run(rows, structs.replace(PLAIN, balance_length=balance))
    assert everything is not None
    ids = set(everything.tables["default"]["comparison_id"])
    for target in (1, 30, 57):
        built = run(rows, structs.replace(PLAIN, balance_length=balance, target=target))
        assert built is not None
        assert len(built.tables["default"]) == built.diagnostics["comparisons"] == target
        assert set(built.tables["default"]["comparison_id"]) < ids
        assert built.ledger[-1].dropped == {"not_needed": len(ids) - target}
        if balance:
            shares = [row["share_chosen_longer"] for row in built.diagnostics["responder_pairs"]]
            assert max(shares) <= balance
    short = run(rows, structs.replace(PLAIN, balance_length=balance, target=1_000))
    assert short is not None
    assert set(short.tables["default"]["comparison_id"]) == ids
    assert short.notes[-1] == f"The target of 1,000 comparisons was not reached: {len(ids)} are left."


def test_what_is_selected_follows_from_ids_and_seed_alone() -> None:
    rows = uneven(100)
    config = structs.replace(PLAIN, balance_length=0.5, target=40)
    results = []
    for most, seed in ((10_000, 0), (30, 0), (10_000, 1)):
        Random(most).shuffle(rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("almost_data.builders.comparisons.builder.RANGE_ROWS", most)
            built = run(rows, structs.replace(config, seed=seed))
        assert built is not None
        results.append(
            (
                schema.digest(BUILDER.tables, built.tables),
                built.ledger,
                built.diagnostics["queries_with_a_comparison"],
            )
        )
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]


def test_where_length_cannot_be_balanced_nothing_that_differs_in_length_is_left() -> None:
    config = structs.replace(PLAIN, balance_length=0.5)
    assert run(rows_of([[good(90), good(60)]] * 3), config) is None
    built = run(rows_of([[good(90), good(60)], [good(60), "b" + good(59)]]), config)
    assert built is not None
    assert len(built.tables["default"]) == 1


def with_prompts(rows: list[Row], prompts: list[Any]) -> list[Row]:
    """The rows with other prompts, a prompt a query."""
    ids = list(dict.fromkeys(str(row["query_id"]) for row in rows))
    return [row | {"prompt": prompts[ids.index(str(row["query_id"]))]} for row in rows]


LONG = (
    "How do I keep a small pot of basil alive on the kitchen window through a whole dark winter in the north"
)


def test_of_near_twin_prompts_one_makes_comparisons_whatever_the_order() -> None:
    rows = rows_of([[good(90), good(60)]] * 5)
    system = {"role": "system", "content": "You are a pirate."}
    prompts = [
        user_turn(LONG),
        user_turn(f"{LONG.upper()}!"),
        user_turn(f"{LONG} please"),
        user_turn("How do I keep a small pot of mint alive"),
        [system, *user_turn(LONG)],  # other turns before the last: no twin
    ]
    rows = with_prompts(rows, prompts)
    results = []
    for most, seed in ((10_000, 0), (2, 0), (10_000, 1), (10_000, 2), (10_000, 3)):
        Random(most).shuffle(rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("almost_data.builders.comparisons.builder.RANGE_ROWS", most)
            built = run(rows, structs.replace(PLAIN, dedup_prompts=True, seed=seed))
        assert built is not None
        assert len(built.tables["default"]) == 3
        assert (built.ledger[-1].n_in, built.ledger[-1].dropped) == (5, {"near_twin_prompt": 2})
        assert set(built.tables["rejected"]["reason"]) == {"near_twin_prompt"}
        results.append(schema.digest(BUILDER.tables, built.tables))
    assert results[0] == results[1]
    assert len(set(results)) > 1


def test_of_near_twin_pairs_one_is_kept() -> None:
    words = " ".join(f"word{number}" for number in range(30))
    filler = " ".join(f"else{number}" for number in range(30))
    rows = rows_of(
        [
            [words, filler, f"{filler} too"],  # A > B and A > C are twins
            [words, filler, f"{filler}!"],  # its twin by prompt and replies
            [words, filler, f"{filler}?"],  # another prompt
            [words, f"{words} and", filler],  # A > C and B > C are twins, A > B is a pair of twins
        ]
    )
    rows = with_prompts(rows, [user_turn(text) for text in (LONG, f"{LONG}, please", "No", "Yes")])
    built = run(rows, structs.replace(PLAIN, dedup_pairs=True))
    assert built is not None
    plain = run(rows, PLAIN)
    assert plain is not None
    # B > C compares twins: it is another pair than A > B.
    assert (built.ledger[-1].n_in, built.ledger[-1].kept) == (12, 6)
    assert built.ledger[-1].filter == "near_twin_pair"
    assert len(built.tables["default"]) + len(built.tables["rejected"]) == len(plain.tables["default"])
    deduplicated = run(rows, structs.replace(PLAIN, dedup_pairs=True, dedup_prompts=True))
    assert deduplicated is not None
    assert [entry.kept for entry in deduplicated.ledger[-2:]] == [9, 6]
    assert sum(deduplicated.ledger[-1].dropped.values()) + sum(deduplicated.ledger[-2].dropped.values()) == 6


@pytest.mark.parametrize(
    "filters", [{"dedup_prompts": True}, {"dedup_pairs": True}, {"balance_length": 0.5}, {"target": 3}]
)
def test_filters_of_the_whole_set_stand_a_set_of_which_nothing_is_left(filters: dict[str, Any]) -> None:
    rows = rows_of([["short", "short"]] * 3)
    assert run(rows, structs.replace(ComparisonsConfig(), **filters)) is None


def test_the_length_gap_counts_the_tokens_of_a_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(3)  # as files of tokenizers often have it: it must not count
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    long, short = "word " * 9 + "word", "w " * 7 + "w"  # 10 and 8 tokens, 49 and 15 characters
    for gap, kept in ((2, 1), (1, 0)):
        config = structs.replace(PLAIN, max_length_gap=gap, length_tokenizer=str(tmp_path))
        for texts in ([long, short], [short, long]):
            built = run(rows_of([texts]), config)
            assert (built is not None) == bool(kept)
            if built:
                assert f"at most 2 tokens of `{tmp_path.name}`" in built.ledger[-1].description
    pinned = BUILDER.pins(config, FakeEngine())["length_tokenizer"]
    assert pinned["id"] == tmp_path.name and len(pinned["revision"]) == 16
    words = structs.replace(PLAIN, max_length_gap=2, length_tokenizer="fake/words")
    assert run(rows_of([[long, short]]), words) is not None
    assert BUILDER.as_fake(config).length_tokenizer.startswith("fake/")
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        BUILDER.pins(structs.replace(config, length_tokenizer=str(tmp_path.parent)), FakeEngine())
    with pytest.raises(InputError, match=r"length_tokenizer is read by the limit max_length_gap"):
        BUILDER.pins(structs.replace(config, max_length_gap=None), FakeEngine())


def test_the_command_selects_and_says_so(fake_store: Store, tmp_path: Path) -> None:
    root = tmp_path / "build"
    for name in ("queries", "responses"):
        shutil.copytree(fake_store.root / name, root / name)
    options = [
        "--dedup-prompts",
        "--dedup-pairs",
        "--balance-length",
        "0.5",
        "--target",
        "20",
        "--pairing",
        "all",
    ]
    options += ["--checks", "none", "--set", "comparisons.length_sd=none", "--root", str(root)]
    done = command.run("build", "comparisons", "--from", "responses@0.1.0", "--version", "1.0.0", *options)
    assert done.returncode == 0, done.stderr
    manifest = Store(root).manifest("comparisons@1.0.0")
    assert sum(manifest.counts["default"].values()) == 20
    names = [entry.filter for entry in manifest.ledger if entry.stage == "selection"]
    assert names == ["near_twin_prompt", "near_twin_pair", "length_balance", "not_needed"]
    assert max(row["share_chosen_longer"] for row in manifest.diagnostics["responder_pairs"]) <= 0.5
    assert "Length was balanced" in done.stdout
    sample = command.run(
        "sample", "comparisons@1.0.0", "--dropped", "not_needed", "-n", "1", "--root", str(root)
    )
    assert "20 comparisons are enough" in sample.stdout


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("min_chars", 80, "the check too_short"),
        ("length_over", "all", "the length rule"),
        ("margin", 1.0, "the label ratings or both"),
        ("length_tokenizer", "fake/words", "the limit max_length_gap"),
    ],
)
def test_a_setting_that_no_rule_in_use_reads_is_refused(setting: str, value: object, rule: str) -> None:
    plain = ComparisonsConfig(checks="chat", label="ladder", length_sd=None)
    config = structs.replace(plain, **{setting: value})
    with pytest.raises(InputError, match=rf"comparisons\.{setting} is read by {rule} alone.*loop, reasoning"):
        BUILDER.pins(config, FakeEngine())
    assert without_unread_settings(config) == plain
    in_use = {"checks": "paper", "label": "both", "length_sd": 0.5, "max_length_gap": 9}
    BUILDER.pins(structs.replace(config, **in_use), FakeEngine())


def test_responses_without_a_partner_are_counted_by_what_their_partners_fell_for() -> None:
    short, unfinished = "Too short.", good(60)[:-1]
    queries = [[good(90), short], [good(90), unfinished], [unfinished, good(70)], [good(90), good(60)]]
    built = run(rows_of([*queries, [short, short]]), ComparisonsConfig(checks="paper", length_sd=None))
    assert built.diagnostics["dropped_beside"] == {"few_survivors": {"unfinished": 2, "too_short": 1}}
