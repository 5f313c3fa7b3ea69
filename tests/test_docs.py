"""README and docs stay true: their commands parse, the quick ones run, and so does their Python."""

import csv
import dataclasses
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import almost_data
from almost_data.cli import app as cli
from almost_data.diagnostics.rules import RULES
from almost_data.readers.reasons import REASONS
from almost_data.training.data import RULES as RECIPE_REASONS

PROJECT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(PROJECT).as_posix(): path.read_text("utf-8")
    for path in [PROJECT / "README.md", *sorted((PROJECT / "docs" / "pages").rglob("*.md"))]
}
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\w+\.(?:toml|py))\n")
SLOW = re.compile(
    r"(git|make|accelerate|pip|python3 -m venv|\.) .*|python recipes/.*"
    r"|.* --engine (vllm|transformers|ray)\b.*"
    r"|almost-data (push|pull|verify) .*\bORG/.*|.* --from ORG/.*|.* --preset (almost|tiny)\b.*"
    r"|almost-data eval .*"
)
"""What takes more than a minute, trains, or needs a GPU, a server, a cluster, or the Hub."""
SERVER = re.compile(r"--engine openai( --base-url \S+)+")
"""The server's place is taken by the fake engine."""


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The blocks of a page: language, file name (empty where it is none), text."""
    blocks_of_page = []
    for language, title, text in BLOCK.findall(PAGES[page]):
        named = NAMED.match(text)
        blocks_of_page.append((language, title or (named[1] if named else ""), text))
    return blocks_of_page


def commands(page: str) -> list[str]:
    lines = [
        line.partition(" #")[0].strip()
        for language, _, text in blocks(page)
        if language == "sh"
        for line in text.splitlines()
    ]
    return [line for line in lines if line and not line.startswith("#")]


@cache
def recipe_flags() -> frozenset[str]:
    from trl import DPOConfig, ModelConfig, RewardConfig

    from almost_data.training import PolicyInputs

    kinds = (PolicyInputs, RewardConfig, DPOConfig, ModelConfig)
    return frozenset(field.name for kind in kinds for field in dataclasses.fields(kind)) | {"config"}


def names_base_model(recipe: str, words: list[str]) -> bool:
    """Whether a recipe's command, or its config, names the model that it starts from."""
    config = yaml.safe_load((PROJECT / words[words.index("--config") + 1]).read_text("utf-8"))
    return "--model_name_or_path" in words or "model_name_or_path" in {
        **config["all"],
        **config.get(recipe, {}),
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str) -> None:
    for command in commands(page):
        words = shlex.split(command)
        scripts = [word for word in words if word.startswith("recipes/") and word.endswith(".py")]
        if words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        elif words[0] == "almost-data" and any(".py:" in word for word in words[2:3]):
            assert words[1] in {"build", "eval"}, command  # a command where its file is, as in the page's run
        elif words[0] == "almost-data":
            cli.app.parse_args(words[1:], exit_on_error=False, print_error=False)
        elif "recipes/reproduce/cost.py" in scripts:
            subprocess.run([sys.executable, *words[1:]], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        elif scripts:
            flags = {word[2:] for word in words[words.index(scripts[0]) + 1 :] if word.startswith("--")}
            assert flags <= recipe_flags(), command
            assert all((PROJECT / word).is_file() for word in words if word.startswith("recipes/")), command
            assert names_base_model(Path(scripts[0]).stem, words), command
        else:
            assert words[0] in {"git", "pip", "python3", "."}, command


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_quick_ones_run_as_they_stand(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    (tmp_path / "recipes").symlink_to(PROJECT / "recipes")
    for language, name, text in blocks(page):
        if name:
            (tmp_path / name).write_text(text, "utf-8")
        elif language == "python":
            exec(compile(text, page, "exec"), {"__name__": "__main__"})
        elif language == "sh":
            for command in text.splitlines():
                run_command(command, capsys)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((PROJECT / "docs/pages/tutorials/notebook.ipynb").read_text("utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5 and not any(cell.get("outputs") for cell in notebook["cells"])
    namespace: dict[str, Any] = {}
    for place, text in enumerate(code):
        exec(compile(text, f"cell {place}", "exec"), namespace)
    assert "<iframe" in namespace["comparisons"].view(n=20)._repr_html_()


def run_command(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a line as it stands on a page; a comment may say that its exit code is 1."""
    command, _, comment = line.partition(" #")
    if not command or command.startswith("#") or SLOW.match(command):
        return
    try:
        cli.main(shlex.split(SERVER.sub("--engine fake", command))[1:])
        code = 0
    except SystemExit as stop:
        code = stop.code
    assert code == (1 if "exit code 1" in comment else 0), (command, capsys.readouterr().err)


def write_inputs(folder: Path) -> None:
    """The files that a reader of the pages has."""
    ladder = {name: text for _, name, text in blocks("docs/pages/tutorials/chat-models.md")}["ladder.toml"]
    (folder / "ladder.toml").write_text(ladder, "utf-8")
    nouns = ("sky", "sea", "moon", "grass", "snow", "fire", "rain", "wind")
    (folder / "questions.txt").write_text("".join(f"What colour is the {noun}?\n" for noun in nouns))
    reply = "A reply that is long enough for the filter, number {}, and that ends as it should."
    sizes = {"small": 0, "medium": 1, "large": 2}
    answers = [
        {"prompt": f"Question {n}?", **{name: reply.format(n) + "!" * size for name, size in sizes.items()}}
        for n in range(30)
    ]
    pairs = [{"prompt": f"Why {n}?", "chosen": f"Because of {n}.", "rejected": "No."} for n in range(30)]
    for name, rows in (("answers.jsonl", answers), ("pairs.jsonl", pairs)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with (folder / "good_and_bad.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "good", "bad"])
        writer.writerows([f"Why {n}?", f"Because of {n}.", "No."] for n in range(9))
        writer.writerow(["Why not?", "The same.", "The same."])
    posts = [
        f'<row Id="{3 * n + place}" PostTypeId="{min(place, 2)}" ParentId="{3 * n + 1}" Score="{place**3}" '
        f'Title="Why {n}?" Body="&lt;p&gt;Text {n}, {place}.&lt;/p&gt;" OwnerUserId="{place}"/>'
        for n in range(9)
        for place in (1, 2, 3)
    ]
    (folder / "Posts.xml").write_text(f"<posts>{''.join(posts)}</posts>")


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150
    [command] = re.findall(r"^make .+", (PROJECT / ".ci" / "run").read_text(), re.MULTILINE)
    assert f"`{command}`" in PAGES["README.md"], "CI runs what the README names"


def test_every_verb_and_make_target_is_documented() -> None:
    text = "\n".join([*PAGES.values(), (PROJECT / "CONTRIBUTING.md").read_text("utf-8")])
    for verb in cli.VERBS:
        assert re.search(rf"almost-data {verb}\b|`{verb}\b", text), verb
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split():
        assert f"make {target}" in text or target in {"lint", "style", "clean", "train-tiny"}, target


@pytest.mark.wheel
def test_the_site_builds_and_its_links_hold(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q"]
    arguments = ["-f", str(PROJECT / "docs" / "mkdocs.yml"), "-d", str(tmp_path / "site")]
    built = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "reference" / "cli" / "index.html").read_text("utf-8")
    for verb in cli.VERBS:
        assert f"almost-data {verb}" in page
    in_repository = re.findall(r"^## (\w+)$", PAGES["docs/pages/reference/README.md"], re.MULTILINE)
    assert sorted(in_repository) == sorted(folder.name for folder in (tmp_path / "site/reference").iterdir())
    manifest = (tmp_path / "site" / "reference" / "manifest" / "index.html").read_text("utf-8")
    assert "<td></td>" not in manifest


def test_the_python_page_has_the_members_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import reference

    page = reference.python()
    for kind in (almost_data.Store, almost_data.Artifact, almost_data.BuildRun):
        members = [name for base in kind.__mro__ for name, value in vars(base).items() if callable(value)]
        for name in members:
            assert name.startswith("_") or f"### {kind.__name__}.{name}\n" in page, name
    for field in dataclasses.fields(almost_data.Selection):
        assert re.search(rf"\| `{field.name}` \| \w+", page), field.name
    assert " at 0x" not in page and "almost_data.store" not in page


def test_the_measures_page_has_the_thresholds_of_every_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import reference

    page = reference.measures()
    for name, rule in RULES.items():
        assert f"| `{name}` | {rule.measure} | {reference.thresholds(name)} |" in page
    named = ("always_longer", "surface_model", "pairs_per_query", "duplicates", "ties")
    assert [reference.thresholds(name) for name in named] == [
        "worry from 70%, watch from 60%, fine from 40%, watch from 30%, worry below",
        "worry from 70%, watch from 60%, fine below",
        "watch from 2.5, fine below",
        "worry from 1%, watch above 0, fine at 0",
        "fine always",
    ]


def test_the_filters_page_has_every_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import reference

    page = reference.filters()
    judged = ("ratings.judge=judge", "ratings.judging=pairs")
    played = ("demonstrations.n=1", "demonstrations.turns=4")
    run = almost_data.prepare("fake", root=tmp_path, limit=3, assignments=[*judged, *played])
    for name in ("ratings", "comparisons", "demonstrations"):
        run.build(name)
    filters = {entry.filter for ref in run.store.refs() for entry in run.store.manifest(ref).ledger}
    assert len(filters) > 20
    for name in filters | set(REASONS) | set(RECIPE_REASONS):
        assert f"| `{name}` |" in page, name


def test_the_command_line_page_has_the_flags_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import reference

    page = reference.cli()
    assert "* `--dedup-prompts`: " in page and "* `--set STR...`: " in page
    assert not re.findall(r"--(?:no|empty)-|default: (?:\(\)|None|False)|Table of Contents", page)


def test_markup_is_escaped_outside_of_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import reference

    assert reference._cell("`<Image>` or <b>\n| more") == "`<Image>` or &lt;b> \\| more"


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_to_files(page: str) -> None:
    folder = (PROJECT / page).parent
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page]):
        if "://" not in link:
            assert (folder / link).exists(), link
