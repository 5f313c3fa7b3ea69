"""`datasets` loads the demonstrations, and TRL's trainers take a step on them."""

import math
import shutil
from pathlib import Path

import datasets
import pytest

from almost_data.datasets.builder import text_id
from almost_data.generation import Request
from almost_data.store.store import Store
from tests import tiny_models
from tests.builders.demonstrations.scripted import QUERIES, REF, Scripted, run_of, store_of
from tests.recipes import running
from tests.recipes.running import DPO


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Every config and both splits, under a store of its own. Read it; do not write to it."""

    def say(request: Request) -> str | None:
        return "" if request.id.startswith(text_id(QUERIES[0])) else None

    queries = [QUERIES[0], *(f"{query} ({n})" for n in range(4) for query in QUERIES)]
    root = tmp_path_factory.mktemp("loaded")
    store = store_of(root, queries)
    run_of(store, Scripted(say), None, turns=4, preference=True).build("demonstrations")
    return store


def test_datasets_loads_default_first(loaded: Store, tmp_path: Path) -> None:
    folder, manifest = str(loaded.path(REF)), loaded.manifest(REF)
    assert datasets.get_dataset_config_names(folder)[0] == "default"
    assert set(datasets.get_dataset_config_names(folder)) == set(manifest.counts)
    for config in (None, *manifest.counts):
        by_split = datasets.load_dataset(folder, config, cache_dir=str(tmp_path))
        want = manifest.counts[config or "default"]
        assert {split: len(rows) for split, rows in by_split.items()} == want
    first = datasets.load_dataset(folder, cache_dir=str(tmp_path))["train"][0]
    assert [m["role"] for m in first["messages"]] == ["user", "assistant"] * 2


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_the_dpo_recipe_takes_a_step_on_preference(loaded: Store, tmp_path: Path) -> None:
    store = Store(shutil.copytree(loaded.root, tmp_path / "build"))
    prompts = store.scan(REF, "preference", "train").collect()["prompt"]
    assert set(prompts.list.len()) == {1, 3}
    base = tiny_models.save_tiny(tmp_path / "policy", max_position_embeddings=1024)
    arguments = DPO | {"dataset": REF, "dataset_config": "preference", "model_name_or_path": base}
    running.run("dpo", store, "dpo@0.1.0", arguments | {"max_steps": 1})
    manifest = store.manifest("dpo@0.1.0")
    assert manifest.config["dataset"]["config"] == "preference"
    assert manifest.diagnostics["curves"]["loss"] == [[1, pytest.approx(math.log(2), abs=1e-4)]]
