"""Marks in a reply that belong to no reply: of a model's reasoning, and of the next turn."""

from collections.abc import Sequence

import polars as pl

from .patterns import find, matching

_TAGS = "thoughts?|reason|reasoning|reflection|analysis|scratchpad|inner_monologue"
REASONING = (
    r"(?i)<\s*/?\s*(?:think|thinking|seed:think)\b[^<>\n]{0,40}>|◁/?think▷|\[/?THINK\]|"
    # Channels of gpt-oss, and the marks of other open models
    r"<\|?channel\|?>|<\|message\|>|<\|(?:begin|end)_of_(?:thought|solution)\|>|"
    r"<\|(?:start|end)_(?:thinking|response)\|>|"
    # Only as the first words of a reply
    rf"\A\s*(?:<(?:{_TAGS})>|analysis(?s:.{{0,4000}})assistantfinal|here is my thought process:)"
)
_MARKS = (
    *("think", "◁", "channel", "message|>", "_of_thought", "_of_solution", "_response|>", "assistantfinal"),
    *(
        "<thought",
        "<reason",
        "<reflection",
        "<analysis",
        "<scratchpad",
        "<inner_monologue",
        "thought process:",
    ),
)
"""Words one of which stands in each text with a mark of reasoning."""
_CODE = r"(?s)```.*?(?:```|\z)|`[^\n]*?`"
_TOKENS = (
    r"<\|(?:im_start|im_end|eot_id|eom_id|start_header_id|end_header_id|endoftext|end_of_text|end|user|"
    r"assistant|"
    r"system)\|>|</?(?:start|end)_of_turn>|\[/?INST\]|<｜(?:User|Assistant|end▁of▁sentence)｜>"
)
_LABELS = r"\n[ \t]*(?:Human|User|人类|用户|用戶|ユーザー|사용자|###? ?(?:Human|User|Instruction))[ \t]*[:：]"
_TURNS = (
    *(
        "<|",
        "_of_turn>",
        "inst]",
        "<｜",
        "human",
        "user",
        "instruction",
        "人类",
        "用户",
        "用戶",
        "ユーザー",
        "사용자",
    ),
)
"""Words likewise of the next turn."""
NEXT_TURN = rf"{_TOKENS}|{_LABELS}"
_DIALOGUE_ASKED_FOR = (
    r"(?i)dialog|conversation|\bchat|script|transcript|interview|role-?play|\bplay\b|\bscene|\bprompt|"
    r"\b(?:human|user|robot|bot)s?\b|对话|對話|聊天|会話|対話|대화|диалог|diálogo|gespräch|conversación|"
    r"محادثة|حوار"
)


def holds_reasoning(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` has a mark of reasoning outside of code, of which its prompt has none."""
    is_asked_for = pl.col("prompt").str.contains(rf"(?i)<(?:{_TAGS}|think)")
    return _matches(rows, REASONING, _MARKS, ~is_asked_for)


def runs_on(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` goes on with a turn of the user, or has a token of a chat template."""
    labels_are_text = pl.col("prompt").str.contains(_DIALOGUE_ASKED_FOR)
    labels_are_text = labels_are_text | pl.col("response").str.contains(r"\A\W*\p{Lu}[\w' ]{0,20}[:：]")
    is_next = pl.col("text").str.contains(_TOKENS) | ~labels_are_text
    return _matches(rows, NEXT_TURN, _TURNS, is_next)


def _matches(rows: pl.DataFrame, pattern: str, words: Sequence[str], condition: pl.Expr) -> pl.Series:
    """Rows whose `response` matches outside of code, and of which the condition is true."""
    texts = rows.select("prompt", "response", text="response").with_row_index()
    candidates = find(texts, {pattern: words})
    outside = pl.col("text").str.replace_all(_CODE, "``")
    return matching(rows, candidates.filter(outside.str.contains(pattern) & condition)["index"])
