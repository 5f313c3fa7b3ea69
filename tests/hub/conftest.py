"""A Hub over real HTTP on 127.0.0.1, and a store of seven versions."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from almost_data.hub import client
from almost_data.run import importing
from almost_data.store import rows as stored_rows
from almost_data.store.store import Store
from tests import hub_server
from tests.hub_server import Hub
from tests.jsonl import jsonl

SO_IT_IS = " ".join(f"So it is, {time}." for time in range(9))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub_server.run() as server:
        yield server


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """responses 1.0.0 (three responders, many shards), 1.1.0 (two, few), 1.2.0 to 1.6.0. Read it only."""
    folder = tmp_path_factory.mktemp("versions")
    store = Store(folder / "build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_rows, "SHARD_BYTES", 4000)
        for minor in range(7):
            names = ["good", "fair", "poor"][: 3 if minor == 0 else 2]
            rows = [
                {"prompt": f"What is {n}?"} | {name: f"{name} {n}. {SO_IT_IS}" for name in names}
                for n in range(90 if minor == 0 else 30 + minor)
            ]
            file = folder / "rows.jsonl"
            jsonl(file, rows)
            importing.import_responses(store, str(file), names, f"1.{minor}.0")
    return store


@pytest.fixture
def store(versions: Store, tmp_path: Path) -> Store:
    shutil.copytree(versions.root, tmp_path / "build")
    return Store(tmp_path / "build")
