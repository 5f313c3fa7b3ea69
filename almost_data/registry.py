"""Finds builders, engines and evaluations: the built-in ones, those of installed packages, and one in a file.

A package offers its own by an entry point of the group `almost_data.builders`, `almost_data.engines` or
`almost_data.evals`; a file is named as `my_builder.py:BUILDER`. A built-in name cannot be replaced.
"""

import importlib.util
import sys
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, Literal

from .errors import InputError, did_you_mean

Group = Literal["builders", "engines", "evals"]

BUILT_IN: dict[Group, dict[str, str]] = {
    "builders": {
        "queries": "almost_data.builders.queries:BUILDER",
        "responses": "almost_data.builders.responses:BUILDER",
        "comparisons": "almost_data.builders.comparisons.builder:BUILDER",
        "filtered": "almost_data.builders.filtered:BUILDER",
        "demonstrations": "almost_data.builders.demonstrations.builder:BUILDER",
        "community": "almost_data.builders.community.builder:BUILDER",
        "ratings": "almost_data.builders.ratings.builder:BUILDER",
    },
    "engines": {
        "vllm": "almost_data.generation.vllm:VLLMEngine",
        "transformers": "almost_data.generation.transformers:TransformersEngine",
        "openai": "almost_data.generation.openai:OpenAIEngine",
        "ray": "almost_data.generation.ray:RayEngine",
        "fake": "almost_data.generation.fake:FakeEngine",
    },
    "evals": {
        "static-hhh": "almost_data.evals.static_hhh:EVALUATION",
        "truthfulqa": "almost_data.evals.truthfulqa:EVALUATION",
        "preference": "almost_data.evals.preference:EVALUATION",
        "rewardbench2": "almost_data.evals.rewardbench2:EVALUATION",
        "vicuna": "almost_data.evals.vicuna:EVALUATION",
        "lm-eval": "almost_data.evals.lm_eval:EVALUATION",
    },
}


def names(group: Group) -> list[str]:
    """Names of a group that can be loaded, built-in ones first, without importing any."""
    return list(_entry_points(group))


def load(group: Group, name: str) -> Any:
    """The object of that name, or in that file (`FILE.py:NAME`). Raises InputError where there is none."""
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _load_file(Path(path), attribute)
    if name.endswith(".py"):
        raise InputError(f"{name}: name the object in it too, as {name}:{group.removesuffix('s').upper()}")
    entry_point = _entry_points(group).get(name)
    if entry_point is None:
        raise InputError(
            f"no {name!r} among the {group}{did_you_mean(name, names(group))}: choose "
            f"{', '.join(names(group))}, or give FILE.py:NAME"
        )
    try:
        return entry_point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"{group}: {name!r} ({entry_point.value}) cannot be loaded: {error}") from None


@cache
def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _entry_points(group: Group) -> dict[str, EntryPoint]:
    label = f"almost_data.{group}"
    built_in = {name: EntryPoint(name, value, label) for name, value in BUILT_IN[group].items()}
    return built_in | {point.name: point for point in entry_points(group=label) if point.name not in built_in}


def _load_file(path: Path, attribute: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"file:{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"{path}: no such file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # somebody's code may raise anything
        raise InputError(f"{path}: cannot be run: {type(error).__name__}: {error}") from None
    if not hasattr(module, attribute):
        names = [name for name in vars(module) if name.isupper()]
        hint, constants = did_you_mean(attribute, names), ", ".join(names) or "none"
        raise InputError(f"{path}: has no {attribute!r}{hint}; its constants: {constants}")
    return getattr(module, attribute)
