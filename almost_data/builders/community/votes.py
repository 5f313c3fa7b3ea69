"""Pairs of answers by their votes: what `community` decides before it reads any text.

Frames have a row per question, answer or pair: ids, numbers, and the `reason` why it is dropped.
Sites are numbered by name, and every draw is by seed and name, so the order of the source decides nothing.
"""

from array import array
from typing import Any

import numpy as np
import polars as pl

from ...datasets.builder import row_seed
from ...datasets.filters import Filter, first_reason
from ...errors import InputError
from ...readers.stackexchange import Posts, Tick

OURS = "almost_data"
ASKELL = "Askell et al. 2021"
QUESTION = ["site", "question"]
_PAIR = ["chosen", "rejected"]
PAIR_COLUMNS = [*QUESTION, *_PAIR, "chosen_score", "rejected_score", "reason"]


def read_votes(posts: Posts, source: str, tick: Tick) -> tuple[list[str], pl.DataFrame, pl.DataFrame]:
    """Sites by name, questions and answers, without texts. Raises InputError for a duplicate id."""
    site_numbers: dict[str, int] = {}  # in the order of their first posts; sorted by name below
    names = ("site", "question", "answer", "score", "accepted", "blank")
    columns = {name: array("b" if name == "blank" else "q") for name in names}
    for post in posts(tick):
        row = (
            site_numbers.setdefault(post.site, len(site_numbers)),
            post.id if post.question is None else post.question,
            -1 if post.question is None else post.id,
            post.score,
            -1 if post.accepted is None else post.accepted,
            not (post.html.strip() or post.title.strip()),
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    types = {"b": np.int8, "q": np.int64}
    frame = pl.DataFrame({name: np.frombuffer(c, types[c.typecode]) for name, c in columns.items()})
    sites = sorted(site_numbers)
    sorted_numbers = {site_numbers[name]: place for place, name in enumerate(sites)}
    frame = frame.with_columns(
        pl.col("blank") == 1, pl.col("site").replace_strict(sorted_numbers, return_dtype=pl.Int32)
    )
    is_answer = pl.col("answer") >= 0
    post_id = pl.when(is_answer).then("answer").otherwise("question")
    ids = frame.select("site", id=post_id)
    if (duplicates := ids.filter(ids.is_duplicated())).height:
        site, number = duplicates.sort("site", "id").row(0)
        raise InputError(f"{source}: two posts of {sites[site]} have the id {number}: give each post once")
    questions = frame.filter(~is_answer).select(*QUESTION, "accepted", "blank")
    return sites, questions, frame.filter(is_answer).drop("accepted")


def answer_filters(answers_per_question: int) -> list[Filter]:
    def rule(name: str, description: str, drop: pl.Expr, **params: Any) -> Filter:
        return Filter(name, "response", description, OURS, drop, params)

    return [
        rule("no_question", "Its question is not in the source, or has no text.", ~pl.col("has_question")),
        rule("empty_answer", "It has no text.", pl.col("blank")),
        rule("only_answer", "Its question has no other answer with text.", pl.col("usable") < 2),
        rule(
            "over_answers",
            f"Its question has more than {answers_per_question} answers, and the draw did not take it.",
            pl.col("place") > answers_per_question,
            answers_per_question=answers_per_question,
        ),
    ]


def question_filters() -> list[Filter]:
    return [
        Filter("empty_question", "query", "It has neither title nor text.", OURS, pl.col("blank")),
        Filter(
            "few_answers", "query", "It has fewer than two answers with text.", OURS, pl.col("usable") < 2
        ),
    ]


def decide(
    questions: pl.DataFrame, answers: pl.DataFrame, sites: list[str], *, answers_per_question: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Questions and answers with their `reason`, and the answers' `score` with the bonus of the accepted."""
    with_text = questions.select(*QUESTION, "accepted", has_question=~pl.col("blank"))
    answers = answers.join(with_text, on=QUESTION, how="left").with_columns(
        pl.col("has_question").fill_null(False),
        score=pl.col("score") + (pl.col("answer") == pl.col("accepted")).fill_null(False),
    )
    is_usable = pl.col("has_question") & ~pl.col("blank")
    answers = answers.with_columns(usable=is_usable.sum().over(QUESTION), place=pl.lit(0))
    is_crowded = is_usable & (pl.col("usable") > answers_per_question)
    crowded = _placed(answers.filter(is_crowded), sites, ["answer"], seed, "community.answers")
    answers = pl.concat([crowded, answers.filter(~is_crowded)], how="diagonal_relaxed")
    answers = answers.with_columns(reason=first_reason(answer_filters(answers_per_question)))
    counts = answers.group_by(QUESTION).agg(pl.col("usable").first())
    questions = questions.join(counts, on=QUESTION, how="left").with_columns(pl.col("usable").fill_null(0))
    return questions.with_columns(reason=first_reason(question_filters())), answers


def pair_filters(pairs_per_question: int | None, sample: int | None) -> list[Filter]:
    """The rules that need no text, in their order. What is None is left out."""
    rules = [
        Filter(
            "equal_score",
            "pair",
            "Both answers have the same score, so neither is the better one.",
            ASKELL,
            pl.col("chosen_score") == pl.col("rejected_score"),
        )
    ]
    if pairs_per_question is not None:
        rules.append(
            Filter(
                "over_bound",
                "pair",
                f"A question has at most {pairs_per_question} pairs, drawn by seed, so that none dominates.",
                OURS,
                params={"pairs_per_question": pairs_per_question},
            )
        )
    if sample is not None:
        rules.append(
            Filter(
                "not_sampled",
                "pair",
                f"At most {sample:,} pairs are taken, drawn by seed from the remaining ones.",
                "arXiv 2305.13735, 2.1",
                params={"sample": sample},
            )
        )
    return rules


def pair_up(
    answers: pl.DataFrame, sites: list[str], *, pairs_per_question: int | None, sample: int | None, seed: int
) -> pl.DataFrame:
    """Every pair of answers of a question, the higher score as `chosen`, with the reason why it is dropped.

    Of equal scores, for which a pair is dropped, the older answer is `chosen`.
    """
    chosen = answers.select(*QUESTION, chosen="answer", chosen_score="score")
    rejected = answers.select(*QUESTION, rejected="answer", rejected_score="score")
    pairs = chosen.lazy().join(rejected.lazy(), on=QUESTION)
    better = pl.col("chosen_score") > pl.col("rejected_score")
    equal = pl.col("chosen_score") == pl.col("rejected_score")
    pairs = pairs.filter(better | (equal & (pl.col("chosen") < pl.col("rejected"))))
    all_pairs = pairs.with_columns(pl.col("chosen_score", "rejected_score").cast(pl.Int8)).collect()
    kept = all_pairs.filter(~equal)
    parts = [all_pairs.filter(equal).with_columns(reason=pl.lit("equal_score"))]
    if pairs_per_question is not None:
        kept = _placed(kept, sites, _PAIR, seed, "community.pairs")
        is_over = pl.col("place") > pairs_per_question
        parts.append(kept.filter(is_over).with_columns(reason=pl.lit("over_bound")))
        kept = kept.filter(~is_over).drop("place", "draw")
    # The sample has its own draw: sorted by the bound's, it would favour questions with many pairs.
    if sample is not None and len(kept) > sample:
        kept = kept.with_columns(draw=_draws(kept, sites, _PAIR, seed, "community.sample"))
        kept = kept.sort("draw", "site", *_PAIR)
        parts.append(kept[sample:].with_columns(reason=pl.lit("not_sampled")))
        kept = kept[:sample]
    parts.append(kept.with_columns(reason=pl.lit(None, pl.String)))
    return pl.concat([part.select(*PAIR_COLUMNS) for part in parts])


def _draws(rows: pl.DataFrame, sites: list[str], ids: list[str], seed: int, purpose: str) -> pl.Series:
    """A random number for each row, seeded by its site and ids, so that the order of rows does not matter."""
    names = (
        f"{sites[site]}/{'-'.join(map(str, post_ids))}"
        for site, *post_ids in rows.select("site", *ids).iter_rows()
    )
    return pl.Series(np.fromiter((row_seed(seed, purpose, name) for name in names), np.int64, len(rows)))


def _placed(rows: pl.DataFrame, sites: list[str], ids: list[str], seed: int, purpose: str) -> pl.DataFrame:
    """The rows with their `place` (from 1) in a random order of the rows of their question."""
    rows = rows.with_columns(draw=_draws(rows, sites, ids, seed, purpose)).sort(*QUESTION, "draw", *ids)
    return rows.with_columns(place=pl.int_range(1, pl.len() + 1).over(QUESTION).cast(pl.Int32))
