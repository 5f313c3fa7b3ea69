"""Which layout a source has, by its columns and first rows; labels that change further on.

Where no layout fits, or more than one, the source is refused and its columns are named.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from string import digits
from typing import Any

from ..errors import InputError
from .dialogue_text import is_hh, is_whole_hh
from .elsewhere import check_elsewhere, check_turns
from .files import SAMPLE, listed
from .formats import Row
from .layout import (
    ADDITION,
    BEFORE,
    PROMPT_COLUMNS,
    SIDES,
    Cells,
    Layout,
    anything,
    check_repeats,
    has_value,
    mapping,
    most,
    number_of,
    objects,
    python_list,
    side,
    text,
    text_lists,
    turns,
    written_list,
)
from .layouts import LAYOUTS
from .parts import part_columns
from .queries import CONVERSATIONS, NAMED

ORIGINS = ("source", "dataset", "subset")
"""Columns that say where a row comes from."""
MODEL_COLUMNS = ("model_a", "model_b", "model_1", "model_2")
"""Columns that name the models of two replies."""
REPLIES = ("responses", "completions", "generations", "candidates", "answers", "outputs")
"""Columns that hold several replies to a prompt."""
JUDGED = (*SIDES, "prefer", "matching", "winner", "better", "comparison", "rank", "verdict")
"""Words in the names of columns that say which reply is better."""
PLACES = {*digits, *"abcd", "first", "second", "left", "right"}
"""What stands for one of several replies, or ends the name of its column."""
_PLACE = re.compile(rf"(?:[^\W\d_]+[_-])?(?:{'|'.join(sorted(PLACES))})|[^\W\d_]+\d|\[\[[a-d]\]\]")
"""A place, also behind the kind of what stands there, as `Assistant A`."""
_REPLY_WORD = re.compile(r"[ _-](?:output|response|answer|reply|completion|text|generation)\Z")
"""The end of the name of a column that begins with the name of a model."""
_LAST_WORD = re.compile(r"[^\W\d_]+|\d+|.")
"""The parts of a name, of which the last may number its column."""
FIX = (
    "name the columns of the prompt, the better and the worse reply: import.columns "
    "prompt=NAME,chosen=NAME,rejected=NAME, or write rows with these columns"
)
VERDICTS = (
    "rename the columns of two replies and of the verdict to prompt, response_a, response_b and winner, "
    "which says model_a, model_b or tie"
)
"""How to write two replies with a verdict, which have many names."""
LABELS = {-1, 0, 1, 2}
"""Numbers by which files label two sides; any other is a mistake of its row alone."""


def choose(named: Layout | None, rows: Sequence[Cells], source: str, columns: Sequence[str]) -> Layout:
    """The layout that the user describes, else the one that fits the rows. Raises InputError."""
    if named is None:
        return detect(rows, source, columns)
    if absent := named.columns.keys() - set(columns):
        raise InputError(f"{source}: no column {min(absent)!r}; it has: {', '.join(columns)}")
    _check_references(named, rows, source, columns)
    if "instruction" in named.columns and ADDITION in columns:  # read after it, as in every layout
        return replace(named, columns={**named.columns, ADDITION: anything})
    return named


def detect(rows: Sequence[Cells], source: str, columns: Sequence[str]) -> Layout:
    """The one layout that fits the rows. Raises InputError where none does, or more than one.

    `columns` are all of the source's, also those that are not read.
    """
    if column := _column_of(rows, (*PROMPT_COLUMNS, *SIDES), python_list):
        fix = "write JSONL, Parquet or JSON cells (json.dumps), or name the columns in import.columns"
        raise InputError(f"{source}: {column} holds lists as Python prints them: {fix}")
    if prompt := next((name for name in NAMED if any(has_value(row.get(name)) for row in rows)), None):
        fix = f"read each as it is by import.columns prompt={prompt},chosen=NAME,rejected=NAME"
        check_turns(rows, prompt, source, fix)
    fitting = [layout for layout in LAYOUTS if layout.fits(rows)]
    tests = [item for layout in fitting for item in layout.columns.items()]
    are_texts = [name for name, test in tests if test is not text_lists]
    if column := _column_of(rows, are_texts, written_list):
        fix = "write one text, or a list of turns, or name the columns in import.columns to read it as text"
        raise InputError(f"{source}: {column} holds lists of texts, or turns or texts as JSON: {fix}")
    if len(fitting) == 1:
        [layout] = fitting
        _check_references(layout, rows, source, columns)
        _check_repeats(layout, rows, source)
        _check_labels(layout, rows, source)
        return layout
    names = listed(columns) or "none"
    if fitting:
        described = " and ".join(layout.described for layout in fitting)
        raise InputError(f"{source}: its columns ({names}) fit {described}: {FIX}")
    check_elsewhere(columns, source)
    reason = _near_miss(rows) or _unjudged(rows, columns)
    raise InputError(f"{source}: no layout of preferences has its columns ({names}){reason}: {_fix(columns)}")


def _fix(columns: Sequence[str]) -> str:
    """What to do with a file of no layout, which may have two replies and a verdict."""
    last_words = {_LAST_WORD.findall(name.lower())[-1] for name in columns if name}
    is_judged = any(word in name.lower() for name in columns for word in JUDGED)
    may_have_verdict = is_judged or len(last_words & PLACES) > 1
    return f"{FIX}, or {VERDICTS}" if may_have_verdict and not {*SIDES} & {*columns} else FIX


def _check_references(layout: Layout, rows: Sequence[Cells], source: str, columns: Sequence[str]) -> None:
    """Raise InputError where most of `chosen` stand for replies in other columns, and are no replies.

    They name a column, its first words or its last, a model, or the place, key or id of one of several
    replies.
    """
    if (chosen := layout.chosen) not in layout.columns:
        return
    others = [name.lower().replace(" ", "_") for name in columns if name not in (*SIDES, chosen)]
    names = {*others, *(_LAST_WORD.findall(name)[-1] for name in others if name)}
    names |= {name[: match.start()] for name in others if (match := _REPLY_WORD.search(name))}
    has_places = len(names & PLACES) > 1
    if not names.isdisjoint(REPLIES):
        names |= {*digits}
    values = [(row, row[chosen].strip()) for row in rows if isinstance(row.get(chosen), str)]
    words = [(row, value, value.lower().replace(" ", "_")) for row, value in values]

    def is_name(item: tuple[Cells, str, str]) -> bool:
        row, value, word = item
        is_place = has_places and _PLACE.fullmatch(word) is not None
        return word in names or is_place or value in _referents(row)

    if most(words, is_name):
        problem = f"{chosen} names a column, a model or one of several replies, and is no reply"
        fix = "write rows with prompt, and the texts as chosen and rejected"
        raise InputError(f"{source}: {problem}: {fix}, or {VERDICTS}")


def _referents(row: Cells) -> list[Any]:
    """What may stand for a reply of a row: a model, or the key or id of one of several replies."""
    names = [row.get(name) for name in MODEL_COLUMNS]
    for replies in filter(None, map(row.get, REPLIES)):
        if mapping(replies):
            names += replies
        elif objects(replies):
            pairs = [pair for reply in replies for pair in reply.items()]
            names += [value for name, value in pairs if name == "model" or name.endswith("id")]
    return names


def _check_repeats(layout: Layout, rows: Sequence[Cells], source: str) -> None:
    """Raise InputError for a side that mostly repeats the prompt before its reply."""
    prompt = next((name for name in layout.columns if name in PROMPT_COLUMNS), None)
    if prompt:
        named = "" if layout.columns[prompt] is is_hh else f"prompt={prompt},"  # whole dialogues hold it
        names = [name if name in layout.columns else "NAME" for name in SIDES]
        setting = f"import.columns {named}chosen={names[0]},rejected={names[1]}"
        are_texts = [name for name, test in layout.columns.items() if test in (text, side)]
        replies = [name for name in are_texts if name not in PROMPT_COLUMNS]
        check_repeats(rows, prompt, replies, source, setting)


def _check_labels(layout: Layout, rows: Sequence[Cells], source: str) -> None:
    """Raise InputError for numbers of other labels than the layout's, such as 0 and 1 in place of 1 and 2."""
    for column, are_labels in layout.labels.items():
        numbers = {number for row in rows if (number := number_of(row.get(column))) is not None}
        if numbers and not are_labels(numbers):
            raise _other_labels(layout, column, numbers, source)


def _other_labels(layout: Layout, column: str, numbers: set[float], place: str) -> InputError:
    few = ", ".join(f"{number:g}" for number in sorted(numbers)[:5])
    fix = "write rows with prompt, chosen and rejected"
    return InputError(f"{place}: {column} has {few}, and {layout.title} has other labels: {fix}")


def with_labels(layout: Layout, column: str, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, up to a label of another kind than those by which the layout was told.

    A file may be sorted by its labels. Raises InputError.
    """
    extremes: set[float] = set()
    for index, (place, row) in enumerate(rows):
        number = number_of(row.get(column))
        if number is not None and number not in extremes:
            numbers = extremes | {number}
            if index < SAMPLE or layout.labels[column](numbers):
                extremes = {min(numbers), max(numbers), *numbers & {0}}
            elif number in LABELS:
                raise _other_labels(layout, column, numbers, place)
        yield place, row


def _column_of(rows: Sequence[Cells], names: Iterable[str], is_list: Callable[[str], bool]) -> str | None:
    """The first column of which more than half of the texts are lists, but for lists of turns."""
    for name in names:
        values = [row[name] for row in rows if has_value(row.get(name))]
        is_text = [isinstance(value, str) and is_list(value) for value in values]
        is_of_turns = is_list is not python_list and any(map(turns, values))
        if 2 * sum(is_text) > len(values) and not is_of_turns:
            return name
    return None


def _near_miss(rows: Sequence[Cells]) -> str:
    """Why columns with usual names are in no layout, as far as it can be told."""
    names = {name for row in rows for name, value in row.items() if has_value(value)}
    may_hold_it = dict.fromkeys((*PROMPT_COLUMNS, *part_columns(tuple(sorted(names)))))
    prompts = [name for name in may_hold_it if name in names]
    if empty := {name for row in rows for name in row} & set(SIDES) - names:
        return f"; {min(empty)} has no value"
    if set(SIDES) <= names and len(prompts) > 1:
        return f"; {' and '.join(prompts)} may both hold the prompt"
    if set(SIDES) <= names and not prompts:
        return "; no column holds the prompt, and chosen and rejected are not whole conversations"
    if set(SIDES) <= names and any(is_whole_hh(row.get(name)) for row in rows for name in SIDES):
        return "; chosen and rejected are whole dialogues of HH-RLHF: name no prompt, if they hold it"
    for layout in LAYOUTS:
        has_columns = layout.columns.keys() <= names and not names & set(layout.foreign)
        if has_columns and (column := layout.misfit(rows)):
            is_text = layout.columns[column] in (text, side)
            kind = "text or turns" if is_text else f"what {layout.title} has there"
            return f"; {column} does not hold {kind}"
    return ""


def _unjudged(rows: Sequence[Cells], columns: Sequence[str]) -> str:
    """Where to go with answers that nobody compared: one a row, or a column for each model."""
    names = set(columns)
    if any(word in name.lower() for name in columns for word in JUDGED):
        return ""
    if dialogues := names & {*CONVERSATIONS}:
        return f"; if {min(dialogues)} holds whole conversations, `import queries` reads their prompts"
    if not names & {"prompt", "question", "instruction", "query"}:
        return ""
    fix = "`import responses FILE --ladder best,...,worst` reads them"
    if names & {"responder", "model", "generator"} and names & {"response", "output", "completion", "answer"}:
        return f"; these are answers without a preference, one a row: {fix}"
    candidates = [name for name in columns if name not in (*PROMPT_COLUMNS, *BEFORE, *ORIGINS)]
    cells = {name: [row[name] for row in rows if row.get(name) is not None] for name in candidates}
    answers = [
        name for name in candidates if cells[name] and all(text(cell) and " " in cell for cell in cells[name])
    ]
    is_few = 1 < len(answers) < 9
    return f"; if {', '.join(answers)} hold the answers of models: {fix}" if is_few else ""
