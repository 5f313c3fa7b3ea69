"""What a judge is asked about answers to a question, and how its verdicts are read.

Verdicts are read strictly: a score of each answer on the last line, in the form that the prompt asks for, or
on the first line as in the saved reviews of FastChat (`8 9.5`). Any other text is unread, never a tie.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from string import Template
from typing import Any, Literal

from ..generation import Model, Reply, Request, Sampling, prompts
from ..models.chat import split_reasoning, user_turn

LOWEST, HIGHEST = 1.0, 10.0
TOKENS = 1024
"""Of an explanation with its scores."""
Why = Literal["no scores", "out of range", "two verdicts", "cut off", "failed"]

_NUMBER = r"(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)(?:/10)?"
_SCORES = {1: _NUMBER, 2: rf"{_NUMBER}(?:[ \t]*,[ \t]*|[ \t]+){_NUMBER}"}
_FIRST = {count: re.compile(scores) for count, scores in _SCORES.items()}
_LAST = {count: re.compile(rf"scores?:[ \t]*{scores}", re.IGNORECASE) for count, scores in _SCORES.items()}
_EMPHASIS = re.compile(r"[*_`#]")
"""Marks of Markdown, as in `**Scores:** 8 7`."""
_PROMPTS = {1: "judge_one", 2: "judge"}


@dataclass(frozen=True)
class Verdict:
    """A judge's text on one answer or two; without scores, `why` says why it was not read."""

    text: str
    scores: tuple[float, ...] | None
    """Of each answer, in the order in which they were shown."""
    why: Why | None = None
    error: str | None = None

    @property
    def explanation(self) -> str:
        """The judge's reasons: its text without the lines of scores, and without what it thought before."""
        lines = split_reasoning(self.text)[1].strip().split("\n")
        count = len(self.scores or ())
        if count and _LAST[count].fullmatch(_plain(lines[-1]).rstrip(".")):
            lines = lines[:-1]
        if count and lines and _FIRST[count].fullmatch(_plain(lines[0])):
            lines = lines[1:]
        return "\n".join(lines).strip()


@cache
def prompt(answers: int = 2) -> str:
    """The judge's prompt on one answer or two, without question and answers."""
    return prompts.shipped(_PROMPTS[answers])


def question(turns: Sequence[Mapping[str, str]]) -> str:
    """The question as a judge reads it: the text of a single turn, or all turns with who speaks.

    >>> question([{"role": "user", "content": "Why?"}])
    'Why?'
    """
    if len(turns) == 1:
        return turns[0]["content"]
    return prompts.transcript([dict(turn) for turn in turns]).strip()


def ask(question_text: str, *answers: str) -> str:
    """The prompt for one verdict, each text in a fence that none of them can close.

    The word in the fence is a hash of the texts, and another hash where it occurs in them.
    """
    texts = (question_text, *answers)
    tag = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:12]
    while any(tag in text for text in texts):
        tag = hashlib.sha256(tag.encode()).hexdigest()[:12]
    by_name = {f"answer_{number}": answer for number, answer in enumerate(answers, start=1)}
    # In one pass: a `$answer_2` in an answer is text.
    return Template(prompt(len(answers))).substitute(by_name, tag=tag, question=question_text)


def request(
    request_id: str,
    model: Model,
    sampling: Sampling,
    texts: tuple[str, ...],
    seed: int | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> Request:
    """The request for one verdict; `texts` are the question and one answer or two."""
    messages = user_turn(ask(*texts))
    return Request.chat(request_id, model, messages, sampling, seed=seed, template_options=template_options)


def read(reply: Reply, answers: int = 2) -> Verdict:
    """The verdict in a judge's reply."""
    if reply.error is not None:
        return Verdict("", None, "failed", reply.error)
    return parse(reply.text, reply.finish_reason == "stop", answers=answers)


def parse(text: str, whole: bool = True, answers: int = 2) -> Verdict:
    """The scores in a judge's text. Of a text that is not `whole`, only the first line is read.

    >>> parse("The second one is wrong.\\n\\nScores: 8 3.5").scores
    (8.0, 3.5)
    >>> parse("**Scores:** 8 3").scores
    (8.0, 3.0)
    >>> parse("8/10 9/10\\nThe second one says more.").scores
    (8.0, 9.0)
    >>> parse("It is right.\\nScore: 7", answers=1).scores
    (7.0,)
    >>> parse("Both are fine, 8 or 9.").why
    'no scores'
    """
    plain = _EMPHASIS.sub("", split_reasoning(text)[1])
    lines = [line.strip() for line in plain.strip().split("\n")]
    matches = [match for match in (_FIRST[answers].fullmatch(lines[0]),) if match]
    if last := _LAST[answers].fullmatch(lines[-1].rstrip(".")):
        if not whole and not matches:
            return Verdict(text, None, "cut off")
        matches += [last] if whole else []
    if not matches:
        return Verdict(text, None, "no scores" if whole else "cut off")
    verdicts = {tuple(map(float, match.groups())) for match in matches}
    if len(verdicts) > 1:
        return Verdict(text, None, "two verdicts")
    scores = verdicts.pop()
    if not all(LOWEST <= score <= HIGHEST for score in scores):
        return Verdict(text, None, "out of range")
    return Verdict(text, scores)


def _plain(line: str) -> str:
    return _EMPHASIS.sub("", line).strip()
