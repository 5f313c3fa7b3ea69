"""Rows of files, folders and Hub datasets, each with its place: `path:line`, or `name: row 3`."""

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..datasets.config import HUB_ID
from ..datasets.manifest import canonical_json
from ..errors import InputError
from ..inputs import is_utf8
from ..models.files import file_sha256
from ..models.hub_token import token_kept
from . import formats
from .conversations import IMAGES
from .formats import COMPRESSIONS, Row, Tick, file_format
from .parts import is_part

TABLE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""What holds rows with columns. Every text format may be packed: `.jsonl.gz`, `.csv.zst`."""
ALL_SPLITS = "all"
SAMPLE = 200
"""Rows by which layout and columns are told."""
NAMED, MOST_NAMED, NAME_LENGTH = 10, 50, 60
"""Columns that a line names at most, those of an error, and characters of each."""
Needs = Callable[[str], bool]
"""Whether a column is read."""


@dataclass(frozen=True)
class HubPart:
    """Which part of a Hub dataset is read; what is None must be the only one there."""

    config: str | None = None
    """A config, or a folder of files."""
    split: str | None = None
    """A split, or `ALL_SPLITS`."""


WHOLE = HubPart()


def read_rows(
    source: str,
    suffixes: tuple[str, ...],
    needs: Needs = lambda column: True,
    tick: Tick = lambda done, total: None,
    part: HubPart = WHOLE,
) -> Iterator[Row]:
    """The rows of a file or folder of one of these formats, or of a Hub dataset `ORG/NAME[@REVISION]`.

    A line of text is a row with the column `text`. Only Parquet's and the Hub's
    columns that `needs` are read.
    """
    if is_hub(source, suffixes):
        return _hub_rows(source, part, needs, tick)
    files = source_files(source, suffixes)
    return (row for path in files for row in formats.file_rows(path, needs, tick))


@dataclass(frozen=True)
class OpenRows:
    """Rows of which the first were read, and all columns, also those that are not needed."""

    columns: list[str]
    sample: list[dict[str, Any]]
    rows: Iterator[Row]
    """All of them."""


def open_rows(read: Callable[[Needs], Iterator[Row]], needs: Needs) -> OpenRows:
    """What `read` reads, where it asks for each column whether it is needed."""
    columns: dict[str, None] = {}

    def is_needed(column: str) -> bool:
        columns[column] = None
        return needs(column)

    rows = read(is_needed)
    first = list(islice(rows, SAMPLE))
    columns.update((name, None) for _, row in first for name in row)
    return OpenRows(list(columns), [row for _, row in first], chain(first, rows))


def not_read(columns: Iterable[str]) -> str:
    """The end of a line on how a source is read, with its columns that are left out; empty without any.

    >>> not_read(["lang", "meta"])
    '; not read: lang, meta'
    """
    names = listed([name for name in columns if name.strip()], NAMED)
    return f"; not read: {names}" if names else ""


def listed(columns: Iterable[str], most: int = MOST_NAMED) -> str:
    """The names of the first columns, cut where they are long, and how many others there are."""
    names = [" ".join(name.splitlines())[:NAME_LENGTH] for name in columns]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def without_images(columns: Container[str], source: str, fix: str) -> Needs:
    """What `read_rows` takes as `needs`: of Parquet and the Hub, a column of images is refused.

    It is too large to be read row by row, as the images of other files are.
    """

    def needs(column: str) -> bool:
        if column in IMAGES:
            problem = "only text is read, no image, video or sound"
            raise InputError(f"{source}: column {column!r}: {problem}: if the texts need none, {fix}")
        return column in columns or is_part(column)

    return needs


def is_file(source: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a source names a file or a folder: it exists, or its suffix says so."""
    path = Path(source)
    return path.exists() or file_format(path) in suffixes


def is_hub(source: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a source names a Hub dataset: it has that form, and is no file."""
    return not is_file(source, suffixes) and HUB_ID.fullmatch(source) is not None


def source_files(source: str, suffixes: tuple[str, ...]) -> list[Path]:
    """A file, or those of one format in a folder and below, by name. Raises InputError."""
    if not source:
        raise InputError("'': an empty name: give a file or a folder")
    folder = Path(source)
    if not folder.is_dir():
        return [check_file(source, suffixes)]
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        fix = f"write Parquet: `datasets.load_from_disk({source!r}).to_parquet(...)`, of each split"
        raise InputError(f"{source}: a dataset saved by `save_to_disk`: {fix}")
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = [name for name in names if not any(part[0] in "._" for part in name.parts)]
    files = [folder / name for name in sorted(visible) if file_format(name) in suffixes]
    if not files:
        raise InputError(f"{source}: no file in this folder whose name ends in {', '.join(suffixes)}")
    if len(formats := sorted({file_format(file) for file in files})) > 1:
        raise InputError(f"{source}: a folder of {' and '.join(formats)}: give one file, or one format")
    return [check_file(str(file), suffixes) for file in files]


def check_file(source: str, suffixes: tuple[str, ...]) -> Path:
    """The path of a file that can be opened and is of one of the formats. Raises InputError."""
    path = Path(source)
    if not is_utf8(source):
        raise InputError(f"{source!r}: a name that is not UTF-8 text: rename the file")
    if not path.is_file():
        if "://" in source:
            raise InputError(
                f"{source}: addresses are not read: give ORG/NAME of the Hub, or download the file"
            )
        raise InputError(f"{source}: {'not a file: give one file' if path.exists() else 'no such file'}")
    if file_format(path) not in suffixes:
        names = f"{', '.join(suffixes)} (text also packed: {', '.join(COMPRESSIONS)})"
        is_text = file_format(path) == ".txt" and set(suffixes) <= set(TABLE_SUFFIXES)
        problem = "plain text, without columns: give" if is_text else "cannot tell its format: save it as"
        raise InputError(f"{source}: {problem} one of {names}")
    if file_format(path) == ".parquet" and path.suffix.lower() != ".parquet":
        raise InputError(f"{source}: packed Parquet: unpack it, as it is compressed inside")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None
    return path


def record(source: str, suffixes: tuple[str, ...], part: HubPart = WHOLE) -> dict[str, str]:
    """What identifies a source: name and sha256, or on the Hub id, commit and part."""
    if is_hub(source, suffixes):
        name, _, revision = source.partition("@")
        named = {"config": part.config, "split": part.split}
        commit = hub_commit(name, revision or None)
        return {"name": name, "revision": commit, **{key: value for key, value in named.items() if value}}
    if part != WHOLE:
        raise InputError(f"{source}: a file: import.hub_config and import.split are for Hub datasets")
    files = source_files(source, suffixes)
    folder = Path(source)
    if not folder.is_dir():
        return {"name": folder.name, "sha256": file_sha256(files[0])}
    hashes = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
    return {"name": folder.resolve().name, "sha256": hashlib.sha256(canonical_json(hashes)).hexdigest()}


@lru_cache
def hub_commit(name: str, revision: str | None) -> str:
    """The commit of a Hub dataset; a full commit is returned without a request."""
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        with token_kept():
            return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # network, client and server each raise their own kinds
        raise _unavailable(name, error) from None


def _unavailable(name: str, error: Exception) -> InputError:
    reason = type(error).__name__  # messages may quote addresses and headers
    return InputError(f"{name}: no such file, and not available on the Hub ({reason}): check name and login")


def _hub_rows(source: str, part: HubPart, needs: Needs, tick: Tick) -> Iterator[Row]:
    splits = hub_splits(source, part.config)
    if part.split not in (None, ALL_SPLITS, *splits):
        raise InputError(f"{source}: no split {part.split!r}: import.split is one of {', '.join(splits)}")
    if part.split is None and len(splits) > 1:
        raise InputError(f"{source}: several splits: give import.split {', '.join(splits)}, or {ALL_SPLITS}")
    tables = [table for name, table in splits.items() if part.split in (None, ALL_SPLITS, name)]
    total, number = sum(map(len, tables)), 0
    for table in tables:
        for row in table.select_columns(list(filter(needs, table.column_names))):
            number += 1
            yield f"{source}: row {number}", row
            tick(number, total)


def hub_splits(source: str, config: str | None, setting: str = "import.hub_config") -> dict[str, Any]:
    """The splits of a config, or of a folder of files, which HH-RLHF has.

    Raises InputError, which names the setting of the config, where it cannot be loaded.
    """
    import datasets

    name, _, revision = source.partition("@")
    commit = hub_commit(name, revision or None)
    try:
        with token_kept():
            configs = datasets.get_dataset_config_names(name, revision=commit)
    except Exception as error:  # network, Hub client and file readers each raise their own kinds
        raise _unavailable(source, error) from None
    if config is None and len(configs) > 1:
        raise InputError(f"{source}: several configs: give {setting} {', '.join(configs)}")
    is_folder = config is not None and config not in configs
    place = {"data_dir": config} if is_folder else {"name": config}
    try:
        with token_kept():
            return dict(datasets.load_dataset(name, revision=commit, **place))
    except Exception as error:
        if is_folder:
            raise InputError(
                f"{source}: no config or folder {config!r}: it has {', '.join(configs)}"
            ) from None
        reason = type(error).__name__
        raise InputError(f"{source}: its files cannot be read as a table ({reason}): see its card") from None
