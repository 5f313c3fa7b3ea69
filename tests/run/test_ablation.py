"""Variants of the filter from the same responses, and what reviews of a judge say of each."""

import dataclasses
import json
import math
from pathlib import Path

import msgspec
import polars as pl
import pytest

from almost_data.builders.checks import check_names
from almost_data.builders.comparisons.builder import ComparisonsConfig
from almost_data.cli import app as cli
from almost_data.datasets.user_filters import UserFilter
from almost_data.diagnostics.agreement import Agreement, agreement
from almost_data.errors import InputError
from almost_data.generation.transformers import TransformersEngine
from almost_data.readers import reviews
from almost_data.run import build, presets
from almost_data.run.ablation import HEADER, ablate, variants
from almost_data.store.store import Store
from tests.schema import with_defaults
from tests.settings import with_settings

OWN = UserFilter(name="my_own", description="One sentence.", drop="length > 200")


def test_variants_are_those_of_the_papers_table_and_each_rule_left_out() -> None:
    full = with_defaults(ComparisonsConfig(asis_rm="some/rm", filters=(OWN,)))
    found = {one.name: one.config for one in variants(full)}
    assert list(found)[:4] == ["no-filter", "heuristic", "asis", "both"]
    bare = (found["no-filter"], found["asis"])
    assert all((one.checks, one.filters, one.length_sd) == ((), (), None) for one in bare)
    assert [one.asis_rm for one in bare] == [None, "some/rm"]
    assert found["heuristic"] == msgspec.structs.replace(full, asis_rm=None)
    assert found["both"] == full
    assert {name for name in found if name.startswith("without")} == {
        *(f"without-{check.replace('_', '-')}" for check in check_names(full.checks)),
        "without-chosen-too-short",
        "without-my-own",
    }
    for check in check_names(full.checks):
        left = found[f"without-{check.replace('_', '-')}"].checks
        assert set(check_names(full.checks)) - set(left) == {check}
    names = [variant.name for variant in variants(with_defaults(ComparisonsConfig()))]
    assert not {"asis", "both"} & set(names)


@pytest.fixture
def run(fake_store: Store, fake_preset: presets.Preset, tmp_path: Path) -> build.BuildRun:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "responses").symlink_to(fake_store.root / "responses")
    preset = with_settings(fake_preset, "comparisons", asis_rm="fake/judge", checks=("too_short",))
    sources = {"responses": "responses@0.1.0"}
    return build.BuildRun(Store(tmp_path / "build"), "1.0.0", preset, TransformersEngine(), sources)


def test_each_variant_is_a_dataset_and_no_response_is_scored_twice(run: build.BuildRun) -> None:
    outcomes = {one.variant.name: one for one in ablate(run)}
    assert {f"comparisons@1.0.0-{name}" for name in outcomes} == set(run.store.refs()) - {"responses@0.1.0"}
    assert len(run.loaded_scorers) == 1
    counts = {
        name: one.manifest and one.manifest.diagnostics["comparisons"] for name, one in outcomes.items()
    }
    assert counts["no-filter"] > counts["heuristic"] > counts["both"]
    asked = [
        one.manifest.environment["scorer"]["scores"]["scored"]
        for one in outcomes.values()
        if one.manifest and "scorer" in one.manifest.environment
    ]
    responses = run.store.scan("responses@0.1.0").collect().height
    assert 0 < sum(asked) <= responses
    assert all(len(one.cells()) == len(HEADER) for one in outcomes.values())
    again = ablate(dataclasses.replace(run, loaded_scorers={}))
    assert [o.manifest and o.manifest.digest for o in again] == [
        o.manifest and o.manifest.digest for o in outcomes.values()
    ]


def test_a_variant_without_a_row_is_said_to_have_none(run: build.BuildRun) -> None:
    preset = with_settings(run.preset, "comparisons", filters=(OWN,), min_chars=100_000)
    outcomes = {outcome.variant.name: outcome for outcome in ablate(dataclasses.replace(run, preset=preset))}
    assert outcomes["both"].manifest is None
    assert outcomes["both"].cells()[:3] == ["both", "", "0"]
    assert outcomes["without-too-short"].manifest is not None


@pytest.mark.parametrize(("version", "ref"), [("1.0.0-x", "responses@0.1.0"), ("1.0.0", "responses@9.9.9")])
def test_bad_input_is_refused(run: build.BuildRun, version: str, ref: str) -> None:
    with pytest.raises(InputError):
        ablate(dataclasses.replace(run, version=version, sources={"responses": ref}))


def test_reviews_count_in_either_order_and_ties_apart(tmp_path: Path) -> None:
    rows = [("q1", "a", "b", 9, 3), ("q1", "c", "b", 5, 5), ("q2", "b", "a", 8, 2), ("q2", "b", "a", 8, 4)]
    file = tmp_path / "reviews.jsonl"
    names = reviews.Review.__struct_fields__
    file.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))

    def comparison(prompt: str, chosen: str, rejected: str) -> dict[str, object]:
        turn = [{"role": "user", "content": prompt}]
        return {"prompt": turn, "chosen_responder": chosen, "rejected_responder": rejected}

    comparisons = [("q1", "a", "b"), ("q1", "b", "c"), ("q2", "a", "b"), ("q3", "a", "b"), ("q1", "a", "c")]
    frame = pl.DataFrame([comparison(*one) for one in comparisons])
    found = agreement(frame.lazy(), reviews.read(file))
    assert (found.agree, found.disagree, found.tie, found.share) == (1, 1, 1, 0.5)


@pytest.mark.parametrize(("agree", "disagree"), [(0, 0), (1, 0), (0, 7), (64, 16), (500, 499)])
def test_the_interval_is_wilsons(agree: int, disagree: int) -> None:
    """Both ends solve (p - share)^2 = z^2 p (1 - p) / n."""
    one = Agreement(agree, disagree, 3)
    if not agree + disagree:
        assert one.interval is one.share is None
        return
    assert one.interval is not None and one.share is not None
    for p in one.interval:
        assert math.isclose((p - one.share) ** 2, 1.96**2 * p * (1 - p) / (agree + disagree), abs_tol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("r.csv", "prompt", "give reviews as"),
        ("r.jsonl", "nonsense", "1: broken JSON"),
        ("r.jsonl", '{"prompt": "q"}', "1: not a review .*`responder_a`"),
        (
            "r.jsonl",
            '{"prompt": "q", "responder_a": "a", "responder_b": "b", "score_a": "x", "score_b": 1}',
            r"Expected `float`, got `str` - at `\$\.score_a`",
        ),
        ("r.parquet", "PAR1", "cannot be read"),
    ],
)
def test_bad_reviews_are_refused_in_a_line(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=why) as error:
        reviews.read(tmp_path / name)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        reviews.read(tmp_path / "gone.jsonl")


def test_the_command_prints_a_line_for_each_variant(
    run: build.BuildRun, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--from", "responses@0.1.0", "--version", "2.0.0", "--root", str(run.store.root)]
    where += ["--set", 'comparisons.checks=["dont_know"]']
    cli.main(["ablate", *where])
    shown = capsys.readouterr().out
    assert "heuristic only" in shown
    assert "without dont_know" in shown
    cli.main(["ablate", *where, "--markdown"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 4


def test_reviews_of_real_answers_agree_more_after_the_filter(shared: Path, tmp_path: Path) -> None:
    folder = shared / "fastchat_vicuna80"
    questions = {row["question_id"]: row["text"] for row in _rows(folder / "question.jsonl")}
    ladder = ["gpt35", "bard", "vicuna-13b", "alpaca-13b", "llama-13b"]
    answers: dict[int, dict[str, str]] = {}
    whose = {}
    for name in ladder:
        for row in _rows(folder / "answer" / f"answer_{name}.jsonl"):
            answers.setdefault(row["question_id"], {})[name] = row["text"]
            whose[row["answer_id"]] = name
    rows = [{"prompt": questions[n], **texts} for n, texts in answers.items()]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [
        dict(
            zip(
                reviews.Review.__struct_fields__,
                [
                    questions[r["question_id"]],
                    whose[r["answer1_id"]],
                    whose[r["answer2_id"]],
                    *map(float, r["score"]),
                ],
                strict=True,
            )
        )
        for file in sorted((folder / "review").glob("*.jsonl"))
        for r in _rows(file)
    ]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    root = ["--root", str(tmp_path / "build")]
    cli.main(
        [
            "import",
            "responses",
            str(tmp_path / "answers.jsonl"),
            "--ladder",
            ",".join(ladder),
            "--version",
            "1.0.0",
            *root,
        ]
    )
    preset = presets.load(assignments=("comparisons.pairing=all",))

    run = build.BuildRun(
        Store(tmp_path / "build"), "1.0.0", preset, TransformersEngine(), {"responses": "responses@1.0.0"}
    )
    outcomes = {o.variant.name: o.agreement for o in ablate(run, reviews.read(tmp_path / "reviews.jsonl"))}
    none, heuristic = outcomes["no-filter"], outcomes["heuristic"]
    assert none and heuristic
    assert none.agree + none.disagree + none.tie == 398  # of 400, one answer of 400 is empty
    assert (heuristic.share or 0) > (none.share or 1)


def _rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
