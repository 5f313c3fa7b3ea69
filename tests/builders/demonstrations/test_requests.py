"""The requests of a build: shared prompts, one batch a round, limits, conversations of one query."""

import re
from pathlib import Path

import polars as pl
import pytest

from almost_data.builders.demonstrations import builder
from almost_data.datasets.builder import text_id
from almost_data.datasets.manifest import canonical_json
from almost_data.generation import prompts
from tests.builders.demonstrations.scripted import QUERIES, REF, Scripted, build_dialogues


def test_n_samples_of_a_prompt_share_it_and_go_together(tmp_path: Path) -> None:
    engine = Scripted()
    build_dialogues(tmp_path, engine, turns=4, conversations_per_query=2)
    assert engine.calls == 3, "all conversations of a round together"
    talks = 2 * len(QUERIES)
    first, user, second = (
        engine.recorded[: 4 * talks],
        engine.recorded[4 * talks : 5 * talks],
        engine.recorded[5 * talks :],
    )
    assert len(second) == 4 * talks
    assert len({request.seed for request in engine.recorded}) == len(engine.recorded)
    for requests in (first, second):
        assert {request.prefix for request in requests} == {prompts.load("faithful").head(3)}
        for at in range(0, len(requests), 4):
            assert len({request.prompt for request in requests[at : at + 4]}) == 1
            assert [request.sample for request in requests[at : at + 4]] == [0, 1, 2, 3]
    assert {request.prefix for request in user} == {prompts.load("user").head(3)}
    for request in engine.recorded:
        turns = re.findall(r"\n\n(Human|Assistant):", request.text)
        assert turns == [("Human", "Assistant")[at % 2] for at in range(len(turns))]
        assert request.text.endswith(f"\n\n{turns[-1]}:")
        assert request.sampling.stop == prompts.STOP
        assert (request.sampling.temperature, request.sampling.top_p) == (1.0, 0.9)
    assert {request.text.count("\n\nHuman:") for request in user} == {2}


def test_another_prompt_is_another_recipe_and_is_asked(tmp_path: Path) -> None:
    built = build_dialogues(tmp_path, engine := Scripted(), turns=4)
    hhh_built = build_dialogues(tmp_path, hhh := Scripted(), version="0.2.0", turns=4, prompt="hhh")
    assert built.manifest.fingerprint != hhh_built.manifest.fingerprint
    assert built.manifest.digest != hhh_built.manifest.digest
    assert prompts.load("hhh").head(3) in {request.prefix for request in hhh.recorded}
    assert prompts.load("faithful").head(3) not in {request.prefix for request in hhh.recorded}
    assert prompts.load("faithful").head(3) in {request.prefix for request in engine.recorded}
    assert next(iter(hhh_built.manifest.config["resolved"])) == "fake-270M-Faithful-3shot-as-hhh"
    # The assistant's own prompt, asked for by name, is no other recipe but for the setting.
    same = build_dialogues(tmp_path, again := Scripted(), version="0.3.0", turns=4, prompt="faithful")
    assert again.recorded == [] and same.manifest.digest == built.manifest.digest


def test_a_prompt_file_is_known_by_its_text_and_not_by_its_place(tmp_path: Path) -> None:
    prints = set()
    for folder in ("one", "two"):
        file = tmp_path / folder / "mine.txt"
        file.parent.mkdir()
        file.write_text("p\n\n-----\n\n" + "\n\n-----\n\n".join(["Human:  a\n\nAssistant:  b"] * 3))
        prints.add(
            build_dialogues(
                tmp_path / f"store-{folder}", prompt=str(file), queries=QUERIES[:2]
            ).manifest.fingerprint
        )
    assert len(prints) == 1


def test_a_limit_takes_the_first_queries(tmp_path: Path) -> None:
    built, few = build_dialogues(tmp_path), build_dialogues(tmp_path, version="0.2.0", limit=3)
    ids = sorted(text_id(query) for query in QUERIES)
    assert sorted(key[0] for key in few.talks) == ids[:3]
    assert few.talks == {key: dialogue for key, dialogue in built.talks.items() if key[0] in ids[:3]}


def test_conversations_of_a_query_differ_and_share_its_split(tmp_path: Path) -> None:
    queries = [f"{query} ({n})" for n in range(6) for query in QUERIES]
    built = build_dialogues(tmp_path, conversations_per_query=3, preference=True, queries=queries)
    parents = {
        split: set(built.store.scan("queries@0.1.0", "default", split).collect()["query_id"])
        for split in ("train", "test")
    }
    assert all(parents.values()) and len(built.talks) == 3 * len(queries)
    for config in built.store.configs(REF):
        for split, ids in parents.items():
            assert set(built.store.scan(REF, config, split).collect()["query_id"]) == ids
    prompts_of = {
        split: {row[0]["content"] for row in built.store.scan(REF, "default", split).collect()["messages"]}
        for split in parents
    }
    assert not prompts_of["train"] & prompts_of["test"]
    replies = built.candidates.group_by("query_id", "conversation").agg(pl.col("response").sort_by("sample"))
    for _, group in replies.group_by("query_id"):
        assert len({tuple(texts) for texts in group["response"]}) == 3


def test_the_parts_in_which_queries_are_played_change_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"turns": 4, "conversations_per_query": 2, "preference": True}
    together = build_dialogues(tmp_path / "together", **settings).manifest
    monkeypatch.setattr(builder, "PART", 16)
    apart = build_dialogues(tmp_path / "apart", engine := Scripted(), **settings)
    assert engine.calls == 3 * len(QUERIES) // 2, "the rounds of two queries at a time"
    assert (apart.manifest.digest, apart.manifest.ledger) == (together.digest, together.ledger)
    assert canonical_json(apart.manifest.diagnostics) == canonical_json(together.diagnostics)
    assert apart.tables["candidates"]["query_id"].is_sorted()
