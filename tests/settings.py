"""Presets with changed settings, as tests need them."""

import dataclasses
from typing import Any

import msgspec

from almost_data.generation.fake import FakeEngine
from almost_data.run import presets
from almost_data.run.presets import Preset
from tests.schema import builder


class Real(FakeEngine):
    """The fake engine under another name, so that names stay, and its text counts as real."""

    name = "transformers"


def fake(preset: Preset) -> Preset:
    """The preset as `prepare("fake")` makes it: names say so, and there is no note on models."""
    return dataclasses.replace(preset, is_fake=True, note=None)


def fake_tiny(*assignments: str) -> Preset:
    return fake(presets.load("tiny", assignments=assignments))


def config_of(preset: Preset, dataset: str) -> Any:
    """The settings of a dataset as they are in the preset, without the fake engine's names."""
    return dataclasses.replace(preset, is_fake=False).settings(builder(dataset))


def with_settings(preset: Preset, dataset: str, **changes: Any) -> Preset:
    """The preset with other values of some settings of a dataset."""
    return preset.with_config(dataset, msgspec.structs.replace(config_of(preset, dataset), **changes))
