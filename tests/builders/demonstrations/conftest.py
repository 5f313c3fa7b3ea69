"""Builds without figures, unless a test asks for them."""

import pytest

from almost_data.cards import figures as card_figures
from almost_data.datasets.builder import Figures


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take half of a small build's time."""
    if "figures" not in request.fixturenames:

        def unpainted(figures: Figures) -> dict[str, bytes]:
            return {f"plots/{name}.png": b"\x89PNG" for name, _ in figures}

        monkeypatch.setattr(card_figures, "as_files", unpainted)


@pytest.fixture
def figures() -> None:
    """Real figures."""
