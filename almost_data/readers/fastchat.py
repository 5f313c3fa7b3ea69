"""FastChat's folders: questions, the answers of models, and a judge's judgments, as saved then and now.

`question.jsonl` has `text`, or `turns`. `model_answer/` or `answer/` has a file a model: `text`, or the turns
of `choices`. `model_judgment/` has `g1_winner` and `g2_winner`, one an order of `model_1` and `model_2`; the
older `review/` has the two scores of one order. Arena-Hard 2 has `uid`, `prompt`, `model` and `messages`.
Of questions with several turns the first is read: later ones follow on another reply in each model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import formats
from .conversations import first_value
from .formats import Row
from .layout import number_of
from .reasons import ORDERS_DISAGREE

QUESTIONS = "question.jsonl"
ANSWERS = ("model_answer", "answer")
JUDGMENTS, REVIEWS = "model_judgment", "review"


def is_fastchat(source: str) -> bool:
    """Whether it is a folder of questions and answers."""
    folder = Path(source)
    return (folder / QUESTIONS).is_file() and any((folder / name).is_dir() for name in ANSWERS)


def response_rows(source: str) -> Iterator[Row]:
    """A row for each answer to the first turn of a question: prompt, responder, response."""
    questions = _questions(source)
    for place, row in _rows(source, *ANSWERS):
        if (name := _id(row)) not in questions:
            raise InputError(f"{place}: no question {name} in {QUESTIONS}")
        yield (
            place,
            {
                "prompt": questions[name],
                "responder": first_value(row, "model_id", "model"),
                "response": _reply(row),
            },
        )


def preference_rows(source: str) -> Iterator[Row]:
    """A row for each judgment of the first turn: a prompt, two replies, and the `winner`.

    It is null where a verdict is missing, and `orders_disagree` where the two orders differ.
    """
    replies = {(row["prompt"], str(row["responder"])): row["response"] for _, row in response_rows(source)}
    questions = _questions(source)
    yield from _reviews(source, questions)
    for place, row in _rows(source, JUDGMENTS):
        if "g1_winner" not in row or row.get("turn", 1) != 1:
            continue
        verdicts = (row["g1_winner"], row.get("g2_winner"))
        are_known = all(verdict in ("model_1", "model_2", "tie") for verdict in verdicts)
        disagreement = ORDERS_DISAGREE if are_known else None
        prompt = questions.get(_id(row))
        sides = {side: replies.get((prompt, str(row.get(side)))) for side in ("model_1", "model_2")}
        yield (
            place,
            {
                "prompt": prompt,
                **{side: row.get(side) for side in sides},
                "response_1": sides["model_1"],
                "response_2": sides["model_2"],
                "winner": verdicts[0] if verdicts[0] == verdicts[1] else disagreement,
            },
        )


def _reviews(source: str, questions: dict[str, Any]) -> Iterator[Row]:
    """A row for each review, which names its answers by id: a side is null without one to its question."""
    rows = (row for _, row in _rows(source, *ANSWERS))
    answers = {(_id(row), str(row["answer_id"])): row for row in rows if row.get("answer_id") is not None}
    for place, row in _rows(source, REVIEWS):
        question = _id(row)
        sides = [answers.get((question, str(row.get(name)))) for name in ("answer1_id", "answer2_id")]
        yield (
            place,
            {
                "prompt": questions.get(question),
                **{f"model_{n}": side and side.get("model_id") for n, side in enumerate(sides, 1)},
                **{f"response_{n}": side and _reply(side) for n, side in enumerate(sides, 1)},
                "winner": _winner(row.get("score")),
            },
        )


def _winner(scores: Any) -> str | None:
    """The side with the higher score. None without two: FastChat writes -1 for what it could not read."""
    first, second = map(number_of, scores) if isinstance(scores, list) and len(scores) == 2 else (None, None)
    if first is None or second is None or min(first, second) < 0:
        return None
    if first == second:
        return "tie"
    return "model_1" if first > second else "model_2"


def _questions(source: str) -> dict[str, str | None]:
    rows = formats.file_rows(Path(source) / QUESTIONS)
    return {_id(row): _first_turn(row) for _, row in rows}


def _id(row: dict[str, Any]) -> str:
    return str(first_value(row, "question_id", "uid"))


def _rows(source: str, *folders: str) -> Iterator[Row]:
    for folder in folders:
        for file in sorted((Path(source) / folder).glob("*.jsonl")):
            yield from formats.file_rows(file)


def _reply(answer: dict[str, Any]) -> str | None:
    """The first turn of an answer, as saved now or then; of Arena-Hard 2 the one that follows the prompt."""
    messages = answer.get("messages")
    if isinstance(messages, list):
        are_turns = len(messages) == 2 and all(isinstance(turn, dict) for turn in messages)
        content = messages[1].get("content") if are_turns else None
        return _text(content.get("answer") if isinstance(content, dict) else content)
    choices = answer.get("choices") or [answer]
    return _first_turn(choices[0] if isinstance(choices, list) else None)


def _first_turn(row: Any) -> str | None:
    """A question, or a reply to it; None for what is no text."""
    if not isinstance(row, dict):
        return None
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        return _text(first_value(row, "text", "prompt"))
    first = turns[0]  # in Arena-Hard an object
    return _text(first.get("content") if isinstance(first, dict) else first)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
