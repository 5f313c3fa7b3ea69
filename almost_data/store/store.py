"""`name@version` <-> `<root>/<name>/<version>/`. The only code that writes an artifact.

An artifact is written beside its place, its manifest last, and renamed into place: a folder with a
manifest is whole, whatever killed the process that wrote it.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets import schema
from ..datasets.digest import Rows, Seen, files_digest, frames, splits
from ..datasets.manifest import Manifest, check_ledger, decode_manifest, encode_manifest
from ..errors import InputError
from ..models.files import loaded_files, require_safetensors
from . import parquet

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.parquet as pq

NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}(-[0-9A-Za-z][0-9A-Za-z-]{0,31})?")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")

SHARD_BYTES = 300_000_000
"""In memory; compressed shards come out at about a third."""
ROW_GROUP = parquet.MOST_ROWS
CHUNKS = {"min_chunk_size": 64 * 1024, "max_chunk_size": 128 * 1024}
"""Bytes of a Parquet page, cut by content: what a change makes the Hub store anew. Of 15 MB of queries, of
which 1% in a row are replaced, 3.2 MB are sent; with larger pages and dictionaries of all columns, 7.9 MB.
Smaller pages save little more and cost much: of 16 kB each, files of texts are 13% larger.
"""


def check_version(version: str) -> str:
    """The version, if it is one; it becomes a folder name, so nothing else gets through."""
    if not VERSION.fullmatch(version):
        raise InputError(
            f"{version!r} is not a version: write N.N.N, with a -suffix if you like (1.0.0-beta)"
        )
    return version


def parse_ref(ref: str) -> tuple[str, str]:
    """`name@version` -> (name, version).

    >>> parse_ref("queries@0.1.0")
    ('queries', '0.1.0')
    """
    name, at, version = ref.partition("@")
    if not at or not NAME.fullmatch(name):
        raise InputError(f"{ref!r} is not a reference: write name@version, such as comparisons@0.1.0")
    return name, check_version(version)


def is_ref(text: str) -> bool:
    """Whether a model's name is meant as `name@version` in a store; what is on the Hub has a slash.

    >>> is_ref("asis@0.1.0"), is_ref("ORG/NAME"), is_ref("./asis@0.1.0")
    (True, False, False)
    """
    return "@" in text and "/" not in text


def check_model_ref(ref: str) -> None:
    """Raise InputError where `ref` cannot name a model: `responses@1.0.0` is taken for a dataset."""
    if parse_ref(ref)[0] in schema.TABLES:
        raise InputError(f"{ref}: a dataset is named so; give the model another name, such as rm")


class Store:
    """The artifacts under one root folder."""

    def __init__(self, root: Path | str = "build") -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder: give --root a folder")

    @property
    def journal(self) -> Path:
        """The file of every reply that was generated for this store."""
        return self.root / "journal.sqlite"

    def path(self, ref: str) -> Path:
        return self.root.joinpath(*parse_ref(ref))

    def has(self, ref: str) -> bool:
        """Whether it is here; what has its place on the Hub (`ORG/NAME@REVISION`) is not."""
        return "/" not in ref and (self.path(ref) / "manifest.json").is_file()

    def manifest(self, ref: str) -> Manifest:
        """The manifest of `ref`. Raises InputError where there is none, naming what there is."""
        file = self.path(ref) / "manifest.json"
        if not file.is_file():
            name = ref.partition("@")[0]
            others = ", ".join(other for other in self.refs() if other.startswith(f"{name}@")) or "none"
            raise InputError(f"no {ref} under {self.root} (of that name: {others}); build it, or see `list`")
        manifest = decode_manifest(file.read_bytes(), str(file))
        if manifest.ref != ref:
            raise InputError(
                f"{file}: says it is {manifest.ref}; the folder was renamed or copied: rename it back"
            )
        return manifest

    def refs(self) -> list[str]:
        """Every artifact's reference, by name and then version number; damaged ones too."""
        found = [
            (file.parts[-3], file.parts[-2])
            for file in self.root.glob("*/*/manifest.json")
            if NAME.fullmatch(file.parts[-3]) and VERSION.fullmatch(file.parts[-2])
        ]
        found.sort(key=lambda place: (place[0], version_key(place[1])))
        return [f"{name}@{version}" for name, version in found]

    def manifests(self) -> list[Manifest]:
        """Every artifact's manifest, in the order of `refs`."""
        return [self.manifest(ref) for ref in self.refs()]

    def configs(self, ref: str) -> list[str]:
        """The stored configs of a dataset. `default` of responses is a view over the others, not stored."""
        manifest = self.manifest(ref)
        return [c for c in manifest.counts if not (manifest.name == "responses" and c == "default")]

    def files(self, ref: str, config: str, split: str | None = None) -> list[Path]:
        """The Parquet files of a config, in order; of all responders for `default` of responses."""
        data = self.path(ref) / "data"
        configs = [config]
        if config == "default" and parse_ref(ref)[0] == "responses":
            configs = [c for c in self.configs(ref) if c not in schema.RESERVED]
        return [file for c in configs for file in sorted((data / c).glob(f"{split or '*'}-*.parquet"))]

    def scan(self, ref: str, config: str = "default", split: str | None = None) -> "pl.LazyFrame":
        """The rows of a config, lazily. No file: a frame with the columns and no row."""
        import polars as pl

        files = self.files(ref, config, split)
        table = schema.table(parse_ref(ref)[0], config)
        if not files:
            return pl.LazyFrame(schema=schema.polars_schema(table))
        return pl.scan_parquet(files, glob=False)

    def ancestors(self, manifest: Manifest) -> list[Manifest]:
        """The manifests of everything it was made from that is here, nearest first."""
        found: list[Manifest] = []
        for parent in manifest.parents:
            if self.has(parent.ref):
                above = self.manifest(parent.ref)
                found += [m for m in [above, *self.ancestors(above)] if m not in found]
        return found

    @contextmanager
    def lock(self, ref: str, wait: bool = False) -> Iterator[None]:
        """Hold the right to build `ref`: a second build of it is told so at once, or waits."""
        name, version = parse_ref(ref)
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{name}@{version}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise InputError(f"{ref} is being built by another process: wait for it") from None
            yield

    def check_place(self, ref: str) -> None:
        """Raise InputError where something that is no artifact lies in its place."""
        place = self.path(ref)
        if os.path.lexists(place) and not self.has(ref):
            raise InputError(f"{place} is in the way and is no artifact: move it")

    def publish(
        self,
        ref: str,
        tables: Mapping[str, Rows],
        finish: Callable[[str, dict[str, dict[str, int]]], tuple[Manifest, dict[str, bytes]]],
    ) -> Manifest:
        """Write a dataset, whole or not at all, and return its manifest.

        `tables` are the stored configs, written as they come. Then `finish` makes, from the digest and
        the counts of what was written, the manifest, and card and figures by relative path. The caller
        holds `lock`. Raises ValueError if the manifest and the tables disagree.
        """
        with self._staging(ref) as staging:
            seen = Seen(parse_ref(ref)[0])
            for config, rows in tables.items():
                _write_rows(staging / "data" / config, config, rows, seen)
            manifest, files = finish(seen.digest(), seen.counts())
            if (manifest.ref, manifest.digest, manifest.counts) != (ref, seen.digest(), seen.counts()):
                raise ValueError("the manifest is not that of the tables")
            _write_record(staging, manifest, files)
        return manifest

    def publish_model(
        self, ref: str, folder: Path, finish: Callable[[str], tuple[Manifest, dict[str, bytes]]]
    ) -> Manifest:
        """Write a trained model, whole or not at all, and return its manifest.

        Of `folder`, where `save_pretrained` left it, only the files that a loader reads are copied. Then
        `finish` makes, from their digest, the manifest, and card and figures by relative path. The caller
        holds `lock`. Raises InputError where there are no safetensors weights or `ref` names a dataset,
        ValueError if the manifest and the files disagree.
        """
        check_model_ref(ref)
        require_safetensors(folder)
        with self._staging(ref) as staging:
            for name, file in loaded_files(folder).items():
                # No hard link: a trainer that saves there again would write into the artifact.
                shutil.copyfile(file, staging / name)
                _sync(staging / name)
            digest = files_digest(loaded_files(staging))
            manifest, files = finish(digest)
            if (manifest.ref, manifest.digest, manifest.kind) != (ref, digest, "model"):
                raise ValueError("the manifest is not that of the model")
            _write_record(staging, manifest, files)
        return manifest

    def adopt(self, ref: str, folder: Path) -> None:
        """Move a whole artifact into its place, as one that was fetched beside this store and verified.

        The caller holds `lock`, and `folder` is on the disk of the root. Raises InputError where the place
        is taken.
        """
        place = self.path(ref)
        if os.path.lexists(place):
            raise InputError(f"{place} is in the way: move it")
        for file in folder.rglob("*"):
            _sync(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, place)
        _sync(place.parent)

    @contextmanager
    def _staging(self, ref: str) -> Iterator[Path]:
        """A folder to write `ref` in, which is renamed into its place at the end, unless something failed."""
        self.check_place(ref)
        with self.whole(self.path(ref), ref) as staging:
            yield staging

    @contextmanager
    def whole(self, place: Path, name: str) -> Iterator[Path]:
        """A folder that is renamed to `place` at the end, unless something failed.

        The caller sees to it that there is one of a `name` at a time.
        """
        staging = self.root / ".staging" / name
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            yield staging
            _sync_folders(staging)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(staging, place)
            _sync(place.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait until no other process holds `name`, and hold it."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def renew_card(self, ref: str, render: Callable[[Manifest, list[str], str], str]) -> bool:
        """Replace README.md of an artifact, whole or not at all; whether it changed.

        `render` makes the new text of the manifest, the paths of the figures and the text that is there. One
        process at a time does it, so what `render` reads meanwhile is in the card of the last.
        """
        folder = self.path(ref)
        with self.turn(f"{ref}.card"):
            manifest = self.manifest(ref)
            figures = sorted(f"plots/{one.name}" for one in (folder / "plots").glob("*.png"))
            there = (folder / "README.md").read_text("utf-8")
            text = render(manifest, figures, there)
            if text == there:
                return False
            staging = self.root / ".staging" / f"{ref}.card"
            try:
                _write(staging, text.encode())
                os.replace(staging, folder / "README.md")
                _sync(folder)
            finally:
                staging.unlink(missing_ok=True)
        return True

    def verify(self, ref: str) -> list[str]:
        """Every disagreement between manifest, card and files, one sentence each; none is good."""
        from .verify import verify

        return verify(self, ref)


def _write_record(staging: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Card and figures, and the manifest last. Raises ValueError for a ledger that loses rows."""
    check_ledger(manifest.ledger)
    for path, content in files.items():
        _write(staging / path, content)
    _write(staging / "manifest.json", encode_manifest(manifest))


def _write_rows(folder: Path, config: str, rows: Rows, seen: Seen) -> None:
    shards: dict[str, _Shards] = {}
    try:
        for frame in frames(rows):
            for split, some in splits(frame).items():
                seen.add(config, split, some)
                if split not in shards:
                    shards[split] = _Shards(folder, split, schema.table(seen.name, config))
                shards[split].write(some)
        for one in shards.values():
            one.close()
    except BaseException:
        for one in shards.values():
            one.abandon()
        raise


class _Shards:
    """The Parquet files of one config and split, a new one whenever the last is full."""

    def __init__(self, folder: Path, split: str, table: schema.Table) -> None:
        self.folder, self.split = folder, split
        self.columns = schema.arrow_schema(table)
        self.repeating = _repeating(table)
        self.files: list[Path] = []
        self.writer: pq.ParquetWriter | None = None
        self.size = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: "pl.DataFrame") -> None:
        pieces = max(1, -(-int(rows.estimated_size()) // SHARD_BYTES))
        for piece in rows.iter_slices(-(-len(rows) // pieces)):
            size = int(piece.estimated_size())
            if self.size + size > SHARD_BYTES:
                self._end()
            self.size += size
            writer = self.writer = self.writer or self._begin()
            writer.write_table(piece.to_arrow().cast(self.columns), ROW_GROUP)

    def close(self) -> None:
        self._end()
        for number, file in enumerate(self.files):
            file.rename(self.folder / f"{self.split}-{number:05d}-of-{len(self.files):05d}.parquet")

    def abandon(self) -> None:
        """After an error, as on a full disk: nothing more is written, also not when this is collected."""
        if self.writer:
            self.writer.is_open = False

    def _begin(self) -> "pq.ParquetWriter":
        import pyarrow.parquet as pq

        self.files.append(self.folder / f"{self.split}-{len(self.files):05d}")
        # Content-defined chunks and a page index: the Hub then stores and shows changed files cheaply.
        return pq.ParquetWriter(
            self.files[-1],
            self.columns,
            compression="zstd",
            use_content_defined_chunking=CHUNKS,
            # A dictionary of texts is one large page that any new text changes.
            use_dictionary=self.repeating,
            write_page_index=True,
        )

    def _end(self) -> None:
        if self.writer:
            self.writer.close()
            _sync(self.files[-1])
        self.writer, self.size = None, 0


def _repeating(table: schema.Table) -> list[str]:
    """Paths of the columns that have few values: names, reasons, roles; not texts, ids or addresses."""
    texts = {"query", "prompt", "response", "nearest", "error"}
    roles = [f"{column.name}.list.element.role" for column in table.columns if column.type == "messages"]
    names = [column.name for column in table.columns if column.type == "string"]
    return roles + [name for name in names if name not in texts and not name.endswith(("_id", "_url"))]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        _sync(Path(folder))


def version_key(version: str) -> tuple[list[int], bool, str]:
    """What versions are ordered by: their numbers, and a suffix before none."""
    numbers, _, suffix = version.partition("-")
    return [int(n) for n in numbers.split(".")], not suffix, suffix
