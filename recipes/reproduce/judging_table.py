"""The table that people judge: written, read back, and how far the judgments agree.

Which answer is whose follows from the result in the store, by its digest, which the table does not show.
"""

import csv
import hashlib
import io
import itertools
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from almost_data import InputError, Store
from almost_data.datasets.manifest import canonical_json
from almost_data.evals.result import Result
from almost_data.evals.results import results
from almost_data.evals.tally import Winner
from almost_data.readers.files import read_rows
from almost_data.store.export import escape_spreadsheet_cell

COLUMNS = ("item", "judgment", "question", "answer 1", "answer 2", "choice")
CHOICES = ("1", "2", "tie")
_JUDGMENT = re.compile("([1-9][0-9]?) of ([1-9][0-9]?)")


@dataclass(frozen=True)
class Item:
    """What an item of the table is."""

    question_id: str
    answers: dict[str, str]
    """By side."""
    first: Literal["a", "b"]
    """The side whose answer is called 1."""
    judge: Winner | None
    """Winner by the judge."""

    @property
    def second(self) -> Literal["a", "b"]:
        return "b" if self.first == "a" else "a"


@dataclass(frozen=True)
class Judgments:
    """The choices of a table."""

    result: Result
    """The comparison that was exported."""
    items: dict[str, Item]
    per_item: int
    choices: dict[str, dict[int, Winner]]
    """Item -> number of the judgment -> the side that was chosen."""

    @cached_property
    def by_item(self) -> dict[str, list[Winner]]:
        """The choices on every item."""
        return {item: list(self.choices.get(item, {}).values()) for item in self.items}

    @cached_property
    def winners(self) -> dict[str, Winner]:
        """The majority on every item that has a judgment."""
        return {item: majority(choices) for item, choices in self.by_item.items() if choices}

    @cached_property
    def flat(self) -> list[Winner]:
        return [choice for choices in self.by_item.values() for choice in choices]

    @property
    def missing(self) -> int:
        return self.per_item * len(self.items) - len(self.flat)

    @cached_property
    def alpha(self) -> float | None:
        return krippendorff([self.choices.get(item, {}) for item in self.items], self.per_item)


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


def table_items(store: Store, result: Result) -> dict[str, Item]:
    """The items with both answers by name, in the order of the table, which the result's digest decides."""
    rows = [
        row
        for row in store.scan(result.ref).collect().sort("question_id").to_dicts()
        if None not in (row["answer_a"], row["answer_b"])
    ]
    draw = random.Random(result.digest)
    draw.shuffle(rows)
    return {
        f"{_mark(result)}-{number:04}": Item(
            question_id=row["question_id"],
            answers={side: row[f"answer_{side}"] for side in "ab"},
            first="a" if draw.random() < 0.5 else "b",
            judge=row["winner"],
        )
        for number, row in enumerate(rows, start=1)
    }


def _mark(result: Result) -> str:
    """The start of the items' names, by which the result is found again."""
    return hashlib.sha256(canonical_json([result.fingerprint, result.digest])).hexdigest()[:12]


def write(out: Path, items: dict[str, Item], questions: dict[str, str], judgments: int) -> None:
    """Judgment by judgment, so that each can go to another person. With a BOM, or Excel takes it for ANSI."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number in range(1, judgments + 1):
        for name, item in items.items():
            texts = questions[item.question_id], item.answers[item.first], item.answers[item.second]
            writer.writerow([name, f"{number} of {judgments}", *map(escape_spreadsheet_cell, texts), ""])
    try:
        out.write_bytes(text.getvalue().encode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None


def read(store: Store, table: Path) -> Judgments:
    """The choices of a filled table. Raises InputError naming the line of what does not belong in it."""
    judgments: Judgments | None = None
    judged: set[tuple[str, int]] = set()
    for place, row in read_rows(str(table), (".csv",)):
        if absent := [name for name in ("item", "judgment", "choice") if name not in row]:
            raise InputError(f"{place}: no column {absent[0]!r}; it needs {', '.join(COLUMNS)}")
        name, cell, choice = (row[column].strip() for column in ("item", "judgment", "choice"))
        number, per_item = map(int, match.groups()) if (match := _JUDGMENT.fullmatch(cell)) else (0, 0)
        judgments = judgments or _begin(store, name, per_item, place)
        item = judgments.items.get(name)
        if item is None:
            raise InputError(f"{place}: {_quoted(name)} is no item of this table")
        if not 0 < number <= per_item == judgments.per_item:
            raise InputError(f"{place}: judgment {_quoted(cell)}: leave it as exported, such as 1 of 3")
        if (name, number) in judged:
            raise InputError(f"{place}: duplicate judgment {cell} of item {name}")
        judged.add((name, number))
        if choice.lower() not in ("", *CHOICES):
            raise InputError(
                f"{place}: choice {_quoted(choice)}: write {', '.join(CHOICES)}, or leave it empty"
            )
        if choice:
            sides: dict[str, Winner] = {"1": item.first, "2": item.second, "tie": "tie"}
            judgments.choices.setdefault(name, {})[number] = sides[choice.lower()]
    if judgments is None:
        raise InputError(f"{table}: no row in it")
    return judgments


def _begin(store: Store, name: str, per_item: int, place: str) -> Judgments:
    """No choices yet, on the items of the result that a name is of."""
    mark = name.partition("-")[0]
    result = next(
        (entry for entry in results(store) if entry.task == "vicuna" and _mark(entry) == mark), None
    )
    if result is None:
        raise InputError(
            f"{place}: no result of eval vicuna in {store.root} has the item {_quoted(name)}: "
            "import into the store that exported it"
        )
    return Judgments(result, table_items(store, result), per_item, {})


def _quoted(text: str) -> str:
    return json.dumps(text[:60])
