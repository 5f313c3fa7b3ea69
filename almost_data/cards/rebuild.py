"""The commands that make a dataset again in an empty store, from its manifest and those above it.

Only settings that differ from the preset's and the builder's defaults are named.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .. import registry
from ..datasets.config import toml_value
from ..datasets.manifest import Manifest

PROGRAM = ("python", "-m", "almost_data")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*")
_VALUES = ("true", "false", "inf", "nan", "none")


def commands(manifest: Manifest, ancestors: Sequence[Manifest]) -> list[str]:
    """One command for each dataset that is made here, upstream first.

    A parent that is on the Hub is named there, and needs none.
    """
    by_ref = {ancestor.ref: ancestor for ancestor in ancestors}
    lines: dict[str, str] = {}

    def add(dataset: Manifest) -> None:
        for parent in dataset.parents:
            is_here = parent.ref in by_ref and parent.ref not in origins(dataset)
            if is_here and by_ref[parent.ref].kind == "dataset":
                add(by_ref[parent.ref])
        lines[dataset.ref] = import_command(dataset) if dataset.is_import else build_command(dataset)

    add(manifest)
    return list(lines.values())


def needs(sources: Sequence[Manifest]) -> dict[str, str]:
    """What the commands need besides models and the Hub -> its sha256, or what else it is."""
    refs = {source.ref for source in sources}
    needed: dict[str, str] = {}
    for source in sources:
        file = source.config.get("file", {})
        needed |= {file["name"]: f"sha256 {file['sha256']}"} if "sha256" in file else {}
        needed |= {name: f"sha256 {sha256}" for name, sha256 in source.environment.get("files", {}).items()}
        absent = [parent.ref for parent in source.parents if parent.ref not in {*refs, *origins(source)}]
        needed |= dict.fromkeys(absent, "in the store, by the command of its own card")
        if (source.environment.get("engine") or {}).get("name") == "openai":
            needed["--base-url"] = "the address of a server that has these models"
    return needed


def origins(manifest: Manifest) -> Mapping[str, str]:
    """Name of a parent, a builder or an engine -> how others can name it: on the Hub, or in a file."""
    names: dict[str, str] = manifest.environment.get("origins", {})
    return names


def build_command(manifest: Manifest) -> str:
    """`build` with the settings that were changed."""
    name, names = manifest.builder.name, origins(manifest)
    is_registered = name in registry.names("builders")
    words = ["build", names.get(name, name if is_registered else "FILE.py:BUILDER")]
    if record := manifest.environment.get("engine"):
        engine = record["name"]
        words += ["--engine", names.get(engine, engine)]
    for parent in manifest.parents:
        if not _is_model(manifest, parent.ref):
            words += ["--from", names.get(parent.ref, parent.ref)]
    words += ["--version", manifest.version]
    if preset := manifest.environment.get("preset"):
        words += ["--preset", preset]
    changed = manifest.environment.get("changed_settings", {})
    assignments = [["--set", f"{key}={_assigned(value)}"] for key, value in changed.items()]
    return " \\\n  ".join(map(shlex.join, [[*PROGRAM, *words], *assignments]))


def _assigned(value: Any) -> str:
    """A value as `--set` takes it: a word without quotes, where TOML has no other meaning for it."""
    is_word = isinstance(value, str) and _WORD.fullmatch(value) and value not in _VALUES
    return str(value) if is_word else toml_value(value)


def import_command(manifest: Manifest) -> str:
    """`import` with every option, for a file in the folder that it is run in."""
    record, settings, card = (manifest.config[name] for name in ("file", "settings", "card"))
    kind = manifest.builder.name.removeprefix("import-")
    revision = f"@{record['revision']}" if "revision" in record else ""
    options = {
        "ladder": ",".join(_ladder(settings)),
        "columns": ",".join(f"{role}={name}" for role, name in settings.get("columns", {}).items()),
        "hub-config": record.get("config"),
        "split": record.get("split"),
        **card,
    }
    flags = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    words = ["import", kind, record["name"] + revision, *flags, "--version", manifest.version]
    return shlex.join([*PROGRAM, *words])


def _ladder(settings: Mapping[str, Any]) -> list[str]:
    """Responders as `--ladder` takes them: NAME=NAME IN THE FILE, where these differ."""
    written = settings.get("names_in_file", {})
    return [f"{name}={written[name]}" if name in written else name for name in settings.get("ladder", ())]


def _is_model(manifest: Manifest, ref: str) -> bool:
    """Whether a parent is a reward model, which a setting names."""
    return any(model["id"] == ref for model in manifest.config.get("reward_models", {}).values())
