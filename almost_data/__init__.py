"""Preference data from synthetic feedback (ALMoST, arXiv 2305.13735), as versioned Hugging Face datasets.

>>> import almost_data
>>> run = almost_data.prepare("fake", root=getfixture("tmp_path"), limit=4)
>>> [step.manifest.ref for step in run.build("responses")]
['queries@0.1.0', 'responses@0.1.0']

All that a notebook, or a builder, filter, engine or evaluation of another package needs is here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cards.figures import draw_bars, funnel, new_figure
    from .datasets.builder import (
        Auto,
        Builder,
        Built,
        Estimate,
        NothingLeft,
        RewardModel,
        Work,
        pin_model,
        row_seed,
        text_id,
    )
    from .datasets.config import Config, FilePath, Source
    from .datasets.filters import Filter, apply_filters, chain
    from .datasets.manifest import Entry, Manifest
    from .datasets.tables import Column, Table, frame, last_turn
    from .datasets.user_filters import UserFilter, filter_hashes, load_filters, of_unit
    from .errors import InputError
    from .evals.evaluation import EvalSession, Evaluation, ModelOptions, evaluate
    from .evals.result import EvalPlan, Line, Measurement, Result
    from .generation import CannotStart, Generator, Reply, Request, Sampling, Usage, cut_at_stop
    from .models import Model
    from .run.build import BuildRun, RunOptions, prepare
    from .run.importing import import_preferences, import_queries, import_responses
    from .scoring import Dialogue, Score, Scorer
    from .store.store import Store
    from .store.verify import verify

# Looked up when first used: `--help` needs no data library, and a signal finds its handler at once.
_MODULES = {
    "cards.figures": ("draw_bars", "funnel", "new_figure"),
    "datasets.builder": (
        "Auto",
        "Builder",
        "Built",
        "Estimate",
        "NothingLeft",
        "RewardModel",
        "Work",
        "pin_model",
        "row_seed",
        "text_id",
    ),
    "datasets.config": ("Config", "FilePath", "Source"),
    "datasets.filters": ("Filter", "apply_filters", "chain"),
    "datasets.manifest": ("Entry", "Manifest"),
    "datasets.tables": ("Column", "Table", "frame", "last_turn"),
    "datasets.user_filters": ("UserFilter", "filter_hashes", "load_filters", "of_unit"),
    "errors": ("InputError",),
    "evals.evaluation": ("EvalSession", "Evaluation", "ModelOptions", "evaluate"),
    "evals.result": ("EvalPlan", "Line", "Measurement", "Result"),
    "generation": ("CannotStart", "Generator", "Reply", "Request", "Sampling", "Usage", "cut_at_stop"),
    "models": ("Model",),
    "run.build": ("BuildRun", "RunOptions", "prepare"),
    "run.importing": ("import_preferences", "import_queries", "import_responses"),
    "scoring": ("Dialogue", "Score", "Scorer"),
    "store.store": ("Store",),
    "store.verify": ("verify",),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Auto",
    "BuildRun",
    "Builder",
    "Built",
    "CannotStart",
    "Column",
    "Config",
    "Dialogue",
    "Entry",
    "Estimate",
    "EvalPlan",
    "EvalSession",
    "Evaluation",
    "FilePath",
    "Filter",
    "Generator",
    "InputError",
    "Line",
    "Manifest",
    "Measurement",
    "Model",
    "ModelOptions",
    "NothingLeft",
    "Reply",
    "Request",
    "Result",
    "RewardModel",
    "RunOptions",
    "Sampling",
    "Score",
    "Scorer",
    "Source",
    "Store",
    "Table",
    "Usage",
    "UserFilter",
    "Work",
    "apply_filters",
    "chain",
    "cut_at_stop",
    "draw_bars",
    "evaluate",
    "filter_hashes",
    "frame",
    "funnel",
    "import_preferences",
    "import_queries",
    "import_responses",
    "last_turn",
    "load_filters",
    "new_figure",
    "of_unit",
    "pin_model",
    "prepare",
    "row_seed",
    "text_id",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("almost_data")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
