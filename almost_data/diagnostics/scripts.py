"""Scripts by the pattern of their letters, as Polars reads it."""

SCRIPTS = {
    "Latin": r"\p{Latin}",
    "Chinese or Japanese": r"[\p{Han}\p{Hiragana}\p{Katakana}]",
    "Korean": r"\p{Hangul}",
    "Cyrillic": r"\p{Cyrillic}",
    "Arabic": r"\p{Arabic}",
    "Devanagari": r"\p{Devanagari}",
    "Thai": r"\p{Thai}",
    "Greek": r"\p{Greek}",
    "Hebrew": r"\p{Hebrew}",
}
