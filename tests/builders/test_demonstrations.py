"""RMSP on scripted and tiny models: what is picked, where dialogues end, and that nothing is asked twice."""

import functools
import gc
import itertools
import json
import random
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import msgspec
import polars as pl
import pytest

from almost_data import scoring
from almost_data.cards import card, figures
from almost_data.cards.markdown import sig
from almost_data.cli.app import main
from almost_data.datasets.builder import RewardModel, text_id
from almost_data.datasets.manifest import Manifest
from almost_data.errors import InputError
from almost_data.generation import CannotStart, Generator, Model, Reply, Request, journal_file, prompts
from almost_data.generation.fake import FakeEngine
from almost_data.generation.transformers import TransformersEngine
from almost_data.run import build, importing, presets
from almost_data.scoring import Dialogue, Score, Scorer
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import tiny_models, trained
from tests.crash import Server
from tests.stress import digests, files, journaled
from tests.test_card import NASTY, Page, headings, spoil

QUERIES = tuple(f"What is number {n} good for, and who says so?" for n in range(8))
JUDGE = RewardModel("fake/judge", None, 1024)
REF = "demonstrations@0.1.0"
Say = Callable[[Request], str | Exception | None]


class Scripted(FakeEngine):
    """The fake engine, but for what `say` gives: a text, an error, or None for its own. In another order."""

    def __init__(self, say: Say = lambda request: None, shuffle: int | None = None) -> None:
        self.say, self.shuffle = say, shuffle
        self.asked: list[Request] = []
        self.calls = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.calls += 1
        wanted = list(requests)
        if self.shuffle is not None:
            random.Random(self.shuffle).shuffle(wanted)
        for request in wanted:
            said = self.say(request)
            if isinstance(said, CannotStart):
                raise said
            self.asked.append(request)
            (reply,) = super().generate([request])
            if isinstance(said, Exception):
                reply = Reply(request.id, "", "error", error=str(said))
            elif said is not None:
                reply = replace(reply, text=said)
            yield reply


class Judge:
    """A scorer that says what it was asked, from the last to the first."""

    model = Model("fake/judge", "1")
    max_tokens = 1024

    def __init__(self, value: Callable[[Dialogue], float] | None = None, usual: Any = None) -> None:
        self.reward_stats = usual
        self.value = value
        self.asked: list[tuple[str, ...]] = []
        self.fake = scoring.load("fake/judge")

    def settings(self) -> dict[str, Any]:
        return {}

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for one in reversed(list(dialogues)):
            self.asked.append(one.turns)
            (score,) = self.fake.score([one])
            yield replace(score, value=self.value(one)) if self.value else score


@dataclass(frozen=True)
class Made:
    store: Store
    manifest: Manifest
    tables: dict[str, pl.DataFrame]

    @property
    def candidates(self) -> pl.DataFrame:
        return self.tables["candidates"]

    @property
    def talks(self) -> dict[tuple[str, int], dict[str, Any]]:
        return {
            (row["query_id"], row["conversation"]): row for row in self.tables["default"].rows(named=True)
        }


def store_of(root: Path, queries: Iterable[str] = QUERIES) -> Store:
    store = Store(root)
    if not store.has("queries@0.1.0"):
        root.mkdir(parents=True, exist_ok=True)
        file = root / "queries.jsonl"
        file.write_text("".join(json.dumps({"query": query}) + "\n" for query in queries), "utf-8")
        importing.import_queries(store, str(file), "0.1.0")
    return store


def run_of(
    store: Store, engine: Generator, judge: Scorer | None, version: str = "0.1.0", **settings: Any
) -> build.BuildRun:
    preset = presets.fake(presets.load("tiny"))
    wanted = {"n": 4, "rm": JUDGE.id if settings.get("n") != 1 else None, **settings}
    talk = msgspec.structs.replace(preset.demonstrations, **wanted)
    return build.BuildRun(
        store,
        version,
        msgspec.structs.replace(preset, demonstrations=talk),
        engine,
        {"queries": "queries@0.1.0"},
        max_failures=1,
        scorers={JUDGE: judge or scoring.load("fake/judge")},
    )


def made(
    root: Path,
    engine: Generator | None = None,
    judge: Scorer | None = None,
    version: str = "0.1.0",
    queries: Iterable[str] = QUERIES,
    **settings: Any,
) -> Made:
    """Demonstrations in the store at `root`, which is checked as a whole."""
    store = store_of(root, queries)
    step = run_of(store, engine or FakeEngine(), judge, version, **settings).build("demonstrations")[-1]
    assert step.action == "build" and verify(store, step.manifest.ref) == []
    found = Made(store, step.manifest, read(store, step.manifest.ref))
    check(found)
    return found


def read(store: Store, ref: str) -> dict[str, pl.DataFrame]:
    return {config: store.scan(ref, config).collect() for config in store.configs(ref)}


def check(one: Made) -> None:
    """What holds of every build."""
    config, rows = one.manifest.config["settings"], one.candidates
    turn = ("query_id", "conversation", "turn")
    groups = rows.group_by(turn).agg("sample").with_columns(pl.col("sample").list.sort())
    assert set(groups["sample"].map_elements(tuple, pl.Object)) == {tuple(range(config["n"]))}
    for _, some in rows.group_by(turn):
        ranked = some.filter(pl.col("rank").is_not_null()).sort("rank")
        assert ranked["rank"].to_list() == list(range(len(ranked)))
        keys = [(-(row["score"] or 0.0), row["sample"]) for row in ranked.iter_rows(named=True)]
        assert keys == sorted(keys), "not the best, or not the first of equals"
        assert ranked["reason"].to_list() == [None, *["not_best"] * (len(ranked) - 1)][: len(ranked)]
        others = some.filter(pl.col("rank").is_null())
        assert others["score"].null_count() == others["reason"].len() == len(others)
        assert others["reason"].null_count() == 0
    assert rows["error"].is_not_null().equals((rows["reason"] == "failed").fill_null(False))
    for key, talk in one.talks.items():
        said = talk["messages"]
        assert [m["role"] for m in said] == [("user", "assistant")[at % 2] for at in range(len(said))]
        assert said[-1]["role"] == "assistant" and 2 <= len(said) <= config["turns"]
        assert text_id(said[0]["content"]) == key[0]
        assert (talk["end"] == "turns") == (len(said) == config["turns"]) and talk["n"] == config["n"]
        mine = rows.filter(pl.col("query_id") == key[0], pl.col("conversation") == key[1], rank=0).sort(
            "turn"
        )
        assert mine["response"].to_list() == [m["content"] for m in said[1::2]]
        assert mine["turn"].to_list() == list(range(1, len(said), 2))
        assert talk["rm_score"] == mine["score"][-1]
    lost = one.tables.get("rejected", pl.DataFrame({"query_id": [], "conversation": [], "reason": []}))
    first = lost.filter(reason="no_candidate").select("query_id", "conversation").rows()
    later = lost.filter(pl.col("reason") != "no_candidate").select("query_id", "conversation").rows()
    assert not set(first) & set(one.talks)
    assert set(later) == {key for key, talk in one.talks.items() if talk["end"] != "turns"}
    asked = set(rows.select("query_id", "conversation").rows())
    assert asked == set(one.talks) | set(first)
    ledger = one.manifest.ledger
    assert ledger[0].n_in == len(rows) and ledger[-1].n_in == len(asked)
    user = [entry for entry in ledger if entry.unit == "query"]
    assert bool(user) == (config["turns"] > 2)
    if user:
        assert user[0].failed + sum(n for entry in user for n in entry.dropped.values()) == len(later)
    assert sum(one.manifest.diagnostics["ends"].values()) == len(one.talks)
    assert Counter(talk["end"] for talk in one.talks.values()) == one.manifest.diagnostics["ends"]


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take half of a small build's time."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(plots, "_png", lambda *figure: b"\x89PNG")


@pytest.fixture
def figures() -> None:
    """Real figures."""


# What is picked.


@pytest.mark.parametrize("turns", [2, 4, 6])
def test_the_same_whatever_the_order_of_replies_and_scores(tmp_path: Path, turns: int) -> None:
    how: dict[str, Any] = {"turns": turns, "conversations_per_query": 2, "preference": True}
    one = made(tmp_path / "one", **how)
    same = made(tmp_path / "same", FakeEngine(), **how)
    other = made(tmp_path / "other", Scripted(shuffle=turns), Judge(), **how)
    assert one.manifest.digest == same.manifest.digest == other.manifest.digest
    assert one.manifest.fingerprint == same.manifest.fingerprint == other.manifest.fingerprint
    assert one.manifest.diagnostics == other.manifest.diagnostics
    assert {len(talk["messages"]) for talk in one.talks.values()} == {turns}
    assert len(one.talks) == 2 * len(QUERIES) and len(one.candidates) == 4 * len(QUERIES) * turns
    assert made(tmp_path / "seed", **how, seed=1).manifest.digest != one.manifest.digest


def test_the_score_is_that_of_the_whole_dialogue(tmp_path: Path) -> None:
    # One of the replies is the same everywhere, so that the journal must tell dialogues apart by the rest.
    one = made(tmp_path, Scripted(lambda request: None if request.sample else "The same."), turns=4)
    assert one.candidates.filter(response="The same.")["score"].n_unique() == 2 * len(QUERIES)
    for row in one.candidates.iter_rows(named=True):
        said = [m["content"] for m in one.talks[row["query_id"], row["conversation"]]["messages"]]
        (score,) = scoring.load("fake/judge").score([Dialogue("x", (*said[: row["turn"]], row["response"]))])
        assert row["score"] == score.value
    assert one.manifest.config["scorer"] == {"id": "fake/judge", "revision": "1"}
    assert {"id": "fake/judge", "revision": "1"} in one.manifest.diagnostics["models"]


@pytest.mark.parametrize("value", [lambda one: 0.0, lambda one: -(len(one.turns[-1]) % 3) - 1.0])
def test_of_equal_scores_the_first_sample_is_picked(
    tmp_path: Path, value: Callable[[Dialogue], float]
) -> None:
    one = made(tmp_path, Scripted(shuffle=3), Judge(value), turns=4, n=5)
    for _, some in one.candidates.group_by("query_id", "conversation", "turn"):
        best = some.filter(score=some["score"].max())
        assert some.filter(rank=0)["sample"][0] == best["sample"].min()
    if value(Dialogue("", ("", ""))) == 0:
        assert set(one.candidates.filter(rank=0)["sample"]) == {0}


def test_self_play_has_one_reply_and_no_score(tmp_path: Path) -> None:
    judge = Judge()
    one = made(tmp_path, None, judge, n=1, turns=4)
    assert judge.asked == [] and "scorer" not in one.manifest.config | one.manifest.environment
    assert one.candidates["score"].null_count() == len(one.candidates) == 2 * len(QUERIES)
    assert one.tables["default"]["rm_score"].null_count() == len(QUERIES)
    assert one.candidates["rank"].unique().to_list() == [0]
    assert one.manifest.diagnostics["best_of_n"] is None


def test_one_reply_may_have_a_score(tmp_path: Path) -> None:
    """Self-Play and RMSP then compare on the same queries by the same model."""
    one = made(tmp_path, n=1, rm=JUDGE.id)
    assert one.tables["default"]["rm_score"].null_count() == 0
    four = made(tmp_path, version="0.2.0")
    # The one reply is the first of the four: what is asked for it is the same.
    first = four.candidates.filter(sample=0).sort("query_id")
    assert first["response"].equals(one.candidates.sort("query_id")["response"])
    assert (
        four.tables["default"].sort("query_id")["rm_score"]
        >= one.tables["default"].sort("query_id")["rm_score"]
    ).all()


def test_a_second_reward_model_picks_nothing(tmp_path: Path) -> None:
    one = made(tmp_path, turns=4)
    two = made(
        tmp_path, engine := Scripted(), judge := Judge(), version="0.2.0", turns=4, second_rm="fake/other"
    )
    assert (engine.asked, judge.asked) == ([], [])
    assert two.talks == one.talks and two.manifest.fingerprint != one.manifest.fingerprint
    for row in two.candidates.iter_rows(named=True):
        said = [m["content"] for m in two.talks[row["query_id"], row["conversation"]]["messages"]]
        dialogue = Dialogue("x", (*said[: row["turn"]], row["response"]))
        assert row["second_score"] == next(scoring.load("fake/other").score([dialogue])).value
    assert one.candidates["second_score"].null_count() == len(one.candidates)
    assert 0 <= two.manifest.diagnostics["best_of_n"]["second"]["agreement"] < 1
    itself = made(tmp_path, version="0.3.0", turns=4, second_rm=JUDGE.id)
    assert itself.manifest.diagnostics["best_of_n"]["second"]["agreement"] == 1
    assert itself.candidates["second_score"].equals(itself.candidates["score"])


def test_an_odd_number_of_turns_is_refused() -> None:
    for turns in (0, 1, 3):
        with pytest.raises(InputError, match="turns"):
            presets.load("tiny", assignments=(f"demonstrations.turns={turns}",))


def test_the_assistant_and_the_user_need_names_of_their_own(tmp_path: Path) -> None:
    preset = presets.fake(presets.load("tiny")).demonstrations
    twin = msgspec.structs.replace(preset.user, name=preset.assistant.name)
    with pytest.raises(InputError, match="name each one once"):
        made(tmp_path, turns=4, user=twin)
    made(tmp_path, turns=2, user=twin)  # nobody asks it


# What is asked.


def test_n_samples_of_a_prompt_share_it_and_go_together(tmp_path: Path) -> None:
    engine = Scripted()
    made(tmp_path, engine, turns=4, conversations_per_query=2)
    assert engine.calls == 3, "all conversations of a round together"
    talks = 2 * len(QUERIES)
    first, user, second = (
        engine.asked[: 4 * talks],
        engine.asked[4 * talks : 5 * talks],
        engine.asked[5 * talks :],
    )
    assert len(second) == 4 * talks
    assert len({request.seed for request in engine.asked}) == len(engine.asked)
    for some in (first, second):
        assert {request.prefix for request in some} == {prompts.load("faithful").head(3)}
        for at in range(0, len(some), 4):
            assert len({request.prompt for request in some[at : at + 4]}) == 1
            assert [request.sample for request in some[at : at + 4]] == [0, 1, 2, 3]
    assert {request.prefix for request in user} == {prompts.load("user").head(3)}
    for request in engine.asked:
        turns = re.findall(r"\n\n(Human|Assistant):", request.text)
        assert turns == [("Human", "Assistant")[at % 2] for at in range(len(turns))]
        assert request.text.endswith(f"\n\n{turns[-1]}:")
        assert request.sampling.stop == prompts.STOP
        assert (request.sampling.temperature, request.sampling.top_p) == (1.0, 0.9)
    assert {request.text.count("\n\nHuman:") for request in user} == {2}


def test_another_prompt_is_another_recipe_and_is_asked(tmp_path: Path) -> None:
    one = made(tmp_path, engine := Scripted(), turns=4)
    other = made(tmp_path, hhh := Scripted(), version="0.2.0", turns=4, prompt="hhh")
    assert one.manifest.fingerprint != other.manifest.fingerprint
    assert one.manifest.digest != other.manifest.digest
    assert prompts.load("hhh").head(3) in {request.prefix for request in hhh.asked}
    assert prompts.load("faithful").head(3) not in {request.prefix for request in hhh.asked}
    assert prompts.load("faithful").head(3) in {request.prefix for request in engine.asked}
    assert next(iter(other.manifest.config["resolved"])) == "fake-270M-Faithful-3shot-as-hhh"
    # The assistant's own prompt, asked for by name, is no other recipe but for the setting.
    same = made(tmp_path, again := Scripted(), version="0.3.0", turns=4, prompt="faithful")
    assert again.asked == [] and same.manifest.digest == one.manifest.digest


def test_a_prompt_file_is_known_by_its_text_and_not_by_its_place(tmp_path: Path) -> None:
    prints = set()
    for folder in ("one", "two"):
        file = tmp_path / folder / "mine.txt"
        file.parent.mkdir()
        file.write_text("p\n\n-----\n\n" + "\n\n-----\n\n".join(["Human:  a\n\nAssistant:  b"] * 3))
        prints.add(
            made(tmp_path / f"store-{folder}", prompt=str(file), queries=QUERIES[:2]).manifest.fingerprint
        )
    assert len(prints) == 1


def test_a_limit_takes_the_first_queries(tmp_path: Path) -> None:
    one, few = made(tmp_path), made(tmp_path, version="0.2.0", limit=3)
    ids = sorted(text_id(query) for query in QUERIES)
    assert sorted(key[0] for key in few.talks) == ids[:3]
    assert few.talks == {key: talk for key, talk in one.talks.items() if key[0] in ids[:3]}


def test_conversations_of_a_query_differ_and_share_its_split(tmp_path: Path) -> None:
    queries = [f"{query} ({n})" for n in range(6) for query in QUERIES]
    one = made(tmp_path, conversations_per_query=3, preference=True, queries=queries)
    parents = {
        split: set(one.store.scan("queries@0.1.0", "default", split).collect()["query_id"])
        for split in ("train", "test")
    }
    assert all(parents.values()) and len(one.talks) == 3 * len(queries)
    for config in one.store.configs(REF):
        for split, ids in parents.items():
            assert set(one.store.scan(REF, config, split).collect()["query_id"]) == ids
    prompts_of = {
        split: {row[0]["content"] for row in one.store.scan(REF, "default", split).collect()["messages"]}
        for split in parents
    }
    assert not prompts_of["train"] & prompts_of["test"]
    replies = one.candidates.group_by("query_id", "conversation").agg(pl.col("response").sort_by("sample"))
    for _, some in replies.group_by("query_id"):
        assert len({tuple(texts) for texts in some["response"]}) == 3


# Who is in memory.


class Watched(Scripted):
    """Says when it is asked and when it is closed."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.events.append("engine")
        yield from super().generate(requests)
        self.events.append("engine done")

    def close(self) -> None:
        self.events.append("engine closed")


class WatchedJudge(Judge):
    """Likewise."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        self.events.append("scorer")
        yield from super().score(dialogues)
        self.events.append("scorer done")

    def close(self) -> None:
        self.events.append("scorer closed")


def in_turns(store: Store, events: list[str], version: str = "0.1.0", **settings: Any) -> Manifest:
    run = run_of(store, Watched(events), WatchedJudge(events), version, turns=4, **settings)
    return replace(run, take_turns=True).build("demonstrations")[-1].manifest


def test_engine_and_reward_model_take_turns(tmp_path: Path) -> None:
    """Whoever is asked has the memory to itself; the second round's engine answers twice before it goes."""
    one = in_turns(store_of(tmp_path / "turns"), events := [])
    ask, score = ["engine", "engine done"], ["engine closed", "scorer", "scorer done"]
    assert events == [*ask, *score, "scorer closed", *ask, *ask, *score]
    stay: list[str] = []
    both = run_of(store_of(tmp_path / "stay"), Watched(stay), WatchedJudge(stay), turns=4)
    other = both.build("demonstrations")[-1].manifest
    assert [event for event in events if "closed" not in event] == stay
    assert one.digest == other.digest and one.fingerprint == other.fingerprint
    assert (one.environment["take_turns"], other.environment["take_turns"]) == (True, False)


def test_who_is_not_asked_sends_nobody_away(tmp_path: Path) -> None:
    in_turns(store := store_of(tmp_path), events := [])
    events.clear()
    in_turns(store, events, "0.2.0")
    assert events == [], "the journal has it all"
    in_turns(store, events, "0.3.0", n=5)
    assert events.count("engine") == events.count("engine closed") + 1 == 3
    assert "take_turns" not in in_turns(store, events, "0.4.0", n=1).environment, "there is nobody to do so"


def test_a_second_reward_model_takes_its_turn(tmp_path: Path) -> None:
    events: list[str] = []
    run = run_of(store_of(tmp_path), Watched(events), WatchedJudge(events), second_rm="fake/other")
    other = WatchedJudge(last := [])
    run.scorers[RewardModel("fake/other", None, 1024)] = other
    other.model = Model("fake/other", "1")
    replace(run, take_turns=True).build("demonstrations")
    assert events[-4:] == ["engine closed", "scorer", "scorer done", "scorer closed"]
    assert last == ["scorer", "scorer done"]


# Where a dialogue ends.


def test_every_natural_end_has_its_name(tmp_path: Path) -> None:
    curly = "That\u2019s all."
    script: dict[str, dict[str, str | Exception]] = {
        "user_empty": {"3": " \n "},
        "user_repeated": {"5": f" {QUERIES[1]} "},
        "user_closing": {"3": "Great, that helps. Thank you!"},
        "user_closing (curly)": {"5": curly},
        "user_failed": {"3": OSError("context too long")},
        "no_candidate": {f"3:{sample}": "" for sample in range(3)} | {"3:3": OSError("gone")},
        "turns (asks)": {"3": "Thanks! But how often?"},
        "turns (goes on)": {"3": "Thanks. Now tell me how to prune it."},
    }
    ends = dict(zip(map(text_id, QUERIES), script, strict=True))

    def say(request: Request) -> str | Exception | None:
        query, _, turn = request.id.split(":", 2)
        if turn in script[ends[query]]:
            return script[ends[query]][turn]
        return f"And what of {request.id}?" if ":" not in turn else None

    one = made(tmp_path, engine := Scripted(say, shuffle=1), turns=6)
    found = {ends[query]: talk for (query, _), talk in one.talks.items()}
    assert {name: talk["end"] for name, talk in found.items()} == {
        name: name.split(" ")[0] for name in script
    }
    assert {name: len(talk["messages"]) for name, talk in found.items()} == {
        "user_empty": 2,
        "user_repeated": 4,
        "user_closing": 2,
        "user_closing (curly)": 4,
        "user_failed": 2,
        "no_candidate": 2,
        "turns (asks)": 6,
        "turns (goes on)": 6,
    }
    # Nothing is asked for a dialogue that has ended; the replies to the turn that nobody answered are kept.
    for request in engine.asked:
        query, _, turn = request.id.split(":", 2)
        ended = len(found[ends[query]]["messages"])
        assert int(turn.split(":")[0]) <= ended + 1
    lost = one.candidates.filter(query_id=text_id(QUERIES[5]), turn=3).sort("sample")
    assert lost["reason"].to_list() == ["empty", "empty", "empty", "failed"]
    assert lost["error"].to_list() == [None, None, None, "gone"]
    assert lost["response"].to_list() == ["", "", "", None]
    rejected = {
        script_name: row
        for row in one.tables["rejected"].iter_rows(named=True)
        for script_name in [ends[row["query_id"]]]
    }
    assert {name: (row["turn"], row["reason"]) for name, row in rejected.items()} == {
        "user_empty": (2, "user_empty"),
        "user_repeated": (4, "user_repeated"),
        "user_closing": (2, "user_closing"),
        "user_closing (curly)": (4, "user_closing"),
        "user_failed": (2, "failed"),
        "no_candidate": (2, "unanswered"),
    }
    assert rejected["user_closing"]["query"] == "Great, that helps. Thank you!"
    assert (rejected["user_failed"]["query"], rejected["user_failed"]["error"]) == (None, "context too long")


def test_a_conversation_without_a_candidate_is_rejected(tmp_path: Path) -> None:
    def say(request: Request) -> str | Exception | None:
        query, _, sample = request.id.rsplit(":", 2)[0].split(":")[0], 0, request.id[-1]
        if query == text_id(QUERIES[0]):
            return " "
        if query == text_id(QUERIES[1]):
            return OSError("too long")
        return OSError("one") if query == text_id(QUERIES[2]) and sample == "2" else None

    one = made(tmp_path, Scripted(say), conversations_per_query=2)
    lost = one.tables["rejected"]
    assert lost.rows() == [
        (text_id(query), number, 0, query, "no_candidate", None)
        for query in sorted(QUERIES[:2], key=text_id)
        for number in (0, 1)
    ]
    failed = one.candidates.filter(reason="failed")
    assert len(failed) == 8 + 2 and failed["response"].null_count() == 10
    assert set(failed["error"]) == {"too long", "one"} and set(failed["finish_reason"]) == {"error"}
    entry = one.manifest.ledger[0]
    assert (entry.n_in, entry.kept, entry.failed) == (64, 54, 10)
    assert one.manifest.ledger[-1].dropped == {"no_candidate": 4}
    # A turn of which one reply is missing is not in the report.
    assert one.manifest.diagnostics["best_of_n"]["turns"] == 2 * 5


def test_nothing_but_empty_replies_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no conversation got a reply"):
        made(tmp_path, Scripted(lambda request: ""))
    assert not Store(tmp_path).has(REF)


def test_the_response_checks_drop_with_their_reasons(tmp_path: Path) -> None:
    plain = made(tmp_path)
    checked = made(tmp_path, version="0.2.0", checks=True)
    reasons = set(checked.candidates["reason"].drop_nulls())
    assert {"too_short", "ends_open", "dont_know", "unfinished"} & reasons and "empty" not in reasons
    assert set(plain.candidates["reason"].drop_nulls()) == {"not_best"}
    said = Counter(checked.candidates["reason"].drop_nulls())
    ledger: Counter[str] = Counter()
    for entry in checked.manifest.ledger:
        ledger.update(entry.dropped)
    assert ledger == said
    assert {
        "setting": "demonstrations.checks",
        "default": False,
        "used": True,
    } in checked.manifest.diagnostics["deviations"]
    key = ["query_id", "conversation", "turn", "sample"]
    assert plain.candidates.sort(key)["response"].equals(checked.candidates.sort(key)["response"])


# Preferences.


def test_best_against_worst_is_the_preference(tmp_path: Path) -> None:
    one = made(tmp_path, turns=4, preference=True)
    rows = one.tables["preference"].rows(named=True)
    assert len(rows) == len(one.candidates.select("query_id", "conversation", "turn").unique())
    for row in rows:
        query, number, turn = row["comparison_id"].split("-")
        some = one.candidates.filter(query_id=query, conversation=int(number), turn=int(turn)).sort("rank")
        best, worst = some.row(0, named=True), some.row(-1, named=True)
        assert row["chosen"] == [{"role": "assistant", "content": best["response"]}]
        assert row["rejected"] == [{"role": "assistant", "content": worst["response"]}]
        assert (row["chosen_score"], row["rejected_score"]) == (some["score"].max(), some["score"].min())
        assert row["prompt"] == one.talks[query, int(number)]["messages"][: int(turn)]
        assert row["query_id"] == query
    assert "preference" not in made(tmp_path, version="0.2.0", turns=4).tables


def test_replies_that_nobody_tells_apart_are_no_preference(tmp_path: Path) -> None:
    """Equal scores, or one reply left; and where that is so everywhere, there is no such config."""

    def say(request: Request) -> str | None:
        left = request.id.startswith(text_id(QUERIES[0])) and request.sample
        return "" if left else "The same." if request.id.startswith(text_id(QUERIES[1])) else None

    one = made(tmp_path, Scripted(say), preference=True)
    assert set(one.tables["preference"]["query_id"]) == set(map(text_id, QUERIES[2:]))
    equal = made(tmp_path / "equal", judge=Judge(lambda one: 1.0), preference=True)
    assert "preference" not in equal.tables and "preference" not in equal.manifest.counts
    with pytest.raises(InputError, match="--n 1 has one"):
        made(tmp_path, version="0.2.0", n=1, preference=True)


# As it is loaded.


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Every config and both splits, under a store of its own. Read it; do not write to it."""

    def say(request: Request) -> str | None:
        return "" if request.id.startswith(text_id(QUERIES[0])) else None

    queries = [QUERIES[0], *(f"{query} ({n})" for n in range(4) for query in QUERIES)]
    root = tmp_path_factory.mktemp("loaded")
    store = store_of(root, queries)
    run_of(store, Scripted(say), None, turns=4, preference=True).build("demonstrations")
    return store


def test_datasets_loads_default_first(loaded: Store, tmp_path: Path) -> None:
    folder, manifest = str(loaded.path(REF)), loaded.manifest(REF)
    assert datasets.get_dataset_config_names(folder)[0] == "default"
    assert set(datasets.get_dataset_config_names(folder)) == set(manifest.counts)
    for config in (None, *manifest.counts):
        found = datasets.load_dataset(folder, config, cache_dir=str(tmp_path))
        want = manifest.counts[config or "default"]
        assert {split: len(rows) for split, rows in found.items()} == want
    first = datasets.load_dataset(folder, cache_dir=str(tmp_path))["train"][0]
    assert [m["role"] for m in first["messages"]] == ["user", "assistant"] * 2


CHAT = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_policy() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.chat_template = CHAT
    config = tiny_models.tiny_config("llama", len(tokenizer))
    return AutoModelForCausalLM.from_config(config), tokenizer


@pytest.mark.filterwarnings("default")  # TRL's and torch's own warnings are not ours to mend
def test_sft_trainer_takes_a_step_on_default(loaded: Store, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = tiny_policy()
    rows = datasets.load_dataset(str(loaded.path(REF)), cache_dir=str(tmp_path / "cache"))["train"]
    arguments = SFTConfig(
        output_dir=str(tmp_path / "sft"),
        max_steps=1,
        max_length=128,
        per_device_train_batch_size=2,
        assistant_only_loss=True,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    check_step(trainer)


@pytest.mark.filterwarnings("default")
def test_dpo_trainer_takes_a_step_on_preference(loaded: Store, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    # From a folder, from which the trainer loads the reference model.
    folder = tiny_models.save_tiny(tmp_path / "policy")
    model, (_, tokenizer) = AutoModelForCausalLM.from_pretrained(folder), tiny_policy()
    cache = str(tmp_path / "cache")
    rows = datasets.load_dataset(str(loaded.path(REF)), "preference", cache_dir=cache)["train"]
    arguments = DPOConfig(
        output_dir=str(tmp_path / "dpo"),
        max_steps=1,
        max_length=128,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    trainer = DPOTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    check_step(trainer)


def check_step(trainer: Any) -> None:
    assert trainer.train().global_step == 1
    (loss,) = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    assert 0 < loss < 100


# What is asked once is not asked again.


def test_a_finished_build_made_again_asks_nobody(tmp_path: Path) -> None:
    how: dict[str, Any] = {"turns": 4, "conversations_per_query": 2}
    one = made(tmp_path, Scripted(), first := Judge(), **how)
    talks = 2 * len(QUERIES)
    assert one.manifest.environment["engine"]["replies"] == {"from_journal": 0, "generated": 9 * talks}
    assert sum(one.manifest.environment["scorer"]["scores"].values()) == 8 * talks
    assert len(first.asked) == len(set(first.asked)), "the same dialogue was scored twice"
    other = made(tmp_path, engine := Scripted(), judge := Judge(), version="0.2.0", **how)
    assert (engine.calls, engine.asked, judge.asked) == (0, [], [])
    assert other.manifest.environment["engine"]["replies"] == {"from_journal": 9 * talks, "generated": 0}
    assert other.manifest.environment["scorer"]["scores"] == {"from_journal": 8 * talks, "scored": 0}
    assert other.manifest.digest == one.manifest.digest
    # And the same version is there already.
    (_, step) = run_of(one.store, engine, judge, **how).build("demonstrations")
    assert step.action == "reuse" and (engine.calls, judge.asked) == (0, [])


def test_other_settings_of_the_pick_cost_no_reply_and_no_score(tmp_path: Path) -> None:
    made(tmp_path)
    for number, how in enumerate(
        ({"checks": True}, {"preference": True}, {"checks": True, "preference": True})
    ):
        made(tmp_path, engine := Scripted(), judge := Judge(), version=f"0.{number + 2}.0", **how)
        assert (engine.calls, judge.asked) == (0, [])


def test_more_turns_and_more_replies_ask_only_what_is_new(tmp_path: Path) -> None:
    made(tmp_path, n=3)
    made(tmp_path, engine := Scripted(), version="0.2.0", n=4)
    assert {request.sample for request in engine.asked} == {3} and len(engine.asked) == len(QUERIES)
    made(tmp_path, engine := Scripted(), version="0.3.0", n=4, turns=4)
    assert {request.id.split(":")[2] for request in engine.asked} == {"3"}


@pytest.mark.parametrize("at", [10, 33, 41, 60])
def test_an_engine_gone_in_any_round_costs_only_what_it_had_not_answered(tmp_path: Path, at: int) -> None:
    """32 replies, 8 user's turns, 32 replies."""
    clean = made(tmp_path / "clean", every := Scripted(), turns=4)
    left = iter(range(at))

    def say(request: Request) -> Exception | None:
        return CannotStart("gone") if next(left, None) is None else None

    first, second = Judge(), Judge()
    with pytest.raises(RuntimeError, match="gone"):
        made(tmp_path / "one", gone := Scripted(say), first, turns=4)
    one = made(tmp_path / "one", back := Scripted(), second, turns=4)
    assert [*gone.asked, *back.asked] == every.asked and len(gone.asked) == at
    assert not set(first.asked) & set(second.asked)
    assert one.manifest.digest == clean.manifest.digest


def test_a_scorer_gone_midway_is_not_asked_again_what_it_had_said(tmp_path: Path) -> None:
    clean = made(tmp_path / "clean", None, every := Judge(), turns=4)
    left = iter(range(45))

    def value(one: Dialogue) -> float:
        if next(left, None) is None:
            raise RuntimeError("gone")
        return next(scoring.load("fake/judge").score([one])).value

    with pytest.raises(RuntimeError, match="gone"):
        made(tmp_path / "one", None, first := Judge(value), turns=4)
    one = made(tmp_path / "one", engine := Scripted(), second := Judge(), turns=4)
    assert engine.asked == [], "the second round's replies were there"
    assert set(first.asked[:-1]) | set(second.asked) == set(every.asked)
    assert not set(first.asked[:-1]) & set(second.asked)
    assert one.manifest.digest == clean.manifest.digest


def test_a_failed_reply_stands_until_told_otherwise(tmp_path: Path) -> None:
    bad = f"{text_id(QUERIES[3])}:0:1:2"
    one = made(tmp_path, Scripted(lambda request: OSError("gone") if request.id == bad else None))
    assert one.manifest.ledger[0].failed == 1
    other = made(tmp_path, engine := Scripted(), version="0.2.0")
    assert (engine.calls, other.manifest.digest) == (0, one.manifest.digest)
    run = replace(run_of(one.store, engine, None, "0.3.0"), retry_failed=True)
    mended = run.build("demonstrations")[-1].manifest
    assert [request.id for request in engine.asked] == [bad] and mended.ledger[0].failed == 0
    assert mended.digest == made(tmp_path / "clean").manifest.digest


KILLED = (
    *("build", "demonstrations", "--engine", "fake", "--rm", "judge", "--turns", "4", "--limit", "12"),
    *("--set", "demonstrations.conversations_per_query=2"),
)
ROUNDS = (96, 24, 96)
"""Requests of its rounds: 4 replies to 24 conversations, the user's turns, 4 replies to each."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("runs")) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], dict[str, int]]:
    """Its root, the keys of its requests in order, and the passes of each point."""
    folder = tmp_path_factory.mktemp("undisturbed")
    log, passes = folder / "log", folder / "passes"
    done = server.run(*KILLED, "--root", str(folder / "build"), log=str(log), counts=str(passes))
    assert done.code == 0, done.err
    keys = log.read_text().split()
    assert len(keys) == len(set(keys)) and verify(Store(folder / "build"), REF) == []
    return folder / "build", keys, json.loads(passes.read_bytes())


@pytest.mark.parametrize(
    ("point", "back"),
    [
        ("reply", ROUNDS[2] + ROUNDS[1] // 2),  # a user's turn
        ("reply", ROUNDS[2] // 2),
        ("reply", 0),  # the last one
        ("before commit", 0),  # of the last scores
        ("after commit", 1),
        ("half shard", 0),
        ("before published", 0),
    ],
)
def test_killed_in_its_second_round_a_build_goes_on(
    server: Server, undisturbed: tuple[Path, list[str], dict[str, int]], tmp_path: Path, point: str, back: int
) -> None:
    clean, keys, passes = undisturbed
    root, log = tmp_path / "build", tmp_path / "log"
    done = server.run(*KILLED, "--root", str(root), log=str(log), point=point, at=passes[point] - back)
    assert done.code == -9
    assert not Store(root).has(REF) or point == "before published"
    kept, asked = journaled(root), log.read_text().split()
    assert asked == keys[: len(asked)] and len(asked) > len(keys) - sum(ROUNDS[1:]), "not in the second round"
    scores = journal_file.count(root / "journal.sqlite", "score")
    assert ROUNDS[0] * 0.9 < scores <= ROUNDS[0] + ROUNDS[2]
    done = server.run(*KILLED, "--root", str(root), log=str(log))
    assert done.code == 0, done.err
    again = log.read_text().split()[len(asked) :]
    assert not kept & set(again), "what is in the journal was asked again"
    assert kept | set(again) == set(keys)
    assert digests(root) == digests(clean) and files(root) == files(clean)
    store = Store(root)
    assert verify(store, REF) == []
    counts = store.manifest(REF).environment["scorer"]["scores"]
    if point != "before published":
        assert counts["from_journal"] >= scores and sum(counts.values()) == ROUNDS[0] + ROUNDS[2]
    assert journal_file.count(root / "journal.sqlite", "score") == journal_file.count(
        clean / "journal.sqlite", "score"
    )


# A real engine and a real reward model.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A policy, a prompt, and a store with a reward model that has a report."""
    folder = tmp_path_factory.mktemp("tiny")
    prompt = folder / "short.txt"
    prompt.write_text("p\n\n-----\n\nHuman:  Is it late?\n\nAssistant:  No.\n")
    store = store_of(folder / "build", QUERIES[:3])
    trained.publish_reward(store, folder / "rm", "rm", diagnostics=trained.measured("rm"))
    trained.publish_reward(store, folder / "plain", "plain")
    return tiny_models.save_tiny(folder / "policy"), prompt, store.root


def tiny_run(
    tiny: tuple[Path, Path, Path], version: str, rm: str = "rm@0.1.0", **changes: Any
) -> build.BuildRun:
    policy, prompt, root = tiny
    preset = presets.load("tiny")
    how = {"model": str(policy), "prompt": str(prompt), "shots": 1}
    talk = msgspec.structs.replace(
        preset.demonstrations,
        assistant=msgspec.structs.replace(preset.demonstrations.assistant, **how, max_new_tokens=12),
        user=msgspec.structs.replace(preset.demonstrations.user, **how, max_new_tokens=6),
        rm=rm,
        **changes,
    )
    whole = msgspec.structs.replace(preset, note=None, demonstrations=talk)
    engine = TransformersEngine(dtype="float32")  # in which it honours seeds
    return build.BuildRun(Store(root), version, whole, engine, {"queries": "queries@0.1.0"})


def test_tiny_models_write_and_pick(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run = tiny_run(tiny, "0.1.0", turns=4)
    one = run.build("demonstrations")[-1].manifest
    store = run.store
    found = Made(store, one, read(store, one.ref))
    check(found)
    assert verify(store, one.ref) == [] and not one.is_fake
    first = found.candidates.filter(turn=1)
    assert first.group_by("query_id").agg(pl.col("response").n_unique())["response"].min() == 4
    judge = store.manifest("rm@0.1.0")
    assert [parent.ref for parent in one.parents] == ["queries@0.1.0", "rm@0.1.0"]
    assert one.parents[1].digest == judge.digest
    pinned = {"id": "rm@0.1.0", "revision": judge.digest[:16]}
    assert one.config["scorer"] == pinned and pinned in one.diagnostics["models"]
    text = (store.path(one.ref) / "README.md").read_text("utf-8")
    assert "rm@0.1.0" in text and judge.digest[:12] in text
    # By the reward model itself, a dialogue at a time.
    plain = scoring.load(str(store.path("rm@0.1.0")))
    for talk in found.talks.values():
        turns = tuple(m["content"] for m in talk["messages"])
        (score,) = plain.score([Dialogue("x", turns)])
        assert talk["rm_score"] == pytest.approx(score.value, rel=1e-4, abs=1e-4)
    best = one.diagnostics["best_of_n"]["scores"]
    assert best["reference"] == trained.measured("rm")["report"]["rewards"] and 0 <= best["out_of_range"] <= 1
    assert "standard deviation" in text and sig(best["reference"]["std"]) in text
    # Elsewhere, without the journal: the same text and the same picks.
    again = tiny_run((*tiny[:2], copied(store, tmp_path)), "0.1.0", turns=4)
    other = again.build("demonstrations")[-1].manifest
    assert other.environment["engine"]["replies"]["from_journal"] == 0
    assert other.fingerprint == one.fingerprint
    same = read(again.store, other.ref)
    for config in ("candidates", "default"):
        texts = [c for c in same[config].columns if "score" not in c]
        assert same[config].select(texts).equals(found.tables[config].select(texts))
    # A reward model without a report is no reference.
    alone = tiny_run(tiny, "0.2.0", rm="plain@0.1.0").build("demonstrations")[-1].manifest
    assert not {"reference", "out_of_range"} & alone.diagnostics["best_of_n"]["scores"].keys()
    assert alone.environment["engine"]["replies"]["generated"] == 0


def test_weights_are_gone_while_the_other_works(
    tiny: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real models: of the engine's and the reward model's, those of one are in memory at any time."""
    gc.collect()
    alive: list[tuple[str, weakref.ref[Any]]] = []
    seen: list[set[str]] = []

    def watch(owner: type, name: str, who: str) -> None:
        real = getattr(owner, name)

        def loading(*args: Any, **kwargs: Any) -> Any:
            got = real(*args, **kwargs)
            network = got[0] if isinstance(got, tuple) else got
            alive.append((who, weakref.ref(network)))
            forward = network.forward

            def noted(*a: Any, **k: Any) -> Any:
                seen.append({name for name, one in alive if one() is not None})
                return forward(*a, **k)

            network.forward = functools.update_wrapper(noted, forward)  # its signature tells what it takes
            return got

        monkeypatch.setattr(owner, name, staticmethod(loading))

    import transformers

    watch(transformers.AutoModelForCausalLM, "from_pretrained", "engine")
    watch(transformers.AutoModelForSequenceClassification, "from_pretrained", "scorer")
    store = Store(tiny[2])
    found: dict[bool, Manifest] = {}
    for turns in (True, False):
        here = (*tiny[:2], copied(store, tmp_path / str(turns)))
        run = replace(tiny_run(here, "0.1.0", turns=4), take_turns=turns)
        found[turns] = run.build("demonstrations")[-1].manifest
        loads = [who for who, _ in alive]
        if turns:
            assert loads == ["engine", "scorer", "engine", "scorer"]
            assert [who for who, _ in itertools.groupby(map(tuple, seen))] == [(who,) for who in loads]
            run.generator.close()
            for scorer in run.scorers.values():
                scorer.close()
            assert not any(one() for _, one in alive), "closed, and still in memory"
        else:
            assert loads == ["engine", "scorer"] and {"engine", "scorer"} in seen
        alive.clear()
        seen.clear()
    assert found[True].digest == found[False].digest
    assert found[True].environment["scorer"] == found[False].environment["scorer"]
    assert found[True].environment["scorer"]["settings"]["device"]


def copied(store: Store, root: Path) -> Path:
    """A store with the same queries and reward model, and nothing else."""
    for name in ("queries", "rm"):
        place = root / name / "0.1.0"
        place.parent.mkdir(parents=True)
        place.symlink_to(store.path(f"{name}@0.1.0"))
    return root


# The command line.


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the one line on stderr says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["build", *arguments])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and said.startswith("almost-data: "), said
    return said


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path)
    here = ("--root", str(tmp_path), "--from", "queries@0.1.0")
    build = ("demonstrations", "--engine", "fake", *here)
    said = refused(capsys, *build)
    assert "recipes/rm.py" in said and "--rm rm@V" in said and "--n 1" in said
    assert "recipes/rm.py" in refused(capsys, *build, "--n", "2", "--dry-run")
    assert "turns" in refused(capsys, *build, "--n", "1", "--turns", "3")
    assert ">= 2" in refused(capsys, *build, "--n", "1", "--turns", "0")
    assert ">= 1" in refused(capsys, *build, "--n", "0")
    assert "no prompt 'hhhh'" in refused(capsys, *build, "--n", "1", "--prompt", "hhhh")
    real = ("demonstrations", "--engine", "transformers", *here)
    assert "queries@0.1.0 is a dataset" in refused(capsys, *real, "--rm", "queries@0.1.0")
    assert "no rm@0.9.0" in refused(capsys, *real, "--rm", "rm@0.9.0")
    for name in ("queries", "responses", "comparisons", "community"):
        for flag in (
            ("--rm", "rm@0.1.0"),
            ("--n", "4"),
            ("--turns", "4"),
            ("--prompt", "hhh"),
            ("--preference",),
        ):
            assert "go with build demonstrations" in refused(capsys, name, *flag)
    for name in ("queries", "responses", "community"):
        assert "--take-turns goes with" in refused(capsys, name, "--take-turns")
    assert "--take-turns goes with" in refused(
        capsys, "demonstrations", "--take-turns", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"
    )
    assert store.refs() == ["queries@0.1.0"]


def test_flags_are_settings(tmp_path: Path) -> None:
    """`--preference` is the setting of that name; `--take-turns` is of the machine, and is no recipe."""
    store = store_of(tmp_path)
    build = ("build", "demonstrations", "--engine", "fake", "--rm", "judge", "--root", str(tmp_path))
    made = []
    ways = (
        ("--preference",),
        ("--set", "demonstrations.preference=true"),
        ("--preference", "--take-turns"),
        (),
    )
    for number, flags in enumerate(ways):
        version = f"0.{number + 1}.0"
        main([*build, "--from", "queries@0.1.0", "--version", version, *flags])
        made.append(store.manifest(f"demonstrations@{version}"))
    flag, setting, turns, plain = made
    assert flag.fingerprint == setting.fingerprint == turns.fingerprint != plain.fingerprint
    assert flag.digest == setting.digest == turns.digest != plain.digest
    assert "preference" in flag.counts and "preference" not in plain.counts
    assert [one.environment["take_turns"] for one in made] == [False, False, True, False]


def test_a_dry_run_builds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("--engine", "fake", "--root", str(tmp_path))
    main(["build", "demonstrations", "--rm", "judge", "--turns", "4", *here, "--dry-run"])
    said = capsys.readouterr().out
    assert "demonstrations@0.1.0" in said and "queries@0.1.0" in said and "would be built" in said
    assert not list(tmp_path.iterdir())


def test_the_command_builds_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["build", "demonstrations", "--n", "1", "--limit", "9", "--engine", "fake", "--root", str(tmp_path)])
    said = capsys.readouterr().out
    store = Store(tmp_path)
    assert store.refs() == [REF, "queries@0.1.0"] and verify(store, REF) == []
    assert "demonstration" in said and "user" in said and "assistant" in said
    main(["show", REF, "--root", str(tmp_path)])
    main(["lineage", REF, "--root", str(tmp_path)])
    main(["verify", REF, "--root", str(tmp_path)])


@pytest.mark.parametrize("rejected", [False, True])
def test_show_names_the_errors_of_failed_replies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rejected: bool
) -> None:
    def say(request: Request) -> Exception | None:
        bad = request.id.startswith(text_id(QUERIES[0])) and (rejected or request.sample == 1)
        return OSError("context too long") if bad else None

    made(tmp_path, Scripted(say))
    capsys.readouterr()
    main(["show", REF, "--root", str(tmp_path)])
    assert "context too long" in capsys.readouterr().out


# Card and figures.


@pytest.mark.parametrize(
    "how",
    [
        {"n": 1},
        {"n": 4},
        {"n": 4, "turns": 4, "preference": True, "checks": True, "conversations_per_query": 2},
        {"n": 4, "rejected": True, "preference": True},
        {"n": 2, "halves": True},
    ],
    ids=["self-play", "rmsp", "whole", "rejected", "no whole turn"],
)
@pytest.mark.usefixtures("figures")
def test_the_card_says_what_was_done(tmp_path: Path, how: dict[str, Any]) -> None:
    settings = {key: value for key, value in how.items() if key not in ("rejected", "halves")}

    def say(request: Request) -> str | None:
        if how.get("halves"):
            return "" if request.sample else None
        return "" if how.get("rejected") and request.id.startswith(text_id(QUERIES[0])) else None

    one = made(tmp_path, Scripted(say), **settings)
    text = (one.store.path(REF) / "README.md").read_text("utf-8")
    assert text == card.render(
        one.manifest,
        one.tables,
        sorted(plots.render(one.manifest, one.tables)),
        one.store.ancestors(one.manifest),
    )
    page = Page(text)
    assert page.open == [] and page.headings == headings("demonstrations")
    assert "\n\n| responder |" in text, "the paragraph before runs into the table"
    assert ("reward-model-guided self-play* (RMSP), step 2" in text) == (how["n"] > 1)
    assert ("*Self-Play*, which" in text) == (how["n"] == 1)
    assert ("No reward model picked here" in text) == (how["n"] == 1)
    whole = how["n"] > 1 and not how.get("halves")
    assert ("Columns of <code>preference</code>" in text) == ("preference" in one.tables)
    assert ("Columns of <code>rejected</code>" in text) == bool(how.get("rejected"))
    assert ("response checks of comparisons drop" in text) == bool(how.get("checks"))
    assert ("user responder wrote" in text) == (how.get("turns", 2) > 2)
    assert {cells[0] for cells in page.table("conversations that ended")[1:]} == set(
        one.manifest.diagnostics["ends"]
    )
    figures = sorted(file.name for file in (one.store.path(REF) / "plots").glob("*.png"))
    assert figures == (["best_of_n.png", "scores.png"] if whole else [])
    if whole:
        lines = page.table("picked from")[1:]
        best = one.manifest.diagnostics["best_of_n"]
        assert [line[0] for line in lines] == [str(k + 1) for k in range(how["n"])]
        assert [line[1] for line in lines] == [sig(point["score"]) for point in best["curve"]]
        assert len(set(re.findall(r"!\[[^]]*\]\((plots/[^)]+)\)", text))) == 2
    if how.get("halves"):
        assert one.manifest.diagnostics["best_of_n"] == {"turns": 0}
        assert "no turn of which all 2 replies have a score" in text


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    replies = iter([*NASTY, *NASTY] * 9)
    one = made(tmp_path, Scripted(lambda request: next(replies)), queries=NASTY, turns=4, preference=True)
    above = one.store.ancestors(one.manifest)
    figures = sorted(plots.render(one.manifest, one.tables))
    sides = [one.manifest]
    for nasty in NASTY:
        bad = spoil(
            one.manifest, nasty, [msgspec.structs.replace(e, description=nasty) for e in one.manifest.ledger]
        )
        best = bad.diagnostics["best_of_n"]
        opening = {"words": " ".join(nasty.split()[:4]), "share": 0.5}
        bad = msgspec.structs.replace(
            bad,
            config=bad.config
            | {
                "scorer": {"id": nasty, "revision": nasty},
                "resolved": {nasty: next(iter(bad.config["resolved"].values()))},
            },
            diagnostics=bad.diagnostics
            | {"best_of_n": best | {"most_frequent_opening": opening}, "ends": {nasty: 3}},
        )
        sides.append(bad)
    for manifest in sides:
        text = card.render(manifest, one.tables, figures, above)
        assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", text.split("\n---\n", 1)[1])
        page = Page(text)
        assert page.open == [] and page.headings == headings("demonstrations")
        ours = "h1 h2 p a em strong code pre ul ol li blockquote details summary img hr".split()
        assert {tag for tag, _ in page.tags} <= {*ours, "table", "thead", "tbody", "tr", "th", "td"}
        assert {a["src"] for tag, a in page.tags if tag == "img"} == set(figures)
        assert {a["href"] for tag, a in page.tags if tag == "a"} == {"https://arxiv.org/abs/2305.13735"}
        for table in page.tables:
            assert {len(row) for row in table} == {len(table[0])}, "a cell broke its row"


@pytest.mark.usefixtures("figures")
def test_figures_are_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    one = made(tmp_path, judge=Judge(usual={"mean": 0.5, "std": 1.0, "rows": 9}))
    figures = plots.render(one.manifest, {name: rows.reverse() for name, rows in one.tables.items()})
    assert sorted(figures) == ["plots/best_of_n.png", "plots/scores.png"]
    for path, content in figures.items():
        assert content == (one.store.path(REF) / path).read_bytes() and content[:4] == b"\x89PNG"
