"""Multiple-choice items from BIG-bench's JSON, JSONL or the Hub, pinned by sha256 or commit.

A file is identified by its sha256. An unknown one is read too, and the result says so.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..datasets.config import HUB_ID
from ..datasets.manifest import canonical_json
from ..datasets.records import Pinned
from ..diagnostics.probe import draw
from ..errors import InputError

STATIC_HHH = "Static HHH of BIG-bench hhh_alignment (bigbench 1.0.0)"
PUBLIC_FILES = {
    "1bd2a58d9bb17b26af4806e8302374cea60671dc387fbfc2c5aa5c23e0901628": f"{STATIC_HHH}, helpful",
    "69ba96e5bff121327ad1366e3772b7b45c50e96e7f995b2cef62c350380f1b14": f"{STATIC_HHH}, honest",
    "4720acbc916cc18413e48c6bb55c19af73400436a6304c7e110b8bb40f8952a1": f"{STATIC_HHH}, harmless",
    "4d6b041d79e5bf2705a9f81994efb95274179faaba9270f6dc83bd0cd17c227e": f"{STATIC_HHH}, other",
    "89a0402a23d5873b0c2f427e851fca7ac420f8d08731e61be52e6cbf1a18a281": (
        "the 299 multiple-choice items of BIG-bench truthful_qa (bigbench 1.0.0), not the official MC1 file"
    ),
    "261fbba77f3dd0af7f1bad82b49d7d3ce4dfeb867d4e377532a6e22b63f45571": (
        "best and incorrect answers of TruthfulQA.csv made into choices, not the official MC1 file"
    ),
}
"""sha256 of a public file -> which file it is."""
CANARY = "canary GUID"
"""A string in every file of BIG-bench, by which it is kept out of training data."""
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

    def add(self, subset: str, rows: list[tuple[str, Any]], where: str) -> None:
        """Add the items of a subset, each a place in the file and the row there."""
        if not rows:
            raise InputError(f"{where}: no items")
        for number, (place, row) in enumerate(rows):
            self.items.append(Item(f"{subset}-{number}", subset, *_item(row, place)))

    @property
    def content(self) -> str:
        """sha256 of the texts of the items, whatever file, layout and order they came in."""
        texts = sorted(
            [item.subset, item.text, sorted(item.choices), item.choices[item.right]] for item in self.items
        )
        return hashlib.sha256(canonical_json(texts)).hexdigest()


def identify(path: Path) -> tuple[str, str | None]:
    """sha256 of a file, and which known public file that is, or None."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return sha256, PUBLIC_FILES.get(sha256)


def read(data: str, configs: tuple[str, ...] = ()) -> Items:
    """Items of a file, of a folder of `*.task.json`, or of `ORG/NAME@REVISION` on the Hub.

    Of a Hub dataset, `configs` are read, or all where it has none of them. Raises InputError, naming file and
    line or example, for what does not exist or is not an item.
    """
    path = Path(data)
    if data and path.is_dir():
        files = sorted(path.rglob("*task.json"))
        if not files:
            raise InputError(f"{data}: no *.task.json in it: give BIG-bench's files, or name one file")
        return _local([(file, file.relative_to(path).as_posix()) for file in files])
    if path.is_file():
        if path.suffix not in (".json", ".jsonl"):
            raise InputError(f"{data}: neither BIG-bench's .json nor .jsonl of question, choices and label")
        return _local([(path, path.name)])
    if HUB_ID.fullmatch(data) and not path.suffix.startswith(".json"):
        return _hub(data, configs)
    raise InputError(f"eval.data {data}: no such file or folder, and not ORG/NAME@REVISION on the Hub")


def sample(items: list[Item], limit: int | None, seed: int) -> list[Item]:
    """At most `limit` of the items, drawn by the seed, in their order."""
    sampled = {item.id for item in sorted(items, key=lambda item: draw(item.id, seed, "limit"))[:limit]}
    return [item for item in items if item.id in sampled]


def _local(files: list[tuple[Path, str]], pinned: Pinned | None = None) -> Items:
    """Items of files with their names; `pinned` is what all of them belong to, where each is not pinned."""
    source, with_canary, unknown = Items(), 0, list[str]()
    for file, name in files:
        try:
            text = file.read_text("utf-8-sig")
            sha256, description = identify(file)
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 text: {error.reason}") from None
        stem = name.rpartition("/")[2].partition(".")[0]
        subset = stem if stem != "task" or "/" not in name else name.split("/")[-2]
        if any(item.subset == subset for item in source.items):
            raise InputError(f"{file}: a second file of the subset {subset}: name a folder with one of each")
        rows = list(_lines(file, text) if file.suffix == ".jsonl" else _examples(file, text))
        source.add(subset, rows, str(file))
        if pinned is None:
            source.pinned.append(Pinned(name, f"sha256:{sha256}", "data"))
        if description is None and pinned is None:
            unknown.append(name)
        elif description and "not the official" in description:
            source.notes.append(f"{name}: {description}: no number here is MC1 of TruthfulQA.")
        with_canary += CANARY in text
    if unknown:
        source.notes.append(f"Not a pinned file, by the checksums known here: {', '.join(unknown)}.")
    if pinned:
        source.pinned.append(pinned)
    if with_canary:
        source.notes.append(
            f"{with_canary} of {len(files)} files carry BIG-bench's canary: for evaluation, never training."
        )
    return source


def _lines(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file}:{number}", _json(line, f"{file}:{number}")


def _examples(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    content = _json(text, str(file))
    rows = content.get("examples") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise InputError(f"{file}: no list of examples, as BIG-bench's task.json has")
    for number, row in enumerate(rows):
        yield f"{file}: example {number}", row


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    except RecursionError:
        raise InputError(f"{where}: not JSON of a benchmark (nested too deep)") from None


def _hub(data: str, configs: tuple[str, ...]) -> Items:
    """The items of `ORG/NAME@REVISION`: of those configs that it has, or of all where it has none of them."""
    import datasets
    from huggingface_hub import HfApi, hf_hub_download

    name, _, revision = data.partition("@")
    if not revision:
        raise InputError(
            f"eval.data {name}: name a tag or a commit, as {name}@REVISION, so that it is pinned"
        )
    source = Items()
    # The libraries' own messages are long, and may quote headers or addresses.
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=20)
        pinned = Pinned(name, str(info.sha), "data")
        datasets.disable_progress_bars()
        # BIG-bench's own files, where the dataset has them: the script beside them is never run.
        tasks = sorted(
            entry.rfilename for entry in info.siblings or () if entry.rfilename.endswith("task.json")
        )
        if tasks:
            files = [
                Path(hf_hub_download(name, task, repo_type="dataset", revision=info.sha)) for task in tasks
            ]
            return _local(list(zip(files, tasks, strict=True)), pinned)
        existing = datasets.get_dataset_config_names(name, revision=info.sha)
        for config in [config for config in configs if config in existing] or existing:
            splits = datasets.load_dataset(name, config, revision=info.sha)
            rows = [row for split in splits.values() for row in split.to_list()]
            source.add(config, [(f"{data}: {config} row {at}", row) for at, row in enumerate(rows)], data)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"eval.data {data}: no such file, and it cannot be loaded from the Hub "
            f"({type(error).__name__}): check name, revision, login and network"
        ) from None
    finally:
        datasets.enable_progress_bars()
    source.pinned.append(pinned)
    return source


def _item(row: Any, where: str) -> tuple[str, tuple[str, ...], int]:
    """Text, choices and the place of the right one, of an item in any of ITEM_LAYOUTS."""
    text, choices, labels = _parts(row if isinstance(row, dict) else {})
    if not (
        isinstance(text, str)
        and text.strip()
        and isinstance(choices, list)
        and isinstance(labels, list)
        and len(choices) == len(labels) > 1
        and all(isinstance(choice, str) and choice.strip() for choice in choices)
    ):
        raise InputError(f"{where}: not a question with choices: give {ITEM_LAYOUTS}")
    if any("\ud800" <= letter <= "\udfff" for letter in "".join([text, *choices])):
        raise InputError(f"{where}: half a surrogate pair, which is no text")
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


_TURN = re.compile(r"(?:^|\n)[ \t]*(Human|Assistant):[ \t]*")


def turns(item: Item) -> tuple[str, ...]:
    """An item's text as turns of user, assistant, ..., user; without marks it is one turn of the user's.

    Raises InputError where turns do not alternate, or the last one is not the user's.

    >>> turns(Item("a-0", "a", "Hi.\\n\\nAssistant:  Ho.\\n\\nHuman: Why?", ("x", "y"), 0))
    ('Hi.', 'Ho.', 'Why?')
    """
    head, *tail = _TURN.split(item.text)
    pairs = [("Human", head.strip()), *zip(tail[::2], (text.strip() for text in tail[1::2]), strict=True)]
    pairs = [pair for place, pair in enumerate(pairs) if pair[1] or 0 < place < len(pairs) - 1]
    if len(pairs) % 2 == 0 or any(
        not text or speaker != ("Human", "Assistant")[place % 2]
        for place, (speaker, text) in enumerate(pairs)
    ):
        raise InputError(f"{item.id}: its turns do not alternate from the user's first to the user's last")
    return tuple(text for _, text in pairs)
