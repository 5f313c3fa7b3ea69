"""The README stays true: every command in it parses, the quick ones run, its Python runs, in order."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from almost_data.cli import app as cli
from tests.command import run
from tests.evals.known import hhh

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|python|toml)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SLOW = re.compile(
    r"make (demo|test|almost|almost-tiny|train-tiny|tables)\b|accelerate .*|.* --engine (vllm|openai|ray)\b"
    r"|python -m almost_data (push|pull|verify|build) .*\bORG/|python recipes/reproduce/.*"
    r"|.* eval (.*@0\.9\.0|.*--judge)\b"
)
"""What takes more than a minute, or needs a GPU, a server, a cluster, or the Hub."""


def commands() -> list[str]:
    lines = [
        line.partition("#")[0].strip()
        for kind, block in BLOCKS
        if kind == "sh"
        for line in block.splitlines()
    ]
    return [line for line in lines if line]


def recipe_flags() -> set[str]:
    from trl import ModelConfig, RewardConfig

    from almost_data.training import PolicyInputs

    return {
        one.name for kind in (PolicyInputs, RewardConfig, ModelConfig) for one in dataclasses.fields(kind)
    }


def test_there_is_something_to_test() -> None:
    assert len(commands()) > 8
    assert sum(kind == "python" for kind, _ in BLOCKS) >= 2


@pytest.mark.parametrize("command", commands())
def test_every_command_parses(command: str) -> None:
    first, *rest = shlex.split(command)
    if first == "make":
        subprocess.run(["make", "-n", *rest], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    elif script := next(
        (word for word in rest if word.startswith("recipes/") and word.endswith(".py")), None
    ):
        flags = {word[2:] for word in rest[rest.index(script) + 1 :] if word.startswith("--")}
        if script.startswith("recipes/reproduce/"):
            done = subprocess.run(
                [sys.executable, PROJECT / script, "--help"], capture_output=True, check=True
            )
            assert all(f"--{flag} " in done.stdout.decode() for flag in flags)
        else:
            assert flags <= recipe_flags() | {"config"}
        assert all((PROJECT / word).is_file() for word in rest if word.startswith("recipes/"))
    else:
        assert (first, *rest[:2]) == ("python", "-m", "almost_data")
        cli.app.parse_args(rest[2:], exit_on_error=False, print_error=False)


def test_the_quick_ones_run_as_they_stand(tmp_path: Path) -> None:
    # As after `make demo`, in whose folder the reader goes on: 0.1.0 is there, from another recipe.
    demo = run("build", "comparisons", "--engine", "fake", "--limit", "9", cwd=tmp_path)
    assert demo.returncode == 0, demo.stderr
    (tmp_path / "recipes").symlink_to(PROJECT / "recipes")
    (tmp_path / "questions.txt").write_text("Why is the sky blue?\nWhat is a monad?\n")
    good = "A reply that is long enough for the filter, number {}, and that ends as it should."
    rows = [
        {"prompt": f"Question {n}?"}
        | {name: good.format(n) + "!" * size for size, name in enumerate(("small", "medium", "large"))}
        for n in range(30)
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    posts = [
        f'<row Id="{3 * n + place}" PostTypeId="{min(place, 2)}" ParentId="{3 * n + 1}" Score="{place**3}" '
        f'Title="Why {n}?" Body="&lt;p&gt;Text {n}, {place}.&lt;/p&gt;" OwnerUserId="{place}"/>'
        for n in range(9)
        for place in (1, 2, 3)
    ]
    (tmp_path / "Posts.xml").write_text(f"<posts>{''.join(posts)}</posts>")
    hhh(tmp_path / "hhh")
    (tmp_path / "review.jsonl").write_text('{"question_id": 1, "score": [8, 9]}\n')
    for kind, block in BLOCKS:
        if name := re.match(r"# (\w+\.(toml|py))\n", block):
            (tmp_path / name[1]).write_text(block)
        if kind == "python":
            with chdir(tmp_path), redirect_stdout(StringIO()):
                exec(block, {"__name__": "readme"})
            continue
        for line in block.splitlines() if kind == "sh" else ():
            command = line.partition("#")[0].strip()
            if not command or SLOW.match(command):
                continue
            words = shlex.split(command)
            if words[:3] == ["python", "-m", "almost_data"]:
                done = run(*words[3:], cwd=tmp_path)
                assert done.returncode == 0, (command, done.stderr)
                continue
            arguments = [sys.executable, *words[1:]]
            done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (command, done.stderr)


def test_every_make_target_is_known_to_the_readme_or_explains_itself() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split():
        assert f"make {target}" in README or target in {"lint", "clean"}
