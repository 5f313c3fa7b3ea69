"""Tasks of lm-evaluation-harness with their data, and what pins them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.config import source_name
from ..datasets.records import Pinned
from ..errors import InputError, without_addresses
from ..registry import installed_version


@dataclass(frozen=True)
class Tasks:
    """The tasks of a run."""

    manager: Any
    """The library's own index of tasks."""
    names: list[str]
    leaves: dict[str, list[str]]
    """Task or group -> the tasks that it consists of; a task consists of itself."""
    top: set[str]
    """Tasks and groups that are in no other group."""
    pinned: list[Pinned]
    recorded: dict[str, dict[str, Any]]
    """Version, and hashes of config and items, of each task."""


def load_tasks(names: Sequence[str], include: Path | None = None) -> Tasks:
    """The tasks of those names with their data. Raises InputError where there is none."""
    from lm_eval.tasks import TaskManager

    if not names:
        raise InputError("eval.tasks: name a task of lm-evaluation-harness, as mmlu,lambada_openai")
    if include and not include.is_dir():
        raise InputError(f"eval.include {include}: no such folder of task files")
    manager = TaskManager(include_path=str(include), include_defaults=False) if include else None
    if manager is None or any(name not in manager.all_tasks for name in names):
        # Reading the library's own thousands of tasks takes seconds.
        manager = TaskManager(include_path=str(include) if include else None)
    if unknown := [name for name in names if name not in manager.all_tasks]:
        version = installed_version("lm_eval")
        raise InputError(f"eval.tasks {unknown[0]}: lm-evaluation-harness {version} has no such task")
    try:
        loaded = manager.load(list(names))
        tasks, groups = loaded["tasks"], loaded["groups"]
        hashes = {name: _items_hash(task) for name, task in tasks.items()}
    except Exception as error:  # the library, its task files and the Hub raise kinds of their own
        raise InputError(
            f"eval.tasks {','.join(names)}: the tasks or their data cannot be loaded "
            f"({without_addresses(error)})"
        ) from None
    leaves = {name: [name] for name in tasks}
    leaves |= {name: [task.task_name for task in group.get_all_tasks()] for name, group in groups.items()}
    inner = {child for children in loaded["group_map"].values() for child in children}
    recorded = {
        name: {"version": task.VERSION, "config_sha256": _config_hash(task), "items_sha256": hashes[name]}
        for name, task in tasks.items()
    }
    return Tasks(
        manager=manager,
        names=list(names),
        leaves=leaves,
        top=leaves.keys() - inner,
        pinned=_pinned(tasks, hashes),
        recorded=recorded,
    )


def _pinned(tasks: dict[str, Any], hashes: dict[str, str]) -> list[Pinned]:
    """Where the items came from: a hash of those of each dataset."""
    by_path: dict[str, list[str]] = {}
    for name, task in tasks.items():
        by_path.setdefault(str(task.config.dataset_path or name), []).append(name)
    pinned = []
    for path, names in by_path.items():
        joint = "".join(hashes[name] for name in sorted(names))
        label = source_name(path) if "/" in path else f"{names[0]} ({path})"
        pinned.append(Pinned(label, f"sha256:{hashlib.sha256(joint.encode()).hexdigest()}", "data"))
    return pinned


def _items_hash(task: Any) -> str:
    """sha256 of the items of a task."""
    sha256 = hashlib.sha256()
    for doc in task.eval_docs:
        sha256.update(json.dumps(doc, sort_keys=True, default=repr, ensure_ascii=False).encode() + b"\n")
    return sha256.hexdigest()


def _config_hash(task: Any) -> str:
    """sha256 of a task's file as the library read it, without the paths of files in it."""
    config = task.dump_config()
    config.get("metadata", {}).pop("config_source", None)
    config.get("dataset_kwargs", {}).pop("data_files", None)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode()).hexdigest()
