"""One thread, no trackers, and a store of the fake engine that recipes may write to."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from almost_data.store.store import Store
from tests.tiny_models import save_tiny

pytest.importorskip("trl")


@pytest.fixture(scope="session", autouse=True)
def one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two threads that wait for each other make tiny models slow where other processes want the cores."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALMOST_DATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        kept = dict(os.environ)
        yield
        torch.set_num_threads(before)
        for name in os.environ.keys() - kept.keys():  # accelerate leaves some
            del os.environ[name]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama that reads as many tokens as the fake engine writes."""
    return save_tiny(tmp_path_factory.mktemp("models") / "base", max_position_embeddings=1024)


@pytest.fixture(scope="session")
def store(fake_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of `fake_store`, for trained models."""
    root = tmp_path_factory.mktemp("recipes") / "build"
    shutil.copytree(fake_store.root, root)
    return Store(root)
