"""The command line as a user meets it: separate processes, exit codes, one line on stderr."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from almost_data.store.store import Store


def cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "almost_data", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["queries", "responses"])
def test_the_next_command_goes_on_from_where_the_build_ended(tmp_path: Path, name: str) -> None:
    done = cli("build", name, "--engine", "fake", "--limit", "8", "--version", "0.3.0", cwd=tmp_path)
    line = done.stdout.partition("Next\n")[2].strip().splitlines()[0]
    assert "build comparisons --engine fake --limit 8 --version 0.3.0" in line
    again = cli(*line.split()[3:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"{name}@0.3.0" in again.stdout and "was there" in again.stdout


def test_build_prints_funnel_examples_folders_and_next_commands(tmp_path: Path) -> None:
    done = cli("build", "comparisons", "--engine", "fake", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "comparisons@0.1.0",
        "chosen_too_short",
        "comparison ",
        "build/comparisons/0.1.0",
        "Next",
        "fake engine",
    ):
        assert text in done.stdout
    again = cli("build", "comparisons", "--engine", "fake", cwd=tmp_path)
    assert again.stdout.count("was there") == 3
    for line in done.stdout.partition("Next\n")[2].strip().splitlines():
        next_one = subprocess.run(
            line.strip().replace("python", sys.executable, 1),
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert next_one.returncode == 0, (line, next_one.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        "build nothing",
        "build",
        "build comparisons --engine gpu",
        "build comparisons --limit some",
        "build comparisons --limit 0",
        "build comparisons --version 1",
        "build comparisons --version ../../1.0.0",
        "build comparisons --config nowhere.toml",
        "build comparisons --set queries.nothing=1",
        "build comparisons --from nothing@1.0.0",
        "build comparisons --unknown",
        "build comparisons --engine fake --set comparisons.checks=['too_short','too_short']",
        "build comparisons --engine fake --set queries.temperature=inf",
        "build comparisons --engine fake --set queries.temperature=nan",
        "build comparisons --engine fake --set comparisons.length_sd=inf",
        "build comparisons --engine fake --set queries.seeds=nowhere.txt",
        "build comparisons --engine fake --set card.license=[x",
        "build comparisons --engine fake --version 1.2.1\u0663",
        "build comparisons --engine fake --from responses@1.0.0 --from responses@2.0.0",
        "show nothing",
        "show queries@0.1.0",
        "verify ../x@1.0.0",
        "lineage x@1.0.0",
        "import queries nowhere.txt --version 1.0.0",
        "import queries nowhere.txt",
        "import responses nowhere.jsonl --ladder a,b --version 1.0.0",
        "frobnicate",
        "--root /dev/null list",
    ],
)
def test_bad_usage_is_exit_2_with_one_line_and_nothing_left_behind(tmp_path: Path, arguments: str) -> None:
    done = cli(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("almost-data: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_show_json_is_the_manifest(fake_store: Store) -> None:
    done = cli("show", "comparisons@0.1.0", "--json", "--root", str(fake_store.root))
    assert done.stdout == (fake_store.path("comparisons@0.1.0") / "manifest.json").read_text("utf-8")
    assert json.loads(done.stdout)["name"] == "comparisons"


def test_list_show_lineage_verify_take_the_root_before_or_after_the_verb(fake_store: Store) -> None:
    root = str(fake_store.root)
    assert "queries@0.1.0" in cli("list", "--root", root).stdout
    assert "chosen_too_short" in cli("--root", root, "show", "comparisons@0.1.0").stdout
    tree = cli("--root", root, "lineage", "comparisons@0.1.0").stdout
    assert (
        tree.index("comparisons@")
        < tree.index("responses@")
        < tree.index("queries@")
        < tree.index("seed queries")
    )
    assert cli("verify", "responses@0.1.0", "--root", root).returncode == 0


def test_verify_of_damaged_files_is_exit_1(fake_store: Store, tmp_path: Path) -> None:
    shutil.copytree(fake_store.root, tmp_path / "build")
    Store(tmp_path / "build").files("queries@0.1.0", "default")[0].unlink()
    done = cli("verify", "queries@0.1.0", cwd=tmp_path)
    assert done.returncode == 1
    assert "counts" in done.stdout


def test_one_damaged_manifest_does_not_hide_the_rest(fake_store: Store, tmp_path: Path) -> None:
    shutil.copytree(fake_store.root, tmp_path / "build")
    (tmp_path / "build" / "queries" / "0.1.0" / "manifest.json").write_text("{}")
    done = cli("list", cwd=tmp_path)
    assert done.returncode == 0
    assert "damaged" in done.stdout and "comparisons@0.1.0" in done.stdout
    assert cli("show", "queries@0.1.0", cwd=tmp_path).returncode == 2


def test_dry_run_builds_nothing(tmp_path: Path) -> None:
    done = cli("build", "comparisons", "--engine", "fake", "--dry-run", cwd=tmp_path)
    assert done.stdout.count("would be built") == 3
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_exit_130_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "almost_data", "build", "queries", "--engine", "fake"]
    command += ["--set", "queries.target=100000", "--set", "queries.max_rounds=100000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("queries: 0 of 100,000")
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    message = process.communicate()[1]
    assert (process.returncode, message.count("\n")) == (130, 1)
    assert not (tmp_path / "build" / "queries").exists()


def test_a_full_disk_is_exit_1_and_leaves_no_artifact(tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: the same write fails, the same way."""
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); import signal; "
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code += "from almost_data.cli.app import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "build", "queries", "--engine", "fake"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert Store(tmp_path / "build").manifests() == []


def test_help_and_list_import_nothing_heavy(fake_store: Store) -> None:
    for arguments in (["--help"], ["list", "--root", str(fake_store.root)]):
        code = "import sys\nfrom almost_data.cli.app import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        code += "    heavy = {'torch', 'datasets', 'matplotlib', 'polars', 'pyarrow'} & set(sys.modules)\n"
        code += "    assert not heavy, heavy"
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_nothing_is_built_when_a_later_step_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        "[responses]\nresponders = [{name='a', model='m', prompt='hhh', shots=99}]\n"
    )
    done = cli("build", "responses", "--engine", "fake", "--config", "c.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    (tmp_path / "build" / "comparisons" / "0.1.0").mkdir(parents=True)
    blocked = cli("build", "comparisons", "--engine", "fake", cwd=tmp_path)
    assert (blocked.returncode, "is in the way" in blocked.stderr) == (2, True)
    assert Store(tmp_path / "build").manifests() == []


def test_a_reference_that_nothing_reads_is_refused(fake_store: Store) -> None:
    done = cli(
        *("build", "comparisons", "--engine", "fake", "--version", "0.9.0", "--root", str(fake_store.root)),
        *("--from", "responses@0.1.0", "--from", "queries@9.9.9"),
    )
    assert (done.returncode, "nothing reads it" in done.stderr) == (2, True)


def test_brackets_and_escape_sequences_are_text(tmp_path: Path) -> None:
    root = str(tmp_path / "a[/b]")
    assert cli("list", "--root", root).returncode == 0
    long = "A reply of more than fifty characters that ends as a reply should end"
    row = {"prompt": "\x1b[2Jclear?", "x": f"{long} \x1b]0;title\x07!", "y": f"[red]{long}[/b]."}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    made = cli(
        "import",
        "responses",
        str(tmp_path / "a.jsonl"),
        "--ladder",
        "x,y",
        "--version",
        "1.0.0",
        "--root",
        root,
    )
    assert made.returncode == 0, made.stderr
    done = cli("build", "comparisons", "--version", "1.0.0", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "[red]" in done.stdout


@pytest.mark.parametrize(
    "verb", ["build", "import", "list", "show", "diff", "ablate", "journal", "lineage", "verify"]
)
def test_every_verb_has_help(verb: str) -> None:
    assert f"almost-data {verb}" in cli(verb, "--help").stdout
    assert verb in cli("--help").stdout
