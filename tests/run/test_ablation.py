"""Variants of the filter from the same responses, and what reviews of a judge say of each."""

import dataclasses
import json
import math
import re
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import mean

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almost_data.builders.checks import check_names
from almost_data.builders.comparisons.config import ComparisonsConfig
from almost_data.cli import app as cli
from almost_data.cli.console import console
from almost_data.datasets.builder import prompt_id
from almost_data.datasets.user_filters import UserFilter
from almost_data.diagnostics.agreement import Verdicts, agreement
from almost_data.diagnostics.probe import interval
from almost_data.errors import InputError
from almost_data.generation.transformers import TransformersEngine
from almost_data.readers import reviews
from almost_data.run import build, importing, presets
from almost_data.run.ablation import FILTERED, JUDGED, ablate, filter_rows, judge_rows, matched, variants
from almost_data.store.store import Store
from tests.command import run as command
from tests.jsonl import jsonl
from tests.schema import with_defaults
from tests.settings import with_settings

MY_FILTER = UserFilter(name="my_own", description="One sentence.", drop="length > 200")


def test_variants_are_those_of_the_papers_table_and_each_rule_left_out() -> None:
    full = with_defaults(ComparisonsConfig(label="both", max_rating_gap=2, filters=(MY_FILTER,)))
    configs = {entry.name: entry.config for entry in variants(full, is_rated=True)}
    assert list(configs)[:5] == ["no-filter", "heuristic", "agreed", "both", "label-ratings"]
    bare = (configs["no-filter"], configs["agreed"])
    assert all((entry.checks, entry.filters, entry.length_sd) == ((), (), None) for entry in bare)
    assert [(entry.label, entry.max_rating_gap) for entry in bare] == [("ladder", None), ("both", None)]
    assert configs["heuristic"] == msgspec.structs.replace(full, label="ladder", max_rating_gap=None)
    assert configs["both"] == full
    assert configs["label-ratings"] == msgspec.structs.replace(full, label="ratings")
    assert {name for name in configs if name.startswith("without")} == {
        *(f"without-{check.replace('_', '-')}" for check in check_names(full.checks)),
        "without-length-rule",
        "without-my-own",
    }
    assert configs["with-length-gap-limit"] == msgspec.structs.replace(full, max_length_gap=400)
    changes = {"max_length_gap": 90, "length_tokenizer": "ORG/NAME", "length_sd": None}
    bounded = list(variants(msgspec.structs.replace(full, **changes)))
    [free] = [entry.config for entry in bounded if entry.name == "without-length-gap-limit"]
    assert (free.max_length_gap, free.length_tokenizer) == (None, None)
    assert {"with-length-rule", "without-length-gap-limit"} <= {entry.name for entry in bounded}
    for check in check_names(full.checks):
        remaining = configs[f"without-{check.replace('_', '-')}"].checks
        assert set(check_names(full.checks)) - set(remaining) == {check}
    assert (configs["extremes"].label, configs["extremes"].pairing) == ("both", "extremes")
    names = [variant.name for variant in variants(with_defaults(ComparisonsConfig()))]
    assert names[:2] == ["no-filter", "heuristic"] and not {"agreed", "both", "label-ratings"} & set(names)


@pytest.fixture
def run(fake_store: Store, fake_preset: presets.Preset, tmp_path: Path) -> build.BuildRun:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "responses").symlink_to(fake_store.root / "responses")
    preset = with_settings(fake_preset, "comparisons", checks=("too_short",), pairing="all")
    sources = {"responses": "responses@0.1.0"}
    return build.BuildRun(Store(tmp_path / "build"), "1.0.0", preset, TransformersEngine(), sources)


def rate(run: build.BuildRun) -> build.BuildRun:
    """The run with ratings of its responses."""
    preset = with_settings(run.preset, "ratings", rm="fake/judge")
    ratings = dataclasses.replace(run, preset=preset).build("ratings")[-1].manifest.ref
    return dataclasses.replace(run, sources=run.sources | {"ratings": ratings})


def test_each_variant_is_a_dataset_and_the_ratings_are_a_filter_of_its_own(run: build.BuildRun) -> None:
    """But a variant that the comparisons are already, which is not built again."""
    run = rate(run)
    base = run.build("comparisons")[-1].manifest
    outcomes = {outcome.variant.name: outcome for outcome in ablate(run)}
    sources = {"responses@0.1.0", "ratings@1.0.0"}
    built = {f"comparisons@1.0.0-{name}" for name in outcomes.keys() - {"both"}}
    assert built | {base.ref} == set(run.store.refs()) - sources and outcomes["both"].manifest == base
    numbers = {name: outcome.numbers() for name, outcome in outcomes.items()}
    counts = {name: row["comparisons"] for name, row in numbers.items()}
    assert counts["no-filter"] > counts["heuristic"] > counts["both"] < counts["agreed"] < counts["no-filter"]
    assert numbers["agreed"]["rating_agreement"] == counts["agreed"] / counts["no-filter"]
    assert numbers["both"]["rating_agreement"] == counts["both"] / counts["heuristic"]
    assert numbers["label-ratings"]["rating_agreement"] is None
    rows = filter_rows(list(outcomes.values()))
    assert [row[0] for row in rows] == [outcome.variant.label for outcome in outcomes.values()]
    assert all(len(row) == len(FILTERED) for row in rows)
    assert judge_rows(list(outcomes.values())) == []
    again = ablate(dataclasses.replace(run, loaded_scorers={}))
    assert [o.manifest and o.manifest.digest for o in again] == [
        o.manifest and o.manifest.digest for o in outcomes.values()
    ]


def test_a_variant_without_a_row_is_said_to_have_none(run: build.BuildRun) -> None:
    preset = with_settings(run.preset, "comparisons", filters=(MY_FILTER,), min_chars=100_000)
    outcomes = {outcome.variant.name: outcome for outcome in ablate(dataclasses.replace(run, preset=preset))}
    empty = outcomes["heuristic"]
    assert empty.manifest is None
    assert filter_rows([empty]) == [["heuristic only", "0", "0", "", "", "", ""]]
    assert empty.numbers() == {"variant": "heuristic only", "comparisons": 0}
    assert outcomes["without-too-short"].manifest is not None


@pytest.mark.parametrize(("version", "ref"), [("1.0.0-x", "responses@0.1.0"), ("1.0.0", "responses@9.9.9")])
def test_bad_input_is_refused(run: build.BuildRun, version: str, ref: str) -> None:
    with pytest.raises(InputError):
        ablate(dataclasses.replace(run, version=version, sources={"responses": ref}))
    with pytest.raises(InputError, match=r"^run\.from queries@0\.1\.0: give responses@VERSION"):
        ablate(dataclasses.replace(run, version="1.0.0", sources={"queries": "queries@0.1.0"}))


def turn(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def review(*cells: object) -> dict[str, object]:
    return dict(zip(reviews.Review.__struct_fields__, cells, strict=True))


def test_reviews_count_in_either_order_and_ties_apart(tmp_path: Path) -> None:
    rows = [("q1", "a", "b", 9, 3), (" q1", "c", "b", 5, 5), ("q2", "b", "a", 8, 2), ("q2", "b", "a", 8, 4)]
    dialogue = [*turn("q0"), *turn("r0", "assistant"), *turn("q1")]
    rows.append((dialogue, "b", "a", 1, 0))  # another prompt, though it ends in the same turn
    file = jsonl(tmp_path / "reviews.jsonl", [review(*row) for row in rows])

    def comparison(prompt: str, chosen: str, rejected: str) -> dict[str, object]:
        sides = {"chosen": turn(chosen, "assistant"), "rejected": turn(rejected, "assistant")}
        names = {"chosen_responder": chosen, "rejected_responder": rejected}
        return {"query_id": prompt_id(turn(prompt)), **sides, **names}

    comparisons = [("q1", "a", "b"), ("q1", "b", "c"), ("q2", "a", "b"), ("q3", "a", "b"), ("q1", "a", "c")]
    frame = pl.DataFrame([comparison(*comparison_row) for comparison_row in comparisons])
    measured = agreement(frame.lazy(), reviews.read(file))
    assert (measured.plain.pairs, measured.ties, measured.plain.value) == (2, 1, 0.5)
    assert (measured.balanced.pairs, measured.balanced.value, str(measured.balanced)) == (0, None, "n/a")


def test_the_interval_of_strata_is_that_of_their_mean() -> None:
    """By hand: the mean of two shares, its variance between queries, and Wilson for as many rows."""
    right = np.array([float(number // 4 % 3 > 0) for number in range(60)])
    stratum = np.array([True] * 40 + [False] * 20)
    queries = pl.Series([f"q{number // 4}" for number in range(60)])
    shares = {name: right[stratum == name].mean() for name in (True, False)}
    share = sum(shares.values()) / 2
    sums = dict.fromkeys(queries, 0.0)
    for hit, name, query in zip(right, stratum, queries, strict=True):
        sums[query] += (hit - shares[bool(name)]) / (2 * (stratum == name).sum())
    n = share * (1 - share) / (sum(value**2 for value in sums.values()) * 15 / 14)
    for p in interval(right, queries, stratum):
        assert math.isclose((p - share) ** 2, 1.96**2 * p * (1 - p) / n, abs_tol=1e-4)
    assert interval(right, queries, np.ones(60)) == interval(right, queries)


PLACES = {"large": 0, "middle": 1, "small": 2}


@pytest.fixture
def families(tmp_path: Path) -> tuple[build.BuildRun, list[dict[str, object]]]:
    """Answers of a family of three sizes, and which of two a judge prefers: by size, length and chance."""
    random = Random(7)
    rows: list[dict[str, object]] = []
    verdicts: list[dict[str, object]] = []
    for number in range(120):
        texts = {
            name: " ".join(
                f"Point {random.randrange(10**6)} of {name} holds."
                for _ in range(random.randrange(3, 20 - 4 * place))
            )
            for name, place in PLACES.items()
        }
        prompt = f"What is question {number} about?"
        rows.append({"prompt": prompt, **texts})
        for a, b in combinations(PLACES, 2):
            merit = (len(texts[a]) - len(texts[b])) / 100 + PLACES[b] - PLACES[a] + random.gauss(0, 1.5)
            better, worse = (a, b) if merit > 0 else (b, a)
            verdicts.append({"prompt": prompt, "chosen": texts[better], "rejected": texts[worse]})
    store = Store(tmp_path / "families")
    file = jsonl(tmp_path / "answers.jsonl", rows)
    importing.import_responses(store, file, list(PLACES), "1.0.0")
    assignments = ("comparisons.pairing=all", 'comparisons.checks=["too_short", "unfinished"]')
    preset, sources = presets.load(assignments=assignments), {"responses": "responses@1.0.0"}
    return build.BuildRun(store, "1.0.0", preset, TransformersEngine(), sources), verdicts


def test_agreement_with_a_judge_is_what_a_short_script_counts(
    families: tuple[build.BuildRun, list[dict[str, object]]], tmp_path: Path
) -> None:
    run, verdicts = families
    judge = reviews.read(jsonl(tmp_path / "judge.jsonl", verdicts))
    preferred = {(str(v["chosen"]).strip(), str(v["rejected"]).strip()) for v in verdicts}
    outcomes = ablate(run, judge)
    for outcome in outcomes:
        assert outcome.manifest and outcome.agreement
        hits: list[tuple[int, bool]] = []
        for row in run.store.scan(outcome.manifest.ref).collect().iter_rows(named=True):
            chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
            hits.append((len(chosen) - len(rejected), (chosen, rejected) in preferred))
        longer, shorter = [hit for gap, hit in hits if gap > 0], [hit for gap, hit in hits if gap < 0]
        near = [hit for gap, hit in hits if abs(gap) <= 100]
        measured, balanced = outcome.agreement, [mean(part) for part in (longer, shorter) if part]
        assert (measured.plain.pairs, measured.ties) == (len(hits), None), "preferences hold no tie"
        assert measured.plain.value == pytest.approx(mean(hit for _, hit in hits))
        assert measured.near.value == pytest.approx(mean(near))
        assert measured.balanced.value == (pytest.approx(mean(balanced)) if len(balanced) == 2 else None)
        for share in (measured.plain, measured.balanced, measured.near):
            if share.value is not None:
                assert share.low is not None and share.high is not None
                assert share.low <= share.value <= share.high
    rows = judge_rows(outcomes)
    assert all(row[2] == "" for row in rows), "so there is no column of ties"
    assert all(len(row) == len(JUDGED) and row[3].startswith(f"{float(row[3][:4]):.1f}%") for row in rows)
    bare = outcomes[0].agreement
    assert bare and bare.balanced.value and bare.plain.value and bare.balanced.value < bare.plain.value


def test_no_cell_is_cut_and_no_gap_is_minus_zero(
    families: tuple[build.BuildRun, list[dict[str, object]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, verdicts = families
    judge = jsonl(tmp_path / "judge.jsonl", verdicts)
    words = ["--from", "responses@1.0.0", "--version", "1.0.0", "--reviews", judge]
    settings = ("comparisons.pairing=all", 'comparisons.checks=["too_short", "unfinished"]')
    words += [word for setting in settings for word in ("--set", setting)]
    for is_terminal in (False, True):
        monkeypatch.setattr(console, "_force_terminal", is_terminal)
        printed = command("ablate", *words, "--root", str(run.store.root)).stdout
        assert "…" not in printed and " ties" not in printed and re.search(r"\d% \(\d+-\d+\)", printed)
    outcome = ablate(run)[0]
    assert outcome.manifest
    outcome.manifest.diagnostics["text"]["length_gap"]["q50"] = -0.25
    assert filter_rows([outcome])[0][3] == "+0"


def test_verdicts_on_other_answers_are_counted(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "Why?", "responder": name, "response": f"So, by {name}."} for name in ("org/a", "b")]
    file = jsonl(tmp_path / "answers.jsonl", rows)
    importing.import_responses(store, file, ["a=org/a", "b"], "1.0.0")
    scores = {"score_a": 9, "score_b": "4,5"}
    pairs = [("org/a", "b"), ("b", "org/a"), ("b", "c"), ("a", "b")]
    judge = [{"prompt": "Why?", "responder_a": a, "responder_b": b, **scores} for a, b in pairs]
    verdicts = reviews.read(jsonl(tmp_path / "judge.jsonl", judge))
    used = matched(verdicts, store, "responses@1.0.0").rows
    assert used.select("a", "b", "gap").rows() == [("a", "b", 4.5), ("b", "a", 4.5), ("a", "b", 4.5)]
    words = ["--from", "responses@1.0.0", "--version", "1.0.0", "--reviews", str(tmp_path / "judge.jsonl")]
    cli.main(["ablate", *words, "--root", str(store.root)])
    assert "3 of 4 verdicts of" in capsys.readouterr().out
    texts = {"prompt": "Why?", "chosen": "So, by org/a.", "rejected": "So, by b."}
    judge = [texts, texts | {"rejected": "No."}, texts | {"rejected": "So, by org/a."}]
    words[-1] = jsonl(tmp_path / "texts.jsonl", judge)
    cli.main(["ablate", *words, "--root", str(store.root)])
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 verdicts of" in printed and "rows without a verdict: equal_sides 1." in printed


def test_a_judge_of_other_answers_is_refused(run: build.BuildRun) -> None:
    rows = pl.DataFrame({"query_id": ["0" * 16], "a": ["A"], "b": ["B"], "gap": [1.0]})
    with pytest.raises(InputError, match=r"run.reviews: none of the 1 verdicts is on two responses"):
        ablate(run, Verdicts(rows, "responder"))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("r.txt", "prompt", "plain text, without columns"),
        ("r.jsonl", "nonsense", "1: broken JSON"),
        ("r.jsonl", '{"prompt": "q"}', "no layout of preferences has its columns"),
        (
            "r.jsonl",
            '{"prompt": "q", "responder_a": "a", "responder_b": "b", "score_a": "x", "score_b": 1}',
            "1: score_a and score_b must be numbers",
        ),
        (
            "r.csv",
            "prompt,responder_a,responder_b,score_a,score_b\nq,a,b,nan,3\n",
            "2: score_a and score_b must be",
        ),
        (
            "r.csv",
            "prompt,responder_a,responder_b,score_a,score_b\nq,a,b,inf,inf\n",
            "2: score_a and score_b must be",
        ),
        ("r.parquet", "PAR1", "cannot be read"),
    ],
)
def test_bad_reviews_are_refused_in_a_line(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=why) as error:
        reviews.read(str(tmp_path / name))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        reviews.read(str(tmp_path / "gone.jsonl"))


def test_the_command_prints_a_line_for_each_variant(
    run: build.BuildRun, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--from", "responses@0.1.0", "--version", "2.0.0", "--root", str(run.store.root)]
    where += ["--set", 'comparisons.checks=["dont_know"]']
    cli.main(["ablate", *where])
    printed = capsys.readouterr().out
    assert "heuristic only" in printed
    assert "without dont_know" in printed
    assert "agreed" not in printed, "there are no ratings"
    cli.main(["ablate", *where, "--json"])
    numbers = json.loads(capsys.readouterr().out)
    assert [row["comparisons"] for row in numbers] and numbers[0]["variant"] == "no filter"


def test_with_ratings_the_labels_are_set_side_by_side(
    run: build.BuildRun, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--from", "responses@0.1.0", "--version", "2.0.0", "--root", str(run.store.root)]
    cli.main(["build", "ratings", *where, "--engine", "fake", "--judge", "fake/judge"])
    capsys.readouterr()
    checks = ["--set", 'comparisons.checks=["dont_know"]', "--set", "comparisons.pairing=all"]
    cli.main(["ablate", *where, *checks, "--ratings", "ratings@2.0.0", "--json"])
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)}
    kept = {name: row["comparisons"] for name, row in rows.items()}
    assert kept["no filter"] >= kept["heuristic only"] > kept["both"] > 0
    assert kept["label by ratings"] > kept["both"]
    read = [
        [parent.ref.partition("@")[0] for parent in run.store.manifest(rows[name]["ref"]).parents]
        for name in ("no filter", "label by ratings")
    ]
    assert read == [["responses"], ["responses", "ratings"]]


def test_only_the_columns_of_a_review_are_read(tmp_path: Path) -> None:
    """Another column may hold what Python cannot, such as the year 148108."""
    table = pa.Table.from_pylist([review("Why?", "a", "b", 9, 3)])
    table = table.append_column("asked_at", pa.array([2**62], pa.timestamp("us")))
    pq.write_table(table, tmp_path / "reviews.parquet")
    assert reviews.read(str(tmp_path / "reviews.parquet")).rows["gap"].to_list() == [6.0]


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
    jsonl(tmp_path / "answers.jsonl", rows)
    measured = [
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
    jsonl(tmp_path / "reviews.jsonl", measured)
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
    outcomes = {
        o.variant.name: o.agreement for o in ablate(run, reviews.read(str(tmp_path / "reviews.jsonl")))
    }
    none, heuristic = outcomes["no-filter"], outcomes["heuristic"]
    assert none and heuristic
    assert none.plain.pairs + (none.ties or 0) == 398  # of 400, one answer of 400 is empty
    assert (heuristic.plain.value or 0) > (none.plain.value or 1)


def _rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
