"""Tables as HTML, for notebooks: every cell is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..datasets.ledger import Entry
from ..datasets.manifest import Manifest


def html_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers are aligned right.

    >>> html_table(["n"], [["<b>"]])
    '<table><thead><tr><th>n</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def ledger_table(ledger: Iterable[Entry]) -> str:
    """The account of each rule, with its sentence."""
    rows = [
        (
            *(entry.heading, entry.filter, entry.description),
            *(entry.n_in, sum(entry.dropped.values()), entry.failed, entry.kept),
        )
        for entry in ledger
    ]
    return html_table(("stage", "rule", "what it says", "in", "dropped", "failed", "kept"), rows)


def artifacts_table(manifests: Iterable[Manifest]) -> str:
    """A line for each artifact."""
    rows = [(m.ref, m.kind, m.rows, m.builder.name, m.created[:10]) for m in manifests]
    return html_table(("ref", "kind", "rows", "made by", "created"), rows)


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f'<td style="text-align: right">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"
