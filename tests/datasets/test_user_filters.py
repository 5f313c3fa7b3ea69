"""A user's filter joins the chain, the ledger, the fingerprint and the card, or is refused in one line."""

from pathlib import Path

import polars as pl
import pytest

from almost_data.builders.comparisons.builder import BUILDER
from almost_data.builders.comparisons.config import ComparisonsConfig
from almost_data.datasets.filters import Filter, with_reason
from almost_data.datasets.ledger import undecided_notes
from almost_data.datasets.user_filters import UserFilter, load_filters
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run import presets
from almost_data.run.build import BuildRun
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.builders.test_comparisons import good, rows_of, run
from tests.schema import with_defaults
from tests.settings import with_settings

WORDS = "One sentence about it."


def load(user_filter: UserFilter) -> Filter:
    (rule,) = load_filters([user_filter], BUILDER.hooks, BUILDER.name)
    return rule


def sql(drop: str, unit: str = "response", name: str = "mine") -> UserFilter:
    return UserFilter(name=name, description=WORDS, unit=unit, drop=drop)


def python(tmp_path: Path, source: str, unit: str = "response", function: str = "drop") -> UserFilter:
    file = tmp_path / "mine.py"
    file.write_text(source)
    return UserFilter(name="mine", description=WORDS, unit=unit, python=f"{file}:{function}")


def test_an_expression_on_responses_joins_the_chain_after_the_checks() -> None:
    rows = rows_of([[good(100), "Sorry, " + good(80), good(70)]])
    built = run(rows, ComparisonsConfig(filters=(sql("STARTS_WITH(response, 'Sorry')"),)))
    assert built is not None
    entry = next(e for e in built.ledger if e.filter == "mine")
    assert (entry.stage, entry.n_in, entry.kept, entry.source) == ("user filters", 3, 2, "user filter")
    assert entry.params == {"drop": "STARTS_WITH(response, 'Sorry')"}
    dropped = built.tables["rejected_responses"].rows(named=True)
    assert [(row["responder"], row["stage"], row["reason"]) for row in dropped] == [
        ("B", "user filters", "mine")
    ]


@pytest.mark.parametrize("pairing", ["first", "all"])
def test_a_filter_on_pairs_is_part_of_the_walk(tmp_path: Path, pairing: str) -> None:
    """A is chosen over the first partner that passes all rules: B fails, C passes, so D is not asked."""
    rows = rows_of([[good(100), good(90) + " No.", good(80), good(70)]])
    source = "def drop(chosen, rejected_responder):\n    return 'a' in chosen and rejected_responder == 'B'"
    for values in (
        sql("chosen LIKE '%a%' AND rejected_responder = 'B'", "pair"),
        python(tmp_path, source, "pair"),
    ):
        built = run(rows, ComparisonsConfig(pairing=pairing, filters=(values,)))  # type: ignore[arg-type]
        assert built is not None
        kept = built.tables["default"].select("chosen_responder", "rejected_responder").rows()
        assert ("A", "B") not in kept
        assert ("A", "C") in kept
        assert (("A", "D") in kept) == (pairing == "all")
        reasons = built.tables["rejected"].select("chosen_responder", "rejected_responder", "reason").rows()
        assert ("A", "B", "mine") in reasons
        entry = next(e for e in built.ledger if e.filter == "mine")
        assert entry.dropped == {"mine": 1}
        assert entry.by_pair["A > B"].kept == 0


def test_the_usual_expressions_work() -> None:
    rows = rows_of([[good(100), good(90)]])
    for drop in (
        "responder IN ('X', 'Y') OR length BETWEEN 1 AND 9",
        "REGEXP_LIKE(response, '(?i)as an ai')",
        "STRPOS(LOWER(response), 'as an ai') > 0",
        "CASE WHEN rank = 0 THEN LENGTH(TRIM(response)) < 4 ELSE false END",
        "finish_reason IS NOT NULL AND finish_reason <> 'stop'",
    ):
        assert run(rows, ComparisonsConfig(filters=(sql(drop),))) is not None


def test_every_column_can_be_read() -> None:
    rows = rows_of([[good(100), good(90)]])
    for unit, columns in BUILDER.hooks.items():
        for column, example in columns.items():
            if "rating" in column:  # read where there are ratings: test_comparisons_by_ratings
                continue
            never = f"{column} = 'zzz'" if isinstance(example, str) else f"{column} > 100000"
            assert run(rows, ComparisonsConfig(filters=(sql(never, unit),))) is not None


def test_a_null_keeps_the_row_and_is_counted() -> None:
    rows = rows_of([[good(100), good(90)]])
    for row in rows:
        row["finish_reason"] = None
    built = run(rows, ComparisonsConfig(filters=(sql("finish_reason = 'length'"),)))
    assert built is not None
    [note] = undecided_notes(built.ledger)
    assert note.startswith("mine could not be decided for 2 of 2 responses, which were kept: it is null")


@pytest.mark.parametrize(
    ("drop", "why"),
    [
        ("secret = 'x'", "no column 'secret'"),
        ("chosen = 'x'", "no column 'chosen'.*unit = \"pair\" sees what it reads"),
        ("1 = 1", "reads no column"),
        ("LENGTH(response)", "not true or false"),
        ("length > AVG(length)", "more than one row"),
        ("SUM(length) OVER (PARTITION BY prompt) > 3", "more than one row"),
        ("length > 3 AND ROW_NUMBER() OVER () IN (1, 2)", "more than one row"),
        ("CASE WHEN length > 3 THEN MAX(length) > 4 ELSE false END", "more than one row"),
        ("response LIKE", "no Polars SQL"),
        ("response = 'x'; DROP TABLE y", "no Polars SQL"),
        ("(SELECT 1)", "no column|reads no column|no Polars SQL"),
        ("REGEXP_LIKE(response, '[')", "no Polars SQL"),
        ("response > 3", "no Polars SQL"),
        ("REGEXP_LIKE(response, '^(?!Sorry)')", "look-ahead and look-behind, is not supported"),
        ("READ_CSV('/etc/passwd')", "no Polars SQL"),
    ],
)
def test_bad_expressions_are_refused(drop: str, why: str) -> None:
    with pytest.raises(InputError, match=rf"comparisons\.filters, mine: .*({why})") as error:
        BUILDER.pins(with_defaults(ComparisonsConfig(filters=(sql(drop),))), FakeEngine())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "function", "why"),
    [
        ("def other(response): return True", "drop", "has no function 'drop'"),
        ("drop = 3", "drop", "has no function 'drop'"),
        ("def drop(): return True", "drop", "has no parameter"),
        ("def drop(text): return True", "drop", "no column 'text'"),
        ("def drop(response: return", "drop", "cannot be run: SyntaxError"),
        ("import nothing_of_that_name", "drop", "cannot be run: ModuleNotFoundError"),
        ("import sys; sys.exit(0)", "drop", "cannot be run: SystemExit"),
        ("def drop(response): return True", "no-name", "write FILE.py:FUNCTION"),
    ],
)
def test_bad_functions_are_refused(tmp_path: Path, source: str, function: str, why: str) -> None:
    with pytest.raises(InputError, match=f"mine: .*{why}"):
        load(python(tmp_path, source, function=function))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def drop(response): return None", "returned NoneType, not True or False"),
        ("def drop(response): return len(response)", "returned int"),
        ("def drop(response): raise KeyError('ouch')", "raised KeyError: 'ouch'"),
        ("def drop(response): raise SystemExit(0)", "raised SystemExit: 0"),
    ],
)
def test_what_goes_wrong_in_a_function_is_one_line(tmp_path: Path, source: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as error:
        run(rows_of([[good(100), good(90)]]), ComparisonsConfig(filters=(python(tmp_path, source),)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("verdict", ["len(response) > 95", "numpy.bool_(len(response) > 95)"])
def test_numpys_truth_is_a_verdict(tmp_path: Path, verdict: str) -> None:
    source = f"import numpy\ndef drop(response): return {verdict}"
    rows = pl.DataFrame({"response": ["a" * 90, "a" * 100]})
    assert with_reason(rows, [load(python(tmp_path, source))])["reason"].to_list() == [None, "mine"]


def test_either_an_expression_or_a_function(tmp_path: Path) -> None:
    for value in (
        UserFilter(name="mine", description=WORDS),
        UserFilter(name="mine", description=WORDS, drop="length > 3", python="a.py:b"),
        UserFilter(name="mine", description=WORDS, python=str(tmp_path / "gone.py") + ":drop"),
    ):
        with pytest.raises(InputError, match="mine"):
            load(value)


@pytest.mark.parametrize("name", ["too_short", "already_chosen", "chosen_too_short", "ratings_disagree"])
def test_names_are_those_of_no_other_filter(name: str) -> None:
    for filters in ((sql("length > 3", name=name),), (sql("length > 3"), sql("length > 4"))):
        with pytest.raises(InputError, match=r"comparisons\.filters: another filter is named"):
            BUILDER.pins(with_defaults(ComparisonsConfig(filters=filters)), FakeEngine())


def test_a_function_sees_every_row_and_nothing_else(tmp_path: Path) -> None:
    rule = load(python(tmp_path, "def drop(response, length):\n    return len(response) != length"))
    rows = pl.DataFrame({"response": ["a", "", "äö"], "length": [1, 0, 3]})
    assert with_reason(rows, [rule])["reason"].to_list() == [None, None, "mine"]


def test_it_is_in_fingerprint_and_card_and_no_path_is(
    fake_store: Store, fake_preset: presets.Preset, tmp_path: Path
) -> None:
    def run_with(filters: tuple[UserFilter, ...]) -> BuildRun:
        preset = with_settings(fake_preset, "comparisons", filters=filters)
        store = Store(tmp_path / "build")
        return BuildRun(store, "0.1.0", preset, FakeEngine(), {"responses": "responses@0.1.0"})

    def fingerprint(*filters: UserFilter) -> str:
        return run_with(filters).plan(BUILDER).target.manifest.fingerprint

    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "responses").symlink_to(fake_store.root / "responses")
    source = "def drop(response):\n    return 'dry' in response\n"
    prints = {fingerprint()}
    for text in (source, source + "# changed\n"):
        prints.add(fingerprint(python(tmp_path, text)))
    for expression in ("length > 2000", "length > 2001"):
        prints.add(fingerprint(sql(expression)))
    assert len(prints) == 5
    build_run = run_with((python(tmp_path, source),))
    manifest = build_run.build(BUILDER)[-1].manifest
    folder = build_run.store.path(manifest.ref)
    card = (folder / "README.md").read_text()
    assert "mine.py:drop" in card
    assert WORDS in card
    assert str(tmp_path) not in card + (folder / "manifest.json").read_text()
    assert verify(build_run.store, manifest.ref) == []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "longer",
            "equal",
            "n",
            "comparisons",
            "chosen_chars",
            "rejected_chars",
            "chosen_rank",
            "rejected_rank",
        ),
        *("query", "row", "step", "reason", "total", "squares", "length", "rank", "length_rule"),
    ],
)
def test_any_name_will_do(name: str) -> None:
    rows = rows_of([[good(100), good(90), good(80)]])
    for unit, drop in (("response", "length > 95"), ("pair", "chosen_length > 95")):
        built = run(rows, ComparisonsConfig(filters=(sql(drop, unit, name),)))
        assert built is not None
        assert any(entry.dropped == {name: entry.n_in - entry.kept} != {name: 0} for entry in built.ledger)


def test_a_function_sees_only_what_the_filters_above_kept(tmp_path: Path) -> None:
    rule = python(tmp_path, "def drop(response):\n    return response[59] == 'b'")
    built = run(rows_of([["a" * 20, good(100), good(90)]]), ComparisonsConfig(filters=(rule,)))
    assert built is not None
    assert [entry.n_in for entry in built.ledger if entry.filter in ("too_short", "mine")] == [3, 2]


def test_an_expression_that_fails_on_some_rows_is_one_line() -> None:
    with pytest.raises(InputError, match=r"mine: .* fails on some rows") as error:
        run(
            rows_of([[good(300), good(90)]]),
            ComparisonsConfig(filters=(sql("CAST(length AS TINYINT) > 100"),)),
        )
    assert "\n" not in str(error.value)
