"""Every config of a run in one place: a preset is a TOML file here, and `--config FILE` has its format."""

import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ...builders.community.builder import CommunityConfig
from ...builders.comparisons.builder import ComparisonsConfig
from ...builders.demonstrations.builder import DemonstrationsConfig
from ...builders.queries import QueriesConfig
from ...builders.responses import Responder, ResponsesConfig
from ...datasets.builder import Config
from ...datasets.user_filters import UserFilter
from ...errors import InputError
from ...store.store import is_ref

NAMES = ("tiny", "almost", "modern")


class CardConfig(Config, frozen=True, kw_only=True):
    """What a card can only say if somebody knows it."""

    license: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")] | None = None
    """A licence identifier as the Hub spells it, such as `cc-by-4.0`."""
    language: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}$")] | None = None
    """An ISO 639 code, such as `en`."""


class Preset(Config, frozen=True, kw_only=True):
    """The config of each builder. `note` is printed in every card and summary of a run.

    `engine` has options of the engine that runs (`generation.engines`), and under the name of an engine
    those for that one only: where and how fast models run, so it is recorded and not fingerprinted.
    `scoring` has those of reward models (`scoring.Options`).
    """

    note: str | None = None
    queries: QueriesConfig
    responses: ResponsesConfig
    comparisons: ComparisonsConfig = ComparisonsConfig()
    community: CommunityConfig = CommunityConfig()
    demonstrations: DemonstrationsConfig
    card: CardConfig = CardConfig()
    engine: dict[str, Any] = msgspec.field(default_factory=dict)
    scoring: dict[str, Any] = msgspec.field(default_factory=dict)


def _as_path(model: str | None) -> str | None:
    """A folder's name so that it looks like one: a card shows paths by their last part, and Hub ids whole."""
    looks = model is None or is_ref(model) or model.startswith(("/", "./", "../", "~"))
    return model if looks or not Path(str(model)).is_dir() else f"./{model}"


def card(license: str | None, language: str | None) -> CardConfig:
    """What a user says of an import. Raises InputError for what the Hub cannot know."""
    try:
        return msgspec.convert({"license": license, "language": language}, CardConfig)
    except msgspec.ValidationError:
        raise InputError(
            f"--license {license!r} --language {language!r}: write a licence as the Hub spells it "
            "(cc-by-4.0) and a language as its ISO 639 code (en)"
        ) from None


def load(
    name: str = "tiny",
    config: Path | None = None,
    assignments: tuple[str, ...] = (),
    limit: int | None = None,
) -> Preset:
    """A preset, overlaid by a TOML file, then by `section.key=value` assignments, then by a limit.

    Raises InputError that names the layer and the key that does not fit.
    """
    if name not in NAMES:
        raise InputError(f"no preset {name!r}: choose one of {', '.join(NAMES)}")
    merged = _parse(resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8"), name)
    preset = _convert(merged, f"preset {name}")
    if config:
        try:
            merged = _merge(merged, _parse(config.read_text("utf-8-sig"), str(config)))
        except OSError as error:
            raise InputError(f"{config}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{config}: not UTF-8 text: {error.reason}") from None
        preset = _convert(merged, str(config))
    for assignment in assignments:
        merged = _merge(merged, _assigned(assignment))
        preset = _convert(merged, f"--set {assignment}")
    if limit is not None:
        made = ("queries", "responses", "comparisons", "demonstrations")
        sections = {section: {"limit": limit} for section in made}
        preset = _convert(_merge(merged, sections), f"--limit {limit}")
    return _with_judges(preset, _as_path)


def fake(preset: Preset) -> Preset:
    """The preset for the fake engine: responders and reward model named `fake...`, no note on models."""

    def rename(config: ResponsesConfig, field: str) -> Any:
        responders = getattr(config, field)
        return tuple(msgspec.structs.replace(r, name=f"fake-{r.name}") for r in responders)

    both = {field: rename(preset.responses, field) for field in ("responders", "probes")}
    talk = preset.demonstrations
    one, other = (msgspec.structs.replace(r, name=f"fake-{r.name}") for r in (talk.assistant, talk.user))
    renamed = msgspec.structs.replace(
        preset,
        note=None,
        responses=msgspec.structs.replace(preset.responses, **both),
        demonstrations=msgspec.structs.replace(talk, assistant=one, user=other),
    )
    return _with_judges(
        renamed, lambda judge: judge if not judge or judge.startswith("fake/") else f"fake/{Path(judge).name}"
    )


def _with_judges(preset: Preset, name: Callable[[str | None], str | None]) -> Preset:
    """The preset with other names for its reward models."""
    some, talk = preset.comparisons, preset.demonstrations
    return msgspec.structs.replace(
        preset,
        comparisons=msgspec.structs.replace(some, asis_rm=name(some.asis_rm)),
        demonstrations=msgspec.structs.replace(talk, rm=name(talk.rm), second_rm=name(talk.second_rm)),
    )


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML: {error}") from None


def _assigned(assignment: str) -> dict[str, Any]:
    key, equals, value = assignment.partition("=")
    if not equals or not re.fullmatch(r"[a-z_]+\.[a-z_]+", key):
        raise InputError(f"--set {assignment}: write section.key=value, such as queries.target=100")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    if value == "none":
        parsed = None
    section, name = key.split(".")
    return {section: {name: parsed}}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        k: _merge(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
        for k, v in over.items()
    }
    return base | both


def _convert(data: dict[str, Any], where: str) -> Preset:
    try:
        return msgspec.convert(data, Preset)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {_explained(str(error))}") from None


def _explained(message: str) -> str:
    """msgspec's message; for an unknown key, with the keys that there are."""
    unknown = re.fullmatch(r"Object contains unknown field `(\w+)`(?: - at `\$\.?(\w*)(.*)`)?", message)
    if not unknown:
        return message.replace("`$.", "`")
    key, section, deeper = unknown.groups()
    known = {f.name: f.type for f in msgspec.structs.fields(Preset)}
    inside: dict[str, type[Config]] = {
        "responses": Responder,
        "comparisons": UserFilter,
        "demonstrations": Responder,
    }
    owner: Any = inside[section] if deeper else known.get(section, Preset) if section else Preset
    names = ", ".join(field.name for field in msgspec.structs.fields(owner))
    return f"unknown key {'.'.join(filter(None, [section, key]))}; known here: {names}"
