"""Prompt and reply are told by their columns, or by the user; nothing beside them is lost without a word."""

from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.readers.dialogues import find_dialogues, find_prompts
from almost_data.readers.reasons import Unusable

SYSTEM = {"role": "system", "content": "Be brief."}
QUERY = [{"role": "user", "content": "Why?"}]
DIALOGUE = [*QUERY, {"role": "assistant", "content": "So."}]
SHAREGPT = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
CHATML = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def read(row: dict[str, Any], sample: list[dict[str, Any]] | None = None, **assignments: str) -> list[Any]:
    """The turns that a row comes to, where the columns are told by it or by a sample."""
    columns = find_dialogues(list(row), sample or [row], "rows", assignments)
    dialogue = columns.read("rows:1", row)
    return [*dialogue.prompt, {"role": "assistant", "content": dialogue.reply}]


def prompt(row: dict[str, Any], sample: list[dict[str, Any]] | None = None, **assignments: str) -> list[Any]:
    return [*find_prompts(list(row), sample or [row], "rows", assignments).read("rows:1", row)]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "Why?", "completion": "So."}, DIALOGUE),
        ({"system": "Be brief.", "prompt": "Why?", "completion": "So."}, [SYSTEM, *DIALOGUE]),
        ({"system_prompt": "Be brief.", "messages": DIALOGUE}, [SYSTEM, *DIALOGUE]),
        ({"messages": [SYSTEM, *DIALOGUE]}, [SYSTEM, *DIALOGUE]),
        ({"prompt": "Why?", "messages": [SYSTEM, *DIALOGUE]}, [SYSTEM, *DIALOGUE]),
        ({"conversations": SHAREGPT, "system": "Be brief.", "tools": ""}, [SYSTEM, *DIALOGUE]),
        ({"history": [["Oh?", "Yes."]], "query": "Why?", "response": "So."},
         [{"role": "user", "content": "Oh?"}, {"role": "assistant", "content": "Yes."}, *DIALOGUE]),
        ({"instruction": "Why", "input": "this?", "output": "So."},
         [{"role": "user", "content": "Why\n\nthis?"}, DIALOGUE[1]]),
        ({"instruction": "Why?", "input": "", "output": "So.", "text": "### Instruction: Why?"}, DIALOGUE),
        ({"text": "\n\nHuman: Why?\n\nAssistant: So."}, DIALOGUE),
        ({"prompt": "\n\nHuman: Why?\n\nAssistant:", "completion": "So."}, DIALOGUE),
        ({"prompt": QUERY, "completion": DIALOGUE}, DIALOGUE),
        ({"messages": QUERY, "response": "So.", "output": None}, DIALOGUE),
    ],
)  # fmt: skip
def test_a_dialogue_is_all_that_belongs_to_it(row: dict[str, Any], turns: list[Any]) -> None:
    assert read(row) == turns


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Why?", "context": "Rain.", "completion": "So."}, "both prompt and context may hold the"),
    ({"prompt": "Why?", "input": "Rain.", "completion": "So."}, "both prompt and input may hold the prompt"),
    ({"prompt": "Why?", "question": "How?", "completion": "So."}, "both prompt and question may hold the"),
    ({"prompt": "How?", "messages": DIALOGUE}, "both prompt and messages may hold the prompt"),
    ({"messages": DIALOGUE, "tools": [{"name": "search"}]}, "both messages and tools may hold the prompt"),
    ({"prompt": "Why?", "completion": "So.", "output": "No."},
     "both completion and output may hold the reply: say which one does: import.columns response=NAME"),
    ({"prompt": "Why?", "messages": DIALOGUE, "completion": "So."},
     "both completion and messages may hold the reply: import.columns prompt=prompt,response=completion"),
    ({"prompt": "Why is it?", "completion": "Why is it? So."}, "completion begins with the text of prompt"),
    ({"prompt": "Why?", "completion": '["So.", "No."]'}, "completion holds lists of texts"),
    ({"question": "Why?", "answer": "So."}, "no dialogues in answer, question: .*prompt=NAME,response=NAME"),
    ({"text": "Why? So."}, "no dialogues in text"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "match"), REFUSED)
def test_columns_that_may_hold_more_are_refused_by_their_names(row: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=f"^rows: {match}") as caught:
        read(row)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": CHATML, "completion": "So."}, "template_text"),
        ({"prompt": "Why?", "completion": CHATML}, "template_text"),
        ({"prompt": "Why?", "completion": ""}, "no_reply"),
        ({"prompt": "Why?", "completion": "nan"}, "no_reply"),
        ({"prompt": None, "completion": "So."}, "no_prompt"),
        ({"prompt": "Why?", "completion": "So.\n\nHuman: And?"}, "not_one_reply"),
        ({"prompt": "Why?", "completion": 3}, "not_text"),
        ({"messages": [*DIALOGUE, DIALOGUE[1]]}, "not_one_reply"),
        ({"messages": QUERY}, "not_one_reply"),
        ({"messages": None}, "no_reply"),
        ({"messages": DIALOGUE, "image": "a.png"}, "image"),
        ({"messages": [*QUERY, {"role": "tool", "content": "42"}, DIALOGUE[1]]}, "tool_turn"),
        ({"prompt": "Why?", "completion": "So.", "context": "Rain."}, "ambiguous"),
        ({"prompt": "Why?", "completion": "So.", "output": "No."}, "ambiguous"),
    ],
)
def test_a_row_that_is_no_dialogue_is_rejected(row: dict[str, Any], reason: str) -> None:
    fine = {"messages": DIALOGUE} if "messages" in row else {"prompt": "Why?", "completion": "So."}
    with pytest.raises(Unusable) as caught:
        read(row, [{**dict.fromkeys(row), **fine}])
    assert caught.value.reason == reason


def test_the_user_s_columns_decide() -> None:
    row = {"q": "Why?", "a": "So.", "s": "Be brief.", "context": "Rain.", "completion": "No."}
    assert read(row, prompt="q", response="a", system="s") == [SYSTEM, *DIALOGUE]
    assert read(row, prompt="q")[-1]["content"] == "No."
    row = {"prompt": "Why?", "context": "Rain.", "completion": "So."}
    assert read(row, prompt="prompt") == DIALOGUE
    assert read({"chat": SHAREGPT, "s": "Be brief."}, response="chat", system="s") == [SYSTEM, *DIALOGUE]
    columns = find_dialogues([*row], [row], "rows", {"prompt": "prompt"})
    assert columns.described == "prompt (prompt), reply (completion)"
    assert "context" not in columns.columns
    for name in ("prompt", "response", "system"):
        with pytest.raises(InputError, match=r"^rows: no column 'nowhere'; it has: "):
            read(row, **{"prompt": "prompt", "response": "completion", name: "nowhere"})
    with pytest.raises(InputError, match=r"rows:9: no column 'completion'; columns here: prompt"):
        columns.read("rows:9", {"prompt": "Why?"})


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"system": "Be brief.", "prompt": "Why?", "completion": "So."}, [SYSTEM, *QUERY]),
        ({"messages": [SYSTEM, *DIALOGUE]}, [SYSTEM, *QUERY]),
        ({"conversations": SHAREGPT, "system": "Be brief."}, [SYSTEM, *QUERY]),
        ({"text": "\n\nHuman: Why?\n\nAssistant: So."}, QUERY),
        ({"text": "\n\nHuman: Why?\n\nAssistant:"}, QUERY),
        ({"instruction": "Why?", "input": "", "output": "So."}, QUERY),
    ],
)
def test_a_prompt_is_what_stands_before_the_last_reply(row: dict[str, Any], turns: list[Any]) -> None:
    assert prompt(row) == turns


def test_a_dialogue_that_is_null_has_no_prompt() -> None:
    with pytest.raises(Unusable) as caught:
        prompt({"messages": None}, [{"messages": DIALOGUE}])
    assert caught.value.reason == "no_prompt"
