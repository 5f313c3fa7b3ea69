"""Whole dialogues that are written as one text: HH-RLHF's and HelpSteer's are read, all others are refused.

Text is a dialogue where that is beyond doubt: it begins as one, or has a turn as a chat template writes it.
"""

import html
import re
from collections.abc import Callable
from typing import Any

from ..models.chat import Messages, user_turn
from .reasons import Unusable

_ROLES = {"Human": "user", "User": "user", "Assistant": "assistant"}
_HH_ROLES = ("Human:", "Assistant:")
_REPLY_LABELS = (
    *(*_HH_ROLES, "ASSISTANT:", "### Assistant:", "### Response:", "## Assistant\n", "### Assistant\n"),
    *("**Assistant:**", "**Assistant**:"),
)
"""How a reply begins that has the label of its turn."""
_HH_START = re.compile(r"\s*Human:")
_HH_REPLY = re.compile(r"(\r\n\r\n|\n\n|\r\n|\n|\r)[ \t]*Assistant:")
_STEER_TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")
_TOKEN = r"<[|｜][^\s<>|｜]{1,40}[|｜]>"
_LINE_START = rf"(?:^|\n)[ \t]*(?:(?:<s>|<bos>|\[gMASK\]|<sop>|\]~!b\[|{_TOKEN})[ \t]*)*"
_MARKS = ("<", "[|", "[INST]", "[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "]~", "[e~[")
"""One of which every mark of a chat template has."""
_ESCAPED = "&lt;|"
"""The beginning of a token in a text that was written for HTML."""
_TURN_TOKEN = r"[<\]][^\s<>\[\]]{0,20}[:_|~][^\s<>\[\]]{0,20}[>\]]"
"""What begins a turn, as `<start_of_turn>`, `<seed:bos>` and `]~b]`, by a sign that no tag of HTML has."""
_ROLE = "(?:system|developer|user|human|prompter|assistant|bot|ai)"
_TEMPLATE_TURN = re.compile(
    rf"{_LINE_START}(?:{_TOKEN}(?i:{_ROLE})(?:\n|{_TOKEN}|\Z)|<[|｜](?:im_)?(?i:{_ROLE})(?:_TOKEN)?[|｜]>"
    rf"|\[\|(?i:{_ROLE})\|\]|\[(?:SYSTEM_PROMPT|AVAILABLE_TOOLS)\]|<<SYS>>|<(?i:{_ROLE})>:"
    rf"|{_TURN_TOKEN}(?i:{_ROLE}|model)\n|<role>(?i:{_ROLE})</role>|<reserved_10[2367]>)"
)
"""A turn as chat templates write it: a role between special tokens, or in one, which Baichuan numbers."""
_END_TOKEN = re.compile(
    r"""(?:(?<=[^ \t`"'(*])|(?<=[.!?。！？] ))"""
    rf"(?:{_TOKEN}|<end_of_turn>|<turn\|>|<(?:seed:)?eos>|\[e~\[|</s>)\s*\Z"
)
"""The end of a turn likewise, at the end of a text and right behind it, or behind a sentence."""
END = 100
"""Characters in which the end of a text shows a token."""
_INSTRUCTION = re.compile(_LINE_START + r"\[INST\]")
"""The beginning of a turn that ends in `[/INST]`, which is sought apart: a pattern of both is quadratic."""
_OPEN_TURN = re.compile(
    r"(?:(?:^|\n)(?:Assistant|AI|### (?:Response|Assistant))|(?:^|[\s>])ASSISTANT):\s*\Z|\n<think>\s*\Z"
    r"|(?:^|\n)(?:### Response|#{1,4} Assistant)\s*\Z"
)
"""The end of a prompt that was written for a model to continue."""


def _label(roles: str) -> str:
    """The pattern of a label: `User:`, `**User:**`, `[User]`, or a heading, `## User`."""
    role = rf"(?i:{roles})(?: said)?"
    return rf"(?:(?:#{{1,4}} ?|\*\*|\[)?{role}(?:\*\*|\])?[ \t]?[:：]|#{{1,4}} {role}[ \t]*[\r\n]|\[{role}\])"


_USERS = "human|user|you|人类|人間|用户|ユーザー|사용자|usuario|utilisateur|nutzer|пользователь"
_ASSISTANTS = "assistant|ai|bot|chatgpt|助手|アシスタント|어시스턴트|asistente|assistent|ассистент"
_TRANSCRIPT_START = re.compile(
    rf"\s*(?:{_label(_USERS)}|GPT4 Correct User:"
    r"|A chat between a (?:curious )?(?:human|user) |BEGINNING OF CONVERSATION: USER:|<(?i:human|user)>)"
)
_SYSTEM_START = re.compile(rf"\s*{_label('system')}")
_LATER_USER = re.compile(rf"[\r\n][ \t]*{_label(_USERS)}")
_TRANSCRIPT_REPLY = re.compile(
    rf"[\r\n][ \t]*{_label(_ASSISTANTS)}|(?:### ?|GPT4 Correct )(?i:{_ASSISTANTS})[:：]"
    r"|[ >](?:ASSISTANT|GPT):|<(?i:assistant)>"
)
"""The turns of a transcript, as `User:` and `Assistant:`; in Guanaco and Vicuna they stand within a line."""
_INSTRUCTION_HEAD = re.compile(r"### (?:Instruction|指示):?[ \t]*[\r\n]")
_RESPONSE_HEAD = re.compile(r"[\r\n]### (?:Response|応答)(?::|[ \t]*(?:[\r\n]|\Z))")
"""The two turns of Alpaca's template."""
_LINE_END = r"(?>\r\n|\n|\r)"
_HH_PARAGRAPH = re.compile(rf"{_LINE_END}[ \t]*{_LINE_END}[ \t]*(?:Human|Assistant):")
_HH_LINES = [re.compile(rf"(?:\A|{_LINE_END})[ \t]*{role}:") for role in ("Human", "Assistant")]
"""HH-RLHF's turns within a text: a role that begins a paragraph, or both of them that begin a line."""


def read_hh(text: Any) -> Messages:
    """A dialogue of HH-RLHF as turns, in any line endings; the last may be an empty `Assistant:`.

    The line ending before the first `Assistant:` is the one that parts turns: where that is a blank line, a
    line within a turn that begins with `Human:` is text. Raises Unusable, also where `Assistant:` only stands
    within a line, and where turns are parted in two ways.

    >>> [turn["content"] for turn in read_hh("Human: Why?\\nAssistant: Because.")]
    ['Why?', 'Because.']
    """
    if not isinstance(text, str) or not is_hh(text):
        raise Unusable("not_text", "not a dialogue of `Human:` and `Assistant:`")
    reply = _HH_REPLY.search(text)
    if reply is None:
        content = check_text(text.strip().removeprefix("Human:").strip())
        if "Assistant:" in content:
            raise Unusable("template_text")
        return user_turn(content)
    ending = re.escape(reply[1])
    _, *parts = re.split(rf"(?:\A\s*|{ending})[ \t]*(Human|Assistant):[ \t]?", text)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    turns = [(_ROLES[name], content.strip()) for name, content in pairs]
    if turns[-1] == ("assistant", ""):
        turns.pop()
    if any(has_hh_turn(content) for _, content in turns):  # parted by another line ending than the first
        raise Unusable("template_text")
    return tuple({"role": role, "content": content} for role, content in turns)


def read_steer(text: Any) -> Any:
    """A prompt of HelpSteer: the user's text, or turns parted by lines of `<extra_id_1>User` or `Assistant`.

    >>> [turn["role"] for turn in read_steer("Hi\\n<extra_id_1>Assistant\\nHello!\\n<extra_id_1>User\\nWhy?")]
    ['user', 'assistant', 'user']
    """
    if not isinstance(text, str) or not _STEER_TURN.search(text):
        return text
    first, *parts = _STEER_TURN.split(text)
    turns = zip(("User", *parts[::2]), (check_text(first), *parts[1::2]), strict=True)
    return [{"role": _ROLES[name], "content": content} for name, content in turns]


def is_hh(value: Any) -> bool:
    """Whether a text is a dialogue of HH-RLHF or its beginning: `Human:` stands at its head."""
    return isinstance(value, str) and _HH_START.match(value) is not None


def is_whole_hh(value: Any) -> bool:
    """Whether a text is a dialogue of HH-RLHF with a turn of the assistant."""
    return is_hh(value) and _HH_REPLY.search(value) is not None


def has_hh_turn(text: str) -> bool:
    """Whether a paragraph of a text begins as a turn of HH-RLHF, or a line as each of its two turns."""
    if not any(role in text for role in _HH_ROLES):
        return False
    return _HH_PARAGRAPH.search(text) is not None or all(line.search(text) for line in _HH_LINES)


def check_text(text: str) -> str:
    """The text, if it is one turn of a user. Raises Unusable for a dialogue that was written as text."""
    is_plain = ":" not in text and "<" not in text and "：" not in text and "[" not in text
    if is_plain and "#" not in text and "]" not in text and _ESCAPED not in text:
        return text  # no turn is written without one of these
    is_open = any(mark in text[-20:] for mark in (":", "<think>", "# ")) and _OPEN_TURN.search(text)
    if is_open or _is_transcript(text) or _is_template(text, re.Pattern.search):
        raise Unusable("template_text")
    return text


def check_reply(text: str) -> str:
    """The text, unless it begins as a dialogue; an answer may show one further down. Raises Unusable."""
    start = text.lstrip()
    is_dialogue = start.startswith(_REPLY_LABELS) or _begins_as_transcript(start)
    if is_dialogue or _is_template(start, re.Pattern.match):
        raise Unusable("template_text")
    return text


def _is_transcript(text: str) -> bool:
    """Whether a text begins with a user's turn and goes on with a reply, or has turns of HH or Alpaca."""
    if text.lstrip().startswith(("prompter:", "Human:")):  # OASST's word for the user, and HH-RLHF's
        return True
    if _begins_as_transcript(text):
        return True
    instruction = _INSTRUCTION_HEAD.search(text)
    if instruction and _RESPONSE_HEAD.search(text, instruction.end() - 1):
        return True
    return has_hh_turn(text)


def _begins_as_transcript(text: str) -> bool:
    """Whether a text begins with a turn of a user, or a system text before it, and goes on with a reply."""
    begins = _TRANSCRIPT_START.match(text) or (_SYSTEM_START.match(text) and _LATER_USER.search(text))
    return begins is not None and _TRANSCRIPT_REPLY.search(text) is not None


def _is_template(text: str, find: Callable[[re.Pattern[str], str], re.Match[str] | None]) -> bool:
    """Whether a turn of a chat template is where `find` looks, or its end mark at the end of the text."""
    if _ESCAPED in text:
        text = html.unescape(text)
    is_plain = "<" not in text and "[" not in text and "]" not in text  # fast for most texts
    if is_plain or not any(mark in text for mark in _MARKS):
        return False
    end = _END_TOKEN.search(text, max(0, len(text) - END))
    if end and not (end[0].startswith("</s>") and "<s>" in text):
        return True
    start = find(_INSTRUCTION, text)
    is_instruction = start is not None and text.find("[/INST]", start.end()) >= 0
    return is_instruction or find(_TEMPLATE_TURN, text) is not None
