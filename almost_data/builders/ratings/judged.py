"""A judge's verdicts on responses, one at a time or two at a time in both orders."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby, permutations
from typing import Any

from ...datasets.builder import Progress, row_seed
from ...datasets.filters import chain
from ...datasets.ledger import Entry
from ...datasets.spool import Spool
from ...generation import Generator, Model, Request, Sampling, Usage
from ...scoring import verdicts
from ...scoring.verdicts import Verdict
from .tables import TIE, UNDECIDED, unread

Row = Mapping[str, Any]
"""A response: its `query_id`, `prompt`, `responder`, `rank`, `response` and `reply_id`."""


@dataclass(frozen=True)
class Judge:
    """A language model that is asked for verdicts."""

    model: Model
    """With its revision pinned."""
    generator: Generator
    sampling: Sampling
    template_options: Mapping[str, Any]
    seed: int
    progress: Progress
    usage: Usage = field(default_factory=Usage)
    """Grows by what verdicts cost."""

    def request(self, request_id: str, prompt: Sequence[Mapping[str, str]], *responses: str) -> Request:
        """The request for one verdict on responses to a conversation."""
        texts = (verdicts.question(prompt), *responses)
        seed = row_seed(self.seed, "ratings", request_id)
        return verdicts.request(request_id, self.model, self.sampling, texts, seed, self.template_options)

    def ask(self, requests: Iterator[Request], total: int, answers: int) -> dict[str, Verdict]:
        """The verdict of each request, by its id. Requests are made as the engine takes them."""
        read: dict[str, Verdict] = {}
        self.progress("ratings", 0, total, 0)
        for done, reply in enumerate(self.generator.generate(requests), start=1):
            self.usage.add(reply)
            read[reply.id] = verdicts.read(reply, answers)
            self.progress("ratings", done, total, self.usage.completion_tokens)
        return read


@dataclass
class RatedResponses:
    """What came of rating some responses."""

    rated: dict[str, dict[str, Any]] = field(default_factory=dict)
    """reply_id -> `rating`, `verdicts` and `explanation`."""
    pairs: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rejected_pairs: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Verdicts with a winner (`decided`, and `first` of them), or responses that were `truncated`."""


def judge_each(judge: Judge, rows: Sequence[Row]) -> RatedResponses:
    """A verdict on each response by itself."""
    judged = RatedResponses()
    requests = (judge.request(row["reply_id"], row["prompt"], row["response"]) for row in rows)
    read = judge.ask(requests, len(rows), 1)
    for row in rows:
        verdict = read[row["reply_id"]]
        if verdict.scores:
            judged.rated[row["reply_id"]] = {
                "rating": verdict.scores[0],
                "verdicts": 1,
                "explanation": verdict.explanation,
            }
        else:
            judged.rejected.append(_ids(row) | _lost(verdict) | {"verdict": verdict.text or None})
    return judged


def judge_pairs(judge: Judge, rows: Sequence[Row]) -> RatedResponses:
    """Two verdicts on every two responses to a query, each response read first once.

    A response's rating is the mean of its scores over the pairs that were decided. `rows` stand by query.
    """
    judged = RatedResponses()
    pairs = {
        f"{first['reply_id']}-{second['reply_id']}": (first, second)
        for _, replies in groupby(rows, key=lambda row: row["query_id"])
        for first, second in combinations(replies, 2)
    }
    requests = (
        judge.request(f"{name} {order}", first["prompt"], *responses)
        for name, (first, second) in pairs.items()
        for order, responses in enumerate(permutations((first["response"], second["response"])), 1)
    )
    read = judge.ask(requests, 2 * len(pairs), 2)
    for name, (first, second) in pairs.items():
        _add_pair(judged, first, second, (read[f"{name} 1"], read[f"{name} 2"]))
    scores = defaultdict[str, list[float]](list)
    for pair in judged.pairs:
        for side in ("chosen", "rejected"):
            scores[pair[f"{side}_reply_id"]].append(pair[f"{side}_rating"])
    judged.rated = {
        reply_id: {"rating": sum(values) / len(values), "verdicts": 2 * len(values)}
        for reply_id, values in scores.items()
    }
    judged.rejected = [
        _ids(row) | {"reason": UNDECIDED.name} for row in rows if row["reply_id"] not in judged.rated
    ]
    winners = [verdict.scores for verdict in read.values() if verdict.scores]
    judged.counts["decided"] = sum(first != second for first, second in winners)
    judged.counts["first"] = sum(first > second for first, second in winners)
    return judged


def judging_ledger(judging: str, spools: Mapping[str, Spool]) -> list[Entry]:
    """The ledger of responses, or of pairs and then responses, from all rows."""
    rules, kept, dropped = unread("response"), spools["default"], spools["rejected"]
    if judging == "pairs":
        rules, kept, dropped = [*unread("pair"), TIE], spools["pairs"], spools["rejected_pairs"]
    ledger = chain("judging", rules, kept.rows + dropped.rows, dropped.counts("reason"))
    if judging == "pairs":
        undecided = spools["rejected"].rows
        responses = spools["default"].rows + undecided
        ledger += chain("ratings", [UNDECIDED], responses, {UNDECIDED.name: undecided})
    return ledger


def place_bias(counts: Mapping[str, int]) -> dict[str, Any]:
    """How often the answer that is read first wins, of the verdicts with a winner."""
    decided = counts["decided"]
    return {"share_first_place_wins": counts["first"] / decided if decided else None}


def _add_pair(judged: RatedResponses, first: Row, second: Row, both_orders: tuple[Verdict, Verdict]) -> None:
    """A pair to `pairs`, the response that is rated higher first; or to `rejected_pairs`."""
    straight, swapped = both_orders
    lost = next((verdict for verdict in both_orders if not verdict.scores), None)
    if straight.scores and swapped.scores:
        means = [(straight.scores[side] + swapped.scores[1 - side]) / 2 for side in (0, 1)]
        if means[0] > means[1]:
            judged.pairs.append(_pair(first, second, means, straight, swapped))
            return
        if means[1] > means[0]:
            judged.pairs.append(_pair(second, first, means[::-1], swapped, straight))
            return
    row = _pair_ids(first, second) | ({"reason": TIE.name} if lost is None else _lost(lost))
    texts = {"verdict": straight.text or None, "swapped_verdict": swapped.text or None}
    judged.rejected_pairs.append(row | texts)


def _pair(
    chosen: Row, rejected: Row, means: Sequence[float], straight: Verdict, swapped: Verdict
) -> dict[str, Any]:
    return _pair_ids(chosen, rejected) | {
        "chosen_rating": means[0],
        "rejected_rating": means[1],
        "explanation": straight.explanation,
        "swapped_explanation": swapped.explanation,
    }


def _ids(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("query_id", "reply_id", "responder")}


def _pair_ids(chosen: Row, rejected: Row) -> dict[str, Any]:
    sides = {"chosen": chosen, "rejected": rejected}
    ids = {f"{side}_{name}": row[name] for side, row in sides.items() for name in ("reply_id", "responder")}
    return {"query_id": chosen["query_id"], **ids}


def _lost(verdict: Verdict) -> dict[str, Any]:
    return {"reason": str(verdict.why).replace(" ", "_"), "error": verdict.error}
