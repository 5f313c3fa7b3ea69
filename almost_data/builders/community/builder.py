"""Community: as-is comparisons of Stack Exchange answers by their votes, to train the As-is RM on.

A source is read twice: first the ids and scores of all posts, to choose the pairs (`votes`), then the texts
of those pairs. The prompt is the question's title, an empty line and its body; the responses are two of its
answers. HTML becomes Markdown (`html_text`).

The paper takes 20k pairs of StackExchange, scored as by Askell et al. What it leaves open is decided here:
- any two answers of a question with different scores are a pair; a seeded draw bounds the pairs of a
  question, so that none dominates, and a second draw makes the sample;
- rows in the Hub's layout have scores (`pm_score`, acceptance included) and no titles.
"""

from functools import partial
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from ...cards.figures import comparison_figures
from ...datasets.builder import Builder, Built, Parents, Progress, text_id
from ...datasets.config import Config, Positive, Source
from ...datasets.digest import Rows
from ...datasets.filters import Filter, account, chain, chain_stages, count_reasons, first_reason
from ...datasets.ledger import Entry
from ...diagnostics.shortcuts import diagnose, plain
from ...errors import InputError
from ...generation import Generator
from ...readers.html_text import MOST_CHARS, MOST_DEPTH, to_text
from ...readers.layout import SIDES
from ...readers.stackexchange import SITE, Posts, Tick, reading, record, site_of
from . import votes
from .rows import POSTS, comparisons, rejected
from .tables import TABLES

# The Hub has no name for 2.5, which allows its adaptations to be under 3.0.
_VERSIONS = {f"CC BY-SA {n}": f"cc-by-sa-{max(n, '3.0')}" for n in ("2.5", "3.0", "4.0")}


def _none() -> None:
    """None by a default factory: cards name deviations from plain defaults only, which are the paper's."""


class CommunityConfig(Config, frozen=True, kw_only=True):
    """The sample's size is the paper's (2.1); the bounds are ours."""

    source: Source | None = msgspec.field(default_factory=_none)
    """Posts.xml, a packed dump, rows in the Hub's layout, or a Hub id."""
    site: (
        Annotated[
            str,
            Meta(pattern=f"^{SITE}$", description="the address of a site, such as beer.stackexchange.com"),
        ]
        | None
    ) = msgspec.field(default_factory=_none)
    """Address of a dump's site, such as `beer.stackexchange.com`; `none` takes it from an archive's name."""
    answers_per_question: Annotated[int, Meta(ge=2, le=1000)] = 50
    """A question with more answers is paired from as many, drawn by seed."""
    pairs_per_question: Positive | None = 4
    """Comparisons that a question can have, drawn by seed; `none` takes all."""
    sample: Positive | None = 20_000
    """Comparisons drawn from all; `none` takes all."""
    seed: int = 0
    """Seed of these draws."""


def build(config: CommunityConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Choose pairs by the scores of their answers, then read the texts of those pairs and filter by them."""
    source = str(config.source)
    with reading(source, site_of(source, config.site)) as posts:
        sites, questions, answers = votes.read_votes(posts, source, partial(progress, "votes", tokens=0))
        questions, answers = votes.decide(
            questions, answers, sites, answers_per_question=config.answers_per_question, seed=config.seed
        )
        pairs = votes.pair_up(
            answers.filter(pl.col("reason").is_null()),
            sites,
            pairs_per_question=config.pairs_per_question,
            sample=config.sample,
            seed=config.seed,
        )
        chosen_pairs = pairs.filter(pl.col("reason").is_null())
        texts = _texts(posts, chosen_pairs, sites, source, partial(progress, "texts", tokens=0))
    candidates = _with_texts(chosen_pairs, texts).with_columns(reason=first_reason(_text_filters()))
    kept = candidates.filter(pl.col("reason").is_null())
    dropped = pl.concat([pairs, candidates.select(votes.PAIR_COLUMNS)]).filter(pl.col("reason").is_not_null())
    ledger = _ledger(config, questions, answers, dropped, len(pairs))
    if not account(ledger) and kept.is_empty():
        raise InputError(f"{source}: it has no posts")
    dropped_rows = {"rejected": dropped, "rejected_responses": answers, "rejected_queries": questions}
    stages = {entry.filter: entry.stage for entry in ledger}
    query_ids = candidates.select(*votes.QUESTION, "query_id").unique(votes.QUESTION)
    tables: dict[str, Rows] = {}
    for name, rows in dropped_rows.items():
        if rows["reason"].count():
            tables[name] = rejected(name, rows, query_ids, sites, stages)
    if kept.is_empty():
        return Built(tables, ledger, {})
    default = comparisons(kept, sites)
    diagnostics = _diagnostics(kept, len(questions), len(answers), sites)
    return Built({"default": default, **tables}, ledger, diagnostics | {"text": diagnose(plain(default))})


def _texts(posts: Posts, pairs: pl.DataFrame, sites: list[str], source: str, tick: Tick) -> pl.DataFrame:
    """Text, address, author and licence of the questions and answers that the pairs need."""
    ids = [pairs.select("site", id=column) for column in POSTS]
    needed = set(pl.concat(ids).unique().iter_rows())
    places = {name: place for place, name in enumerate(sites)}
    rows = []
    for post in posts(tick):
        key = (places.get(post.site), post.id)
        if key in needed:
            text = to_text(post.html)
            if text is not None and post.title.strip():
                text = f"{' '.join(post.title.split())}\n\n{text}".strip()
            rows.append((*key, text, post.url, post.author, post.license))
    if len(rows) < len(needed):
        raise InputError(f"{source}: changed while it was read: run again")
    columns = {"site": pl.Int32, "id": pl.Int64, "text": pl.String, "url": pl.String}
    return pl.DataFrame(rows, {**columns, "author": pl.String, "license": pl.String}, orient="row")


def _with_texts(pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """The pairs with the texts and authors of their three posts, and their query_ids."""
    names = ("text", "url", "author", "license")
    for post in POSTS:
        renamed = texts.rename({"id": post, **{name: f"{post}_{name}" for name in names}})
        pairs = pairs.join(renamed, on=["site", post], how="left")
    questions = pairs.select(*votes.QUESTION, "question_text").unique(votes.QUESTION).sort(votes.QUESTION)
    ids = [None if text is None else text_id(text) for text in questions["question_text"]]
    questions = questions.with_columns(query_id=pl.Series(ids, dtype=pl.String))
    questions = questions.with_columns(repeated=pl.int_range(pl.len()).over("query_id") > 0)
    return pairs.join(questions.drop("question_text"), on=votes.QUESTION, how="left")


def _text_filters() -> list[Filter]:
    def rule(name: str, description: str, drop: pl.Expr) -> Filter:
        return Filter(name, "pair", description, votes.OURS, drop)

    texts = [pl.col(f"{post}_text") for post in POSTS]
    return [
        rule(
            "unreadable",
            f"HTML over {MOST_CHARS:,} characters or nested over {MOST_DEPTH} deep is no text.",
            pl.any_horizontal(text.is_null() for text in texts),
        ),
        rule(
            "empty_text",
            "Question or answer is empty once it is text, as where it was an image.",
            pl.any_horizontal(text == "" for text in texts),
        ),
        rule(
            "duplicate_query",
            "An earlier question has the same text, and is the same query.",
            pl.col("repeated"),
        ),
        rule(
            "same_text", "Both answers are the same text.", pl.col("chosen_text") == pl.col("rejected_text")
        ),
    ]


def _ledger(
    config: CommunityConfig, questions: pl.DataFrame, answers: pl.DataFrame, dropped: pl.DataFrame, pairs: int
) -> list[Entry]:
    of_answers = votes.answer_filters(config.answers_per_question)
    of_pairs = {
        "pairs": votes.pair_filters(config.pairs_per_question, config.sample),
        "texts": _text_filters(),
    }
    return [
        *chain("questions", votes.question_filters(), len(questions), count_reasons(questions["reason"])),
        *chain("answers", of_answers, len(answers), count_reasons(answers["reason"])),
        *chain_stages(of_pairs, pairs, count_reasons(dropped["reason"])),
    ]


def _diagnostics(kept: pl.DataFrame, questions: int, answers: int, sites: list[str]) -> dict[str, Any]:
    """Lengths, gaps of the scores, comparisons per question and licences of the pairs that are kept."""
    lengths = {side: pl.col(f"{side}_text").str.len_chars() for side in SIDES}
    columns = {
        "comparisons": pl.len(),
        "share_chosen_longer": (lengths["chosen"] > lengths["rejected"]).mean(),
        "share_equal_length": (lengths["chosen"] == lengths["rejected"]).mean(),
        "mean_chosen_chars": lengths["chosen"].mean(),
        "mean_rejected_chars": lengths["rejected"].mean(),
    }
    gap = pl.col("chosen_score") - pl.col("rejected_score")
    per_query = kept["query_id"].value_counts(sort=True)["count"]
    posts = [
        kept.select(pl.col(f"{post}_{name}").alias(name) for name in ("url", "license")) for post in POSTS
    ]
    licenses = pl.concat(posts).unique("url")["license"].fill_null("unknown").value_counts().sort("license")
    return {
        **kept.select(**columns).row(0, named=True),
        "mean_prompt_chars": kept["question_text"].str.len_chars().mean(),
        "queries": questions,
        "answers": answers,
        "queries_with_a_comparison": len(per_query),
        "comparisons_per_query": len(kept) / len(per_query),
        "most_comparisons_of_a_query": per_query.max(),
        "score_gaps": kept.group_by(gap=gap).agg(**columns).sort("gap").to_dicts(),
        "sites": sites,
        "licenses": licenses.to_dicts(),
        "license": _license(licenses["license"].to_list()),
    }


def _license(licenses: list[str]) -> str:
    """The licence of the whole, as the Hub spells it: each version allows adaptations under later ones.

    >>> _license(["CC BY-SA 2.5", "CC BY-SA 3.0", "unknown"]), _license(["all rights reserved"])
    ('cc-by-sa-4.0', 'other')
    """
    if not set(licenses) <= {*_VERSIONS, "unknown"}:
        return "other"
    latest = max(licenses)  # "unknown" sorts last
    return _VERSIONS.get(latest, "cc-by-sa-4.0")


def _pins(config: CommunityConfig, generator: Generator) -> dict[str, Any]:
    """The hash or commit of the source, and the site of a dump."""
    if config.source is None:
        raise InputError("community.source: give Posts.xml, a packed dump, or a Hub dataset")
    return {"file": record(config.source), "site": site_of(config.source, config.site)}


BUILDER = Builder(
    name="community",
    doc="As-is comparisons of Stack Exchange answers by their votes.",
    config=CommunityConfig,
    tables=TABLES,
    build=build,
    uses_engine=False,
    pins=_pins,
    flags=("source", "site"),
    tags=("preference", "reward-model", "stack-exchange", "almost"),
    card="community.md.jinja",
    figures=comparison_figures,
)
