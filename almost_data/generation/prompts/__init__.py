"""Few-shot prompts as text files, and the parser that reads them.

The format is that of Askell et al. (2021): a preamble, then dialogues set apart by `-----` lines,
their turns marked `Human:` and `Assistant:`. A path to such a file works wherever a shipped prompt's
name does, so whoever has the original prompts can use them.

Deviation from the released code: our prompt ends in `Assistant:`, theirs in `Assistant: ` with a
space, which splits the first word of the reply for BPE tokenizers.
"""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ...errors import InputError

SEPARATOR = "\n\n-----\n\n"
STOP = ("-----", "Human:", "Assistant:")
"""Where a reply ends: the next dialogue or turn begins (released code)."""
SHIPPED = ("hhh", "faithful", "user")

_TURN = re.compile(r"^(Human|Assistant):", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A preamble and its dialogues, each the text of one, turns included."""

    preamble: str
    dialogues: tuple[str, ...]

    def head(self, shots: int) -> str:
        """Preamble and first `shots` dialogues: what every query of a responder has in front."""
        if not 0 <= shots <= len(self.dialogues):
            raise InputError(f"{shots} shots asked of a prompt that has {len(self.dialogues)} dialogues")
        return SEPARATOR.join([self.preamble, *self.dialogues[:shots]]) + SEPARATOR.rstrip()


def ask(query: str) -> str:
    """What follows the head: the query, and the assistant's turn opened.

    >>> ask("Is it late?")
    '\\n\\nHuman: Is it late?\\n\\nAssistant:'
    """
    return f"\n\nHuman: {query}\n\nAssistant:"


def load(prompt: str) -> Prompt:
    """A shipped prompt by name, or a file in the same format by path. InputError names file and line."""
    if prompt in SHIPPED:
        return parse(_shipped(prompt), prompt)
    text = _read(prompt, f"no prompt {prompt!r}: give {', '.join(SHIPPED)} or the path of a text file")
    return parse(text, prompt)


def parse(text: str, where: str) -> Prompt:
    """Read a prompt file. The text of preamble and dialogues is kept as it is, ends stripped."""
    parts: list[tuple[int, list[str]]] = [(1, [])]
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() == "-----":
            parts.append((number + 1, []))
        else:
            parts[-1][1].append(line)
    preamble, *dialogues = [(line, "\n".join(lines).strip()) for line, lines in parts]
    if _TURN.search(preamble[1]):
        raise InputError(f"{where}:1: a turn before the first ----- line: put the preamble first")
    for start, dialogue in dialogues:
        turns = _TURN.findall(dialogue)
        if any(turn != ("Human", "Assistant")[i % 2] for i, turn in enumerate(turns)):
            raise InputError(f"{where}:{start}: turns must alternate, the first one marked Human:")
        if dialogue and not turns:
            raise InputError(
                f"{where}:{start}: a dialogue without turns: begin them with Human: and Assistant:"
            )
    kept = tuple(dialogue for _, dialogue in dialogues if dialogue)
    if not kept:
        raise InputError(f"{where}: no dialogue: set them apart by lines of five dashes")
    return Prompt(preamble[1], kept)


def seeds(path: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The instruction for query mining and the seed queries: the shipped ones, or a file's.

    The file's first line is `### Instruction: ...`, every other line is one seed.
    """
    where = path or "seeds"
    text = _read(path, f"no seed file {path!r}") if path else _shipped("seeds")
    first, *rest = text.splitlines() or [""]
    found = tuple(line.strip() for line in rest if line.strip())
    if not first.startswith("### Instruction:") or not found:
        raise InputError(f"{where}:1: write '### Instruction: ...' first, then one seed query a line")
    return first.strip(), found


def question(name: str) -> str:
    """What an evaluation asks a model, with {names} where an item's texts go.

    >>> "{answer}" in question("truthfulqa_true")
    True
    """
    return _shipped(name).strip()


def _shipped(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.txt").read_text("utf-8")


def _read(path: str, missing: str) -> str:
    try:
        if not Path(path).is_file():
            raise InputError(missing)
        return Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}") from None
