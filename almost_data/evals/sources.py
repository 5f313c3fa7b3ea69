"""Multiple-choice items: their layouts, and what pins them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..datasets.manifest import canonical_json
from ..datasets.records import Pinned
from ..diagnostics.probe import draw
from ..errors import InputError
from ..models.files import file_sha256
from ..readers import files
from ..readers.formats import Row

SUFFIXES = (".jsonl", ".json")
ITEM_LAYOUTS = "input and target_scores, question and mc1_targets, or question, choices and label"


@dataclass(frozen=True)
class Item:
    """One question with its choices, one of them right."""

    id: str
    """Subset and number, from 0."""
    subset: str
    text: str
    choices: tuple[str, ...]
    right: int


@dataclass
class Items:
    """The items of a benchmark, and what pins them."""

    items: list[Item] = field(default_factory=list)
    pinned: list[Pinned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, subset: str, rows: Iterable[Row], where: str) -> None:
        """Add the items of a subset. Raises InputError where there is none."""
        items = [
            Item(f"{subset}-{number}", subset, *_item(row, place)) for number, (place, row) in enumerate(rows)
        ]
        if not items:
            raise InputError(f"{where}: no items")
        self.items += items

    @property
    def content(self) -> str:
        """sha256 of the texts of the items, whatever file, layout and order they came in."""
        texts = sorted(
            [item.subset, item.text, sorted(item.choices), item.choices[item.right]] for item in self.items
        )
        return hashlib.sha256(canonical_json(texts)).hexdigest()


def hub_pin(data: str) -> Pinned | None:
    """The commit of `ORG/NAME@REVISION` on the Hub; None of a file. Raises InputError without a revision."""
    if not files.is_hub(data, files.TABLE_SUFFIXES):
        return None
    name, at, revision = data.partition("@")
    if not at:
        raise InputError(f"eval.data {data}: name a tag or a commit, as {data}@REVISION, to pin it")
    return Pinned(name, files.hub_commit(name, revision), "data")


def read_files(data: str) -> Items:
    """The items of a file, or of each `*task.json` in a folder, pinned by sha256.

    A file is a subset by its name, or by its folder's where its name is task.json. Raises InputError naming
    file and line for what does not exist or is not an item.
    """
    folder = Path(data)
    is_folder = bool(data) and folder.is_dir()
    paths = sorted(folder.rglob("*task.json")) if is_folder else [files.check_file(data, SUFFIXES)]
    if not paths:
        raise InputError(f"{data}: no *.task.json in it: give BIG-bench's files, or name one file")
    source = Items()
    for path in paths:
        place = path.relative_to(folder) if is_folder else Path(path.name)
        is_named_by_folder = place.name == "task.json" and place.parent.name
        subset = place.parent.name if is_named_by_folder else path.name.partition(".")[0]
        if any(item.subset == subset for item in source.items):
            raise InputError(f"{path}: a second file of the subset {subset}: name a folder with one of each")
        source.add(subset, files.read_rows(str(path), SUFFIXES), str(path))
        source.pinned.append(Pinned(place.as_posix(), f"sha256:{file_sha256(path)}", "data"))
    return source


def sample_ids(ids: Iterable[str], limit: int | None, seed: int) -> set[str]:
    """At most `limit` of the ids, drawn by the seed."""
    return set(sorted(ids, key=lambda item_id: draw(item_id, seed, "limit"))[:limit])


def _item(row: dict[str, Any], where: str) -> tuple[str, tuple[str, ...], int]:
    """Text, choices and the place of the right one, of an item in any of ITEM_LAYOUTS."""
    text, choices, labels = _parts(row)
    if not (
        isinstance(text, str)
        and text.strip()
        and isinstance(choices, list)
        and isinstance(labels, list)
        and len(choices) == len(labels) > 1
        and all(isinstance(choice, str) and choice.strip() for choice in choices)
    ):
        raise InputError(f"{where}: not a question with choices: give {ITEM_LAYOUTS}")
    if sorted(labels, key=str) != [0] * (len(labels) - 1) + [1]:
        raise InputError(f"{where}: exactly one choice must be right (1), all others wrong (0)")
    right, texts = labels.index(1), tuple(choice.strip() for choice in choices)
    if texts.count(texts[right]) > 1:
        raise InputError(f"{where}: the right choice is among the wrong ones too")
    return text.strip(), texts, right


def _parts(row: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Text, choices and labels, unchecked."""
    text = row.get("question", row.get("input"))
    if isinstance(scores := row.get("target_scores"), dict):
        return text, list(scores), list(scores.values())
    if isinstance(target := row.get("mc1_targets") or row.get("targets"), dict):
        # TruthfulQA's mc_task.json has choice -> label; the Hub has two lists.
        return text, target.get("choices", list(target)), target.get("labels", list(target.values()))
    choices, label = row.get("choices"), row.get("label")
    places = range(len(choices)) if isinstance(choices, list) and type(label) is int else ()
    return text, choices, [int(place == label) for place in places]
