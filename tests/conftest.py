"""What many tests share."""

import io
import os
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
from tests.completions_server import CompletionsServer
from tests.settings import fake_tiny

if TYPE_CHECKING:
    from tests.crash import Server

# Read when torch is imported, here and in what tests start: two threads that wait for each other take twice
# the time of one with models as small as these, and more where other processes want the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read when huggingface_hub is imported: uploads by LFS, over HTTP.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")


collect_ignore = ["bench"]
"""Benchmarks hold no tests, and import all that they measure."""
SLOW = ("engine", "train", "crash", "wheel", "browser")
"""Markers that `make test-fast` leaves out, the slowest first."""


SERVERS = (
    "tests/builders/demonstrations/test_killed_engines.py",
    *(f"tests/generation/test_{name}.py" for name in ("contract", "openai", "ray", "ray_hosts", "vllm")),
)
"""Files that start vLLM or Ray: one worker runs them all, because they reserve memory and ports."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slowest first where workers take what comes next, so that none ends long after the others."""

    def rank(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(SLOW) if item.get_closest_marker(name)), len(SLOW))

    if hasattr(config, "workerinput"):
        items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one worker run a file, and one all of `SERVERS`."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "servers" if file in SERVERS else file

    return Scheduler(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Nothing waits for the disk: what a killed process wrote is there all the same, and no power fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(journal_file, "SYNCHRONOUS", "OFF")
        yield


paint = card_figures.png


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


@pytest.fixture(scope="session", autouse=True)
def blank_figures() -> Iterator[None]:
    """Figures are left blank, but where a test asks for `figures`: they take half of a small build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card_figures, "png", lambda figure: b"\x89PNG")
        patch.setattr(matplotlib.figure, "Figure", BlankFigure)
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
