"""Chat responders are asked by messages; what decides their text is pinned, their reasoning kept apart."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from almost_data.builders.responder import CHAT_TOKENS, Responder, pinned_responder
from almost_data.builders.responses import BUILDER, ResponsesConfig, build
from almost_data.datasets.builder import Built, prompt_id, silent
from almost_data.datasets.digest import frames
from almost_data.datasets.ledger import check_ledger
from almost_data.errors import InputError
from almost_data.generation import Reply, Request, prompts
from almost_data.generation.fake import FakeEngine
from almost_data.models.chat import user_turn
from almost_data.run import cost, presets
from tests import schema

CHAT = Responder(
    name="chat", model="m", style="chat", system="Be kind.", chat_template_kwargs={"deep": False}
)
RAW = Responder(name="raw", model="m", prompt="hhh", shots=1)
SYSTEM = {"role": "system", "content": "Answer in one word."}
DIALOGUE = (
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello, what is it?"},
    *user_turn("Is tea a fruit?"),
)


def config(*responders: Responder) -> ResponsesConfig:
    return ResponsesConfig(responders=responders)


def ask(responder: Responder, messages: Any = DIALOGUE) -> Request:
    return pinned_responder(config(), responder, FakeEngine()).request("1", messages, 7)


def roles(request: Request) -> list[str]:
    return [turn["role"] for turn in request.messages]


def test_a_chat_model_gets_its_system_text_few_shot_turns_and_the_conversation() -> None:
    request = ask(CHAT)
    assert request.messages == ({"role": "system", "content": "Be kind."}, *DIALOGUE)
    assert (request.prompt, request.shared_messages, request.template_options) == ("", 1, '{"deep":false}')
    assert (request.sampling.stop, request.sampling.max_new_tokens) == ((), CHAT_TOKENS)
    messages = ask(msgspec.structs.replace(CHAT, prompt="hhh", shots=2))
    shots = messages.messages[1 : messages.shared_messages]
    assert roles(messages)[0] == "system" and roles(messages)[-3:] == ["user", "assistant", "user"]
    assert [turn["role"] for turn in shots] == ["user", "assistant"] * (len(shots) // 2) and len(shots) >= 4
    assert messages.messages[messages.shared_messages :] == DIALOGUE
    assert all(turn["content"] in prompts.load("hhh").head(2) for turn in shots)


def test_the_querys_system_turn_follows_the_responders() -> None:
    system_and_turns = ask(CHAT, (SYSTEM, *DIALOGUE))
    assert system_and_turns.messages == (
        {"role": "system", "content": "Be kind.\n\nAnswer in one word."},
        *DIALOGUE,
    )
    assert system_and_turns.shared_messages == 0
    alone = ask(msgspec.structs.replace(CHAT, system=None), (SYSTEM, *DIALOGUE))
    assert alone.messages == (SYSTEM, *DIALOGUE)


def test_a_chat_model_plays_the_user_with_the_roles_exchanged() -> None:
    dialogue = (SYSTEM, *DIALOGUE, {"role": "assistant", "content": "No."})
    request = pinned_responder(config(), CHAT, FakeEngine()).user_request("1", dialogue, 7)
    assert roles(request) == ["system", "assistant", "user", "assistant", "user"]
    assert request.messages[0]["content"] == "Be kind." and request.messages[-1]["content"] == "No."
    raw = pinned_responder(config(), RAW, FakeEngine()).user_request("1", dialogue, 7)
    assert raw.text.startswith("\n\nSystem: Answer") and raw.text.endswith("\n\nAssistant: No.\n\nHuman:")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"style": "raw"}, "a raw responder needs a prompt"),
        ({"style": "raw", "prompt": "hhh"}, 'need style = "chat"'),
        ({"shots": 2}, "2 shots without a prompt"),
    ],
)
def test_settings_of_the_wrong_style_are_refused(changes: dict[str, Any], match: str) -> None:
    wrong = msgspec.structs.replace(CHAT, **changes)
    with pytest.raises(InputError, match=f"responder 'chat': .*{match}"):
        BUILDER.pins(config(wrong, RAW), FakeEngine())


def test_what_decides_the_text_is_pinned() -> None:
    def hash_of(**changes: Any) -> str:
        pins = BUILDER.pins(config(msgspec.structs.replace(CHAT, **changes), RAW), FakeEngine())
        return str(pins["resolved"]["chat"]["prompt_sha256"])

    changed = [{}, {"system": "Be rude."}, {"prompt": "hhh", "shots": 1}, {"prompt": "hhh", "shots": 2}]
    assert len({hash_of(**changes) for changes in changed}) == 4


class Thinking(FakeEngine):
    """Reasons before every reply, and some of its replies are reasoning alone."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for reply in super().generate(requests):
            is_cut = int(reply.id, 16) % 3 == 0
            yield replace(reply, reasoning="Hm.", text=" " if is_cut else reply.text)


def test_reasoning_is_a_column_and_a_reply_of_reasoning_alone_is_dropped(tmp_path: Path) -> None:
    def run(*responders: Responder) -> Built:
        rows = [{"query_id": prompt_id(user_turn(f"{n}?")), "prompt": user_turn(f"{n}?")} for n in range(30)]
        queries = schema.frame("queries", "default", rows)
        return build(config(*responders), {"queries": lambda _: queries.lazy()}, Thinking(), silent, tmp_path)

    built = run(CHAT, msgspec.structs.replace(CHAT, name="plain", system=None))
    check_ledger(built.ledger)
    rejected = pl.concat(frames(built.tables["rejected"]))
    kept = pl.concat([*frames(built.tables["chat"]), *frames(built.tables["plain"])])
    assert rejected["reason"].unique().to_list() == ["reasoning_only"] and len(kept) + len(rejected) == 60
    assert rejected["reasoning"].unique().to_list() == kept["reasoning"].unique().to_list() == ["Hm."]
    assert (rejected["response"] == "").all() and not kept["response"].str.contains("Hm.").any()
    assert [(entry.filter, entry.n_in, entry.kept) for entry in built.ledger] == [
        ("failed", 60, 60),
        ("reasoning_only", 60, len(kept)),
    ]


def test_presets_by_chat_ask_the_models_in_their_order() -> None:
    modern, delta = (presets.load(name).settings(BUILDER).responders for name in ("modern", "delta"))
    for ladder in (modern, delta):
        assert {responder.style for responder in ladder} == {"chat"}
        sizes = [cost.parameters(responder.model) or 0 for responder in ladder]
        assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0
        assert all(r.chat_template_kwargs == {"enable_thinking": False} for r in ladder)
    assert (len(modern), len(delta)) == (5, 2) and len({r.system for r in modern}) == 3
    comparisons = presets.load("delta").settings(schema.builder("comparisons"))
    assert (comparisons.checks, comparisons.check_sides) == ("chat", "chosen")
    with pytest.raises(InputError, match="queries: no settings in this preset: import queries"):
        presets.load("delta").settings(schema.builder("queries"))
