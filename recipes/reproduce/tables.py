"""The paper's tables and Figure 3 from the models of one version, each claim beside what is measured here.

    python recipes/reproduce/tables.py --version 0.9.0 --hhh hhh/ --truthfulqa mc.jsonl

Every evaluation that a table needs is run, unless its result is in the store. The report is written to
`<root>/reproduce/tables/<version>/`.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch(ending.KEPT)

import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import human
import study
from claims import HHH, PREFERENCE, TAX, TRUE
from rich.table import Table

from almost_data import InputError, Store, text_id
from almost_data.cards import card
from almost_data.cli import app
from almost_data.cli.console import console, text
from almost_data.cli.progress import progress_bars
from almost_data.datasets.builder import Progress, silent
from almost_data.datasets.records import Pinned
from almost_data.evals import answers, judge, lm_eval, model_card, preference, static_hhh, truthfulqa, vicuna
from almost_data.evals.evaluation import EvalSession, carry_out, evaluate, find_result
from almost_data.evals.result import Result
from almost_data.evals.saved import pinned_file, questions
from almost_data.evals.subject import find
from almost_data.outputs import replacing
from almost_data.store.names import check_version
from almost_data.store.publish import environment
from almost_data.store.sources import stored_ref
from almost_data.training.artifact import find_model

COLOURS = {"reproduced": "green", "not reproduced": "red"}
TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Inputs:
    """What there is to measure. A table that needs an input that is None is not run."""

    version: str
    """Version of the models: rm@VERSION, sft@VERSION, ..."""
    hhh: str | None = None
    """Static HHH: file, folder or ORG/NAME@REVISION."""
    truthfulqa: str | None = None
    """TruthfulQA, likewise."""
    preference: str | None = None
    """Comparisons; the paper's are Anthropic/hh-rlhf@COMMIT."""
    preference_config: str | None = None
    """Config of the comparisons; the paper's is helpful-base."""
    tasks: str = ""
    """Tasks of lm-evaluation-harness, as mmlu,lambada_openai."""
    vicuna: Path | None = None
    """Vicuna Questions, JSONL."""
    judge: str | None = None
    """Address of the judge's server, up to /v1."""
    judge_model: str | None = None
    """Name of the judge on that server, where it has several models."""
    baseline: Path | None = None
    """Saved answers to the Vicuna Questions, JSONL, that the models' answers are compared with."""
    engine: str | None = None
    """What runs the models that answer."""
    max_new_tokens: int = 1024
    """Of an answer, at most."""
    limit: int | None = None
    """Items of a benchmark, at most."""
    seed: int = 0
    """Seed of what is shuffled and drawn."""
    device: str | None = None
    """cpu, cuda or mps; a GPU where there is one."""
    dtype: str | None = None
    """float32, bfloat16 or float16."""

    @property
    def measurable(self) -> frozenset[str]:
        """Evaluations of one model that have their data."""
        data = {HHH: self.hhh, TRUE: self.truthfulqa, PREFERENCE: self.preference, TAX: self.tasks}
        return frozenset(task for task, value in data.items() if value)


def command(
    *,
    inputs: Annotated[Inputs, cyclopts.Parameter(name="*")],
    json_: Annotated[bool, cyclopts.Parameter(name="--json", negative=())] = False,
    root: Path = Path("build"),
) -> None:
    """The paper's tables: every claim beside what is measured, and what was not run, and why.

    Parameters
    ----------
    json_: Print the report as JSON.
    root: Folder of the store.
    """
    with progress_bars() as bars:
        place, content = report(Store(root), inputs, silent if json_ else bars)
    if json_:
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        show(place, content)


def main(arguments: list[str] | None = None) -> None:
    app.main(arguments, cyclopts.App(default_command=command, help_format="plaintext", version_flags=()))


def report(store: Store, inputs: Inputs, progress: Progress = silent) -> tuple[Path, dict[str, Any]]:
    """Run what is missing, write the report, and return its folder and content.

    Raises InputError for a version without models, and for what `check` refuses.
    """
    check_version(inputs.version)
    check(inputs)
    refs = [ref for role in study.ROLES.values() if store.has(ref := role.format(inputs.version))]
    if not refs:
        raise InputError(
            f"--version {inputs.version}: none of its models is in the store, such as rm@{inputs.version}"
        )
    measurements = study.Study(
        store,
        inputs.version,
        evaluate=lambda task, model: _evaluate(store, inputs, task, model, progress),
        compare=_comparison(store, inputs, progress),
        people=lambda a, b: human.between(store, *(_pinned(store, inputs, side) for side in (a, b))),
        measurable=inputs.measurable,
        has_baseline=bool(inputs.baseline),
    )
    size = max(_parameters(store, ref) for ref in refs)
    content = study.report(measurements, study.measure(measurements), size, inputs.limit)
    content["versions"] = environment()["packages"]
    return _write(store, inputs.version, content), content


def check(inputs: Inputs) -> None:
    """Raise InputError for a file that does not exist, and for options that need each other."""
    if inputs.limit is not None and inputs.limit < 1:
        raise InputError(f"--limit {inputs.limit}: give 1 or more")
    if bool(inputs.vicuna) != bool(inputs.judge):
        raise InputError("--vicuna and --judge go together: give both, or neither")
    if inputs.judge_model and not inputs.judge:
        raise InputError("--judge-model goes with --vicuna and --judge")
    for flag, file in {"--vicuna": inputs.vicuna, "--baseline": inputs.baseline}.items():
        if file and not file.is_file():
            raise InputError(f"{flag} {file}: no such file")
    for flag, data in {"--hhh": inputs.hhh, "--truthfulqa": inputs.truthfulqa}.items():
        if data and not Path(data).exists() and "@" not in data:
            raise InputError(f"{flag} {data}: no such file or folder, and not ORG/NAME@REVISION")
    if inputs.preference_config and not inputs.preference:
        raise InputError("--preference-config goes with --preference")


def _evaluate(store: Store, inputs: Inputs, task: str, model: Pinned, progress: Progress) -> Result:
    """The result of a model at its revision: a base as it was when the policy was trained from it."""
    if model.revision:
        present = find(store, _name(model)).pinned.revision
        if present != model.revision:
            raise InputError(f"the base model {model.id} at {model.revision}: here is {present}")
    common = {
        "model": _name(model),
        "limit": inputs.limit,
        "seed": inputs.seed,
        "device": inputs.device,
        "dtype": inputs.dtype,
    }
    is_stored = inputs.preference is not None and stored_ref(store, inputs.preference) is not None
    config = {"config" if is_stored else "hub_config": inputs.preference_config}
    benchmarks: dict[str, tuple[Any, dict[str, Any]]] = {
        HHH: (static_hhh, {"data": inputs.hhh}),
        TRUE: (truthfulqa, {"data": inputs.truthfulqa}),
        PREFERENCE: (preference, {"dataset": inputs.preference, **config}),
        TAX: (lm_eval, {"tasks": inputs.tasks}),
    }
    benchmark, options = benchmarks[task]
    result = evaluate(store, benchmark.EVALUATION, benchmark.Options(**common, **options), progress)
    model_card.renew(store, result)
    return result


def _name(model: Pinned) -> str:
    """A model by the name that `eval` takes: of the Hub with its commit."""
    return f"{model.id}@{model.revision}" if model.revision and "/" in model.id else model.id


def _pinned(store: Store, inputs: Inputs, side: Pinned) -> Pinned:
    """A side as a result records it: a model by its digest, a file of answers by its checksum."""
    if side.id == study.BASELINE:
        return pinned_file(Path(str(inputs.baseline)), "")
    model = find_model(store, side.id).model
    return Pinned(model.id, str(model.revision))


def _comparison(store: Store, inputs: Inputs, progress: Progress) -> study.Compare | None:
    """Compares the answers of two sides by the judge; None without questions or a judge.

    Once requests fail, the judge is asked nothing more: only finished results are read.
    """
    if not (inputs.vicuna and inputs.judge):
        return None
    server = judge.engine(inputs.judge)
    judge_name = inputs.judge_model or judge.only_model(server)
    servers = vicuna.Servers(server, judge_name, answers.engine(inputs.engine))
    failures: list[RuntimeError] = []

    def name(side: Pinned) -> str:
        if side.id == study.BASELINE:
            return str(inputs.baseline)
        ref = f"responses@{inputs.version}-vicuna"
        if store.has(ref) and side.id in store.manifest(ref).counts:
            return str(answers_file(store, ref, side.id, Path(str(inputs.vicuna))))
        return _name(side)

    def compare(a: Pinned, b: Pinned) -> Result:
        options = vicuna.Options(
            a=name(a),
            b=name(b),
            data=inputs.vicuna,
            judge=inputs.judge,
            limit=inputs.limit,
            seed=inputs.seed,
            max_new_tokens=inputs.max_new_tokens,
        )
        session = EvalSession(store, vicuna.EVALUATION, progress)
        plan = vicuna.plan_comparison(session, options, servers)
        if failures:
            result = find_result(session, plan)
            if result is None:
                raise failures[0]
        else:
            try:
                result = carry_out(session, plan)
            except RuntimeError as error:
                failures.append(error)
                raise
        model_card.renew(store, result)
        return result

    return compare


def answers_file(store: Store, ref: str, responder: str, questions_file: Path) -> Path:
    """Write a responder's answers as a file that `vicuna` reads; a question without one is not compared."""
    rows = store.scan(ref, responder).select("query_id", "response").collect()
    responses: dict[str, str] = dict(rows.iter_rows())
    fake = {"model_id": "fake/"} if store.manifest(ref).is_fake else {}
    lines = []
    for question_id, question in questions(questions_file).items():
        response = responses.get(text_id(question.text.strip()))
        failure = {"error": f"{responder} wrote none"} if response is None else {}
        lines.append(json.dumps({"question_id": question_id, "text": response or "", **fake, **failure}))
    file = _home(store) / "answers" / ref / f"{responder}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, "--root") as staging:  # another process may be reading it
        staging.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def _home(store: Store) -> Path:
    return store.root / "reproduce"


def _parameters(store: Store, ref: str) -> float:
    """Number of a model's parameters, by the shapes of its tensors."""
    from safetensors import safe_open

    total = 0
    for file in store.path(ref).glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            names = tensors.keys()
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return float(total)


def _write(store: Store, version: str, content: dict[str, Any]) -> Path:
    place = _home(store) / "tables" / version
    page = card.page(TEMPLATES / "tables.md.jinja", **content)
    with store.scratch(f"eval-tables-{version}") as folder:
        (report_folder := folder / version).mkdir()
        (report_folder / "README.md").write_bytes(f"{page}\n".encode())
        (report_folder / "tables.json").write_bytes(f"{json.dumps(content, indent=2)}\n".encode())
        shutil.rmtree(place, ignore_errors=True)  # a report is made of results, which stay
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(report_folder, place)
    return place


def show(place: Path, content: dict[str, Any]) -> None:
    """Print the claims beside what was measured, and what was not run."""
    table = Table("the paper's claim", "here", "95% interval", "items", "verdict", box=None)
    table.pad_edge = False
    for column in table.columns[1:4]:
        column.justify, column.no_wrap = "right", True
    for part in content["tables"]:
        measured = [claim for claim in part["claims"] if claim["difference"] is not None]
        if measured:
            table.add_row(text(part["name"], style="bold"))
        for claim in measured:
            interval = f"{100 * claim['low']:+.1f} to {100 * claim['high']:+.1f}"
            numbers = [f"{100 * claim['difference']:+.1f}", interval, f"{claim['n']:,}"]
            verdict = text(claim["verdict"], style=COLOURS.get(claim["verdict"], "yellow"))
            table.add_row(text(f"  {claim['says']}"), *numbers, verdict)
    if table.rows:
        console.print(table)
    for part in content["tables"]:
        if count := sum(claim["difference"] is None for claim in part["claims"]):
            missing = "; ".join(part["missing"]) or "no number"
            line = f"{part['name']}: {count} of {len(part['claims'])} claims not run; missing: {missing}"
            console.print(text(line, style="yellow"), soft_wrap=True)
    if content["is_small"]:
        size = f"{content['parameters'] / 1e6:,.3g} million parameters"
        console.print(text(f"The largest model has {size}: this tests the plumbing."))
    if notes := sum(len(result["notes"]) for result in content["results"]):
        console.print(text(f"{notes} notes on {len(content['results'])} results are in the report."))
    console.print(text(f"{place}/README.md", style="dim"), soft_wrap=True)


if __name__ == "__main__":
    main()
