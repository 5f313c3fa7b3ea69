"""Comparisons that models are judged on: where they are read, and which of them a model was trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from msgspec import structs

from ..datasets.manifest import Manifest, Parent
from ..datasets.records import Pinned
from ..diagnostics.shortcuts import plain
from ..errors import InputError
from ..readers import files
from ..readers.files import TABLE_SUFFIXES
from ..readers.preferences import read_preferences
from ..store.names import is_ref
from ..store.sources import stored_ref
from ..store.store import Store
from ..training.data import Source, Splits, from_hub, from_store
from ..training.shapes import comparisons, comparisons_of
from .subject import Subject

_HUB_CONFIG = "leave it out; for a Hub dataset give eval.hub_config"


@dataclass(frozen=True)
class Comparisons:
    """The rows of one split, and those that a surface model may learn from."""

    pinned: Pinned
    source: Source
    """The rows to judge on as its `train`."""
    learned: Source
    """The rows of the train split, as its `test`."""
    split: str
    is_file: bool

    def surface_texts(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Texts of the train split, on prompts that are not in `rows`."""
        source = self.learned
        if not len(source.test):
            return plain(rows.clear())
        train = comparisons(replace(source, train=source.test, test=source.test.clear(), has_test=True)).train
        return plain(train.filter(~pl.col("query_id").is_in(rows["query_id"].unique().implode())))


def open_comparisons(
    store: Store,
    data: str,
    split: str,
    columns: Mapping[str, str],
    config: str | None = None,
    hub_config: str | None = None,
) -> Comparisons:
    """Comparisons of `name@version`, `ORG/NAME@REVISION`, or a file. Raises InputError otherwise.

    `config` is of a dataset of the store, `hub_config` of one on the Hub.
    """
    splits = Splits(config or hub_config, split, "" if split == "train" else "train", "eval.split")
    ref = stored_ref(store, data)
    if config and not ref:
        raise InputError(f"eval.config is of a dataset of the store, and {data} is none: {_HUB_CONFIG}")
    if hub_config and (ref or not files.is_hub(data, TABLE_SUFFIXES)):
        fix = f"give eval.config {hub_config}" if ref else "leave it out"
        raise InputError(f"eval.hub_config is of a Hub dataset, and {data} is none: {fix}")
    if ref:
        source = from_store(store, ref, splits)
        pin = Pinned(ref, source.parent.digest, "data", _is_fake(source))
    elif files.is_hub(data, TABLE_SUFFIXES):
        source = from_hub(store, data, splits)
        pin = Pinned(data.partition("@")[0], str(source.revision), "data", _is_fake(source))
    else:
        source = _open_file(data, columns)
        pin = Pinned(source.parent.ref, source.parent.digest, "data")
        return Comparisons(pin, source, source, split, is_file=True)
    if not len(source.train):
        raise InputError(f"{source.parent.ref}: no row to judge on")
    source = replace(source, assignments=columns)
    judged = comparisons(replace(source, test=source.train.clear(), has_test=True, splits=(split, "")))
    return Comparisons(pin, judged, source, split, is_file=False)


def _is_fake(source: Source) -> bool:
    return source.manifest is not None and source.manifest.is_fake


def _open_file(data: str, columns: Mapping[str, str]) -> Source:
    """The preferences of a file or folder."""
    sha256 = files.record(data, TABLE_SUFFIXES)["sha256"]
    parent = Parent(Path(data).resolve().name, f"sha256:{sha256}", "")
    source = Source(parent, None, None, pl.DataFrame(), pl.DataFrame(), frozenset())
    preferences = read_preferences(data, columns)
    rows = (structs.replace(row, place=Path(row.place).name) for row in preferences.rows)
    return comparisons_of(source, replace(preferences, rows=rows))


def training_notes(store: Store, subjects: Sequence[Subject], judged: Comparisons) -> list[str]:
    """Notes on models that the judged dataset, or one of its prompts, was used to train, by their manifests.

    Raises InputError where a model was trained on the very split.
    """
    notes, source = [], judged.source
    pins = _pins(source.parent.ref, source.parent.digest)
    for number, subject in enumerate(subjects):
        if subject.manifest is None:
            continue
        name = subject.model.id
        trained_on = list(_training_data(store, subject.manifest))
        if any(pins & _pins(parent.ref, parent.digest) for parent in trained_on):
            if judged.split == "train" and not judged.is_file:
                setting = "eval.versus" if number else "eval.model"
                raise InputError(
                    f"{setting} {name} was trained on the train split of {source.parent.ref}, so its "
                    "accuracy there means nothing: judge it on the split test"
                )
            notes.append(
                f"{name} was trained on the train split of {source.parent.ref}, so here it has an advantage "
                "over models that were not."
            )
        elif any(pins & _pins(parent.ref, parent.digest) for parent in store.ancestors(subject.manifest)):
            notes.append(f"{source.parent.ref} had a part in {name}, which was not itself trained on it.")
        notes += _shared_prompts(store, name, trained_on, source)
    return list(dict.fromkeys(notes))


def _shared_prompts(store: Store, name: str, learned: list[Parent], source: Source) -> Iterator[str]:
    """Prompts that are judged on and trained on."""
    judged = set(source.train["query_id"])
    for parent in learned:
        if not store.has(parent.ref) or store.manifest(parent.ref).kind != "dataset":
            continue
        trained = store.scan(parent.ref, split="train").select("query_id").collect()["query_id"]
        if shared := len(judged & set(trained)):
            yield (
                f"{shared:,} of the {len(judged):,} prompts judged on are in the train split of "
                f"{parent.ref}, which {name} was trained on: its accuracy is too high."
            )


def _pins(ref: str, digest: str) -> set[str]:
    """Names of a dataset; on the Hub, whatever the revision."""
    return {ref, digest, ref.partition("@")[0] if "/" in ref else ref}


def _training_data(store: Store, manifest: Manifest) -> Iterator[Parent]:
    """The datasets that a model, and its base models, were trained on."""
    ref = manifest.config["dataset"]["ref"]
    yield from (parent for parent in manifest.parents if parent.ref == ref)
    base = manifest.config["base"]["id"]
    if is_ref(base) and store.has(base):
        yield from _training_data(store, store.manifest(base))
