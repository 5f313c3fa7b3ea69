"""The page that shows rows in a browser: one HTML file that loads nothing and runs no script but its own.

The source is viewer.html, viewer.css and viewer.js, without a framework: the page is a list, a row and
filters, which a browser does by itself. Rows are JSON in an element that is no script; the script puts every
text in as text, and a Content-Security-Policy allows that script alone, by its hash.
"""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from ..datasets.ledger import Entry, rules
from ..errors import InputError
from ..outputs import replacing
from .rows import Row, note_text


@dataclass(frozen=True)
class Page:
    """Rows to be looked at in a browser; in a notebook it shows itself."""

    title: str
    """The dataset or the file."""
    about: str
    """A sentence: how many rows these are, of how many."""
    rows: Sequence[Row]
    ledger: Sequence[Entry] = ()
    """Shown as the funnel."""
    sentences: Mapping[str, str] = field(default_factory=dict)
    """Reason -> why, for reasons that the ledger does not have."""

    @property
    def html(self) -> str:
        """The whole page."""
        script, style = _source("viewer.js"), _source("viewer.css")
        return Template(_source("viewer.html")).substitute(
            title=html.escape(self.title),
            script=script,
            style=style,
            script_hash=_hash(script),
            style_hash=_hash(style),
            data=_json(self),
        )

    def save(self, file: Path | str) -> Path:
        """Write the page to a file. Raises InputError where that cannot be written."""
        if Path(str(file)).suffix != ".html":
            raise InputError(f"view.out {file}: name an .html file")
        with replacing(Path(file), "view.out") as staging:
            staging.write_text(self.html, "utf-8")
        return Path(file)

    def __repr__(self) -> str:
        return f"<page of {self.title}: {self.about}>"

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 42rem; border: 1px solid #8888"
        page = html.escape(self.html)
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def share_page(kept: Sequence[int], dropped: Sequence[int], limit: int) -> list[int]:
    """How many rows of each part a page of `limit` rows shows: at least half of them are kept ones."""
    quotas = share(kept, max(limit // 2, limit - sum(dropped)))
    return quotas + share(dropped, limit - sum(quotas))


def share(sizes: Sequence[int], limit: int) -> list[int]:
    """How many of each part are taken, so that small parts are whole and large ones have equal shares.

    >>> share([3, 500, 700], 203)
    [3, 100, 100]
    """
    quotas = dict.fromkeys(range(len(sizes)), 0)
    for done, part in enumerate(sorted(quotas, key=lambda part: sizes[part])):
        quotas[part] = min(sizes[part], limit // (len(sizes) - done))
        limit -= quotas[part]
    return list(quotas.values())


def _json(page: Page) -> str:
    """What the script reads: rows as lists, and each text once, as pairs of a query share it."""
    texts: dict[str, int] = {}

    def place(text: str | None) -> int | None:
        return None if text is None else texts.setdefault(text, len(texts))

    rows = [
        (
            *(row.id, row.config, row.split, row.reason),
            [(turn["role"], place(turn["content"])) for turn in row.prompt],
            [(side.label, place(side.text), side.responder, side.score, side.measure) for side in row.sides],
            *(note_text(row.notes), dict(row.facts), row.change),
        )
        for row in page.rows
    ]
    data = {
        "title": page.title,
        "about": page.about,
        "funnel": [_step(entry) for entry in page.ledger],
        "rules": {**page.sentences, **rules(page.ledger)},
        "lengths": list(map(len, texts)),
        "texts": list(texts),
        "rows": rows,
    }
    # A `<` is what could end the element; escaped, it is the same JSON.
    return msgspec.json.encode(data, enc_hook=str).decode().replace("<", "\\u003c")


def _step(entry: Entry) -> Mapping[str, Any]:
    counts = {"in": entry.n_in, "kept": entry.kept, "dropped": entry.dropped, "failed": entry.failed}
    names = {"heading": entry.heading, "filter": entry.filter, "sentence": entry.description}
    return names | counts


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
