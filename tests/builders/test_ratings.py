"""Ratings of responses: by a reward model, by a judge one at a time, and by a judge in both orders."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.builders.ratings import builder
from almost_data.datasets.builder import NothingLeft
from almost_data.datasets.digest import ranges
from almost_data.datasets.manifest import Manifest, canonical_json
from almost_data.errors import InputError
from almost_data.generation import Reply, Request
from almost_data.generation.fake import FakeEngine
from almost_data.run import importing
from almost_data.run.build import prepare
from almost_data.scoring import Dialogue, Score, verdicts
from almost_data.scoring.baselines import FunctionScorer
from almost_data.store.samples import Selection, sample
from almost_data.store.store import Store
from almost_data.store.verify import verify
from almost_data.viewer.rows import note_text
from tests import tiny_models, trained
from tests.command import run as run_command
from tests.jsonl import jsonl

MODELS = ("large", "middle", "small")
QUERIES = 8
HOSTILE = "\x1b[31m<script>alert(1)</script> | `x` ![i](http://e.example/i.png)\n## Heading\n$answer_1"


class Judge(FakeEngine):
    """Answers by a function of the responses in a request; counts what it was asked."""

    def __init__(self, verdict: Callable[..., str]) -> None:
        self.verdict, self.requests = verdict, 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            self.requests += 1
            text = request.messages[-1]["content"]
            fences = re.findall(r"\[(\w+): answer[ 12]* begins\]\n(.*?)\n\[\1: answer", text, re.DOTALL)
            reply = self.verdict(*(answer for _, answer in fences))
            if reply == "fail":
                yield Reply.failed(request.id, "no answer")
            else:
                cut = reply == "cut"
                yield Reply(request.id, reply, "length" if cut else "stop", 9, 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Responses of three models, the longest of the best one; the first prompt has several turns."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"What of {n}?"}
        | {model: f"{model} says of {n}" + " more" * (3 - rank) for rank, model in enumerate(MODELS)}
        for n in range(QUERIES)
    ]
    earlier = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello."}]
    rows[0]["prompt"] = [*earlier, {"role": "user", "content": "What of 0?"}]
    file = tmp_path / "answers.jsonl"
    jsonl(file, rows)
    store = Store(tmp_path / "build")
    importing.import_responses(store, str(file), list(MODELS), "1.0.0")
    return store


def rate(store: Store, engine: FakeEngine | None = None, *settings: str, version: str = "1.0.0") -> Manifest:
    run = prepare(
        root=store.root,
        version=version,
        assignments=[f"ratings.{setting}" for setting in settings],
        sources=["responses@1.0.0"],
        max_failures=0.5,
    )
    return replace(run, generator=engine or FakeEngine()).build("ratings")[-1].manifest


def by_length(*responses: str) -> str:
    scores = " ".join(str(min(10, len(response) / 4)) for response in responses)
    return f"Longer is better.\n\nScore{'s' * (len(responses) > 1)}: {scores}"


def rows(store: Store, manifest: Manifest, config: str = "default") -> pl.DataFrame:
    return store.scan(manifest.ref, config).collect()


def test_a_judge_scores_each_response_and_says_why(store: Store) -> None:
    judge = Judge(by_length)
    manifest = rate(store, judge, "judge=j")
    ratings = rows(store, manifest)
    assert judge.requests == len(ratings) == QUERIES * 3 and verify(store, manifest.ref) == []
    assert (ratings["rating"] == ratings["response"].str.len_chars() / 4).all()
    assert ratings["explanation"].unique().to_list() == ["Longer is better."]
    assert ratings.select("rater", "rater_revision").unique().rows() == [("fake/j", "1")]
    diagnostics = manifest.diagnostics
    assert diagnostics["ladder_agreement_share"] == diagnostics["longer_rated_higher_share"] == 1.0
    assert [row["responder"] for row in diagnostics["responders"]] == list(MODELS)
    assert rate(store, judge, "judge=j").digest == manifest.digest and judge.requests == QUERIES * 3
    assert diagnostics["notes"] == []  # the preset's note speaks of other models


def test_pairs_are_judged_in_both_orders(store: Store) -> None:
    judge = Judge(by_length)
    manifest = rate(store, judge, "judge=j", "judging=pairs")
    assert judge.requests == QUERIES * 3 * 2
    pairs, ratings = rows(store, manifest, "pairs"), rows(store, manifest)
    assert set(zip(pairs["chosen_responder"], pairs["rejected_responder"], strict=True)) == set(
        combinations(MODELS, 2)
    )
    assert (ratings["rating"] == ratings["response"].str.len_chars() / 4).all()
    assert ratings["verdicts"].to_list() == [4] * len(ratings)
    assert manifest.diagnostics["share_first_place_wins"] == 0.5
    printed = run_command("show", manifest.ref, "--root", str(store.root)).stdout
    assert f"\npairs {QUERIES * 3} = kept" in printed, printed


@pytest.mark.parametrize("rater", [("rm=baseline:longest",), ("judge=j",), ("judge=j", "judging=pairs")])
def test_the_parts_in_which_responses_are_rated_change_no_row(
    store: Store, monkeypatch: pytest.MonkeyPatch, rater: tuple[str, ...]
) -> None:
    def verdict(*responses: str) -> str:
        return "Hm." if any("says of 3" in response for response in responses) else by_length(*responses)

    settings = (*rater, "limit=6")
    together = rate(store, Judge(verdict), *settings)
    parts: list[pl.DataFrame] = []

    def cut(rows: pl.LazyFrame, most: int) -> Iterator[pl.LazyFrame]:
        for part in ranges(rows, most):
            parts.append(part.collect())
            yield part

    monkeypatch.setattr(builder, "PART", 5)
    monkeypatch.setattr(builder, "ranges", cut)
    apart = rate(store, Judge(verdict), *settings, version="2.0.0")
    assert (apart.digest, apart.ledger) == (together.digest, together.ledger)
    assert canonical_json(apart.diagnostics) == canonical_json(together.diagnostics)
    assert max(map(len, parts)) < 5 + len(MODELS)
    assert rows(store, apart)["query_id"].is_sorted() and rows(store, apart)["query_id"].n_unique() >= 5


def test_who_only_likes_the_first_place_decides_nothing(store: Store) -> None:
    with pytest.raises(NothingLeft):
        rate(store, Judge(lambda first, second: "Scores: 9 2"), "judge=j", "judging=pairs")
    empty = store.manifest("ratings@1.0.0")
    assert {entry.filter: entry.dropped for entry in empty.ledger if entry.dropped} == {
        "tie": {"tie": QUERIES * 3},
        "undecided": {"undecided": QUERIES * 3},
    }
    assert verify(store, empty.ref) == []


@pytest.mark.parametrize("fault", ["fail", "cut", "Fine.", "Score: 11", "2\nNo.\nScore: 3"])
def test_no_verdict_is_lost(store: Store, fault: str) -> None:
    reason = {"fail": "failed", "cut": "cut_off", "Fine.": "no_scores", "Score: 11": "out_of_range"}
    judge = Judge(lambda response: fault if response.startswith("middle") else "Score: 5")
    manifest = rate(store, judge, "judge=j")
    ratings, dropped = rows(store, manifest), rows(store, manifest, "rejected")
    assert (len(ratings), len(dropped)) == (2 * QUERIES, QUERIES)
    assert set(dropped["reason"]) == {reason.get(fault, "two_verdicts")}
    assert set(dropped["responder"]) == {"middle"} and verify(store, manifest.ref) == []
    written = None if fault == "fail" else fault
    assert dropped["verdict"].unique().to_list() == [written]
    assert set(dropped["error"]) == ({"no answer"} if fault == "fail" else {None})
    assert manifest.diagnostics["tied_share"] == 1.0
    n = QUERIES * 3
    note = (
        f"Of {n} responses, {QUERIES} have no rating, as no score could be read in a verdict: the ratings are"
    )
    assert [text.startswith(note) for text in manifest.diagnostics["notes"]] == (
        [] if fault == "fail" else [True]
    )


def test_what_was_not_measured_is_not_printed_as_none(store: Store) -> None:
    manifest = rate(store, Judge(lambda response: "Score: 5"), "judge=j")
    assert manifest.diagnostics["ladder_agreement_share"] is None
    printed = run_command("show", manifest.ref, "--root", str(store.root)).stdout
    assert re.search(r"ladder_agreement_share +n/a\n", printed)
    assert "None" not in printed
    assert re.search(r"rating 5\b", printed) and "score 5" not in printed


def test_a_pair_without_one_of_its_verdicts_is_dropped_with_both_texts(store: Store) -> None:
    def verdict(first: str, second: str) -> str:
        return "Hm." if first.startswith("small") else by_length(first, second)

    manifest = rate(store, Judge(verdict), "judge=j", "judging=pairs")
    dropped = rows(store, manifest, "rejected_pairs")
    assert len(dropped) == 2 * QUERIES and set(dropped["rejected_responder"]) == {"small"}
    assert set(dropped["swapped_verdict"]) == {"Hm."} and dropped["verdict"].str.contains("Scores: ").all()
    assert rows(store, manifest, "rejected")["responder"].unique().to_list() == ["small"]
    assert sum(manifest.counts["default"].values()) == 2 * QUERIES and verify(store, manifest.ref) == []


def test_a_reward_model_scores_every_response(store: Store) -> None:
    manifest = rate(store, None, "rm=baseline:longest")
    ratings = rows(store, manifest)
    assert ratings["rating"].to_list() == ratings["response"].str.len_chars().to_list()
    assert ratings.select("rater", "rater_revision").unique().rows() == [("baseline:longest", "1")]
    assert manifest.environment["scorer"]["scores"] == {"from_journal": 0, "scored": QUERIES * 3}
    judged = rate(store, Judge(by_length), "judge=j", version="2.0.0")
    assert judged.fingerprint != manifest.fingerprint


def test_a_reward_model_reads_the_system_text_and_every_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Why?"},
    ]
    file = tmp_path / "answers.jsonl"
    jsonl(file, [{"prompt": prompt, "large": "So it is.", "small": "No."}])
    store = Store(tmp_path / "build")
    importing.import_responses(store, str(file), ["large", "small"], "1.0.0")
    dialogues: list[Any] = []

    def score(scorer: FunctionScorer, batch: Iterable[Dialogue]) -> Iterator[Score]:
        for dialogue in batch:
            dialogues.append([*dialogue.messages])
            yield Score(dialogue.id, 1.0, 1, False)

    monkeypatch.setattr(FunctionScorer, "score", score)
    rate(store, None, "rm=baseline:longest")
    replies = ({"role": "assistant", "content": text} for text in ("So it is.", "No."))
    assert dialogues == [[*prompt, reply] for reply in replies]


def test_probes_are_not_rated(tmp_path: Path) -> None:
    run = prepare("fake", root=tmp_path, preset="almost", limit=3, assignments=["ratings.rm=fake/judge"])
    manifest = run.build("ratings")[-1].manifest
    assert rows(Store(tmp_path), manifest)["rank"].to_list() == [0, 1, 2, 3, 4] * 3
    assert [entry.n_in for entry in manifest.ledger] == [15] and verify(Store(tmp_path), manifest.ref) == []


def test_a_conversation_is_judged_with_all_its_turns(store: Store) -> None:
    texts = []

    class Reading(Judge):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            requests = list(requests)
            texts.extend(request.messages[-1]["content"] for request in requests)
            yield from super().generate(requests)

    rate(store, Reading(by_length), "judge=j")
    assert sum("Human: Hello!\n\nAssistant: Hello.\n\nHuman: What of 0?" in text for text in texts) == 3


def test_what_a_judge_writes_stays_text(store: Store) -> None:
    manifest = rate(store, Judge(lambda response: f"{HOSTILE}\nScore: 5"), "judge=j")
    card = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    assert "\x1b" not in card and "\n## Heading" not in re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1", "", card)
    assert rows(store, manifest)["explanation"].unique().to_list() == [HOSTILE]
    done = run_command("sample", manifest.ref, "--root", str(store.root))
    assert done.returncode == 0 and "\x1b[31m<script>" not in done.stdout
    page = store.root / "page.html"
    assert run_command("view", manifest.ref, "-o", str(page), "--root", str(store.root)).returncode == 0
    assert "<script>alert(1)" not in page.read_text("utf-8")


def test_dropped_rows_show_what_the_judge_wrote(store: Store) -> None:
    judge = Judge(lambda response: "Hm, hard." if "0" in response else "Score: 5")
    manifest = rate(store, judge, "judge=j")
    [row] = sample(store, manifest.ref, Selection(dropped="no_scores"), 1).rows
    assert "Hm, hard." in note_text(row.notes) and row.sides[0].text and "says of 0" in row.sides[0].text


def test_a_judge_without_verdicts_is_told_by_the_form_that_it_was_asked_for(store: Store) -> None:
    for _ in range(2):  # the second time, the empty dataset is there
        with pytest.raises(NothingLeft) as caught:
            rate(store, Judge(lambda response: "Hm."), "judge=j")
        assert re.search(r"no_scores dropped 24 of 24: .*`Score: X`", str(caught.value)), caught.value
        assert "change ratings.rm or ratings.judge" in str(caught.value)
        assert (caught.value.ref, caught.value.reason) == ("ratings@1.0.0", "no_scores")
    where = ("--engine", "fake", "--version", "2.0.0", "--root", str(store.root))
    sources = ("--from", "responses@1.0.0", "--ratings", "ratings@1.0.0")
    wrong = run_command("build", "comparisons", *sources, *where)
    assert (wrong.returncode, wrong.stderr.partition(" it is")[0]) == (
        2,
        "almost-data: --ratings ratings@1.0.0:",
    )
    strict = ("--from", "responses@1.0.0", "--set", 'comparisons.checks=["too_short"]')
    strict += ("--set", "comparisons.min_chars=9999")
    empty = run_command("build", "comparisons", *strict, *where)
    assert empty.returncode == 1 and "loosen a filter" in empty.stderr
    assert "see `sample comparisons@2.0.0 --dropped too_short -n 3 --root " in empty.stderr


def test_there_is_one_rater(store: Store) -> None:
    with pytest.raises(InputError, match=r"^ratings\.judge, ratings\.rm: name a rater"):
        rate(store)
    with pytest.raises(InputError, match=r"^ratings\.judge, ratings\.rm: a dataset has one rater"):
        rate(store, None, "judge=j", "rm=baseline:longest")


def test_the_prompt_is_in_the_manifest_and_the_cost_in_the_plan(store: Store) -> None:
    judge = Judge(by_length)
    manifest = rate(store, judge, "judge=j", "judging=pairs")
    assert manifest.config["prompts"] == {"judge": verdicts.prompt()}
    arguments = ("--engine", "fake", "--judge", "j", "--judging", "pairs", "--from", "responses@1.0.0")
    done = run_command(
        "build", "ratings", *arguments, "--version", "3.0.0", "--dry-run", "--root", str(store.root)
    )
    assert done.returncode == 0, done.stderr
    assert judge.requests == QUERIES * 3 * 2 and f" {judge.requests} " in done.stdout


@pytest.mark.engine
def test_real_models_rate(store: Store, tmp_path: Path) -> None:
    """A model that writes no scores rates nothing, and its words are kept; a reward model rates all."""
    from almost_data.generation.transformers import TransformersEngine

    template = tiny_models.CHAT_TEMPLATE
    folder = tiny_models.save_tiny(tmp_path / "judge", template=template, max_position_embeddings=4096)
    engine: Any = TransformersEngine(dtype="float32")
    with pytest.raises(NothingLeft, match=r"no_scores|cut_off"):
        rate(store, engine, f"judge={folder}", "max_new_tokens=8")
    empty = store.manifest("ratings@1.0.0")
    assert len(rows(store, empty, "rejected")) == QUERIES * 3 and verify(store, empty.ref) == []
    trained.publish_reward(store, tmp_path / "rm", "rm")
    manifest = rate(store, engine, "rm=rm@0.1.0", version="2.0.0")
    assert sum(manifest.counts["default"].values()) == QUERIES * 3 and verify(store, manifest.ref) == []
    assert [parent.ref for parent in manifest.parents] == ["responses@1.0.0", "rm@0.1.0"]
    assert rows(store, manifest)["rater"].unique().to_list() == ["rm@0.1.0"]
