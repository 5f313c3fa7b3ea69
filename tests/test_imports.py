"""Imports run one way, the public API is sorted, and heavy libraries stay inside engines."""

import ast
import subprocess
import sys
from pathlib import Path

import almost_data

PACKAGE = Path(almost_data.__file__).parent
LAYERS = [
    {"errors"},
    {"schema", "manifest", "markdown", "generation", "prompts", "novelty", "html_text", "stackexchange"},
    {"benchmarks", "overlap", "probe"},
    {
        "digest",
        "card",
        "plots",
        "plots_model",
        "plots_tables",
        "filters",
        "ranking",
        "scoring",
        "diagnostics",
        "reviews",
    },
    {"parquet"},
    {"verify", "store"},
    {"hub"},
    {"builders"},
    {"presets", "recorded"},
    {"pipeline"},
    {"ablation"},
    {"importing", "plan", "report", "diff"},
    {"training"},
    {"evals"},
    {"show", "show_model", "show_hub", "show_eval", "show_tables"},
    {"cli_build"},
    {"cli_eval"},
    {"cli"},
    {"__main__"},
]
HEAVY = {
    *(
        "torch",
        "transformers",
        "vllm",
        "ray",
        "datasets",
        "matplotlib",
        "trl",
        "peft",
        "gguf",
        "openai",
        "lm_eval",
    ),
    *("bs4", "defusedxml", "lxml", "markdownify", "py7zr", "scipy", "sklearn"),
}


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imports(tree: ast.AST, package: list[str]) -> list[str]:
    """Full dotted names of what the module imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found += [name] if node.module else [f"{name}.{alias.name}" for alias in node.names]
    return found


def test_direction() -> None:
    for file in PACKAGE.rglob("*.py"):
        parts = ["almost_data", *file.relative_to(PACKAGE).with_suffix("").parts]
        package = parts[:-1]
        me = parts[1]
        for name in imports(ast.parse(file.read_text("utf-8")), package):
            top = name.split(".")
            assert top[0] not in {"trl", "recipes"}, f"{file}: imports {name}"
            if top[0] == "almost_data" and len(top) > 1 and me != "__init__" and top[1] != me:
                assert layer(top[1]) <= layer(me), f"{file}: {me} imports {name}"


ENGINE_PARTS = {"packed.py", "padded.py", "rows.py"}
"""Halves of the transformers engine, imported when it loads a model."""


def test_heavy_libraries_are_imported_inside_functions_only() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name == "generation" and file.name in ENGINE_PARTS:
            continue
        body = ast.parse(file.read_text("utf-8")).body
        top = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {
            name.split(".")[0] for node in top for name in imports(node, []) if not getattr(node, "level", 0)
        }
        assert not names & HEAVY, f"{file}: {names & HEAVY}"


def test_public_api_is_sorted_and_there() -> None:
    assert almost_data.__all__ == sorted(almost_data.__all__)
    for name in almost_data.__all__:
        assert getattr(almost_data, name) is not None
        assert getattr(almost_data, name).__doc__


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, almost_data, almost_data.generation.transformers\n"
    code += "assert not {'torch', 'polars', 'datasets', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
