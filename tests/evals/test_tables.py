"""The rule of verdicts, and a report that never puts one thing under the label of another."""

import itertools
import math
from dataclasses import replace

import msgspec
import pytest

from almost_data import card
from almost_data.errors import InputError
from almost_data.evals import tables
from almost_data.evals.claims import CLAIMS, HHH, WIN, Claim, Measure, judge
from almost_data.evals.result import Line, Pinned, Result
from almost_data.evals.stats import share
from almost_data.store import Store

CLAIM = Claim("Table 1", "a is better than b", Measure("rm", HHH), Measure("sft", HHH))


def line(value: float, n: int, who: str = "m", chance: float | None = None) -> Line:
    right = round(value * n)
    at, low, high = share([1.0] * right + [0.0] * (n - right))
    return Line(who, "accuracy", "overall", n, at, low, high, chance=chance)


def test_a_verdict_goes_by_the_interval_of_the_difference() -> None:
    assert judge(CLAIM, line(0.8, 200), line(0.6, 200)).verdict == "reproduced"
    assert judge(CLAIM, line(0.6, 200), line(0.8, 200)).verdict == "not reproduced"
    assert judge(CLAIM, line(0.62, 50), line(0.6, 50)).verdict == "too small to say"
    assert judge(CLAIM, line(0.70, 50, chance=0.5), line(0.6, 50, chance=0.5)).verdict == "too small to say"
    assert judge(CLAIM, line(0.55, 50, chance=0.5), line(0.45, 50, chance=0.5)).verdict == "at chance"


def test_the_interval_is_newcombes() -> None:
    # His example (1998): 56 of 70 against 48 of 80 gives 0.0524 to 0.3339.
    found = judge(CLAIM, line(56 / 70, 70), line(48 / 80, 80))
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=2e-4), pytest.approx(0.3339, abs=2e-4))


def test_a_part_a_number_and_an_equality() -> None:
    part = replace(CLAIM, part=0.9)
    assert judge(part, line(0.65, 5000), line(0.70, 5000)).verdict == "reproduced"
    number = replace(CLAIM, right=0.5)
    assert judge(number, line(0.6, 400), None).verdict == "reproduced"
    assert judge(number, line(0.52, 40), None).verdict == "too small to say"
    equal = replace(CLAIM, within=0.03)
    assert judge(equal, line(0.700, 9000), line(0.702, 9000)).verdict == "reproduced"
    assert judge(equal, line(0.7, 9000), line(0.8, 9000)).verdict == "not reproduced"
    assert judge(equal, line(0.7, 100), line(0.7, 100)).verdict == "too small to say"


def test_more_items_never_turn_a_verdict_round() -> None:
    for a, b in itertools.product((0.3, 0.5, 0.7), repeat=2):
        verdicts = {judge(CLAIM, line(a, n), line(b, n)).verdict for n in (20, 200, 2000)}
        assert not {"reproduced", "not reproduced"} <= verdicts, (a, b)


def test_a_number_that_was_not_measured_decides_nothing() -> None:
    found = judge(CLAIM, line(0.9, 100), Line("m", "accuracy", "overall", 0, None))
    assert found.verdict == "too small to say" and found.difference is None


def result(task: str, model: str, value: float) -> Result:
    every = [
        msgspec.structs.replace(line(value, 200, model), subset=subset)
        for subset in ("overall", "helpful", "harmless", "honest")
    ]
    return Result(task, 1, [Pinned(model, "1")], [], {}, {}, [*every, line(0.6, 200, "baseline:longest")])


class Models(Store):
    """A store in which every model of a list is."""

    def __init__(self, root: object, refs: list[str]) -> None:
        super().__init__(root)  # type: ignore[arg-type]
        self.there = refs

    def has(self, ref: str) -> bool:
        return ref in self.there

    def manifest(self, ref: str) -> object:  # type: ignore[override]
        from types import SimpleNamespace

        return SimpleNamespace(ref=ref, config={"base": {"id": "pypi:base"}})


def study(root: object, refs: list[str], given: set[str], compare: bool = False) -> tables.Study:
    def evaluate(task: str, model: str) -> Result:
        return result(task, model, 0.8 if model.startswith(("rm", "ppo")) else 0.6)

    def judged(a: str, b: str) -> Result:
        return Result("vicuna", 1, [], [], {}, {}, [Line(a, WIN, "overall", 80, 0.7, 0.6, 0.8)])

    return tables.Study(
        Models(root, refs), "1.0.0", evaluate, judged if compare else None, frozenset(given), compare
    )


def test_what_is_missing_is_named_and_nothing_stands_in_its_place(tmp_path: object) -> None:
    found = {one.name: one for one in tables.measure(study(tmp_path, [], set()))}
    assert set(found) == {one.table for one in CLAIMS} | {"Table 2"}
    for table in found.values():
        assert not table.lines and {one.verdict for one in table.outcomes} == {"not run"}
        assert all(one.missing for one in table.outcomes)
    assert "the model ppo@1.0.0" in found["Table 1"].missing
    every = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"]
    found = {one.name: one for one in tables.measure(study(tmp_path, every, {HHH}))}
    verdicts = [one.verdict for one in found["Table 1"].outcomes]
    assert verdicts == [
        "reproduced",
        "reproduced",
        "not run",
        "not reproduced",
        "too small to say",
        "reproduced",
    ]
    assert found["Table 1"].missing == ["TruthfulQA (--truthfulqa)"]
    assert found["Figure 3"].missing == [
        "a judge and the Vicuna questions (--vicuna, --judge)",
        "a baseline's answers (--baseline)",
    ]
    assert found["Table 4"].missing == [
        "a preference set such as HH-RLHF helpful-base (--preference)",
    ]


def test_the_report_is_a_page(tmp_path: object) -> None:
    every = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"]
    one = study(tmp_path, every, {HHH}, compare=True)
    found = tables.report(one, tables.measure(one), 135e6)
    text = card.page("tables.md.jinja", **found, figures=[])
    assert "not run" in text and "**reproduced**" in text and "135 million" in text
    assert "+20.0" in text and "37.5% wins" in text
    assert text.count("## Table") == 5


def test_table_2_is_of_the_responders_that_are_there() -> None:
    names = ["30B-Faithful-3shot", "30B-HHH-5shot", "13B-HHH-3shot", "7B-HHH-3shot", "7B-HHH-1shot", "odd"]
    said = [one.says for one in tables.claims(names) if one.table == "Table 2"]
    assert said == [
        "13B-HHH-3shot is better than 7B-HHH-3shot: a larger model",
        "7B-HHH-3shot is better than 7B-HHH-1shot: more shots",
    ]
    probes = [*names, "7B-Faithful-3shot"]
    more = [one.says for one in tables.claims(probes) if one.table == "Table 2"]
    assert "7B-Faithful-3shot is better than 30B-HHH-5shot: a better prompt beats a larger model" in more
    assert "30B-Faithful-3shot is better than 7B-Faithful-3shot: a larger model" in more


def test_an_unknown_role_is_refused(tmp_path: object) -> None:
    with pytest.raises(InputError, match="responses@1\\.0\\.0-vicuna"):
        study(tmp_path, [], {HHH}).line(Measure("nobody", HHH))
    assert math.isfinite(tables.SMALL)
