"""The table that people judge, and its key: written, read back, and how far the judgments agree."""

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from almost_data import InputError, Store
from almost_data.datasets.manifest import canonical_json
from almost_data.datasets.records import Pinned
from almost_data.evals.result import Result
from almost_data.evals.tally import Winner
from almost_data.store.export import escape_spreadsheet_cell

COLUMNS = ("item", "judgment", "question", "answer 1", "answer 2", "choice")
CHOICES = ("1", "2", "tie")
_ITEM = re.compile(r"([0-9a-f]{12})-([0-9]{4,})")


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an item of the table is."""

    question_id: str
    first: str
    """The side whose answer is called 1: a or b."""
    judge: str | None
    """Winner by the judge."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the table does not show."""

    result: Pinned
    """The comparison that was exported, and the digest of its items."""
    models: list[Pinned]
    judgments: int
    seed: int
    items: dict[str, Place]

    def side(self, role: str) -> str:
        """Id of the model of a role."""
        return next(model.id for model in self.models if model.role == role)


@dataclass(frozen=True)
class Judgments:
    """The choices of a table."""

    key: Key
    choices: dict[str, dict[int, Winner]]
    """Item -> number of the judgment -> the side that was chosen."""

    @cached_property
    def by_item(self) -> dict[str, list[Winner]]:
        """The choices on every item of the key, in the order of the judgments."""
        return {item: list(self.choices.get(item, {}).values()) for item in self.key.items}

    @cached_property
    def winners(self) -> dict[str, Winner]:
        """The majority on every item that has a judgment."""
        return {item: majority(choices) for item, choices in self.by_item.items() if choices}

    @cached_property
    def flat(self) -> list[Winner]:
        return [choice for choices in self.by_item.values() for choice in choices]

    @property
    def missing(self) -> int:
        return self.key.judgments * len(self.key.items) - len(self.flat)

    @cached_property
    def alpha(self) -> float | None:
        return krippendorff([self.choices.get(item, {}) for item in self.key.items], self.key.judgments)


def majority(choices: Sequence[Winner]) -> Winner:
    """The side that more than half chose; a tie where there is none.

    >>> majority(["a", "a", "b"]), majority(["a", "tie", "b"]), majority(["b", "tie"])
    ('a', 'tie', 'tie')
    """
    for side in ("a", "b"):
        if choices.count(side) * 2 > len(choices):
            return side
    return "tie"


def agreement(choices: Sequence[Winner]) -> float | None:
    """Share of the pairs of judgments on an item that are equal; None of a single one.

    >>> agreement(["a", "a", "tie"])
    0.3333333333333333
    """
    pairs = list(itertools.combinations(choices, 2))
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def krippendorff(items: Sequence[dict[int, Winner]], judgments: int) -> float | None:
    """Krippendorff's alpha for nominal data; None without two judgments on an item, or where all agree."""
    try:
        from krippendorff import alpha
    except ImportError:
        raise InputError("agreement statistics need a package: pip install 'almost_data[eval]'") from None
    codes = {"a": 0.0, "b": 1.0, "tie": 2.0}
    table = np.array(
        [
            [codes[choices[number]] if number in choices else np.nan for choices in items]
            for number in range(1, judgments + 1)
        ]
    )
    paired = table[:, (~np.isnan(table)).sum(axis=0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return round(float(alpha(reliability_data=paired, level_of_measurement="nominal")), 6)


def mark_of(result: Result, judgments: int, seed: int) -> str:
    """What names the table of a result: the start of its items' names, and of its key's."""
    parts = [result.fingerprint, result.digest, judgments, seed]
    return hashlib.sha256(canonical_json(parts)).hexdigest()[:12]


def key_file(store: Store, mark: str) -> Path:
    """Where the store keeps the key of a table."""
    return store.root / "reproduce" / "keys" / f"{mark}.json"


def write(out: Path, cells: list[tuple[str, str, str, str]], judgments: int) -> None:
    """Judgment by judgment, so that each can go to another person. With a BOM, or Excel takes it for ANSI."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number in range(1, judgments + 1):
        for item, *texts in cells:
            writer.writerow([item, number, *map(escape_spreadsheet_cell, texts), ""])
    try:
        out.write_bytes(text.getvalue().encode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None


def read(store: Store, table: Path) -> Judgments:
    """The choices of a filled table. Raises InputError naming the line of what does not belong in it."""
    key: Key | None = None
    choices: dict[str, dict[int, Winner]] = {}
    judged: set[tuple[str, str]] = set()
    for number, row in _rows(table):
        where, item = f"{table}:{number}", (row["item"] or "").strip()
        key = key or _key(store, item, where)
        place = key.items.get(item)
        if place is None:
            raise InputError(f"{where}: {_quoted(item)} is no item of this table")
        judgment = (row["judgment"] or "").strip()
        if judgment not in map(str, range(1, key.judgments + 1)):
            raise InputError(f"{where}: judgment {_quoted(judgment)}: there are 1 to {key.judgments}")
        if (item, judgment) in judged:
            raise InputError(f"{where}: duplicate judgment {judgment} of item {item}")
        judged.add((item, judgment))
        choice = (row["choice"] or "").strip().lower()
        if choice and choice not in CHOICES:
            raise InputError(
                f"{where}: choice {_quoted(choice)}: write {', '.join(CHOICES)}, or leave it empty"
            )
        if choice:
            choices.setdefault(item, {})[int(judgment)] = _side(choice, place.first)
    if key is None:
        raise InputError(f"{table}: no row in it")
    return Judgments(key, {item: dict(sorted(by_number.items())) for item, by_number in choices.items()})


def _side(choice: str, first: str) -> Winner:
    if choice == "tie":
        return "tie"
    return "a" if (choice == "1") == (first == "a") else "b"


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Line number and row. Semicolons and other encodings are read too, as spreadsheets write them."""
    try:
        text = table.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise InputError(f"{table}: cannot be read: {error.strerror}") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = reader.fieldnames or ()
        if missing := [name for name in ("item", "judgment", "choice") if name not in columns]:
            raise InputError(f"{table}: no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
        before = reader.line_num
        for row in reader:
            yield before + 1, row
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"{table}:{reader.line_num}: not CSV ({error})") from None


def _key(store: Store, item: str, where: str) -> Key:
    match = _ITEM.fullmatch(item)
    file = key_file(store, match[1]) if match else None
    if file is None or not file.is_file():
        raise InputError(f"{where}: item {_quoted(item)} is of no table that was exported from {store.root}")
    try:
        return msgspec.json.decode(file.read_bytes(), type=Key)
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: not a key of a table ({error})") from None


def _quoted(text: str) -> str:
    return json.dumps(text[:60])
