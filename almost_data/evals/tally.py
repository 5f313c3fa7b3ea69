"""From verdicts on pairs of answers to win, tie and lose, and to what puts them in doubt: order, length."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..generation import Reply
from ..scoring.verdicts import Verdict
from .result import Line

Winner = Literal["a", "b", "tie"]
SIDES: tuple[Literal["a", "b"], ...] = ("a", "b")
ORDERS = ("ab", "ba")
"""Which side's answer is shown first."""
POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}
"""Of a winner, for the win rate of side a."""


@dataclass
class JudgedQuestion:
    """One question: both answers, and the verdicts on them by the order in which they were shown."""

    id: str
    category: str | None = None
    replies: dict[str, Reply] = field(default_factory=dict)
    """By side."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def answers(self) -> dict[str, str]:
        """The texts of the replies that did not fail."""
        return {side: reply.text.strip() for side, reply in self.replies.items() if reply.error is None}

    def is_cut(self, side: str) -> bool:
        """Whether the side's answer ended at the token limit."""
        return side in self.replies and self.replies[side].finish_reason == "length"

    def scores(self, order: str) -> tuple[float, float] | None:
        """Scores of a and b in this order."""
        verdict = self.verdicts.get(order)
        if verdict is None or verdict.scores is None:
            return None
        first, second = verdict.scores
        return (first, second) if order == "ab" else (second, first)

    @property
    def difference(self) -> float | None:
        """Score of a less that of b, averaged over the orders; None where a verdict could not be read.

        One order alone would favour the answer that it shows first.
        """
        gaps = [pair[0] - pair[1] for order in ORDERS if (pair := self.scores(order))]
        return round(sum(gaps) / len(ORDERS), 6) if len(gaps) == len(ORDERS) else None

    @property
    def winner(self) -> Winner | None:
        gap = self.difference
        return None if gap is None else "tie" if gap == 0 else "a" if gap > 0 else "b"

    @property
    def firsts(self) -> list[float]:
        """1 for each verdict by which the first answer won, 0 for each by which the second one did."""
        pairs = [verdict.scores for verdict in self.verdicts.values() if verdict.scores]
        return [float(first > second) for first, second in pairs if first != second]

    @property
    def longer(self) -> str | None:
        lengths = {side: len(text) for side, text in self.answers.items()}
        if len(set(lengths.values())) < 2:
            return None
        return max(SIDES, key=lengths.__getitem__)

    def item(self) -> dict[str, Any]:
        """The row of the result; the question's text is not in it."""
        row: dict[str, Any] = {"question_id": self.id, "category": self.category, "winner": self.winner}
        row |= {"difference": self.difference}
        answers = self.answers
        for side, reply in self.replies.items():
            row |= {
                f"answer_{side}": answers.get(side),
                f"characters_{side}": len(answers[side]) if side in answers else None,
                f"cut_{side}": self.is_cut(side),
                f"error_{side}": reply.error,
            }
        for order in ORDERS:
            verdict, scores = self.verdicts.get(order), self.scores(order)
            row |= {
                f"{order[0]}_first_score_a": scores[0] if scores else None,
                f"{order[0]}_first_score_b": scores[1] if scores else None,
                f"{order[0]}_first_verdict": verdict.text if verdict else None,
                f"{order[0]}_first_unread": verdict.why if verdict else None,
                f"{order[0]}_first_error": verdict.error if verdict else None,
            }
        return row


def outcomes(winners: Sequence[Winner], who: str, subset: str = "overall") -> list[Line]:
    """Win rate of side a (a tie counts half), that without ties, and its shares of win, tie and lose."""
    decided = [winner for winner in winners if winner != "tie"]
    return [
        Line.of(who, "win rate", [POINTS[winner] for winner in winners], subset, 0.5),
        Line.of(who, "win rate without ties", [POINTS[winner] for winner in decided], subset, 0.5),
        *(
            Line.of(who, name, [float(winner == side) for winner in winners], subset)
            for name, side in {"win": "a", "tie": "tie", "lose": "b"}.items()
        ),
    ]


def lines(rows: Sequence[JudgedQuestion], a: str) -> list[Line]:
    """The numbers of side a, then what they owe to order and length, then by category."""
    numbers = outcomes([row.winner for row in rows if row.winner], a)
    firsts = [sum(row.firsts) / len(row.firsts) for row in rows if row.firsts]
    complete = [row for row in rows if all(row.scores(order) for order in ORDERS)]
    flips = [float(len(row.firsts) == 2 and len(set(row.firsts)) == 1) for row in complete]
    if complete:
        numbers.append(Line.of("judge", "first place wins", firsts, chance=0.5))
        numbers.append(Line.of("judge", "winner flips with the order", flips))
    longer = [float(row.winner == row.longer) for row in rows if row.winner in SIDES and row.longer]
    if longer:
        numbers.append(Line.of("judge", "longer answer wins", longer, chance=0.5))
    for category in dict.fromkeys(row.category for row in rows if row.category):
        winners = [row.winner for row in rows if row.category == category and row.winner]
        numbers += outcomes(winners, a, category)[:1]
    return numbers


def counts(rows: Sequence[JudgedQuestion]) -> dict[str, int]:
    """Questions by what came of them for side a."""
    count = Counter(row.winner for row in rows)
    return {
        "win": count["a"],
        "tie": count["tie"],
        "lose": count["b"],
        "not compared": count[None],
        "one order only": sum(sum(row.scores(order) is not None for order in ORDERS) == 1 for row in rows),
    }


def notes(rows: Sequence[JudgedQuestion], a: str, b: str, failed_answers: int) -> list[str]:
    """What a reader must know beside the numbers, one sentence each."""
    verdicts = [verdict for row in rows for verdict in row.verdicts.values()]
    unread = Counter(verdict.why for verdict in verdicts if verdict.why)
    reasons = ", ".join(f"{count} {reason}" for reason, count in unread.most_common()) or "none lost"
    count = counts(rows)
    sentences = [
        f"Questions: {a} won {count['win']}, tied {count['tie']} and lost {count['lose']} against {b}.",
        f"Mean score, 1 to 10: {a} {_mean(rows, 0)}, {b} {_mean(rows, 1)}.",
        f"Verdicts: {len(verdicts)} asked, {sum(verdict.scores is not None for verdict in verdicts)} read "
        f"({reasons}); questions with one order only: {count['one order only']}, not compared: "
        f"{count['not compared']}.",
    ]
    if failed_answers:
        sentences.append(f"Answers that failed: {failed_answers}. Run the same command again to retry them.")
    if unread["failed"]:
        sentences.append("Verdicts failed: run the same command again to retry them.")
    for side, name in zip(SIDES, (a, b), strict=True):
        if cut := sum(row.is_cut(side) for row in rows):
            sentences.append(f"Answers of {name} cut at the token limit: {cut} of {len(rows)}.")
    return sentences


def _mean(rows: Sequence[JudgedQuestion], side: int) -> str:
    """The side's mean score over all verdicts that were read."""
    values = [scores[side] for order in ORDERS for row in rows if (scores := row.scores(order))]
    return f"{sum(values) / len(values):.2f}" if values else "n/a"
