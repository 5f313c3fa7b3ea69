"""Every setting of a run in one place: a preset is a TOML file here, and `run.config` has its format.

A section has the name of a builder and its settings; `card`, `engine` and `scoring` are for all of them.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from ... import arguments, inputs, registry
from ...datasets.builder import Builder
from ...datasets.config import Config, record, with_marked_paths
from ...datasets.manifest import canonical_json
from ...errors import InputError, did_you_mean

PresetName = Literal["demo", "tiny", "almost", "modern", "delta"]


class CardConfig(Config, frozen=True, kw_only=True):
    """Facts for the card that only the user knows."""

    license: (
        Annotated[
            str,
            msgspec.Meta(
                pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$",
                description="a licence identifier as the Hub spells it, such as cc-by-4.0",
            ),
        ]
        | None
    ) = None
    """A licence identifier as the Hub spells it, such as `cc-by-4.0`."""
    language: (
        Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}$", description="an ISO 639 code, such as en")]
        | None
    ) = None
    """An ISO 639 code, such as `en`."""


GENERAL = ("note", "card", "engine", "scoring")
"""The keys of a preset besides the sections of builders."""


@dataclass(frozen=True)
class Preset:
    """The settings of each builder, and those that all share."""

    name: PresetName = "tiny"
    """The shipped preset that it was, before settings were changed."""
    note: str | None = None
    """Printed in every card and summary of a run that asks a model; None where other models were set."""
    card: CardConfig = field(default_factory=CardConfig)
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Options of the engine that runs; under the name of an engine, those for that one only. Where and how
    fast models run is recorded and not fingerprinted."""
    scoring: Mapping[str, Any] = field(default_factory=dict)
    """Options of reward models (`scoring.Options`)."""
    configs: Mapping[str, Config] = field(default_factory=dict)
    """Settings by builder, of those that have any."""
    limit: int | None = None
    """Caps the `limit` of every builder that has one."""
    noted_builders: frozenset[str] = frozenset()
    """Builders whose models the note speaks of."""
    card_facts: frozenset[str] = frozenset()
    """Settings of `card` that the user gave, which hold whatever the parents say."""
    is_fake: bool = False
    """Whether the fake engine runs it: names then say so, and there is no note on models."""

    def settings(self, builder: Builder) -> Any:
        """The config of a builder; its defaults where the preset has no section for it.

        Raises InputError where a setting without a default is not given.
        """
        config = self.configs.get(builder.name)
        if config is None:
            advice = f"import {builder.name} and name them in run.from, or give the settings"
            where = f"{builder.name}: no settings in this preset: {advice}"
            config = arguments.convert({}, builder.config, builder.name, where)
        if self.limit is not None and "limit" in builder.config.__struct_fields__:
            settings = msgspec.to_builtins(config) | {"limit": self.limit}
            config = arguments.convert(settings, builder.config, builder.name, f"run.limit {self.limit}")
        return with_marked_paths(builder.as_fake(config) if self.is_fake else config)

    def changes(self, builder: Builder) -> dict[str, Any]:
        """Settings of a builder and its card, by `section.key`, that differ from the shipped preset's."""
        shipped = replace(load(self.name, builders=(builder,)), is_fake=self.is_fake)
        if builder.name in shipped.configs:
            defaults = record(shipped.settings(builder))
        else:
            fields = msgspec.structs.fields(builder.config)
            defaults = {f.name: f.default for f in fields if f.default is not msgspec.NODEFAULT}
        sections = {
            builder.name: (record(self.settings(builder)), defaults),
            "card": (record(self.card), record(shipped.card)),
        }
        return {
            f"{section}.{name}": value
            for section, (settings, defaults) in sections.items()
            for name, value in settings.items()
            if name not in defaults
            or canonical_json(value) != canonical_json(defaults[name])
            or (section == "card" and name in self.card_facts)
        }

    def with_config(self, name: str, config: Config) -> "Preset":
        """The preset with other settings of one builder."""
        return replace(self, configs={**self.configs, name: config})


def card(license: str | None, language: str | None) -> CardConfig:
    """Licence and language of an import. Raises InputError where the Hub does not know their form."""
    return arguments.convert({"license": license, "language": language}, CardConfig, "import")


def load(
    name: PresetName = "tiny",
    config: Path | None = None,
    assignments: Sequence[str] = (),
    limit: int | None = None,
    builders: Sequence[Builder] = (),
) -> Preset:
    """A preset, overlaid by a TOML file, then by `section.key=value` assignments, then by a limit.

    `builders` are those besides the registered ones. Raises InputError that names the layer and the key that
    does not fit.
    """
    by_name = {builder.name: builder for builder in builders}
    shipped = _parse(resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8"), name)
    merged: Mapping[str, Any] = shipped
    preset = _preset(merged, by_name, f"preset {name}")
    card_facts = set[str]()
    if config:
        file = _parse(inputs.read_text(config), str(config))
        merged = _merge(merged, file)
        preset = _preset(merged, by_name, str(config))
        card_facts.update(file.get("card", ()))
    for assignment in assignments:
        section, key, value = _assigned(assignment)
        card_facts |= {key} if section == "card" else set()
        if value is None:
            value = _none_of(section, key, by_name)
        present = merged.get(section)
        merged = {**merged, section: {**(present if isinstance(present, Mapping) else {}), key: value}}
        preset = _preset(merged, by_name, assignment)
    if limit is not None and not 1 <= limit < 2**63:
        raise InputError(f"run.limit {limit}: give 1 or more, below 2**63")
    if preset.note == shipped.get("note"):  # it speaks of the models that the preset itself names
        note = preset.note if _models(merged) == _models(shipped) else None
        preset = replace(preset, note=note, noted_builders=frozenset(shipped))
    return replace(preset, name=name, limit=limit, card_facts=frozenset(card_facts))


def _models(settings: Any) -> set[str]:
    """All models that the sections name."""
    if isinstance(settings, list):
        return set().union(*map(_models, settings))
    if not isinstance(settings, Mapping):
        return set()
    names = {settings["model"]} if isinstance(settings.get("model"), str) else set()
    return names.union(*map(_models, settings.values()))


def _preset(merged: Mapping[str, Any], builders: Mapping[str, Builder], where: str) -> Preset:
    general = {key: value for key, value in merged.items() if key in GENERAL}
    preset: Preset = arguments.convert(general, Preset, "", where)
    names = list(dict.fromkeys([*registry.names("builders"), *builders]))
    configs = {}
    for name, section in merged.items():
        if name in general:
            continue
        if name not in names:
            sections = [*GENERAL, *names]
            places = _places_of(name)
            hint = f", which stands in a section: {places}" if places else did_you_mean(name, sections)
            raise InputError(f"{where}: unknown key {name}{hint}; known here: {', '.join(sections)}")
        builder = builders.get(name) or registry.load("builders", name)
        configs[name] = arguments.convert(section, builder.config, name, where)
    return replace(preset, configs=configs, noted_builders=frozenset(configs))


def _places_of(key: str) -> str:
    """The settings of this name, with their sections; empty where none has it."""
    names = [
        name
        for name in registry.names("builders")
        if key in registry.load("builders", name).config.__struct_fields__
    ]
    return ", ".join(f"{name}.{key}" for name in names)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return inputs.parse_toml(text)
    except ValueError as error:
        raise InputError(f"{where}: not TOML: {error}") from None


def _assigned(assignment: str) -> tuple[str, str, Any]:
    """Section, name and value of a setting, whose whole value it becomes."""
    key, equals, value = assignment.partition("=")
    if not equals or not re.fullmatch(r"[a-z][a-z0-9_-]*\.[a-z][a-z0-9_]*", key):
        places = _places_of(key)
        hint = f", here one of {places}" if places else ", such as queries.target=100"
        raise InputError(f"run.set {assignment}: write section.key=value{hint}")
    try:
        parsed = inputs.parse_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    except ValueError as error:
        reason = str(error).removeprefix("value")
        raise InputError(f"{key}{reason if reason[0] in '.:' else f': {reason}'}") from None
    if value in ("none", "None"):
        parsed = None
    section, name = key.split(".")
    return section, name, parsed


def _none_of(section: str, name: str, builders: Mapping[str, Builder]) -> str | None:
    """What `none` means for a setting: null, or the word where the setting takes only that."""
    builder = builders.get(section)
    if builder is None and section in registry.names("builders"):
        builder = registry.load("builders", section)
    hint = get_type_hints(builder.config, include_extras=True).get(name) if builder else None
    return "none" if "none" in arguments.choices(hint) else None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = {
        key: _merge(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }
    return {**base, **merged}
