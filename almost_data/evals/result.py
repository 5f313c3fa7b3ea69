"""The record of one evaluation: `<root>/evals/<task>/<fingerprint>/` with result.json, README.md and items.

The fingerprint is a hash of what decides the numbers: the task and its logic version, models and data with
what pins them, prompts, settings. The same evaluation again is read, not run.
"""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .. import card
from ..errors import InputError
from ..manifest import canonical_json
from ..store import Store
from ..training.artifact import plain

PACKAGES = ("almost_data", "lm_eval", "openai", "torch", "transformers", "vllm")
TASK = re.compile(r"[a-z][a-z0-9-]*")


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model, a dataset or a file, and what says which one it was: digest, commit or sha256."""

    id: str
    revision: str
    role: str = "model"
    """`model`, `data`, `judge`, ..."""

    @property
    def is_fake(self) -> bool:
        return self.id.startswith("fake/")


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of a result: what was judged on what, how many items, and how sure that is."""

    who: str
    """The model, or a baseline."""
    metric: str
    """What `value` is a mean or a share of: `accuracy`, `win rate`, ..."""
    subset: str
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    """95% interval."""
    ties: int = 0
    """Items of n in which no side was preferred; in an accuracy each counts half."""
    chance: float | None = None
    """What guessing gives."""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of result.json."""

    task: str
    logic_version: int
    models: list[Pinned]
    data: list[Pinned]
    prompts: dict[str, str]
    """Name -> text; their hash is in the fingerprint with them."""
    settings: dict[str, Any]
    """What decides the numbers: seed, limit, metric, sampling."""
    lines: list[Line]
    details: dict[str, Any] = {}
    """Tables of the task's own."""
    notes: list[str] = []
    fingerprint: str = ""
    digest: str = ""
    """sha256 of items.parquet's rows as canonical JSON."""
    environment: dict[str, Any] = {}
    """How it ran, for the record: device, dtype, versions, seconds."""
    created: str = ""

    @property
    def is_fake(self) -> bool:
        return any(one.is_fake for one in self.models)

    @property
    def prompt_hashes(self) -> dict[str, str]:
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.prompts.items()}


def identity(result: Result) -> str:
    """sha256 of what decides the numbers.

    >>> one = Result("t", 1, [Pinned("m", "1")], [], {}, {"seed": 0}, [])
    >>> identity(one) == identity(msgspec.structs.replace(one, created="today"))
    True
    """
    parts = [result.task, result.logic_version, result.models, result.data, result.prompts, result.settings]
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def folder(store: Store, result: Result) -> Path:
    """Where a result lies, or would lie."""
    return store.root / "evals" / result.task / identity(result)[:16]


def known(store: Store, result: Result) -> Result | None:
    """The finished result of the same evaluation, if it is there."""
    file = folder(store, result) / "result.json"
    return _read(file) if file.is_file() else None


def save(store: Store, result: Result, items: list[dict[str, Any]], seconds: float, **how: Any) -> Result:
    """Write a result, whole or not at all: `items` are one row each, with what was asked and said.

    `how` is recorded and not fingerprinted. A model's card in the store is rendered anew with it.
    """
    import polars as pl

    done = msgspec.structs.replace(
        result,
        fingerprint=identity(result),
        digest=hashlib.sha256(canonical_json(plain(items))).hexdigest(),
        details=plain(result.details),
        environment={
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "packages": {name: found for name in PACKAGES if (found := _version(name))},
            "seconds": round(seconds, 1),
            **how,
        },
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    place = folder(store, done)
    staging = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        if items:
            pl.DataFrame(items, infer_schema_length=None).write_parquet(staging / "items.parquet")
        (staging / "README.md").write_text(page(done) + "\n", "utf-8")
        # Last: its presence means that the rest is there.
        (staging / "result.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(done), indent=2) + b"\n"
        )
        if not (place / "result.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            os.replace(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return done


def page(result: Result) -> str:
    """The result as Markdown."""
    return card.page("eval.md.jinja", result=result, hashes=result.prompt_hashes)


def results(store: Store, task: str | None = None) -> Iterator[Result]:
    """Every finished result under the root, by task and fingerprint."""
    for file in sorted((store.root / "evals").glob(f"{task or '*'}/*/result.json")):
        if TASK.fullmatch(file.parts[-3]):
            yield _read(file)


def _read(file: Path) -> Result:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Result)
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: not a result of almost_data ({error}): delete its folder") from None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
