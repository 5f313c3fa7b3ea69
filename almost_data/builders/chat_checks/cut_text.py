"""Whether a text was cut: it ends as no finished one does, in any script.

Written for few false alarms, as a build drops what it finds. The page on verdicts says how often it is right.
"""

import polars as pl

from ...diagnostics.scripts import FINAL_MARKS
from .patterns import CODE, matching

_NEVER_LAST = (
    "the|a|an|its|their|your|our|my|every|because|although|unless|whereas|between|during|"
    "und|oder|weil|dass|eine|einer|einem|einen|les|une|dans|avec|los|las|una|del|pero|porque|"
    "dell[ao]|nell[ao]|degli|uma|и|или|что|для|та|або|oraz|przez|który|która|które|że|ve|veya|và|của|với|những|"
    "các|dan|untuk|dengan|yang|och|eller|και|στην|στον|على|التي|الذي|إلى|और|तथा|또한|그리고|및"
)
_STRANDED = "than|of|from|into"
"""Words that end no sentence, but the line of a list: "where they come from"."""
_SELDOM_LAST = (
    "to|with|for|by|at|in|on|as|which|who|is|are|was|were|has|have|had|can|could|will|would|should|may|might|"
    "must|be|been|if|when|while"
)
_BEFORE = r"\S[^\S\n]+[^\s,]+[^\S\n]+"
OPEN_END = (
    # A comma or a dash after three words: "Best regards," is a whole line
    r"((\S+[^\S\n]+){3,}(\S*[,،]|[-–—])|[，、]|"
    # A colon, and not that of a table's rule or of an emoji's name
    r"(^|\s)[^\s:]+:|：|[(\[{（]|"
    rf"{_BEFORE}({_NEVER_LAST})|\S[^\S\n]+\p{{L}}{{4,}},? (and|or|but|nor)|"
    r"因为|所以|但是|而且|以及|或者|如果|虽然|例如|比如|于是|尤其是|ซึ่ง|และ|หรือ|เพราะ)$"
)
STRANDED = rf"{_BEFORE}({_STRANDED})$"
SELDOM_LAST = rf"{_BEFORE}({_SELDOM_LAST})$"
END = 500
"""Characters at the end by which a cut is told."""
MARK = rf"([.!?؟۔]['\"”’)]*\s|[？{''.join(mark for mark in FINAL_MARKS if not mark.isascii())}])"
MARKS = 2
"""With so many sentence marks before it, a text is punctuated, and a last word of `SELDOM_LAST` needs one."""
PROSE_WORDS = 8
"""In such a text, a last line of so many words that ends in a letter was cut, but for verse and lists."""
_ITEM = r"[-*+•·▪–]|\d+[.)、]|[a-z][.)]|[一二三四五六七八九十]+、|[①-⑳]"
_LIST_LINE = rf"^\s*({_ITEM}|#+|\||>|```|!?\[)"
_WORD_END = r"(^|\s)[^\s/@:.]*[[\p{L}\p{M}]--[\p{Thai}\p{Lao}]]$"
"""The last word ends in a letter, and is no address; a sentence of Thai or Lao has no mark at its end."""
_VERSE_LINE = r"[\p{Lu}\p{Lo}][^\n]{0,78}"
_VERSE = rf"(?:^|\n){_VERSE_LINE}[^\n]?\n{_VERSE_LINE}[\p{{L}},;]\n{_VERSE_LINE}$"
"""Three short lines that begin in capitals, of which the second ends no sentence: a poem may end so."""
OPEN_LAST = r"[\p{L}\p{M}\p{N},،，、:：\-–—(\[{（]$"
"""In these ends whatever is cut outside of code and lists: in a letter, a digit or an opening mark."""
FACE = r"(^|\s)[:;=]['’]?-?[(\[]"
"""A sad face is no open bracket."""
_KEY = r"^\s*[\p{L}\p{N}_ .-]{1,40}:"
"""A field of a form or of YAML, which may be empty."""
_EMPTY_ITEM = r"^\s*([-*+•]|\d+[.)]|#{1,6})(\s*\*\*)?$"
_LABEL = r"(:\*\*|\*\*:)\s*$"
"""Bold text and a colon: what it announces is missing."""
_OPEN_BOLD = r"(^|[\s(\[\"“])\*\*[^\s*`/][^*`]*$"
"""And no power, no `**kwargs` and no `**/` of a path."""
_FILLED_ITEM = r"(?m)^\s*([-*+•]|\d+[.)]|#{1,6})[^\S\n]+\S"
_FORMULA_MARKS = ("$$", "\\[", "\\begin{")
_FORMULA = r"[\\=^_{]"


def looks_cut(texts: pl.Series) -> pl.Series:
    """Whether each text ends as no finished one does, or without the mark that its other sentences end in."""
    rows = texts.to_frame("text").with_row_index()
    ends = rows.select("index", end=pl.col("text").str.strip_chars_end().str.tail(END))
    ends = ends.with_columns(lines=pl.col("end").str.split("\n"))
    ends = ends.with_columns(
        last_line=pl.col("lines").list.last(),
        line_before=pl.col("lines").list.get(-2, null_on_oob=True).fill_null(""),
    )
    # Few texts end so that they are looked at closely.
    in_word = ends.filter(pl.col("end").str.contains(OPEN_LAST)).filter(_is_open())
    cut = pl.concat([_open_blocks(rows), in_word["index"], ends.filter(_is_open_structure())["index"]])
    return matching(rows, cut)


def _open_blocks(rows: pl.DataFrame) -> pl.Series:
    """The `index` of texts that end within a fence or a formula."""
    text = pl.col("text")
    fenced = rows.filter(text.str.contains_any(["```", "~~~"]))
    odd = [text.str.count_matches(rf"(?m)^\s*{fence}[^`~\n]*$") % 2 == 1 for fence in ("```", "~~~")]
    ends_closed = text.str.contains(r"\S[^\n`]*```\s*\z")
    formulas = rows.filter(text.str.contains_any([*_FORMULA_MARKS])).with_columns(
        text.str.replace_all(CODE, "")
    )
    count = text.str.count_matches
    opened = (
        (count(r"\$\$") % 2 == 1)
        | (count(r"\\\[") > count(r"\\\]"))
        | (count(r"\\begin\{") > count(r"\\end\{"))
    )
    # Behind the mark that opens it stands a formula, and not a sum of money
    last = text.str.extract(r"(?s).*(?:\$\$|\\\[|\\begin)(.*)$")
    return pl.concat(
        [
            fenced.filter(pl.any_horizontal(odd) & ~ends_closed)["index"],
            formulas.filter(opened & last.str.contains(_FORMULA))["index"],
        ]
    )


def _is_open_structure() -> pl.Expr:
    """Whether the last line is an empty item, half a row of a table, or a label or heading alone."""
    last, before = pl.col("last_line"), pl.col("line_before")
    filled = pl.col("lines").list.head(-1).list.join("\n").str.contains(_FILLED_ITEM)
    is_blank_form = before.str.strip_chars_end().str.contains(_EMPTY_ITEM)
    is_item = (last.str.contains(_EMPTY_ITEM) & filled & ~is_blank_form) | last.str.contains(r"^#{1,6}$")
    is_label = last.str.contains(_LABEL) & ~before.str.contains(_LABEL)
    is_heading = last.str.contains(r"^#{2,6} .*\p{L}") & (before == "") & (pl.col("lines").list.len() > 2)
    cells, cells_before = (line.str.count_matches("|", literal=True) for line in (last, before))
    is_row = last.str.contains(r"^\s*\|") & before.str.contains(r"^\s*\|.*\|\s*$") & (cells < cells_before)
    is_whole = (pl.col("lines").list.len() > 1) | (pl.col("end").str.len_chars() < END)
    opens_bold = last.str.contains(_OPEN_BOLD) & ~last.str.contains(r"[.!?;)]$|\*\*kw")
    is_bold = is_whole & opens_bold & (last.str.count_matches(r"\*\*") % 2 == 1)
    return is_item | is_label | is_heading | is_row | is_bold


def _is_open() -> pl.Expr:
    """Whether an `end`, with its `last_line`, is open other than by a block."""
    end, last_line = pl.col("end"), pl.col("last_line")
    no_faces = last_line.str.replace_all(FACE, "")
    opened, closed = (no_faces.str.count_matches(brackets) for brackets in (r"[(\[]", r"[)\]]"))
    is_open_bracket = (opened > closed) & last_line.str.contains(r"[\p{L}\p{M}\p{N},]$")
    is_open_sentence = last_line.str.contains(SELDOM_LAST) | _is_open_prose(end, last_line)
    is_punctuated = end.str.count_matches(MARK) >= MARKS
    is_field = last_line.str.contains(_KEY + "$") & pl.col("line_before").str.contains(_KEY)
    is_stranded = last_line.str.contains(STRANDED) & ~last_line.str.contains(_LIST_LINE)
    is_open_end = (no_faces.str.contains(OPEN_END) & ~is_field) | is_stranded
    return is_open_bracket | (is_punctuated & is_open_sentence) | is_open_end


def _is_open_prose(end: pl.Expr, last_line: pl.Expr) -> pl.Expr:
    """Whether the last line is prose, no verse and no list, and ends in a letter."""
    words = last_line.str.count_matches(r"\S+")
    letters = last_line.str.count_matches(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
    is_prose = (words >= PROSE_WORDS) | (letters >= 2 * PROSE_WORDS)
    is_other = last_line.str.contains(_LIST_LINE) | end.str.tail(3 * 80).str.contains(_VERSE)
    return is_prose & last_line.str.contains(_WORD_END) & ~is_other
