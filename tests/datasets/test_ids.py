"""A set of ids says once of each that it is new, however many of them are sorted away."""

import pytest

from almost_data.datasets import ids


@pytest.mark.parametrize("recent", [1, 3, 250_000])
def test_an_id_is_new_once(recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "RECENT", recent)
    texts = [f"id-{number * 7 % 100}" for number in range(300)]
    known_ids = ids.IdSet()
    assert [known_ids.add(text) for text in texts] == [texts.index(text) == n for n, text in enumerate(texts)]
