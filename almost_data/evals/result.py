"""The record of one evaluation: `<root>/evals/<task>/<fingerprint>/` with result.json, README.md and items.

The fingerprint is a hash of what decides the numbers: the task and its logic version, models and data with
what pins them, prompts, settings. The same evaluation again is read, not run.
"""

import datetime
import hashlib
import importlib.metadata
import io
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..cards import card
from ..datasets.manifest import canonical_json
from ..errors import InputError
from ..store.store import Store
from . import on_card

if TYPE_CHECKING:
    import polars as pl

PACKAGES = ("almost_data", "lm_eval", "openai", "torch", "transformers", "vllm")
TASK = re.compile(r"[a-z][a-z0-9-]*")
LOGIC = {"lm-eval": 3, "preference": 3, "static-hhh": 2, "truthfulqa": 3, "vicuna": 2}
"""Task -> the version of how it counts: raised where the same answers would give other numbers."""
MARK = 16
"""Digits of the fingerprint that name the folder."""


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model, a dataset or a file, and what says which one it was: digest, commit or sha256."""

    id: str
    revision: str
    role: str = "model"
    """`model`, `data`, `judge`, ..."""
    fake: bool = False
    """Whether the fake engine had a part in what it is made from."""

    @property
    def is_fake(self) -> bool:
        return self.fake or self.id.startswith("fake/")


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
        return any(one.is_fake for one in [*self.models, *self.data])

    @property
    def is_older(self) -> bool:
        """Whether its task counts otherwise by now; of a task that is not known here, nobody can tell."""
        return self.logic_version < LOGIC.get(self.task, 0)

    @property
    def on(self) -> str:
        """What it was judged on, in a few words."""
        first = self.data[0].id if self.data else ""
        return first if len(self.data) < 2 else f"{first} and {len(self.data) - 1} more"

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


def home(store: Store) -> Path:
    """The folder of all results. Raises InputError where it cannot be one."""
    found = store.root / "evals"
    if found.exists() and not found.is_dir():
        raise InputError(f"{found} is in the way: move it")
    return found


def folder(store: Store, result: Result) -> Path:
    """Where a result lies, or would lie."""
    if not TASK.fullmatch(result.task):
        raise ValueError(f"{result.task!r} cannot be a task: its name becomes a folder")
    return home(store) / result.task / identity(result)[:MARK]


def known(store: Store, result: Result) -> Result | None:
    """The finished result of the same evaluation, if it is there; and it is in its models' cards then.

    Raises InputError where what is there is damaged.
    """
    file = folder(store, result) / "result.json"
    if not file.is_file():
        return None
    found = _read(file)
    on_card.renew(store, found)
    return found


def save(
    store: Store,
    result: Result,
    items: list[dict[str, Any]],
    seconds: float,
    replace: Callable[[Result], bool] | None = None,
    **how: Any,
) -> Result:
    """Write a result, whole or not at all: `items` are one row each, with its id and what came of it.

    `how` is recorded and not fingerprinted. Models of it that are in the store get it in their cards. Where
    there is a result of the same evaluation, by another process perhaps, it stays and is returned; or gives
    way where `replace` says so of it: there is always one, the record is the last file to change.
    """
    import polars as pl

    from ..store.publish import json_data as plain
    from . import forest

    items = plain(items)
    done = msgspec.structs.replace(
        result,
        fingerprint=identity(result),
        digest=hashlib.sha256(canonical_json(items)).hexdigest(),
        environment={
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "packages": {name: found for name in PACKAGES if (found := installed(name))},
            "seconds": round(seconds, 1),
            **how,
        },
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    # As it will be read: what does not fit the types is told before anything is written.
    done = msgspec.convert(plain(msgspec.to_builtins(done, enc_hook=plain)), Result)
    place = folder(store, result)
    name = f"eval-{done.task}-{place.name}"
    with store.lock(name, wait=True):
        old = _read(place / "result.json") if (place / "result.json").is_file() else None
        if old is None or (replace and replace(old)):
            fresh = place if old is None else store.root / ".staging" / f"{name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            with store.staging(fresh, name) as staging:
                if items:
                    frame = pl.DataFrame(items, infer_schema_length=None)
                    _write(staging / "items.parquet", _parquet(frame))
                figures = forest.render(done)
                for path, content in figures.items():
                    _write(staging / path, content)
                _write(staging / "README.md", (page(done, sorted(figures)) + "\n").encode())
                _write(staging / "result.json", encode(done))
            if fresh != place:
                _move(fresh, place)
    there = known(store, result)
    if there is None:
        raise RuntimeError(f"{place}: was taken away while it was written: run the same command again")
    return there


def encode(result: Result) -> bytes:
    """The bytes of result.json: readable, keys in the order of the class."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


def page(result: Result, figures: list[str]) -> str:
    """The result as Markdown, with the figures beside it."""
    ran = list(_ran(result.environment))
    return card.page("eval.md.jinja", result=result, hashes=result.prompt_hashes, figures=figures, ran=ran)


def _ran(how: dict[str, Any], who: str = "") -> Iterator[tuple[str, str]]:
    """Versions, devices and dtypes of an environment, each of whom it is."""
    for name, value in how.items():
        if name == "packages":
            yield from value.items()
        elif isinstance(value, dict):
            yield from _ran(value, name)
        elif name in ("python", "engine", "device", "dtype"):
            yield f"{who}: {name}" if who and who != name else name, str(value)


def results(store: Store, wrong: list[str] | None = None) -> Iterator[Result]:
    """Every finished result under the root, by task and fingerprint.

    A damaged one is an InputError; with `wrong`, it is said there, and left out.
    """
    for file in sorted((store.root / "evals").glob("*/*/result.json")):
        if TASK.fullmatch(file.parts[-3]) and re.fullmatch(rf"[0-9a-f]{{{MARK}}}", file.parts[-2]):
            try:
                yield _read(file)
            except InputError as error:
                if wrong is None:
                    raise
                wrong.append(str(error))


def _read(file: Path) -> Result:
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Result)
        mark = identity(found)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a result of almost_data ({error}): delete its folder") from None
    if (found.task, found.fingerprint, mark[:MARK]) != (file.parts[-3], mark, file.parts[-2]):
        raise InputError(f"{file}: not the result that belongs here, by its fingerprint: delete its folder")
    return found


def _move(fresh: Path, place: Path) -> None:
    """Each file over the old one, the record last: until then it is the old result."""
    files = [one for one in sorted(fresh.rglob("*")) if one.is_file()]
    for file in sorted(files, key=lambda one: one.name == "result.json"):
        to = place / file.relative_to(fresh)
        to.parent.mkdir(exist_ok=True)
        os.replace(file, to)
    shutil.rmtree(fresh)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _parquet(frame: "pl.DataFrame") -> bytes:
    # By way of memory: what a full disk makes Python say is an OSError, and polars' own is not.
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
