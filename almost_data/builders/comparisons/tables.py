"""Tables of comparisons, and the columns that a user's filter sees."""

from ...datasets.tables import QUERY_ID, REASON, Column, Table
from ..responses import REPLY_ID, RESPONDER

_ASIS = (
    Column("asis_chosen", "float64", "the As-is RM's score of chosen; null if it was not asked", 1.25),
    Column("asis_rejected", "float64", "the As-is RM's score of rejected; null likewise", -0.5),
    Column("asis_gap", "float64", "asis_chosen - asis_rejected; null likewise", 1.75),
)
_CHOSEN = Column("chosen_responder", "string", "responder of the chosen response", "30B-HHH-5shot")
_REJECTED = Column("rejected_responder", "string", "responder of the rejected response", "7B-HHH-1shot")
_STAGE = Column("stage", "string", "where it was dropped", "response checks")
TABLES = {
    "default": Table(
        "one comparison a row, as TRL's RewardTrainer and DPOTrainer read it",
        ("query_id", "comparison_id"),
        (
            Column("prompt", "messages", "the query", [{"role": "user", "content": "Is tea a fruit?"}]),
            Column(
                "chosen",
                "messages",
                "the response of the better responder",
                [{"role": "assistant", "content": "No, tea is made from the leaves of a shrub."}],
            ),
            Column(
                "rejected",
                "messages",
                "the response of the worse responder",
                [{"role": "assistant", "content": "Yes, tea is a fruit that grows on trees."}],
            ),
            Column(
                "comparison_id",
                "string",
                "reply_id of chosen, dash, reply_id of rejected",
                "9d6b1d3a41c52f90-03ab7f2e11d45c68",
            ),
            QUERY_ID,
            _CHOSEN,
            _REJECTED,
            *_ASIS,
        ),
    ),
    "rejected": Table(
        "one dropped pair a row, by ids",
        ("query_id", "chosen_reply_id", "rejected_reply_id"),
        (
            QUERY_ID,
            Column("chosen_reply_id", "string", "reply_id of the higher-ranked response", "9d6b1d3a41c52f90"),
            Column("rejected_reply_id", "string", "reply_id of the lower-ranked one", "03ab7f2e11d45c68"),
            _CHOSEN,
            _REJECTED,
            _STAGE,
            REASON,
            *_ASIS,
        ),
    ),
    "rejected_responses": Table(
        "one dropped response a row, by id",
        ("query_id", "reply_id"),
        (REPLY_ID, QUERY_ID, RESPONDER, _STAGE, REASON),
    ),
}
HOOKS = {
    "response": {
        "prompt": "Is tea a fruit?",
        "response": "No, it is made from the leaves of a shrub.",
        "responder": "large",
        "rank": 0,
        "finish_reason": "stop",
        "length": 42,
    },
    "pair": {
        "prompt": "Is tea a fruit?",
        "chosen": "No, it is made from the leaves of a shrub.",
        "rejected": "Yes, it is.",
        "chosen_responder": "large",
        "rejected_responder": "small",
        "chosen_rank": 0,
        "rejected_rank": 1,
        "chosen_finish_reason": "stop",
        "rejected_finish_reason": "stop",
        "chosen_length": 42,
        "rejected_length": 11,
    },
}
"""Lengths are in characters, ranks from 0, the best."""
