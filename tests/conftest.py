"""What many tests share."""

import gc
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.figure
import pytest
from matplotlib.figure import Figure

from almost_data.cards import figures as card_figures
from almost_data.generation import journal_file
from almost_data.generation.fake import FakeEngine
from almost_data.run import build, presets
from almost_data.store.store import Store
from tests.blank_cards import leave_cards_blank
from tests.completions_server import CompletionsServer
from tests.settings import fake_tiny

if TYPE_CHECKING:
    from tests.crash import Server

# Read when torch is imported, here and in what tests start: two threads that wait for each other take twice
# the time of one with models as small as these, and more where other processes want the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read when huggingface_hub is imported: uploads by LFS, over HTTP.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
# Read when Ray starts: a worker for each core at once, before any is wanted, costs seconds.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")


# Nothing that collection imports is garbage: the collector runs from `pytest_collection_finish` on.
gc.disable()
collect_ignore = ["bench"]
"""Benchmarks hold no tests, and import all that they measure."""
SLOW = ("engine", "train", "crash", "wheel", "browser")
"""Markers that `make test-fast` leaves out, the slowest first."""


SERVER = re.compile(r"(?<![a-z])(vllm|ray)(?![a-z])")
"""In the name of a test that starts vLLM or Ray: a worker runs all of each, since a start takes a minute."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core, and one worker over where tests wait for servers and killed processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (not config.option.markexpr)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slowest first where workers take what comes next, so that none ends long after the others."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        place = next((place for place, name in enumerate(SLOW) if item.get_closest_marker(name)), len(SLOW))
        return place, not SERVER.search(item.nodeid)

    if hasattr(config, "workerinput"):
        items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not look through it again and again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one worker run a file, one all that starts vLLM, and one all that starts Ray."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            server = SERVER.search(nodeid)
            return server[1] if server else super()._split_scope(nodeid)

    return Scheduler(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Nothing waits for the disk: what a killed process wrote is there all the same, and no power fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(journal_file, "SYNCHRONOUS", "OFF")
        yield


paint = card_figures.png


@pytest.fixture(scope="session", autouse=True)
def blank_cards() -> Iterator[None]:
    """No figures, but where a test asks for `figures`, and no tuning, but in tests of diagnostics."""
    with pytest.MonkeyPatch.context() as patch:
        leave_cards_blank(patch.setattr)
        yield


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted figures."""
    monkeypatch.setattr(card_figures, "png", paint)
    monkeypatch.setattr(matplotlib.figure, "Figure", Figure)


@pytest.fixture(scope="session")
def fake_preset() -> presets.Preset:
    return fake_tiny()


@pytest.fixture(scope="session")
def fake_store(tmp_path_factory: pytest.TempPathFactory, fake_preset: presets.Preset) -> Store:
    """queries, responses and comparisons @0.1.0 of the fake engine. Read it; do not write to it."""
    store = Store(tmp_path_factory.mktemp("fake") / "build")
    run = build.BuildRun(store, "0.1.0", fake_preset, FakeEngine())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card_figures, "png", paint)
        patch.setattr(matplotlib.figure, "Figure", Figure)
        run.build("comparisons")
    return store


@pytest.fixture
def copy(fake_store: Store, tmp_path: Path) -> Store:
    """`fake_store` in the folder `build` of the test's own, to write to."""
    shutil.copytree(fake_store.root, tmp_path / "build")
    return Store(tmp_path / "build")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "build")


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What commands print, in a terminal of 200 columns."""
    from almost_data.cli.console import console

    width = console.width
    console.file, console.width = io.StringIO(), 200
    yield console.file
    console.file, console.width = None, width  # type: ignore[assignment]  # None: whatever sys.stdout is


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompletionsServer]:
    """Asked without a key, and asked again at once."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("almost_data.generation.client.FIRST_DELAY", 0.01)
    with CompletionsServer() as server:
        yield server


@pytest.fixture(scope="session")
def crash_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A process that has imported everything, and forks for each build that is to be killed."""
    from tests.crash import Server

    with Server(tmp_path_factory.mktemp("runs")) as server:
        yield server


@pytest.fixture(scope="session")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has every installed package but almost_data."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if "almost_data" not in package.name and package.suffix != ".pth":
            packages.joinpath(package.name).symlink_to(package)
    return folder / "bin" / "python"


@pytest.fixture
def shared() -> Path:
    """Real data beside the checkout; a test that needs it is skipped where it is not there."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real data beside the checkout")
    return folder
