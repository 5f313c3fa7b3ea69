"""Build a dataset: make a plan, and carry out its steps, upstream first."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from .. import scoring
from ..arguments import check_arguments
from ..cards import card, figures
from ..datasets.builder import Builder, Built, Progress, silent
from ..datasets.config import paths
from ..datasets.digest import Blocks
from ..datasets.ledger import undecided_notes
from ..datasets.manifest import Manifest, canonical_json
from ..datasets.tables import with_parts
from ..errors import InputError, blame
from ..generation import SharedMemory, answered, engines
from ..generation.journal import MAX_FAILURES, JournaledGenerator
from ..generation.journal_file import JournalSession
from ..models.files import file_sha256
from ..scoring.journaled import JournaledScorer
from ..store.names import check_version, parse_ref
from ..store.publish import Record, Tables, new_manifest, publish
from ..store.store import Store
from . import presets
from .garbage import rare_collection
from .plan import Plan, Planner, Step, nothing_left


@dataclass(frozen=True)
class BuildRun(Planner):
    """A store, a preset and an engine, and the artifacts that they make under one version."""

    origins: Mapping[str, str] = field(default_factory=dict)
    """Name of a parent, a builder or an engine -> how others can name it: on the Hub, or in a file."""
    max_failures: float = MAX_FAILURES
    """Share of the requests so far that may fail."""
    take_turns: bool = False
    """Whether the engine and each reward model leave the memory to whichever is asked: for one GPU."""
    memory: SharedMemory = field(default_factory=SharedMemory)
    """The memory that they share in turns."""

    def build(self, target: str | Builder, progress: Progress = silent) -> list[Step]:
        """Build a dataset and what is missing upstream; returns the steps, upstream first."""
        return self.execute(self.plan(target), progress)

    def execute(self, plan: Plan, progress: Progress = silent) -> list[Step]:
        """Carry a plan out. Raises NothingLeft, RuntimeError or InputError where a step cannot be made."""
        self.store.sweep()
        if any(step.action == "build" and step.builder and step.builder.uses_engine for step in plan.steps):
            # An engine that cannot know when it resolves a model looks now, before hours of work.
            getattr(self.generator, "check", lambda: None)()
        steps = []
        for step in plan.steps:
            manifest = step.manifest
            if step.action == "build":
                manifest = self._build(step, progress, self.retry_failed and step is plan.target)
            steps.append(dataclasses.replace(step, manifest=manifest))
        return steps

    def _build(self, step: Step, progress: Progress, retry_failed: bool) -> Manifest:
        assert step.builder is not None
        builder, ref = step.builder, step.manifest.ref
        who = f"builder {builder.name}"
        with self.store.lock(ref), self.store.keep(step.parents):
            if self.store.has(ref) and not self.store.manifest(ref).is_empty:
                raise InputError(f"{ref} was built by another process meanwhile: run again to use it")
            start = time.monotonic()
            parents = [self.store.manifest(parent) for parent in step.parents]
            readers = {
                parent.name: partial(self.store.scan, parent.ref)
                for parent in parents
                if parent.kind == "dataset"
            }
            with (
                rare_collection(),
                self.store.scratch(f"{ref}.rows") as folder,
                self._journaled(step, retry_failed) as (generator, scorers),
                blame(who, builder.file),
            ):
                rows = {"folder": folder} if builder.uses_folder else {}
                built = builder.build(step.settings, readers, generator, progress, **scorers, **rows)
                if not isinstance(built, Built):
                    raise TypeError(f"build returned {type(built).__name__}, not Built")
                environment = _engine_record(generator, built) if builder.uses_engine else {}
                built.notes.extend(undecided_notes(built.ledger))
                built.notes.extend(answered.warnings(generator.answered_as))
                for name, scorer in scorers.items():
                    counts = {"from_journal": scorer.counts.from_journal, "scored": scorer.counts.computed}
                    environment[name] = {"settings": scorer.settings(), "scores": counts}
                if scorers:
                    environment["take_turns"] = self.take_turns
                is_preset_model = bool(built.usage) and builder.name in self.preset.noted_builders
                if self.preset.note and is_preset_model and not self.preset.is_fake:
                    built.notes.append(self.preset.note)
                environment |= {"seconds": round(time.monotonic() - start, 3), **self._provenance(step)}
                environment |= {"preset": self.preset.name, "changed_settings": self.preset.changes(builder)}
                draft = step.manifest
                draft = new_manifest("dataset", ref, draft.builder, draft.config, parents)
                return publish_dataset(self.store, builder, draft, parents, built, environment)

    def _provenance(self, step: Step) -> dict[str, dict[str, str]]:
        """How others can name what a step reads, and the hashes of the files among that."""
        names = [step.manifest.builder.name, self.generator.name, *step.parents]
        origins = {name: self.origins[name] for name in names if name in self.origins}
        places = [*paths(step.settings), *origins.values()]
        candidates = [Path(text) for place in places for text in (place, place.rpartition(":")[0])]
        hashes = {path.name: file_sha256(path) for path in candidates if path.is_file()}
        public = {name: Path(at).name if ".py:" in at else at for name, at in origins.items()}
        return {"origins": public, "files": hashes}

    @contextmanager
    def _journaled(
        self, step: Step, retry_failed: bool
    ) -> "Iterator[tuple[JournaledGenerator, dict[str, JournaledScorer]]]":
        """The engine and the reward models of a step, with the journal between them and the builder."""
        assert step.builder is not None
        session = JournalSession(self.store.journal, step.manifest.ref, self.store.refs())
        memory = self.memory if self.take_turns else None
        generator = JournaledGenerator(self.generator, session, self.max_failures, retry_failed, memory)
        scorers = {
            name: JournaledScorer(self.scorer(model), session, memory=memory)
            for name, model in step.builder.reward_models(step.settings).items()
        }
        yield generator, scorers
        session.mark_published()


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user says of a run."""

    engine: str | None = None
    """What runs the models: vllm, transformers, openai, ray, fake or FILE.py:NAME. The default is vllm where
    it can run, else transformers.

    None asks no model; the command line puts its choice here.
    """
    root: Path = Path("build")
    """Folder of the store."""
    version: str = "0.1.0"
    """Version N.N.N of the datasets to build."""
    preset: presets.PresetName = "tiny"
    """Models and settings of the run."""
    config: Path | None = None
    """TOML file over the preset, in the presets' format."""
    assignments: Sequence[str] = ()
    """section.key=value over preset and config, such as comparisons.min_chars=100; repeatable."""
    limit: int | None = None
    """Use at most this many queries."""
    sources: Sequence[str] = ()
    """Existing dataset to build from: name@version, a name, or ORG/NAME@REVISION on the Hub; repeatable."""
    base_url: Sequence[str] = ()
    """Address of an OpenAI-compatible server, up to /v1: http://HOST:8000/v1; repeatable."""
    ray_address: str | None = None
    """Address of a Ray cluster, HOST:PORT; without it, this machine."""
    max_failures: float = MAX_FAILURES
    """Share of failed requests, of those sent so far, above which the run stops. A reply that cannot be used,
    such as a verdict without a score, is no failed request."""
    max_cost: float | None = None
    """Most that the run may cost, by the prices in `engine.servers`: no request is sent whose longest reply
    could exceed it."""
    retry_failed: bool = False
    """Retry requests that failed in a published version of this dataset."""
    take_turns: bool = False
    """Load the engine and the reward models in turns, so that they share one small GPU."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Name of a parent, a builder or an engine -> how others can name it: on the Hub, or in a file."""
    builders: Sequence[Builder] = ()
    """Builders besides the registered ones."""


def prepare(engine: str | None = None, **settings: Any) -> BuildRun:
    """A run of an engine; `settings` are the other fields of `RunOptions`. Loads no model.

    Raises InputError for an invalid setting, version or reference.
    """
    settings |= {"engine": engine}
    given_settings = {name: value for name, value in settings.items() if name != "builders"}
    settings |= check_arguments("run", RunOptions, given_settings)
    options = RunOptions(**settings)
    if not 0 <= options.max_failures <= 1:
        raise InputError(f"run.max_failures {options.max_failures:g}: give a share from 0 to 1")
    preset = presets.load(
        options.preset, options.config, options.assignments, options.limit, options.builders
    )
    scoring.check_options(dict(preset.scoring))
    engine_options: dict[str, Any] = {}
    if options.engine:
        engine_options = engines.options(
            options.engine,
            dict(preset.engine),
            tuple(options.base_url),
            options.ray_address,
            options.max_cost,
        )
    sources = {parse_ref(ref)[0]: ref for ref in options.sources}
    if len(sources) < len(options.sources):
        raise InputError(f"run.from {', '.join(options.sources)}: give one reference for each dataset")
    if "fake" in (options.engine, engine_options.get("engine")):
        preset = dataclasses.replace(preset, is_fake=True, note=None)
    generator = engines.load(options.engine or "fake", engine_options)
    in_file = {generator.name: options.engine} if options.engine and ".py:" in options.engine else {}
    return BuildRun(
        store=Store(options.root),
        version=check_version(options.version),
        preset=preset,
        generator=generator,
        sources=sources,
        origins={**options.origins, **in_file},
        max_failures=options.max_failures,
        retry_failed=options.retry_failed,
        take_turns=options.take_turns,
    )


def publish_dataset(
    store: Store,
    builder: Builder,
    draft: Manifest,
    parents: Sequence[Manifest],
    built: Built,
    environment: Mapping[str, Any],
) -> Manifest:
    """Write what a builder made, with card and figures. The caller holds the lock.

    Raises NothingLeft where `default` has no row; what was dropped is in the store then.
    """
    tables = with_parts({**builder.tables, **built.schemas}, built.tables)
    draft = msgspec.structs.replace(draft, tables=tables)
    settings = draft.config["settings"]
    config = None if draft.is_import else msgspec.convert(settings, builder.config)
    models = [*draft.config.get("resolved", {}).values(), *draft.config.get("reward_models", {}).values()]
    record = Record(
        ledger=built.ledger,
        diagnostics={
            **built.diagnostics,
            "deviations": _deviations(builder, settings) if config else [],
            "paper_facts": list(builder.paper_facts(config)) if config else [],
        },
        models=[{"id": model["id"], "revision": model["revision"]} for model in models],
        notes=built.notes,
        environment=environment,
    )
    samples = {name: rows.sample if isinstance(rows, Blocks) else rows for name, rows in built.tables.items()}
    tables_of_card = {name: rows for name, rows in samples.items() if rows is not None}

    def render(manifest: Manifest) -> dict[str, bytes]:
        plots = {} if manifest.is_empty else figures.as_files(builder.figures(manifest, tables_of_card))
        text = card.render(builder, manifest, tables_of_card, sorted(plots), store.ancestors(manifest))
        return {"README.md": text.encode(), **plots}

    manifest = publish(store, draft, Tables(tables, built.tables), record, parents, render)
    if manifest.is_empty:
        raise nothing_left(builder, manifest)
    return manifest


def _engine_record(generator: JournaledGenerator, built: Built) -> dict[str, Any]:
    names = {model: sorted(answers) for model, answers in sorted(generator.answered_as.items())}
    return {
        "engine": {
            "name": generator.name,
            "row_seeds": generator.honours_seed,
            "settings": generator.settings(),
            "replies": {
                "from_journal": generator.counts.from_journal,
                "generated": generator.counts.computed,
            },
            "usage": {name: dataclasses.asdict(usage) for name, usage in built.usage.items()},
            **({"spent": generator.spent} if generator.spent else {}),
            **({"answered_as": names} if names else {}),
        }
    }


def _deviations(builder: Builder, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings that differ from the builder's defaults, which are the paper's."""
    return [
        {"setting": f"{builder.name}.{name}", "default": default, "used": settings[name]}
        for name, default in builder.defaults().items()
        if canonical_json(settings[name]) != canonical_json(default)
    ]
