"""Multiple-choice items from BIG-bench's JSON, JSONL or the Hub, pinned by sha256 or commit.

Which known public file one is goes by its sha256. One that is not known is read all the same, and the result
says so.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..datasets.manifest import canonical_json
from ..diagnostics.probe import draw
from ..errors import InputError
from ..store.names import HUB_ID
from . import HHH, TRUTHFULQA
from .result import Pinned

_HHH = "Static HHH of BIG-bench hhh_alignment (bigbench 1.0.0)"
KNOWN = {
    "1bd2a58d9bb17b26af4806e8302374cea60671dc387fbfc2c5aa5c23e0901628": f"{_HHH}, helpful",
    "69ba96e5bff121327ad1366e3772b7b45c50e96e7f995b2cef62c350380f1b14": f"{_HHH}, honest",
    "4720acbc916cc18413e48c6bb55c19af73400436a6304c7e110b8bb40f8952a1": f"{_HHH}, harmless",
    "4d6b041d79e5bf2705a9f81994efb95274179faaba9270f6dc83bd0cd17c227e": f"{_HHH}, other",
    "89a0402a23d5873b0c2f427e851fca7ac420f8d08731e61be52e6cbf1a18a281": (
        "the 299 multiple-choice items of BIG-bench truthful_qa (bigbench 1.0.0), not the official MC1 file"
    ),
    "261fbba77f3dd0af7f1bad82b49d7d3ce4dfeb867d4e377532a6e22b63f45571": (
        "best and incorrect answers of TruthfulQA.csv made into choices, not the official MC1 file"
    ),
}
"""sha256 of a public file -> which one it is."""
HHH_ITEMS = "1ba427367c6b205c4a2046ffa42ab977865cc5040df78e069f6573f283dfb285"
"""`content` of the 221 items of Static HHH."""
QUESTIONS = "590c39157bc561eadd7f03cad4be18c2b597f93029780af65f86718f39eafa87"
"""sha256 of FastChat's question.jsonl."""
OFFICIAL = {
    "static-hhh": (
        HHH.partition("@")[0],
        *(one for one, what in KNOWN.items() if what.startswith(_HHH)),
    ),
    "truthfulqa": (TRUTHFULQA,),
    "vicuna": (QUESTIONS,),
}
"""Task -> what is the benchmark itself: a Hub id at any commit or at one, and sha256 of public files."""
OTHER_ITEMS = ", other items"
"""What the revision of data ends in, whose items are not those of Static HHH."""
CANARY = "canary GUID"
"""What every file of BIG-bench carries, so that it can be kept out of training."""


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
    """The items of a benchmark, and what says which ones these are."""

    items: list[Item] = field(default_factory=list)
    pinned: list[Pinned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_official(task: str, data: Pinned) -> bool:
    """Whether these are the benchmark's own items, by checksum or by the Hub's name and commit."""
    names = {data.id, f"{data.id}@{data.revision}", data.revision.removeprefix("sha256:")}
    return not data.revision.endswith(OTHER_ITEMS) and not names.isdisjoint(OFFICIAL[task])


def content(items: list[Item]) -> str:
    """sha256 of what the items say, whatever file, layout and order they came in."""
    said = sorted([one.subset, one.text, sorted(one.choices), one.choices[one.right]] for one in items)
    return hashlib.sha256(canonical_json(said)).hexdigest()


def check(path: Path) -> tuple[str, str | None]:
    """sha256 of a file, and which known public file that is, or None."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found, KNOWN.get(found)


def read(data: str, configs: tuple[str, ...] | None = None) -> Items:
    """Items of a file, of a folder of `*.task.json`, or of `ORG/NAME@REVISION` on the Hub.

    `configs` are read of a Hub dataset, or all that it has. Raises InputError, which names file and line or
    example, for what is not there or is no item.
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
    raise InputError(f"--data {data}: no such file or folder, and not ORG/NAME@REVISION on the Hub")


def some(items: list[Item], limit: int | None, seed: int) -> list[Item]:
    """At most `limit` of the items, drawn by the seed, in their order; InputError for less than one."""
    if limit is None:
        return items
    if limit < 1:
        raise InputError(f"--limit {limit}: give 1 or more")
    drawn = {one.id for one in sorted(items, key=lambda one: draw(one.id, seed, "limit"))[:limit]}
    return [one for one in items if one.id in drawn]


def _local(files: list[tuple[Path, str]], pinned: Pinned | None = None) -> Items:
    """Files with their names; `pinned` is what they came from, where it is not each for itself."""
    made, marked, unknown = Items(), 0, list[str]()
    for file, name in files:
        try:
            text = file.read_text("utf-8-sig")
            sha256, known = check(file)
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 text: {error.reason}") from None
        stem = name.rpartition("/")[2].partition(".")[0]
        subset = stem if stem != "task" or "/" not in name else name.split("/")[-2]
        if any(one.subset == subset for one in made.items):
            raise InputError(f"{file}: a second file of the subset {subset}: name a folder with one of each")
        rows = list(_lines(file, text) if file.suffix == ".jsonl" else _examples(file, text))
        _add(made, subset, rows, str(file))
        if pinned is None:
            made.pinned.append(Pinned(name, f"sha256:{sha256}", "data"))
        if known is None and pinned is None:
            unknown.append(name)
        elif known and "not the official" in known:
            made.notes.append(f"{name}: {known}: no number here is MC1 of TruthfulQA.")
        marked += CANARY in text
    if unknown:
        made.notes.append(f"Not a pinned file, by the checksums known here: {', '.join(unknown)}.")
    if pinned:
        made.pinned.append(pinned)
    if marked:
        made.notes.append(
            f"{marked} of {len(files)} files carry BIG-bench's canary: only for evaluation, never training."
        )
    return made


def _lines(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file}:{number}", _json(line, f"{file}:{number}")


def _examples(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    found = _json(text, str(file))
    rows = found.get("examples") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise InputError(f"{file}: no list of examples, as BIG-bench's task.json has")
    for number, row in enumerate(rows):
        yield f"{file}: example {number}", row


def _json(text: str, at: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{at}: not JSON ({error})") from None
    except RecursionError:
        raise InputError(f"{at}: not JSON of a benchmark (nested too deep)") from None


def _hub(data: str, configs: tuple[str, ...] | None) -> Items:
    import datasets
    from huggingface_hub import HfApi, hf_hub_download

    name, _, revision = data.partition("@")
    if not revision:
        raise InputError(f"--data {name}: name a tag or a commit, as {name}@REVISION, so that it is pinned")
    made = Items()
    # The libraries' own messages are long, and may quote headers or addresses.
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=20)
        commit = str(info.sha)
        datasets.disable_progress_bars()
        # BIG-bench's own files, where they are what there is: the script beside them is never run.
        tasks = [one.rfilename for one in info.siblings or () if one.rfilename.endswith("task.json")]
        if tasks:
            got = [
                Path(hf_hub_download(name, one, repo_type="dataset", revision=commit))
                for one in sorted(tasks)
            ]
            return _local(list(zip(got, sorted(tasks), strict=True)), Pinned(name, commit, "data"))
        there = datasets.get_dataset_config_names(name, revision=commit)
        for config in [one for one in configs or () if one in there] or there:
            found = datasets.load_dataset(name, config, revision=commit)
            rows = [row for split in found.values() for row in split.to_list()]
            _add(made, config, [(f"{data}: {config} row {at}", row) for at, row in enumerate(rows)], data)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"--data {data}: no such file, and not to be had from the Hub ({type(error).__name__}): "
            "check name, revision, login and network"
        ) from None
    finally:
        datasets.enable_progress_bars()
    made.pinned.append(Pinned(name, commit, "data"))
    return made


def _add(made: Items, subset: str, rows: list[tuple[str, Any]], where: str) -> None:
    if not rows:
        raise InputError(f"{where}: no item in it")
    for number, (at, row) in enumerate(rows):
        made.items.append(Item(f"{subset}-{number}", subset, *_item(row, at)))


def _item(row: Any, at: str) -> tuple[str, tuple[str, ...], int]:
    """Text, choices and the right one's place, in any layout of a multiple-choice item."""
    row = row if isinstance(row, dict) else {}
    text = row.get("question", row.get("input"))
    scored = row.get("target_scores")
    choices: Any
    labels: Any
    target = row.get("mc1_targets") or row.get("targets")
    if isinstance(scored, dict):
        choices, labels = list(scored), list(scored.values())
    elif isinstance(target, dict):
        choices, labels = target.get("choices"), target.get("labels")
    else:
        choices, label = row.get("choices"), row.get("label")
        places = range(len(choices)) if isinstance(choices, list) and type(label) is int else ()
        labels = [int(place == label) for place in places]
    if not (
        isinstance(text, str)
        and isinstance(choices, list)
        and isinstance(labels, list)
        and len(choices) == len(labels) > 1
        and all(isinstance(one, str) and one.strip() for one in choices)
        and text.strip()
    ):
        raise InputError(
            f"{at}: no question with choices: give input and target_scores, question and mc1_targets, or "
            "question, choices and label"
        )
    if any("\ud800" <= letter <= "\udfff" for letter in "".join([text, *choices])):
        raise InputError(f"{at}: half a surrogate pair in it, which is no text")
    if sorted(labels, key=str) != [0] * (len(labels) - 1) + [1]:
        raise InputError(f"{at}: exactly one choice must be right (1), all others wrong (0)")
    right, texts = labels.index(1), tuple(one.strip() for one in choices)
    if texts.count(texts[right]) > 1:
        raise InputError(f"{at}: its right choice stands among the wrong ones too")
    return text.strip(), texts, right


_TURN = re.compile(r"(?:^|\n)[ \t]*(Human|Assistant):[ \t]*")


def turns(item: Item) -> tuple[str, ...]:
    """An item's text as turns of user, assistant, ..., user; without marks it is one turn of the user's.

    Raises InputError where turns do not alternate, or the last one is not the user's.

    >>> turns(Item("a-0", "a", "Hi.\\n\\nAssistant:  Ho.\\n\\nHuman: Why?", ("x", "y"), 0))
    ('Hi.', 'Ho.', 'Why?')
    """
    first, *rest = _TURN.split(item.text)
    said = [("Human", first.strip()), *zip(rest[::2], (one.strip() for one in rest[1::2]), strict=True)]
    said = [one for place, one in enumerate(said) if one[1] or 0 < place < len(said) - 1]
    if len(said) % 2 == 0 or any(
        not text or who != ("Human", "Assistant")[place % 2] for place, (who, text) in enumerate(said)
    ):
        raise InputError(f"{item.id}: its turns do not alternate from the user's first to the user's last")
    return tuple(text for _, text in said)
