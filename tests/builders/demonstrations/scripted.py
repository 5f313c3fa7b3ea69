"""RMSP on a scripted engine and a scripted reward model, with checks that hold for every build."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from almost_data import scoring
from almost_data.datasets.builder import RewardModel, text_id
from almost_data.datasets.manifest import Manifest
from almost_data.generation import CannotStart, Generator, Model, Reply, Request
from almost_data.generation.fake import FakeEngine
from almost_data.run import build, importing
from almost_data.scoring import Dialogue, Score, Scorer
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.jsonl import jsonl
from tests.settings import fake_tiny, with_settings

QUERIES = tuple(f"What is number {n} good for, and who says so?" for n in range(8))
JUDGE = RewardModel("fake/judge", 1024)
REF = "demonstrations@0.1.0"
Say = Callable[[Request], str | Exception | None]


class Scripted(FakeEngine):
    """The fake engine, but for what `say` gives: a text, an error, or None for its own. In another order."""

    def __init__(self, say: Say = lambda request: None, shuffle: int | None = None) -> None:
        self.say, self.shuffle = say, shuffle
        self.recorded: list[Request] = []
        self.calls = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.calls += 1
        queue = list(requests)
        if self.shuffle is not None:
            random.Random(self.shuffle).shuffle(queue)
        for request in queue:
            text = self.say(request)
            if isinstance(text, CannotStart):
                raise text
            self.recorded.append(request)
            (reply,) = super().generate([request])
            if isinstance(text, Exception):
                reply = Reply(request.id, "", "error", error=str(text))
            elif text is not None:
                reply = replace(reply, text=text)
            yield reply


class Judge:
    """A scorer that says what it was asked, from the last to the first."""

    model = Model("fake/judge", "1")
    max_tokens = 1024

    def __init__(self, value: Callable[[Dialogue], float] | None = None, usual: Any = None) -> None:
        self.reward_stats = usual
        self.value = value
        self.recorded: list[tuple[str, ...]] = []
        self.fake = scoring.load("fake/judge")

    def settings(self) -> dict[str, Any]:
        return {}

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for dialogue in reversed(list(dialogues)):
            self.recorded.append(dialogue.turns)
            (score,) = self.fake.score([dialogue])
            yield replace(score, value=self.value(dialogue)) if self.value else score


@dataclass(frozen=True)
class BuiltDialogues:
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
        jsonl(file, ({"query": query} for query in queries))
        importing.import_queries(store, str(file), "0.1.0")
    return store


def run_of(
    store: Store, engine: Generator, judge: Scorer | None, version: str = "0.1.0", **settings: Any
) -> build.BuildRun:
    changes = {"n": 4, "rm": JUDGE.id if settings.get("n") != 1 else None, **settings}
    return build.BuildRun(
        store,
        version,
        with_settings(fake_tiny(), "demonstrations", **changes),
        engine,
        {"queries": "queries@0.1.0"},
        max_failures=1,
        loaded_scorers={JUDGE: judge or scoring.load("fake/judge")},
    )


def build_dialogues(
    root: Path,
    engine: Generator | None = None,
    judge: Scorer | None = None,
    version: str = "0.1.0",
    queries: Iterable[str] = QUERIES,
    **settings: Any,
) -> BuiltDialogues:
    """Demonstrations in the store at `root`, which is checked as a whole."""
    store = store_of(root, queries)
    step = run_of(store, engine or FakeEngine(), judge, version, **settings).build("demonstrations")[-1]
    assert step.action == "build" and verify(store, step.manifest.ref) == []
    built = BuiltDialogues(store, step.manifest, read(store, step.manifest.ref))
    check(built)
    return built


def read(store: Store, ref: str) -> dict[str, pl.DataFrame]:
    return {config: store.scan(ref, config).collect() for config in store.configs(ref)}


def check(built: BuiltDialogues) -> None:
    """What holds of every build."""
    config, rows = built.manifest.config["settings"], built.candidates
    turn = ("query_id", "conversation", "turn")
    groups = rows.group_by(turn).agg("sample").with_columns(pl.col("sample").list.sort())
    assert set(groups["sample"].map_elements(tuple, pl.Object)) == {tuple(range(config["n"]))}
    for _, group in rows.group_by(turn):
        ranked = group.filter(pl.col("rank").is_not_null()).sort("rank")
        assert ranked["rank"].to_list() == list(range(len(ranked)))
        keys = [(-(row["score"] or 0.0), row["sample"]) for row in ranked.iter_rows(named=True)]
        assert keys == sorted(keys), "not the best, or not the first of equals"
        assert ranked["reason"].to_list() == [None, *["not_best"] * (len(ranked) - 1)][: len(ranked)]
        others = group.filter(pl.col("rank").is_null())
        assert others["score"].null_count() == others["reason"].len() == len(others)
        assert others["reason"].null_count() == 0
    assert rows["error"].is_not_null().equals((rows["reason"] == "failed").fill_null(False))
    for key, dialogue in built.talks.items():
        turns = dialogue["messages"]
        assert [m["role"] for m in turns] == [("user", "assistant")[at % 2] for at in range(len(turns))]
        assert turns[-1]["role"] == "assistant" and 2 <= len(turns) <= config["turns"]
        assert text_id(turns[0]["content"]) == key[0]
        assert (dialogue["end"] == "turns") == (len(turns) == config["turns"]) and dialogue["n"] == config[
            "n"
        ]
        mine = rows.filter(pl.col("query_id") == key[0], pl.col("conversation") == key[1], rank=0).sort(
            "turn"
        )
        assert mine["response"].to_list() == [m["content"] for m in turns[1::2]]
        assert mine["turn"].to_list() == list(range(1, len(turns), 2))
        assert dialogue["rm_score"] == mine["score"][-1]
    lost = built.tables.get("rejected", pl.DataFrame({"query_id": [], "conversation": [], "reason": []}))
    first = lost.filter(reason="no_candidate").select("query_id", "conversation").rows()
    later = lost.filter(pl.col("reason") != "no_candidate").select("query_id", "conversation").rows()
    assert not set(first) & set(built.talks)
    assert set(later) == {key for key, dialogue in built.talks.items() if dialogue["end"] != "turns"}
    answered = set(rows.select("query_id", "conversation").rows())
    assert answered == set(built.talks) | set(first)
    ledger = built.manifest.ledger
    assert ledger[0].n_in == len(rows) and ledger[-1].n_in == len(answered)
    user = [entry for entry in ledger if entry.unit == "query"]
    assert bool(user) == (config["turns"] > 2)
    if user:
        assert user[0].failed + sum(n for entry in user for n in entry.dropped.values()) == len(later)
    assert sum(built.manifest.diagnostics["ends"].values()) == len(built.talks)
    assert Counter(dialogue["end"] for dialogue in built.talks.values()) == built.manifest.diagnostics["ends"]
