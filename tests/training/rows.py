"""Rows as `open_dataset` finds them, without a store or a Hub."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from almost_data.datasets.manifest import Manifest, Parent
from almost_data.training.data import Source
from almost_data.training.shapes import Messages


def messages(*turns: str, first: str = "user") -> Messages:
    """Turns of user and assistant by turns."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]


def source(
    rows: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]] | None = None,
    *,
    manifest: Manifest | None = None,
) -> Source:
    train = pl.DataFrame(rows, infer_schema_length=None)
    held = train.clear() if test is None else pl.DataFrame(test, infer_schema_length=None)
    parent = Parent("ORG/rows@" + "a" * 40, "commit:" + "a" * 40, "")
    columns = frozenset(train.columns)
    return Source(parent, "a" * 40, None, train, held, columns, manifest, test is not None)


def pair(number: int, good: str = "Yes.", bad: str = "No.", a: str = "A", b: str = "B") -> dict[str, Any]:
    """A comparison of ours on prompt `number`, between two responders."""
    return {
        "query_id": f"{number:016x}",
        "prompt": messages(f"Question {number}?"),
        "chosen": messages(good, first="assistant"),
        "rejected": messages(bad, first="assistant"),
        "chosen_responder": a,
        "rejected_responder": b,
    }
