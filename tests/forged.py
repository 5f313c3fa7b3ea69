"""Artifacts as somebody edits them who knows the format: every hash in them agrees again."""

from pathlib import Path
from typing import Any

import msgspec

from almost_data.datasets.manifest import Manifest, decode_manifest, encode_manifest, seal
from almost_data.store import files


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with the sizes and hashes of the files that are in the folder."""
    present = {path: record for path, record in files.records(folder).items() if path != "manifest.json"}
    manifest = msgspec.structs.replace(manifest, files=present)
    manifest = msgspec.structs.replace(manifest, sha256=seal(manifest))
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))


def edit(folder: Path, **changes: Any) -> None:
    """Change values of a manifest, or none after a file was changed."""
    manifest = decode_manifest((folder / "manifest.json").read_bytes(), "manifest.json")
    write_manifest(folder, msgspec.structs.replace(manifest, **changes))
