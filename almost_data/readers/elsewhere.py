"""Files by their columns that no import reads as they are, and what to do with them."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from ..errors import InputError
from .conversations import read_turns
from .dialogue_text import is_whole_hh
from .fastchat import QUESTIONS, REVIEWS
from .layout import has_value, most, text, turns
from .reasons import Unusable

_PAIRS = "write rows with prompt, chosen and rejected"
_BIG_BENCH = (
    "items of a BIG-bench task, which is for evaluation only: `eval static-hhh` reads Static HHH, and "
    "`audit` searches preference data for its prompts, as audit.benchmark"
)
_ADVICE = {
    ("input", "target_scores"): _BIG_BENCH,
    ("input", "targets"): _BIG_BENCH,
    ("answer1_id", "answer2_id", "score"): (
        "FastChat's reviews name their answers by id: give the folder that has "
        f"{QUESTIONS}, answer/ and {REVIEWS}/"
    ),
    ("answer_id", "model_id", "question_id"): (
        f"FastChat's answers without their questions: give the folder that has {QUESTIONS} and answer/"
    ),
    ("message_id", "parent_id", "message_tree_id"): (
        "messages of OASST, one a row, below messages of other rows: give its file of trees, "
        "..._ready.trees.jsonl.gz"
    ),
    ("labeler", "question", "label"): f"PRM800K rates the steps of solutions, not whole replies: {_PAIRS}",
    ("prompt", "completions", "labels"): f"labels rate the steps of a reply, not whole replies: {_PAIRS}",
    ("doc_id", "arguments", "resps"): (
        "answers of one model that lm-evaluation-harness logged, to items that are for evaluation only: "
        "`eval lm-eval` runs its tasks"
    ),
    ("custom_id", "response"): (
        "results of a batch, whose prompts are in its input file: join the two by custom_id, and write rows "
        "with prompt, responder and response for `import responses`"
    ),
    ("custom_id", "body"): "requests of a batch: `import queries` reads them by import.columns query=body",
    ("_server_id", "status"): f"records of Argilla, whose columns have names of their own: {_PAIRS}",
}


def check_elsewhere(columns: Collection[str], source: str) -> None:
    """Raise InputError for a file that is known, with what to do; for columns that nothing else reads."""
    for names, advice in _ADVICE.items():
        if set(names) <= set(columns):
            raise InputError(f"{source}: {advice}")


PARENT = "parent_id"
CONVERSATION_IDS = ("conversation_id", "conv_id", "dialogue_id", "dialog_id", "session_id", "thread_id")
TURN_NUMBERS = ("turn", "turn_id", "turn_idx", "turn_index", "turn_number")
TURN_COLUMNS = frozenset((PARENT, *CONVERSATION_IDS, *TURN_NUMBERS))
"""Columns that say which turn of a conversation a row is."""
MOST_TURNS = 3
"""Turns of an exchange with a system text; more have an earlier exchange."""


def check_turns(rows: Sequence[Mapping[str, Any]], prompt: str, source: str, fix: str) -> None:
    """Raise InputError where the rows are turns of conversations: a prompt's earlier turns are other rows.

    They are told by a parent, or by several numbers of turns beside the id of a conversation. Rows that have
    dialogues or a `history` have the earlier turns themselves. `fix` says how to read each turn as a prompt.
    """
    filled = [{name: value for name, value in row.items() if has_value(value)} for row in rows]
    names = {name for row in filled for name in row}
    numbers = [name for name in TURN_NUMBERS if len({str(row[name]) for row in filled if name in row}) > 1]
    columns = [PARENT] if PARENT in names else [] if names.isdisjoint(CONVERSATION_IDS) else numbers
    if not columns or "history" in names or any(map(_is_dialogue, chain(*map(dict.values, filled)))):
        return
    prompts = [row[prompt] for row in filled if prompt in row]
    if most(prompts, lambda value: text(value) and not turns(value)):
        write = f"write the earlier turns into {prompt}, as a list of messages"
        raise InputError(f"{source}: rows that are turns of conversations ({columns[0]}): {write}, or {fix}")


def _is_dialogue(value: Any) -> bool:
    """Whether a value has turns before the last of the user."""
    try:
        return is_whole_hh(value) or len(read_turns(value) or ()) > MOST_TURNS
    except Unusable:
        return False
