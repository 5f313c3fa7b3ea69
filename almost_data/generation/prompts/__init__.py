"""Few-shot prompts as text files, and the parser that reads them.

The format is that of Askell et al. (2021): a preamble, then dialogues set apart by `-----` lines,
their turns marked `Human:` and `Assistant:`. The path of such a file may stand in place of a shipped
prompt's name, for users who have the original prompts.

Deviation from the released code: our prompt ends in `Assistant:`, theirs in `Assistant: ` with a
space, which splits the first word of the reply for BPE tokenizers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import cycle
from pathlib import Path

from ... import inputs
from ...errors import InputError
from ...models.chat import Message, Messages

SEPARATOR = "\n\n-----\n\n"
STOP = ("-----", "Human:", "Assistant:")
"""Where a reply ends: the next dialogue or turn begins (released code)."""
MARKS = {"system": "System", "user": "Human", "assistant": "Assistant"}
"""How a turn of each role begins."""
SHIPPED = ("hhh", "faithful", "user")
SEEDS = ("seeds", "everyday")
"""Seed queries: of many kinds, and simple ones for the smallest models."""

_TURN = re.compile(r"^(Human|Assistant):", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A preamble and its dialogues, each as text with its turns."""

    preamble: str
    dialogues: tuple[str, ...]

    def head(self, shots: int) -> str:
        """Preamble and first `shots` dialogues, which precede every query of a responder."""
        if not 0 <= shots <= len(self.dialogues):
            raise InputError(f"{shots} shots: the prompt has {len(self.dialogues)} dialogues")
        return SEPARATOR.join([self.preamble, *self.dialogues[:shots]]) + SEPARATOR.rstrip()

    def turns(self, shots: int) -> Messages:
        """The first `shots` dialogues as messages.

        Raises InputError where one does not end in a reply, or has text before its first turn.
        """
        self.head(shots)  # checks the number
        turns: list[Message] = []
        for dialogue in self.dialogues[:shots]:
            before, *parts = _TURN.split(dialogue)
            if before.strip():
                raise InputError(
                    f"a dialogue of the prompt has text before its first turn: {before.strip()[:40]!r}: "
                    "a chat has no place for it, so put it into the preamble"
                )
            for mark, content in zip(parts[::2], parts[1::2], strict=True):
                role = "user" if mark == MARKS["user"] else "assistant"
                turns.append({"role": role, "content": content.strip()})
            if turns[-1]["role"] != "assistant":
                raise InputError("a dialogue of the prompt ends in the user's turn: end it with a reply")
        return tuple(turns)


def transcript(messages: Sequence[Message]) -> str:
    """Turns as the text format writes them.

    >>> transcript([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    '\\n\\nSystem: Be brief.\\n\\nHuman: Why?'
    """
    return "".join(f"\n\n{MARKS[turn['role']]}: {turn['content']}" for turn in messages)


def ask(messages: Sequence[Message], role: str = "assistant") -> str:
    """The text after the head: the conversation, and the beginning of the next turn.

    >>> ask([{"role": "user", "content": "Is it late?"}])
    '\\n\\nHuman: Is it late?\\n\\nAssistant:'
    """
    return f"{transcript(messages)}\n\n{MARKS[role]}:"


def load(prompt: str) -> Prompt:
    """A shipped prompt by name, or a file in the same format by path. InputError names file and line."""
    return parse(_read(prompt, "prompt", SHIPPED), prompt)


def parse(text: str, name: str) -> Prompt:
    """Read the text of a prompt file: preamble and dialogues as they are, without white space around them.

    Raises InputError that names the line.
    """
    sections: list[tuple[int, list[str]]] = [(1, [])]  # first line and lines: preamble, then dialogues
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() == "-----":
            sections.append((number + 1, []))
        else:
            sections[-1][1].append(line)
    (_, preamble), *dialogues = [(start, "\n".join(lines).strip()) for start, lines in sections]
    if _TURN.search(preamble):
        raise InputError(f"{name}:1: a turn before the first ----- line: put the preamble first")
    for start, dialogue in dialogues:
        turns = _TURN.findall(dialogue)
        if any(turn != mark for turn, mark in zip(turns, cycle(("Human", "Assistant")), strict=False)):
            raise InputError(f"{name}:{start}: turns must alternate, the first one marked Human:")
        if dialogue and not turns:
            raise InputError(
                f"{name}:{start}: a dialogue without turns: begin them with Human: and Assistant:"
            )
    texts = tuple(dialogue for _, dialogue in dialogues if dialogue)
    if not texts:
        raise InputError(f"{name}: no dialogue: set them apart by lines of five dashes")
    return Prompt(preamble, texts)


def seeds(source: str = "seeds") -> tuple[str, tuple[str, ...]]:
    """The instruction for query mining and the seed queries: shipped ones by name, or a file's.

    The file's first line is `### Instruction: ...`, every other line is one seed.
    """
    instruction, *lines = _read(source, "seeds", SEEDS).splitlines() or [""]
    queries = tuple(line.strip() for line in lines if line.strip())
    if not instruction.startswith("### Instruction:") or not queries:
        raise InputError(f"{source}:1: write '### Instruction: ...' first, then one seed query a line")
    return instruction.strip(), queries


def question(name: str) -> str:
    """A shipped question of an evaluation to a model, with {names} in place of an item's texts.

    >>> "{answer}" in question("truthfulqa_true")
    True
    """
    return shipped(name).strip()


def shipped(name: str) -> str:
    """The text of a file in this folder."""
    return resources.files(__name__).joinpath(f"{name}.txt").read_text("utf-8")


def _read(source: str, kind: str, names: Sequence[str]) -> str:
    """The text of a shipped file by name, or of a user's by path."""
    if source in names:
        return shipped(source)
    try:
        if Path(source).is_file():
            return inputs.read_text(Path(source))
    except OSError as error:  # a path that is too long
        raise InputError(f"{source[:80]}: cannot be read: {error.strerror}") from None
    raise InputError(f"no {kind} {source!r}: give {', '.join(names)} or the path of a text file")
