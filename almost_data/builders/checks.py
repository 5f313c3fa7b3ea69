"""Response checks: filters on single responses, with the paper's thresholds in the table above the code."""

from typing import Any

import polars as pl

from ..datasets.filters import Filter

DONT_KNOW = r"(?i)(don['\u2019]t|do not)\s+know"
TURN_MARKERS = ["Human:", "<Image>"]
MIN_CHARS = 50
"""A response under this is dropped, in the released code."""


def response_checks(min_chars: int) -> list[Filter]:
    """The heuristic filter on single responses (paper 2.1, appendix B; lists as in the released code)."""
    text = pl.col("response")
    source = "paper 2.1, heuristic filter; released code"

    def check(name: str, description: str, drop: pl.Expr, **params: Any) -> Filter:
        return Filter(name, "response", description, source, drop, params)

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
            text.str.ends_with("?") | text.str.ends_with(":"),
            ends=["?", ":"],
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
            ~(text.str.ends_with(".") | text.str.ends_with("!")),
            ends=[".", "!"],
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
