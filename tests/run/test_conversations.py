"""Prompts of several turns, and with a system turn: they reach models, datasets, cards and recipes whole."""

import json
from pathlib import Path
from typing import Any

import datasets
import msgspec
import polars as pl
import pytest

from almost_data.builders.comparisons.config import ComparisonsConfig
from almost_data.builders.responder import Responder
from almost_data.datasets.builder import prompt_id
from almost_data.datasets.user_filters import UserFilter
from almost_data.run import importing
from almost_data.run.build import BuildRun
from almost_data.store.store import Store
from almost_data.store.verify import verify
from almost_data.training import comparisons, dialogues, open_dataset, prompts
from almost_data.training.arguments import Inputs
from tests.builders.demonstrations.scripted import Scripted
from tests.jsonl import jsonl
from tests.settings import config_of, fake_tiny, with_settings

SYSTEM = {"role": "system", "content": "Answer in one sentence."}
CHAT = Responder(name="by-chat", model="ORG/large", style="chat", system="Be kind.")
GREETING = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello, what is it?"}]
Row = dict[str, Any]


def prompt_of(number: int) -> list[dict[str, str]]:
    """One user's turn; a system turn before it; or earlier turns, with a system turn and without."""
    question = {"role": "user", "content": f"How many days does month {number} have?"}
    return [*([SYSTEM] if number % 2 else []), *(GREETING if number % 4 > 1 else []), question]


PROMPTS = {prompt_id(prompt_of(n)): prompt_of(n) for n in range(24)}


@pytest.fixture(scope="module")
def engine() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, engine: Scripted) -> Store:
    root = tmp_path_factory.mktemp("conversations")
    store = Store(root / "build")
    file = root / "prompts.jsonl"
    rows = [*PROMPTS.values(), prompt_of(3)]
    jsonl(file, ({"prompt": prompt} for prompt in rows))
    importing.import_queries(store, str(file), "1.0.0")
    preset = fake_tiny()
    small, *_, large = config_of(preset, "responses").responders
    preset = with_settings(preset, "responses", responders=(CHAT, large, small))
    preset = with_settings(
        preset,
        "demonstrations",
        assistant=msgspec.structs.replace(CHAT, chat_template_kwargs={"enable_thinking": True}),
        user=msgspec.structs.replace(CHAT, name="user-by-chat", system="You are a user."),
        rm="fake/rm",
        n=2,
        turns=4,
        preference=True,
        filters=(UserFilter(name="short", description="d", drop="LENGTH(prompt) > 60"),),
    )
    preset = with_settings(preset, "ratings", rm="fake/asis")
    preset = preset.with_config("comparisons", ComparisonsConfig(label="both", checks=("other_language",)))
    run = BuildRun(store, "1.0.0", preset, engine)
    run.build("comparisons")
    run.build("demonstrations")
    return store


def rows(store: Store, name: str, config: str = "default") -> list[Row]:
    return store.scan(f"{name}@1.0.0", config).collect().rows(named=True)


def test_every_dataset_has_the_whole_prompt(store: Store) -> None:
    assert {row["query_id"]: row["prompt"] for row in rows(store, "queries")} == PROMPTS
    [repeated] = rows(store, "queries", "rejected")
    assert repeated["reason"] == "duplicate" and json.loads(repeated["query"]) == prompt_of(3)
    for name in ("responses", "ratings", "comparisons"):
        built = rows(store, name)
        assert built and all(row["prompt"] == PROMPTS[row["query_id"]] for row in built)
    preferences = rows(store, "demonstrations", "preference")
    demonstrations = rows(store, "demonstrations")
    assert len(demonstrations) > 20 and len(preferences) > 20
    for row in demonstrations:
        prompt, turns = PROMPTS[row["query_id"]], row["messages"]
        assert turns[: len(prompt)] == prompt and len(turns) - len(prompt) in (1, 3)
        assert [turn["role"] for turn in turns[len(prompt) :]] == ["assistant", "user", "assistant"][
            : len(turns) - len(prompt)
        ]
    for row in preferences:
        assert row["prompt"][: len(PROMPTS[row["query_id"]])] == PROMPTS[row["query_id"]]


def test_a_base_model_continues_the_turns_as_text(store: Store, engine: Scripted) -> None:
    texts = {request.text for request in engine.recorded}
    for number in range(4):
        question = f"\n\nHuman: How many days does month {number} have?\n\nAssistant:"
        system = "\n\nSystem: Answer in one sentence." if number % 2 else ""
        greeting = "\n\nHuman: Hello!\n\nAssistant: Hello, what is it?" if number > 1 else ""
        assert system + greeting + question in texts


def test_a_chat_model_answers_the_turns_as_messages(store: Store, engine: Scripted) -> None:
    sent_messages = [request.messages for request in engine.recorded if request.messages]
    for number in range(4):
        prompt = prompt_of(number)
        system = "Be kind.\n\nAnswer in one sentence." if number % 2 else "Be kind."
        turns = [turn for turn in prompt if turn != SYSTEM]
        assert ({"role": "system", "content": system}, *turns) in sent_messages
    assert any(messages[0]["content"] == "You are a user." for messages in sent_messages)
    thoughts = [row["reasoning"] for row in rows(store, "demonstrations", "candidates")]
    assert all(thoughts) and {row["reasoning"] for row in rows(store, "responses")} == {None}


def test_what_was_built_is_verified_loaded_and_shown(store: Store, tmp_path: Path) -> None:
    for name in ("queries", "responses", "ratings", "comparisons", "demonstrations"):
        folder = store.path(f"{name}@1.0.0")
        assert verify(store, f"{name}@1.0.0") == []
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
        first = next(iter(loaded.values()))[0]
        prompt = PROMPTS[first["query_id"]]
        assert (first.get("prompt") or first["messages"])[: len(prompt)] == prompt
    card = store.path("queries@1.0.0").joinpath("README.md").read_text("utf-8")
    assert (
        "75.0% of the prompts have a system turn or several turns" in card
        and "| **system** | Answer in" in card
    )
    card = store.path("comparisons@1.0.0").joinpath("README.md").read_text("utf-8")
    prompts = [row["prompt"] for row in rows(store, "comparisons")]
    assert any(all(turn["content"] in card for turn in prompt) for prompt in prompts if len(prompt) > 1)
    assert "(a language model with example dialogues, or a chat model) answered each query" in card
    assert "| chat | `Be kind.` |" in card
    card = store.path("demonstrations@1.0.0").joinpath("README.md").read_text("utf-8")
    assert '`{"enable_thinking":true}` and the system text `Be kind.`' in card and "exchanged" in card


def test_recipes_train_on_the_whole_prompt(store: Store) -> None:
    def opened(name: str) -> Any:
        return open_dataset(Inputs(dataset=f"{name}@1.0.0", artifact="rm@0.1.0", root=str(store.root)))

    for shaped in (
        comparisons(opened("comparisons")),
        prompts(opened("demonstrations")),
        prompts(opened("queries")),
    ):
        rows = pl.concat([shaped.train, shaped.test]).rows(named=True)
        assert rows and all(row["prompt"] == PROMPTS[row["query_id"]] for row in rows)
    shaped = dialogues(opened("demonstrations"))
    assert all(row["messages"][0] == PROMPTS[row["query_id"]][0] for row in shaped.train.rows(named=True))
