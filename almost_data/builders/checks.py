"""Response checks: named filters on single responses, in two sets.

`paper` is the heuristic filter of the paper, for base models that continue a prompt. `chat` is for chat
models, whose good answers end in lists, code, tables or links: the paper's check for a finished sentence
would drop most of them.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import polars as pl

from ..datasets.filters import Drop, Filter, with_reason
from ..diagnostics.scripts import FINAL_MARKS
from ..errors import InputError, did_you_mean
from .chat_checks.cut_text import looks_cut
from .chat_checks.languages import SMALL_WORDS, is_other_language
from .chat_checks.leftovers import holds_reasoning, runs_on
from .chat_checks.loops import is_loop
from .chat_checks.refusals import is_refusal
from .chat_checks.self_talk import is_cutoff, is_identity

MIN_CHARS = 50
"""A response under this is dropped, in the released code."""
PAPER_SOURCE = "arXiv 2305.13735, 2.1, heuristic filter; released code"
CHAT_SOURCE = "almost_data, for chat models"

# --- the paper's ----------------------------------------------------------------------------------------
OPEN_ENDS = ["?", ":", "？", "：", "؟"]
DONT_KNOW = r"(?i)(don['\u2019]t|do not)\s+know"
TURN_MARKERS = ["Human:", "<Image>"]


@functools.cache
def response_checks(min_chars: int = MIN_CHARS) -> Mapping[str, Filter]:
    """All checks by name, those of the paper first."""
    checks = [*_paper_checks(min_chars), *_chat_checks()]
    return MappingProxyType({check.name: check for check in checks})


PAPER = ("too_short", "ends_open", "starts_well", "unfinished", "dont_know", "turn_marker")
CHAT = (
    *("loop", "reasoning_left", "next_turn", "refusal", "identity", "knowledge_cutoff", "other_language"),
    "cut_off",
)
IN_SHORT = {
    "too_short": "under 50 characters",
    "ends_open": "ends in ? or :",
    "starts_well": 'begins with "well"',
    "unfinished": "ends in no . or !",
    "dont_know": 'says "don\'t know"',
    "turn_marker": "has Human: in it",
    "cut_off": "was cut",
    "refusal": "declines to answer",
    "identity": "talks of itself as an AI",
    "knowledge_cutoff": "talks of the end of its training data",
    "loop": "repeats itself",
    "reasoning_left": "shows marks of reasoning",
    "next_turn": "goes on with the next turn",
    "other_language": "is in another language than the prompt",
}
"""What a reply does that the check drops, for help and errors."""
SETS: dict[str, tuple[str, ...]] = {"paper": PAPER, "chat": CHAT, "none": ()}


def check_names(checks: str | Sequence[str]) -> tuple[str, ...]:
    """The checks that are named one by one or by a set, also with commas between, each once.

    Raises InputError for a word that is named twice, or names none.
    """
    if isinstance(checks, str) and checks in SETS:
        return SETS[checks]
    names = tuple(name.strip() for name in checks.split(",")) if isinstance(checks, str) else tuple(checks)
    for place, name in enumerate(names):
        if name == "none":
            raise InputError("comparisons.checks: none is the set without a check: name it alone")
        if name not in response_checks() and name not in SETS:
            hint = did_you_mean(name, [*response_checks(), *SETS])
            described = ", ".join(f"{check} ({phrase})" for check, phrase in IN_SHORT.items())
            choices = f"{', '.join(SETS)} (sets), {described}"
            raise InputError(f"comparisons.checks: no check {name!r}{hint}: choose of {choices}")
        if name in names[:place]:
            raise InputError(f"comparisons.checks: duplicate check {name!r}")
    return tuple(dict.fromkeys(check for name in names for check in SETS.get(name, (name,))))


def of_chosen(check: Filter) -> Filter:
    """A check as a rule on pairs, by which only the chosen side is judged."""

    turns = [name for name in ("prompt", "context") if name in check.reads]

    def drop(pairs: pl.DataFrame) -> pl.Series:
        rows = pairs.select(*turns, response="chosen", finish_reason="chosen_finish_reason")
        return with_reason(rows, [check])["reason"].is_not_null()

    return replace(
        check,
        unit="pair",
        description=f"Of the chosen side only: {check.description}",
        drop=drop,
        reads=(*turns, "chosen", "chosen_finish_reason"),
    )


def _check(
    source: str, name: str, description: str, drop: Drop, reads: tuple[str, ...] = (), **params: Any
) -> Filter:
    """`reads` names the columns that a function reads; an expression names its own."""
    return Filter(name, "response", description, source, drop, params, reads)


def _paper_checks(min_chars: int) -> list[Filter]:
    """The heuristic filter on single responses (paper 2.1, appendix B; lists as in the released code)."""
    text, check = pl.col("response"), functools.partial(_check, PAPER_SOURCE)
    return [
        check(
            "too_short",
            f"A response under {min_chars} characters is most often a failed generation.",
            text.str.len_chars() < min_chars,
            min_chars=min_chars,
        ),
        check(
            "ends_open",
            "A response that ends in a question mark or a colon asks back or stops before its point.",
            _ends_with(text, OPEN_ENDS),
            ends=OPEN_ENDS,
        ),
        check(
            "starts_well",
            'A response that starts with "well", in any case, tends to ramble or evade.',
            text.str.head(4).str.to_lowercase() == "well",
            start="well",
        ),
        check(
            "unfinished",
            "A response whose last character is neither a full stop nor an exclamation mark was cut off.",
            ~_ends_with(text, FINAL_MARKS),
            ends=FINAL_MARKS,
        ),
        check(
            "dont_know",
            'A response that says "don\'t know" or "do not know", in any case, does not answer.',
            text.str.contains(DONT_KNOW),
            phrases=["don't know", "do not know"],
        ),
        check(
            "turn_marker",
            "A response with `Human:` or `<Image>` in it, in any case, runs into another turn or document.",
            text.str.contains_any(TURN_MARKERS, ascii_case_insensitive=True),
            markers=TURN_MARKERS,
        ),
    ]


def _chat_checks() -> list[Filter]:
    """Checks for the answers of chat models, in any script."""
    check = functools.partial(_check, CHAT_SOURCE)
    return [
        check(
            "cut_off",
            "The reply was cut at the token limit, as the engine says; where it does not say, the text ends "
            "as no finished one does: in an open fence, formula, bracket or row of a table, an empty item, a "
            'comma, a colon, or a word such as "the" or "because"; or in a letter, where the sentences '
            "before end in marks. Lists and verse may end so.",
            _is_cut,
            reads=("response", "finish_reason"),
        ),
        check("refusal", "The reply declines to answer.", is_refusal, reads=("prompt", "response")),
        check(
            "identity",
            "The reply talks of itself as an AI, or of who made it.",
            is_identity,
            reads=("response",),
        ),
        check(
            "knowledge_cutoff",
            "The reply talks of the end of its training data.",
            is_cutoff,
            reads=("response",),
        ),
        check(
            "loop",
            "The reply says the same again and again: at its end, in a long line, or in lines that differ in "
            "their numbers only.",
            is_loop,
            reads=("response",),
        ),
        check(
            "reasoning_left",
            "The reply holds a mark of the model's reasoning, which belongs in a column of its own.",
            holds_reasoning,
            reads=("prompt", "response"),
        ),
        check(
            "next_turn",
            "The reply goes on with a turn of the user, such as `Human:` at the start of a line, or holds a "
            "token of a chat template.",
            runs_on,
            reads=("prompt", "response"),
        ),
        check(
            "other_language",
            "The reply is in another language than the prompt, and no turn before it names a language: its "
            f"letters are of another script, or its small words are of another of {len(SMALL_WORDS)} "
            "languages in Latin script.",
            is_other_language,
            reads=("prompt", "context", "response"),
        ),
    ]


def _ends_with(text: pl.Expr, marks: Sequence[str]) -> pl.Expr:
    """Whether the last character is one of the marks: one look at each text, however many marks."""
    return text.str.tail(1).is_in(list(marks))


def _is_cut(rows: pl.DataFrame) -> pl.Series:
    """By `finish_reason` where it is known; else by how the text ends."""
    rows = rows.select("finish_reason", "response").with_row_index()
    unknown = rows.filter(pl.col("finish_reason").is_null())
    cut = unknown["index"].filter(looks_cut(unknown["response"]))
    return (rows["finish_reason"] == "length").fill_null(False) | rows["index"].is_in(cut.implode())
