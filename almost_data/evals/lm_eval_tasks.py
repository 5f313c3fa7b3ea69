"""Tasks of lm-evaluation-harness, and what alignment cost on them (the paper's Appendix F: MMLU, LAMBADA).

The library loads the data, asks and counts; its standard errors make the intervals. Against the model before
alignment, the difference is taken item by item. Prompts are the tasks' own, without a chat template.

Answers are kept as they come in the library's own cache, below `<root>/evals/.lm-eval/`: a run that was
killed goes on, and a model that is held against several others is asked once. It can be deleted at any time.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from ..datasets.config import source_name
from ..errors import InputError
from ..store.store import Store
from . import lm_eval_cache, result, stats
from .result import Line, Pinned, Result
from .subject import CHUNK, Likelihood, Progress, Subject, harness, silent

TASK = "lm-eval"
LOGIC_VERSION = result.LOGIC[TASK]
BOOTSTRAPS = 1000
"""Of a metric whose standard error has no formula."""
ROLES = ("model", "before")
_COMMIT = re.compile(r"/([0-9a-f]{40})/")


@dataclass(frozen=True)
class Number:
    """What one model reached on one task or group by one metric."""

    name: str
    metric: str
    n: int
    value: float
    error: float | None
    """Standard error."""
    items: list[float] | None
    """One value an item, where `value` is their mean."""
    top: bool
    """Whether it stands in no other group."""
    chance: float | None = None
    """What guessing gives, where an item has choices."""

    @property
    def is_share(self) -> bool:
        return self.items is not None and all(0 <= one <= 1 for one in self.items)


@dataclass
class Tasks:
    """The tasks of a run with their data, and what says which ones these are."""

    manager: Any
    names: list[str]
    leaves: dict[str, list[str]]
    """Tasks of each group, and of each task itself."""
    top: set[str]
    pinned: list[Pinned]
    recorded: dict[str, dict[str, Any]]
    notes: list[str]


def run(
    store: Store,
    subject: Subject,
    names: Sequence[str],
    include: Path | None = None,
    before: Subject | None = None,
    shots: int | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """The result of a language model on tasks by name; `include` is a folder of task files of one's own.

    With `before`, also of that model, and of the difference from it. `limit` takes the first items of each
    task. Raises InputError for a task that is not there, or whose data are not to be had.
    """
    started = time.monotonic()
    models = [subject, *([before] if before else [])]
    if wrong := next((one for one in models if one.kind != "language"), None):
        raise InputError(f"{wrong.pinned.id}: lm-eval asks language models, and this one scores dialogues")
    if before and before.pinned == subject.pinned:
        raise InputError(f"--before {before.pinned.id}: the same model as --model, so there is no difference")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give 1 or more")
    if shots is not None and shots < 0:
        raise InputError(f"--shots {shots}: give 0 or more")
    if not find_spec("lm_eval"):
        raise InputError("lm-eval runs lm-evaluation-harness: pip install 'almost_data[eval]'")
    with _quiet():
        tasks = load(names, include)
        draft = Result(
            TASK,
            LOGIC_VERSION,
            [msgspec.structs.replace(one.pinned, role=r) for one, r in zip(models, ROLES, strict=False)],
            tasks.pinned,
            {},
            {
                "tasks": tasks.recorded,
                "lm_eval": _version(),
                "shots": shots,
                "limit": limit,
                "max_tokens": [one.scorer.max_tokens for one in models],
                "dtype": [one.dtype for one in models],
                "chat_template": False,
            },
            [],
        )
        if there := result.known(store, draft):
            return there
        asked = [_asked(store, one, tasks, shots, limit, progress) for one in models]
    who = [one.pinned.id for one in models]
    lines = [
        Line(name, one.metric, one.name, one.n, *_sure(one), chance=one.chance)
        for name, (numbers, _) in zip(who, asked, strict=True)
        for one in numbers
        if one.top and one.is_share
    ]
    columns = ["task", "metric", "items", *who]
    both = list(zip(*(numbers for numbers, _ in asked), strict=True))
    if before:
        columns.append("difference")
        lines += [
            Line(f"{who[0]} less {who[1]}", one.metric, one.name, one.n, *difference(one, other))
            for one, other in both
            if one.top and one.is_share
        ]
    table = [
        [
            some[0].name,
            some[0].metric,
            some[0].n,
            *(_shown(one.value, one.error) for one in some),
            *([_shown(some[0].value - some[1].value, None)] if before else []),
        ]
        for some in both
        if not (some[0].top and some[0].is_share)
    ]
    notes = list(tasks.notes)
    if limit:
        notes.append(f"Only the first {limit} items of each task: these are not the numbers of whole tasks.")
    done = msgspec.structs.replace(
        draft,
        lines=lines,
        notes=notes,
        details={"parts": {"title": "Parts, and what is no share", "columns": columns, "rows": table}}
        if table
        else {},
    )
    rows = [
        {"model": name, "subset": one.name, "metric": one.metric, "item": at, "value": value}
        for name, (numbers, _) in zip(who, asked, strict=True)
        for one in numbers
        if one.items is not None and (one.top or one.name in tasks.recorded)
        for at, value in enumerate(one.items)
    ]
    return result.save(store, done, rows, time.monotonic() - started, **asked[0][1])


def load(names: Sequence[str], include: Path | None = None) -> Tasks:
    """The tasks of those names with their data. Raises InputError for what is not there."""
    from lm_eval.tasks import TaskManager

    if not names:
        raise InputError("--tasks: name a task of lm-evaluation-harness, as mmlu,lambada_openai")
    if include and not include.is_dir():
        raise InputError(f"--include {include}: no such folder of task files")
    manager = TaskManager(include_path=str(include), include_defaults=False) if include else None
    if manager is None or any(name not in manager.all_tasks for name in names):
        # Reading the library's own thousands of tasks takes seconds.
        manager = TaskManager(include_path=str(include) if include else None)
    try:
        if unknown := [name for name in names if name not in manager.all_tasks]:
            raise InputError(f"--tasks {unknown[0]}: lm-evaluation-harness {_version()} has no such task")
        found = manager.load(list(names))
        tasks, groups = found["tasks"], found["groups"]
        hashes = {name: _docs(task) for name, task in tasks.items()}
    except InputError:
        raise
    except Exception as error:  # the library, its task files and the Hub raise kinds of their own
        why = re.sub(r"https?://\S+|hf_\w+", "…", " ".join(str(error).split()))[:160]
        raise InputError(
            f"--tasks {','.join(names)}: cannot be loaded, or their data are not to be had "
            f"({type(error).__name__}: {why})"
        ) from None
    leaves = {name: [name] for name in tasks}
    leaves |= {name: [one.task_name for one in group.get_all_tasks()] for name, group in groups.items()}
    inner = {child for children in found["group_map"].values() for child in children}
    pinned, notes = _sources(tasks, hashes)
    return Tasks(
        manager,
        list(names),
        leaves,
        {name for name in leaves if name not in inner},
        pinned,
        {
            name: {"version": task.VERSION, "config_sha256": _config(task), "items_sha256": hashes[name]}
            for name, task in tasks.items()
        },
        notes,
    )


def difference(one: Number, other: Number) -> tuple[float, float | None, float | None]:
    """How far `one` is above `other`, with its 95% interval: by the differences of the same items."""
    gaps = np.subtract(one.items or [], other.items or []).tolist()
    if len(gaps) < 2:
        return one.value - other.value, None, None
    value, low, high = stats.paired(gaps)
    return value, max(-1.0, low), min(1.0, high)


def _sure(one: Number) -> tuple[float, float | None, float | None]:
    """A share with its interval; where all items agree, the standard error is 0, and it is Wilson's."""
    if one.error == 0 and one.items:
        return stats.share(one.items)
    return _interval(one.value, one.error)


def _asked(
    store: Store,
    subject: Subject,
    tasks: Tasks,
    shots: int | None,
    limit: int | None,
    progress: Progress | None,
) -> tuple[list[Number], dict[str, Any]]:
    """Every number of one model, and how it ran."""
    import lm_eval

    scorer, cache = cast(Likelihood, subject.scorer), lm_eval_cache.place(store, subject)
    network = harness(scorer.folder, scorer.model, scorer.max_tokens, scorer.options)
    how = {"device": str(network.device), "dtype": str(network.model.dtype).split(".")[-1]}
    try:
        found = lm_eval.simple_evaluate(
            _told(network, subject.pinned.id, progress),
            use_cache=str(cache),
            tasks=list(tasks.names),
            task_manager=tasks.manager,
            num_fewshot=shots,
            limit=limit,
            log_samples=True,
            bootstrap_iters=BOOTSTRAPS,
        )
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RuntimeError(f"{subject.pinned.id} cannot be asked: {why}") from error
    numbers = []
    for name, row in {**found.get("groups", {}), **found["results"]}.items():
        for key, value in row.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            every = [one for leaf in tasks.leaves[name] for one in found["samples"][leaf]]
            some = [one for one in every if one["filter"] == kind]
            values = [one.get(metric) for one in some]
            items = None
            if values and all(isinstance(one, int | float | np.number) for one in values):
                floats = [float(one) for one in values]
                items = floats if math.isclose(float(np.mean(floats)), value, abs_tol=1e-6) else None
            sure = row.get(f"{metric}_stderr,{kind}")
            numbers.append(
                Number(
                    name,
                    metric if kind == "none" else f"{metric} ({kind})",
                    len({(one["doc_hash"], one["doc_id"]) for one in some}) if items is None else len(items),
                    float(value),
                    float(sure) if isinstance(sure, int | float) and math.isfinite(sure) else None,
                    items,
                    name in tasks.top,
                    _chance(metric, some),
                )
            )
    return numbers, how


def _told(network: Any, who: str, progress: Progress | None) -> Any:
    """The model as the library asks it, in parts, with word to `progress` after each."""
    from lm_eval.api.model import LM

    def ask(kind: str, requests: list[Any]) -> list[Any]:
        # The longest first, as the library has them, and those of one context together, which it runs once.
        texts = [one.args[0] for one in requests]
        order = sorted(range(len(texts)), key=lambda at: (-len(texts[at]), texts[at]))
        found: list[Any] = [None] * len(requests)
        for start in range(0, len(order), CHUNK):
            some = order[start : start + CHUNK]
            for at, answer in zip(some, getattr(network, kind)([requests[at] for at in some]), strict=True):
                found[at] = answer
            if progress:
                progress(f"{who}, {kind}", start + len(some), len(requests), 0)
        return found

    class Told(LM):  # type: ignore[misc]
        def set_cache_hook(self, cache_hook: Any) -> None:
            network.set_cache_hook(cache_hook)

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            return ask("loglikelihood", requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            return ask("loglikelihood_rolling", requests)

        def generate_until(self, requests: list[Any]) -> list[Any]:
            return ask("generate_until", requests)

    return Told()


def _chance(metric: str, samples: list[dict[str, Any]]) -> float | None:
    """Mean of one by the number of choices, for the metrics of multiple choice."""
    counts = [len(one["resps"]) for one in samples]
    if metric not in ("acc", "acc_norm") or not counts or min(counts) < 2:
        return None
    return float(np.mean([1 / one for one in counts]))


def _sources(tasks: dict[str, Any], hashes: dict[str, str]) -> tuple[list[Pinned], list[str]]:
    """What the items came from: a hash of those of each dataset, and a note of the commit where known."""
    by_path: dict[str, list[str]] = {}
    for name, task in tasks.items():
        by_path.setdefault(str(task.config.dataset_path or name), []).append(name)
    pinned, notes = [], []
    for path, names in by_path.items():
        every = "".join(hashes[name] for name in sorted(names))
        shown = source_name(path) if "/" in path else f"{names[0]} ({path})"
        pinned.append(Pinned(shown, f"sha256:{hashlib.sha256(every.encode()).hexdigest()}", "data"))
        asked = {(tasks[name].config.dataset_kwargs or {}).get("revision") for name in names}
        commits = {commit for name in names for commit in _commits(tasks[name])}
        if None in asked and "/" in path:
            read = (
                f"what was read is commit {', '.join(sorted(commits))}"
                if commits
                else "it is not known which"
            )
            notes.append(
                f"{shown}: its task file pins no revision; {read}; the items are pinned by their hash."
            )
    return pinned, notes


def _commits(task: Any) -> set[str]:
    """The Hub's commit, which the folder of the cached data is called by."""
    files = [file["filename"] for split in (task.dataset or {}).values() for file in _cached(split)]
    return {found for file in files for found in _COMMIT.findall(Path(file).as_posix())}


def _cached(split: Any) -> list[dict[str, str]]:
    return list(getattr(split, "cache_files", None) or [])


def _docs(task: Any) -> str:
    """sha256 of the items that a task asks."""
    hashed = hashlib.sha256()
    for doc in task.eval_docs:
        hashed.update(json.dumps(doc, sort_keys=True, default=repr, ensure_ascii=False).encode() + b"\n")
    return hashed.hexdigest()


def _config(task: Any) -> str:
    """sha256 of a task's file as the library read it, but for the places of files."""
    config = task.dump_config()
    config.get("metadata", {}).pop("config_source", None)
    config.get("dataset_kwargs", {}).pop("data_files", None)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode()).hexdigest()


def _interval(value: float, error: float | None) -> tuple[float, float | None, float | None]:
    if error is None:
        return value, None, None
    return value, round(max(0.0, value - 1.96 * error), 4), round(min(1.0, value + 1.96 * error), 4)


def _shown(value: float, error: float | None) -> str:
    return f"{value:.4f}" + (f" ± {1.96 * error:.4f}" if error is not None else "")


def _version() -> str:
    return importlib.metadata.version("lm_eval")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars of the libraries and what they say of retries: an error says it in one line."""
    import datasets

    datasets.disable_progress_bars()
    try:
        with (
            silent("lm_eval", "huggingface_hub", "sqlitedict"),
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        datasets.enable_progress_bars()
