"""Tables of comparisons, and the columns that a user's filter sees."""

import msgspec

from ...datasets.tables import PROMPT, QUERY_ID, REASON, Table, reply, score, string
from ..responses import FINISH_REASON, REPLY_ID, RESPONDER

RATED = (
    score("chosen_rating", "the rating of chosen", 8.0),
    score("rejected_rating", "the rating of rejected", 3.5),
)
"""Columns of comparisons and dropped pairs where ratings were read."""
_CHOSEN = string("chosen_responder", "responder of the chosen response", "30B-HHH-5shot")
_REJECTED = string("rejected_responder", "responder of the rejected response", "7B-HHH-1shot")
_STAGE = string("stage", "where it was dropped", "response checks")
TABLES = {
    "default": Table(
        "one comparison a row, as TRL's RewardTrainer and DPOTrainer read it",
        ("query_id", "comparison_id"),
        (
            PROMPT,
            reply("chosen", "the better responder's response", "No, tea is made from the leaves of a shrub."),
            reply("rejected", "the worse responder's response", "Yes, tea is a fruit that grows on trees."),
            string(
                "comparison_id",
                "reply_id of chosen, dash, reply_id of rejected",
                "9d6b1d3a41c52f90-03ab7f2e11d45c68",
            ),
            QUERY_ID,
            _CHOSEN,
            _REJECTED,
        ),
    ),
    "rejected": Table(
        "one dropped pair a row, by ids",
        ("query_id", "chosen_reply_id", "rejected_reply_id"),
        (
            QUERY_ID,
            string("chosen_reply_id", "reply_id of the higher-ranked response", "9d6b1d3a41c52f90"),
            string("rejected_reply_id", "reply_id of the lower-ranked one", "03ab7f2e11d45c68"),
            _CHOSEN,
            _REJECTED,
            _STAGE,
            REASON,
        ),
    ),
    "rejected_responses": Table(
        "one dropped response a row, by id",
        ("query_id", "reply_id"),
        (REPLY_ID, QUERY_ID, RESPONDER, _STAGE, REASON),
    ),
}
TEXT_TABLES = {
    name: msgspec.structs.replace(TABLES[name], doc=doc, columns=(*columns, *TABLES[name].columns))
    for name, doc, columns in (
        (
            "rejected",
            "one dropped pair a row, with its texts",
            (
                *TABLES["default"].columns[:3],
                string("chosen_finish_reason", "`finish_reason` of the chosen response", "stop"),
            ),
        ),
        (
            "rejected_responses",
            "one dropped response a row, with its texts",
            (PROMPT, string("response", "the response", "No."), FINISH_REASON),
        ),
    )
}
"""The tables of dropped rows with their texts."""
HOOKS = {
    "response": {
        "prompt": "Is tea a fruit?",
        "response": "No, it is made from the leaves of a shrub.",
        "responder": "large",
        "rank": 0,
        "finish_reason": "stop",
        "length": 42,
        "rating": 8.0,
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
        **{column.name: column.example for column in RATED},
    },
}
"""`prompt` is the text of the user's last turn; lengths are in characters, ranks from 0, the best.
A filter that reads ratings needs them, as the label `both` does."""
