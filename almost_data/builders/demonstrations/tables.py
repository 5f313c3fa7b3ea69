"""Tables of demonstrations, and the columns that a user's filter sees."""

from ...datasets.tables import ERROR, QUERY_ID, REASON, Table, integer, messages, number, reply, string
from ..responses import REASONING

_CONVERSATION = integer("conversation", "which of the query's conversations, from 0", 0)
_TURN = integer("turn", "place of the reply behind the query, whose last turn is 0; 1 is the first", 1)
TABLES = {
    "default": Table(
        "one dialogue a row, as TRL's SFTTrainer reads it",
        ("query_id", "conversation"),
        (
            messages(
                "messages",
                "the query's turns, then the assistant's and the user's; the last is the assistant's",
                [
                    {"role": "user", "content": "Is tea a fruit?"},
                    {"role": "assistant", "content": "No, tea is made from the leaves of a shrub."},
                ],
            ),
            QUERY_ID,
            _CONVERSATION,
            number("rm_score", "the reward model's score of the whole dialogue; null without one", 1.25),
            integer("n", "replies that the best was picked from", 4),
            string("end", "why it ends: `turns`, `no_candidate`, or what the user's next turn was", "turns"),
        ),
    ),
    "candidates": Table(
        "one sampled reply a row, with its score",
        ("query_id", "conversation", "turn", "sample"),
        (
            QUERY_ID,
            _CONVERSATION,
            _TURN,
            integer("sample", "which of the N replies, from 0", 2),
            string("response", "the reply, cut at the stop markers; null if the request failed", "No."),
            REASONING,
            string("finish_reason", "`stop`, or `length`: cut at the token limit", "stop"),
            number("score", "the reward model's score of the dialogue with it; null if not asked", 0.5),
            number("second_score", "the second reward model's score; null without one", -0.25),
            integer("rank", "0 is the one that was picked; null where it could not be", 1),
            REASON,
            ERROR,
        ),
    ),
    "preference": Table(
        "best against worst of the N replies to a turn, as TRL's DPOTrainer reads it",
        ("query_id", "comparison_id"),
        (
            messages("prompt", "the dialogue before", [{"role": "user", "content": "Is tea a fruit?"}]),
            reply("chosen", "the reply that was picked", "No, a leaf."),
            reply("rejected", "the one with the lowest score", "Yes."),
            string("comparison_id", "query_id, conversation and turn", "29b96e1ccfe1b398-0-1"),
            QUERY_ID,
            number("chosen_score", "the reward model's score of chosen", 1.25),
            number("rejected_score", "of rejected", -0.5),
        ),
    ),
    "rejected": Table(
        "one user's turn that was not answered, or could not be used, a row",
        ("query_id", "conversation"),
        (
            QUERY_ID,
            _CONVERSATION,
            integer("turn", "its place behind the query, whose last turn is 0", 2),
            string("query", "the user's turn; null if the request failed", "Thanks, bye!"),
            REASON,
            ERROR,
        ),
    ),
}


HOOKS = {
    "response": {
        "prompt": "Is tea a fruit?",
        "response": "No, it is made from the leaves of a shrub.",
        "turn": 1,
        "finish_reason": "stop",
        "length": 42,
    }
}
"""`prompt` is the user's turn that is answered; lengths are in characters."""
