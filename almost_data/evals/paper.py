"""`eval tables`: the ways by which `tables` asks, from what a user gives, and the report on disk."""

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..cards import card, plots_tables
from ..errors import InputError
from ..generation import Generator, Model
from ..generation.engines import EngineName
from ..scoring import Options
from ..store.store import Store, check_version
from ..training.artifact import find_model
from . import answers, human, lm_eval_tasks, saved, static_hhh, tables, truthfulqa, vicuna
from . import judge as ask
from .claims import HHH, PREFERENCE, TAX, TRUE
from .preference import run as judge_preferences
from .result import PACKAGES, Pinned, Result, home, installed
from .subject import Progress, Subject, find


@dataclass(frozen=True)
class Given:
    """What a user has; a table that needs what is None is not run."""

    hhh: str | None = None
    truthfulqa: str | None = None
    preference: str | None = None
    preference_config: str | None = None
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
    progress: Progress | None,
) -> tuple[Path, dict[str, Any]]:
    """Run what is missing, write `<root>/evals/tables/<version>/`, and return it with what is in it.

    Raises InputError for a version without models, and for what `check` refuses.
    """
    check_version(version)
    check(given)
    home(store)
    if not (made := _models(store, version)):
        raise InputError(
            f"--version {version}: none of its models is in the store, such as rm@{version}: see list"
        )

    def evaluate(task: str, model: Pinned) -> Result:
        if task == PREFERENCE:
            return judge_preferences(
                store,
                model.id,
                str(given.preference),
                config=given.preference_config,
                limit=given.limit,
                seed=given.seed,
                options=options,
                progress=progress,
            )
        subject = _subject(store, model, options)
        if task == TAX:
            return lm_eval_tasks.run(store, subject, list(given.tasks), limit=given.limit, progress=progress)
        run, data = (static_hhh.run, given.hhh) if task == HHH else (truthfulqa.run, given.truthfulqa)
        return run(store, subject, str(data), None, given.seed, given.limit, progress)

    def people(one: Pinned, other: Pinned) -> Result:
        return human.between(store, *(_pinned(store, given, side) for side in (one, other)))

    judged = _judged(store, version, given, progress)
    study = tables.Study(store, version, evaluate, judged, people, given.known, bool(given.baseline))
    sizes = [_parameters(store, ref) for ref in made]
    found = tables.report(study, tables.measure(study), max(sizes), given.limit)
    found["versions"] = {name: one for name in PACKAGES if (one := installed(name))}
    return _write(store, version, found), found


def _models(store: Store, version: str) -> list[str]:
    """The models of a version that claims are about, as far as they are in the store."""
    return [ref for one in tables.ROLES.values() if store.has(ref := one.format(version))]


def _subject(store: Store, model: Pinned, options: Options) -> Subject:
    """The model at its revision: what a base was when a policy started from it, not what it is today."""
    subject = find(store, model.id, model.revision or None, options)
    if model.revision and subject.pinned.revision != model.revision:
        raise InputError(f"the base model {model.id} at {model.revision}: here is {subject.pinned.revision}")
    return subject


def _pinned(store: Store, given: Given, side: Pinned) -> Pinned:
    """A side as it stands in a result: a model by its digest, and a baseline's file by its checksum."""
    if side.id == "baseline":
        return saved.pinned(Path(str(given.baseline)), "")
    model = find_model(store, side.id).model
    return Pinned(model.id, str(model.revision))


def _judged(store: Store, version: str, given: Given, progress: Progress | None) -> tables.Compare | None:
    """How two sides are compared; None without questions or a judge."""
    if not (given.vicuna and given.judge):
        return None
    questions, asked = Path(given.vicuna), ask.engine(given.judge)
    name = given.judge_model or ask.only(asked)
    writer = answers.engine(given.engine)  # loads no model before it is asked
    how = vicuna.Settings(given.limit, given.seed, given.max_new_tokens)

    def side(one: Pinned) -> str:
        if one.id == "baseline":
            return str(given.baseline)
        ref = f"responses@{version}-vicuna"
        if store.has(ref) and one.id in store.manifest(ref).counts:
            return str(_answers(store, ref, one.id, questions))
        return f"{one.id}@{one.revision}" if one.revision and "/" in one.id else one.id

    judge: Generator = asked

    def compare(one: Pinned, other: Pinned) -> Result:
        nonlocal judge
        try:
            return vicuna.run(
                store, side(one), side(other), questions, name, judge, writer, how, progress=progress
            )
        except RuntimeError as error:
            judge = cast(Generator, _Stopped(str(error)))
            raise

    return compare


@dataclass(frozen=True)
class _Stopped:
    """In the judge's place once a comparison broke off: what is finished is read, and nothing more asked."""

    why: str

    def resolve(self, model: Model) -> Model:
        raise RuntimeError(self.why)


def _answers(store: Store, ref: str, responder: str, questions: Path) -> Path:
    """A responder's answers as a file that `vicuna` reads; what it failed to answer is not compared."""
    rows = store.scan(ref, responder).select("prompt", "response").collect()
    found: dict[str, str] = dict(rows.iter_rows())
    fake = {"model_id": "fake/"} if store.manifest(ref).is_fake else {}
    lines = []
    for id, one in saved.questions(questions).items():
        text = found.get(one.text.strip())
        failed = {"error": f"{responder} wrote none"} if text is None else {}
        lines.append(json.dumps({"question_id": id, "text": text or "", **fake, **failed}))
    file = home(store) / "answers" / ref / f"{responder}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_name(f".{file.name}.{os.getpid()}")
    staging.write_text("\n".join(lines) + "\n", "utf-8")
    os.replace(staging, file)  # another process may read it
    return file


def _parameters(store: Store, ref: str) -> float:
    """By the shapes of a model's tensors."""
    from safetensors import safe_open

    total = 0
    for file in store.path(ref).glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            names = tensors.keys()
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return float(total)


def _write(store: Store, version: str, found: dict[str, Any]) -> Path:
    there = home(store) / "tables" / version
    name = f"eval-tables-{version}"
    files = plots_tables.render(found["tables"])
    page = card.page("tables.md.jinja", **found, figures=sorted(files))
    files |= {
        "README.md": f"{page}\n".encode(),
        "tables.json": f"{json.dumps(found, indent=2)}\n".encode(),
    }
    with store.turn(name), store.whole(there, name) as staging:
        for path, content in files.items():
            (staging / path).parent.mkdir(exist_ok=True)
            (staging / path).write_bytes(content)
        shutil.rmtree(there, ignore_errors=True)  # made anew of results that stay
    return there


def check(given: Given) -> None:
    """Raise InputError for a file that is not there, and for a judge without what it needs."""
    if given.limit is not None and given.limit < 1:
        raise InputError(f"--limit {given.limit}: give 1 or more")
    together = {"--vicuna": given.vicuna, "--judge": given.judge}
    missing = [flag for flag, value in together.items() if not value]
    if missing and len(missing) < len(together):
        raise InputError(f"{missing[0]}: --vicuna and --judge go together")
    if missing and given.judge_model:
        raise InputError("--judge-model goes with --vicuna and --judge")
    for flag, file in {"--vicuna": given.vicuna, "--baseline": given.baseline}.items():
        if file and not Path(file).is_file():
            raise InputError(f"{flag} {file}: no such file")
    for flag, data in {"--hhh": given.hhh, "--truthfulqa": given.truthfulqa}.items():
        if data and not Path(data).exists() and "@" not in data:
            raise InputError(f"{flag} {data}: no such file or folder, and not ORG/NAME@REVISION")
    if given.preference_config and not given.preference:
        raise InputError("--preference-config goes with --preference")
