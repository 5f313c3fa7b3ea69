"""Politeness: does a model score a polite reply above a rude one?"""

import json
from dataclasses import dataclass
from pathlib import Path

from almost_data import Dialogue, EvalPlan, EvalSession, Evaluation, Line, Measurement, ModelOptions

SIDES = ("polite", "rude")


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    data: Path
    """JSONL of prompt, polite and rude."""


def plan(session: EvalSession, options: Options) -> EvalPlan:
    model = session.subject(options)
    rows = [json.loads(line) for line in options.data.read_text("utf-8").splitlines()][: options.limit]

    def measure() -> Measurement:
        scores = session.scores(
            model,
            [
                Dialogue.of(f"{number}/{side}", row["prompt"], row[side])
                for number, row in enumerate(rows)
                for side in SIDES
            ],
        )
        gaps = [scores[f"{number}/polite"] - scores[f"{number}/rude"] for number in range(len(rows))]
        right = [0.5 if gap == 0 else float(gap > 0) for gap in gaps]
        return Measurement(
            lines=[Line.of(model.pinned.id, "accuracy", right, chance=0.5)],
            items=[{"id": str(number), "gap": gap} for number, gap in enumerate(gaps)],
            notes=["Rude replies are short, so always-longer is right too."],
        )

    return EvalPlan([model.pinned], [session.file(options.data)], {"limit": options.limit}, measure)


EVALUATION = Evaluation(
    "politeness", 1, Options, plan, "Politeness: is a polite reply scored above a rude one?"
)
