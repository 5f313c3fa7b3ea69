"""Preference data from synthetic feedback (ALMoST, arXiv 2305.13735), as versioned Hugging Face datasets.

>>> import almost_data
>>> run = almost_data.prepare("fake", root=getfixture("tmp_path"), limit=4)
>>> [step.manifest.ref for step in run.build("responses")]
['queries@0.1.0', 'responses@0.1.0']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .generation import CannotStart, Generator, Reply, Request, Sampling, cut_at_stop
from .models import Model

if TYPE_CHECKING:
    from .datasets.manifest import Manifest
    from .run.build import BuildRun, prepare
    from .run.importing import import_queries, import_responses
    from .store.store import Store

# Looked up when first used, so that `import almost_data` and `--help` need no data library.
_LAZY = {
    "Manifest": "datasets.manifest",
    "BuildRun": "run.build",
    "Store": "store.store",
    "import_queries": "run.importing",
    "import_responses": "run.importing",
    "prepare": "run.build",
}

__all__ = [
    "BuildRun",
    "CannotStart",
    "Generator",
    "InputError",
    "Manifest",
    "Model",
    "Reply",
    "Request",
    "Sampling",
    "Store",
    "cut_at_stop",
    "import_queries",
    "import_responses",
    "prepare",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
