"""The rule of verdicts, and a report that never puts one thing under the label of another."""

import itertools
import math
from dataclasses import replace

import msgspec
import pytest
import study as study_
from claims import CLAIMS, HHH, PREFERENCE, TRUE, WIN, Claim, Measure, judge
from tables import TEMPLATES

from almost_data.cards import card
from almost_data.datasets.records import Pinned
from almost_data.errors import InputError
from almost_data.evals import vicuna
from almost_data.evals.evaluation import OTHER_ITEMS, ItemValue
from almost_data.evals.preference import HH_RLHF
from almost_data.evals.result import Line, Result
from almost_data.evals.stats import paired, share
from almost_data.evals.truthfulqa import HUB as TRUTHFULQA
from almost_data.store.store import Store

CLAIM = Claim("Table 1", "a is better than b", Measure("rm", HHH), Measure("sft", HHH))


def line(value: float, n: int, who: str = "m", chance: float | None = None) -> Line:
    right = round(value * n)
    at, low, high = share([1.0] * right + [0.0] * (n - right))
    return Line(who, "accuracy", "overall", n, at, low, high, chance=chance)


def test_a_verdict_goes_by_the_interval_of_the_difference() -> None:
    assert judge(CLAIM, [line(0.8, 200), line(0.6, 200)]).verdict == "reproduced"
    assert judge(CLAIM, [line(0.6, 200), line(0.8, 200)]).verdict == "not reproduced"
    assert judge(CLAIM, [line(0.62, 50), line(0.6, 50)]).verdict == "too small to say"
    near = {a: line(a, 50, chance=0.5) for a in (0.7, 0.6, 0.55, 0.45)}
    assert judge(CLAIM, [near[0.7], near[0.6]]).verdict == "too small to say"
    assert judge(CLAIM, [near[0.55], near[0.45]]).verdict == "at chance"
    # Where each may guess and their difference is clear, it is no chance.
    apart = judge(CLAIM, [line(0.6, 90, chance=0.5), line(0.4, 90, chance=0.5)])
    assert apart.low is not None and apart.low > 0 and apart.verdict == "reproduced"
    # A win rate of a half is a draw, and no guess.
    wins = [replace_line(line(value, 80, chance=0.5), metric=WIN) for value in (0.55, 0.45)]
    assert judge(CLAIM, wins).verdict == "too small to say"


def test_a_few_items_decide_nothing() -> None:
    assert judge(CLAIM, [line(1, 19), line(0, 19)]).verdict == "too small to say"
    assert judge(CLAIM, [line(1, 20), line(0, 20)]).verdict == "reproduced"


def items(values: list[float], group: str = "") -> dict[str, ItemValue]:
    return {str(at): ItemValue(str(at), value, group or str(at)) for at, value in enumerate(values)}


def test_the_same_items_are_compared_one_by_one() -> None:
    # 58 against 42 of 100, right on other items: taken as others, the interval would leave 0 out.
    ours, theirs = [1.0] * 58 + [0.0] * 42, [0.0] * 58 + [1.0] * 42
    sides = [line(0.58, 100), line(0.42, 100)]
    assert judge(CLAIM, sides).verdict == "reproduced"
    opposed = judge(CLAIM, sides, [items(ours), items(theirs)])
    assert (
        opposed.verdict == "too small to say" and opposed.paired and opposed.difference == pytest.approx(0.16)
    )
    # And right on the same ones, but for 8: known better than from the two intervals.
    theirs = [0.0] * 8 + [1.0] * 50 + [0.0] * 42
    near = [line(0.58, 100), line(0.5, 100)]
    assert judge(CLAIM, near).verdict == "too small to say"
    assert judge(CLAIM, near, [items(ours), items(theirs)]).verdict == "reproduced"
    # Items of one dialogue are one another's copies.
    together = judge(CLAIM, near, [items(ours, "one"), items(theirs, "one")])
    assert together.verdict == "too small to say" and together.difference == pytest.approx(0.08)
    # Agreeing on the few that there are is no proof of being equal.
    equal = replace(CLAIM, within=0.03)
    for n, verdict in ((30, "too small to say"), (2000, "reproduced")):
        same = [1.0] * (n - 2) + [0.0] * 2
        item_verdict = judge(equal, [line(0.9, n)] * 2, [items(same), items(same)])
        assert (item_verdict.verdict, item_verdict.difference) == (verdict, 0.0) and item_verdict.low == -(
            item_verdict.high or 0
        )
    assert not judge(CLAIM, near, [items(ours), items(theirs[1:])]).paired


def test_a_step_is_compared_with_the_one_before_item_by_item() -> None:
    step = replace(CLAIM, part=2.0, plus=Measure("ppo", HHH))
    assert step.formula == "rm - 2 x sft + ppo" and CLAIM.formula == "rm - sft"
    # 30 of 60 against 35 and 50: a step of 15 after one of 5; each is right where the smaller one is.
    small, middle, large = ([1.0] * n + [0.0] * (60 - n) for n in (30, 35, 50))
    lines = [line(sum(values) / 60, 60) for values in (large, middle, small)]
    alone = judge(step, lines)
    assert alone.verdict == "too small to say" and not alone.paired and alone.n == 60
    same = judge(step, lines, [items(large), items(middle), items(small)])
    assert same.verdict == "reproduced" and same.paired
    gaps = [a - 2 * b + c for a, b, c in zip(large, middle, small, strict=True)]
    assert (same.difference, same.low, same.high) == paired(gaps)
    assert [same.difference, alone.difference] == pytest.approx([10 / 60] * 2)
    down = judge(step, lines[::-1], [items(small), items(middle), items(large)])
    assert down.difference == same.difference  # (c - b) - (b - a) is (a - b) - (b - c)
    ends = [large, large, small]
    flat = judge(step, [line(sum(values) / 60, 60) for values in ends], list(map(items, ends)))
    assert flat.verdict == "not reproduced"
    # Of three numbers apart: the squares of the three half-widths are added, twice the middle one's.
    assert alone.low is not None and alone.difference is not None
    by_hand = [
        lines[0].value - lines[0].low,
        2 * (lines[1].high - lines[1].value),
        lines[2].value - lines[2].low,
    ]
    assert alone.difference - alone.low == pytest.approx(math.hypot(*by_hand))
    assert not judge(step, lines, [items(large), items(middle), items(small[1:])]).paired


def replace_line(line_: Line, **changed: object) -> Line:
    return msgspec.structs.replace(line_, **changed)


def test_the_interval_is_newcombes() -> None:
    # His example (1998): 56 of 70 against 48 of 80 gives 0.0524 to 0.3339.
    verdict = judge(CLAIM, [line(56 / 70, 70), line(48 / 80, 80)])
    assert verdict.difference == pytest.approx(0.2)
    assert (verdict.low, verdict.high) == (pytest.approx(0.0524, abs=2e-4), pytest.approx(0.3339, abs=2e-4))


def test_a_part_a_number_and_an_equality() -> None:
    part = replace(CLAIM, part=0.9)
    assert judge(part, [line(0.65, 5000), line(0.70, 5000)]).verdict == "reproduced"
    number = replace(CLAIM, worse=0.5)
    against = judge(number, [line(0.6, 400)], [items([0.6] * 400)])
    assert against.verdict == "reproduced" and not against.paired
    assert judge(number, [line(0.52, 40)]).verdict == "too small to say"
    equal = replace(CLAIM, within=0.03)
    assert judge(equal, [line(0.700, 9000), line(0.702, 9000)]).verdict == "reproduced"
    assert judge(equal, [line(0.7, 9000), line(0.8, 9000)]).verdict == "not reproduced"
    assert judge(equal, [line(0.7, 100), line(0.7, 100)]).verdict == "too small to say"


def test_more_items_never_turn_a_verdict_round() -> None:
    for a, b in itertools.product((0.3, 0.5, 0.7), repeat=2):
        verdicts = {judge(CLAIM, [line(a, n), line(b, n)]).verdict for n in (20, 200, 2000)}
        assert not {"reproduced", "not reproduced"} <= verdicts, (a, b)


def test_a_number_that_was_not_measured_decides_nothing() -> None:
    verdict = judge(CLAIM, [line(0.9, 100), Line("m", "accuracy", "overall", 0, None)])
    assert verdict.verdict == "not run" and verdict.difference is None and "of m" in verdict.missing


OFFICIAL = {
    HHH: Pinned("HuggingFaceH4/hhh_alignment", "a" * 40, "data"),
    TRUE: Pinned("mine.jsonl", "sha256:0", "data"),
    PREFERENCE: Pinned(*HH_RLHF.split("@"), "data"),
}


def result_of(
    task: str, models: list[Pinned], data: list[Pinned], lines: list[Line], settings: dict[str, object]
) -> Result:
    identity = {"ref": "made-up@1.0.0", "fingerprint": "", "digest": "", "created": ""}
    rest = {"prompts": {}, "details": {}, "notes": [], "failed": 0, "is_fake": False, "environment": {}}
    values = {"models": models, "data": data, "lines": lines, "settings": settings}
    return Result(task=task, logic_version=1, **identity, **rest, **values)  # type: ignore[arg-type]


def result(task: str, model: str, value: float) -> Result:
    refs = [
        msgspec.structs.replace(line(value, 200, model), subset=subset)
        for subset in ("overall", "helpful", "harmless", "honest")
    ]
    lines = [*refs, line(0.6, 200, "baseline:longest")]
    settings = {"config": "helpful-base"}
    return result_of(task, [Pinned(model, "1")], [OFFICIAL[task]], lines, settings)


class Models(Store):
    """A store in which every model of a list is."""

    def __init__(self, root: object, refs: list[str]) -> None:
        super().__init__(root)  # type: ignore[arg-type]
        self.existing_refs = refs

    def has(self, ref: str) -> bool:
        return ref in self.existing_refs

    def manifest(self, ref: str) -> object:  # type: ignore[override]
        from types import SimpleNamespace

        return SimpleNamespace(ref=ref, config={"base": {"id": "pypi:base", "revision": "1"}})


NOBODY = "people's judgments (recipes/reproduce/human.py export, then import)"


def study(
    root: object, refs: list[str], tasks: set[str], compare: bool = False, people: str | None = None
) -> study_.Study:
    """With `people`, they judged questions of that sha256, and found the first side the worse one."""

    def evaluate(task: str, model: Pinned) -> Result:
        if task == TRUE and model.id.startswith("ppo"):
            raise RuntimeError("it cannot be loaded")
        return result(task, model.id, 0.8 if model.id.startswith(("rm", "ppo")) else 0.6)

    def judged(a: Pinned, b: Pinned) -> Result:
        questions = Pinned("question.jsonl", f"sha256:{vicuna.QUESTIONS}", "data")
        lines = [
            Line(a.id, WIN, "overall", 80, 0.7, 0.6, 0.8),
            Line("judge", "longer answer wins", "overall", 80, 0.9, 0.8, 0.95, 0, 0.5),
        ]
        judge = Pinned("gpt", "as-served", "judge")
        return result_of("vicuna", [a, b, judge], [questions], lines, {})

    def compare_people(a: Pinned, b: Pinned) -> Result:
        if people is None:
            raise InputError(NOBODY)
        data = [
            Pinned("table.csv", "sha256:1", "judgments"),
            Pinned("question.jsonl", f"sha256:{people}", "data"),
        ]
        lines = [Line(a.id, WIN, "overall", 80, 0.3, 0.2, 0.4)]
        return result_of("human", [a, b], data, lines, {})

    return study_.Study(
        Models(root, refs),
        "1.0.0",
        evaluate,
        judged if compare else None,
        compare_people,
        frozenset(tasks),
        compare,
    )


def test_what_is_missing_is_named_and_nothing_stands_in_its_place(tmp_path: object) -> None:
    by_name = {entry.name: entry for entry in study_.measure(study(tmp_path, [], set()))}
    assert set(by_name) == {entry.table for entry in CLAIMS} | {"Table 2"}
    for table in by_name.values():
        assert not table.lines and {entry.verdict for entry in table.outcomes} == {"not run"}
        assert all(entry.missing for entry in table.outcomes)
    assert "the model ppo@1.0.0" in by_name["Table 1"].missing
    refs = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"]
    by_name = {entry.name: entry for entry in study_.measure(study(tmp_path, refs, {HHH}))}
    verdicts = [entry.verdict for entry in by_name["Table 1"].outcomes]
    assert verdicts == ["reproduced", "reproduced", "not run", "not reproduced", "too small to say"]
    assert by_name["Table 1"].missing == [f"TruthfulQA (--truthfulqa {TRUTHFULQA})"]
    assert by_name["Figure 3, by a judge"].missing == [
        "a judge and the Vicuna questions (--vicuna, --judge)",
        "a baseline's answers (--baseline)",
    ]
    assert by_name["Figure 3, by people"].missing == [NOBODY, "a baseline's answers (--baseline)"]
    assert by_name["Table 4"].missing == [
        f"HH-RLHF helpful-base (--preference {HH_RLHF}), or another preference set",
    ]


def test_what_fails_is_not_run_and_other_data_have_a_table_of_their_own(tmp_path: object) -> None:
    refs = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0", "sft@1.0.0-self-play"]
    by_name = {table.name: table for table in study_.measure(study(tmp_path, refs, {HHH, TRUE}))}
    assert by_name["Table 1"].missing == ["it cannot be loaded"]
    five = {table.claim.says: table for table in by_name["Table 5"].outcomes}
    assert "the paper's data: mine.jsonl is not known as TruthfulQA's MC1" in by_name["Table 5"].missing
    assert five["SFT on RMSP is better than on Self-Play, TruthfulQA"].verdict == "not run"
    assert not any(table.subset == "truthful" for _, table in by_name["Table 5"].lines)
    [outcome] = by_name["Table 5, on other data or terms"].outcomes
    assert outcome.verdict == "too small to say" and outcome.claim.says.endswith("TruthfulQA")


def test_preferences_are_the_papers_where_they_are_helpful_base(tmp_path: object) -> None:
    refs = ["rm@1.0.0", "asis@1.0.0"]
    by_name = {table.name: table for table in study_.measure(study(tmp_path, refs, {PREFERENCE}))}
    assert "Table 3, on other data or terms" not in by_name
    verdicts = [table.verdict for table in by_name["Table 3"].outcomes]
    assert verdicts == ["not run", "not run", "reproduced", "reproduced"]


def test_ratings_are_a_table_of_their_own_beyond_the_paper(tmp_path: object) -> None:
    refs = ["rm@1.0.0", "rm@1.0.0-heuristic", "rm@1.0.0-label-ratings"]
    rated = study(tmp_path, refs, {PREFERENCE})
    tables = study_.measure(rated)
    [table] = [table for table in tables if table.name == "Ratings (not in the paper)"]
    assert [outcome.claim.formula for outcome in table.outcomes] == [
        "rm - rm by ratings",
        "rm without as-is - rm by ratings",
    ]
    assert not table.missing and {role for role, _ in table.lines} == {
        "rm",
        "rm by ratings",
        "rm without as-is",
    }
    content = study_.report(rated, tables, 135e6)
    text = card.page(TEMPLATES / "tables.md.jinja", **content, versions={})
    assert text.count("The As-is RM rates every response") == 1
    assert "## Ratings (not in the paper)\n\nThe As-is RM rates" in text


def test_people_and_a_judge_have_tables_of_their_own(tmp_path: object) -> None:
    refs = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"]
    study_of_people = study(tmp_path, refs, set(), compare=True, people=vicuna.QUESTIONS)
    by_judge = {table.name: table for table in study_.measure(study_of_people)}["Figure 3, by a judge"]
    doubt = Line("gpt", "longer answer wins", "overall", 80, 0.9, 0.8, 0.95, 0, 0.5)
    assert ("the judge of ppo against sft", doubt) in by_judge.lines
    by_name = {table.name: table for table in study_.measure(study_of_people)}
    by_judge, by_people = by_name["Figure 3, by a judge"], by_name["Figure 3, by people"]
    assert [table.verdict for table in by_judge.outcomes] == ["reproduced"] * 2
    assert [table.verdict for table in by_people.outcomes] == ["not reproduced"] * 2
    assert [table.claim.says for table in by_people.outcomes] == [
        table.claim.says for table in by_judge.outcomes
    ]
    assert "Figure 3, by people, on other data or terms" not in by_name
    kept = study_.report(study_of_people, list(by_name.values()), None)["results"]
    assert len([table for table in kept if table["task"] == "human"]) == 2
    foreign = study(tmp_path, refs, set(), compare=True, people="0" * 64)
    by_name = {table.name: table for table in study_.measure(foreign)}
    assert by_name["Figure 3, by people"].missing == [
        "the paper's data: question.jsonl is not known as the Vicuna Questions"
    ]
    assert [table.verdict for table in by_name["Figure 3, by people, on other data or terms"].outcomes] == [
        "not reproduced"
    ] * 2


def test_data_of_the_name_alone_are_not_the_papers() -> None:

    def why(task: str, name: str, revision: str) -> str | None:
        measured = msgspec.structs.replace(result(task, "m", 0.5), data=[Pinned(name, revision, "data")])
        return study_.unlike(measured)

    hhh, hub = OFFICIAL[HHH], TRUTHFULQA.split("@")
    assert why(HHH, hhh.id, hhh.revision) is None and why(TRUE, *hub) is None
    assert why(HHH, hhh.id, hhh.revision + OTHER_ITEMS) == (
        "the paper's data: HuggingFaceH4/hhh_alignment: not the items of Static HHH, by their checksum"
    )
    for task, name in ((TRUE, hub[0]), (PREFERENCE, OFFICIAL[PREFERENCE].id)):
        assert why(task, name, "c" * 40) == (
            f"the paper's data: commit cccccccccccc of {name} is not the one known here"
        )


def test_answers_that_were_asked_for_otherwise_are_not_the_papers(tmp_path: object) -> None:
    refs = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"]
    for terms, why in (
        ({"max_new_tokens": 8, "temperature": 0.7}, "answers with max_new_tokens 1024, not 8"),
        ({"max_new_tokens": 1024, "temperature": 0.0}, "answers with temperature 0.7, not 0.0"),
        ({"max_new_tokens": 1024, "temperature": 0.7}, None),
        ({}, None),  # written before
    ):
        study_of_judge = study(tmp_path, refs, set(), compare=True)
        compare = study_of_judge.compare
        assert compare
        study_of_judge.compare = lambda a, b, ask=compare, terms=terms: msgspec.structs.replace(
            ask(a, b), settings=terms
        )
        by_name = {study_of_judge.name: study_of_judge for study_of_judge in study_.measure(study_of_judge)}
        assert by_name["Figure 3, by a judge"].missing == ([f"the paper's terms: {why}"] if why else [])
        assert ("Figure 3, by a judge, on other data or terms" in by_name) == bool(why)


def test_what_failed_is_not_asked_again(tmp_path: object) -> None:
    study_of_all, reports = (
        study(tmp_path, ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"], {HHH, TRUE}, compare=True),
        [],
    )
    evaluate = study_of_all.evaluate

    def counted(task: str, model: Pinned) -> Result:
        reports.append((task, model.id))
        return evaluate(task, model)

    def dead(a: Pinned, b: Pinned) -> Result:
        reports.append((a.id, b.id))
        raise RuntimeError("the judge is gone")

    study_of_all.evaluate, study_of_all.compare = counted, dead
    by_name = {study_of_all.name: study_of_all for study_of_all in study_.measure(study_of_all)}
    assert by_name["Figure 3, by a judge"].missing == ["the judge is gone"]
    assert by_name["Table 1"].missing == ["it cannot be loaded"]
    with pytest.raises(RuntimeError, match="gone"):
        study_of_all.result(Measure("sft against baseline", "vicuna", metric=WIN))
    with pytest.raises(RuntimeError, match="loaded"):
        study_of_all.result(Measure("ppo", TRUE))
    assert len(reports) == len(set(reports)) and len([two for two in reports if two[1] == "baseline"]) == 2


def test_a_base_is_asked_at_the_revision_that_was_trained_from(tmp_path: object) -> None:
    assert study(tmp_path, ["sft@1.0.0"], set()).model("base") == Pinned("pypi:base", "1")


def test_the_report_is_a_page(tmp_path: object) -> None:
    refs = ["rm@1.0.0", "sft@1.0.0", "ppo@1.0.0"]
    study_of_hhh = study(tmp_path, refs, {HHH}, compare=True)
    whole = study_.report(study_of_hhh, study_.measure(study_of_hhh), 135e6)
    text = card.page(TEMPLATES / "tables.md.jinja", **whole, versions={"torch": "2"})
    assert "not run" in text and "**reproduced**" in text and "135 million" in text
    assert "+20.0" in text and "37.5% wins" in text
    assert text.count("## Table") == 5 and ", paired |" not in text
    next(
        study_of_hhh
        for table in whole["tables"]
        for study_of_hhh in table["claims"]
        if study_of_hhh["n"] == 200
    )["paired"] = True
    marked = card.page(TEMPLATES / "tables.md.jinja", **whole, versions={})
    assert marked.count(" | 200, paired | ") == 1
    assert "At most" not in text
    limited = study_.report(study_of_hhh, study_.measure(study_of_hhh), 135e6, limit=30)
    text = card.page(TEMPLATES / "tables.md.jinja", **limited, versions={"torch": "2"})
    assert "**At most 30 items of each benchmark were taken.**" in text.partition("## Table")[0]


def test_table_2_is_of_the_responders_that_are_there() -> None:
    names = ["30B-Faithful-3shot", "30B-HHH-5shot", "13B-HHH-3shot", "7B-HHH-3shot", "7B-HHH-1shot", "odd"]
    sentences = [claim.says for claim in study_.claims(names) if claim.table == "Table 2"]
    assert sentences == [
        "13B-HHH-3shot is better than 7B-HHH-3shot: a larger model",
        "7B-HHH-3shot is better than 7B-HHH-1shot: more shots",
    ]
    probes = [*names, "7B-Faithful-3shot"]
    probe_sentences = [claim.says for claim in study_.claims(probes) if claim.table == "Table 2"]
    assert (
        "7B-Faithful-3shot is better than 30B-HHH-5shot: a better prompt beats a larger model"
        in probe_sentences
    )
    assert "30B-Faithful-3shot is better than 7B-Faithful-3shot: a larger model" in probe_sentences


def test_table_2_compares_the_steps_of_three_sizes() -> None:
    ladder = ["30B-Faithful-3shot", "30B-HHH-5shot", "13B-HHH-3shot", "7B-HHH-3shot", "7B-HHH-1shot"]
    probes = ["7B-Faithful-3shot", "13B-Faithful-3shot", "500M-Faithful-3shot"]
    steps = [claim for claim in study_.claims([*ladder, *probes]) if claim.plus]
    assert [(claim.says, claim.formula) for claim in steps] == [
        (
            "Faithful-3shot: 13B to 30B is a larger step than 7B to 13B",
            "30B-Faithful-3shot against baseline - 2 x 13B-Faithful-3shot against baseline"
            " + 7B-Faithful-3shot against baseline",
        ),
        (
            "Faithful-3shot: 7B to 13B is a larger step than 500M to 7B",
            "13B-Faithful-3shot against baseline - 2 x 7B-Faithful-3shot against baseline"
            " + 500M-Faithful-3shot against baseline",
        ),
    ]
    assert not [
        claim for claim in study_.claims(["30B-HHH-3shot", "13B-HHH-5shot", "7B-HHH-5shot"]) if claim.plus
    ]
    [none] = [claim for claim in study_.claims([]) if claim.plus]
    assert none.says == "13B to 30B is a larger step than 7B to 13B"


def test_an_unknown_role_is_refused(tmp_path: object) -> None:
    with pytest.raises(InputError, match="responses@1\\.0\\.0-vicuna"):
        study(tmp_path, [], {HHH}).line(Measure("nobody", HHH))
    assert math.isfinite(study_.SMALL)
