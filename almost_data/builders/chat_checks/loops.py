"""Whether a reply says the same again and again: at its end, in a line that comes back, or in numbered lines.

Data repeat, too: a part of digits or signs must be repeated for longer than one of words.
"""

import re
import zlib

import polars as pl

MIN_PERIOD, MAX_PERIOD, REPEATS = 3, 200, 4
"""Characters of a part that makes a loop, and how often it stands at least."""
TAIL = 1_000
"""Characters at the end in which a loop is looked for."""
WORDS, CODE, SIGNS, SIGN_LINES = 100, 400, 250, 900
"""Bytes that a loop has at least: of words; of words among signs of code; of signs and digits, on a line and
on several."""
LONG_LINE = 80
"""Bytes of a line that makes a loop wherever it stands REPEATS times."""
LINES, LINE_WORDS = 8, 4
"""Lines at the end that differ in their number or label only, and the words that each has."""
WIDE_LINE = 24
"""Bytes that stand for so many words where none are parted by blanks."""
_LINE_TAIL = 4_000
_LABEL = r"(?m)^[^\p{L}\p{N}]*(?:\p{N}+|\p{Lu}|Step \p{N}+)?[^\p{L}\p{N}]*"
"""What stands before the text of a numbered line."""
_WORD = re.compile(r"[^\W\d_]{3,}|[^\x00-\u02ff\W\d_]|[^\W\d_] [^\W\d_] ")
_CODE = re.compile(r"[{}\[\]\"|<>]")
_LINE_OF_DATA = r"[|{}<>=\[\]();]"


def is_loop(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` is a loop."""
    texts = rows.select(text="response").with_row_index()
    tails = texts.select("index", tail=pl.col("text").str.tail(TAIL)).filter(_may_be_loop())
    places = [index for index, tail in tails.iter_rows() if _is_looped(tail)]
    is_repeated = texts["index"].is_in(_repeated_lines(texts).implode())
    return pl.int_range(len(rows), eager=True).is_in(places) | is_repeated


def _is_looped(tail: str) -> bool:
    raw = tail.encode()  # packs to less than half where it is a loop, and no refrain of a few words
    loop = find_loop(tail) if len(set(tail)) > 3 else None
    return loop is not None and len(zlib.compress(raw, 1)) < 0.5 * len(raw) and _is_long(*loop)


def _is_long(part: str, repeats: str) -> bool:
    """Whether a loop is longer than data of its kind are."""
    size = len(repeats.encode())
    if _WORD.search(part):
        return size >= (CODE if _CODE.search(part) else WORDS)
    return size >= (SIGN_LINES if "\n" in part else SIGNS)


def _may_be_loop() -> pl.Expr:
    """Whether the last word characters of `tail` stand shortly before, as in a loop; or only marks end it."""
    tail = pl.col("tail")
    words = tail.str.replace(r"[^\p{L}\p{N}_]+$", "")
    last = 2 * MIN_PERIOD + 1
    before = words.str.tail(MAX_PERIOD + last).str.head(-1)
    is_repeated = before.str.contains(words.str.tail(last), literal=True)
    ends_in_marks = tail.str.len_chars() - words.str.len_chars() >= MIN_PERIOD * REPEATS
    return is_repeated | ends_in_marks


def find_loop(text: str) -> tuple[str, str] | None:
    """The part that ends a text REPEATS times or more, but for marks after it, and all of its repeats."""
    for end in range(len(text), MIN_PERIOD * REPEATS - 1, -1):
        last = text[end - MIN_PERIOD : end]
        first = end - MIN_PERIOD - min(MAX_PERIOD, end // REPEATS)
        place = text.rfind(last, first, end - MIN_PERIOD)
        while place >= 0:
            period = end - MIN_PERIOD - place
            start = end - REPEATS * period
            if text[start : end - period] == text[start + period : end]:
                while start and text[start - 1] == text[start - 1 + period]:
                    start -= 1
                return text[end - period : end], text[start:]
            place = text.rfind(last, first, place + MIN_PERIOD - 1)
        if text[end - 1].isalnum() or text[end - 1] == "_":
            return None
    return None


def _repeated_lines(texts: pl.DataFrame) -> pl.Series:
    """The `index` of texts with a long line REPEATS times, or that end in lines that a number tells apart."""
    line = pl.col("line")
    several = texts.filter(pl.col("text").str.count_matches("\n", literal=True) >= REPEATS - 1)
    lines = several.select("index", line=pl.col("text").str.split("\n")).explode("line")
    is_prose = line.str.contains(r"\p{L}") & ~line.str.contains(_LINE_OF_DATA)
    long = lines.filter(line.str.len_bytes() >= LONG_LINE).filter(is_prose)
    counts = long.group_by("index", line.str.strip_chars()).len()
    repeated = counts.filter(pl.col("len") >= REPEATS)["index"]
    tails = several.filter(pl.col("text").str.count_matches("\n", literal=True) > LINES)
    tails = tails.select("index", tail=pl.col("text").str.strip_chars_end().str.tail(_LINE_TAIL))
    last = pl.col("tail").str.replace_all(r"\n\s*\n", "\n").str.split("\n").list.tail(LINES + 1)
    ends = tails.select("index", line=last.list.head(LINES)).filter(line.list.len() == LINES)
    bare = line.list.eval(pl.element().str.replace(_LABEL, ""))
    ends = ends.with_columns(line=bare).filter(line.list.n_unique() == 1).with_columns(line=line.list.first())
    is_text = (line.str.count_matches(r"\p{L}+") >= LINE_WORDS) | (line.str.len_bytes() >= WIDE_LINE)
    numbered = ends.filter(is_text & ~line.str.contains(_LINE_OF_DATA))["index"]
    return pl.concat([repeated, numbered])
