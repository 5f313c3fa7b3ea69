"""Text of models, users and files as Markdown that is nothing but text: the filters of the cards.

What they return is marked as safe for Jinja: it cannot become HTML, a link, an image, a heading, a
broken table or an open fence.
"""

import re
import textwrap
from typing import TYPE_CHECKING

from ..datasets.manifest import canonical_json

if TYPE_CHECKING:
    from markupsafe import Markup

# What a terminal obeys, and what makes text run backwards.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# What a renderer may take for an address, without the stop behind it.
_LITERAL = re.compile(r"(`[^`|]+`|[^\s|]{0,200}(?:://|www\.|@)(?:[^\s|]*[^\s|.,:;!?)])?)", re.IGNORECASE)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;", "\\": "&#92;"}


def prose(text: str) -> "Markup":
    """Text as one paragraph of plain words, without markup but pairs of backticks; addresses become code."""
    pieces = _LITERAL.split(" ".join(clean(text).split()))
    for place, piece in enumerate(pieces):
        if place % 2:
            pieces[place] = code(piece[1:-1] if piece[0] == piece[-1] == "`" else piece)
        else:
            plain = "".join(_ENTITIES.get(c, c) for c in piece)
            pieces[place] = re.sub(r"([*_~`\[\]])", r"\\\1", plain)
    # What would begin a heading, a list or a rule.
    return _markup(re.sub(r"^(\d*)([-+#=]+|[.)])(?=\s|$)", r"\1\\\2", "".join(pieces)))


def code(value: object) -> "Markup":
    """A value as code in running text, on one line; data as JSON, the empty text as a word."""
    text = " ".join(clean(as_text(value)).split())
    ticks = "`" * (_run(text) + 1)
    pad = " " if "`" in text else ""
    return _markup(f"{ticks}{pad}{text}{pad}{ticks}" if text else "*empty*")


def cell(value: object, most: int = 80) -> "Markup":
    """A value as code in a table: cut at `most` characters, its pipes kept from ending the cell."""
    text = as_text(value)
    short = code(text if len(text) <= most else text[: most - 3] + "...")
    # Renderers disagree about a pipe after a backslash, so that one is replaced by its broken sister.
    return _markup(re.sub(r"(\\*)\|", lambda m: f"{m[1]}¦" if m[1] else r"\|", short))


def fenced(text: str, most: int = 1500, wrap: int | None = None) -> "Markup":
    """Text as a block in a fence longer than any inside, cut at `most` characters, its lines at `wrap`."""
    shown = clean(text[:most]) + (f"\n[... {len(text) - most:,} more characters]" if len(text) > most else "")
    if wrap:
        shown = "\n".join(textwrap.fill(line, wrap) for line in shown.split("\n"))
    fence = "`" * max(3, _run(shown) + 1)
    return _markup(f"{fence}text\n{shown}\n{fence}")


def n(value: float | None) -> "Markup":
    """A number for people: `1,234`, `1.58`; n/a for None."""
    if value is None:
        return _markup("n/a")
    return _markup(f"{value:,.2f}" if isinstance(value, float) and abs(value) < 10 else f"{value:,.0f}")


def sig(value: float | None) -> "Markup":
    """A measured number to four digits, however small: `1,235`, `2e-05`; n/a for None."""
    return _markup("n/a" if value is None else f"{float(f'{value:.4g}'):,.10g}")


def pct(value: float | None) -> "Markup":
    """A share as percent: `72.7%`; n/a for None."""
    return _markup("n/a" if value is None else f"{value:.1%}")


def points(value: float | None) -> "Markup":
    """A difference of shares in percentage points: `+3.2`; n/a for None."""
    return _markup("n/a" if value is None else f"{100 * value:+.1f}")


def plain(name: str) -> "Markup":
    """A name of nothing but letters, digits and `@ . _ / -`, as it is. Raises ValueError for any other."""
    if not re.fullmatch(r"[A-Za-z0-9@._/-]+", name):
        raise ValueError(f"{name!r} cannot stand in a card as it is")
    return _markup(name)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def clean(text: str) -> str:
    """The text without what a terminal obeys and what makes text run backwards."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def short(text: str, limit: int = 420) -> str:
    """The text, cut at `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _run(text: str) -> int:
    """Length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def _markup(text: str) -> "Markup":
    from markupsafe import Markup

    return Markup(text)


FILTERS = (as_text, cell, code, fenced, n, pct, plain, points, prose, sig)
