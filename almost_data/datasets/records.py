"""The parts of a manifest that are read back, as types: what else is in them is for people and programs.

A manifest may come from anywhere, so nothing of it is read that `check` has not seen.
"""

from typing import Any

import msgspec


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it was published."""

    bytes: int
    sha256: str


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model, a dataset or a file of an evaluation, and what pins it: digest, commit or sha256."""

    id: str
    revision: str
    role: str = "model"
    """`model`, `data`, `judge`, ..."""
    fake: bool = False
    """Whether text of the fake engine is in it."""

    @property
    def is_fake(self) -> bool:
        return self.fake or self.id.startswith("fake/")


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of an evaluation, of how many items it is, and its 95% interval."""

    who: str
    """The model, or a baseline."""
    metric: str
    """What `value` is a mean or a share of: `accuracy`, `win rate`, ..."""
    subset: str
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    ties: int = 0
    """Items of n in which no side was preferred. In an accuracy each counts half."""
    chance: float | None = None
    """What guessing gives."""


class _Model(msgspec.Struct):
    id: str
    revision: str | None


class _Config(msgspec.Struct):
    settings: dict[str, Any]
    prompts: dict[str, str] = {}


class _File(msgspec.Struct):
    name: str


class _ImportSettings(msgspec.Struct):
    ladder: list[str] = []
    columns: dict[str, str] = {}
    names_in_file: dict[str, str] = {}


class _Card(msgspec.Struct, frozen=True):
    license: str | None = None
    language: str | None = None


class _DatasetConfig(_Config):
    resolved: dict[str, _Model] = {}
    reward_models: dict[str, _Model] = {}
    file: dict[str, str] = {}
    card: _Card = _Card()


class _Source(msgspec.Struct):
    ref: str
    config: str | None
    revision: str | None


class _ModelConfig(_Config, kw_only=True):
    base: _Model
    reward_model: _Model | None = None
    dataset: _Source
    template: str
    card: _Card = _Card()


class _EvaluationConfig(_Config, kw_only=True):
    models: list[Pinned]
    data: list[Pinned]


class _Diagnostics(msgspec.Struct):
    """What every artifact's child reads."""

    models: list[_Model]
    notes: list[str]


class _Deviation(msgspec.Struct):
    setting: str


class _Finding(msgspec.Struct):
    name: str
    measure: str
    value: str
    number: float
    level: str


class _Gap(msgspec.Struct):
    q50: float | None


class _Text(msgspec.Struct):
    findings: list[_Finding] = []
    length_gap: _Gap | None = None


class _DatasetDiagnostics(_Diagnostics):
    deviations: list[_Deviation] = []
    paper_facts: list[str] = []
    text: _Text | None = None
    license: str | None = None
    dropped_beside: dict[str, dict[str, int]] = {}


class _Subset(msgspec.Struct):
    name: str
    rows: int
    accuracy: float | None
    low: float | None
    high: float | None
    always_longer: float | None = None
    probe: float | None = None
    random_head: float | None = None


class _Scores(msgspec.Struct):
    mean: float | None = None
    std: float | None = None


class _Calibration(msgspec.Struct):
    ece: float | None = None


class _Report(msgspec.Struct):
    subsets: list[_Subset] = []
    buckets: list[_Subset] = []
    rewards: _Scores | None = None
    calibration: _Calibration | None = None
    left_out_pair: str | None = None


class _Check(msgspec.Struct):
    check: str
    level: str
    sentence: str
    rows: int | None = None


class _Replies(msgspec.Struct):
    mean: float | None
    tokens: float | None


class _Rewards(msgspec.Struct):
    prompts: str
    n: int
    before: _Replies
    after: _Replies
    gain: float | None
    low: float | None
    high: float | None


class _ModelDiagnostics(_Diagnostics):
    curves: dict[str, list[tuple[float, float | None]]] | None = None
    report: _Report | None = None
    preflight: list[_Check] | None = None
    rewards: list[_Rewards] | None = None
    metrics: dict[str, float | str | None] | None = None
    speed: dict[str, float | str | None] | None = None


class _EvaluationDiagnostics(_Diagnostics, kw_only=True):
    lines: list[Number]
    details: dict[str, Any]
    failed: int


class _Usage(msgspec.Struct, forbid_unknown_fields=True):
    requests: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: float
    load_seconds: float
    cost: float = 0.0


class _Engine(msgspec.Struct):
    name: str
    settings: dict[str, Any]
    replies: dict[str, int] = {}
    usage: dict[str, _Usage] = {}
    spent: float = 0.0
    answered_as: dict[str, list[str]] = {}


class _Environment(msgspec.Struct):
    packages: dict[str, str] = {}
    seconds: float | None = None
    command: str | None = None


class _DatasetEnvironment(_Environment):
    engine: _Engine | None = None
    origins: dict[str, str] = {}
    files: dict[str, str] = {}
    preset: str = ""
    changed_settings: dict[str, Any] = {}


_TYPES: dict[str, tuple[type, type, type]] = {
    "dataset": (_DatasetConfig, _DatasetDiagnostics, _DatasetEnvironment),
    "model": (_ModelConfig, _ModelDiagnostics, _Environment),
    "evaluation": (_EvaluationConfig, _EvaluationDiagnostics, _Environment),
}


def check(kind: str, **parts: dict[str, Any]) -> None:
    """Raise msgspec.ValidationError where a part of `config`, `diagnostics` or `environment` that is read
    has another type, with its path."""
    for (name, part), type_ in zip(parts.items(), _TYPES[kind], strict=True):
        try:
            msgspec.convert(part, type_)
            if name == "config" and part.get("file"):
                msgspec.convert(part["file"], _File)
                msgspec.convert(part["settings"], _ImportSettings)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(str(error).replace("`$", f"`{name}")) from None
