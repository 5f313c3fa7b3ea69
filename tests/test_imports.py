"""Imports run one way and in no circle, the public API is sorted, and heavy libraries stay inside engines."""

import ast
import importlib.metadata
import subprocess
import sys
from functools import cache
from pathlib import Path

import almost_data

PACKAGE = Path(almost_data.__file__).parent
LAYERS = (
    *(
        "errors",
        "arguments",
        "inputs",
        "outputs",
        "registry",
        "models",
        "generation",
        "scoring",
        "datasets",
        "diagnostics",
        "readers",
        "cards",
        "viewer",
        "store",
    ),
    *("builders", "run", "hub", "training", "evals", "cli", "__main__"),
)
"""Folders and files of the package, lowest first: a module imports from its own layer and those before it."""
HEAVY = {
    *("torch", "transformers", "vllm", "ray", "datasets", "matplotlib", "trl", "peft", "gguf", "aiohttp"),
    *("lm_eval", "bs4", "defusedxml", "lxml", "markdownify", "py7zr", "scipy", "sklearn"),
}
ENGINE_PARTS = {"packed.py", "padded.py", "rows.py"}
"""Halves of the transformers engine, imported when it loads a model."""


def module_name(file: Path) -> str:
    parts = ["almost_data", *file.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in PACKAGE.rglob("*.py")}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def imported_modules(name: str) -> set[str]:
    """Modules of the package, and names of foreign ones, that a module imports anywhere in its text."""
    file = MODULES[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            modules = members & MODULES.keys()
            names |= modules | ({base} if len(modules) < len(members) else set())
    return names - {name}


def test_no_module_imports_from_a_layer_above_it() -> None:
    wrong = []
    for name in MODULES.keys() - {"almost_data"}:
        layer = LAYERS.index(name.split(".")[1])
        for imported in imported_modules(name):
            assert imported.split(".")[0] not in {"trl", "recipes"}, f"{name} imports {imported}"
            if imported in MODULES and imported != "almost_data":
                is_above = LAYERS.index(imported.split(".")[1]) > layer
                wrong += [f"{name} imports {imported}"] if is_above else []
    assert not wrong, "\n".join(sorted(wrong))


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imported_modules(name) & MODULES.keys() - {"almost_data"} for name in MODULES}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in finished:
            for imported in sorted(graph[name]):
                visit(imported, (*path, name))
            finished.add(name)

    for name in sorted(graph.keys() - {"almost_data"}):
        visit(name, ())


def test_heavy_libraries_are_imported_inside_functions_only() -> None:
    for name, file in MODULES.items():
        if file.parent.name == "generation" and file.name in ENGINE_PARTS:
            continue
        for node in parsed(file).body:
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {str(node.module).split(".")[0]}
            else:
                continue
            assert not names & HEAVY, f"{name}: {names & HEAVY}"


def test_public_api_is_sorted_and_there() -> None:
    assert almost_data.__all__ == sorted(almost_data.__all__)
    for name in almost_data.__all__:
        assert getattr(almost_data, name) is not None
        assert getattr(almost_data, name).__doc__
    assert {*almost_data.__all__, "__version__", "__doc__"} == set(dir(almost_data))
    assert almost_data.__version__ == importlib.metadata.version("almost_data")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, almost_data, almost_data.generation.transformers\n"
    code += "assert not {'torch', 'polars', 'datasets', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
