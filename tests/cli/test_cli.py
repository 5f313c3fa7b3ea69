"""The command line as a user meets it: exit codes, one line on stderr, output for people and programs."""

import errno
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import almost_data
from almost_data import registry
from almost_data.cli import app
from almost_data.cli.console import print_rows
from almost_data.cli.summary import _funnel as funnel
from almost_data.generation import Reply, Request
from almost_data.generation.fake import FakeEngine
from almost_data.run.build import BuildRun
from almost_data.store.store import Store
from tests.command import at_hub
from tests.command import run as cli
from tests.settings import fake_tiny


def test_a_filter_that_dropped_no_row_is_in_the_summary_and_imports_name_the_next_models(
    tmp_path: Path,
) -> None:
    (tmp_path / "q.txt").write_text("Why is the sky blue?\n")
    done = cli("import", "queries", "q.txt", "--version", "1.0.0", cwd=tmp_path)
    words = " ".join(done.stdout.split())
    assert "Write your models into ladder.toml, best first" in words
    assert "built in" in words and "was there" not in words
    again = cli("import", "queries", "q.txt", "--version", "1.0.0", cwd=tmp_path).stdout
    assert "was there" in again and "built in" not in again
    assert "--preset delta in place of the file asks Qwen/Qwen3-32B and Qwen/Qwen3-0.6B." in words
    assert "build responses --config ladder.toml --version 1.0.0" in words
    (tmp_path / "filters.toml").write_text(
        '[[queries.filters]]\nname = "im_sorry"\ndescription = "It is an apology."\n'
        "drop = \"STARTS_WITH(query, 'Never')\"\n"
    )
    words = ("build", "queries", "--engine", "fake", "--limit", "4", "--config", "filters.toml")
    assert "im_sorry\u00a00" in cli(*words, cwd=tmp_path).stdout


class InterruptedEngine(FakeEngine):
    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        yield from islice(super().generate(requests), 100)
        raise KeyboardInterrupt


def test_a_dry_run_after_an_interrupted_build_says_what_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    BuildRun(store, "0.1.0", fake_tiny(), FakeEngine()).build("queries")
    with pytest.raises(KeyboardInterrupt):
        BuildRun(store, "0.1.0", fake_tiny(), InterruptedEngine()).build("responses")
    words = ("build", "responses", "--engine", "fake", "--version", "0.1.0", "--root", str(store.root))
    printed = " ".join(cli(*words, "--dry-run").stdout.split())
    begun = re.search(
        r"responses@0\.1\.0 was begun: (\d+) answers are in the journal\. With the same settings (\d+) of "
        r"these (\d+) requests are left, about (\d+)% of its cost",
        printed,
    )
    assert begun and int(begun[1]) == 100 and int(begun[1]) + int(begun[2]) == int(begun[3])
    assert "of the" not in cli("journal", "--root", str(tmp_path / "none")).stdout
    assert "answers that all builds needed, 0 (0%) were in it already" in " ".join(
        cli("journal", "--root", str(store.root)).stdout.split()
    )
    assert cli(*words).returncode == 0
    assert "was begun" not in cli(*words, "--dry-run").stdout


@pytest.mark.parametrize(("name", "child"), [("queries", "responses"), ("responses", "comparisons")])
def test_the_next_command_goes_on_from_where_the_build_ended(tmp_path: Path, name: str, child: str) -> None:
    done = cli("build", name, "--engine", "fake", "--limit", "8", "--version", "0.3.0", cwd=tmp_path)
    line = done.stdout.partition("Next\n")[2].strip().splitlines()[0]
    assert f"build {child} --engine fake --limit 8 --version 0.3.0" in line
    again = cli(*line.split()[3:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"{name}@0.3.0" in again.stdout and "was there" in again.stdout
    done = cli("build", name, "--engine", "fake", "--limit", "8", "--version", "0.3.0", cwd=tmp_path)
    line = done.stdout.partition("Next\n")[2].strip().splitlines()[0]
    assert f"--version 0.4.0 --from {name}@0.3.0" in line, "that version of the child exists"
    assert cli(*line.split()[3:], cwd=tmp_path).returncode == 0


def test_a_terminal_without_unicode_gets_other_characters(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    (tmp_path / "q.txt").write_text("Was ist № 1？\nЧто?\n", "utf-8")
    commands = "import queries q.txt --version 1.0.0", "show queries", "push queries --repo a/b --dry-run"
    code = "import sys\nfrom almost_data.cli.app import main\nfor words in sys.argv[1:]: main(words.split())"
    program = [sys.executable, "-c", code, *commands]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"") and b"a/b" in done.stdout


def test_build_prints_funnel_examples_folders_and_next_commands(tmp_path: Path) -> None:
    done = cli("build", "comparisons", "--engine", "fake", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "comparisons@0.1.0" in done.stdout and "build/comparisons/0.1.0" in done.stdout
    assert "chosen_too_short" in done.stdout and "comparison " in done.stdout and "fake engine" in done.stdout
    again = cli("build", "comparisons", "--engine", "fake", cwd=tmp_path)
    assert again.stdout.count("was there") == 3
    for line in done.stdout.partition("Next\n")[2].strip().splitlines():
        next_one = cli(*shlex.split(line.strip())[3:], cwd=tmp_path)
        assert next_one.returncode == 0, (line, next_one.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        "build nothing",
        "build",
        "build comparisons --engine gpu",
        "build comparisons --limit some",
        "build comparisons --limit 0",
        "build comparisons --engine fake --limit 99999999999999999999",
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
        "show queries responses",
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


def test_show_says_why_rows_were_dropped(fake_store: Store) -> None:
    printed = cli("show", "comparisons@0.1.0", "--root", str(fake_store.root)).stdout
    reasons = printed.partition("dropped as ")[2].partition("\nconfig ")[0]
    ledger = fake_store.manifest("comparisons@0.1.0").ledger
    dropped = {reason: entry.description for entry in ledger for reason, n in entry.dropped.items() if n}
    assert dropped
    assert all(f"{reason} {sentence}" in " ".join(reasons.split()) for reason, sentence in dropped.items())


def test_what_left_a_response_alone_is_in_the_funnel(fake_store: Store) -> None:
    manifest = fake_store.manifest("comparisons@0.1.0")
    reasons = manifest.diagnostics["dropped_beside"]["few_survivors"]
    numbers = ", ".join(f"{name} {rows}" for name, rows in reasons.items())
    printed = io.StringIO()
    Console(file=printed, width=400).print(funnel([manifest]))
    assert f"(the other responses to those queries fell to {numbers})" in printed.getvalue()


def test_show_json_is_the_manifest(fake_store: Store) -> None:
    done = cli("show", "comparisons@0.1.0", "--json", "--root", str(fake_store.root))
    assert done.stdout == (fake_store.path("comparisons@0.1.0") / "manifest.json").read_text("utf-8")
    assert json.loads(done.stdout)["name"] == "comparisons"


def test_list_show_lineage_verify_take_the_root_before_or_after_the_verb(fake_store: Store) -> None:
    root = str(fake_store.root)
    assert "queries@0.1.0" in cli("list", "--root", root).stdout
    assert "chosen_too_short" in cli("--root", root, "show", "comparisons@0.1.0").stdout
    tree = cli("--root", root, "lineage", "comparisons@0.1.0").stdout
    places = [tree.index(name) for name in ("comparisons@", "responses@", "queries@", "seed queries")]
    assert places == sorted(places)
    assert cli("verify", "responses@0.1.0", "--root", root).returncode == 0


def test_show_begins_with_an_example_and_the_verdicts_and_cuts_no_name(fake_store: Store) -> None:
    for columns in (60, 120):
        printed = cli("show", "comparisons", "--root", str(fake_store.root), columns=columns).stdout
        places = [printed.index(word) for word in ("╭─ comparison ", "verdict", "account", "setting")]
        assert places == sorted(places)
        assert all(entry.filter in printed for entry in fake_store.manifest("comparisons@0.1.0").ledger)
        equal = printed.partition("share_equal_length")[2].partition("queries")[0]
        assert "half of it counts as longer" in equal and "%" in equal
        assert "share_chosen_longer" not in printed, "the verdict has the one number for that"
        assert fake_store.manifest("comparisons@0.1.0").digest in printed


def test_a_long_value_leaves_room_for_what_it_is_of(fake_store: Store) -> None:
    printed = cli("show", "comparisons", "--root", str(fake_store.root), columns=48).stdout
    assert "always picking the " in printed


def test_a_table_breaks_between_its_columns_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    narrow = Console(file=printed, force_terminal=True, color_system=None, width=22)
    monkeypatch.setattr("almost_data.cli.console.console", narrow)
    rows = [("queries@1.0.0", 1_000, "dataset", ""), ("a@1.0.0", "", "", "")]
    print_rows("ref", ">rows", "what", "note", rows=rows)
    lines = ["ref             rows", "  what", "queries@1.0.0  1,000", "  dataset", "a@1.0.0"]
    assert printed.getvalue().splitlines() == lines


def test_a_name_that_is_nearly_right_is_proposed(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    assert 'Did you mean "sample"' in cli("sampel").stderr
    assert 'Did you mean "rm"' in cli("delete", "comparisons@0.1.0", *root).stderr
    assert "(see --help)" in cli("comparisons").stderr
    assert "write 0.1.0, without the v" in cli("show", "comparisons@v0.1.0", *root).stderr
    assert "did you mean 'comparisons'" in cli("show", "comparison", *root).stderr
    assert "did you mean 'comparisons'" in cli("show", "comparsons@0.1.0", *root).stderr
    assert "did you mean 'comparisons'" in cli("build", "comparison").stderr
    assert "name the object in it too, as nowhere.py:BUILDER" in cli("build", "nowhere.py").stderr


def test_sample_counts_queries_where_it_shows_all_responses_to_one(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    for name, unit in (("responses", "queries"), ("comparisons", "rows")):
        assert f" {unit} that match in {name}@0.1.0" in cli("sample", name, "-n", "1", *root).stdout


def test_no_color_is_obeyed(fake_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, has_color in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        monkeypatch.setenv("FORCE_COLOR", "1")
        command = [sys.executable, "-m", "almost_data", "show", "comparisons", "--root", str(fake_store.root)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert ("\x1b[31m" in printed or "\x1b[1;32m" in printed) == has_color


def test_a_flag_is_named_as_it_was_typed(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    assert cli("sample", "queries", "-n", "0", *root).stderr == "almost-data: -n 0: give 1 or more\n"
    assert cli("sample", "queries", "--n", "0", *root).stderr == "almost-data: --n 0: give 1 or more\n"
    assert cli("sample", "queries", "-n", "ten", *root).stderr == "almost-data: -n ten: give a whole number\n"
    assert "almost-data: -o a.xls: " in cli("export", "queries", "-o", "a.xls", *root).stderr


@pytest.mark.parametrize(
    ("words", "number"), [("list x", "none"), ("show x y", "only 1"), ("diff x y z", "only 2")]
)
def test_an_argument_too_many_is_named(words: str, number: str) -> None:
    done = cli(*words.split())
    line = f"unexpected argument '{words[-1]}': this command takes {number} (see --help)\n"
    assert (done.returncode, done.stderr) == (2, f"almost-data: {line}")


@pytest.mark.parametrize("words", ["build queries --limit 1.5", "sample x -n 2.5", "eval vicuna --limit=.5"])
def test_a_fraction_is_no_whole_number(words: str) -> None:
    done = cli(*words.split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("5: give a whole number\n")


def test_an_option_of_another_name_is_proposed(fake_store: Store) -> None:
    root = ["--root", str(fake_store.root)]
    for words in (["--rejected"], ["--rejected", "too_short"], ["--reason=too_short"]):
        assert "Did you mean --dropped?" in cli("sample", "comparisons", *words, *root).stderr
    assert "--dropped" not in cli("list", "--rejected", *root).stderr
    assert "Did you mean --n?" in cli("sample", "comparisons", "--limit", "3", *root).stderr


def test_a_folder_that_cannot_be_written_to_is_a_line_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        app._end(OSError(errno.EROFS, "Read-only file system", "build/.locks"), [], app.app)
    line = "build/.locks: Read-only file system: make it writable, or name another folder by --root"
    assert capsys.readouterr().err == f"almost-data: {line}\n"


@pytest.mark.parametrize(
    "words", ["lits", "import preference x.jsonl", "import x.jsonl", "import", "list", "build", "eval"]
)
def test_version_behind_a_word_is_never_the_question_for_the_program_s_own(words: str) -> None:
    done = cli(*words.split(), "--version", "1.0.0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Unknown" in done.stderr
    assert cli("--version").stdout == f"{almost_data.__version__}\n"


def test_an_option_that_is_missing_is_named(tmp_path: Path) -> None:
    assert cli("export", "x@1.0.0", cwd=tmp_path).stderr == "almost-data: --out is missing (see --help).\n"
    done = cli("export", "x@1.0.0", "-o", cwd=tmp_path)
    assert "-o requires an argument" in done.stderr


def test_one_damaged_manifest_does_not_hide_the_rest(copy: Store, tmp_path: Path) -> None:
    (copy.path("queries@0.1.0") / "manifest.json").write_text("{}")
    done = cli("list", cwd=tmp_path)
    assert done.returncode == 0
    assert "damaged" in done.stdout and "comparisons@0.1.0" in done.stdout
    assert cli("show", "queries@0.1.0", cwd=tmp_path).returncode == 2


def test_dry_run_builds_nothing(tmp_path: Path) -> None:
    done = cli("build", "comparisons", "--engine", "fake", "--dry-run", cwd=tmp_path)
    assert done.stdout.count("would be built") == 3
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_needs_no_hub(tmp_path: Path) -> None:
    """Models that cannot be asked for are planned without their commits; a build is refused."""
    words = "build", "comparisons", "--preset", "almost", "--engine", "transformers"
    with at_hub({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}):
        planned = cli(*words, "--dry-run", cwd=tmp_path)
        refused = cli(*words, cwd=tmp_path)
    assert planned.returncode == 0 and planned.stdout.count("would be built") == 3
    assert " ".join(planned.stdout.split()).count("without commits of models") == 1
    assert refused.returncode == 2 and "the Hub cannot be reached" in refused.stderr


def flags_of(name: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The flags that the help of `build NAME` shows."""
    app.main(["build", name, "--help"])
    words = capsys.readouterr().out.split()
    return {word for word in words if word.startswith("--")}


def test_a_build_takes_its_own_settings_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {name: flags_of(name, capsys) for name in registry.names("builders")}
    settings = {}
    for name in flags:
        fields = (field.replace("benchmarks", "benchmark") for field in registry.load("builders", name).flags)
        settings[name] = {f"--{field.replace('_', '-')}" for field in fields}
    for name, flag in flags.items():
        assert settings[name] <= flag, name
        for sibling in flags.keys() - {name}:
            assert not (settings[name] - settings[sibling]) & flags[sibling], (name, sibling)
        builders = [registry.load("builders", name)]
        for builder in builders:
            builders += [
                registry.load("builders", parent) for parent in (*builder.parents, *builder.optional)
            ]
        assert ("--take-turns" in flag) == any(builder.asks_reward_models for builder in builders)
    assert "--engine" in flags["comparisons"], "the datasets above it are built by asking models"
    assert not {"--engine", "--limit", "--max-failures"} & flags["community"]


@pytest.mark.parametrize(
    ("command", "setting", "flag"),
    [
        ("build comparisons", "run.max_failures 2: bad", "--max-failures 2: bad"),
        ("build comparisons --version 1", "give run.retry_failed another run.version.", None),
        ("build comparisons", "comparisons.pairing and queries.limit", "--pairing and queries.limit"),
        ("build comparisons", "comparisons.benchmarks", "--benchmark"),
        ("build comparisons", "comparisons.min_chars", "comparisons.min_chars"),
        ("build community", "run.engine", "run.engine"),
        ("import responses x.jsonl", "import.ladder: name", "--ladder: name"),
        ("push x", "/a/hub.repo hub.repository run.py my.run.version", None),
        ("nothing", "run.version", "run.version"),
    ],
)
def test_settings_in_errors_are_shown_as_the_flags_of_the_command(
    command: str, setting: str, flag: str | None
) -> None:
    if flag is None:
        flag = setting.replace("run.retry_failed", "--retry-failed").replace(" run.version", " --version")
    assert app.name_flags(setting, command.split()) == flag


def test_a_name_alone_is_its_newest_version(copy: Store) -> None:
    root = ("--root", str(copy.root))
    build = ("build", "comparisons", "--engine", "fake", *root)
    rebuilt = cli(*build, "--version", "0.10.0", "--from", "responses", "--set", "comparisons.min_chars=60")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert cli("show", "comparisons", *root).stdout.startswith("comparisons@0.10.0")
    assert "comparisons@0.10.0: manifest" in cli("verify", "comparisons", *root).stdout
    assert cli("lineage", "comparisons", *root).stdout.startswith("comparisons@0.10.0")
    assert "min_chars: 50 -> 60" in cli("diff", "comparisons@0.1.0", "comparisons", *root).stdout
    card = copy["comparisons@0.10.0"].card
    assert "--from responses@0.1.0" in card, "the card's command is that of these very parents"


def test_what_is_printed_for_programs_is_json(fake_store: Store) -> None:
    def data(*arguments: str) -> Any:
        return json.loads(cli(*arguments, "--json", "--root", str(fake_store.root)).stdout)

    refs = [artifact["ref"] for artifact in data("list")]
    assert refs == fake_store.refs()
    assert data("verify", "queries") == {"ref": "queries@0.1.0", "problems": [], "unproven": []}
    tree = data("lineage", "comparisons")
    assert tree["parents"][0]["parents"][0]["ref"] == "queries@0.1.0"
    assert data("diff", "queries", "queries")["lost"] == 0
    builds = {build["name"]: build["answered"] for build in data("journal")["builds"]}
    assert builds.keys() == {"queries@0.1.0", "responses@0.1.0"} and min(builds.values()) > 0


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_is_installed_by_one_command(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli("--install-completion", "--shell", shell).returncode == 0
    [script] = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert "demonstrations" in script.read_text() and "pairing" in script.read_text()


def test_a_defect_is_one_line_and_a_file_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(self: Store) -> list[str]:
        raise KeyError("nobody thought of this")

    monkeypatch.setattr(Store, "refs", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit, match="1"):
        app.main(["list"])
    [file] = tmp_path.iterdir()
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and str(file) in message
    assert "in broken" in file.read_text()


def test_help_and_list_import_nothing_heavy(fake_store: Store) -> None:
    for arguments in (["--help"], ["list", "--root", str(fake_store.root)]):
        code = "import sys\nfrom almost_data.cli.app import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        code += "    heavy = {'torch', 'datasets', 'matplotlib', 'polars', 'pyarrow'} & set(sys.modules)\n"
        code += "    assert not heavy, heavy"
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_filters_of_a_dataset_that_exists_are_named_as_not_used(fake_store: Store, tmp_path: Path) -> None:
    rule = (
        '[[{}.filters]]\nname = "{}"\ndescription = "Too long."\ndrop = "chosen_length > 9"\nunit = "pair"\n'
    )
    (tmp_path / "f.toml").write_text(rule.format("comparisons", "brief") + rule.format("filtered", "terse"))
    words = ("--config", str(tmp_path / "f.toml"), "--root", str(fake_store.root))
    words += ("--dry-run", "--version", "0.9.0")
    build = cli("build", "filtered", "--from", "comparisons@0.1.0", *words)
    line = "not used: brief of comparisons.filters, since comparisons@0.1.0 exists without"
    assert build.returncode == 0 and line in build.stdout.splitlines()
    build = cli("build", "comparisons", "--from", "responses@0.1.0", *words)
    assert build.returncode == 0 and "not used" not in build.stdout


def test_a_parent_that_exists_is_named_where_another_one_is_built(fake_store: Store, tmp_path: Path) -> None:
    words = ("--engine", "fake", "--dry-run", "--version", "0.9.0")
    use = "to use one that does, add --from responses@0.1.0"
    line = f"responses@0.9.0 does not exist, and is built first: {use}"
    assert line in cli("build", "comparisons", *words, "--root", str(fake_store.root)).stdout.splitlines()
    assert "--from" not in cli("build", "comparisons", *words, "--root", str(tmp_path / "new")).stdout
    for root, ref in ((fake_store.root, "comparisons@0.1.0"), (tmp_path / "new", "comparisons@VERSION")):
        done = cli("build", "filtered", *words, "--root", str(root))
        assert done.returncode == 2 and "comparisons@0.9.0 does not: give " + ref in done.stderr
    words = (*words, "--root", str(fake_store.root))
    assert "is built first" not in cli("build", "filtered", "--from", "comparisons@0.1.0", *words).stdout
    assert "is built first" not in cli("build", "comparisons", "--from", "queries@0.1.0", *words).stdout


def test_nothing_is_built_when_a_later_step_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        "[responses]\nresponders = [{name='a', model='m', prompt='hhh', shots=99}]\n"
    )
    done = cli("build", "responses", "--engine", "fake", "--config", "c.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    (tmp_path / "build" / "comparisons" / "0.1.0").mkdir(parents=True)
    blocked = cli("build", "comparisons", "--engine", "fake", cwd=tmp_path)
    assert (blocked.returncode, "is in the way" in blocked.stderr) == (2, True)
    assert Store(tmp_path / "build").refs() == []


def test_a_reference_that_nothing_reads_is_refused(fake_store: Store) -> None:
    done = cli(
        *("build", "comparisons", "--engine", "fake", "--version", "0.9.0", "--root", str(fake_store.root)),
        *("--from", "responses@0.1.0", "--from", "queries@9.9.9"),
    )
    assert (done.returncode, "nothing reads it" in done.stderr) == (2, True)


@pytest.mark.parametrize("source", ["data/pairs.csv", "./data/pairs.csv@v1.0.0", "data/no.jsonl", "./data"])
def test_a_file_is_no_source_of_a_build(tmp_path: Path, source: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pairs.csv").write_text("prompt,chosen,rejected\nq,a,b\n")
    done = cli("build", "filtered", "--from", source, "--version", "1.0.0", cwd=tmp_path)
    assert done.returncode == 2 and "tag or a commit" not in done.stderr
    assert re.search(r"it is a (file|folder): `import` makes a dataset of it|no such file", done.stderr)


def test_json_holds_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    """A character that JSON may hold as it is begins a sequence in some terminals, or turns the direction."""
    row = {"prompt": "Why?", "chosen": "It is \x9b31mred\u202e.", "rejected": "No."}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    cli("import", "preferences", "a.jsonl", "--version", "1.0.0", cwd=tmp_path)
    printed = cli("sample", "comparisons", "--json", cwd=tmp_path).stdout
    assert "\x9b" not in printed and "\u202e" not in printed
    assert row["chosen"] in [side["text"] for side in json.loads(printed)[0]["sides"]]


def test_brackets_and_escape_sequences_are_text(tmp_path: Path) -> None:
    root = str(tmp_path / "a[/b]")
    assert cli("list", "--root", root).returncode == 0
    long = "A reply of more than fifty characters that ends as a reply should end"
    row = {"prompt": "\x1b[2Jclear?", "x": f"{long} \x1b]0;title\x07!", "y": f"[red]{long}[/b]."}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    imported = ("import", "responses", str(tmp_path / "a.jsonl"), "--ladder", "x,y", "--version", "1.0.0")
    finished = cli(*imported, "--root", root)
    assert finished.returncode == 0, finished.stderr
    done = cli("build", "comparisons", "--version", "1.0.0", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "[red]" in done.stdout


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_has_help(verb: str) -> None:
    assert f"almost-data {verb}" in cli(verb, "--help").stdout
    assert verb in cli("--help").stdout
