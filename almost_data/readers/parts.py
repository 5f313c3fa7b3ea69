"""Columns of what may belong to the prompt in another column: told by their names, for every import."""

import re
from functools import lru_cache

PARTS = (
    *("context", "passage", "document", "article", "paragraph", "story", "table", "instances"),
    *("contexts", "passages", "documents", "background", "evidence", "persona", "tools", "premise"),
    *("dialogue", "chat_history", "conversation_history", "dialogue_history", "chat_template_kwargs"),
    *("system_message", "system_instruction", "sys_prompt", "instructions", "schema", "inputs"),
    *("choices", "options", "endings", "initial_reason_steps", "body", "selftext", "knowledge"),
    *("previous_turns", "previous_messages", "context_messages", "dialog", "dialog_history", "system_role"),
    *("functions", "function_description", "starter_code", "past_user_inputs", "preamble", "prefix"),
    *("paragraphs", "articles", "plot", "docs", "ctxs", "supports"),
)
"""Columns of what may belong to a prompt in another column, or to the beginning of its replies."""
_LAST_WORD = re.compile(
    r"(?!(?:num|n|has|is|use|total)_)[\w -]+[_ -]"
    "(?:passage|paragraph|document|doc|context|article|tool|function)s?"
)
"""Names that end in such a word, as `flores_passage`, and do not count or ask."""
_CHOICE = re.compile(
    r"(option|choice|op|mc_answer|answer(?=[A-H]\Z)|)[_ ]?([A-H]|(?<=[a-z_ ])(?:[a-h]|\d{1,2}))"
)
"""The name of one of several choices, as `option_a`, `choice1`, `answerA` and `A`."""
_FEWEST = {"answer": 3}
"""So many choices of a kind stand beside a question, if not two: of two answers each may be a model's."""


def is_part(name: str) -> bool:
    """Whether a column may hold a part of the prompt, or one of several choices to it."""
    return _is_named_part(name) or _CHOICE.fullmatch(name) is not None


def _is_named_part(name: str) -> bool:
    return name in PARTS or _LAST_WORD.fullmatch(name.lower()) is not None


@lru_cache
def part_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a source's columns that may hold a part of its prompts; choices count beside a `question`."""
    kinds: dict[str, list[str]] = {}
    for name in names if "question" in names else ():
        if choice := _CHOICE.fullmatch(name):
            kinds.setdefault(choice[1], []).append(name)
    choices = [name for kind, group in kinds.items() if len(group) >= _FEWEST.get(kind, 2) for name in group]
    return (*filter(_is_named_part, names), *choices)
