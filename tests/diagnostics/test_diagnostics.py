"""What the diagnostics say of sets whose truth is known, of hostile ones, and of benchmarks' files."""

import csv
import hashlib
import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt

from almost_data.cards import card, figures
from almost_data.datasets import digest
from almost_data.datasets.manifest import canonical_json
from almost_data.diagnostics import contamination as contamination_
from almost_data.diagnostics import shortcuts as diagnostics
from almost_data.diagnostics.contamination import COMMON, contamination
from almost_data.diagnostics.overlap import near_twins
from almost_data.diagnostics.probe import STRENGTHS, fit_weights, tuned_weights
from almost_data.diagnostics.rules import RULES, findings
from almost_data.diagnostics.shortcuts import diagnose, sampled_queries
from almost_data.errors import InputError
from almost_data.readers import benchmark_file
from almost_data.store.store import Store
from tests.schema import builder

WORDS = "time way year work government day man world life part house course case system place end".split()
HOSTILE = [
    "",
    " ",
    "\x00\x1b[31m",
    "\U0001f600" * 9,
    '"“`|<b>',
    "x" * 100_000,
    "a b " * 25_000,
    "ß\u202e\n\n",
]


@pytest.fixture(autouse=True)
def tuned_surface_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("almost_data.diagnostics.probe.tuned_weights", tuned_weights)


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize() + "."


def pair_frame(chosen: list[str], rejected: list[str], per_query: int = 2) -> pl.DataFrame:
    rows = range(len(chosen))
    ids = [hashlib.sha256(str(row // per_query).encode()).hexdigest()[:16] for row in rows]
    return pl.DataFrame(
        {
            "comparison_id": [f"{query}-{row}" for row, query in zip(rows, ids, strict=True)],
            "query_id": ids,
            "prompt": [f"Question {query}?" for query in ids],
            "chosen": chosen,
            "rejected": rejected,
            "chosen_responder": [("best", "middle")[row % 2] for row in rows],
            "rejected_responder": ["worst" for _ in rows],
        },
        schema_overrides=dict.fromkeys(
            ("comparison_id", "query_id", "prompt", "chosen", "rejected"), pl.String
        ),
    )


def random_pairs(rows: int, seed: int = 0) -> pl.DataFrame:
    """Both sides from the same distribution."""
    rng = random.Random(seed)
    texts = [sentence(rng, rng.randint(3, 40)) for _ in range(2 * rows)]
    return pair_frame(texts[:rows], texts[rows:])


def swapped(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.rename({"chosen": "rejected", "rejected": "chosen"}).select(pairs.columns)


def level(result: dict[str, Any], rule: str) -> str:
    return next(str(finding["level"]) for finding in result["findings"] if finding["name"] == rule)


def test_where_chosen_is_always_longer_length_tells_all() -> None:
    pairs = random_pairs(300)
    longer = pairs.with_columns(chosen=pl.col("rejected") + " And there is more to say of it.")
    result = diagnose(longer)
    assert (
        result["always_longer"] == result["share_chosen_longer"] == 1.0 and result["share_equal_length"] == 0
    )
    assert result["probe"]["accuracy"] > 0.98 and result["probe"]["high"] == pytest.approx(1, abs=0.01)
    assert result["length_gap"]["q05"] == result["length_gap"]["q95"] == 32
    assert level(result, "always_longer") == level(result, "surface_model") == "worry"
    assert level(result, "surface_beyond_length") == "fine"
    for pair in result["responder_pairs"]:
        assert pair["rows"] == 150 and pair["always_longer"] == 1.0 and pair["probe"] > 0.97


def test_labels_by_chance_tell_nothing() -> None:
    result = diagnose(random_pairs(1500))
    assert result["probe"]["low"] <= 0.5 <= result["probe"]["high"]
    assert 0.04 < result["probe"]["high"] - result["probe"]["low"] < 0.06
    assert abs(result["always_longer"] - 0.5) < 0.03
    assert level(result, "surface_model") == level(result, "always_longer") == "fine"


def two_thirds_longer(rows: int, seed: int = 0) -> pl.DataFrame:
    """Sides of which the longer one is chosen two times in three; nothing else tells them apart."""
    rng = random.Random(seed)
    sides = []
    for _ in range(rows):
        texts = sorted((sentence(rng, rng.randint(3, 40)) for _ in range(2)), key=len)
        sides.append(texts if rng.random() < 1 / 3 else texts[::-1])
    return pair_frame([chosen for chosen, _ in sides], [rejected for _, rejected in sides])


def test_length_is_form_and_the_model_does_not_lose_it() -> None:
    for pairs in (two_thirds_longer(800), swapped(two_thirds_longer(800))):
        result = diagnose(pairs)
        by_length = max(result["always_longer"], 1 - result["always_longer"])
        assert result["probe"]["accuracy"] > by_length - 0.02
        assert result["probe"]["features"][0]["feature"] == "longer in characters"
        assert level(result, "surface_model") == level(result, "always_longer") == "watch"
        assert not any("coin" in finding["sentence"] for finding in result["findings"])
        assert level(result, "surface_beyond_length") == "fine"


@pytest.mark.parametrize(("rows", "verdict"), [(1, "fine"), (2, "fine"), (60, "worry")])
def test_a_few_comparisons_raise_no_alarm_on_length(rows: int, verdict: str) -> None:
    longer = random_pairs(rows).with_columns(chosen=pl.col("rejected") + " And there is more to say of it.")
    result = diagnose(longer)
    assert result["always_longer"] == 1.0 and level(result, "always_longer") == verdict
    sentence = next(row["sentence"] for row in result["findings"] if row["name"] == "always_longer")
    assert sentence.startswith("These are too few") == (verdict == "fine")


@pytest.mark.parametrize(
    ("accuracy", "low", "longer", "form", "beyond"),
    [
        (0.63, 0.594, 0.667, "Form, length included, tells part", "length alone does better"),
        (0.52, 0.49, 0.65, "Form, length included, tells part", "length alone does better"),
        (0.52, 0.49, 0.28, "Form, length included, gives most", "length alone does better"),
        (0.56, 0.52, 0.55, "tells a little of the label", "adds little to length"),
        (0.52, 0.49, 0.52, "no better than a coin", "adds little to length"),
        (0.45, 0.42, 0.52, "wrong more often than right", "length alone does better"),
        (0.85, 0.82, 0.71, "Form, length included, gives most", "More than length shows"),
    ],
)
def test_verdicts_on_form(accuracy: float, low: float, longer: float, form: str, beyond: str) -> None:
    result = diagnose(random_pairs(60))
    result["probe"] = {"accuracy": accuracy, "low": low, "high": 2 * accuracy - low}
    sentences = {
        finding["measure"]: finding["sentence"] for finding in findings(result | {"always_longer": longer})
    }
    assert (
        form in sentences[RULES["surface_model"].measure]
        and beyond in sentences[RULES["surface_beyond_length"].measure]
    )


def test_a_rare_feature_is_not_named_and_a_very_rare_one_not_learnt() -> None:
    pairs = two_thirds_longer(1000)
    where, first = pl.int_range(1000), pl.col("chosen").str.to_lowercase()
    for rows, is_measured in ((15, False), (30, False), (100, True)):
        started = pairs.with_columns(
            chosen=pl.when(where % (1000 // rows) == 0).then("Try, " + first).otherwise("chosen")
        )
        features = {feature["feature"]: feature for feature in diagnose(started)["probe"]["features"]}
        assert ('starts with "Try"' in features) == is_measured
        assert all(feature["differs"] >= 0.05 for feature in features.values())


def test_real_answers_by_models_are_told_apart_by_more_than_length(shared: Path) -> None:
    folder = shared / "fastchat_vicuna80" / "answer"
    better, worse = (
        {row["question_id"]: row["text"] for row in map(json.loads, file.read_text("utf-8").splitlines())}
        for file in (folder / "answer_vicuna-13b.jsonl", folder / "answer_llama-13b.jsonl")
    )
    result = diagnose(pair_frame([better[n] for n in sorted(better)], [worse[n] for n in sorted(better)], 1))
    by_length = max(result["always_longer"], 1 - result["always_longer"])
    assert result["probe"]["accuracy"] >= by_length and level(result, "surface_model") == "worry"


def test_a_planted_first_word_is_the_strongest_feature() -> None:
    pairs = random_pairs(400).with_columns(chosen=pl.lit("Sure, ") + pl.col("chosen").str.to_lowercase())
    pairs = pairs.with_columns(rejected=pl.lit("Then, ") + pl.col("rejected").str.to_lowercase())
    result = diagnose(pairs)
    first, second = result["probe"]["features"][:2]
    assert {first["feature"], second["feature"]} == {'starts with "Sure"', 'starts with "Then"'}
    by_name = {feature["feature"]: feature["more_in_chosen"] for feature in (first, second)}
    assert by_name == {'starts with "Sure"': 1.0, 'starts with "Then"': 0.0}
    assert first["differs"] == 1.0 and first["weight"] * second["weight"] < 0
    assert result["probe"]["accuracy"] == 1.0 and level(result, "surface_beyond_length") == "watch"


def test_the_share_of_a_feature_is_the_plain_one_where_its_weight_corrects_another() -> None:
    """Longer wins, and of replies of one length the one with fewer commas; longer ones have more commas."""
    rng = random.Random(3)

    def reply() -> tuple[float, str]:
        words = rng.randint(20, 60)
        commas = words // 4 + rng.randint(0, 3)
        return words / 4 - 0.6 * commas, " ".join(["ab,"] * commas + ["ab"] * (words - commas))

    ranked = [sorted([reply(), reply()], reverse=True) for _ in range(1_000)]
    pairs = random_pairs(1_000).with_columns(
        chosen=pl.Series([best for (_, best), _ in ranked]),
        rejected=pl.Series([worst for _, (_, worst) in ranked]),
    )
    features = {feature["feature"]: feature for feature in diagnose(pairs)["probe"]["features"]}
    assert features["more commas"]["weight"] < 0 and features["more commas"]["more_in_chosen"] > 0.7


def test_a_mirror_has_the_mirrored_numbers() -> None:
    pairs = random_pairs(400).with_columns(
        pl.when(pl.int_range(400) % 3 > 0).then("chosen").otherwise("rejected")
    )
    pairs = pairs.with_columns(chosen=pl.col("chosen") + " Yes!")
    plain, mirror_result = diagnose(pairs), diagnose(swapped(pairs))
    assert mirror_result["always_longer"] == pytest.approx(1 - plain["always_longer"])
    assert mirror_result["length_gap"]["q05"] == pytest.approx(-plain["length_gap"]["q95"])
    assert mirror_result["probe"]["accuracy"] == pytest.approx(plain["probe"]["accuracy"])
    mirrored = {f["feature"]: -f["weight"] for f in mirror_result["probe"]["features"]}
    assert mirrored == pytest.approx(
        {f["feature"]: f["weight"] for f in plain["probe"]["features"]}, abs=1e-4
    )


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("noise", [0.0, 3.0], ids=["separable", "noisy"])
def test_the_weights_are_where_the_penalised_loss_is_least(noise: float, strength: float) -> None:
    """The slope of the loss is 0 there, by its definition: rows in both orders, and weights in units."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 4)) * (5.0, 1.0, 0.2, 0.0)
    rows *= np.sign(rows @ (1.0, 1.0, 1.0, 1.0) + noise * rng.normal(size=300))[:, None]
    freedom, spread = np.array([30.0, 1.0, 1.0, 1.0]), np.sqrt((rows**2).mean(axis=0))
    weights = fit_weights(rows, freedom, strength)
    slope = -2 * rows.T @ (1 / (1 + np.exp(rows @ weights))) + weights * spread**2 / freedom**2 / strength
    assert np.abs(slope).max() < 1e-5 * np.abs(rows).sum()
    assert weights[3] == 0.0


def test_a_null_reply_is_refused_by_the_probe() -> None:
    pairs = random_pairs(100)
    replies = [None, *pairs["rejected"][1:]]
    with pytest.raises(ValueError, match="not finite: is a reply null"):
        diagnose(pairs.with_columns(rejected=pl.Series(replies, dtype=pl.String)))


def test_the_order_of_rows_does_not_matter_and_the_result_is_json() -> None:
    pairs = random_pairs(300)
    result = diagnose(pairs)
    assert result == diagnose(pairs.sample(fraction=1, shuffle=True, seed=3))
    assert json.loads(canonical_json(result)) == result
    json.dumps(result, allow_nan=False)
    assert result["rows"] == 300 and result["queries"] == 150
    assert diagnose(pairs, seed=1)["prompts"] == result["prompts"]
    assert diagnose(pairs.drop("chosen_responder", "rejected_responder"))["responder_pairs"] == []


def test_too_little_to_fit_is_said() -> None:
    for pairs in (
        random_pairs(1),
        random_pairs(49),
        random_pairs(60).with_columns(query_id=pl.lit("0" * 16)),
        random_pairs(0),
    ):
        result = diagnose(pairs)
        assert (
            result["probe"]["accuracy"] is None
            and "50 comparisons on 10 queries" in result["probe"]["reason"]
        )
        assert len(result["findings"]) == (8 if len(pairs) else 0)
    same = diagnose(pair_frame(["Same text."] * 80, ["Same text."] * 80))
    assert "needs a feature in which the sides of 20 comparisons differ" in same["probe"]["reason"]
    assert same["equal_sides"] == 80 and same["always_longer"] == 0.5 and same["share_equal_length"] == 1
    assert level(same, "equal_sides") == level(same, "stock_answer") == "worry"
    assert same["responses"]["most_frequent"] == [{"text": "Same text.", "queries": 40, "chosen": 0.5}]


def test_hostile_texts() -> None:
    rng = random.Random(0)
    texts = [rng.choice(HOSTILE) + rng.choice(HOSTILE[:5]) for _ in range(240)]
    result = diagnose(pair_frame(texts[:120], texts[120:]).with_columns(prompt=pl.col("chosen")))
    json.dumps(result, allow_nan=False)
    stripped = [text.strip() for text in texts]
    assert result["empty_sides"] == sum(
        "" in pair for pair in zip(stripped[:120], stripped[120:], strict=True)
    )
    assert result["equal_sides"] == sum(a == b for a, b in zip(texts[:120], texts[120:], strict=True))
    for feature in result["probe"]["features"]:
        assert re.fullmatch(r'[\w -]+|starts with "\w{1,20}"', feature["feature"])


def test_histogram_counts_every_comparison_and_parts_at_zero() -> None:
    for pairs in (
        random_pairs(1),
        random_pairs(999),
        pair_frame(["a"] * 9, ["b"] * 9),
        pair_frame(["a" * 5000, "b"], ["c", "d"]),
    ):
        gap = pairs["chosen"].str.len_chars().cast(pl.Int64) - pairs["rejected"].str.len_chars()
        histogram = diagnose(pairs)["length_gap"]["histogram"]
        edges = [histogram["start"] + i * histogram["width"] for i in range(len(histogram["counts"]) + 1)]
        assert 0 in edges and len(edges) <= diagnostics.BINS + 3
        assert histogram["below"] + histogram["above"] + sum(histogram["counts"]) == len(pairs)
        assert histogram["below"] + sum(histogram["counts"][: edges.index(0)]) == (gap < 0).sum()


def test_pairs_per_query() -> None:
    pairs = pl.concat([random_pairs(10), random_pairs(13).with_columns(query_id=pl.lit("f" * 16))])
    assert diagnose(pairs)["pairs_per_query"] == {"mean": 23 / 6, "queries": {"2": 5, "10+": 1}}


def test_a_sample_is_of_whole_queries_and_apart_from_the_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(4000)]
    counts = pl.DataFrame({"query_id": ids, "pairs": [1 + number % 7 for number in range(4000)]})
    sampled_ids = sampled_queries(counts, 8000)
    assert set(sampled_ids) == set(sampled_queries(counts.sample(fraction=1, shuffle=True, seed=1), 8000))
    assert set(sampled_ids) != set(sampled_queries(counts, 8000, seed=1))
    sampled = counts.filter(pl.col("query_id").is_in(sampled_ids.to_list()))
    assert 7990 <= sampled["pairs"].sum() <= 8000
    share = len(digest.splits(sampled)["test"]) / len(sampled)
    assert abs(share - len(digest.splits(counts)["test"]) / len(counts)) < 0.012
    assert len(sampled_queries(counts, 10**6)) == 4000 and len(sampled_queries(counts, 0)) == 1
    monkeypatch.setattr(diagnostics, "SAMPLE", 100)
    pairs = random_pairs(300)
    result = diagnose(pairs)
    assert (result["rows"], result["queries"]) == (100, 50)
    assert result == diagnose(pairs.reverse())


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    n = 3 if len(words) >= 5 else 1
    return {(str(n), *words[i : i + n]) for i in range(len(words) - n + 1)}


def test_near_twins_are_those_of_brute_force() -> None:
    rng = random.Random(5)
    texts = [sentence(rng, rng.randint(1, 40)) for _ in range(120)]
    for text in list(texts):
        words = text.split()
        words[rng.randrange(len(words))] = "changed"
        texts += [" ".join(words), text.upper() if rng.random() < 0.3 else text + " " + sentence(rng, 2)]
    texts += ["", "!?", "\U0001f600", "one two", "two one", "Two  one!"]
    texts = sorted(set(texts))
    parts = [shingles(text) for text in texts]
    folded = [" ".join(text.lower().split()) for text in texts]
    group = list(range(len(texts)))
    for i, part in enumerate(parts):
        for j in range(i):
            near = part and len(part & parts[j]) / max(1, len(part | parts[j])) >= 0.8
            if near or folded[i] == folded[j]:
                group = [group[i] if number == group[j] else number for number in group]
    sizes = [group.count(number) for number in group]
    twins = near_twins(pl.Series(texts).sample(fraction=1, shuffle=True, seed=2))
    assert twins["texts"] == len(texts) and twins["same_when_folded"] == sum(
        folded.count(text) > 1 for text in folded
    )
    assert twins["with_a_near_twin"] == sum(size > 1 for size in sizes) > 50
    assert twins["largest_cluster"] == max(sizes)


def test_many_near_identical_texts_are_no_explosion() -> None:
    base = sentence(random.Random(0), 40)
    twins = near_twins(pl.Series([f"{base} {number}" for number in range(50_000)]))
    assert twins["with_a_near_twin"] == twins["largest_cluster"] == 50_000
    again = near_twins(pl.Series([f"{base}{' ' * number}" for number in range(500)]))
    assert again["same_when_folded"] == again["largest_cluster"] == 500
    assert near_twins(pl.Series([], dtype=pl.String))["texts"] == 0


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    if 4 <= len(words) < 8:
        return {tuple(words)}
    return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}


def test_contamination_is_that_of_a_plain_reading() -> None:
    rng = random.Random(2)
    prompts = [sentence(rng, rng.randint(1, 20)) for _ in range(300)] + ["", "?!", "Why is the sky blue"]
    cut = [" ".join(text.split()[: rng.randint(3, 20)]).upper() + "?" for text in prompts[:60]]
    benchmarks = {
        "some": [*cut, "why is the SKY blue?", "why is the sky", "", *(sentence(rng, 9) for _ in range(40))],
        "none": ["Nothing of this is here at all, not one run of it."],
        "empty": [],
    }
    frame = pl.DataFrame({"query_id": [f"{i:016x}" for i in range(len(prompts))], "prompt": prompts})
    by_benchmark = {row["benchmark"]: row for row in contamination(frame, benchmarks)}
    assert list(by_benchmark) == sorted(benchmarks)
    for name, theirs in benchmarks.items():
        ours = [runs(text) for text in prompts]
        run_lists = [runs(text) for text in theirs]
        pairs = [
            (i, j)
            for i, row in enumerate(ours)
            for j, two in enumerate(run_lists)
            if two and len(row & two) >= len(two) / 2
        ]
        hit = [frame["query_id"][i] for i in sorted({i for i, _ in pairs})]
        assert by_benchmark[name]["prompts"] == len(theirs) and by_benchmark[name]["queries"] == len(prompts)
        assert by_benchmark[name]["compared"] == sum(bool(row) for row in run_lists)
        assert by_benchmark[name]["overlapping_prompts"] == len({j for _, j in pairs})
        assert by_benchmark[name]["overlapping_queries"] == len(hit)
        assert by_benchmark[name]["query_ids"] == sorted(hit)[:5]
        assert by_benchmark[name]["level"] == ("worry" if hit else "fine")
    assert by_benchmark["some"]["overlapping_queries"] > 30
    assert "sky" not in json.dumps(list(by_benchmark.values())).lower(), "no text of a benchmark leaves it"
    assert contamination(frame, {}) == []
    assert contamination(frame.clear(), benchmarks)[0]["overlapping_queries"] == 0


def templated(n: int, group: int, rng: random.Random) -> list[str]:
    """Texts of which every `group` share half of their words, and so half of their runs and more."""
    template = ""
    texts = []
    for number in range(n):
        if number % group == 0:
            template = sentence(rng, 24)
        texts.append(f"{template} {sentence(rng, 16)}")
    return texts


@pytest.mark.parametrize("group", [10**9, COMMON])
def test_a_template_is_no_prompt_and_parts_change_nothing(
    group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, rng = 500, random.Random(1)
    texts = templated(2 * n, group, rng)
    rng.shuffle(texts)
    theirs, ours = texts[:n], [*texts[n:], texts[0]]
    frame = pl.DataFrame({"query_id": [f"{i:016x}" for i in range(len(ours))], "prompt": ours})
    [overlap] = contamination(frame, {"b": theirs})
    assert overlap["compared"] == n
    if group > n:
        # Who has the template alone has no prompt of the benchmark.
        assert (overlap["overlapping_prompts"], overlap["overlapping_queries"]) == (1, 1)
    monkeypatch.setattr(contamination_, "CANDIDATES", 3)
    assert contamination(frame, {"b": theirs}) == [overlap]


def test_the_same_prompt_many_times_is_no_template() -> None:
    prompt = sentence(random.Random(3), 12)
    frame = pl.DataFrame({"query_id": ["0" * 16], "prompt": [f"Please: {prompt}"]})
    theirs = [prompt, *(prompt.upper() + "!" * number for number in range(3 * COMMON))]
    [overlap] = contamination(frame, {"b": theirs})
    assert overlap["compared"] == overlap["overlapping_prompts"] == len(theirs)


def parquet(**columns: list[str]) -> bytes:
    pl.DataFrame(columns).write_parquet(file := io.BytesIO())
    return file.getvalue()


def benchmark_files(folder: Path) -> Iterator[Path]:
    """Files of each format that hold the prompts `A “b”, c` and `second`."""
    turns = [{"role": "system", "content": "be"}, {"role": "user", "content": "second"}]
    rows: list[dict[str, Any]] = [{"text": "no", "question": "A “b”, c"}, {"prompt": "", "query": "second "}]
    (file := folder / "a.txt").write_text("A “b”, c\n\n second\r\n", "utf-8-sig")
    yield file
    (file := folder / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)), "utf-8")
    yield file
    (file := folder / "b.jsonl").write_text(
        '{"prompt": "A “b”, c"}\n' + json.dumps({"messages": turns}), "utf-8"
    )
    yield file
    (file := folder / "a.json").write_text(json.dumps(["A “b”, c", {"prompt": turns}]), "utf-8")
    yield file
    (file := folder / "a.csv").write_text('id,question\r\n1,"A “b”, c"\r\n2,second\r\n', "utf-8-sig")
    yield file
    (file := folder / "b.csv").write_text('Type,Question\nx,"A “b”, c"\ny,second\n', "utf-8")
    yield file
    (file := folder / "c.jsonl").write_text('{"Prompt": "A “b”, c"}\n{"PROMPT": "second"}', "utf-8")
    yield file
    (file := folder / "b.json").write_text(json.dumps([{"Query": "A “b”, c"}, {"Input": "second"}]), "utf-8")
    yield file
    pl.DataFrame({"Text": ["A “b”, c", "second"]}).write_parquet(file := folder / "c.parquet")
    yield file
    pl.DataFrame({"n": [1, 2], "input": ["A “b”, c", "second"]}).write_parquet(file := folder / "a.parquet")
    yield file
    two = [[{"role": "user", "content": "A “b”, c"}], [{"role": "user", "content": "second"}]]
    pl.DataFrame({"prompt": two}).write_parquet(file := folder / "b.parquet")
    yield file


def test_a_benchmark_is_read_from_every_format(tmp_path: Path) -> None:
    for file in benchmark_files(tmp_path):
        assert benchmark_file.read_prompts(str(file)) == ["A “b”, c", "second"], file
        assert benchmark_file.sha256(str(file)) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_long_field_of_csv_is_read_and_the_limit_stays(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    (file := tmp_path / "long.csv").write_text("Prompt\n" + "x" * 300_000 + "\nshort\n")
    assert [len(text) for text in benchmark_file.read_prompts(str(file))] == [300_000, 5]
    file.write_text('prompt\n"a')
    with pytest.raises(InputError):
        benchmark_file.read_prompts(str(file))
    assert csv.field_size_limit() == usual


def test_truthfulqa_as_it_is_published(shared: Path) -> None:
    prompts = benchmark_file.read_prompts(str(shared / "truthfulqa" / "TruthfulQA.csv"))
    assert len(prompts) > 700 and all(len(text) > 5 for text in prompts)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.txt", None, "no such file"),
        (
            "a.xlsx",
            b"x",
            "cannot tell its format: save it as one of .txt, .jsonl, .ndjson, .json, .csv, .tsv",
        ),
        ("a.txt", b"\n \n", "no prompt in it"),
        ("a.txt", b"fine\n\xff\n", ":2: not UTF-8 text"),
        ("a.jsonl", b'{"prompt": "a"}\n[1]', ":2: not a JSON object"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"', ":2: broken JSON"),
        ("a.jsonl", b'{"answer": "a"}', ":1: no column for the prompt: name it one of prompt, question"),
        ("a.jsonl", b'{"prompt": 3}', ":1: prompt must be text or a list"),
        ("a.jsonl", b'{"prompt": ["a"]}', ":1: prompt must be text or a list"),
        ("a.jsonl", b'{"prompt": ' + b"[" * 100_000, ":1: JSON that is nested too deep"),
        ("a.json", b"{}", ":1: no column for the prompt"),
        ("a.json", b"[\xff", "not UTF-8 text"),
        ("a.csv", b"prompt\n\xff", ":2: not UTF-8 text"),
        ("a.csv", b'prompt\n"a', ":2: broken CSV"),
        ("a.csv", b"answer\nb\n", ":2: no column for the prompt"),
        ("a.csv", b"prompt\n" + b"x" * 200_000 + b'\n"a', ":3: broken CSV"),
        ("a.csv", b"answer\nb,c\n", ":2: 2 cells under 1 column names"),
        ("a.parquet", b"PAR1", "cannot be read as Parquet"),
        ("a.parquet", parquet(answer=["a"]), ": no column for the prompt"),
    ],
)
def test_a_broken_benchmark_is_refused(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as error:
        benchmark_file.read_prompts(str(tmp_path / name))
    assert message in str(error.value) and str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_the_card_says_what_was_found(fake_store: Store) -> None:
    manifest = fake_store.manifest("comparisons@0.1.0")
    tables = {c: fake_store.scan(manifest.ref, c).collect() for c in fake_store.configs(manifest.ref)}
    pairs = random_pairs(200).with_columns(chosen=pl.lit("Sure <b> | ") + pl.col("rejected"))
    repeated = pairs.with_columns(rejected=pl.lit("A </td> | stock *answer*"))
    prompts = pairs.select("query_id", "prompt").with_columns(
        prompt=pl.lit("The same run of words as in there")
    )
    base = {key: value for key, value in manifest.diagnostics.items() if key not in ("text", "contamination")}

    def section(**values: Any) -> str:
        changed = msgspec.structs.replace(manifest, diagnostics=base | values)
        paths = list(figures.as_files(builder("comparisons").figures(changed, tables)))
        text = card.render(builder("comparisons"), changed, tables, paths, fake_store.ancestors(manifest))
        return text.split("## What to watch")[1].split("\n## ")[0]

    assert "shortcut" not in section() and "benchmark" not in section()
    text = diagnose(repeated)
    text_section = section(text=text)
    for finding in text["findings"]:
        assert f"| {finding['value']} |" in text_section
    assert "`comparisons.benchmarks`" in text_section and "](plots/length_gap.png)" in text_section
    assert "200 of" not in text_section or "seeded sample" in text_section
    assert '`starts with "Sure"`' in text_section and "</td>" not in re.sub(r"`[^`]*`", "", text_section)
    named = contamination(prompts, {"<i>.jsonl": ["the same run of words as in there, secret"]})
    text_section = section(text=text, contamination=named)
    assert "`<i>.jsonl`" in text_section and named[0]["query_ids"][0] in text_section
    assert (
        "**worry**" in text_section
        and "secret" not in text_section
        and "were not searched" not in text_section
    )
    hostile = ["[x](http:y)", "a|b", "`<b>`|", "</td>\n\n# H\n", "![i](j)", "<script>", "\u202e``", "*e* \\|"]
    named = contamination(prompts, {name: ["one that is not in there"] for name in hostile})
    text_section = section(text=text, contamination=named)
    tokens = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .parse(re.sub(r"</?details>|<summary>[^<]*</summary>", "", text_section))
    )
    inside = [child for token in tokens for child in token.children or []]
    assert not any("html" in finding.type or finding.type == "link_open" for finding in [*tokens, *inside])
    assert {finding.attrs["src"] for finding in inside if finding.type == "image"} <= set(
        re.findall(r"plots/[a-z_]+\.png", text_section)
    )
    assert text_section.count("![") == 3 + 1  # one of them in code
    assert not any(finding.type == "heading_open" and finding.tag == "h1" for finding in tokens)
    table = text_section.split("for prompts of these benchmarks")[1].split("\n\n")[1]
    rows = MarkdownIt("commonmark").enable("table").parse(table)
    cells = [finding.children or [] for finding in rows if finding.type == "inline"]
    assert len(cells) == 9 * (1 + len(hostile))
    assert all([child.type for child in name] == ["code_inline"] for name in cells[9::9])


def test_every_number_has_a_sentence() -> None:
    for rule in RULES.values():
        bounds = [least for least, _, _ in rule.steps]
        assert bounds == sorted(bounds, reverse=True) and {level for _, level, _ in rule.steps} <= {
            "fine",
            "watch",
            "worry",
        }
        assert all(words.endswith(".") and len(words) < 130 for _, _, words in rule.steps)
        assert all("--" not in words or "build filtered --" in words for _, _, words in rule.steps)
