"""Manifests of trained models as the recipes write them, and such models in a store."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from almost_data.cards import plots_model
from almost_data.cards.model import render_model
from almost_data.datasets.ledger import Entry
from almost_data.datasets.manifest import BuilderId, Manifest, Parent
from almost_data.store.publish import Record, Weights, new_manifest
from almost_data.store.publish import publish as publish_artifact
from almost_data.store.store import Store
from tests.tiny_models import save_tiny_reward

BASE = {"id": "ORG/tiny-llama", "revision": "b" * 40}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def manifest(
    recipe: str = "rm",
    name: str | None = None,
    version: str = "0.1.0",
    parents: Sequence[Manifest | Parent] = (),
    digest: str = "",
    diagnostics: dict[str, Any] | None = None,
    **config: Any,
) -> Manifest:
    """A model's manifest with no more than every model's has, and `diagnostics` beside it."""
    manifests = [parent for parent in parents if isinstance(parent, Manifest)]
    data = parents[0].ref if parents else "ORG/data@" + "c" * 40
    whole = {
        "settings": {"learning_rate": 2e-5, "num_train_epochs": 1, "max_length": 1024},
        "base": BASE,
        "dataset": {"ref": data, "config": None, "revision": None},
        "template": TEMPLATE,
        "card": {"license": None, "language": None},
        "versions": {"trl": "1.12.0"},
        **config,
    }
    draft = new_manifest(
        "model", f"{name or recipe}@{version}", BuilderId(f"recipes/{recipe}", 1), whole, parents
    )
    return msgspec.structs.replace(
        draft,
        digest=digest,
        counts={"default": {"train": 1234}},
        diagnostics={
            "models": [whole["base"], *(m for parent in manifests for m in parent.diagnostics["models"])],
            "notes": [note for parent in manifests for note in parent.diagnostics["notes"]],
            "deviations": [],
            **(diagnostics or {}),
        },
        environment={
            "python": "3.11.9",
            "platform": "Linux x86_64",
            "packages": {"trl": "1.12.0"},
            "seconds": 61.5,
            "command": "python recipes/rm.py --config tiny.yaml",
            "device": "cpu",
            "dtype": "float32",
        },
        created="2026-01-02T03:04:05+00:00",
    )


def publish(store: Store, folder: Path, draft: Manifest, ancestors: Sequence[Manifest] = ()) -> Manifest:
    """Put the model in `folder` into the store with its card and figures, as a recipe does."""

    def render(manifest: Manifest) -> dict[str, bytes]:
        figures = plots_model.render(manifest)
        text = render_model(manifest, sorted(figures), list(ancestors))
        return {"README.md": text.encode(), **figures}

    diagnostics = draft.diagnostics
    record = Record(
        diagnostics={key: value for key, value in diagnostics.items() if key not in ("models", "notes")},
        ledger=draft.ledger,
        models=diagnostics["models"],
        notes=diagnostics["notes"],
        environment=draft.environment,
    )
    with store.lock(draft.ref):
        weights = Weights(folder, draft.counts["default"])
        return publish_artifact(store, draft, weights, record, [], render)


def publish_reward(store: Store, folder: Path, name: str = "asis", **how: Any) -> Manifest:
    """A tiny random reward model as `name@0.1.0`."""
    return publish(store, save_tiny_reward(folder), manifest("rm", name, **how))


def ledger() -> list[Entry]:
    return [
        Entry("preflight", "too_long", "pair", "A pair of more than 1024 tokens.", {"max_length": 1024},
              "TRL", 1300, 1234, {"too_long": 66})
    ]  # fmt: skip


def measured(recipe: str) -> dict[str, Any]:
    """Diagnostics with everything that a recipe can measure."""
    measurements: dict[str, Any] = {
        "recipe": recipe,
        "deviations": [{"setting": "max_length", "default": 1024, "used": 512}],
        "preflight": [
            {"level": "fine", "check": "template", "rows": None, "share": None, "sentence": "It emits EOS."},
            {"level": "warn", "check": "length", "rows": 66, "share": 0.05, "sentence": "66 are too long."},
        ],
        "metrics": {"loss": 0.5512, "learning_rate": 2e-7, "entropy": None},
        "speed": {
            "tokens_per_second": 812.4,
            "rows_per_second": 1.7,
            "seconds": 725.9,
            "peak_memory_mib": 2048.0,
            "dtype": "float32",
        },
    }
    return measurements | (_rm() if recipe == "rm" else _policy(recipe != "sft"))


def _rm() -> dict[str, Any]:
    steps = range(0, 130, 10)
    bins = [
        {"low": low / 10, "high": low / 10 + 0.1, "rows": n, "confidence": low / 10 + 0.05, "accuracy": right}
        for low, n, right in ((5, 301, 0.52), (6, 160, 0.61), (7, 88, 0.7), (8, 21, 0.74), (9, 4, 1.0))
    ]
    subsets = [
        ("held-out split", 574, 260, 0.684, 0.645, 0.721, 0.61, 0.634, 0.49),
        ("left-out pair 30B-HHH-5shot > 7B-HHH-1shot", 212, 212, 0.62, 0.55, 0.68, 0.71, None, 0.52),
    ]
    keys = ("name", "rows", "queries", "accuracy", "low", "high", "always_longer", "probe", "random_head")
    buckets = [
        ("rejected longer by over 10%", 180, 0.51, 0.44, 0.58),
        ("within 10%", 90, 0.62, 0.52, 0.72),
        ("chosen longer by over 10%", 304, 0.81, 0.76, 0.85),
    ]
    return {
        "curves": {
            "loss": [[step, 0.69 * math.exp(-step / 300) + 0.02 * math.sin(step)] for step in steps],
            "accuracy": [[step, 0.5 + step / 900] for step in steps],
            "eval_loss": [[60, 0.66], [120, 0.6]],
            "mean_reward": [[step, 0.001 * math.sin(step)] for step in steps],
            "broken": [[0, None]],
        },
        "report": {
            "subsets": [dict(zip(keys, subset, strict=True)) for subset in subsets],
            "left_out_pair": "30B-HHH-5shot > 7B-HHH-1shot",
            "buckets": [
                dict(zip(("name", "rows", "accuracy", "low", "high"), bucket, strict=True))
                for bucket in buckets
            ],
            "calibration": {"ece": 0.043, "bins": bins},
            "rewards": {"mean": 0.0123, "std": 1.87, "rows": 1148},
        },
    }


def _policy(reinforced: bool) -> dict[str, Any]:
    steps = range(1, 41)
    sample = {"prompt": "How do I keep basil alive?", "before": "Well.", "after": "Water it from below."}
    scored = {"reward_before": -0.5, "reward_after": 1.25, "held_out": True}
    none = {"reward_before": None, "reward_after": None, "held_out": False}
    curves = {
        "reward": [[s, -1 + 2.5 * (1 - math.exp(-s / 15)) + 0.15 * math.sin(3 * s)] for s in steps],
        "kl": [[s, 0.35 * s + 0.8 * math.sin(s)] for s in steps],
        "length": [[s, 120 + 3.3 * s + 6 * math.cos(s)] for s in steps],
        "entropy": [[s, 90 - s] for s in steps],
    }
    if not reinforced:
        return {"curves": {"loss": [[s, 3 / s] for s in steps]}, "samples": [sample | none] * 6}
    rewards = {
        "n": 64,
        "before": {"mean": -0.98, "tokens": 120.5},
        "after": {"mean": 1.21, "tokens": 244.0},
        "gain": 2.19,
        "low": 1.9,
        "high": 2.5,
    }
    return {
        "curves": curves,
        "rewards": [
            {"prompts": "that the reward model was trained on", **rewards},
            {"prompts": "held out", **rewards},
        ],
        "samples": [sample | scored] * 5,
    }
