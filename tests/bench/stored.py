"""Responses in a store as a model's run would leave them, for benchmarks of what is done with them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from almost_data.datasets.builder import Built
from almost_data.datasets.digest import Blocks
from almost_data.datasets.ledger import Entry
from almost_data.datasets.manifest import BuilderId
from almost_data.datasets.tables import polars_schema
from almost_data.models.chat import user_turn
from almost_data.run.build import publish_dataset
from almost_data.store.publish import new_manifest
from almost_data.store.store import Store
from tests import schema

Responses = Iterable[tuple[NDArray[np.uint64], Iterable[str]]]
"""Blocks of queries' numbers, in their order, with a response to each."""


def store_responses(
    store: Store, ref: str, ladder: list[str], queries: int, responses: Callable[[int], Responses]
) -> None:
    """A dataset of responses to `queries` queries; `responses` gives those of a place in the ladder."""

    def frames(rank: int) -> Iterator[pl.DataFrame]:
        for numbers, texts in responses(rank):
            ids = [f"{number:016x}" for number in numbers]
            yield pl.DataFrame(
                {
                    "query_id": ids,
                    "prompt": [user_turn(f"What would you answer to question number {n}?") for n in ids],
                    "responder": ladder[rank],
                    "rank": rank,
                    "response": list(texts),
                    "reasoning": None,
                    "finish_reason": "stop",
                    "reply_id": [f"{int(number) ^ (rank * 0x1234567):016x}" for number in numbers],
                },
                schema=polars_schema(schema.table("responses", "default")),
            )

    config: dict[str, Any] = {
        "settings": {"ladder": ladder},
        "file": {"name": ref},
        "card": {"license": None, "language": None},
    }
    made_by = BuilderId("import-responses", 1)
    draft = new_manifest("dataset", ref, made_by, config, [], schema.TABLES["responses"])
    count = queries * len(ladder)
    entry = Entry("import", "rows", "response", "A row of the file.", {}, "almost_data", count, count, {})
    facts = {"responses": queries, "mean_chars": 0.0, "share_cut_at_token_limit": 0.0}
    tables = {name: Blocks(partial(frames, rank)) for rank, name in enumerate(ladder)}
    built = Built(tables, [entry], {"responders": dict.fromkeys(ladder, facts)})
    publish_dataset(store, schema.builder("responses"), draft, [], built, {})
