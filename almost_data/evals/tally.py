"""From verdicts on pairs of answers to win, tie and lose, and to what puts them in doubt: order, length."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from . import stats
from .judge import Verdict
from .result import Line

Winner = Literal["a", "b", "tie"]
ORDERS = ("ab", "ba")
"""Which side's answer stands first."""


@dataclass
class Judged:
    """One question: both answers and the verdicts on them, by the order in which they were shown."""

    id: str
    category: str | None = None
    answers: dict[str, str | None] = field(default_factory=dict)
    errors: dict[str, str | None] = field(default_factory=dict)
    cut: dict[str, bool] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def scores(self, order: str) -> tuple[float, float] | None:
        """Scores of a and b in this order."""
        verdict = self.verdicts.get(order)
        if verdict is None or verdict.scores is None:
            return None
        first, second = verdict.scores
        return (first, second) if order == "ab" else (second, first)

    @property
    def difference(self) -> float | None:
        """Score of a less that of b, averaged over the orders that were read."""
        found = [one[0] - one[1] for order in ORDERS if (one := self.scores(order))]
        return round(sum(found) / len(found), 6) if found else None

    @property
    def winner(self) -> Winner | None:
        gap = self.difference
        return None if gap is None else "tie" if gap == 0 else "a" if gap > 0 else "b"

    @property
    def firsts(self) -> list[float]:
        """1 for each verdict by which the first place won, 0 for each by which the second one did."""
        found = [self.verdicts[order].scores for order in ORDERS if self.scores(order)]
        return [float(one[0] > one[1]) for one in found if one and one[0] != one[1]]

    @property
    def longer(self) -> str | None:
        one, two = self.answers.get("a"), self.answers.get("b")
        if one is None or two is None or len(one) == len(two):
            return None
        return "a" if len(one) > len(two) else "b"

    def item(self) -> dict[str, Any]:
        """A row of items.parquet; the question's text is not in it."""
        row: dict[str, Any] = {"question_id": self.id, "category": self.category, "winner": self.winner}
        row |= {"difference": self.difference}
        for side in ("a", "b"):
            text = self.answers.get(side)
            row |= {
                f"answer_{side}": text,
                f"characters_{side}": None if text is None else len(text),
                f"cut_{side}": self.cut.get(side, False),
                f"error_{side}": self.errors.get(side),
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


def outcomes(winners: Sequence[Winner], who: str, seed: int, subset: str = "overall") -> list[Line]:
    """Win rate of side a (a tie counts half), that without ties, and its shares of win, tie and lose."""

    def share(metric: str, values: Sequence[float], ties: int = 0, chance: float | None = None) -> Line:
        return line(who, metric, values, seed, subset, ties, chance)

    ties = winners.count("tie")
    points = [{"a": 1.0, "tie": 0.5, "b": 0.0}[one] for one in winners]
    decided = [float(one == "a") for one in winners if one != "tie"]
    return [
        share("win rate", points, ties, 0.5),
        share("win rate without ties", decided, 0, 0.5),
        share("win", [float(one == "a") for one in winners]),
        share("tie", [float(one == "tie") for one in winners]),
        share("lose", [float(one == "b") for one in winners]),
    ]


def line(
    who: str,
    metric: str,
    values: Sequence[float],
    seed: int,
    subset: str = "overall",
    ties: int = 0,
    chance: float | None = None,
) -> Line:
    """A share of questions with its 95% interval; without any, n/a.

    The interval is the bootstrap's, or Wilson's where that is wider: of a few questions that agree, nearly
    every draw is the same.
    """
    if not values:
        return Line(who, metric, subset, 0, None, None, None, ties, chance)
    value, low, high = stats.mean(values, seed)
    _, lower, higher = stats.share(values)
    return Line(who, metric, subset, len(values), value, min(low, lower), max(high, higher), ties, chance)


def lines(rows: Sequence[Judged], a: str, seed: int) -> list[Line]:
    """The numbers of a comparison: of side a, then what they owe to order and length, then by category."""
    winners = [one.winner for one in rows if one.winner]
    found = outcomes(winners, a, seed)
    first = [sum(one.firsts) / len(one.firsts) for one in rows if one.firsts]
    both = [one for one in rows if all(one.scores(order) for order in ORDERS)]
    flips = [float(len(one.firsts) == 2 and len(set(one.firsts)) == 1) for one in both]
    if both:
        found.append(line("judge", "first place wins", first, seed, chance=0.5))
        found.append(line("judge", "winner flips with the order", flips, seed))
    decided = [one for one in rows if one.winner in ("a", "b") and one.longer]
    longer = [float(one.winner == one.longer) for one in decided]
    if decided:
        found.append(line("judge", "longer answer wins", longer, seed, chance=0.5))
    for category in dict.fromkeys(one.category for one in rows if one.category):
        some = [one.winner for one in rows if one.category == category and one.winner]
        found += [one for one in outcomes(some, a, seed, category) if one.metric == "win rate"]
    return found


def tables(rows: Sequence[Judged], a: str, b: str) -> dict[str, Any]:
    """Mean scores by place, counts, and what became of the verdicts, for the result's page."""
    count = Counter(str(one.winner) for one in rows)
    asked = {order: [one.verdicts[order] for one in rows if order in one.verdicts] for order in ORDERS}
    reasons = sorted({one.why for some in asked.values() for one in some if one.why})
    firsts = {"ab": f"{a} first", "ba": f"{b} first"}
    return {
        "counts": {name: count[key] for name, key in (("win", "a"), ("tie", "tie"), ("lose", "b"))}
        | {"not compared": count["None"], "one order only": _half(rows)},
        "scores": {
            "title": "Mean scores, 1 to 10",
            "columns": ["who", "in first place", "in second place", "both"],
            "rows": [
                [a, *map(_shown, _means(rows, 0, ("ab",), ("ba",), ORDERS))],
                [b, *map(_shown, _means(rows, 1, ("ba",), ("ab",), ORDERS))],
            ],
        },
        "verdicts": {
            "title": "Verdicts",
            "columns": ["order", "asked", "read", *reasons],
            "rows": [
                [
                    firsts[order],
                    len(some),
                    sum(one.scores is not None for one in some),
                    *(sum(one.why == why for one in some) for why in reasons),
                ]
                for order, some in asked.items()
            ],
        },
    }


def notes(rows: Sequence[Judged], a: str, b: str, failed_answers: int = 0) -> list[str]:
    """What a reader must know beside the numbers, one sentence each."""
    every = [one for row in rows for one in row.verdicts.values()]
    lost = Counter(one.why for one in every if one.why)
    named = ", ".join(f"{count} {why}" for why, count in lost.most_common()) or "none lost"
    one, two = (_means(rows, side, ORDERS)[0] for side in (0, 1))
    count = Counter(str(row.winner) for row in rows)
    found = [
        f"Questions: {a} won {count['a']}, tied {count['tie']} and lost {count['b']} against {b}.",
        f"Mean score, 1 to 10: {a} {_shown(one)}, {b} {_shown(two)}.",
        f"Verdicts: {len(every)} asked, {sum(one.scores is not None for one in every)} read ({named}); "
        f"questions with one order only: {_half(rows)}, not compared: {count['None']}.",
    ]
    if failed_answers:
        found.append(f"Answers that failed: {failed_answers}. Run the same command again to ask for them.")
    if lost["failed"]:
        found.append("Verdicts failed: run the same command again to ask for them.")
    for side, name in (("a", a), ("b", b)):
        if cut := sum(row.cut.get(side, False) for row in rows):
            found.append(f"Answers of {name} cut at the token limit: {cut} of {len(rows)}.")
    if every and not any("ba" in row.verdicts for row in rows):
        found.append("One order only: what the place of an answer does cannot be told from what it is worth.")
    return found


def _half(rows: Sequence[Judged]) -> int:
    return sum(sum(one.scores(order) is not None for order in ORDERS) == 1 for one in rows)


def _means(rows: Sequence[Judged], side: int, *groups: tuple[str, ...]) -> list[float | None]:
    """The side's mean score over the verdicts in the orders of each group."""
    found = []
    for group in groups:
        some = [scores[side] for one in rows for order in group if (scores := one.scores(order))]
        found.append(sum(some) / len(some) if some else None)
    return found


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
