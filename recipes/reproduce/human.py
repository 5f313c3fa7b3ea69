"""People judge pairs of answers: a table out, blinded and shuffled, and the filled one in again.

    python recipes/reproduce/human.py export --result vicuna@VERSION --data question.jsonl --out table.csv
    python recipes/reproduce/human.py import table.csv

Import into the store that has the result: only that says which answer is whose. An item is won by the side
that more than half of its judgments chose; any other item is a tie.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch(ending.KEPT)

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
import judging_table
import msgspec
from judging_table import Judgments, agreement

from almost_data import InputError, Store
from almost_data.cli import app as cli
from almost_data.cli.console import print_json, print_line
from almost_data.cli.show_results import print_result
from almost_data.datasets.records import Pinned
from almost_data.evals import saved
from almost_data.evals.evaluation import EvalSession, Evaluation, evaluate
from almost_data.evals.result import SIDE_A, SIDE_B, EvalPlan, Line, Measurement, Result
from almost_data.evals.result import read as read_result
from almost_data.evals.results import results
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
    root: Root = Path("build"),
) -> None:
    """Write a table of answers, blinded and shuffled, with an empty column for people's choices."""
    count = export(Store(root), result, data, out, judgments)
    print_line(f"{out}: {count:,} items, {judgments} judgments each; write 1, 2 or tie into `choice`")


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
    result = evaluate(store, EVALUATION, Options(table))
    if json:
        print_json(result)
    else:
        print_result(store, result)


@dataclass(frozen=True)
class Options:
    table: Path
    """CSV of `export`, with choices filled in."""


def export(store: Store, name: str, data: Path, out: Path, judgments: int = JUDGMENTS) -> int:
    """Write the table of a finished `eval vicuna`. Returns the item count.

    Raises InputError where the result has no answers, the questions are others, or the table exists.
    """
    if not 0 < judgments < 100:
        raise InputError(f"--judgments {judgments}: give 1 to 99")
    if out.exists():
        raise InputError(f"{out}: exists, and may hold judgments: give another --out")
    result = read_result(store.manifest(name))
    if result.task != "vicuna":
        raise InputError(f"--result {name}: a result of eval {result.task}: name one of eval vicuna")
    questions = {name: question.text for name, question in saved.questions(data).items()}
    if all(pinned.revision != saved.pinned_file(data, "data").revision for pinned in result.data):
        raise InputError(f"{data}: not the questions of {name}: its checksum is another one")
    items = judging_table.table_items(store, result)
    if not items:
        raise InputError(f"{name}: no question has both answers: run eval vicuna again")
    judging_table.write(out, items, questions, judgments)
    return len(items)


def plan(session: EvalSession, options: Options) -> EvalPlan:
    """Win, tie and lose by people's majority, and how far they agree, from a filled table.

    Empty and missing rows are counted. Raises InputError naming the line for an item of another store, a
    duplicate or unknown judgment, or a choice other than 1, 2 and tie.
    """
    judgments = judging_table.read(session.store, options.table)
    result, per_item = judgments.result, judgments.per_item

    def measure() -> Measurement:
        rows = [
            {
                "item": name,
                "question_id": item.question_id,
                "first": item.first,
                "winner": judgments.winners.get(name),
                "judge": item.judge,
                **{
                    f"judgment_{number}": judgments.choices.get(name, {}).get(number)
                    for number in range(1, per_item + 1)
                },
            }
            for name, item in judgments.items.items()
        ]
        details = {"alpha": judgments.alpha, "missing": judgments.missing}
        return Measurement(_lines(judgments), rows, ("item",), details, _notes(judgments))

    return EvalPlan(
        models=[model for model in result.models if model.role != "judge"],
        data=[
            session.file(options.table, "judgments"),
            Pinned(result.ref, result.digest[:16], "evaluation"),
        ],
        settings={"judgments": per_item},
        measure=measure,
    )


def _lines(judgments: Judgments) -> list[Line]:
    items, winners = judgments.items, judgments.winners
    lines = outcomes(list(winners.values()), judgments.result.by_role(SIDE_A))
    decided = {name: [side for side in sides if side != "tie"] for name, sides in judgments.by_item.items()}
    firsts = [
        sum(side == items[name].first for side in sides) / len(sides)
        for name, sides in decided.items()
        if sides
    ]
    agreements = [
        share for choices in judgments.by_item.values() if (share := agreement(choices)) is not None
    ]
    lines.append(Line.of("people", "first place wins", firsts, chance=0.5))
    lines.append(Line.of("people", "two judgments agree", agreements))
    if agree := [float(side == items[name].judge) for name, side in winners.items() if items[name].judge]:
        lines.append(Line.of("people", "agree with the judge", agree))
    return lines


def _notes(judgments: Judgments) -> list[str]:
    result, alpha = judgments.result, judgments.alpha
    counts = {side: judgments.flat.count(side) for side in ("a", "tie", "b")}
    no_majority = sum(
        winner == "tie" and judgments.by_item[name].count("tie") * 2 <= len(judgments.by_item[name])
        for name, winner in judgments.winners.items()
    )
    return [
        f"Judgments: {len(judgments.flat)} given ({counts['a']} for {result.by_role(SIDE_A)}, "
        f"{counts['tie']} ties, {counts['b']} for {result.by_role(SIDE_B)}), {judgments.missing} missing; "
        f"items without any: {len(judgments.items) - len(judgments.winners)}, without a majority, which "
        f"count as ties: {no_majority}.",
        f"Krippendorff's alpha, nominal: {'n/a' if alpha is None else f'{alpha:.3f}'} (1 is full agreement, "
        "0 what chance gives).",
    ]


def between(store: Store, a: Pinned, b: Pinned) -> Result:
    """People's judgments of these two sides: the result with the most items, of equal ones the latest.

    Its win rate is that of `a`, whichever side `a` was in the table, and it has the questions and settings of
    the comparison too. Raises InputError where there is none, or the comparison is no longer in the store.
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
    result = msgspec.structs.replace(
        result,
        data=[*result.data, *comparison.data],
        settings=comparison.settings | result.settings,
    )
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
    logic_version=4,
    options=Options,
    plan=plan,
    description="People's choices between the answers of eval vicuna, by majority.",
)


def main(arguments: list[str] | None = None) -> None:
    cli.main(arguments, app)


if __name__ == "__main__":
    main()
