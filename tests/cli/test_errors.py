"""Errors below the command line name settings: `run.version`. The command line shows them as its flags."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "almost_data"
UNSWEPT = ("cli/", "evals/", "training/")
"""The command line itself, and where flags are still named. Nothing is added here."""
FOREIGN = re.compile(r"`[^`]* --[^`]*`|python recipes/[^)]*|pip install [^)]*|--served-model-name")
"""Commands of other programs, and of the recipes."""
FLAG = re.compile(r"(?<![\w-])--[a-z]")


def test_no_error_below_the_command_line_names_a_flag() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).as_posix().startswith(UNSWEPT):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Raise):
                parts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
                message = "".join(part for part in parts if isinstance(part, str))
                wrong += [f"{file}:{node.lineno}: {message}"] if FLAG.search(FOREIGN.sub("", message)) else []
    assert not wrong, "\n".join(wrong)
