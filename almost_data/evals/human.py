"""Pairs of answers for people to judge: a table out, blinded and shuffled, and the filled one in again.

Which answer is whose is kept in a key in the store, under `evals/human/keys/`, and not in the table. An item
is won by the side that more than half of its judgments chose; any other item is a tie.
"""

import csv
import hashlib
import io
import itertools
import json
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..cards.markdown import clean
from ..datasets.manifest import canonical_json
from ..errors import InputError
from ..store.store import Store
from . import saved
from .on_card import mirrored
from .result import LOGIC, Pinned, Result, folder, known, results, save
from .tally import Winner, line, outcomes

TASK = "human"
LOGIC_VERSION = LOGIC[TASK]
COLUMNS = ("item", "judgment", "question", "answer 1", "answer 2", "choice")
CHOICES = ("1", "2", "tie")
JUDGMENTS = 3
"""On each item (paper)."""
_ITEM = re.compile(r"([0-9a-f]{12})-([0-9]{4,})")
_FORMULA = re.compile(r"(^|[;\t]|\n(?=\s*[=+@]))(?=\s*[=+\-@])")
"""Where a spreadsheet would begin to calculate: at the front, and where it may see a new cell."""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an item of the table is."""

    question_id: str
    first: str
    """The side whose answer is called 1: a or b."""
    judge: str | None
    """Who won by the judge."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the table leaves out."""

    result: Pinned
    """The evaluation: its place under `evals`, and the digest of its items."""
    models: list[Pinned]
    judgments: int
    seed: int
    items: dict[str, Place]


def export(
    store: Store, name: str, data: Path, out: Path, judgments: int = JUDGMENTS, seed: int = 0
) -> tuple[int, Path]:
    """Write the table of a finished `eval vicuna`, and its key; the number of items, and where the key is.

    `name` is the result's folder, or the beginning of its fingerprint. Raises InputError where the result
    has no answers, the questions are other ones, or the table is there already.
    """
    if judgments < 1:
        raise InputError(f"--judgments {judgments}: give 1 or more")
    if out.exists():
        raise InputError(f"{out}: is there already, and may hold judgments: give another --out")
    result = find(store, name)
    if not result.data:
        raise InputError(
            f"{name}: it was made without --data, of saved reviews: replay them with the questions"
        )
    questions = saved.questions(data)
    if all(one.revision != saved.pinned(data, "data").revision for one in result.data):
        raise InputError(f"{data}: not the questions of {name}: its checksum is another one")
    rows = [row for row in _items(store, result) if None not in (row["answer_a"], row["answer_b"])]
    if not rows:
        raise InputError(
            f"{name}: it keeps no answers, as of saved reviews: give it --a and --b files of answers"
        )
    mark = _mark(result, judgments, seed)
    random.Random(mark).shuffle(rows)
    items: dict[str, Place] = {}
    cells: list[tuple[str, str, str, str]] = []
    for number, row in enumerate(rows, start=1):
        item, id = f"{mark}-{number:04}", row["question_id"]
        first = random.Random(f"{mark}:{id}").choice("ab")
        items[item] = Place(id, first, row["winner"])
        second = "b" if first == "a" else "a"
        cells.append((item, questions[id].text, row[f"answer_{first}"], row[f"answer_{second}"]))
    models = [one for one in result.models if one.role != "judge"]
    place = Pinned(f"{result.task}/{folder(store, result).name}", result.digest, "evaluation")
    key = _key_file(store, mark)
    key.parent.mkdir(parents=True, exist_ok=True)
    staging = key.with_name(f".{key.name}.{os.getpid()}")
    staging.write_bytes(msgspec.json.encode(Key(place, models, judgments, seed, items)) + b"\n")
    os.replace(staging, key)
    _write(out, cells, judgments)
    return len(items), key


def read(store: Store, table: Path) -> Result:
    """Win, tie and lose by people's majority, and how far they agree, from a table that was filled in.

    Rows that were left empty or are gone are counted. Raises InputError naming the line for an item that is
    not of this store's, a judgment that stands twice or is none, or a choice other than 1, 2 and tie.
    """
    start = time.monotonic()
    key, given = _judgments(store, table)
    a, b = (next(one.id for one in key.models if one.role == role) for role in ("model a", "model b"))
    draft = Result(
        TASK,
        LOGIC_VERSION,
        key.models,
        [saved.pinned(table, "judgments"), key.result],
        {},
        {"judgments": key.judgments, "seed": key.seed},
        [],
    )
    if there := known(store, draft):
        return there
    chosen = {item: list(given.get(item, {}).values()) for item in key.items}
    won = {item: majority(some) for item, some in chosen.items() if some}
    every = [one for some in chosen.values() for one in some]
    lines = outcomes(list(won.values()), a, key.seed)
    firsts = [
        sum(one == key.items[item].first for one in some) / len(some)
        for item, all_ in chosen.items()
        if (some := [one for one in all_ if one != "tie"])
    ]
    lines.append(line("people", "first place wins", firsts, key.seed, chance=0.5))
    same = [one for some in chosen.values() if (one := agreement(some)) is not None]
    lines.append(line("people", "two judgments agree", same, key.seed))
    beside = [(one, key.items[item].judge) for item, one in won.items() if key.items[item].judge]
    if beside:
        values = [float(one == other) for one, other in beside]
        lines.append(line("people", "agree with the judge", values, key.seed))
    alpha = krippendorff([given.get(item, {}) for item in key.items], key.judgments)
    missing = key.judgments * len(key.items) - len(every)
    counts = {side: every.count(side) for side in ("a", "tie", "b")}
    split = sum(one == "tie" and some.count("tie") * 2 <= len(some) for some, one in _paired(chosen, won))
    done = msgspec.structs.replace(
        draft,
        lines=lines,
        details={
            "alpha": alpha,
            "missing": missing,
            "judgments": {
                "title": "Single judgments",
                "columns": ["judgment", f"{a} wins", "ties", f"{b} wins", "missing"],
                "rows": [
                    [
                        str(number),
                        *(some.count(side) for side in ("a", "tie", "b")),
                        len(key.items) - len(some),
                    ]
                    for number in range(1, key.judgments + 1)
                    for some in [[one[number] for one in given.values() if number in one]]
                ],
            },
        },
        notes=[
            f"Judgments: {len(every)} given ({counts['a']} for {a}, {counts['tie']} ties, {counts['b']} for "
            f"{b}), {missing} missing; items without any: {len(key.items) - len(won)}, without a majority, "
            f"which count as ties: {split}.",
            f"Krippendorff's alpha, nominal: {'n/a' if alpha is None else f'{alpha:.3f}'} (1 is full "
            "agreement, 0 what chance gives).",
        ],
    )
    rows = [
        {
            "item": item,
            "question_id": place.question_id,
            "first": place.first,
            "winner": won.get(item),
            "judge": place.judge,
            **{f"judgment_{n}": given.get(item, {}).get(n) for n in range(1, key.judgments + 1)},
        }
        for item, place in key.items.items()
    ]
    return save(store, done, rows, time.monotonic() - start)


def find(store: Store, name: str) -> Result:
    """A finished `eval vicuna` by its folder, its result.json, or the beginning of its fingerprint."""
    wanted = Path(name).parent if name.endswith("result.json") else Path(name)
    every = [one for one in results(store) if one.task == "vicuna"]
    mark = wanted.name if wanted.is_dir() else name.rpartition("/")[2]
    found = [one for one in every if mark and one.fingerprint.startswith(mark)]
    if len(found) != 1:
        there = ", ".join(one.fingerprint[:16] for one in every) or "none"
        raise InputError(
            f"--result {name}: {'several results' if found else 'no result'} of eval vicuna under "
            f"{store.root} (there: {there})"
        )
    return found[0]


def between(store: Store, a: Pinned, b: Pinned) -> Result:
    """What people said of these two sides: of several such results that of the most items, then the latest.

    Its win rate is that of `a`, whichever side that was when they were asked, and its `data` has the
    questions too. Raises InputError where there is none, or what they were asked about is gone.
    """
    every = list(results(store))
    sides = [(one.id, one.revision) for one in (a, b)]
    some = [
        one for one in every if one.task == TASK and one.lines[0].n and sorted(_sides(one)) == sorted(sides)
    ]
    if not some:
        raise InputError("people's judgments (eval human export, then eval human import)")
    found = max(some, key=lambda one: (one.lines[0].n, one.created))
    asked = next(one.id for one in found.data if one.role == "evaluation")
    data = next((one.data for one in every if f"{one.task}/{folder(store, one).name}" == asked), None)
    if data is None:
        raise InputError(f"{asked}, whose answers people judged: it says which questions they are of")
    found = msgspec.structs.replace(found, data=[*found.data, *data])
    return found if _sides(found) == sides else _mirrored(found)


def _sides(result: Result) -> list[tuple[str, str]]:
    return [(one.id, one.revision) for one in result.models]


def _mirrored(result: Result) -> Result:
    """The same with the sides changed over, and no number but the win rate."""
    models = result.models[::-1]
    return msgspec.structs.replace(result, models=models, lines=[mirrored(result.lines[0], models[0].id)])


def majority(choices: Sequence[Winner]) -> Winner:
    """What more than half chose; a tie where nothing was.

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
    return sum(one == other for one, other in pairs) / len(pairs) if pairs else None


def krippendorff(given: Sequence[dict[int, Winner]], judgments: int) -> float | None:
    """Krippendorff's alpha for nominal data; None where it has no value: no two on an item, or all alike."""
    try:
        from krippendorff import alpha
    except ImportError:
        raise InputError("agreement statistics need a package: pip install 'almost_data[eval]'") from None
    codes = {"a": 0.0, "b": 1.0, "tie": 2.0}
    table = np.array(
        [[codes[one[n]] if n in one else np.nan for one in given] for n in range(1, judgments + 1)]
    )
    paired = table[:, (~np.isnan(table)).sum(axis=0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return round(float(alpha(reliability_data=paired, level_of_measurement="nominal")), 6)


def guarded(text: str) -> str:
    """A cell that no spreadsheet calculates and no terminal obeys.

    >>> guarded("=1+1"), guarded("- one\\n- two"), guarded("two - one")
    ("'=1+1", "'- one\\n- two", 'two - one')
    """
    return _FORMULA.sub(r"\1'", clean(text))


def _paired(chosen: dict[str, list[Winner]], won: dict[str, Winner]) -> Iterator[tuple[list[Winner], Winner]]:
    return ((chosen[item], one) for item, one in won.items())


def _items(store: Store, result: Result) -> list[dict[str, Any]]:
    import polars as pl

    file = folder(store, result) / "items.parquet"
    if not file.is_file():
        raise InputError(f"{file}: is not there: run the evaluation again")
    return pl.read_parquet(file).to_dicts()


def _mark(result: Result, judgments: int, seed: int) -> str:
    parts = [result.fingerprint, result.digest, judgments, seed]
    return hashlib.sha256(canonical_json(parts)).hexdigest()[:12]


def _key_file(store: Store, mark: str) -> Path:
    return store.root / "evals" / TASK / "keys" / f"{mark}.json"


def _write(out: Path, cells: list[tuple[str, str, str, str]], judgments: int) -> None:
    """Judgment by judgment, so that each can go to another person. With a BOM, or Excel takes it for ANSI."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number in range(1, judgments + 1):
        for item, question, one, two in cells:
            writer.writerow([item, number, *map(guarded, (question, one, two)), ""])
    try:
        out.write_bytes(text.getvalue().encode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None


def _judgments(store: Store, table: Path) -> tuple[Key, dict[str, dict[int, Winner]]]:
    """The table's key, and by item and judgment which side was chosen."""
    key: Key | None = None
    given: dict[str, dict[int, Winner]] = {}
    seen: set[tuple[str, int]] = set()
    for at, row in _rows(table):
        where, item = f"{table}:{at}", (row["item"] or "").strip()
        key = key or _key(store, item, where)
        place = key.items.get(item)
        if place is None:
            raise InputError(f"{where}: {_quoted(item)} is no item of this table")
        judgment = (row["judgment"] or "").strip()
        if judgment not in map(str, range(1, key.judgments + 1)):
            raise InputError(f"{where}: judgment {_quoted(judgment)}: there are 1 to {key.judgments}")
        if (item, int(judgment)) in seen:
            raise InputError(f"{where}: judgment {judgment} of item {item} stands twice")
        seen.add((item, int(judgment)))
        choice = (row["choice"] or "").strip().lower()
        if choice and choice not in CHOICES:
            raise InputError(
                f"{where}: choice {_quoted(choice)}: write {', '.join(CHOICES)}, or leave it empty"
            )
        if choice:
            other = "b" if place.first == "a" else "a"
            side = {"1": place.first, "2": other, "tie": "tie"}[choice]
            given.setdefault(item, {})[int(judgment)] = "a" if side == "a" else "b" if side == "b" else "tie"
    if key is None:
        raise InputError(f"{table}: no row in it")
    return key, {item: dict(sorted(some.items())) for item, some in given.items()}


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Line number and row; semicolons and other encodings are taken too, as spreadsheets write them."""
    try:
        text = table.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise InputError(f"{table}: cannot be read: {error.strerror}") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        if missing := [one for one in ("item", "judgment", "choice") if one not in (reader.fieldnames or ())]:
            raise InputError(f"{table}: no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
        before = reader.line_num
        for row in reader:
            yield before + 1, row
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"{table}:{reader.line_num}: no CSV ({error})") from None


def _key(store: Store, item: str, where: str) -> Key:
    found = _ITEM.fullmatch(item)
    file = _key_file(store, found[1]) if found else None
    if file is None or not file.is_file():
        raise InputError(f"{where}: item {_quoted(item)} is of no table that was exported from {store.root}")
    try:
        return msgspec.json.decode(file.read_bytes(), type=Key)
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: not a key of a table ({error})") from None


def _quoted(text: str) -> str:
    return json.dumps(text[:60])
