"""People judge pairs of answers: a table out, blinded and shuffled, and the filled one in again.

    python recipes/reproduce/human.py export --result FINGERPRINT --data question.jsonl --out table.csv
    python recipes/reproduce/human.py import table.csv

Which answer is whose is kept in a key in the store, under `reproduce/keys/`, and not in the table. An item
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import msgspec
import numpy as np
from console import run

from almost_data import InputError, Store
from almost_data.cli.console import print_json, print_line
from almost_data.cli.show_results import print_result
from almost_data.datasets.manifest import canonical_json
from almost_data.datasets.records import Pinned
from almost_data.evals import saved
from almost_data.evals.evaluation import EvalSession, Evaluation, evaluate
from almost_data.evals.result import SIDE_A, SIDE_B, EvalPlan, Line, Measurement, Result
from almost_data.evals.results import items, results
from almost_data.evals.tally import Winner, line, outcomes
from almost_data.store.export import escape_spreadsheet_cell

COLUMNS = ("item", "judgment", "question", "answer 1", "answer 2", "choice")
CHOICES = ("1", "2", "tie")
JUDGMENTS = 3
"""On each item (paper)."""
_ITEM = re.compile(r"([0-9a-f]{12})-([0-9]{4,})")
app = cyclopts.App(
    name="human.py",
    help="Have people judge the answers of eval vicuna: a table out, and in again.",
    help_format="plaintext",
)
Root = Annotated[Path, cyclopts.Parameter(help="Folder of the store.")]


@app.command(name="export")
def export_command(
    *,
    result: Annotated[
        str, cyclopts.Parameter(help="Result of eval vicuna: folder, or start of fingerprint.")
    ],
    data: Annotated[Path, cyclopts.Parameter(help="The questions that were answered.")],
    out: Annotated[Path, cyclopts.Parameter(help="CSV to write; it must not exist.")],
    judgments: Annotated[int, cyclopts.Parameter(help="On each item, by different people.")] = JUDGMENTS,
    seed: Annotated[int, cyclopts.Parameter(help="Of the order.")] = 0,
    root: Root = Path("build"),
) -> None:
    """Write a table of answers, blinded and shuffled, with an empty column for people's choices."""
    count, key = export(Store(root), result, data, out, judgments, seed)
    print_line(f"{out}: {count:,} items, {judgments} judgments each; write 1, 2 or tie into `choice`")
    print_line(f"which answer is whose: {key}; keep it from those who judge")


@app.command(name="import")
def import_command(
    table: Annotated[Path, cyclopts.Parameter(help="CSV of `export`, with choices filled in.")],
    /,
    *,
    json: Annotated[bool, cyclopts.Parameter(negative=(), help="Print result.json.")] = False,
    root: Root = Path("build"),
) -> None:
    """Read people's choices: win, tie and lose by majority, and how far they agree."""
    store = Store(root)
    result = read(store, table)
    if json:
        print_json(result)
    else:
        print_result(store, result)


@dataclass(frozen=True)
class Options:
    table: Path
    """CSV of `export`, with choices filled in."""


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


def export(
    store: Store, name: str, data: Path, out: Path, judgments: int = JUDGMENTS, seed: int = 0
) -> tuple[int, Path]:
    """Write the table of a finished `eval vicuna`, and its key. Returns the item count and the key file.

    `name` is the result's folder, or the start of its fingerprint. Raises InputError where the result has
    no answers, the questions are others, or the table exists.
    """
    if judgments < 1:
        raise InputError(f"--judgments {judgments}: give 1 or more")
    if out.exists():
        raise InputError(f"{out}: exists, and may hold judgments: give another --out")
    result = find(store, name)
    questions = _questions(result, name, data)
    rows = [row for row in items(store, result).to_dicts() if None not in (row["answer_a"], row["answer_b"])]
    if not rows:
        raise InputError(
            f"{name}: it keeps no answers, as of saved reviews: give it --a and --b files of answers"
        )
    mark = _mark(result, judgments, seed)
    random.Random(mark).shuffle(rows)
    places: dict[str, Place] = {}
    cells: list[tuple[str, str, str, str]] = []
    for number, row in enumerate(rows, start=1):
        item, question_id = f"{mark}-{number:04}", row["question_id"]
        first = random.Random(f"{mark}:{question_id}").choice("ab")
        second = "b" if first == "a" else "a"
        places[item] = Place(question_id, first, row["winner"])
        cells.append((item, questions[question_id].text, row[f"answer_{first}"], row[f"answer_{second}"]))
    models = [model for model in result.models if model.role != "judge"]
    place = Pinned(result.ref, result.digest[:16], "evaluation")
    key = _key_file(store, mark)
    key.parent.mkdir(parents=True, exist_ok=True)
    staging = key.with_name(f".{key.name}.{os.getpid()}")
    staging.write_bytes(msgspec.json.encode(Key(place, models, judgments, seed, places)) + b"\n")
    os.replace(staging, key)
    _write(out, cells, judgments)
    return len(places), key


def _questions(result: Result, name: str, data: Path) -> dict[str, saved.Question]:
    if not result.data:
        raise InputError(
            f"{name}: it was made without --data, of saved reviews: replay them with the questions"
        )
    questions = saved.questions(data)
    if all(pinned.revision != saved.pinned_file(data, "data").revision for pinned in result.data):
        raise InputError(f"{data}: not the questions of {name}: its checksum is another one")
    return questions


def read(store: Store, table: Path) -> Result:
    """Win, tie and lose by people's majority, and how far they agree, from a filled table.

    Empty and missing rows are counted. Raises InputError naming the line for an item of another store, a
    duplicate or unknown judgment, or a choice other than 1, 2 and tie.
    """
    return evaluate(store, EVALUATION, Options(table))


def plan(session: EvalSession, options: Options) -> EvalPlan:
    judgments = _judgments(session.store, options.table)
    key = judgments.key

    def measure() -> Measurement:
        rows = [
            {
                "item": item,
                "question_id": place.question_id,
                "first": place.first,
                "winner": judgments.winners.get(item),
                "judge": place.judge,
                **{
                    f"judgment_{number}": judgments.choices.get(item, {}).get(number)
                    for number in range(1, key.judgments + 1)
                },
            }
            for item, place in key.items.items()
        ]
        return Measurement(
            _lines(judgments), rows, ("item",), details=_details(judgments), notes=_notes(judgments)
        )

    return EvalPlan(
        models=key.models,
        data=[session.file(options.table, "judgments"), key.result],
        settings={"judgments": key.judgments, "seed": key.seed},
        measure=measure,
    )


def _lines(judgments: Judgments) -> list[Line]:
    key, winners = judgments.key, judgments.winners
    lines = outcomes(list(winners.values()), key.side(SIDE_A), key.seed)
    decided = {
        item: [side for side in choices if side != "tie"] for item, choices in judgments.by_item.items()
    }
    firsts = [
        sum(side == key.items[item].first for side in sides) / len(sides)
        for item, sides in decided.items()
        if sides
    ]
    agreements = [
        share for choices in judgments.by_item.values() if (share := agreement(choices)) is not None
    ]
    lines.append(line("people", "first place wins", firsts, key.seed, chance=0.5))
    lines.append(line("people", "two judgments agree", agreements, key.seed))
    if agree := [
        float(side == key.items[item].judge) for item, side in winners.items() if key.items[item].judge
    ]:
        lines.append(line("people", "agree with the judge", agree, key.seed))
    return lines


def _details(judgments: Judgments) -> dict[str, Any]:
    key = judgments.key
    rows = []
    for number in range(1, key.judgments + 1):
        sides = [choices[number] for choices in judgments.choices.values() if number in choices]
        counts = [sides.count(side) for side in ("a", "tie", "b")]
        rows.append([str(number), *counts, len(key.items) - len(sides)])
    columns = ["judgment", f"{key.side(SIDE_A)} wins", "ties", f"{key.side(SIDE_B)} wins", "missing"]
    return {
        "alpha": judgments.alpha,
        "missing": judgments.missing,
        "judgments": {"title": "Single judgments", "columns": columns, "rows": rows},
    }


def _notes(judgments: Judgments) -> list[str]:
    key, alpha = judgments.key, judgments.alpha
    counts = {side: judgments.flat.count(side) for side in ("a", "tie", "b")}
    no_majority = sum(
        winner == "tie" and judgments.by_item[item].count("tie") * 2 <= len(judgments.by_item[item])
        for item, winner in judgments.winners.items()
    )
    return [
        f"Judgments: {len(judgments.flat)} given ({counts['a']} for {key.side(SIDE_A)}, {counts['tie']} "
        f"ties, {counts['b']} for {key.side(SIDE_B)}), {judgments.missing} missing; items without any: "
        f"{len(key.items) - len(judgments.winners)}, without a majority, which count as ties: {no_majority}.",
        f"Krippendorff's alpha, nominal: {'n/a' if alpha is None else f'{alpha:.3f}'} (1 is full agreement, "
        "0 what chance gives).",
    ]


def find(store: Store, name: str) -> Result:
    """A finished `eval vicuna` by `name@version`, its folder, or the start of its fingerprint."""
    comparisons = [result for result in results(store) if result.task == "vicuna"]
    version = f"@{Path(name).name}"
    matches = [
        result
        for result in comparisons
        if name
        and (result.fingerprint.startswith(name) or result.ref == name or result.ref.endswith(version))
    ]
    if len(matches) != 1:
        existing = ", ".join(result.ref for result in comparisons) or "none"
        raise InputError(
            f"--result {name}: {'several results' if matches else 'no result'} of eval vicuna under "
            f"{store.root} (there: {existing})"
        )
    return matches[0]


def between(store: Store, a: Pinned, b: Pinned) -> Result:
    """People's judgments of these two sides: the result with the most items, of equal ones the latest.

    Its win rate is that of `a`, whichever side `a` was in the table, and its `data` has the questions too.
    Raises InputError where there is none, or the judged comparison is no longer in the store.
    """
    existing = results(store)
    sides = [(side.id, side.revision) for side in (a, b)]
    matches = [
        result
        for result in existing
        if result.task == EVALUATION.name and result.lines[0].n and sorted(_sides(result)) == sorted(sides)
    ]
    if not matches:
        raise InputError("people's judgments (recipes/reproduce/human.py export, then import)")
    result = max(matches, key=lambda match: (match.lines[0].n, match.created))
    ref = next(pinned.id for pinned in result.data if pinned.role == "evaluation")
    comparison = next((entry for entry in existing if entry.ref == ref), None)
    if comparison is None:
        raise InputError(f"{ref}, whose answers people judged: it says which questions they are of")
    result = msgspec.structs.replace(result, data=[*result.data, *comparison.data])
    return result if _sides(result) == sides else _mirrored(result)


def _sides(result: Result) -> list[tuple[str, str]]:
    return [(model.id, model.revision) for model in result.models]


def _mirrored(result: Result) -> Result:
    """The same with the sides exchanged, and no number but the win rate."""
    models = result.models[::-1]
    win_rate = result.lines[0].mirrored(models[0].id)
    return msgspec.structs.replace(result, models=models, lines=[win_rate] if win_rate else [])


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


def _mark(result: Result, judgments: int, seed: int) -> str:
    parts = [result.fingerprint, result.digest, judgments, seed]
    return hashlib.sha256(canonical_json(parts)).hexdigest()[:12]


def _key_file(store: Store, mark: str) -> Path:
    return store.root / "reproduce" / "keys" / f"{mark}.json"


def _write(out: Path, cells: list[tuple[str, str, str, str]], judgments: int) -> None:
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


def _judgments(store: Store, table: Path) -> Judgments:
    key: Key | None = None
    choices: dict[str, dict[int, Winner]] = {}
    read: set[tuple[str, str]] = set()
    for number, row in _rows(table):
        where, item = f"{table}:{number}", (row["item"] or "").strip()
        key = key or _key(store, item, where)
        place = key.items.get(item)
        if place is None:
            raise InputError(f"{where}: {_quoted(item)} is no item of this table")
        judgment = (row["judgment"] or "").strip()
        if judgment not in map(str, range(1, key.judgments + 1)):
            raise InputError(f"{where}: judgment {_quoted(judgment)}: there are 1 to {key.judgments}")
        if (item, judgment) in read:
            raise InputError(f"{where}: duplicate judgment {judgment} of item {item}")
        read.add((item, judgment))
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
    file = _key_file(store, match[1]) if match else None
    if file is None or not file.is_file():
        raise InputError(f"{where}: item {_quoted(item)} is of no table that was exported from {store.root}")
    try:
        return msgspec.json.decode(file.read_bytes(), type=Key)
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: not a key of a table ({error})") from None


def _quoted(text: str) -> str:
    return json.dumps(text[:60])


EVALUATION = Evaluation(
    name="human",
    logic_version=2,
    options=Options,
    plan=plan,
    description="People's choices between the answers of eval vicuna, by majority.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run(app, arguments)


if __name__ == "__main__":
    main()
