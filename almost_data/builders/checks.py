"""Response checks: named filters on single responses, in two sets.

`paper` is the heuristic filter of the paper, for base models that continue a prompt. `chat` is for chat
models, whose good answers end in lists, code, tables or links: the paper's check for a finished sentence
would drop most of them.
"""

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import polars as pl

from ..datasets.filters import Drop, Filter, with_reason
from ..diagnostics.scripts import SCRIPTS
from ..errors import InputError, did_you_mean
from .chat_patterns import IDENTITY, is_refusal, looks_cut

MIN_CHARS = 50
"""A response under this is dropped, in the released code."""
PAPER_SOURCE = "arXiv 2305.13735, 2.1, heuristic filter; released code"
CHAT_SOURCE = "almost_data, for chat models"

# --- the paper's ----------------------------------------------------------------------------------------
OPEN_ENDS = ["?", ":", "？", "：", "؟"]
FINAL_MARKS = [".", "!", "。", "！", "．", "।", "۔", "።", "။", "។", "։"]
DONT_KNOW = r"(?i)(don['\u2019]t|do not)\s+know"
TURN_MARKERS = ["Human:", "<Image>"]

# --- chat -----------------------------------------------------------------------------------------------
CUTOFF = (
    r"(?i)\bknowledge cut-?off\b|\bmy (last|latest|most recent) (knowledge )?(update|training)\b"
    r"|\b(as of|up to|until) my (last|latest|most recent|knowledge|training)\b"
    r"|\bmy (training data|knowledge) (only )?(goes|extends|ends|is limited|was last updated)\b"
    r"|截至我的?(知识|训练)"
)
REASONING_LEFT = r"(?is)<think>|</think>|<thinking>|</thinking>|<\|channel\|>"
MIN_PERIOD, MAX_PERIOD, REPEATS = 3, 200, 4
"""Characters of a part that makes a loop, and how often it stands at least."""
TAIL = 1_000
"""Characters at the end in which a loop is looked for."""


@functools.cache
def response_checks(min_chars: int = MIN_CHARS) -> Mapping[str, Filter]:
    """All checks by name, those of the paper first."""
    checks = [*_paper_checks(min_chars), *_chat_checks()]
    return MappingProxyType({check.name: check for check in checks})


PAPER = ("too_short", "ends_open", "starts_well", "unfinished", "dont_know", "turn_marker")
CHAT = (
    *("loop", "reasoning_left", "turn_marker", "refusal", "identity", "knowledge_cutoff", "other_language"),
    "cut_off",
)
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
            names_and_sets = [*response_checks(), *SETS]
            hint, choices = did_you_mean(name, names_and_sets), ", ".join(names_and_sets)
            raise InputError(f"comparisons.checks: no check {name!r}{hint}: choose of {choices}")
        if name in names[:place]:
            raise InputError(f"comparisons.checks: duplicate check {name!r}")
    return tuple(dict.fromkeys(check for name in names for check in SETS.get(name, (name,))))


def of_chosen(check: Filter) -> Filter:
    """A check as a rule on pairs, by which only the chosen side is judged."""

    def drop(pairs: pl.DataFrame) -> pl.Series:
        rows = pairs.select("prompt", response="chosen", finish_reason="chosen_finish_reason")
        return with_reason(rows, [check])["reason"].is_not_null()

    return replace(
        check,
        unit="pair",
        description=f"Of the chosen side only: {check.description}",
        drop=drop,
        reads=("prompt", "chosen", "chosen_finish_reason"),
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
    text, check = pl.col("response"), functools.partial(_check, CHAT_SOURCE)
    return [
        check(
            "cut_off",
            "The reply was cut at the token limit, as the engine says; where it does not say, the text ends "
            "as no finished one does: in an open code fence or bracket, a comma, a colon, or a word such as "
            '"the" or "because"; or in a letter, where the sentences before end in marks. Lists and verse '
            "may end so.",
            _is_cut,
            reads=("response", "finish_reason"),
        ),
        check("refusal", "The reply declines to answer.", is_refusal(text)),
        check(
            "identity", "The reply talks of itself as an AI, or of who made it.", text.str.contains(IDENTITY)
        ),
        check(
            "knowledge_cutoff", "The reply talks of the end of its training data.", text.str.contains(CUTOFF)
        ),
        check("loop", "The reply says the same again and again at its end.", _is_loop, reads=("response",)),
        check(
            "reasoning_left",
            "The reply holds a mark of the model's reasoning, which belongs in a column of its own.",
            text.str.contains(REASONING_LEFT),
        ),
        check(
            "other_language",
            "The reply is in another language than the prompt, which names none: its letters are of another "
            f"script, or its small words are of another of {', '.join(_SMALL_WORDS)}; no other languages in "
            "Latin script are told apart.",
            _is_other_language,
            reads=("prompt", "response"),
        ),
    ]


def _ends_with(text: pl.Expr, marks: Sequence[str]) -> pl.Expr:
    """Whether the last character is one of the marks: one look at each text, however many marks."""
    return text.str.tail(1).is_in(list(marks))


def _is_cut(rows: pl.DataFrame) -> pl.Series:
    """By `finish_reason` where it is known; else by how the text ends."""
    reason = rows["finish_reason"]
    return (reason == "length").zip_with(reason.is_not_null(), looks_cut(rows["response"]))


def _is_loop(rows: pl.DataFrame) -> pl.Series:
    """Whether a text ends in a part that is repeated four times or more."""

    def is_loop(tail: str) -> bool:
        raw = tail.encode()  # packs to less than half where it is a loop, and no refrain of a few words
        return ends_in_loop(tail) and len(set(tail)) > 3 and len(zlib.compress(raw, 1)) < 0.5 * len(raw)

    tails = rows.select(tail=pl.col("response").str.tail(TAIL)).with_row_index().filter(_may_be_loop())
    loops = [index for index, tail in tails.iter_rows() if is_loop(tail)]
    return pl.int_range(len(rows), eager=True).is_in(loops)


def _may_be_loop() -> pl.Expr:
    """Whether the last word characters of `tail` stand shortly before, as in a loop; or only marks end it."""
    tail = pl.col("tail")
    words = tail.str.replace(r"[^\p{L}\p{N}_]+$", "")
    last = 2 * MIN_PERIOD + 1
    before = words.str.tail(MAX_PERIOD + last).str.head(-1)
    is_repeated = before.str.contains(words.str.tail(last), literal=True)
    ends_in_marks = tail.str.len_chars() - words.str.len_chars() >= MIN_PERIOD * REPEATS
    return is_repeated | ends_in_marks


def ends_in_loop(text: str) -> bool:
    """Whether a part, repeated REPEATS times or more, ends the text but for marks after it."""
    for end in range(len(text), MIN_PERIOD * REPEATS - 1, -1):
        last = text[end - MIN_PERIOD : end]
        first = end - MIN_PERIOD - min(MAX_PERIOD, end // REPEATS)
        place = text.rfind(last, first, end - MIN_PERIOD)
        while place >= 0:
            period = end - MIN_PERIOD - place
            start = end - REPEATS * period
            if text[start : end - period] == text[start + period : end]:
                return True
            place = text.rfind(last, first, place + MIN_PERIOD - 1)
        if text[end - 1].isalnum() or text[end - 1] == "_":
            return False
    return False


_SMALL_WORDS = {
    "English": "an|the|and|or|of|to|on|from|for|with|that|this|it|is|are|was|be|have|has|do|does|can|could|"
    "should|would|will|not|if|me|my|you|your|what|how|why|who|when|where|which",
    "German": "der|die|das|den|dem|und|oder|nicht|ein|eine|einen|einer|von|zu|für|auf|im|bei|mit|ist|sind|"
    "kann|man|ich|sie|es|auch|wie|was|warum|wer|wo|wenn",
    "French": "le|la|les|de|du|des|un|une|et|ou|pour|dans|sur|avec|est|sont|ne|pas|ce|que|qui|quoi|je|vous|"
    "il|comment|pourquoi",
    "Spanish": "el|la|los|las|de|del|un|una|en|por|para|con|es|son|no|se|lo|que|qué|cómo|mi|tu|su",
    "Italian": "il|lo|la|gli|di|del|della|un|una|in|per|con|è|sono|non|si|che|come|perché|cosa|mi",
    "Portuguese": "os|as|de|do|da|um|uma|em|no|na|por|para|com|é|são|não|se|que|como|você",
    "Dutch": "de|het|een|en|van|in|op|voor|met|is|zijn|niet|dat|die|wat|hoe|waarom|ik|je|kan|ook|maar",
}
"""Words that most sentences of a language have some of; a word may be of several. No single plain letters,
which are also variables."""
_NAMES_A_LANGUAGE = (
    r"(?i)\btranslat|übersetz|\btradu|vertaal|翻译|翻訳|перевед|\b(english|german|french|spanish|italian|"
    r"portuguese|dutch|chinese|mandarin|japanese|korean|russian|arabic|hindi|greek|hebrew|thai|latin)\b|语|語"
)
_HEAD = 500
"""Characters by which a language is told."""


def _is_other_language(rows: pl.DataFrame) -> pl.Series:
    """Whether prompt and response are in different languages; unsure means no."""
    texts = rows.select("prompt", "response").with_row_index()
    texts = texts.filter(~pl.col("prompt").str.contains(_NAMES_A_LANGUAGE))
    # Only rows that could fall are looked at closely, as they are few.
    is_ascii = pl.all_horizontal(column.str.len_bytes() == column.str.len_chars() for column in _TEXTS)
    by_script = texts.filter(~is_ascii).filter(_is_other_script())
    heads = texts.with_columns(column.str.head(_HEAD) for column in _TEXTS)
    # The prompt has small words of a language that the response lacks. The response is of another language,
    # of which the prompt has no word: a short English question has a word or two that are Portuguese, too.
    languages = [
        (_small_words("prompt", words), _small_words("response", words)) for words in _SMALL_WORDS.values()
    ]
    lacking = pl.concat(
        heads.filter(in_prompt >= 2).filter(in_response <= 1) for in_prompt, in_response in languages
    )
    is_foreign = [(in_prompt == 0) & (in_response >= 6) for in_prompt, in_response in languages]
    by_words = lacking.unique("index").filter(pl.any_horizontal(is_foreign))
    places = pl.concat([by_script["index"], by_words["index"]])
    return pl.int_range(len(rows), dtype=pl.UInt32, eager=True).is_in(places.implode())


_TEXTS = (pl.col("prompt"), pl.col("response"))


def _small_words(column: str, words: str) -> pl.Expr:
    """How often a text has one of the words; parts of an address or a path are none."""
    return pl.col(column).str.count_matches(rf"(?i)(?:^|[^\w/.-])(?:{words})\b")


def _is_other_script() -> pl.Expr:
    """Whether most letters of the prompt are of one script, and the response has hardly any of it."""
    drop = pl.lit(False)
    prompt, response = pl.col("prompt"), pl.col("response")
    letters = {name: column.str.count_matches(r"\p{L}") for name, column in (("p", prompt), ("r", response))}
    for pattern in SCRIPTS.values():
        is_main = prompt.str.count_matches(pattern) > 0.6 * letters["p"]
        has_few = response.str.count_matches(pattern) < 0.1 * letters["r"]
        drop = drop | (is_main & has_few & (letters["p"] >= 10) & (letters["r"] >= 20))
    return drop
