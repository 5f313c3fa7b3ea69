"""People judge pairs of answers: a table out, blinded and shuffled, and the filled one in again.

    python recipes/reproduce/human.py export --result vicuna@VERSION --data question.jsonl --out table.csv
    python recipes/reproduce/human.py import table.csv

Which answer is whose is kept in a key in the store, under `reproduce/keys/`, and not in the table. An item
is won by the side that more than half of its judgments chose; any other item is a tie.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
import judging_table
import msgspec
from console import run
from judging_table import Judgments, Key, Place, agreement

from almost_data import InputError, Store
from almost_data.cli.console import print_json, print_line
from almost_data.cli.show_results import print_result
from almost_data.datasets.records import Pinned
from almost_data.evals import saved
from almost_data.evals.evaluation import EvalSession, Evaluation, evaluate
from almost_data.evals.result import SIDE_A, SIDE_B, EvalPlan, Line, Measurement, Result
from almost_data.evals.results import items, results
from almost_data.evals.results import read as read_result
from almost_data.evals.tally import outcomes

JUDGMENTS = 3
"""On each item (paper)."""
app = cyclopts.App(
    name="human.py",
    help="Have people judge the answers of eval vicuna: a table out, and in again.",
    help_format="plaintext",
)
Root = Annotated[Path, cyclopts.Parameter(help="Folder of the store.")]


@app.command(name="export")
def export_command(
    *,
    result: Annotated[str, cyclopts.Parameter(help="Result of eval vicuna: vicuna@VERSION.")],
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


def export(
    store: Store, name: str, data: Path, out: Path, judgments: int = JUDGMENTS, seed: int = 0
) -> tuple[int, Path]:
    """Write the table of a finished `eval vicuna`, and its key. Returns the item count and the key file.

    Raises InputError where the result has no answers, the questions are others, or the table exists.
    """
    if judgments < 1:
        raise InputError(f"--judgments {judgments}: give 1 or more")
    if out.exists():
        raise InputError(f"{out}: exists, and may hold judgments: give another --out")
    result = find(store, name)
    questions = _questions(result, name, data)
    rows = [row for row in items(store, result).to_dicts() if None not in (row["answer_a"], row["answer_b"])]
    if not rows:
        raise InputError(f"{name}: no question has both answers: run eval vicuna again")
    mark = judging_table.mark_of(result, judgments, seed)
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
    key = judging_table.key_file(store, mark)
    key.parent.mkdir(parents=True, exist_ok=True)
    staging = key.with_name(f".{key.name}.{os.getpid()}")
    staging.write_bytes(msgspec.json.encode(Key(place, models, judgments, seed, places)) + b"\n")
    os.replace(staging, key)
    judging_table.write(out, cells, judgments)
    return len(places), key


def _questions(result: Result, name: str, data: Path) -> dict[str, saved.Question]:
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
    judgments = judging_table.read(session.store, options.table)
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
        details = {"alpha": judgments.alpha, "missing": judgments.missing}
        return Measurement(_lines(judgments), rows, ("item",), details, _notes(judgments))

    return EvalPlan(
        models=key.models,
        data=[session.file(options.table, "judgments"), key.result],
        settings={"judgments": key.judgments, "seed": key.seed},
        measure=measure,
    )


def _lines(judgments: Judgments) -> list[Line]:
    key, winners = judgments.key, judgments.winners
    lines = outcomes(list(winners.values()), key.side(SIDE_A))
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
    lines.append(Line.of("people", "first place wins", firsts, chance=0.5))
    lines.append(Line.of("people", "two judgments agree", agreements))
    if agree := [
        float(side == key.items[item].judge) for item, side in winners.items() if key.items[item].judge
    ]:
        lines.append(Line.of("people", "agree with the judge", agree))
    return lines


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
    """A finished `eval vicuna` by `vicuna@VERSION`."""
    result = read_result(store.manifest(name))
    if result.task != "vicuna":
        raise InputError(f"--result {name}: a result of eval {result.task}: name one of eval vicuna")
    return result


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


EVALUATION = Evaluation(
    name="human",
    logic_version=3,
    options=Options,
    plan=plan,
    description="People's choices between the answers of eval vicuna, by majority.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run(app, arguments)


if __name__ == "__main__":
    main()
