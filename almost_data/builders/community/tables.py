"""Tables of community comparisons."""

from ...datasets.tables import QUERY_ID, Table, integer, messages, reply, string

_COMPARISON = string(
    "comparison_id", "site, slash, ids of chosen and rejected answer", "plants.example/12-17"
)
_QUESTION_URL = string("question_url", "address of the question", "https://plants.example/questions/5")
_DROPPED_QUERY = string(
    "query_id",
    "as in `default`; of a question whose text was not read, the hash of its address",
    "29b96e1ccfe1b398",
)
_WHY = (
    string("stage", "where it was dropped: questions, answers, pairs or texts", "pairs"),
    string("reason", "why: the filter's name", "equal_score"),
)
_SCORES = (
    integer("chosen_score", "log2(1 + votes), rounded; -1 if the votes are negative; 1 more if accepted", 3),
    integer("rejected_score", "the same of the rejected answer", 1),
)

TABLES = {
    "default": Table(
        "one comparison a row, as TRL's RewardTrainer and DPOTrainer read it",
        ("query_id", "comparison_id"),
        (
            messages(
                "prompt",
                "the question: title, empty line, body",
                [{"role": "user", "content": "Can I prune basil in winter?\n\nMine is on a sill."}],
            ),
            reply("chosen", "the answer with the higher score", "Yes. Cut *above* a pair of leaves."),
            reply("rejected", "the answer with the lower score", "Mine died, so better not."),
            _COMPARISON,
            QUERY_ID,
            *_SCORES,
            _QUESTION_URL,
            string("chosen_url", "address of the chosen answer", "https://plants.example/a/12"),
            string("rejected_url", "address of the rejected one", "https://plants.example/a/17"),
            string(
                "question_author",
                "who asked: name or profile address, or both; null where the source has neither",
                "https://plants.example/users/3",
            ),
            string("chosen_author", "who wrote chosen, in the same form", "Ada"),
            string(
                "rejected_author", "who wrote rejected, in the same form", "https://plants.example/users/9"
            ),
            string(
                "question_license",
                "licence of the question: the source's word, else by its last change; null if unknown",
                "CC BY-SA 4.0",
            ),
            string("chosen_license", "licence of chosen, in the same form", "CC BY-SA 4.0"),
            string("rejected_license", "licence of rejected, in the same form", "CC BY-SA 4.0"),
        ),
    ),
    "rejected": Table(
        "one dropped pair a row, by ids",
        ("query_id", "comparison_id"),
        (_COMPARISON, _DROPPED_QUERY, _QUESTION_URL, *_SCORES, *_WHY),
    ),
    "rejected_responses": Table(
        "one dropped answer a row, by address",
        ("query_id", "answer_url"),
        (
            string("answer_url", "address of the answer", "https://plants.example/a/17"),
            _DROPPED_QUERY,
            _QUESTION_URL,
            *_WHY,
        ),
    ),
    "rejected_queries": Table(
        "one dropped question a row, by address",
        ("query_id", "question_url"),
        (_QUESTION_URL, _DROPPED_QUERY, *_WHY),
    ),
}
