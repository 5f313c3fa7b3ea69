"""Preferences of files and Hub datasets, by the layout that fits the columns, or by columns that are named.

A row that does not fit its layout is rejected with a reason; it is never repaired.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import msgspec

from ..errors import InputError
from .conversations import IMAGES
from .detection import FIX, MODEL_COLUMNS, ORIGINS, REPLIES, choose, with_labels
from .dialogue_text import is_hh, is_whole_hh
from .elsewhere import TURN_COLUMNS
from .fastchat import JUDGMENTS, REVIEWS, is_fastchat, preference_rows
from .files import (
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
    pair,
    prompt_cell,
)
from .layouts import LAYOUTS
from .parts import part_columns
from .reasons import Unusable
from .row_readers import read_hh_pair, read_hh_replies

_SIDE_COLUMNS = {pattern.format(side) for pattern in (*SCORES, *MODELS) for side in SIDES}
COLUMNS = frozenset(
    {name for layout in LAYOUTS for name in (*layout.columns, *layout.optional, *layout.foreign)}
    | _SIDE_COLUMNS
    | {*ORIGINS, *BEFORE, ADDITION, CONVERSATION, *MODEL_COLUMNS, *REPLIES, *TURN_COLUMNS}
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
    if is_fastchat(source):
        named = named or next(layout for layout in LAYOUTS if layout.name == "fastchat")
    layout = choose(named, opened.sample, source, opened.columns)
    _check_files(source, layout, needs)
    return Preferences(layout, read_all(layout, opened.rows), unread(layout, opened.columns))


def unread(layout: Layout, columns: Sequence[str]) -> list[str]:
    """The columns of which no value is read, or is a reason to reject its row."""
    columns_read = {*layout.columns, *ORIGINS}
    if not layout.is_named:
        columns_read |= {*layout.optional, *PROMPT_COLUMNS, *layout.absent, *BEFORE, *_SIDE_COLUMNS, *IMAGES}
        columns_read |= {*part_columns(tuple(columns))}
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
            raise InputError(
                f"import.columns {word}: write one or more of {'=NAME,'.join(roles)}=NAME, each once"
            )
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
        if ADDITION not in assignments.values() and "prompt" in assignments:
            cells["prompt"] = prompt_cell(row, assignments["prompt"])
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
        chosen=assignments["chosen"],
    )


def read_all(layout: Layout, rows: Iterable[Row]) -> Iterator[ReadRow]:
    """What each row came to, in order."""
    for column in layout.labels:
        rows = with_labels(layout, column, rows)
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


ALONE = "the only row of this prompt here: a preference needs two that follow each other: sort the file by it"


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
            yield ReadRow(*usable[0], Rejected("lone_row", ALONE))
        elif usable:
            yield _read(layout, usable[0][0], {"rows": [row for _, row in usable]}, is_checked=True)
