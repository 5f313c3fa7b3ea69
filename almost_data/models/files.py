"""The files of a model that decide its output, and their hashes."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import InputError

PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""The files of a model that decide its output. Nothing else is fetched from the Hub."""

_RECORDS = {"manifest.json", "trainer_state.json", "README.txt"}
"""Files beside the weights that a training run or a build leaves and that no loader reads."""


def loaded_files(folder: Path) -> dict[str, Path]:
    """The files in a folder that decide its model's output, by name, in the order of the names."""
    files = {file.name: file for pattern in PATTERNS for file in folder.glob(pattern) if file.is_file()}
    return {name: files[name] for name in sorted(files.keys() - _RECORDS)}


def is_loaded(name: str) -> bool:
    """Whether a file of that name at the top of a folder is one of those.

    >>> is_loaded("tokenizer.json"), is_loaded("trainer_state.json"), is_loaded("model.bin")
    (True, False, False)
    """
    return name not in _RECORDS and any(Path(name).match(pattern) for pattern in PATTERNS)


def require_safetensors(folder: Path, name: str | None = None) -> None:
    """Raise InputError where a folder (of the model `name`) has no weights that are safe to load."""
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{name or folder}: no safetensors weights; pickled weights (.bin, .pt) can run code and are "
            "never loaded: convert them with save_pretrained"
        )


def cache_dir() -> Path:
    """`$ALMOST_DATA_CACHE`, or `~/.cache/almost_data`. Raises InputError where there is no home."""
    if folder := os.environ.get("ALMOST_DATA_CACHE"):
        return Path(folder)
    try:
        return Path.home() / ".cache" / "almost_data"
    except RuntimeError:  # a container's user that has no name
        raise InputError("no home folder: set ALMOST_DATA_CACHE to a folder for models and hashes") from None


def file_sha256(file: Path) -> str:
    """sha256 of a file, computed anew."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def files_digest(files: Mapping[str, Path], sha256: Callable[[Path], str] = file_sha256) -> str:
    """One sha256 of a model's files, by name: of their names and of all that is in them.

    Its first 16 digits are the revision of a folder.
    """
    lines = (f"{name}\0{sha256(files[name])}" for name in sorted(files))
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()


SMALL = 1 << 20
"""Bytes that are hashed faster than a cached hash would be worth a file."""


def cached_sha256(*files: Path) -> str:
    """sha256 of the files' joined bytes; of large files it is cached by path, size and modification time."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if sum(size for _, size, _ in stats) < SMALL:
        return _joined_sha256(files)
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    cached = cache_dir() / "hashes" / key
    with suppress(OSError):
        if len(text := cached.read_text()) == 64:
            return text
    digest = _joined_sha256(files)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        cached.parent.mkdir(parents=True, exist_ok=True)
        staging = cached.with_name(f"{key}.{os.getpid()}")
        staging.write_text(digest)
        staging.replace(cached)
    return digest


def _joined_sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            hashlib.file_digest(handle, lambda: digest)  # goes on with the file before
    return digest.hexdigest()
