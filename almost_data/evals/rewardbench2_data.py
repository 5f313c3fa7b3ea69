"""The items of RewardBench 2: where they are read, what pins them, and how scores of their replies count."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.records import Pinned
from ..errors import InputError
from ..models.chat import Messages, user_turn
from ..readers import files
from ..readers.conversations import read_prompt
from ..readers.layout import texts
from ..readers.reasons import Unusable
from .sources import hub_pin

HUB = "allenai/reward-bench-2@7ff08853b0d5686e79b13fda8677024f566a104a"
FILE = "c8ec60efbd75d2f9dcba4121e6101f7a6015abc38a34e034ae2c7ae886265958"
"""sha256 of its data/test-00000-of-00001.parquet."""
SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
TIES = "Ties"
COLUMNS = ("id", "subset", "prompt", "chosen", "rejected")
RULE = {
    "right above wrong, of many right": 0.3,
    "right above wrong, of one right": 0.3,
    "gap wider than the spread of the right": 0.2,
    "both gaps wider": 0.2,
    "how much wider, -1 to 1": 0.01,
}
"""The parts of the score of Ties, with their weights."""
Values = Mapping[str, Sequence[float]]
"""Item id -> one number for each reply."""


@dataclass(frozen=True)
class Item:
    """A prompt with its replies, the right ones first."""

    id: str
    subset: str
    prompt: Messages
    replies: tuple[str, ...]
    right: int
    """How many of the replies are right."""

    @property
    def group(self) -> str:
        """What counts once: the item, or in Ties its pair of prompts."""
        return f"{TIES}/{self.id.partition(':')[2]}" if self.subset == TIES else self.id


def pair(group: str) -> tuple[str, str]:
    """The ids of a pair of Ties: the prompt with many right replies, and that with one.

    >>> pair("Ties/3")
    ('Ties/tied:3', 'Ties/ref:3')
    """
    number = group.partition("/")[2]
    return f"{TIES}/tied:{number}", f"{TIES}/ref:{number}"


def read(data: str) -> tuple[list[Item], Pinned]:
    """The items of a file or of the Hub, and what pins them. Raises InputError."""
    is_hub = hub_pin(data) is not None
    part = files.HubPart(split="test") if is_hub else files.WHOLE
    record = files.record(data, files.TABLE_SUFFIXES, part)
    items: dict[str, Item] = {}
    for place, row in files.read_rows(data, files.TABLE_SUFFIXES, COLUMNS.__contains__, part=part):
        item = _item(place, row)
        if items.setdefault(item.id, item) is not item:
            raise InputError(f"{place}: a second item with the id {row['id']} in {item.subset}")
    for item in items.values():
        if item.subset == TIES and not {*pair(item.group)} <= items.keys():
            raise InputError(f"{data}: {item.id} has no partner: Ties has tied:N and ref:N for each N")
    if not items:
        raise InputError(f"{data}: no item in it")
    revision = record["revision"] if is_hub else f"sha256:{record['sha256']}"
    return list(items.values()), Pinned(record["name"], revision, "data")


def _item(place: str, row: Mapping[str, Any]) -> Item:
    right, wrong, subset = row.get("chosen"), row.get("rejected"), row.get("subset")
    if not (right and wrong and texts(right) and texts(wrong) and row.get("id") and subset in SUBSETS):
        raise InputError(f"{place}: not an item of RewardBench 2: it needs {', '.join(COLUMNS)}")
    try:
        value = row.get("prompt")  # text is one turn here, whatever it holds: no item may be left out
        prompt = read_prompt(user_turn(value) if isinstance(value, str) else value)
    except Unusable as error:
        raise InputError(f"{place}: {error}") from None
    return Item(f"{subset}/{row['id']}", str(subset), prompt, (*right, *wrong), len(right))


def credits(items: Sequence[Item], values: Values) -> dict[str, float]:
    """Group -> its score, from 0 to 1; in Ties up to 1.01."""
    scores = {item.group: _best(item, values[item.id]) for item in items if item.subset != TIES}
    parts = ties(items, values)
    return scores | {group: float(np.dot(list(RULE.values()), row)) for group, row in parts.items()}


def _best(item: Item, values: Sequence[float]) -> float:
    places = [place for place, value in enumerate(values) if value == max(values)]
    return sum(place < item.right for place in places) / len(places)


def ties(items: Sequence[Item], values: Values) -> dict[str, list[float]]:
    """Group of Ties -> the parts of `RULE`."""
    by_id = {item.id: item for item in items}
    parts = {}
    for group in dict.fromkeys(item.group for item in items if item.subset == TIES):
        tied, ref = pair(group)
        many, single = (
            min(values[name][: by_id[name].right]) - max(values[name][by_id[name].right :])
            for name in (tied, ref)
        )
        right = values[tied][: by_id[tied].right]
        spread, gap = max(right) - min(right), min(many, single)
        wider = math.tanh(gap / spread - 1) if spread else float(np.sign(gap))
        parts[group] = [float(many > 0), float(single > 0), float(many > spread), float(gap > spread), wider]
    return parts
