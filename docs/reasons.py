"""Every reason for which a row is dropped, from the filters that the code declares.

The response checks and the rules on pairs have tables of their own on the page of filters.
"""

from collections.abc import Iterable, Mapping

from almost_data import frame
from almost_data.builders import queries, responses
from almost_data.builders.admission import FAILED, order_filters
from almost_data.builders.community import builder as community
from almost_data.builders.community import votes
from almost_data.builders.comparisons import by_ratings
from almost_data.builders.comparisons.config import ComparisonsConfig
from almost_data.builders.comparisons.decisions import few_survivors
from almost_data.builders.comparisons.decontamination import contaminated
from almost_data.builders.demonstrations import builder as demonstrations
from almost_data.builders.ratings import tables as ratings
from almost_data.datasets.filters import Filter
from almost_data.readers.reasons import REASONS
from almost_data.run import importing, presets
from almost_data.training.data import RULES

Reason = tuple[str, str, str]
"""Name, sentence and source."""


def reasons() -> dict[str, list[Reason]]:
    """Where rows are dropped -> the reasons there, in their order; numbers are those of the preset `tiny`."""
    configs = presets.load("tiny").configs
    mining, playing = configs["queries"], configs["demonstrations"]
    posts = community.CommunityConfig()
    mined = order_filters(mining.max_rouge_l, mining.target)
    no_responses = frame(responses.BUILDER.tables["default"], []).lazy()
    of_rows = [FAILED, *queries._text_filters(mining), *mined]
    of_responses = [contaminated(no_responses, {}), by_ratings.UNRATED, few_survivors(ComparisonsConfig())]
    of_ratings = [*ratings.unread("response"), ratings.UNDECIDED, ratings.TIE]
    of_replies = [demonstrations.FAILED, *demonstrations._selection_filters(playing)]
    of_turns = [demonstrations._no_candidate(playing), *demonstrations.USER_TURNS]
    of_posts = [*votes.question_filters(), *votes.answer_filters(posts.answers_per_question)]
    of_posts += [*votes.pair_filters(posts.pairs_per_question, posts.sample), *community._text_filters()]
    return {
        "Rows of files": _named(REASONS),
        "Rows of files: import queries": _named(importing._QUERY_REASONS),
        "Rows of files: import responses": _named(importing._RESPONSE_REASONS),
        "queries": _of_filters(of_rows),
        "responses": _of_filters([responses.FAILED, responses.REASONING_ONLY]),
        "ratings": _of_filters(of_ratings),
        "comparisons: responses, besides the checks": _of_filters(of_responses),
        "demonstrations": _of_filters([*of_replies, *of_turns]),
        "community": _of_filters(of_posts),
        "Recipes": [(f"`{name}`", *rule) for name, rule in RULES.items()],
    }


def _named(sentences: Mapping[str, str]) -> list[Reason]:
    return [(f"`{name}`", sentence, "almost_data") for name, sentence in sentences.items()]


def _of_filters(filters: Iterable[Filter]) -> list[Reason]:
    return [(f"`{rule.name}`", rule.description, rule.source) for rule in filters]
