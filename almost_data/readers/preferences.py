"""Preferences of files and Hub datasets, by the layout that fits the columns, or by columns that are named.

Where no layout fits, or more than one, the source is refused and its columns are named. A row that does not
fit its layout is rejected with a reason; it is never repaired.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import msgspec

from ..errors import InputError
from .conversations import IMAGES
from .dialogue_text import is_hh, is_whole_hh
from .elsewhere import check_elsewhere
from .fastchat import JUDGMENTS, REVIEWS, is_fastchat, preference_rows
from .files import (
    SAMPLE,
    TABLE_SUFFIXES,
    WHOLE,
    HubPart,
    Needs,
    not_read,
    open_rows,
    read_rows,
    source_files,
    without_images,
)
from .formats import Row, Tick
from .layout import (
    ADDITION,
    BEFORE,
    CONVERSATION,
    MODELS,
    PROMPT_COLUMNS,
    SCORES,
    SIDES,
    Cells,
    Layout,
    Preference,
    anything,
    check_repeats,
    has_value,
    number_of,
    pair,
    python_list,
    side,
    text,
    text_lists,
    turns,
    written_list,
)
from .layouts import LAYOUTS
from .queries import CONVERSATIONS
from .reasons import Unusable
from .row_readers import read_hh_pair, read_hh_replies

ORIGINS = ("source", "dataset", "subset")
"""Columns that say where a row comes from."""
MODEL_COLUMNS = ("model_a", "model_b", "model_1", "model_2")
"""Columns that name the models of two replies."""
_SIDE_COLUMNS = {pattern.format(side) for pattern in (*SCORES, *MODELS) for side in SIDES}
COLUMNS = frozenset(
    {name for layout in LAYOUTS for name in (*layout.columns, *layout.optional, *layout.foreign)}
    | _SIDE_COLUMNS
    | {*ORIGINS, *BEFORE, ADDITION, CONVERSATION}
)
"""All columns that a layout is told by, or read from."""


class Rejected(msgspec.Struct, frozen=True):
    """A row that cannot be used."""

    reason: str
    """A key of `reasons.REASONS`."""
    detail: str


class ReadRow(msgspec.Struct, frozen=True):
    """What a row, or several of one prompt, came to."""

    place: str
    row: Cells
    """Its values; of several rows, `{"rows": [...]}`."""
    result: list[Preference] | Rejected

    @property
    def origin(self) -> str | None:
        """Where the row is from, by its own word."""
        return next((self.row[name] for name in ORIGINS if isinstance(self.row.get(name), str)), None)

    @property
    def text(self) -> str:
        """The row as JSON."""
        return msgspec.json.encode(self.row, enc_hook=str).decode()


@dataclass(frozen=True)
class Preferences:
    """The rows of a source in the layout that it has."""

    layout: Layout
    rows: Iterator[ReadRow]
    not_read: Sequence[str]
    """Columns of the source that its layout has not."""

    @property
    def described(self) -> str:
        """The layout, and the columns that are left out."""
        return self.layout.described + not_read(self.not_read)


def read_preferences(
    source: str,
    assignments: Mapping[str, str] | None = None,
    part: HubPart = WHOLE,
    tick: Tick = lambda done, total: None,
) -> Preferences:
    """The preferences of a file, folder or Hub dataset. Raises InputError.

    `assignments` say which columns hold prompt, system, chosen and rejected.
    """
    named = by_columns(assignments) if assignments else None
    needed = COLUMNS | set(named.columns if named else ())
    needs = needed.__contains__ if named else without_images(needed, source, FIX)

    def read(needs: Needs) -> Iterator[Row]:
        if is_fastchat(source):
            return preference_rows(source)
        return read_rows(source, TABLE_SUFFIXES, needs, tick, part)

    opened = open_rows(read, needs)
    if not opened.sample:
        reason = f"no judgment in {JUDGMENTS}/ or {REVIEWS}/: `import responses` reads the answers"
        raise InputError(f"{source}: {reason if is_fastchat(source) else 'no row in it'}")
    layout = choose(named, opened.sample, source, opened.columns)
    _check_files(source, layout, needs)
    return Preferences(layout, read_all(layout, opened.rows), _not_read(layout, opened.columns))


def _not_read(layout: Layout, columns: Iterable[str]) -> list[str]:
    """The columns of which no value is read, or is a reason to reject its row."""
    columns_read = {*layout.columns, *ORIGINS}
    if not layout.is_named:
        columns_read |= {*layout.optional, *PROMPT_COLUMNS, *layout.absent, *BEFORE, *_SIDE_COLUMNS, *IMAGES}
    return [name for name in columns if name not in columns_read]


def _check_files(source: str, layout: Layout, needs: Needs) -> None:
    """Raise InputError for a file of a folder that has not the columns of the layout, told by the first."""
    if not Path(source).is_dir() or is_fastchat(source):
        return
    for file in source_files(source, TABLE_SUFFIXES)[1:]:
        names = open_rows(partial(read_rows, str(file), TABLE_SUFFIXES), needs).columns
        if names and (absent := layout.columns.keys() - set(names)):
            problem = f"the first is {layout.described}, and {file.name} has no column {min(absent)!r} but "
            fix = "give one of them, or files of one layout"
            raise InputError(
                f"{source}: files of several layouts: {problem}{', '.join(sorted(names))}: {fix}"
            )


def choose(named: Layout | None, rows: Sequence[Cells], source: str, columns: Sequence[str]) -> Layout:
    """The layout that the user describes, else the one that fits the rows. Raises InputError."""
    if named is None:
        return detect(rows, source, columns)
    if absent := named.columns.keys() - set(columns):
        raise InputError(f"{source}: no column {min(absent)!r}; it has: {', '.join(columns)}")
    return named


def detect(rows: Sequence[Cells], source: str, columns: Sequence[str]) -> Layout:
    """The one layout that fits the rows. Raises InputError where none does, or more than one.

    `columns` are all of the source's, also those that are not read.
    """
    if column := _column_of(rows, (*PROMPT_COLUMNS, *SIDES), python_list):
        fix = "write JSONL or Parquet, or name the columns in import.columns to read them as text"
        raise InputError(f"{source}: {column} holds lists as Python prints them: {fix}")
    fitting = [layout for layout in LAYOUTS if layout.fits(rows)]
    tests = [item for layout in fitting for item in layout.columns.items()]
    are_texts = [name for name, test in tests if test is not text_lists]
    if column := _column_of(rows, are_texts, written_list):
        fix = "write one text, or a list of turns, or name the columns in import.columns to read it as text"
        raise InputError(f"{source}: {column} holds lists of texts, or turns as text: {fix}")
    if len(fitting) == 1:
        [layout] = fitting
        _check_references(layout, rows, source, columns)
        _check_repeats(layout, rows, source)
        _check_labels(layout, rows, source)
        return layout
    names = ", ".join(columns) or "none"
    if fitting:
        described = " and ".join(layout.described for layout in fitting)
        raise InputError(f"{source}: its columns ({names}) fit {described}: {FIX}")
    check_elsewhere(columns, source)
    reason = _near_miss(rows) or _unjudged(rows, columns)
    raise InputError(f"{source}: no layout of preferences has its columns ({names}){reason}: {FIX}")


FIX = (
    "name the columns of the prompt, the better and the worse reply: import.columns "
    "prompt=NAME,chosen=NAME,rejected=NAME"
)


def _check_references(layout: Layout, rows: Sequence[Cells], source: str, columns: Sequence[str]) -> None:
    """Raise InputError where most of `chosen` name a model, a column or its last word, and are no replies."""
    if "chosen" not in layout.columns:
        return
    others = [name.lower() for name in columns if name not in SIDES]
    names = {*others, *(name.rpartition("_")[2] for name in others)}
    values = [(row, row["chosen"].strip()) for row in rows if isinstance(row.get("chosen"), str)]
    are_names = [
        value.lower() in names or value in [row.get(name) for name in MODEL_COLUMNS] for row, value in values
    ]
    if 2 * sum(are_names) > len(values):
        problem = "chosen names a column or a model, and is no reply"
        raise InputError(f"{source}: {problem}: write rows with prompt, and the texts as chosen and rejected")


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


LABELS = {-1, 0, 1, 2}
"""Numbers by which files label two sides; any other is a mistake of its row alone."""


def _other_labels(layout: Layout, column: str, numbers: set[float], place: str) -> InputError:
    listed = ", ".join(f"{number:g}" for number in sorted(numbers)[:5])
    fix = "write rows with prompt, chosen and rejected"
    return InputError(f"{place}: {column} has {listed}, and {layout.title} has other labels: {fix}")


def _with_labels(layout: Layout, column: str, rows: Iterable[Row]) -> Iterator[Row]:
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
        if 2 * sum(is_text) > len(values) and not any(map(turns, values)):
            return name
    return None


def _near_miss(rows: Sequence[Cells]) -> str:
    """Why columns with usual names are in no layout, as far as it can be told."""
    names = {name for row in rows for name, value in row.items() if has_value(value)}
    prompts = [name for name in PROMPT_COLUMNS if name in names]
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
    has_side = any(side in name.lower() for name in columns for side in SIDES)
    if has_side:
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


ROLES = ("prompt", "system", "history", *SIDES)
"""What a column can hold for `by_columns`."""


def parse_columns(text: str | None, roles: Sequence[str] = ROLES) -> dict[str, str]:
    """`prompt=question,chosen=good` as a dictionary. Raises InputError for another role, or no name.

    A comma that no `role=` follows is part of a name.
    """
    assignments: dict[str, str] = {}
    for word in re.split(r",(?=\s*\w+=)", text) if text is not None else ():
        role, _, name = word.partition("=")
        if role not in roles or not name or role in assignments or name in assignments.values():
            raise InputError(f"import.columns {word}: write {'=NAME,'.join(roles)}=NAME, each once")
        assignments[role] = name
    return assignments


def by_columns(assignments: Mapping[str, str]) -> Layout:
    """The layout that a user describes: chosen, rejected, and what there is of prompt, system and history.

    Raises InputError for another name, or where a side is not named.
    """
    unknown = assignments.keys() - set(ROLES)
    if unknown or not set(SIDES) <= assignments.keys():
        raise InputError(
            "import.columns: name chosen and rejected, and prompt, system and history where they exist: "
            "prompt=question,chosen=good,rejected=bad"
        )
    read_pair = pair("prompt" if "prompt" in assignments else None)

    def read(row: Cells) -> list[Preference]:
        cells = {name: row.get(column) for name, column in assignments.items()}
        if is_hh(cells.get("prompt")):
            return read_hh_replies(cells)
        is_whole = "prompt" not in cells and all(is_whole_hh(cells[side]) for side in SIDES)
        return (read_hh_pair if is_whole else read_pair)(cells)

    return Layout(
        name="columns",
        title="columns",
        source="the user",
        columns=dict.fromkeys(assignments.values(), anything),
        read=read,
        example={},
        is_named=True,
    )


def read_all(layout: Layout, rows: Iterable[Row]) -> Iterator[ReadRow]:
    """What each row came to, in order."""
    for column in layout.labels:
        rows = _with_labels(layout, column, rows)
    if layout.groups_by is None:
        return (_read(layout, place, row) for place, row in rows)
    return _read_groups(layout, layout.groups_by, rows)


def _read(layout: Layout, place: str, row: Cells, is_checked: bool = False) -> ReadRow:
    result: list[Preference] | Rejected
    try:
        if not is_checked:
            layout.check(row)
        result = layout.read(row)
    except Unusable as error:
        result = Rejected(error.reason, str(error))
    return ReadRow(place, row, result)


ALONE = "no other row of this prompt beside it: rows of one prompt must follow each other"


def _read_groups(layout: Layout, prompt: str, rows: Iterable[Row]) -> Iterator[ReadRow]:
    """Rows that follow each other with one prompt are read together, at the place of the first."""
    for _, group in groupby(rows, key=lambda row: repr([row[1].get(name) for name in (prompt, *BEFORE)])):
        usable: list[Row] = []
        for place, row in group:
            try:
                layout.check(row)
                usable.append((place, row))
            except Unusable as error:
                yield ReadRow(place, row, Rejected(error.reason, str(error)))
        if len(usable) == 1:
            yield ReadRow(*usable[0], Rejected("no_preference", ALONE))
        elif usable:
            yield _read(layout, usable[0][0], {"rows": [row for _, row in usable]}, is_checked=True)
