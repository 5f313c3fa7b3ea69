"""Turns and replies in any spelling are read; what is neither is refused with its reason."""

import json

import pytest

from almost_data.readers.conversations import read_prompt, read_reply, read_turns
from almost_data.readers.reasons import REASONS, Unusable
from tests.readers.layouts import FORMS, Row, assistant, user

PROMPT = (user("Why?"),)


def test_turns_as_json_text_are_turns_in_any_order_of_keys() -> None:
    turn = '{"name": null, "content": "No.", "role": "Assistant"}'
    for text in (f"[{turn}]", f" [ {turn} ]"):
        assert read_turns(text) == (assistant("No."),)


@pytest.mark.parametrize(
    "pair",
    [
        {"input": "a"},
        {"input": "a", "output": None},
        {"input": "a", "output": "b", "c": "d"},
        {"a": "b"},
    ],
)
def test_objects_of_a_turn_and_its_reply_are_turns_only_with_just_these_two_texts(pair: Row) -> None:
    good = {"input": "a", "output": "b"}
    assert read_turns([good, good]) == (user("a"), assistant("b")) * 2
    for turns in ([pair], [good, pair], [user("a"), good]):
        with pytest.raises(Unusable) as error:
            read_turns(turns)
        assert error.value.reason == "unknown_role"


@pytest.mark.parametrize("role", ["assistant", "user", "critic"])
def test_text_that_is_one_json_object_is_a_reply(role: str) -> None:
    text = json.dumps({"role": role, "content": "Hi"})
    assert read_turns(text) is None and read_reply(text, PROMPT).reply == text


@pytest.mark.parametrize(
    "part", [{}, {"answer": "a"}, {"content": "a"}, {"type": "text"}, {"type": "text", "text": None}]
)
def test_a_part_without_text_is_no_empty_text(part: Row) -> None:
    """Arena-Hard's `{"answer": ...}`, and text under a key that is not read."""
    assert read_turns([user("") | {"content": [{"type": "text", "text": "b"}]}]) == (user("b"),)
    for content in (part, [{"type": "text", "text": "b"}, part]):
        with pytest.raises(Unusable) as error:
            read_turns([{"role": "user", "content": content}])
        assert error.value.reason == "not_text"


@pytest.mark.parametrize("key", ["image", "images", "image_url", "audio"])
def test_an_image_within_a_turn_or_a_part_is_a_reason(key: str) -> None:
    for image, is_refused in (("x.png", True), (None, False), ([], False)):
        turn = user("a") | {key: image}
        part = user("") | {"content": [{"type": "text", "text": "a", key: image}]}
        for prompt in ([turn], [part]):
            if not is_refused:
                assert read_prompt(prompt) == (user("a"),)
                continue
            with pytest.raises(Unusable) as error:
                read_prompt(prompt)
            assert error.value.reason == "image"


def test_earlier_turns_that_the_prompt_has_itself_are_not_written_twice() -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = (user("a"), assistant("b "), user("c"))
    for head in ((), (system,)):
        assert read_prompt([*head, *turns], None, [["a", "b"]]) == (*head, *turns)
    assert len(read_prompt(turns, None, [["a", "d"]])) == 5


@pytest.mark.parametrize(
    "system", ['{"role": "system", "content": "a"}', '[{"type": "text", "text": "a"}]', '{"text": "a"}']
)
def test_a_system_text_that_is_a_turn_as_json_is_no_text(system: str) -> None:
    with pytest.raises(Unusable) as error:
        read_prompt("q", system)
    assert error.value.reason == "unreadable_system"
    assert read_prompt("q", '{"a": 1}')[0]["content"] == '{"a": 1}'


def test_earlier_turns_follow_a_system_turn_and_no_system_turn_stands_elsewhere() -> None:
    system = {"role": "system", "content": "Be brief."}
    roles = ["system", "user", "assistant", "user"]
    for prompt in ([system, user("c")], "c"):
        turns = read_prompt(prompt, "Be brief.", [["a", "b"]])
        assert [turn["role"] for turn in turns] == roles and turns[0] == system
    middle = [user("a"), system, user("c")]
    for read in (
        lambda: read_prompt(middle),
        lambda: read_prompt([system, user("c")], None, [system, user("a"), assistant("b")]),
        lambda: read_reply([*middle, assistant("d")], None),
        lambda: read_reply([*middle, assistant("d")], (user("a"), user("c"))),
    ):
        with pytest.raises(Unusable) as error:
            read()
        assert error.value.reason == "system_not_first"


@pytest.mark.parametrize(
    ("turn", "problem"),
    [
        ({"role": 0, "content": "Hi"}, "a turn has the role 0"),
        ({"from": "critic", "value": "Hi"}, "a turn has the role 'critic'"),
        ({"content": "Hi"}, "no role in content"),
    ],
)
def test_an_unknown_role_is_named(turn: Row, problem: str) -> None:
    with pytest.raises(Unusable, match=f"^{problem}$"):
        read_turns([turn])


def test_a_request_to_a_server_is_its_messages_after_its_system_text() -> None:
    request = {"model": "m", "messages": [user("Why?")], "tools": []}
    assert read_turns(request) == (user("Why?"),)
    for system in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        turns = read_turns(request | {"system": system})
        assert turns == ({"role": "system", "content": "Be brief."}, user("Why?"))
    for beside, reason in (
        ({"tools": [{"type": "function"}]}, "tool_turn"),
        ({"messages": "Why?"}, "not_text"),
        ({"messages": None}, "not_text"),
    ):
        with pytest.raises(Unusable) as error:
            read_turns(request | beside)
        assert error.value.reason == reason


def test_two_system_texts_are_refused() -> None:
    turns = [{"role": "SYSTEM", "content": "Be brief."}, user("Why?")]
    assert len(read_prompt(turns, "Be brief.")) == 2
    with pytest.raises(Unusable) as error:
        read_prompt(turns, "Be long.")
    assert error.value.reason == "prompts_differ"


def test_a_history_that_is_no_pairs_is_refused() -> None:
    assert [turn["content"] for turn in read_prompt("c", None, [["a", "b"]])] == ["a", "b", "c"]
    for history in (
        "a",
        ["a", "b"],
        [["a"]],
        [["a", None]],
        [["a", "b"], user("a")],
        [user("a")],
        [{"a": "b"}],
    ):
        with pytest.raises(Unusable, match=r"^(The )?column history") as error:
            read_prompt("c", None, history)
        assert error.value.reason == "unreadable_history"


def test_a_history_in_json_is_read_as_its_list() -> None:
    assert read_prompt("c", None, "[]") == (user("c"),)
    assert [turn["content"] for turn in read_prompt("c", None, '[["a", "b"]]')] == ["a", "b", "c"]
    with pytest.raises(Unusable):
        read_prompt("c", None, "[['a', 'b']]")


def test_a_history_of_turns_is_read_as_turns() -> None:
    for turns in ([user("a"), assistant("b")], FORMS["sharegpt"]([user("a"), assistant("b")])):
        assert read_prompt("c", None, turns) == (user("a"), assistant("b"), user("c"))


def test_replies_in_json_are_replies() -> None:
    for reply in ('[{"name": "Ann"}]', "[]", '[{"value": 3}]', '{"role": "user"}', "[1, 2]"):
        assert read_turns(reply) is None
    with pytest.raises(Unusable, match="JSON"):
        read_turns("[{'role': 'user', 'content': 'single quotes'}]")


def test_text_that_shows_turns_and_cannot_be_read_as_them_is_refused() -> None:
    for text in (
        "[{'id': 0, 'role': 'user', 'content': 'single quotes'}]",
        "{'from': 'gpt', 'value': 'one turn as Python prints it'}",
        '[{"role": "user", "content": "Hi"}, {"content": "no role"}]',
        '[{"from": "gpt", "value": "Hi"}, "text"]',
    ):
        with pytest.raises(Unusable) as error:
            read_turns(text)
        assert error.value.reason in ("unreadable_json", "unknown_role", "not_text")


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "user", "from": "gpt", "content": "Hi"}, "unknown_role"),
        ({"role": "user", "content": "Hi", "value": "Ho"}, "not_text"),
    ],
)
def test_a_turn_with_two_roles_or_two_texts_is_refused(turn: Row, reason: str) -> None:
    with pytest.raises(Unusable, match="a turn has different values in ") as error:
        read_turns([turn])
    assert error.value.reason == reason
    assert read_turns([turn | {"from": "user", "value": "Hi"}]) == (user("Hi"),)


def test_every_reason_is_a_sentence() -> None:
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in REASONS.values())
    with pytest.raises(Unusable) as error:
        read_prompt([assistant("I begin.")])
    assert str(error.value) == REASONS["no_user_turn_last"]


@pytest.mark.parametrize("name", ["tool_calls", "function_call", "function_calls"])
def test_a_turn_that_calls_a_tool_is_refused_whatever_text_it_has(name: str) -> None:
    call = assistant("I look it up.") | {name: [{"name": "search"}]}
    for read in (lambda: read_turns([user("Why?"), call]), lambda: read_reply([user("Why?"), call], None)):
        with pytest.raises(Unusable) as error:
            read()
        assert error.value.reason == "tool_turn"
    assert read_turns([call | {name: None}]) == (assistant("I look it up."),)


def test_a_conversation_ends_in_one_turn_of_the_assistant() -> None:
    """Of two, nobody knows which is the reply."""
    for turns in ([assistant("So."), assistant("No.")], [user("Why?"), assistant("So."), assistant("No.")]):
        for prompt in (PROMPT, None):
            with pytest.raises(Unusable) as error:
                read_reply(turns, prompt)
            assert error.value.reason == "not_one_reply"
