"""Near-twin prompts and near-twin pairs, of which the first in a seeded order is kept."""

from collections.abc import Iterator, Sequence

import polars as pl

from ...datasets.filters import Filter
from ...datasets.tables import all_turns, last_turn
from ...diagnostics.overlap import NEAR, WINDOW, folded
from ...diagnostics.twins import DESCRIPTION, twin_clusters
from ...readers.layout import SIDES
from .parts import Part

_PARAMS = {"similarity": NEAR, "window": WINDOW}
NEAR_TWIN_PROMPT = Filter(
    "near_twin_prompt",
    "pair",
    f"Of prompts that are near twins ({DESCRIPTION}) and have the same turns before the last, one stays.",
    "Broder (1997), MinHash; almost_data",
    params=_PARAMS,
)
NEAR_TWIN_PAIR = Filter(
    "near_twin_pair",
    "pair",
    "Of pairs whose prompts, chosen replies and rejected replies are near twins each, one stays.",
    "Broder (1997), MinHash; almost_data",
    params=_PARAMS,
)


def without_twins(
    parts: Sequence[Part], pairs: pl.DataFrame, of_prompts: bool, of_pairs: bool
) -> pl.DataFrame:
    """The pairs with `reason` where an earlier one has a near-twin prompt, or is a near twin as a whole."""
    pairs = pairs.join(_prompt_clusters(parts, pairs), on="query_id", how="left", maintain_order="left")
    if of_prompts:
        is_twin = pl.col("query_id") != pl.col("query_id").first().over("prompt")
        pairs = pairs.with_columns(reason=pl.when(is_twin).then(pl.lit(NEAR_TWIN_PROMPT.name)))
    if of_pairs:
        is_left = pl.col("reason").is_null()
        has_company = is_left & (is_left.sum().over("prompt") > 1)
        replies = _reply_clusters(parts, pairs.filter(has_company))
        for side in SIDES:
            names = {"row": f"{side}_row", "cluster": side}
            pairs = pairs.join(
                replies.rename(names), on=["part", f"{side}_row"], how="left", maintain_order="left"
            )
        is_twin = has_company & ~pl.struct("prompt", *SIDES, has_company).is_first_distinct()
        reason = pl.when(is_twin).then(pl.lit(NEAR_TWIN_PAIR.name)).otherwise("reason")
        pairs = pairs.with_columns(reason=reason).drop(SIDES)
    return pairs.drop("prompt")


def _prompt_clusters(parts: Sequence[Part], pairs: pl.DataFrame) -> pl.DataFrame:
    """`query_id` and `prompt`, a number that near twins share."""
    query_ids = dict(pairs.group_by("part").agg(pl.col("query_id").unique().sort()).iter_rows())

    def prompts(number: int, *columns: pl.Expr) -> pl.DataFrame:
        rows = parts[number].rows.select("query_id", *columns).unique("query_id", keep="any").collect()
        return rows.filter(pl.col("query_id").is_in(query_ids[number])).sort("query_id")

    def texts() -> Iterator[pl.Series]:
        return (prompts(number, last_turn())["prompt"] for number in sorted(query_ids))

    earlier = pl.col("prompt").list.slice(0, pl.col("prompt").list.len() - 1)
    contexts = [
        prompts(number, earlier).select("query_id", context=folded(all_turns()).hash())
        for number in sorted(query_ids)
    ]
    cluster = pl.Series("cluster", twin_clusters(texts))
    rows = pl.concat(contexts).with_columns(cluster)
    return rows.select("query_id", prompt=pl.struct("cluster", "context").rank("dense"))


def _reply_clusters(parts: Sequence[Part], pairs: pl.DataFrame) -> pl.DataFrame:
    """`part`, `row` and `cluster`, a number that near twins share, of the replies in these pairs."""
    sides = [pairs.select("query_id", "part", row=f"{side}_row", rank=f"{side}_rank") for side in SIDES]
    replies = pl.concat(sides).unique().sort("query_id", "rank")
    rows = dict(replies.group_by("part", maintain_order=True).agg("row").iter_rows())

    def texts() -> Iterator[pl.Series]:
        for number, places in rows.items():
            responses = parts[number].rows.select("response").collect()["response"]
            yield responses.gather(places)

    return replies.select("part", "row", cluster=pl.Series(twin_clusters(texts)))
