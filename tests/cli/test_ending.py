"""A command ends in one line, whatever ends it: a signal, a place that cannot be used, settings of no end."""

import errno
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from almost_data.cli.ending import KEPT, RESUMES, end_by_system
from tests.command import run as cli

HERE = Path(__file__).parents[2]
IMPORT = """
import sys
from almost_data.cli.ending import interruptible
sys.path.insert(0, sys.argv[1])
with interruptible():
    import library
"""
LIBRARY = """
import os
try:
    os.kill(os.getpid(), {number})
except BaseException:
    raise ImportError("cannot import this") from None
"""


@pytest.fixture(autouse=True)
def hangups_end_processes() -> Iterator[None]:
    """A process that starts here is ended by SIGHUP, even where `nohup` started the tests."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_library_is_imported(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "library.py").write_text(LIBRARY.format(number=int(number)))
    command = [sys.executable, "-c", IMPORT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number
    assert done.stderr == (
        "almost-data: interrupted: what was generated is kept; run the same command to go on\n"
    )


@pytest.mark.parametrize("is_script", [False, True])
def test_a_signal_while_the_command_line_is_imported(tmp_path: Path, is_script: bool) -> None:
    """Of `python -m almost_data` and of the script `almost-data`."""
    (tmp_path / "cyclopts.py").write_text(LIBRARY.format(number=int(signal.SIGINT)))
    scripts = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    module, _, name = scripts["almost-data"].partition(":")
    start = ["-c", f"from {module} import {name}; {name}()"] if is_script else ["-m", "almost_data"]
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, *start, "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 130 and done.stderr.count("\n") == 1 and "interrupted" in done.stderr


@pytest.mark.parametrize("recipe", ["rm", "sft", "dpo", "rloo", "ppo"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_recipe_imports_its_libraries(
    tmp_path: Path, recipe: str, number: signal.Signals
) -> None:
    (tmp_path / "transformers.py").write_text(LIBRARY.format(number=int(number)))
    assert script(f"{recipe}.py", tmp_path) == (128 + number, f"almost-data: {RESUMES}\n")


@pytest.mark.parametrize("name", ["cost", "human", "tables"])
def test_a_signal_while_a_script_of_the_paper_imports_its_libraries(tmp_path: Path, name: str) -> None:
    (tmp_path / "cyclopts.py").write_text(LIBRARY.format(number=int(signal.SIGINT)))
    assert script(f"reproduce/{name}.py", tmp_path) == (130, f"almost-data: {KEPT}\n")


def script(name: str, libraries: Path) -> tuple[int, str]:
    """The exit code of a script of recipes/ that imports from `libraries` first, and its stderr."""
    done = subprocess.run(
        [sys.executable, str(HERE / "recipes" / name)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(libraries), str(HERE)])},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_script_s_signals_are_those_of_its_run_and_then_as_before() -> None:
    code = """
import os, signal
from almost_data.cli.ending import interruptible, watch
watch("before")
try:
    with interruptible("within"):
        os.kill(os.getpid(), signal.SIGTERM)
except SystemExit as end:
    print(end.code, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
watch("outside")
os.kill(os.getpid(), signal.SIGTERM)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 143 and done.stderr == "almost-data: within\nalmost-data: outside\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PermissionError(errno.EACCES, "no", "/a"), 1, "/a: Permission denied: get the right to it, or name"),
        (
            FileNotFoundError("No such file or directory (os error 2): /b"),
            1,
            "/b: No such file or directory",
        ),
        (RuntimeError("I/O error: (os error 28)"), 1, "the disk: No space left on device: free some"),
        (OSError(errno.ENAMETOOLONG, "no", "x" * 5000), 2, "...: the path is too long"),
        (OSError("anything"), 1, "OSError: anything"),
    ],
)
def test_an_error_of_the_system_is_a_line_with_what_to_do(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, message: str
) -> None:
    """Of commands and recipes alike, and where a library puts it into words of its own."""
    with pytest.raises(SystemExit) as end:
        end_by_system(error)
    assert end.value.code == code and message in capsys.readouterr().err
    assert end_by_system(ValueError("another")) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_replies_come(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "almost_data", "build", "queries", "--engine", "fake"]
    command += ["--set", "queries.target=100000", "--set", "queries.max_rounds=100000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("queries: 0 of 100,000")
    time.sleep(0.5)
    os.kill(process.pid, number)
    message = process.communicate()[1]
    assert (process.returncode, message.count("\n")) == (128 + number, 1) and "kept" in message
    assert not (tmp_path / "build" / "queries").exists()


@pytest.mark.parametrize("root", ["x" * 5000, os.fsdecode(b"a\xffb"), "a\x1b[31mb"])
def test_a_root_that_cannot_be_one_is_a_short_line(tmp_path: Path, root: str) -> None:
    done = cli("build", "queries", "--engine", "fake", "--limit", "2", "--root", root, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert len(done.stderr) < 300 and "\x1b" not in done.stderr


def test_a_root_that_is_a_link_to_itself_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("root")
    done = cli("list", "--root", "root", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "almost-data: --root root: not a folder\n")


@pytest.mark.parametrize("verb", ["audit", "view", "import preferences --version 1.0.0", "export x -o"])
def test_a_name_that_is_not_utf8_is_a_line(tmp_path: Path, verb: str) -> None:
    name = os.fsdecode(b"a\xff.jsonl")
    (tmp_path / name).write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    done = cli(*verb.split(), name, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "not UTF-8" in done.stderr
    done = cli("import", "preferences", ".", "--version", "1.0.0", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "rename the file" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["audit", ""], ["view", ""], ["import", "queries", "", "--version", "1.0.0"]]
)
def test_an_empty_name_is_no_folder(tmp_path: Path, arguments: list[str]) -> None:
    """As a variable that is not set: what is in the folder where the command runs was not named."""
    (tmp_path / "a.jsonl").write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    done = cli(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "give a file or a folder" in done.stderr


@pytest.mark.parametrize("n", ["0", "-3"])
def test_a_page_without_a_row_is_refused(tmp_path: Path, n: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n')
    done = cli("view", "a.jsonl", "-n", n, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"almost-data: -n {n}: give 1 or more\n")


def test_a_full_disk_is_a_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "almost_data", "list"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "No space left on device: free some and run the same command again" in done.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("queries.limit=" + "[" * 5000 + "]" * 5000, "--limit: nested deeper than 20 levels"),
        ("queries.limit=" + "[" * 30 + "]" * 30, "--limit.0.0: nested deeper"),
        ("queries.limit=99999999999999999999", "--limit: an integer of more than 64 bits"),
        ("engine.options={a=[99999999999999999999]}", "engine.options.a.0: an integer of more than 64 bits"),
        ("queries.temperature=nan", "queries.temperature: nan is no number that can be compared"),
        ("engine.options={a=[inf]}", "engine.options.a.0: inf is no number that can be compared"),
    ],
)
def test_settings_of_no_end_are_named(tmp_path: Path, value: str, message: str) -> None:
    done = cli("build", "queries", "--engine", "fake", "--set", value, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "deep", "dotted", "huge"])
def test_a_config_file_that_has_no_end_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "settings.toml"
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "device":
            file = Path("/dev/zero")
        case "folder":
            file.mkdir()
        case "deep":
            file.write_text(f"engine.x = {'[' * 5000}{']' * 5000}")
        case "dotted":
            file.write_text(f"{'a.' * 1_000_000}b = 1")
        case "huge":
            os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 10**12)
    done = cli("build", "queries", "--engine", "fake", "--config", str(file), "--root", str(tmp_path / "r"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert str(file) in done.stderr


def test_figures_need_neither_a_home_nor_a_screen(tmp_path: Path) -> None:
    code = "from almost_data.cli.console import draw_to_files; draw_to_files(); import matplotlib"
    places = {"HOME": "/proc/none", "MPLCONFIGDIR": str(tmp_path / "file"), "MPLBACKEND": "none"}
    (tmp_path / "file").touch()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
