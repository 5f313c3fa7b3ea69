"""`name@version` <-> `<root>/<name>/<version>/`: where artifacts are, and their locks.

An artifact is written beside its place, its manifest last, and renamed into place (`publish`): a folder
with a manifest is whole, whatever killed the process that wrote it.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..arguments import check_arguments
from ..cards.markdown import clean
from ..datasets.manifest import MAX_BYTES, Manifest, Parent, decode_manifest
from ..datasets.tables import polars_schema, stored_configs
from ..errors import InputError, did_you_mean
from ..inputs import read_text
from ..models.files import is_loaded
from ..viewer.tables import html_table
from .artifact import Artifact
from .files import CARD, hold, kind_problem, published, sync, write_file
from .names import NAME, VERSION, on_disk, parse_ref, version_key

if TYPE_CHECKING:
    import polars as pl


def check_store(store: object) -> None:
    """Raise InputError where a path, or something else, stands in the place of a store."""
    if not isinstance(store, Store):
        path = str(store) if isinstance(store, str | os.PathLike) else "build"
        raise InputError(f"{store!r} is not a store: give almost_data.Store({path!r})")


class Store:
    """The artifacts under one root folder."""

    def __init__(self, root: Path | str = "build") -> None:
        if not isinstance(root, str | os.PathLike):
            raise InputError(f"run.root {root!r}: give the path of a folder")
        self.root = Path(root)
        if clean(str(root)).encode("utf-8", "replace") != os.fsencode(str(root)):
            raise InputError(f"run.root {str(root)!r}: a name that is not plain UTF-8 text: choose another")
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise InputError(f"run.root {self.root}: not a folder")

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def _repr_html_(self) -> str:
        contents = {ref: self.read(ref) for ref in self.refs()}
        damaged = [ref for ref, content in contents.items() if isinstance(content, str)]
        manifests = [content for content in contents.values() if isinstance(content, Manifest)]
        rows = [(m.ref, m.kind, m.rows, m.builder.name, m.created[:10]) for m in manifests]
        table = html_table(("ref", "kind", "rows", "made by", "created"), rows)
        return table + (f"<p>damaged: {', '.join(damaged)}</p>" if damaged else "")

    def _ipython_key_completions_(self) -> list[str]:
        return self.refs()

    def __getitem__(self, ref: str) -> Artifact:
        """An artifact by its reference, or by its name the highest version. Raises InputError."""
        if not isinstance(ref, str):
            refs = ", ".join(self.refs()) or "no artifact"
            raise InputError(f"{ref!r} is not a reference: the store has {refs}")
        return Artifact(self, self.manifest(self.resolve(ref)).ref)

    def sample(self, ref: str, n: int | None = 20, **conditions: Any) -> "pl.DataFrame":
        """`n` rows with their texts, drawn by seed, or all with None; `conditions` are fields of `Selection`.

        Raises InputError for a condition that fits no column, naming those that exist.
        """
        from .samples import Selection, dataset, select

        selection = Selection(**check_arguments("sample", Selection, conditions))
        return select(self, dataset(self, self.resolve(ref)), selection, n)[0]

    def dropped(
        self, ref: str, reason: str = "any", n: int | None = None, **conditions: Any
    ) -> "pl.DataFrame":
        """The rows that were dropped for a reason, with their texts and without empty columns.

        All of them, or `n` drawn by seed; `conditions` are those of `sample`.
        """
        frame = self.sample(ref, n, dropped=reason, **conditions)
        return frame.select(column.name for column in frame if column.null_count() < max(1, len(column)))

    @property
    def journal(self) -> Path:
        """The file of every reply that was generated for this store."""
        return self.root / "journal.sqlite"

    def path(self, ref: str) -> Path:
        """The folder of an artifact, whether it is there or not."""
        return self.root.joinpath(*parse_ref(ref))

    def has(self, ref: str) -> bool:
        """Whether it is here. `ORG/NAME@REVISION`, which is on the Hub, is not."""
        return "/" not in str(ref) and (self.path(ref) / "manifest.json").is_file()

    def resolve(self, ref: str) -> str:
        """A full reference: of a name alone, its highest version. Raises InputError where there is none.

        A version with a suffix, such as those of `ablate`, counts only where there is no other, and so does
        one without a row.
        """
        ref = str(ref)
        name, at, version = ref.partition("@")
        if at or "/" in ref:
            if not VERSION.fullmatch(version.removeprefix("v")) and self.refs(name):
                raise self._absent(ref)
            return ref
        if not (versions := self.refs(name)):
            raise self._absent(ref)
        versions = [version for version in versions if "-" not in parse_ref(version)[1]] or versions
        return next((version for version in reversed(versions) if not self._is_empty(version)), versions[-1])

    def _is_empty(self, ref: str) -> bool:
        with suppress(InputError):  # a damaged one is no empty one: whoever reads it says what is wrong
            return self.manifest(ref).is_empty
        return False

    def manifest(self, ref: str) -> Manifest:
        """The manifest of `ref`. Raises InputError where there is none, naming the versions that exist."""
        file = self.path(ref) / "manifest.json"
        if not file.is_file():
            raise self._absent(ref)
        with file.open("rb") as handle:
            manifest = decode_manifest(handle.read(MAX_BYTES + 1), str(file))
        if manifest.ref != ref:
            raise InputError(
                f"{file}: says it is {manifest.ref}; the folder was renamed or copied: rename it back"
            )
        return manifest

    def read(self, ref: str) -> Manifest | str:
        """The manifest of `ref`, or why it cannot be read: a damaged artifact does not hide the others."""
        try:
            return self.manifest(ref)
        except InputError as error:
            return str(error)

    def _absent(self, ref: str) -> InputError:
        """The error of a reference that is not here: what is here in its place."""
        name, at, version = ref.partition("@")
        names = list(dict.fromkeys(present.partition("@")[0] for present in self.refs()))
        if versions := self.refs(name):
            kind = "its newest versions are" if len(versions) > 5 else "of that name there is"
            instead = f"{kind} {', '.join(versions[-5:])}; choose one of these"
        elif name == "preferences":
            instead = f"imported preferences are comparisons{at}{version}"
        elif name in registry.names("builders"):
            instead = "build or import it"
        elif hint := on_disk(ref):
            instead = hint
        elif names:
            instead = f"no artifact has that name{did_you_mean(name, names)}: name one of {', '.join(names)}"
        else:
            instead = "the store is empty: build or import a dataset, or name another folder as run.root"
        return InputError(f"no {ref} under {self.root}: {instead}")

    def refs(self, name: str | None = None) -> list[str]:
        """The references of all artifacts, or of those with a name, by name and version; damaged ones too."""
        pattern = f"{'*' if name is None else escape(name)}/*/manifest.json"
        places = [file.split(os.sep)[:2] for file in glob(pattern, root_dir=self.root)]
        places = [place for place in places if NAME.fullmatch(place[0]) and VERSION.fullmatch(place[1])]
        places.sort(key=lambda place: (place[0], version_key(place[1])))
        return ["@".join(place) for place in places]

    def disk_bytes(self, manifest: Manifest) -> int:
        """The size of an artifact on disk."""
        manifest_bytes = (self.path(manifest.ref) / "manifest.json").stat().st_size
        return manifest_bytes + sum(record.bytes for record in manifest.files.values())

    def configs(self, ref: str) -> list[str]:
        """The stored configs of a dataset."""
        manifest = self.manifest(ref)
        return [config for config in manifest.counts if stored_configs(manifest.tables, config) == (config,)]

    def files(self, ref: str, config: str, split: str | None = None) -> list[Path]:
        """The Parquet files of a config, in order; of one that is not stored, those of its parts.

        Raises InputError where there is no such config or split, or a file is not the one that was published.
        """
        manifest = self.manifest(ref)
        manifest.check_split(config, split)
        folders = [f"data/{name}/" for name in stored_configs(manifest.tables, config)]
        return [
            published(self.path(ref), path, record)
            for folder in folders
            for path, record in sorted(manifest.files.items())
            if path.startswith(f"{folder}{split}-" if split else folder)
        ]

    def model_folder(self, ref: str) -> Path:
        """The folder of a model, to load it. Raises InputError where a file is not as it was published."""
        for path, record in self.manifest(ref).files.items():
            if is_loaded(path):
                published(self.path(ref), path, record)
        return self.path(ref)

    def scan(self, ref: str, config: str = "default", split: str | None = None) -> "pl.LazyFrame":
        """The rows of a config, lazily. Where no file is, a frame with the columns and no row.

        Raises InputError where a file is not the one that was published, or has other columns.
        """
        import polars as pl

        files, schema = self.files(ref, config, split), polars_schema(self.manifest(ref).table(config))
        for file in files:
            try:
                # Opened here: Polars takes a path for a pattern.
                with file.open("rb") as handle:
                    has_columns = pl.read_parquet_schema(handle) == schema
            except (pl.exceptions.PolarsError, OSError):
                has_columns = False
            if not has_columns:
                raise InputError(f"{file}: its columns are not those of manifest.json: build or pull it anew")
        return pl.scan_parquet(files, glob=False) if files else pl.LazyFrame(schema=schema)

    def ancestors(self, manifest: Manifest) -> list[Manifest]:
        """The manifests of everything it was made from that is here, nearest first."""
        ancestors: dict[str, Manifest] = {}
        remaining = [parent.ref for parent in manifest.parents]
        while remaining:
            ref = remaining.pop(0)
            if ref not in ancestors and self.has(ref):  # an edited manifest may name itself
                ancestors[ref] = self.manifest(ref)
                remaining = [parent.ref for parent in ancestors[ref].parents] + remaining
        return list(ancestors.values())

    def children(self, ref: str) -> list[tuple[str, Parent]]:
        """The artifacts that were made from this one, and what each records of it."""
        manifests = [self.read(present) for present in self.refs()]
        children = [manifest for manifest in manifests if isinstance(manifest, Manifest)]
        return [(child.ref, parent) for child in children for parent in child.parents if parent.ref == ref]

    @contextmanager
    def lock(self, name: str, wait: bool = False, shared: bool = False) -> Iterator[None]:
        """Hold the right to build `name`, a reference or another word: a second process waits, or is refused.

        Several may hold it `shared`, and build from it. Raises InputError where another process holds it.
        """
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        busy = f"{name} is in use by another process, which builds it or from it: wait for it"
        with hold(locks / name, busy, wait, shared):
            yield

    @contextmanager
    def keep(self, refs: Iterable[str]) -> Iterator[None]:
        """Let no other process delete these artifacts while something is made from them.

        What is being deleted, or pruned, is waited for.
        """
        with ExitStack() as locks:
            for ref in sorted(set(refs)):
                locks.enter_context(self.lock(ref, wait=True, shared=True))
            yield

    def check_place(self, ref: str, kind: str) -> None:
        """Raise InputError where no artifact of this kind can be put in its place."""
        place = self.path(ref)
        if os.path.lexists(place) and not self.has(ref):
            raise InputError(f"{place} is in the way and is not an artifact: move it")
        name = ref.partition("@")[0]
        for present in self.refs(name)[-1:]:
            manifest = self.manifest(present)
            if manifest.kind != kind:
                raise InputError(f"{name}: {present} is {manifest.kind_phrase} of that name: choose another")

    def adopt(self, ref: str, folder: Path) -> None:
        """Move a whole artifact into its place, once all of it is on the disk.

        The caller holds `lock`, and `folder` is on the disk of the root. Raises InputError where the place
        is occupied.
        """
        place = self.path(ref)
        if os.path.lexists(place):
            raise InputError(f"{place} is in the way: move it")
        for path in (*folder.rglob("*"), folder):
            sync(path)
        with self._lock_folder(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, place)
        sync(place.parent)
        sync(place.parent.parent)

    def _lock_folder(self, folder: Path) -> AbstractContextManager[None]:
        """Hold the folder of all versions of a name: one is put into it while another is deleted."""
        return self.lock(f"{folder.name}.folder", wait=True)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder that is deleted at the end; a second process waits for one of the same name."""
        self.sweep()
        folder = self.root / ".staging" / name
        with self.lock(f"{name}.scratch", wait=True):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Delete the scratch folders of processes that were killed; a fetch, which can go on, is none."""
        for leftover in self.root.glob(".staging/*"):
            if leftover.name.startswith("hub-") and "@" not in leftover.name:
                continue
            with suppress(InputError), self.lock(f"{leftover.name}.scratch"):
                shutil.rmtree(leftover, ignore_errors=True)

    def discard(self, ref: str) -> None:
        """Delete an artifact, at once for whoever reads; a process that is killed leaves no half of it.

        The caller holds `lock`.
        """
        place = self.path(ref)
        with self.scratch(f"{ref}.removed") as folder:
            os.rename(place, folder / place.name)
            sync(place.parent)
        with self._lock_folder(place.parent), suppress(OSError):  # other versions are in it
            place.parent.rmdir()

    def renew_card(self, ref: str, render: Callable[[Manifest, list[str], str], str]) -> bool:
        """Replace README.md of an artifact, whole or not at all; whether it changed.

        `render` makes the new text of the manifest, the paths of the figures and the present text. One
        process at a time does it, so what `render` reads is in the card of the last.
        """
        folder = self.path(ref)
        with self.lock(f"{ref}.card", wait=True):
            manifest = self.manifest(ref)
            figures = sorted(f"plots/{file.name}" for file in (folder / "plots").glob("*.png"))
            if problem := kind_problem(folder / CARD):
                raise InputError(f"{folder / CARD}: {problem}: build, train or pull it anew")
            present = read_text(folder / CARD)
            text = render(manifest, figures, present)
            if text == present:
                return False
            self.replace(folder / CARD, text.encode(), f"{ref}.card")
        return True

    def replace(self, file: Path, content: bytes, name: str) -> None:
        """Write a file, whole or not at all, by way of the scratch folder of this name."""
        with self.scratch(name) as staging:
            write_file(staging / file.name, content)
            os.replace(staging / file.name, file)
            sync(file.parent)
