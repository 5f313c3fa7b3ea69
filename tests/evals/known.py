"""Benchmark items made up for tests, and models that know the answers."""

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data import registry
from almost_data.datasets.builder import Progress, silent
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.records import Pinned
from almost_data.evals import lm_eval, model_card
from almost_data.evals import subject as subject_module
from almost_data.evals.evaluation import EvalSession, Evaluation, carry_out, evaluate, load
from almost_data.evals.likelihood import Likelihood
from almost_data.evals.result import EvalPlan, Line, Measurement, Result
from almost_data.evals.subject import Subject
from almost_data.generation import Model
from almost_data.scoring import Dialogue, Options, Score
from almost_data.store.store import Store
from tests import command
from tests.jsonl import jsonl

RIGHT = "Boil the kettle first."
WRONG = "No."


class KnownScorer:
    """A Scorer by a function of the turns, which records them; its scores come last first."""

    reward_stats: dict[str, Any] | None = None
    max_tokens = 1024

    def __init__(self, value: Callable[[tuple[str, ...]], float], name: str = "known", stop: int = 0) -> None:
        self.model = Model(name, "1")
        self.value = value
        self.stop = stop
        self.recorded: list[tuple[str, ...]] = []

    def settings(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for dialogue in reversed(list(dialogues)):
            if self.stop and len(self.recorded) == self.stop:
                raise KeyboardInterrupt
            self.recorded.append(dialogue.turns)
            yield Score(dialogue.id, self.value(dialogue.turns), 1, False)


def reward(value: Callable[[tuple[str, ...]], float], name: str = "known", stop: int = 0) -> Subject:
    return Subject(KnownScorer(value, name, stop))


class KnownLikelihood(Likelihood):
    """A language model without weights: `value` of context and continuation is its log-probability."""

    def __init__(
        self,
        value: Callable[[tuple[str, ...]], float],
        name: str = "known-lm",
        options: Options | None = None,
    ) -> None:
        super().__init__(Model(name, "1"), Path("."), 2048, options or Options())
        self.max_tokens = 2048
        self.value = value

    def context(self, messages: Any) -> str:
        return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant:"

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for dialogue in dialogues:
            yield Score(dialogue.id, self.value(dialogue.turns), 1, False)


def language(
    value: Callable[[tuple[str, ...]], float], name: str = "known-lm", options: Options | None = None
) -> Subject:
    return Subject(KnownLikelihood(value, name, options))


def rows(file: Path, values: list[dict[str, Any]]) -> Path:
    """A JSONL file."""
    return Path(jsonl(file, values))


def task(folder: Path, subset: str, items: list[tuple[str, str, str]]) -> Path:
    """A file in BIG-bench's layout of (input, right, wrong)."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = [{"input": text, "target_scores": {right: 1, wrong: 0}} for text, right, wrong in items]
    file = folder / f"{subset}.task.json"
    file.write_text(json.dumps({"name": subset, "examples": examples}))
    return file


def hhh(folder: Path, n: int = 10) -> Path:
    """Four subsets of `n`; in `other` the right reply is the shorter one, in all others the longer one."""
    for subset in ("helpful", "honest", "harmless", "other"):
        longer = [(f"{subset}: how is tea {i} made?", f"Right. {RIGHT} {i}", f"Wrong {i}") for i in range(n)]
        shorter = [(text, f"Right {i}", f"Wrong. {RIGHT} {i}") for i, (text, _, _) in enumerate(longer)]
        task(folder, subset, shorter if subset == "other" else longer)
    return folder


def questions(file: Path, n: int = 12, choices: int = 4) -> Path:
    """Questions whose right answer has the word `right`, and is never the longest or the shortest."""
    rows = []
    for i in range(n):
        wrong = [f"It is wrong {'so ' * at}in way {at} of {i}" for at in range(1, choices)]
        wrong[0] = f"No {i}"
        rows.append({"question": f"What is fact {i}?", "choices": [f"All right {i}", *wrong], "label": 0})
    return Path(jsonl(file, rows))


def cli(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`eval`, wide enough for its tables; HF_ENDPOINT and HF_HOME say which Hub it asks."""
    with command.at_hub(env) if env else nullcontext():
        return command.run("eval", *arguments, columns=200)


@contextmanager
def findable(*subjects: Subject) -> Iterator[None]:
    """Evaluations find these subjects by their ids, and nothing else."""
    by_id = {subject.pinned.id: subject for subject in subjects}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject_module, "find", lambda store, name, *_: by_id[name])
        yield


def judged(
    benchmark: Any,
    store: Store,
    subject: Subject,
    data: str,
    progress: Progress = silent,
    **options: Any,
) -> Result:
    """The result of a subject that no name finds, on a benchmark, by its module."""
    with findable(subject):
        return evaluated(benchmark.EVALUATION, store, progress, model=subject.pinned.id, data=data, **options)


def on_tasks(
    store: Store,
    subject: Subject,
    names: list[str],
    include: Path | None = None,
    before: Subject | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Result:
    """The result of a subject on tasks of lm-evaluation-harness."""
    options |= {"tasks": ",".join(names), "include": include, "before": before and before.pinned.id}
    with findable(*filter(None, (subject, before))):
        return evaluated(lm_eval.EVALUATION, store, progress, model=subject.pinned.id, **options)


def evaluated(
    evaluation: Evaluation[Any], store: Store, progress: Progress = silent, **options: Any
) -> Result:
    """The result of options by name."""
    return evaluate(store, evaluation, evaluation.options(**options), progress)


def frame(store: Store, result: Result) -> pl.DataFrame:
    """The items of a result in the order of their key, with the lists that were stored as JSON."""
    rows = [
        {
            name: json.loads(value) if re.fullmatch(r"\[[-\d.,einf ]*\]", str(value)) else value
            for name, value in row.items()
        }
        for row in store.scan(result.ref).collect().to_dicts()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def planned(
    store: Store,
    model: Manifest | None = None,
    items: list[dict[str, Any]] | None = None,
    failed: int = 0,
    environment: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[EvalSession, EvalPlan]:
    """A made-up evaluation of a model, with the numbers that it gives."""
    who = model.ref if model else "ORG/model"
    values: dict[str, Any] = {
        "task": "preference",
        "models": [Pinned(who, model.digest[:16] if model else "a" * 40)],
        "data": [Pinned("ORG/data", "b" * 40, "data")],
        "prompts": {"asked": "Which one?"},
        "settings": {"seed": 0, "split": "test", "config": None},
        "lines": [
            Line(who, "accuracy", "all", 10, 0.7, 0.4, 0.9, 1, 0.5),
            Line("always the longer", "accuracy", "all", 10, 0.6, 0.3, 0.8, 0, 0.5),
            Line(who, "ahead of always the longer", "all", 10, 0.1, -0.2, 0.4),
        ],
        "details": {},
        "notes": [],
    } | changes
    task = values["task"]
    version = load(task).logic_version if task in registry.names("evals") else 1
    measured = Measurement(
        values["lines"],
        [{"id": "1"}] if items is None else items,
        details=values["details"],
        notes=values["notes"],
        failed=failed,
        environment=environment or {},
    )
    plan = EvalPlan(values["models"], values["data"], values["settings"], lambda: measured, values["prompts"])
    version = values.get("logic_version", version)
    return EvalSession(store, Evaluation(task, version, object, lambda *_: plan, "Made up.")), plan


def saved(store: Store, *arguments: Any, **changes: Any) -> Result:
    """As the verb `eval` does it."""
    result = carry_out(*planned(store, *arguments, **changes))
    model_card.renew(store, result)
    return result
