"""What a build would do, before anything runs: which datasets are reused, which are built, from what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from .. import registry
from ..cards import card
from ..datasets.builder import AUTO, Builder, NothingLeft, RewardModel, load_builder, pin_model
from ..datasets.config import Config, record
from ..datasets.filters import account
from ..datasets.manifest import BuilderId, Manifest, fingerprint
from ..errors import InputError, did_you_mean
from ..generation import Generator
from ..models import Model
from ..scoring import Scorer
from ..store.publish import existing, new_manifest
from ..store.store import Store, check_store
from ..viewer.tables import html_table
from .presets import Preset
from .presets import load as load_preset
from .scorers import load_scorer, stored_manifest, stored_model


@dataclass(frozen=True)
class Step:
    """One artifact of a plan: it exists (`reuse`), or it is to be built."""

    action: Literal["reuse", "build"]
    manifest: Manifest
    """Of a step to be built, all but what its content decides."""
    builder: Builder | None = None
    """None where it is reused."""
    settings: Any = None
    parents: tuple[str, ...] = ()
    """References of what it is built from, datasets and reward models."""


@dataclass(frozen=True, repr=False)
class Plan:
    """The steps to one dataset, upstream first. The last one is the target."""

    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        return f"<plan: {', '.join(f'{step.action} {step.manifest.ref}' for step in self.steps)}>"

    def _repr_html_(self) -> str:
        return html_table(("dataset", "what happens"), [(s.manifest.ref, s.action) for s in self.steps])

    @property
    def target(self) -> Step:
        return self.steps[-1]


@dataclass(frozen=True)
class Planner:
    """Plans builds of one version, from one preset, in one store."""

    store: Store
    version: str
    preset: Preset
    generator: Generator
    sources: Mapping[str, str] = field(default_factory=dict)
    """Dataset name -> the reference to use for it instead of building one (`run.from`)."""
    retry_failed: bool = False
    """Retry requests that failed in a published version of the dataset that is built."""
    loaded_scorers: dict[RewardModel, Scorer] = field(default_factory=dict)
    """The reward models of this run, each loaded once."""

    def __post_init__(self) -> None:
        check_store(self.store)

    def scorer(self, model: RewardModel) -> Scorer:
        """The scorer of a reward model."""
        if model not in self.loaded_scorers:
            self.loaded_scorers[model] = load_scorer(self.store, model, self.preset.scoring)
        return self.loaded_scorers[model]

    def plan(self, dataset: str | Builder) -> Plan:
        """The steps to a dataset. Raises InputError where it could not be built."""
        target = load_builder(dataset) if isinstance(dataset, str) else dataset
        if not isinstance(target, Builder):
            raise InputError(
                f"{dataset!r} is not a dataset to build: give the name of a builder, or a Builder"
            )
        upstream = _upstream(target, self.sources)
        for source, ref in self.sources.items():
            if source not in upstream:
                made_from = ", ".join(dict.fromkeys(upstream)) or "nothing"
                hint = did_you_mean(source, upstream) or _readers(source)
                raise InputError(f"run.from {ref}: {target.name} is made from {made_from}{hint}")
        steps: list[Step] = []
        self._add(target, steps, is_target=True)
        refs = {step.manifest.ref for step in steps}
        if unused := [ref for ref in self.sources.values() if ref not in refs]:
            raise InputError(
                f"{_setting(target, unused[0])}: nothing reads it, since a dataset below it exists already"
            )
        return Plan(tuple(steps))

    def _add(self, builder: Builder, steps: list[Step], is_target: bool) -> Manifest:
        """Append the steps to a dataset, upstream first, and return its manifest."""
        ref = f"{builder.name}@{self.version}"
        present = self.store.manifest(ref) if self.store.has(ref) else None
        if present and present.kind != "dataset":
            raise InputError(f"{ref} is {present.kind_phrase}, where a dataset is needed")
        if present and ((present.is_import and not is_target) or self._is_orphan(present, builder)):
            return _append(steps, Step("reuse", present))
        settings = self.preset.settings(builder)
        optional = [
            name for name, needs in builder.optional.items() if name in self.sources or needs(settings)
        ]
        parents = [self._add_parent(name, steps, builder) for name in (*builder.parents, *optional)]
        _check_siblings(parents, builder)
        settings = builder.resolve(settings, {parent.name: parent for parent in parents})
        parents += self._stored_models(builder, settings)
        instead = f", or set run.from to {ref}" if present and not is_target else ""
        try:
            draft = self._draft(builder, settings, parents)
        except InputError as error:
            raise InputError(f"{error}{instead}") from error
        if is_target and self.retry_failed:
            self._check_retry(builder, draft, present)
        if present and present.is_empty:
            if present.fingerprint == draft.fingerprint:
                raise nothing_left(builder, present)
        elif present:
            # Raises where another recipe made it.
            existing(self.store, draft, instead)
            return _append(steps, Step("reuse", present))
        self.store.check_place(ref, "dataset")
        card.require_template(builder.card)
        refs = tuple(parent.ref for parent in parents)
        return _append(steps, Step("build", draft, builder, settings, refs))

    def _add_parent(self, name: str, steps: list[Step], child: Builder) -> Manifest:
        """Append the steps to a parent; one that is given as a source needs no builder."""
        if name not in self.sources:
            if not child.builds_parents and not self.store.has(f"{name}@{self.version}"):
                raise InputError(
                    f"run.from is missing: {child.name} reads {name} that exist, and {name}@{self.version} "
                    f"does not: give {self._newest(name)}"
                )
            try:
                return self._add(load_builder(name), steps, is_target=False)
            except InputError as error:
                if name not in child.optional:
                    raise
                raise InputError(
                    f"run.{name} is missing, and these settings of {child.name} read {name}: give "
                    f"{name}@VERSION, which `build {name}` makes; this run cannot make them ({error})"
                ) from error
        manifest = self.store.manifest(self.sources[name])
        if manifest.kind != "dataset":
            raise InputError(f"{manifest.ref} is {manifest.kind_phrase}, where a dataset is needed")
        if manifest.is_empty:
            where = _setting(child, manifest.ref)
            raise InputError(f"{where}: it is empty, as every row was dropped: name another")
        return _append(steps, Step("reuse", manifest))

    def _newest(self, name: str) -> str:
        return self.store.resolve(name) if self.store.refs(name) else f"{name}@VERSION"

    def _check_retry(self, builder: Builder, draft: Manifest, present: Manifest | None) -> None:
        if not builder.uses_engine:
            upstream = f"; use it with {builder.parents[0]}" if builder.parents else ""
            raise InputError(f"run.retry_failed: {builder.name} asks no model{upstream}")
        if present and present.fingerprint == draft.fingerprint:
            raise InputError(
                f"{present.ref} is published and stays as it is: give run.retry_failed another run.version"
            )

    def _draft(
        self,
        builder: Builder,
        settings: Config,
        parents: Sequence[Manifest],
        deleted: Mapping[str, Model] | None = None,
    ) -> Manifest:
        """The manifest before there are rows.

        `deleted` are parents that the store lacks now, as models: a reward model of them is not loaded.
        """

        def pinned(reward_model: RewardModel) -> dict[str, Any]:
            deleted_model = (deleted or {}).get(reward_model.id)
            return pin_model(deleted_model or self.scorer(reward_model).model)

        reward_models = {name: pinned(model) for name, model in builder.reward_models(settings).items()}
        config = {
            "settings": record(settings),
            **builder.pins(settings, self.generator),
            **({"reward_models": reward_models} if reward_models else {}),
            "card": self._card({_language(parent) for parent in parents if parent.kind == "dataset"}),
        }
        made_by = BuilderId(builder.name, builder.logic_version)
        ref = f"{builder.name}@{self.version}"
        return new_manifest("dataset", ref, made_by, config, parents, builder.tables)

    def _card(self, languages: set[str | None]) -> dict[str, Any]:
        """Licence and language of the rows: the parents' language, unless the user names one."""
        card = self.preset.card
        is_shipped = card.language == load_preset(self.preset.name).card.language
        if languages and is_shipped and "language" not in self.preset.card_facts:
            card = msgspec.structs.replace(card, language=languages.pop() if len(languages) == 1 else None)
        return record(card)

    def _stored_models(self, builder: Builder, settings: Config) -> list[Manifest]:
        """The reward models that the settings name and that are in the store, each once."""
        models = [stored_manifest(self.store, model) for model in builder.reward_models(settings).values()]
        return list({model.ref: model for model in models if model}.values())

    def _is_orphan(self, present: Manifest, builder: Builder) -> bool:
        """Whether it is of this recipe and its parents were deleted: no reason to make them again."""
        deleted = [parent for parent in present.parents if not self.store.has(parent.ref)]
        if not deleted:
            return False
        models = {parent.ref: stored_model(parent) for parent in deleted}
        settings, recorded = self.preset.settings(builder), present.config["settings"]
        decided = {name: recorded.get(name) for name in builder.auto if getattr(settings, name) == AUTO}
        settings = msgspec.structs.replace(settings, **decided)
        config = self._draft(builder, settings, [], models).config
        config["card"] = self._card({_language(present)})
        return fingerprint(present.builder, config, present.parents) == present.fingerprint


def _language(manifest: Manifest) -> str | None:
    """The language that a dataset's card names."""
    language: str | None = manifest.config.get("card", {}).get("language")
    return language


def nothing_left(builder: Builder, empty: Manifest) -> NothingLeft:
    """The error of a dataset of which every row was dropped: why, and what can be changed."""
    drops = [entry for entry in empty.ledger if entry.dropped]
    worst = max(drops, key=lambda entry: sum(entry.dropped.values()), default=None)
    losses = f"{account(drops)}: {worst.description.rstrip('.')}" if worst else "none came in"
    if any(entry.params for entry in drops):
        advice = f"loosen a filter in the settings of {builder.name}, or give it more rows"
    else:
        advice = f"change {' or '.join(f'{builder.name}.{flag}' for flag in builder.flags) or 'its settings'}"
    advice += f", and build {empty.ref} again; it holds what was dropped"
    message = f"{empty.ref}: no row is left ({losses}): {advice}"
    return NothingLeft(message, empty.ref, next(iter(worst.dropped)) if worst else "")


def _append(steps: list[Step], step: Step) -> Manifest:
    if all(step.manifest.ref != earlier.manifest.ref for earlier in steps):
        steps.append(step)
    return step.manifest


def _readers(dataset: str) -> str:
    """Which builders are made from a dataset, as an error ends; nothing where there is none."""
    builders = [name for name in registry.names("builders") if dataset in load_builder(name).parents]
    verbs = " or ".join(f"`build {name}`" for name in builders)
    return f"; {dataset} is read by {verbs}" if verbs else ""


def _setting(builder: Builder, ref: str) -> str:
    """A parent of a builder as errors name it, after the setting that it comes from."""
    name = ref.partition("@")[0]
    return f"run.{name if name in builder.optional else 'from'} {ref}"


def _check_siblings(parents: Sequence[Manifest], builder: Builder) -> None:
    """Raise InputError where a parent was made from another version of its sibling."""
    by_name = {parent.name: parent for parent in parents}
    for child in parents:
        for source in child.parents:
            sibling = by_name.get(source.ref.partition("@")[0])
            if sibling and sibling.digest != source.digest:
                raise InputError(
                    f"{_setting(builder, child.ref)}: it was made from {source.ref}, and not from "
                    f"{sibling.ref}: set run.from to {source.ref} too"
                )


def _upstream(builder: Builder, sources: Mapping[str, str]) -> list[str]:
    """Names of the datasets that it is made from. A source needs no builder to be installed."""
    names = []
    for name in (*builder.parents, *builder.optional):
        is_installed = name in registry.names("builders")
        names += [name, *(_upstream(load_builder(name), sources) if is_installed else [])]
        if not is_installed and name not in sources:
            load_builder(name)  # says what there is
    return names
