"""The columns of every dataset: name, type, meaning, and a literal example.

Cards print this table, the store writes Parquet by it, `verify` holds files to it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Type = Literal["string", "int64", "float64", "messages"]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: Type
    doc: str
    example: Any


@dataclass(frozen=True, slots=True)
class Table:
    """One config of a dataset. `key` columns name a row: the digest sorts by them."""

    doc: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def example(self) -> dict[str, Any]:
        return {column.name: column.example for column in self.columns}


QUERY_ID = Column("query_id", "string", "first 16 hex digits of the sha256 of the query", "29b96e1ccfe1b398")
_QUERY = Column("query", "string", "the user's turn", "How do I keep basil alive indoors?")
_SOURCE = Column("source", "string", "`mined` by few-shot generation, or `import`", "mined")
_REPLY_ID = Column(
    "reply_id", "string", "names one response: hash of query_id and responder", "9d6b1d3a41c52f90"
)
_RESPONDER = Column("responder", "string", "model, prompt and number of shots", "30B-HHH-5shot")
_REASON = Column("reason", "string", "why the row was dropped", "too_short")
_ERROR = Column("error", "string", "what the engine said, where the request failed; else null", None)
_STAGE = Column("stage", "string", "where it was dropped", "response checks")
_RESPONSE_COLUMNS = (
    QUERY_ID,
    Column("prompt", "string", "the query's text", "How do I keep basil alive indoors?"),
    _RESPONDER,
    Column("rank", "int64", "place in the ladder, 0 is best; null for a probe", 1),
    Column("response", "string", "the reply, cut at the stop markers", "Give it six hours of light a day."),
    Column(
        "finish_reason", "string", "`stop`, or `length`: cut at the token limit; null if imported", "stop"
    ),
    _REPLY_ID,
)
_ASIS = (
    Column("asis_chosen", "float64", "the As-is RM's score of chosen; null if it was not asked", 1.25),
    Column("asis_rejected", "float64", "the As-is RM's score of rejected; null likewise", -0.5),
    Column("asis_gap", "float64", "asis_chosen - asis_rejected; null likewise", 1.75),
)
_CHOSEN = Column("chosen_responder", "string", "responder of the chosen response", "30B-HHH-5shot")
_REJECTED = Column("rejected_responder", "string", "responder of the rejected response", "7B-HHH-1shot")
_COMPARISON = Column(
    "comparison_id", "string", "site, slash, ids of chosen and rejected answer", "plants.example/12-17"
)
_QUESTION_URL = Column(
    "question_url", "string", "address of the question", "https://plants.example/questions/5"
)
_DROPPED_QUERY = Column(
    "query_id",
    "string",
    "as in `default`; of a question whose text was not read, the hash of its address",
    "29b96e1ccfe1b398",
)
_WHY = (
    Column("stage", "string", "where it was dropped: questions, answers, pairs or texts", "pairs"),
    Column("reason", "string", "why: the filter's name", "equal_score"),
)
_SCORES = (
    Column(
        "chosen_score",
        "int64",
        "log2(1 + votes), rounded; -1 if the votes are negative; 1 more if accepted",
        3,
    ),
    Column("rejected_score", "int64", "the same of the rejected answer", 1),
)

TABLES: dict[str, dict[str, Table]] = {
    "queries": {
        "default": Table("one accepted query a row", ("query_id",), (QUERY_ID, _QUERY, _SOURCE)),
        "rejected": Table(
            "one dropped candidate a row",
            ("candidate",),
            (
                QUERY_ID,
                _QUERY,
                _SOURCE,
                Column("candidate", "int64", "place in the order of admission", 17),
                _REASON,
                _ERROR,
                Column("nearest", "string", "the most similar query known by then", "How do I water basil?"),
                Column("score", "float64", "its ROUGE-L F1 with this one", 0.71),
            ),
        ),
    },
    "responses": {
        "default": Table("one response a row", ("query_id", "responder"), _RESPONSE_COLUMNS),
        "rejected": Table(
            "one response that never came or cannot be used a row",
            ("row", "responder"),
            (
                *_RESPONSE_COLUMNS,
                Column("row", "int64", "place among the requests, or the imported rows, from 0", 12),
                _REASON,
                _ERROR,
            ),
        ),
    },
    "comparisons": {
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
                Column(
                    "chosen_reply_id", "string", "reply_id of the higher-ranked response", "9d6b1d3a41c52f90"
                ),
                Column("rejected_reply_id", "string", "reply_id of the lower-ranked one", "03ab7f2e11d45c68"),
                _CHOSEN,
                _REJECTED,
                _STAGE,
                _REASON,
                *_ASIS,
            ),
        ),
        "rejected_responses": Table(
            "one dropped response a row, by id",
            ("query_id", "reply_id"),
            (_REPLY_ID, QUERY_ID, _RESPONDER, _STAGE, _REASON),
        ),
    },
    "community": {
        "default": Table(
            "one comparison a row, as TRL's RewardTrainer and DPOTrainer read it",
            ("query_id", "comparison_id"),
            (
                Column(
                    "prompt",
                    "messages",
                    "the question: title, empty line, body",
                    [{"role": "user", "content": "Can I prune basil in winter?\n\nMine is on a sill."}],
                ),
                Column(
                    "chosen",
                    "messages",
                    "the answer with the higher score",
                    [{"role": "assistant", "content": "Yes. Cut *above* a pair of leaves."}],
                ),
                Column(
                    "rejected",
                    "messages",
                    "the answer with the lower score",
                    [{"role": "assistant", "content": "Mine died, so better not."}],
                ),
                _COMPARISON,
                QUERY_ID,
                *_SCORES,
                _QUESTION_URL,
                Column("chosen_url", "string", "address of the chosen answer", "https://plants.example/a/12"),
                Column(
                    "rejected_url", "string", "address of the rejected one", "https://plants.example/a/17"
                ),
                Column(
                    "question_author",
                    "string",
                    "who asked: name or profile address, or both; null where the source has neither",
                    "https://plants.example/users/3",
                ),
                Column("chosen_author", "string", "who wrote chosen; null likewise", "Ada"),
                Column(
                    "rejected_author",
                    "string",
                    "who wrote rejected; likewise",
                    "https://plants.example/users/9",
                ),
                Column(
                    "question_license",
                    "string",
                    "licence of the question: the source's word, else by its last change; null if unknown",
                    "CC BY-SA 4.0",
                ),
                Column("chosen_license", "string", "of chosen, likewise", "CC BY-SA 4.0"),
                Column("rejected_license", "string", "of rejected, likewise", "CC BY-SA 4.0"),
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
                Column("answer_url", "string", "address of the answer", "https://plants.example/a/17"),
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
    },
}

_CONVERSATION = Column("conversation", "int64", "which of the query's conversations, from 0", 0)
_TURN = Column("turn", "int64", "place of the reply in the dialogue; 1 is the first one", 1)
TABLES["demonstrations"] = {
    "default": Table(
        "one dialogue a row, as TRL's SFTTrainer reads it",
        ("query_id", "conversation"),
        (
            Column(
                "messages",
                "messages",
                "user's and assistant's turns; the last is the assistant's",
                [
                    {"role": "user", "content": "Is tea a fruit?"},
                    {"role": "assistant", "content": "No, tea is made from the leaves of a shrub."},
                ],
            ),
            QUERY_ID,
            _CONVERSATION,
            Column(
                "rm_score",
                "float64",
                "the reward model's score of the whole dialogue; null without one",
                1.25,
            ),
            Column("n", "int64", "replies that the best was picked from", 4),
            Column(
                "end",
                "string",
                "why it ends: `turns`, `no_candidate`, or what the user's next turn was",
                "turns",
            ),
        ),
    ),
    "candidates": Table(
        "one sampled reply a row, with its score",
        ("query_id", "conversation", "turn", "sample"),
        (
            QUERY_ID,
            _CONVERSATION,
            _TURN,
            Column("sample", "int64", "which of the N replies, from 0", 2),
            Column(
                "response", "string", "the reply, cut at the stop markers; null if the request failed", "No."
            ),
            Column("finish_reason", "string", "`stop`, or `length`: cut at the token limit", "stop"),
            Column(
                "score", "float64", "the reward model's score of the dialogue with it; null if not asked", 0.5
            ),
            Column(
                "second_score", "float64", "the second reward model's score; null if there is none", -0.25
            ),
            Column("rank", "int64", "0 is the one that was picked; null where it could not be", 1),
            _REASON,
            _ERROR,
        ),
    ),
    "preference": Table(
        "best against worst of the N replies to a turn, as TRL's DPOTrainer reads it",
        ("query_id", "comparison_id"),
        (
            Column(
                "prompt", "messages", "the dialogue before", [{"role": "user", "content": "Is tea a fruit?"}]
            ),
            Column(
                "chosen",
                "messages",
                "the reply that was picked",
                [{"role": "assistant", "content": "No, a leaf."}],
            ),
            Column(
                "rejected",
                "messages",
                "the one with the lowest score",
                [{"role": "assistant", "content": "Yes."}],
            ),
            Column("comparison_id", "string", "query_id, conversation and turn", "29b96e1ccfe1b398-0-1"),
            QUERY_ID,
            Column("chosen_score", "float64", "the reward model's score of chosen", 1.25),
            Column("rejected_score", "float64", "of rejected", -0.5),
        ),
    ),
    "rejected": Table(
        "one user's turn that was not answered, or was none, a row",
        ("query_id", "conversation"),
        (
            QUERY_ID,
            _CONVERSATION,
            Column("turn", "int64", "its place in the dialogue; 0 is the query", 2),
            Column("query", "string", "the user's turn; null if the request failed", "Thanks, bye!"),
            _REASON,
            _ERROR,
        ),
    ),
}

TEST_SHARE = 0.05
"""Share of the queries, by hash, that make the `test` split."""
RESERVED = frozenset({"default", "rejected", "rejected_responses"})
"""Config names that no responder can have."""


def table(dataset: str, config: str) -> Table:
    """The table of a config; a responder's config of `responses` has the columns of `default`."""
    tables = TABLES[dataset]
    return tables.get(config, tables["default"]) if dataset == "responses" else tables[config]


def arrow_schema(table: Table) -> "pa.Schema":
    """The Arrow schema that Parquet files of this table have."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    }
    return pa.schema([(column.name, types[column.type]) for column in table.columns])


def polars_schema(table: Table) -> "dict[str, pl.DataType]":
    """The same columns as Polars types."""
    import polars as pl

    text = pl.String()
    types: dict[Type, pl.DataType] = {
        "string": text,
        "int64": pl.Int64(),
        "float64": pl.Float64(),
        "messages": pl.List(pl.Struct({"role": text, "content": text})),
    }
    return {column.name: types[column.type] for column in table.columns}


def frame(dataset: str, config: str, rows: "list[dict[str, Any]]") -> "pl.DataFrame":
    """Rows as a frame with the columns, order and types of their config."""
    import polars as pl

    return pl.DataFrame(rows, schema=polars_schema(table(dataset, config)))


def features(table: Table) -> list[dict[str, Any]]:
    """The `features` of `dataset_info` in a card, as the Hub's viewer and `datasets` read them."""
    message = [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]
    return [
        {"name": c.name, "list": message} if c.type == "messages" else {"name": c.name, "dtype": c.type}
        for c in table.columns
    ]
