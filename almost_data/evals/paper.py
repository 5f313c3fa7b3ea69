"""`eval tables`: the ways by which `tables` asks, from what a user gives, and the report on disk."""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import card, plots_tables
from ..errors import InputError
from ..generation.engines import EngineName
from ..scoring import Options
from ..store import Store, check_version
from . import answers, lm_eval_tasks, saved, static_hhh, tables, truthfulqa, vicuna
from . import judge as ask
from .claims import HHH, PREFERENCE, TAX, TRUE
from .preference import run as judge_preferences
from .result import Result
from .subject import Progress, find

__all__ = ["Given", "report"]


@dataclass(frozen=True)
class Given:
    """What a user has; a table that needs what is None is not run."""

    hhh: str | None = None
    truthfulqa: str | None = None
    preference: str | None = None
    tasks: tuple[str, ...] = ()
    vicuna: str | None = None
    judge: str | None = None
    judge_model: str | None = None
    baseline: str | None = None
    """Saved answers to the Vicuna questions, which others are compared with."""
    engine: EngineName | None = None
    """What writes the models' answers."""
    max_new_tokens: int = 1024
    limit: int | None = None
    """Items of a benchmark, at most."""
    seed: int = 0

    @property
    def known(self) -> frozenset[str]:
        data = {HHH: self.hhh, TRUE: self.truthfulqa, PREFERENCE: self.preference, TAX: self.tasks}
        return frozenset(task for task, one in data.items() if one)


def report(
    store: Store,
    version: str,
    given: Given,
    options: Options,
    progress: Progress,
) -> tuple[Path, dict[str, Any]]:
    """Run what is missing, write `<root>/evals/tables/<version>/`, and return it with what is in it."""
    check_version(version)

    def evaluate(task: str, model: str) -> Result:
        if task == PREFERENCE:
            return judge_preferences(
                store, model, str(given.preference), limit=given.limit, seed=given.seed, options=options,
                progress=progress,
            )  # fmt: skip
        subject = find(store, model, options=options)
        if task == TAX:
            return lm_eval_tasks.run(store, subject, list(given.tasks), limit=given.limit)
        run, data = (static_hhh.run, given.hhh) if task == HHH else (truthfulqa.run, given.truthfulqa)
        return run(store, subject, str(data), None, given.seed, given.limit, progress)

    study = tables.Study(
        store, version, evaluate, _judged(store, version, given, progress), given.known, bool(given.baseline)
    )
    found = tables.report(study, tables.measure(study), _parameters(store, version))
    found["given"] = {
        name: value if isinstance(value, int) or value is None else _shown(value)
        for name, value in dataclasses.asdict(given).items()
        if name != "judge"
    }
    return _write(store, version, found), found


def _judged(store: Store, version: str, given: Given, progress: Progress) -> tables.Compare | None:
    """How two sides are compared; None without questions or a judge."""
    if not (given.vicuna and given.judge and given.judge_model):
        return None
    questions, name = Path(given.vicuna), given.judge_model
    asked = ask.engine(given.judge)
    writer = answers.engine(given.engine)  # loads no model before it is asked
    how = vicuna.Settings(given.limit, given.seed, given.max_new_tokens)

    def side(one: str) -> str:
        if one == "baseline":
            return str(given.baseline)
        ref = f"responses@{version}-vicuna"
        there = store.has(ref) and one in store.manifest(ref).counts
        return str(_answers(store, ref, one, questions)) if there else one

    def compare(one: str, other: str) -> Result:
        return vicuna.run(
            store, side(one), side(other), questions, name, asked, writer, how, progress=progress
        )

    return compare


def _answers(store: Store, ref: str, responder: str, questions: Path) -> Path:
    """A responder's answers as a file that `vicuna` reads; what it failed to answer is empty text."""
    found = dict(store.scan(ref, responder).select("prompt", "response").collect().iter_rows())
    fake = {"model_id": "fake/"} if store.manifest(ref).is_fake else {}
    lines = [
        json.dumps({"question_id": id, "text": found.get(one.text.strip()) or "", **fake})
        for id, one in saved.questions(questions).items()
    ]
    file = store.root / "evals" / "answers" / ref / f"{responder}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def _parameters(store: Store, version: str) -> float | None:
    """Of the policy, by the size of its weights' tensors."""
    from safetensors import safe_open

    ref = f"sft@{version}"
    if not store.has(ref):
        return None
    total = 0
    for file in store.path(ref).glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        for shape in shapes:
            size = 1
            for one in shape:
                size *= one
            total += size
    return float(total)


def _shown(value: str | Sequence[str]) -> Any:
    return Path(value).name if isinstance(value, str) else list(value)


def _write(store: Store, version: str, found: dict[str, Any]) -> Path:
    place = store.root / "evals" / "tables" / version
    staging = place.with_name(f".{version}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        figures = plots_tables.render(found["tables"])
        for name, content in figures.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(content)
        staging.mkdir(parents=True, exist_ok=True)
        (staging / "README.md").write_text(
            card.page("tables.md.jinja", **found, figures=sorted(figures)) + "\n", "utf-8"
        )
        (staging / "tables.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        shutil.rmtree(place, ignore_errors=True)  # made anew of results that stay
        os.replace(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def check(given: Given) -> None:
    """Raise InputError for a judge without questions or name, and the like."""
    if given.judge and not (given.vicuna and given.judge_model):
        raise InputError("--judge: name the judge's model (--judge-model) and the questions (--vicuna) too")
