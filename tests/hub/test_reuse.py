"""Other projects use what was pushed: without almost_data, by tools that know nothing of it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from almost_data import hub
from almost_data.run import build, importing, presets
from almost_data.store.store import Store
from tests import hub_server
from tests.hub_server import TOKEN, Hub
from tests.jsonl import jsonl
from tests.settings import Real
from tests.tiny_models import save_tiny_reward

pytestmark = pytest.mark.wheel

REPO = "ORG/comparisons"
ROWS = """
import datasets, hashlib, json

def digest(rows):
    lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return hashlib.sha256("\\n".join(lines).encode()).hexdigest()

def loaded(*config, **how):
    return datasets.load_dataset("ORG/comparisons", *config, **how)

at = {"revision": "v1.0.0"}
"""
"""What scripts of strangers begin with: the rows of a dataset as one hash, by plain means."""


class Stranger:
    """A project that has every tool, and not almost_data; with a login or without."""

    def __init__(self, python: Path, endpoint: str, folder: Path) -> None:
        self.python, self.folder = python, folder
        (folder / "project").mkdir()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))
        }
        self.environment = environment | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TQDM_DISABLE": "1",
        }

    def run(self, *words: str, token: str = "") -> str:
        """What a command of the environment's Python prints."""
        done = subprocess.run(
            [str(self.python), *words],
            env=self.environment | ({"HF_TOKEN": token} if token else {}),
            cwd=self.folder / "project",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        return done.stdout

    def script(self, code: str, token: str = "") -> Any:
        """The JSON that a script prints last."""
        return json.loads(self.run("-c", ROWS + code, token=token).splitlines()[-1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """comparisons 1.0.0 (of three responders) and 1.1.0 (of other rows). Read it only."""
    folder = tmp_path_factory.mktemp("reuse")
    store = Store(folder / "build")
    for minor, names in enumerate((["good", "fair", "poor"], ["good", "poor"])):
        rows = [
            {"prompt": f"What is {n}?"}
            | {name: f"It is {name}, number {n}. " + "".join(f"So it was {time}. " for time in range(6 - at))
               for at, name in enumerate(names)}
            for n in range(60 - 20 * minor)
        ]  # fmt: skip
        file = folder / "rows.jsonl"
        jsonl(file, rows)
        importing.import_responses(store, str(file), names, f"1.{minor}.0")
        build.BuildRun(store, f"1.{minor}.0", presets.load("tiny"), Real()).build("comparisons")
    return store


@pytest.fixture(scope="module")
def shared_hub(store: Store) -> Iterator[Hub]:
    """A Hub with both versions, 1.1.0 last, and a private copy of 1.0.0."""
    with hub_server.run() as server:
        api = HfApi(endpoint=server.endpoint, token=TOKEN)
        for version in ("1.0.0", "1.1.0"):
            hub.push(store, f"comparisons@{version}", REPO, api=api)
        hub.push(store, "comparisons@1.0.0", "ORG/closed", private=True, api=api)
        yield server


@pytest.fixture
def stranger(shared_hub: Hub, clean_python: Path, tmp_path: Path) -> Stranger:
    return Stranger(clean_python, shared_hub.endpoint, tmp_path)


def test_the_environment_has_no_almost_data(stranger: Stranger) -> None:
    code = (
        "import importlib.util as u, os; print(json.dumps([u.find_spec('almost_data') is None, os.getcwd()]))"
    )
    absent, where = stranger.script(code)
    assert absent and where == str(stranger.folder / "project")


def test_by_config_split_stream_and_revision(stranger: Stranger, store: Store) -> None:
    counts, kept, streamed, ids, train, by_commit, later = stranger.script("""
from huggingface_hub import HfApi
whole = loaded(**at)
dropped = loaded("rejected", split="train", streaming=True, **at)
commit = next(one.target_commit for one in HfApi().list_repo_refs("ORG/comparisons", repo_type="dataset").tags
              if one.name == "v1.0.0")
print(json.dumps([
    {name: len(rows) for name, rows in whole.items()},
    digest(whole["train"]),
    digest(loaded(split="train", streaming=True, **at)),
    sorted(row["chosen_reply_id"] + row["rejected_reply_id"] for row in dropped),
    digest(loaded("default", split="train[:]", **at)),
    digest(loaded(split="train", revision=commit)),
    digest(loaded(split="train")),
]))
""")
    manifest = store.manifest("comparisons@1.0.0")
    assert counts == manifest.counts["default"]
    assert kept == streamed == train == by_commit != later
    want = store.scan("comparisons@1.0.0", "rejected", "train").collect()
    assert ids == (want["chosen_reply_id"] + want["rejected_reply_id"]).sort().to_list() != []


def test_v1_0_0_is_the_same_after_v1_1_0(store: Store, clean_python: Path, tmp_path: Path) -> None:
    code = """
configs = datasets.get_dataset_config_names("ORG/comparisons", **at)
whole = {config: loaded(config, **at) for config in configs}
print(json.dumps({f"{name}/{split}": digest(rows) for name in whole for split, rows in whole[name].items()}))
"""
    reports = []
    with hub_server.run() as server:
        api = HfApi(endpoint=server.endpoint, token=TOKEN)
        for version in ("1.0.0", "1.1.0"):
            hub.push(store, f"comparisons@{version}", REPO, api=api)
            (tmp_path / version).mkdir()  # each with a cache of its own
            reports.append(Stranger(clean_python, server.endpoint, tmp_path / version).script(code))
        assert server.files(REPO)["manifest.json"] != server.files(REPO, "v1.0.0")["manifest.json"]
    assert reports[0] == reports[1]
    manifest = store.manifest("comparisons@1.0.0")
    assert reports[0].keys() == {
        f"{name}/{split}" for name, splits in manifest.counts.items() for split in splits
    }


def test_a_private_one_wants_a_login(stranger: Stranger) -> None:
    code = """
try:
    found = digest(datasets.load_dataset("ORG/closed", split="train", **at))
except Exception as error:
    found = type(error).__name__
print(json.dumps([found, digest(loaded(split="train", **at))]))
"""
    refused, _ = stranger.script(code)
    mine, theirs = stranger.script(code, token=TOKEN)
    assert refused == "DatasetNotFoundError" and mine == theirs


def test_pandas_and_polars_read_the_parquet_files(stranger: Stranger, store: Store) -> None:
    by_pandas, by_polars, by_datasets, columns = stranger.script("""
import pandas, polars
from huggingface_hub import HfFileSystem, snapshot_download
folder = "datasets/ORG/comparisons@v1.0.0/data/default"
remote = [f"hf://{path}" for path in HfFileSystem().glob(f"{folder}/train-*.parquet")]
frame = pandas.concat([pandas.read_parquet(path) for path in remote])
local = snapshot_download("ORG/comparisons", repo_type="dataset", allow_patterns="data/default/train-*", **at)
rows = polars.read_parquet(f"{local}/data/default/train-*.parquet")
rows_of = lambda frame: json.loads(frame.to_json(orient="records"))
print(json.dumps([
    digest(rows_of(frame)), digest(rows.to_dicts()), digest(loaded(split="train", **at)), rows.columns
]))
""")
    assert by_pandas == by_polars == by_datasets
    assert columns == store.scan("comparisons@1.0.0").collect_schema().names()


def test_trl_trains_on_them_by_its_own_script(stranger: Stranger) -> None:
    """The script that `trl reward` starts, once it has imported all that the script imports."""
    model = save_tiny_reward(stranger.folder / "model")
    arguments = f"--dataset_name {REPO} --model_name_or_path {model} --output_dir trained --max_steps 2"
    how = "--per_device_train_batch_size 2 --use_cpu true --bf16 false --report_to none --save_strategy no"
    how += " --logging_steps 1"
    printed = stranger.run("-m", "trl.scripts.reward", *arguments.split(), *how.split())
    assert "train_loss" in printed
    assert (stranger.folder / "project" / "trained" / "model.safetensors").is_file()
