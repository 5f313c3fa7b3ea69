"""Builds without what takes half of a small one's time: figures, and the tuning of the surface model."""

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.figure

from almost_data.cards import figures
from almost_data.diagnostics import probe


class BlankFigure:
    """A figure, its axes, and as many bars as were drawn: nothing is painted."""

    def __init__(self, bars: Any = None, **size: Any) -> None:
        self.bars = len(bars) if hasattr(bars, "__len__") else 2

    def subplots(self, rows: int = 1, columns: int = 1, **settings: Any) -> "BlankFigure":
        return BlankFigure(range(rows * columns))

    def __getattr__(self, name: str) -> "BlankFigure":
        return self

    def __call__(self, *arguments: Any, **settings: Any) -> "BlankFigure":
        return BlankFigure(*arguments[:1])

    def __getitem__(self, place: Any) -> "BlankFigure":
        return self

    def __len__(self) -> int:
        return self.bars

    def __iter__(self) -> "Iterator[BlankFigure]":
        return iter([self] * self.bars)


def leave_cards_blank(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Paint no figure, and fit the surface model under one penalty, not under the best of four."""

    def fitted_once(differences: Any, freedom: Any, fold: Any) -> Any:
        return probe.fit_weights(differences, freedom, probe.STRENGTH)

    replace(figures, "png", lambda figure: b"\x89PNG")
    replace(matplotlib.figure, "Figure", BlankFigure)
    replace(probe, "tuned_weights", fitted_once)
