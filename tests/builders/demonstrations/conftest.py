"""Builds without figures, unless a test asks for them."""

import pytest

from almost_data.cards import figures


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take half of a small build's time."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(plots, "_png", lambda *figure: b"\x89PNG")


@pytest.fixture
def figures() -> None:
    """Real figures."""
