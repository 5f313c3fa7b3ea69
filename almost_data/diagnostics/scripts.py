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
    **{
        name: rf"\p{{{name}}}"
        for name in (
            *(
                "Bengali",
                "Tamil",
                "Telugu",
                "Kannada",
                "Malayalam",
                "Gujarati",
                "Gurmukhi",
                "Sinhala",
                "Georgian",
            ),
            *("Armenian", "Ethiopic", "Myanmar", "Khmer", "Lao", "Tibetan", "Mongolian"),
        )
    },
}
FINAL_MARKS = [".", "!", "。", "！", "．", "।", "۔", "።", "။", "។", "։"]
"""What a sentence ends in, other than a question."""
