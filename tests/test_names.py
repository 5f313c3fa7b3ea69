"""Names say what a thing is, and functions are short enough to read at once."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
FILES = sorted(
    file for name in ("almost_data", "recipes", "tests", "docs") for file in (PROJECT / name).rglob("*.py")
)
FILLERS = set(
    "one other some more found there wanted above asked said own known given made taken left gone both told "
    "talk light everyone every shown seen drawn this what thing things".split()
)
"""Words that stand for a noun which is the better name."""
MAX_LINES = 60
"""Of a function, its docstring included."""


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text("utf-8"))))


def bound_names(file: Path) -> Iterator[tuple[str, int]]:
    """Every name that the code binds, with its line."""
    for node in nodes(file):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.alias(asname=str(name)):
                yield name, node.lineno
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                yield name, node.lineno


def test_no_filler_word_is_a_name() -> None:
    fillers = [
        f"{file}:{line}: {name}"
        for file in FILES
        for name, line in bound_names(file)
        if name.strip("_").lower() in FILLERS
    ]
    assert not fillers, "name the thing that it is:\n" + "\n".join(fillers)


def test_no_function_is_too_long() -> None:
    long = [
        f"{file}:{node.lineno}: {node.name}, {lines} lines"
        for file in FILES
        for node in nodes(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_LINES
    ]
    assert not long, "cut it where it is two things:\n" + "\n".join(long)
