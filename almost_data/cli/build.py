"""The verb `build`: one command for each builder, with the options that this builder takes.

Both kinds of options come from where they are defined, with type, default and docstring: those of the run
from `RunOptions`, those of the dataset from the fields of its config that the builder names as flags.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, make_dataclass, replace
from typing import Annotated, Any, cast, get_origin, get_type_hints

from cyclopts import App, Group, Parameter

from .. import registry
from ..datasets.builder import Builder, NothingLeft, load_builder
from ..datasets.manifest import Manifest
from ..datasets.settings_docs import field_docs
from ..errors import InputError
from ..generation import Generator, Model, engines
from ..models.weights import NotReached
from ..run.build import BuildRun, RunOptions, prepare
from ..run.plan import Plan
from ..store.store import Store
from . import summary
from .console import print_line
from .hub import hub_origins, local_sources
from .options import root_flag
from .progress import progress_bars

COMMON = ("version", "preset", "config", "assignments", "sources", "root")
FOR_MODELS = ("engine", "base_url", "ray_address", "limit", "max_failures", "max_cost", "retry_failed")
"""Of builds that ask models, or whose parents are built by asking them."""
FOR_REWARD_MODELS = ("take_turns",)
"""Of builds that score with reward models, or whose parents do."""
FLAGS = {"assignments": "--set", "sources": "--from"}
"""Flags that are not named as their settings."""
SETTINGS = Group("Settings of the dataset", sort_key=0)
DRY_RUN = Parameter(help="Say what would be built, and build nothing.")
OPTIONAL = "The {} to read, as `--from` names them."

app = App(name="build", version_flags=(), group_parameters=Group("Options", sort_key=1))
for _name in registry.names("builders"):
    app.command(f"{__name__}:{_name}", name=_name)


def __getattr__(name: str) -> Callable[..., None]:
    """The command of a builder, made when it is needed: only then is the builder loaded."""
    if name not in registry.names("builders"):
        raise AttributeError(name)
    return command(load_builder(name))


def load_commands(arguments: list[str]) -> None:
    """Make a file's builder (`FILE.py:NAME`) a command too; for help, load all builders, with their docs.

    Raises InputError for a name that is no builder's.
    """
    if not arguments:
        raise InputError(f"build: name one of {', '.join(registry.names('builders'))}, or FILE.py:NAME")
    if arguments[0].startswith("-"):
        app.resolved_commands()
    elif arguments[0] not in app:
        app.command(command(load_builder(arguments[0]), arguments[0]), name=arguments[0])


def command(builder: Builder, name: str = "") -> Callable[..., None]:
    """The command that builds a builder's dataset; `name` is the builder's on the command line."""
    options_type = make_options(builder)

    def run(*, options: Any) -> None:
        try:
            build(builder, options, name or builder.name)
        except NothingLeft as error:
            look = f"sample {error.ref} --dropped {error.reason} -n 3{root_flag(options.root)}"
            raise RuntimeError(f"{error}: see `{look}`" if error.reason else str(error)) from error

    run.__annotations__ = {"options": Annotated[options_type, Parameter(name="*")], "return": None}
    run.__kwdefaults__ = {"options": options_type()}
    run.__doc__ = builder.doc
    return run


def make_options(builder: Builder) -> type:
    """The options that a builder takes, as a dataclass. Raises InputError where two have one name."""
    names = list(COMMON)
    builders = [builder, *_upstream(builder)]
    if any(upstream.uses_engine for upstream in builders):
        names += FOR_MODELS
    if any(upstream.asks_reward_models for upstream in builders):
        names += FOR_REWARD_MODELS
    plan: list[tuple[str, Any, Any]] = [("dry_run", Annotated[bool, DRY_RUN], False)]
    plan += [
        (name, Annotated[str | None, Parameter(help=OPTIONAL.format(name)), Parameter(group=SETTINGS)], None)
        for name in builder.optional
    ]
    if clashes := {*names, "dry_run"} & set(builder.flags):
        raise InputError(f"builder {builder.name}: {min(clashes)!r} is an option of every build: rename it")
    settings = [
        (name, Annotated[hint | None, parameter, Parameter(group=SETTINGS)], None)
        for name, hint, parameter in _parameters(builder.config, builder.flags)
    ]
    common = [
        (name, Annotated[hint, parameter], getattr(RunOptions, name))
        for name, hint, parameter in _parameters(RunOptions, names)
    ]
    namespace = {"__module__": __name__}
    return make_dataclass(
        "Options", [*settings, *common, *plan], frozen=True, kw_only=True, namespace=namespace
    )


def _parameters(settings: type, names: Iterable[str]) -> list[tuple[str, Any, Parameter]]:
    """Name, type and flag of these fields. A flag that may be repeated is named for one value."""
    hints, docs = get_type_hints(settings, include_extras=True), field_docs(settings)
    parameters = []
    for name in names:
        noun = name.removesuffix("s") if get_origin(hints[name]) is tuple else name
        flag = FLAGS.get(name, f"--{noun.replace('_', '-')}")
        parameters.append((name, hints[name], Parameter(name=flag, help=docs.get(name))))
    return parameters


def _upstream(builder: Builder) -> list[Builder]:
    """The builders above it, optional ones too, as far as they are installed."""
    upstream = []
    for name in (*builder.parents, *builder.optional):
        with suppress(InputError):
            parent = load_builder(name)
            upstream += [parent, *_upstream(parent)]
    return upstream


def build(builder: Builder, options: Any, name: str) -> None:
    """Build a dataset, or say what that would take."""
    settings = {flag: value for flag in builder.flags if (value := getattr(options, flag)) is not None}
    as_set = [f"{builder.name}.{flag}={json.dumps(settings[flag], ensure_ascii=False)}" for flag in settings]
    common = {field.name for field in fields(options)} & {field.name for field in fields(RunOptions)}
    values = {option: getattr(options, option) for option in common}
    values["assignments"] = [*options.assignments, *as_set]
    reason = ""
    if "engine" in values and values["engine"] is None:
        values["engine"], reason = engines.default()
    if values.get("take_turns") and values["engine"] == "openai":
        raise InputError("run.take_turns: the openai engine holds no model here: leave it out")
    optional = [ref for name in builder.optional if (ref := _optional(options, name))]
    sources = local_sources(options.root, [*options.sources, *optional])
    origins = hub_origins(sources) | ({builder.name: name} if ".py:" in name else {})
    values |= {"sources": list(sources.values()), "origins": origins}
    run = prepare(**values, builders=[builder])
    if options.dry_run:
        run = replace(run, generator=cast(Generator, WithoutHub(run.generator)))
    plan = run.plan(builder)
    for step in plan.steps:
        if step.action == "reuse":
            _print_unused_filters(step.manifest, run)
    if not sources:
        _print_other_parents(plan, run.store)
    if options.dry_run:
        summary.plan(plan, run)
        return
    if reason:
        print_line(f"engine {values['engine']}: {reason}", "dim")
    with progress_bars() as bars:
        steps = run.execute(plan, bars)
    summary.summary(run.store, steps, _same_options(values))


class WithoutHub:
    """An engine for a dry run, which needs no access to models; the first that is not reached is named."""

    def __init__(self, engine: Generator) -> None:
        self._engine = engine
        self._is_reached = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def resolve(self, model: Model) -> Model:
        try:
            return self._engine.resolve(model)
        except NotReached as error:
            if self._is_reached:
                print_line(f"{error}; without commits of models, what exists may count as new", "yellow")
            self._is_reached = False
            return model


def _print_unused_filters(dataset: Manifest, run: BuildRun) -> None:
    """Print which filters of the settings a dataset was made without, where it exists already."""
    filters = getattr(run.preset.configs.get(dataset.name), "filters", ())
    applied = {entry.filter for entry in dataset.ledger}
    if unused := [rule.name for rule in filters if rule.name not in applied]:
        line = f"not used: {', '.join(unused)} of {dataset.name}.filters, since {dataset.ref} exists without"
        print_line(line, "yellow")


def _print_other_parents(plan: Plan, store: Store) -> None:
    """Print which version of the target's parent exists, where another one is built for the target."""
    parents = [step for step in plan.steps[:-1] if step.action == "build"]
    if parents and store.refs(name := parents[-1].manifest.name):
        use = f"to use one that does, add --from {store.resolve(name)}"
        print_line(f"{parents[-1].manifest.ref} does not exist, and is built first: {use}", "yellow")


def _optional(options: Any, name: str) -> str | None:
    """The reference of an optional parent. Raises InputError where it names another dataset."""
    ref: str | None = getattr(options, name)
    if ref and "/" not in ref and ref.partition("@")[0] != name:
        raise InputError(f"run.{name} {ref}: give {name}@VERSION")
    return ref


def _same_options(values: Mapping[str, Any]) -> list[str]:
    """The options by which a build of a child finds what this build used."""
    words = []
    for name in (*FOR_MODELS[:4], "preset", "config", "sources", "assignments", "version"):
        value = values.get(name)
        if value not in (None, (), []) and (name == "version" or value != getattr(RunOptions, name)):
            flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
            texts = value if isinstance(value, list | tuple) else [value]
            words += [word for text in texts for word in (flag, str(text))]
    return words
