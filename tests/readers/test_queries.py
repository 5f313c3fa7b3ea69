"""A prompt's column is told by its name, or refused; a dialogue as text is read as its turns, or rejected."""

import json
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.readers.detection import detect
from almost_data.readers.parts import PARTS
from almost_data.readers.queries import CONVERSATIONS, find_column, find_queries
from almost_data.readers.reasons import Unusable
from almost_data.readers.responses import find_columns

ROLES = ("user", "assistant") * 2
NAN = float("nan")


def read(row: dict[str, Any]) -> list[tuple[str, str]]:
    prompt = find_queries(list(row), [row], "rows", None).read("rows:1", row)
    return [(turn["role"], turn["content"]) for turn in prompt]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "Why?"}, [("user", "Why?")]),
        ({"prompt": "\n\nHuman: Why?\n\nAssistant:"}, [("user", "Why?")]),
        ({"prompt": "Human: Why?"}, [("user", "Why?")]),
        (
            {"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "},
            [("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
        (
            {"prompt": "a\n<extra_id_1>Assistant\nb\n<extra_id_1>User\nc"},
            [("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
        ({"system_prompt": "Be brief.", "question": "Why?"}, [("system", "Be brief."), ("user", "Why?")]),
        ({"instruction": "Say", "input": "tea", "output": "t"}, [("user", "Say\n\ntea")]),
        (
            {"instruction": "c", "input": "", "history": [["a", "b"]], "output": "d"},
            [("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
        ({"prompt": "c", "history": "[]"}, [("user", "c")]),
        (
            {"query": "c", "history": [["user", "a"], ["assistant", "b"]]},
            [("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
        *(({"instruction": "a", "input": null}, [("user", "a")]) for null in ("nan", "<noinput>", NAN)),
        *(({"question": "a", "system": null}, [("user", "a")]) for null in ("None", "nan", NAN)),
        (
            {"messages": [{"role": "system", "content": " "}, {"role": "user", "content": "a"}]},
            [("user", "a")],
        ),
        ({"prompt": "<image> in SVG?"}, [("user", "<image> in SVG?")]),
        ({"prompt": "<image>a.png</image>?"}, [("user", "<image>a.png</image>?")]),
        ({"turns": ["a", "b"]}, [("user", "a")]),
        ({"turns": [{"content": "a"}, {"content": "b"}]}, [("user", "a")]),
        (
            {"messages": [{"role": "User", "content": "a"}, {"role": "Chatbot", "content": "b"}]},
            [("user", "a")],
        ),
        (
            {"source": "s", "conversation": [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]},
            [("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
        ({"conversation": [{"human": "a", "assistant": "b"}], "category": "c"}, [("user", "a")]),
        ({"prompt": "a", "input": None}, [("user", "a")]),
        ({"messages": [{"role": "user", "content": "a"}], "label": True}, [("user", "a")]),
        ({"conversations": [{"from": "human", "value": "a"}], "answer": "b", "tools": None}, [("user", "a")]),
        (
            {
                "model": "m",
                "conversation": [
                    {"role": role, "content": text} for role, text in zip(ROLES, "abcd", strict=True)
                ],
            },
            [("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
    ],
)
def test_a_row_is_read_as_its_turns(row: dict[str, Any], turns: list[tuple[str, str]]) -> None:
    assert read(row) == turns


@pytest.mark.parametrize(
    "beside",
    [
        *("role", "author", "speaker", "from", "parent_id", "label", "sentiment", "reply", "response"),
        *("answer1_body", "response_a", "model-output", "labels_0"),
    ],
)
def test_text_beside_what_says_that_it_may_be_no_prompt_is_refused(beside: str) -> None:
    """OASST's rows of every turn, a set of labelled reviews, a chat with a column of speakers."""
    with pytest.raises(InputError, match="say which column holds the query"):
        read({"text": "No, a leaf.", beside: "assistant"})
    assert find_column(["text", beside], [], "rows", "text").name == "text"


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"history": "a: b"}, "unreadable_history"),
        ({"history": [{"role": "user", "content": None}]}, "unreadable_history"),
        ({"history": [["user", "a"], ["user", "b"]]}, "unreadable_history"),
        ({"system": 7}, "unreadable_system"),
        ({"image_id": 0}, "image"),
        ({"imageId": "n1"}, "image"),
        ({"prompt": "<image>\nWhy?"}, "image"),
        ({"prompt": [{"role": "user", "content": "Why?\n<image>"}]}, "image"),
        ({"prompt": "\u200b \ufeff"}, "no_prompt"),
        *(
            ({"prompt": [{"role": "system", "content": "a", name: [{"name": "f"}]}]}, "tool_turn")
            for name in ("tools", "functions")
        ),
        ({"image": "x.png"}, "image"),
        ({"images": ["x"]}, "image"),
        ({"img_path": "x.png"}, "image"),
        ({"video": "x.mp4"}, "image"),
        ({"prompt": [{"role": "user", "content": [{"type": "image_url"}, {"text": "Why?"}]}]}, "not_text"),
        ({"prompt": [{"role": "user", "content": [{"type": "tool_result", "content": "7"}]}]}, "not_text"),
        ({"prompt": "**User:** Hi\n**Assistant:** Ho\n**User:** Why?"}, "template_text"),
        ({"prompt": "{'role': 'user', 'content': 'Why?'}"}, "unreadable_json"),
        ({"prompt": "{'id': 3, 'role': 'user', 'content': 'Why?'}"}, "unreadable_json"),
    ],
)
def test_what_belongs_to_the_prompt_and_cannot_be_read_is_a_reason(beside: Any, reason: str) -> None:
    with pytest.raises(Unusable) as error:
        read({"prompt": "Why?", **beside})
    assert error.value.reason == reason
    assert read({**dict.fromkeys(beside), "prompt": "Why?"}) == [("user", "Why?")]


CHOICES = [
    *("A and B", "option_a and option_b", "option1 and option2", "choice1 and choice2", "opa and opb"),
    *("option_0 and option_9", "mc_answer1 and mc_answer2", "answerA and answerB and answerC"),
]


@pytest.mark.parametrize("part", [*CONVERSATIONS, "input", *PARTS, "flores_passage", "gold doc", *CHOICES])
def test_a_question_beside_what_may_belong_to_it_is_refused(part: str) -> None:
    """MMLU and its like: without its choices a question is not the whole prompt."""
    row = {"question": "Which is a leaf?", **dict.fromkeys(part.split(" and "), "tea"), "answer": 0}
    refusal = rf"both question and {part} may hold the query: .*import\.columns query=NAME"
    with pytest.raises(InputError, match=refusal):
        read(row)
    named = find_column(list(row), [row], "rows", "question").read("rows:1", row)
    assert [turn["content"] for turn in named] == [row["question"]]
    assert find_column(["prompt", "A", "B", "C", "D"], [], "rows").name == "prompt"
    answers = ["question", "answerA", "answerB", "answer_1", "has_context", "answer"]
    assert find_column(answers, [dict.fromkeys(answers, "a")], "rows").name == "question"


def test_tools_beside_whole_conversations_of_responders_are_refused() -> None:
    chat = [{"role": role, "content": "Hi"} for role in ROLES]
    row = {"large": chat, "small": chat, "tools": [{"name": "f"}]}
    ladder = {"large": "large", "small": "small"}
    with pytest.raises(
        InputError, match="rows: tools may belong to the prompts of large and small: write it"
    ):
        find_columns(list(row), [row], "rows", ladder, {})
    assert find_columns(list(row), [row | {"tools": None}], "rows", ladder, {}).prompt is None


@pytest.mark.parametrize(
    "turn", [{"parent_id": 7}, {"conversation_id": "c", "turn": 2}, {"session_id": 0, "turn_idx": "1"}]
)
def test_rows_that_are_turns_of_a_conversation_are_no_prompts(turn: dict[str, Any]) -> None:
    first = {**turn, **{name: None if name == "parent_id" else 0 for name in [*turn][-1:]}}
    rows = [{"prompt": "And then?", "chosen": "a", "rejected": "b", **columns} for columns in (first, turn)]
    last = [*turn][-1]
    for setting, refuse in (
        ("query=prompt", lambda: find_queries([*rows[0]], rows, "rows", None)),
        ("prompt=prompt,chosen=NAME,rejected=NAME", lambda: detect(rows, "rows", [*rows[0]])),
        ("prompt=prompt", lambda: find_columns([*rows[0]], rows, "rows", {"chosen": "", "rejected": ""}, {})),
    ):
        with pytest.raises(
            InputError, match=rf"are turns of conversations \({last}\): .* by import\.col.*{setting}"
        ):
            refuse()
    assert find_queries([*rows[0]], rows, "rows", "prompt").name == "prompt"
    assert find_queries([*rows[0]], rows[:1], "rows", None).name == "prompt"
    chat = [{"role": "user", "content": "And then?"}]
    whole = [{"role": role, "content": "Hi"} for role in ROLES]
    for columns in ({"prompt": chat}, {"history": [["Hi", "Ho"]]}):
        dialogues = [{**row, **columns} for row in rows]
        assert find_queries([*dialogues[0]], dialogues, "rows", None).name == "prompt"
        assert detect(dialogues, "rows", [*rows[0]]).name == "trl"
    sides = [{**row, "chosen": whole, "rejected": whole} for row in rows]
    assert detect(sides, "rows", [*rows[0]]).name == "trl"


def test_a_column_without_a_value_is_no_second_prompt_and_a_late_value_is_a_reason() -> None:
    """Dolly's `context`, and columns that a merged dataset has for its other parts."""
    rows = [{"instruction": "Why?", "context": empty, "messages": None} for empty in ("", None, [])]
    column = find_column(list(rows[0]), rows, "rows")
    assert column.name == "instruction" and all(column.read("rows:1", row) for row in rows)
    for late in ({"context": "Tea is a leaf."}, {"messages": [{"role": "user", "content": "Hi"}]}):
        with pytest.raises(Unusable, match=r"^column \w+: may hold the prompt$") as error:
            column.read("rows:9", rows[0] | late)
        assert error.value.reason == "ambiguous"
    empty_row = {"prompt": None, "question": ""}
    for row in (empty_row, {"prompt": "", "context": "Tea is a leaf."}):
        with pytest.raises(InputError, match=r"both prompt and .* may hold the query"):
            find_column(list(row), [row], "rows")


def test_a_prompt_with_which_a_whole_conversation_begins_is_the_query() -> None:
    """UltraChat and No Robots; Magpie has ShareGPT's turns beside `instruction`."""
    chat = [
        {"role": role, "content": text} for role, text in zip(ROLES, ("Why?\n", "So.", "c", "d"), strict=True)
    ]
    system = {"role": "system", "content": "Be brief."}
    sharegpt = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    for column, name, whole, turns in (
        ("prompt", "messages", chat, ["Why?"]),
        ("prompt", "messages", [system, *chat], ["Be brief.", "Why?"]),
        ("instruction", "conversations", sharegpt, ["Why?"]),
        ("question", "conversation", json.dumps(chat), ["Why?"]),
    ):
        rows = [{column: "Why?", "id": 1, name: value} for value in (whole, whole, None, chat[2:])]
        prompts = find_queries(list(rows[0]), rows, "rows", None)
        assert prompts.described == f"{column}, with the system turn of {name}"
        assert [turn["content"].strip() for turn in prompts.read("rows:1", rows[0])] == turns
        assert [turn["content"] for turn in prompts.read("rows:3", rows[2])] == ["Why?"]
        for turns_beside, reason in (
            (chat[2:], "prompts_differ"),
            ([{"role": "tool", "content": "7"}], "tool_turn"),
        ):
            with pytest.raises(Unusable) as error:
                prompts.read("rows:4", {column: "Why?", name: turns_beside})
            assert error.value.reason == reason
        with pytest.raises(InputError, match=f"both {column} and {name} may hold the query"):
            find_queries(list(rows[0]), rows[2:], "rows", None)
    row = {"prompt": "Why?", "system": "Be long.", "messages": [system, *chat]}
    with pytest.raises(InputError, match="both prompt and messages"):
        read(row)


@pytest.mark.parametrize(
    "cell", ['["Why?", "And then?"]', "['Why?', 'And then?']", '{"role": "user", "content": "Why?"}']
)
def test_lists_of_texts_that_a_table_has_as_text_are_no_query(cell: str) -> None:
    rows = [{"prompt": cell}] * 2
    with pytest.raises(
        InputError,
        match=r"prompt holds lists of texts, or turns or texts as JSON: .*import\.columns query=prompt",
    ):
        find_queries(["prompt"], rows, "rows", None)
    assert find_queries(["prompt"], rows, "rows", "prompt").read("rows:1", rows[0])[0]["content"] == cell
    assert find_queries(["prompt"], [*rows, *[{"prompt": "Why?"}] * 2], "rows", None).name == "prompt"


def test_the_input_of_an_instruction_that_is_named_is_read_after_it() -> None:
    row = {"instruction": "Say", "input": "tea", "query": "Why?"}
    for system, texts in ((None, ["Say\n\ntea"]), ("input", ["tea", "Say"])):
        column = find_queries(list(row), [row], "rows", "instruction", system)
        assert [turn["content"] for turn in column.read("rows:1", row)] == texts


def test_a_list_of_texts_is_no_list_of_turns() -> None:
    with pytest.raises(Unusable, match=r"^conversations .*, not a list of texts: write each as"):
        read({"conversations": ["Why?", "Because."]})


def test_text_that_a_chat_template_wrote_is_rejected() -> None:
    with pytest.raises(Unusable) as error:
        read({"prompt": "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"})
    assert error.value.reason == "template_text"


def test_the_columns_of_a_query_are_named() -> None:
    chat = [{"role": role, "content": "Hi"} for role in ROLES]
    for row, described in (
        ({"question": "Why?", "system": "Be kind.", "id": 1}, "question, system"),
        ({"instruction": "Say", "input": "tea", "output": "t"}, "instruction, input"),
        ({"messages": chat[:3]}, "messages"),
        ({"turns": ["Why?", "And then?"]}, "turns: of several texts the first"),
        ({"messages": chat}, "messages: the turns before the last reply"),
    ):
        assert find_queries(list(row), [row], "rows", None).described == described
