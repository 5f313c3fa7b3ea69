"""An artifact as an object, for notebooks: `store["comparisons@1.0.0"]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets.ledger import Entry
from ..datasets.manifest import Manifest
from ..inputs import read_text
from ..viewer.tables import html_table
from .files import CARD

if TYPE_CHECKING:
    import polars as pl

    from ..viewer.page import Page
    from .samples import Artifacts


class Ledger(tuple[Entry, ...]):
    """The entries of a ledger; in a notebook, a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<ledger of {len(self)} entries: {', '.join(entry.filter for entry in self)}>"

    def _repr_html_(self) -> str:
        rows = [
            (e.heading, e.filter, e.description, e.n_in, sum(e.dropped.values()), e.failed, e.kept)
            for e in self
        ]
        return html_table(("stage", "rule", "what it says", "in", "dropped", "failed", "kept"), rows)


@dataclass(frozen=True, repr=False)
class Artifact:
    """A dataset, model or evaluation in a store."""

    store: "Artifacts"
    """The `Store` that holds it."""
    ref: str

    @property
    def manifest(self) -> Manifest:
        """Its machine record."""
        return self.store.manifest(self.ref)

    @property
    def ledger(self) -> Ledger:
        """What each rule dropped."""
        return Ledger(self.manifest.ledger)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.store.path(self.ref)

    @property
    def card(self) -> str:
        """Its README.md."""
        return read_text(self.store.path(self.manifest.ref) / CARD)

    def frame(self, config: str = "default", split: str | None = None) -> "pl.DataFrame":
        """The rows of a config. Raises InputError where there is no such config, naming those that exist."""
        return self.store.scan(self.ref, config, split).collect()

    def view(self, n: int = 1000, seed: int = 0) -> "Page":
        """The page of its rows, up to `n`, which a notebook shows and `.save(file)` writes."""
        from . import samples

        return samples.overview(self.store, self.ref, n, seed)

    def __repr__(self) -> str:
        return repr(self.manifest)

    def _repr_html_(self) -> str:
        manifest = self.manifest
        rows = [
            (config, split, n) for config, splits in manifest.counts.items() for split, n in splits.items()
        ]
        return f"<b>{manifest.ref}</b>, {manifest.kind}" + html_table(("config", "split", "rows"), rows)
