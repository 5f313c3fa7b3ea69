"""A dialogue that is written as one text is read where its form is known, and else refused, never guessed."""

import re

import pytest

from almost_data.readers import dialogue_text
from almost_data.readers.conversations import read_prompt, read_reply
from almost_data.readers.detection import detect
from almost_data.readers.dialogue_text import read_hh, read_steer
from almost_data.readers.reasons import Unusable
from almost_data.readers.row_readers import read_hh_replies
from tests.readers.layouts import Pair, pairs_of, user

PROMPT = (user("Why?"),)
TEMPLATES = (
    "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>",
    "<s>[INST] Why? [/INST]",
    "<start_of_turn>user\nWhy?<end_of_turn>",
    "<|user|>\nWhy?\n<|assistant|>\n",
    "<|prompter|>Why?<|endoftext|><|assistant|>",
    "Hi\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nWhy?",
    "Human: Why?\n\nAssistant: Because.",
    "User: Why?\n\nAssistant:",
    "### Instruction:\nWhy?\n\n### Response:\n",
    "Think of it.\n\n### Instruction:\nWhy?\n\n### Response:\nBecause.",
    "User: Why?\nAssistant: Because.\nUser: And then?",
    "Human: Why?\nAI: Because.\nHuman: And then?",
    "user: Why?\nassistant: Because.\nuser: And then?",
    "human: Why?\nbot: Because.",
    "prompter: Why?",
    "Why?\n\nAssistant: Because.\n\nHuman: And then?",
    "Why?\r\n\r\nAssistant: Because.\r\n\r\nHuman: And then?",
    "Read this.\n\nHuman: Why?\n\nAssistant: Because.",
    *(
        start + ending.join(turns)
        for start, turns in (
            ("Why?", ("", "Assistant: Because.", "Human: And then?")),
            ("Read this.", ("", "Human: Why?", "Assistant: Because.")),
            ("", ("Assistant: Hi.", "Human: Why?")),
        )
        for ending in ("\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\n  \n ")
    ),
    *(f"Why?{blank}{role}: So." for blank in ("\n\n", "\r\n\r\n", "\r\r") for role in ("Human", "Assistant")),
    "Human: Why?",
    "Human: Why? Assistant: Because.",
    "### Human: Why?### Assistant: Because.",
    "A chat between a curious user and an assistant. USER: Why? ASSISTANT: Because.</s>USER: And then?",
    "BEGINNING OF CONVERSATION: USER: Why? ASSISTANT: Because. USER: And then?",
    "Be brief. USER: Why? ASSISTANT:",
    "GPT4 Correct User: Why?<|end_of_turn|>GPT4 Correct Assistant:",
    "<｜begin▁of▁sentence｜><｜User｜>Why?<｜Assistant｜>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Why?<|END_OF_TURN_TOKEN|>",
    "<|begin_of_text|><|header_start|>user<|header_end|>\n\nWhy?<|eot|>",
    "<|start|>user<|message|>Why?<|end|><|start|>assistant",
    "<|start_of_role|>user<|end_of_role|>Why?<|end_of_text|>",
    "<|im_user|>user<|im_middle|>Why?<|im_end|>",
    "[gMASK]<sop><|user|>\nWhy?<|assistant|>",
    "Why?<|eot_id|>",
    "A human and an AI talk.\n[|Human|] Why?\n[|AI|] Because.\n[|Human|] ",
    "<|Human|>: Why?<eoh>\n",
    "<human>: Why?\n<bot>:",
    "Why?<|im_end|>\n<|im_start|>assistant",
    "Why?\n<think>\n",
    "[AVAILABLE_TOOLS] [] [/AVAILABLE_TOOLS][INST] Why? [/INST]",
    "<<SYS>>\nBe brief.\n<</SYS>>\n\nWhy?",
    "[USER]: Why?\n[ASSISTANT]: Because.\n[USER]: And then?",
    "<user>Why?</user>\n<assistant>Because.</assistant>\n<user>And then?</user>",
    "[SYSTEM_PROMPT] Be brief.[/SYSTEM_PROMPT][INST] Why?[/INST]",
    "\n\n人类：Why?\n\n助手：",
    "人間: Why?\nアシスタント: Because.\n人間: And then?",
    "]~!b[]~b]system\nBe brief.[e~[\n]~b]user\nWhy?[e~[\n]~b]ai\n",
    "]~b]user\nWhy?",
    "<seed:bos>user\nWhy?<seed:eos><seed:bos>assistant\n",
    "<bos><|turn>user\nWhy?<turn|>\n<|turn>model\n",
    "<SPECIAL_11>User\nWhy?\n<SPECIAL_11>Assistant\n",
    "<role>HUMAN</role>Why?<role>ASSISTANT</role>",
    *("Why?[e~[", "Why?<seed:eos>", "Why?<turn|>"),
    "## User\nWhy?\n\n## Assistant\nBecause.\n\n## User\nAnd then?",
    "### User\r\nWhy?\r\n### Assistant\r\nBecause.",
    "Why?\n\n## Assistant\n",
    "### Instruction\nWhy?\n\n### Response\n",
    "Answer.\n\n### 指示:\nWhy?\n\n### 応答:\n",
    "System: Be brief.\nUser: Why?\nAssistant: Because.\nUser: And then?",
    "You said:\nWhy?\nChatGPT said:\nBecause.",
    "[User] Why?\n[Assistant] Because.\n[User] And then?",
    "User : Why?\nAssistant : Because.\nUser : And then?",
    "사용자: Why?\n어시스턴트: Because.",
    "Usuario: Why?\nAsistente: Because.",
    "BEGINNING OF CONVERSATION: USER: Why? GPT: Because. USER: And then?",
)


LABELS = (
    *("Assistant: Because.", "Human: Why?", "ASSISTANT: Because.", "### Response:\nBecause."),
    *("### Assistant: Because.", "## Assistant\nBecause.", "**Assistant:** Because."),
    *("]~b]ai\nBecause.", "<seed:bos>assistant\nBecause.", "User: Why?\nAssistant: Because."),
)


NUMBERED = ("<reserved_106>Why?<reserved_107>", "<reserved_102>Why?<reserved_103>Because.")
ESCAPED = (
    "&lt;|im_start|&gt;user\nWhy?&lt;|im_end|&gt;\n&lt;|im_start|&gt;assistant",
    "&lt;|User|&gt;Why?&lt;|Assistant|&gt;",
)


@pytest.mark.parametrize("text", [*TEMPLATES, *NUMBERED, *ESCAPED])
def test_a_dialogue_as_text_is_no_turn(text: str) -> None:
    with pytest.raises(Unusable) as error:
        read_prompt(text)
    assert error.value.reason == "template_text"


@pytest.mark.parametrize("text", [*TEMPLATES[:6], TEMPLATES[7], *LABELS])
def test_a_reply_that_begins_as_a_dialogue_is_no_reply_and_one_that_shows_it_is(text: str) -> None:
    with pytest.raises(Unusable) as error:
        read_reply(f"\n{text}", PROMPT)
    assert error.value.reason == "template_text"
    answer = f"ChatML and its likes:\n```\n{text}\n```"
    assert read_reply(answer, PROMPT).reply == answer
    row = {"prompt": "q", "response_0": answer, "response_1": "b", "better_response_id": 0}
    assert pairs_of(detect([row], "rows", list(row)), [row])[0] == [Pair([user("q")], answer, "b")]


@pytest.mark.parametrize(
    "end", ["<|im_end|>", "\n<end_of_turn>\n", "\n<eos>", " </s>", "<｜end▁of▁sentence｜>"]
)
def test_a_reply_that_ends_in_the_mark_of_a_template_is_no_text(end: str) -> None:
    with pytest.raises(Unusable) as error:
        read_reply(f"Because.{end}", PROMPT)
    assert error.value.reason == "template_text"
    for answer in (f"The mark is `{end.strip()}`", f"It is {end.strip()}", "<s>Then</s> <s>now</s>"):
        assert read_reply(answer, PROMPT).reply == answer


def test_instructions_are_sought_without_a_pattern_of_any_length() -> None:
    """`[INST].*[/INST]` over all beginnings of turns takes the square of the text's length."""
    patterns = [value for value in vars(dialogue_text).values() if isinstance(value, re.Pattern)]
    assert len(patterns) > 5 and not any(".*" in pattern.pattern for pattern in patterns)
    unclosed = "\n[INST] a" * 16_000
    assert read_prompt(unclosed) == (user(unclosed),)
    assert read_prompt("[/INST] before [INST]")
    for text in (f"{unclosed}\n[/INST]", f"{unclosed}\n<|im_start|>user\nWhy?"):
        with pytest.raises(Unusable):
            read_prompt(text)


@pytest.mark.parametrize(
    "text",
    [
        "What does <|im_start|> mean?",
        "Is [INST] a token?",
        "Who is Human: or Assistant:?",
        "a: b:",
        "<|end|>",
        "User: what does Assistant: mean?",
        "What is a prompter: a machine?",
        "user: root\nhost: ai.example",
        "Sum this up:\nUser: Why?\nAssistant: Because.",
        "Who am I?\r\nAssistant: a person who helps.",
        "A play:\nHuman: Hi.",
        "Q: Why?\nA: Because.\nQ: And then?\nA:",
        "# User\nHow do I write this page?",
        "### Instructions:\nBe kind.\n\n### Response format:\nJSON",
        "<td>user\n</td>",
        "System: Ubuntu\nUser: root",
        "System: a set of parts.\n\nAI: intelligence of machines.",
        "[User] is to log in. Then [Assistant] appears.",
        "What does ]~b] mean?",
        "How do I write &lt;|x|&gt; in HTML?",
    ],
)
def test_text_about_templates_is_text(text: str) -> None:
    assert read_prompt(text) == (user(text),)


ENDINGS = ("\n\n", "\r\n\r\n", "\n", "\r\n")


@pytest.mark.parametrize("first", ENDINGS)
@pytest.mark.parametrize("later", ENDINGS)
def test_turns_that_are_parted_in_two_ways_are_read_right_or_not_at_all(first: str, later: str) -> None:
    text = f"Human: Why?{first}Assistant: So.{later}Human: Where?{later}Assistant: There."
    if first not in later:
        with pytest.raises(Unusable):
            read_hh(text)
    else:
        assert [turn["content"] for turn in read_hh(text)] == ["Why?", "So.", "Where?", "There."]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_reply_after_a_dialogue_is_one_turn(ending: str) -> None:
    row = {"prompt": f"Human: Why?{ending}Assistant:", "rejected": "No."}
    with pytest.raises(Unusable) as error:
        read_hh_replies(row | {"chosen": f"So.{ending}Human: Where?{ending}Assistant: There."})
    assert error.value.reason == "not_one_reply"
    assert read_hh_replies(row | {"chosen": "So.\nAs Human: a film says."})[0].chosen.text.startswith("So.")


def test_turns_that_stand_in_one_line_or_without_a_reply_between_them_are_not_read() -> None:
    assert read_hh("\n\nHuman: Why?") == PROMPT
    for text in (
        "Human: Why? Assistant:",
        "Human: Why?\n\nHuman: And?",
        "Human: Why?\n<|im_start|>user\nWhy?",
    ):
        with pytest.raises(Unusable) as error:
            read_hh(text)
        assert error.value.reason == "template_text"


@pytest.mark.parametrize(
    "text",
    ["<extra_id_0>System\n\n<extra_id_1>User\nWhy?", "<extra_id_1>User\nWhy?\n<extra_id_1>Assistant\n"],
)
def test_a_dialogue_of_helpsteer_begins_with_the_text_of_the_user(text: str) -> None:
    with pytest.raises(Unusable):
        read_steer(text)


def test_a_line_of_one_speaker_within_a_turn_is_text_and_those_of_both_are_not_read() -> None:
    text = "\n\nHuman: Name a film.\n\nAssistant: It is called:\nHuman: All Too Human."
    assert [turn["role"] for turn in read_hh(text)] == ["user", "assistant"]
    with pytest.raises(Unusable):
        read_hh(f"{text}\nAssistant: And who plays in it?")
