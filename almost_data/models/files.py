"""The files of a model that decide its output, and their hashes."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
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
    """`$ALMOST_DATA_CACHE`, or `~/.cache/almost_data`."""
    return Path(os.environ.get("ALMOST_DATA_CACHE") or Path.home() / ".cache" / "almost_data")


def joint_hash(hashes: Mapping[str, str]) -> str:
    """One sha256 from the sha256 of each file by name; a folder's revision is its first 16 digits."""
    lines = (f"{name}\0{hashes[name]}" for name in sorted(hashes))
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()


def sha256(files: Iterable[Path]) -> str:
    """sha256 of the files' joined bytes, cached by path, size and modification time."""
    files = list(files)
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    cached = cache_dir() / "hashes" / key
    with suppress(OSError):
        if len(text := cached.read_text()) == 64:
            return text
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        cached.parent.mkdir(parents=True, exist_ok=True)
        staging = cached.with_name(f"{key}.{os.getpid()}")
        staging.write_text(digest.hexdigest())
        staging.replace(cached)
    return digest.hexdigest()
