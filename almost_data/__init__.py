"""Preference data from synthetic feedback (ALMoST, arXiv 2305.13735), as versioned Hugging Face datasets.

>>> import almost_data
>>> run = almost_data.prepare("fake", root=getfixture("tmp_path"), limit=4)
>>> [step.manifest.ref for step in run.build("responses")]
['queries@0.1.0', 'responses@0.1.0']

All that a notebook, or a builder, filter, engine or evaluation of another package needs is here.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@cache
def _modules() -> dict[str, str]:
    """The public names and their modules, from the stub that type checkers read: the only list of them."""
    import ast

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return dict(sorted((alias.name, f".{node.module}") for node in imports for alias in node.names))


def __getattr__(name: str) -> Any:
    """A name when it is first used: `--help` needs no data library, a signal finds its handler at once."""
    if name == "__all__":
        return list(_modules())
    if name == "__version__":
        from importlib.metadata import version

        return version("almost_data")
    if name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_modules()[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*_modules(), "__doc__", "__version__"})
