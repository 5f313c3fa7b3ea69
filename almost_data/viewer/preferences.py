"""The page of a preference file: its pairs as they are read, and the rows that cannot be used."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..datasets.filters import Filter, chain
from ..readers.layout import SIDES
from ..readers.preferences import ReadRow, Rejected, read_preferences
from ..readers.reasons import REASONS
from .page import Page, share_page
from .rows import Row, Side


def preferences_page(source: str, columns: Mapping[str, str], limit: int, seed: int = 0) -> Page:
    """The page of a file, folder or Hub dataset in any layout that is read. Raises InputError.

    `columns` are as in `read_preferences`. The rows are a sample of each reason, up to `limit` in all.
    """
    preferences = read_preferences(source, columns)
    samples: dict[str | None, list[Row]] = {}
    counts: Counter[str | None] = Counter()
    generator, lines = random.Random(seed), 0
    for read in preferences.rows:
        lines += 1
        for row in _rows(read):
            _draw(samples.setdefault(row.reason, []), row, counts[row.reason], limit, generator)
            counts[row.reason] += 1
    reasons = sorted(filter(None, counts))
    kept, *dropped = (counts[reason] for reason in (None, *reasons))
    quotas = share_page([kept], dropped, limit)
    parts = zip((None, *reasons), quotas, strict=True)
    rows = [row for reason, quota in parts for row in samples.get(reason, [])[:quota]]
    layout = preferences.layout
    read_as = Filter("layout", "row", f"Rows are read as: {preferences.described}.", layout.source)
    rules = [Filter(reason, "row", REASONS[reason], "almost_data") for reason in reasons]
    ledger = chain("reading", [read_as, *rules], lines, {reason: counts[reason] for reason in reasons})
    total = sum(counts.values())
    about = f"pairs: {kept:,}; rows that cannot be used: {total - kept:,}; read as {layout.title}"
    if len(rows) < total:
        about += f"; {len(rows):,} of them are here, drawn by seed {seed} from each reason"
    return Page(Path(source).name, about, rows, ledger)


def _draw(reservoir: list[Row], row: Row, place: int, size: int, generator: random.Random) -> None:
    """Keep each of `place + 1` rows with the same chance (reservoir sampling)."""
    if len(reservoir) < size:
        reservoir.append(row)
    elif (at := generator.randrange(place + 1)) < size:
        reservoir[at] = row


def _rows(read: ReadRow) -> Iterator[Row]:
    name = Path(read.place).name
    if isinstance(read.result, Rejected):
        side, notes = Side("row", read.text), {"detail": read.result.detail}
        yield Row(name, "default", "", (), (side,), read.result.reason, notes)
        return
    for number, preference in enumerate(read.result):
        sides = [(label, getattr(preference, label)) for label in SIDES]
        texts = tuple(Side(label, side.text, side.model, side.score) for label, side in sides)
        facts = {"source": read.origin} if read.origin else {}
        yield Row(
            f"{name} {number}" if number else name, "default", "", preference.prompt, texts, facts=facts
        )
