"""Tables of ratings, and why a response or a pair has none."""

from ...datasets.filters import Filter
from ...datasets.tables import ERROR, PROMPT, QUERY_ID, REASON, Table, integer, score, string
from ...scoring.verdicts import HIGHEST, LOWEST
from ..responses import FAILED, REPLY_ID, RESPONDER

_RATER = (
    string("rater", "the model that rated", "Qwen/Qwen3-32B"),
    string("rater_revision", "its commit, or what else pins it", "9216db5781bf21249d130ec9da846c4624c16137"),
)
_VERDICT = string(
    "verdict", "all that the judge wrote; null where it wrote nothing", "Both are fine, 8 or 9."
)
_PAIR = (
    QUERY_ID,
    string("chosen_reply_id", "reply_id of the response that the judge rates higher", "9d6b1d3a41c52f90"),
    string("rejected_reply_id", "reply_id of the other one", "03ab7f2e11d45c68"),
    string("chosen_responder", "responder of the former", "30B-HHH-5shot"),
    string("rejected_responder", "responder of the latter", "7B-HHH-1shot"),
)
_UNDECIDED = (
    QUERY_ID,
    string(
        "chosen_reply_id", "reply_id of the response that stands higher on the ladder", "9d6b1d3a41c52f90"
    ),
    *_PAIR[2:],
)
TABLES = {
    "default": Table(
        "one rated response a row",
        ("query_id", "reply_id"),
        (
            QUERY_ID,
            PROMPT,
            RESPONDER,
            integer("rank", "place of the responder in the ladder, 0 is best", 1),
            string("response", "the response", "No, tea is made from the leaves of a shrub."),
            REPLY_ID,
            score("rating", f"the reward model's score, or the judge's, from {LOWEST:g} to {HIGHEST:g}", 7.5),
            integer(
                "verdicts", "verdicts of the judge that the rating is the mean of; null of a reward model", 1
            ),
            string("explanation", "the judge's reasons; null of a reward model, and where pairs were judged"),
            *_RATER,
        ),
    ),
    "pairs": Table(
        "one pair of responses a row, judged in both orders",
        ("query_id", "chosen_reply_id", "rejected_reply_id"),
        (
            *_PAIR,
            score("chosen_rating", "its rating, the mean of its scores in both orders", 8.0),
            score("rejected_rating", "its rating, likewise", 3.5),
            string("explanation", "the judge's reasons where it read chosen first", "The second is wrong."),
            string("swapped_explanation", "its reasons where it read rejected first", "The first is wrong."),
            *_RATER,
        ),
    ),
    "rejected": Table(
        "one response without a rating a row",
        ("query_id", "reply_id"),
        (QUERY_ID, REPLY_ID, RESPONDER, REASON, ERROR, _VERDICT, *_RATER),
    ),
    "rejected_pairs": Table(
        "one pair that the judge did not decide a row",
        ("query_id", "chosen_reply_id", "rejected_reply_id"),
        (
            *_UNDECIDED,
            REASON,
            ERROR,
            _VERDICT,
            string("swapped_verdict", "all that it wrote where it read the other response first"),
            *_RATER,
        ),
    ),
}
_RULES = {
    "no_scores": "The judge's text does not end in the line that it was asked for, `{}`.",
    "out_of_range": f"A score is not on the scale from {LOWEST:g} to {HIGHEST:g}.",
    "two_verdicts": "The judge gave two verdicts that differ.",
    "cut_off": "The judge's text was cut at its token limit before the scores.",
}
UNREAD = tuple(_RULES)
"""Why a verdict has no score."""


def unread(unit: str) -> list[Filter]:
    """The failed requests, then the verdicts that cannot be read, of responses or pairs."""
    form = "Score: X" if unit == "response" else "Scores: X Y"
    reads = [Filter(name, unit, rule.format(form), "almost_data") for name, rule in _RULES.items()]
    failed = Filter(FAILED.name, unit, "The engine gave an error instead of a verdict.", "almost_data")
    return [failed, *reads]


TIE = Filter("tie", "pair", "Over both orders, the judge scores the two responses alike.", "almost_data")
UNDECIDED = Filter("undecided", "response", "The judge decided no pair of this response.", "almost_data")
