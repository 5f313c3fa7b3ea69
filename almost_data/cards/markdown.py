"""Untrusted text as inert Markdown: the filters of the cards.

Their results are marked as safe for Jinja: they cannot become HTML, a link, an image, a heading, a broken
table or an open fence.
"""

import re
import textwrap

from markupsafe import Markup

from ..datasets.manifest import canonical_json

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters of terminals, and those that reverse the direction of text."""
# Text that a renderer may take for an address, without punctuation at its end.
_LITERAL = re.compile(r"(`[^`|]+`|[^\s|]{0,200}(?:://|www\.|@)(?:[^\s|]*[^\s|.,:;!?)])?)", re.IGNORECASE)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;", "\\": "&#92;"}


def prose(text: str) -> Markup:
    """Text as one paragraph without markup, pairs of backticks excepted; addresses become code."""
    pieces = _LITERAL.split(" ".join(clean(text).split()))
    for place, piece in enumerate(pieces):
        if place % 2:
            pieces[place] = code(piece[1:-1] if piece[0] == piece[-1] == "`" else piece)
        else:
            plain = "".join(_ENTITIES.get(c, c) for c in piece)
            pieces[place] = re.sub(r"([*_~`\[\]])", r"\\\1", plain)
    # At the start these would begin a heading, a list or a rule.
    return Markup(re.sub(r"^(\d*)([-+#=]+|[.)])(?=\s|$)", r"\1\\\2", "".join(pieces)))


def code(value: object) -> Markup:
    """A value as code in running text, on one line; data as JSON, the empty text as a word."""
    text = " ".join(clean(as_text(value)).split())
    ticks = "`" * (_longest_backticks(text) + 1)
    pad = " " if "`" in text else ""
    return Markup(f"{ticks}{pad}{text}{pad}{ticks}" if text else "*empty*")


def cell(value: object, limit: int = 80) -> Markup:
    """A value as code in a table, cut at `limit` characters, its pipes escaped."""
    text = as_text(value)
    short = code(text if len(text) <= limit else text[: limit - 3] + "...")
    # Renderers disagree about a pipe after a backslash, so it becomes a broken bar.
    return Markup(re.sub(r"(\\*)\|", lambda m: f"{m[1]}¦" if m[1] else r"\|", short))


def fenced(text: str, limit: int = 1500, wrap: int | None = None) -> Markup:
    """Text as a block in a fence longer than any inside, cut at `limit` characters, its lines at `wrap`."""
    block = clean(text[:limit])
    if len(text) > limit:
        block += f"\n[... {len(text) - limit:,} more characters]"
    if wrap:
        block = "\n".join(textwrap.fill(line, wrap) for line in block.split("\n"))
    fence = "`" * max(3, _longest_backticks(block) + 1)
    return Markup(f"{fence}text\n{block}\n{fence}")


def lines(text: str, limit: int = 320) -> Markup:
    """Text in a cell of a table, cut at `limit` characters: its lines stay lines, and nothing is markup.

    A text that is little longer is whole.

    >>> [str(lines("It is red.", limit)) for limit in (9, 6)]
    ['It is red.', 'It is … (4 more characters)']
    """
    limit = len(text) if len(text) <= 1.2 * limit else limit
    excess = len(text) - limit
    shortened = [line for line in clean(text[:limit]).split("\n") if line.strip()]
    cut = [f" … ({excess:,} more characters)"] if excess > 0 else []
    return Markup("<br/>".join(map(prose, shortened)) + "".join(cut) or "*empty*")


def alt(text: str) -> Markup:
    """Text as the description of an image."""
    return prose(text.replace("[", "(").replace("]", ")"))


def n(value: float | None) -> Markup:
    """A number for people: `1,234`, `1.58`; n/a for None."""
    if value is None:
        return Markup("n/a")
    return Markup(f"{value:,.2f}" if isinstance(value, float) and abs(value) < 10 else f"{value:,.0f}")


def sig(value: float | None) -> Markup:
    """A measured number to four digits, however small: `1,235`, `2e-05`; n/a for None."""
    return Markup("n/a" if value is None else f"{float(f'{value:.4g}'):,.10g}")


def pct(value: float | None) -> Markup:
    """A share as percent: `72.7%`; n/a for None."""
    return Markup("n/a" if value is None else f"{value:.1%}")


def points(value: float | None) -> Markup:
    """A difference of shares in percentage points: `+3.2`; n/a for None."""
    return Markup("n/a" if value is None else f"{100 * value:+.1f}")


def plain(name: str) -> Markup:
    """A name of letters, digits and `@ . _ / -`, unchanged. Raises ValueError for any other text."""
    if not re.fullmatch(r"[A-Za-z0-9@._/-]+", name):
        raise ValueError(f"{name!r} cannot appear in a card unescaped")
    return Markup(name)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def clean(text: str) -> str:
    """The text without control characters, of terminals and of direction."""
    return CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def short(text: str, limit: int = 420) -> str:
    """The text, cut at `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _longest_backticks(text: str) -> int:
    """Length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


FILTERS = (alt, as_text, cell, code, fenced, lines, n, pct, plain, points, prose, sig)
