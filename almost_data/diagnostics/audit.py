"""Measures of anybody's preference data: shortcuts, repeats, contradictions, and what the chosen replies say.

All rows are counted. What needs every pair of texts, or fits a model, is measured on a seeded sample of whole
prompts where the data are large, and the result says so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from ..datasets.filters import Filter, with_reason
from ..datasets.tables import last_turn
from . import shortcuts
from .contamination import search
from .overlap import near_twins
from .probe import interval
from .rules import finding, findings
from .scripts import SCRIPTS

TWIN_PROMPTS = 400_000
"""Distinct prompts among which near twins are sought, at most: 6 s, and 1.2 GB of memory."""
LONGEST = 5
EXAMPLES, EXAMPLE_CHARS = 3, 120
"""Comparisons of each fault that are named by their place, and characters that are shown of the first."""
AT_THE_END = ("cut_off", "loop")
"""Faults that are at the end of a reply."""
_NOT_OF_SAMPLE = ("repeated_prompts", "equal_sides", "empty_sides")
"""Findings on a sample that an audit makes of all rows."""


def measure(
    parts: Sequence[pl.LazyFrame],
    facts: pl.DataFrame,
    rows: int,
    left_out: Mapping[str, int],
    checks: Iterable[str],
    benchmarks: Mapping[str, list[str]],
    seed: int = 0,
) -> dict[str, Any]:
    """What an audit says, as JSON data.

    `parts` are comparisons: `place`, `query_id`, `prompt` (all turns as one text), `turns`, `has_system`,
    `chosen`, `rejected`, and the two responders, null where they are not known. `facts` are those of all,
    with the number of each one's `part`, and `checks` the measures among them that response checks make.

    `rows` were read, of which `left_out` (reason -> rows) hold no comparison; those of the reason `tie` are
    counted apart, as they are no fault. `benchmarks` are prompts by the benchmark's name.
    """
    total = len(facts)
    queries = shortcuts.draw_order(facts.group_by("query_id").agg(pairs=pl.len()), seed)
    is_sample = total > shortcuts.SAMPLE
    sampled = shortcuts.fitting_queries(queries, shortcuts.SAMPLE) if is_sample else None
    sample = pl.concat(_texts(parts, facts, sampled))
    if sample.select(pl.any_horizontal(pl.col("^.*_responder$").is_null()).any()).item():
        sample = sample.drop("chosen_responder", "rejected_responder")
    text = shortcuts.diagnose(sample.with_columns(comparison_id="place"), seed)
    prompts = _prompts(parts, facts, queries)
    text["prompts"] = copies = near_twins(prompts.unique())
    text["share_chosen_longer"] = _mean(facts["gap"] > 0)
    is_longer = (facts["gap"].sign() + 1) / 2
    text["always_longer"] = _mean(is_longer)
    text["always_longer_interval"] = list(interval(is_longer.to_numpy(), facts["query_id"]))
    # Readers leave such rows out of a file; a dataset of the store may have them.
    equal = (facts["chosen_hash"] == facts["rejected_hash"]).sum()
    text["equal_sides"] = left_out.get("equal_sides", 0) + int(equal)
    text["empty_sides"] = left_out.get("no_reply", 0) + int(facts["is_empty"].sum())
    del text["findings"]  # of the sample; those of all rows follow
    measures = [
        *_left_out(left_out, rows),
        *(_share(name, text[name], rows, "rows") for name in ("equal_sides", "empty_sides")),
        *_of_all_rows(parts, facts, checks),
        _near_copies(copies, is_sample=len(queries) > TWIN_PROMPTS),
        _only_numbers(prompts.unique()),
        *(row for row in findings(text) if row["name"] not in _NOT_OF_SAMPLE),
        *_contamination(parts, queries, benchmarks),
    ]
    return {
        "rows": rows,
        "left_out": dict(left_out),
        "comparisons": total,
        "prompts": len(queries),
        "sampled": {"texts": len(sample), "prompts": len(prompts)},
        "measures": measures,
        "turns": _shares(facts["turns"].clip(upper_bound=10)),
        "system_prompts": _mean(facts["has_system"]),
        "scripts": _scripts(prompts),
        "longest": _longest(facts),
        "text": text,
    }


def comparison_facts(part: pl.DataFrame, checks: Mapping[str, Filter]) -> pl.DataFrame:
    """A few numbers and marks of each comparison, in place of its texts.

    `checks` are response checks by the name of their measure.
    """
    no_word = pl.lit(None, pl.String)  # of how a reply ended
    replies = part.select(last_turn("messages"), context="prompt", response="chosen", finish_reason=no_word)
    replies = replies.rename({"messages": "prompt"})
    flags = {name: with_reason(replies, [check])["reason"].is_not_null() for name, check in checks.items()}
    chosen, rejected = (part[side].str.len_chars().cast(pl.Int64) for side in ("chosen", "rejected"))
    return part.select("place", "query_id", "turns", "has_system").with_columns(
        gap=chosen - rejected,
        longest=pl.max_horizontal(chosen, rejected),
        prompt_hash=part["query_id"].hash(seed=7),
        chosen_hash=part["chosen"].hash(seed=7),
        rejected_hash=part["rejected"].hash(seed=7),
        is_empty=part.select(shortcuts.HAS_EMPTY_SIDE).to_series(),
        **flags,
    )


def _left_out(left_out: Mapping[str, int], rows: int) -> list[dict[str, Any]]:
    """Rows without a comparison, all and by reason, and ties. Equal sides have a line of their own."""
    faults = {reason: count for reason, count in left_out.items() if reason != "tie"}
    return [
        _share("left_out", sum(faults.values()), rows, "rows"),
        *(
            _share("left_out", count, rows, "rows")
            | {"name": f"left_out.{reason}", "measure": f"rows left out: {reason}"}
            for reason, count in faults.items()
            if reason != "equal_sides"
        ),
        _share("ties", left_out.get("tie", 0), rows, "rows"),
    ]


def _of_all_rows(
    parts: Sequence[pl.LazyFrame], facts: pl.DataFrame, checks: Iterable[str]
) -> list[dict[str, Any]]:
    keys = ["prompt_hash", "chosen_hash", "rejected_hash"]
    distinct = facts.select(keys).unique()
    turned = distinct.select("prompt_hash", chosen_hash="rejected_hash", rejected_hash="chosen_hash")
    faults = {
        "duplicates": facts.filter(~pl.struct(keys).is_first_distinct()),
        "contradictions": facts.join(turned, on=keys, how="semi"),
        **{name: facts.filter(name) for name in checks},
    }
    first = {name: rows.select("place", "chosen_hash").row(0) for name, rows in faults.items() if len(rows)}
    texts = _first_texts(parts, set(first.values()))
    return [
        _share(name, len(rows), len(facts), "comparisons")
        | {"places": rows["place"].head(EXAMPLES).to_list()}
        | ({"example": _excerpt(name, *texts[first[name]])} if name in first else {})
        for name, rows in faults.items()
    ]


def _first_texts(
    parts: Sequence[pl.LazyFrame], comparisons: set[tuple[str, int]]
) -> dict[tuple[str, int], tuple[str, str]]:
    """(place, hash of the chosen reply) -> prompt and chosen reply."""
    texts: dict[tuple[str, int], tuple[str, str]] = {}
    places = [place for place, _ in comparisons]
    for part in parts:
        if len(texts) == len(comparisons):
            break
        rows = part.filter(pl.col("place").is_in(places)).select("place", "prompt", "chosen").collect()
        hashes = rows["chosen"].hash(seed=7)
        for (place, prompt, chosen), chosen_hash in zip(rows.iter_rows(), hashes, strict=True):
            if (place, chosen_hash) in comparisons:
                texts.setdefault((place, chosen_hash), (prompt, chosen))
    return texts


def _excerpt(fault: str, prompt: str, chosen: str) -> str:
    """The part of a comparison in which a fault is seen, on one line."""
    line = " ".join((prompt if fault in ("duplicates", "contradictions") else chosen).split())
    if len(line) <= EXAMPLE_CHARS:
        return line
    return f"…{line[-EXAMPLE_CHARS:]}" if fault in AT_THE_END else f"{line[:EXAMPLE_CHARS]}…"


def _contamination(
    parts: Sequence[pl.LazyFrame], queries: pl.DataFrame, benchmarks: Mapping[str, list[str]]
) -> Iterator[dict[str, Any]]:
    """The comparisons whose prompt overlaps with a prompt of a benchmark."""
    if not benchmarks:
        return
    total = int(queries["pairs"].sum())
    chunks = (part.select("query_id", "prompt").collect() for part in parts)
    for counts, ids in search(chunks, benchmarks):
        name = counts["benchmark"]
        pairs = queries.filter(pl.col("query_id").is_in(list(ids)))["pairs"].sum()
        row = _share("contamination", int(pairs), total, "comparisons")
        yield row | {
            "name": f"contamination.{name}",
            "measure": f"comparisons whose prompt has half of a prompt of {name}, or more",
        }


def _share(name: str, count: int, total: int, unit: str = "") -> dict[str, Any]:
    share = count / max(1, total)
    return finding(name, f"{share:.1%} ({count:,} of {total:,}{unit and ' ' + unit})", share)


def _texts(
    parts: Sequence[pl.LazyFrame], facts: pl.DataFrame, query_ids: pl.Series | None
) -> Iterator[pl.DataFrame]:
    """The comparisons of these queries, or all, a part at a time."""
    if query_ids is None:
        yield from (part.collect() for part in parts)
        return
    # A part is searched for its own queries only: a set of all would be made anew for each part.
    is_chosen = pl.col("query_id").is_in(query_ids.implode())
    chosen = facts.select("part", "query_id").filter(is_chosen).unique()
    for number, part in enumerate(parts):
        ids = chosen.filter(pl.col("part") == number)["query_id"]
        yield part.filter(pl.col("query_id").is_in(ids.implode())).collect()


def _prompts(parts: Sequence[pl.LazyFrame], facts: pl.DataFrame, queries: pl.DataFrame) -> pl.Series:
    """The prompts of all queries, or of the first `TWIN_PROMPTS`."""
    is_sample = len(queries) > TWIN_PROMPTS
    sampled = queries["query_id"].head(TWIN_PROMPTS) if is_sample else None
    frames = _texts([part.select("query_id", "prompt") for part in parts], facts, sampled)
    texts = pl.concat(frame.unique("query_id") for frame in frames)
    return texts.unique("query_id").sort("query_id")["prompt"]


def _near_copies(twins: Mapping[str, Any], is_sample: bool) -> dict[str, Any]:
    """Prompts that could go; in a sample, some copies have lost their original."""
    row = _share("near_copies", twins["near_copies"], twins["texts"], "prompts")
    return row | {"value": f"at least {row['value']}"} if is_sample else row


def _only_numbers(texts: pl.Series) -> dict[str, Any]:
    """Prompts that are an earlier one with other numbers."""
    distinct = texts.str.replace_all(r"\d+", "0").n_unique()
    row = _share("only_numbers", len(texts) - distinct, len(texts), "prompts")
    return row | {"value": f"{row['value']}; without them {distinct:,} are left"} if row["number"] else row


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).to_numpy().mean()) if len(values) else 0.0


def _shares(values: pl.Series) -> dict[str, float]:
    """Value -> share, by value."""
    counts = values.value_counts(sort=False, name="rows").sort(values.name)
    return {str(value): rows / len(values) for value, rows in counts.iter_rows()}


def _scripts(prompts: pl.Series) -> dict[str, float]:
    """Script -> share of the prompts most of whose letters are in it."""
    prompts = prompts.sample(min(len(prompts), shortcuts.SAMPLE), seed=0)
    letters = prompts.str.count_matches(r"\p{L}")
    shares = {
        name: _mean((prompts.str.count_matches(script) > 0.5 * letters) & (letters > 0))
        for name, script in SCRIPTS.items()
    }
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share}


def _longest(facts: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows with the longest reply."""
    top = facts.top_k(LONGEST, by=["longest", "place"], reverse=[False, True])
    top = top.sort("longest", "place", descending=[True, False])
    return top.select("place", characters="longest").rows(named=True)
