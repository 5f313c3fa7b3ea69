"""The verb `build`: one command for each builder, with the options that this builder takes.

Options of every build, of builds that ask models, and of those that ask reward models are the three
dataclasses here. A builder's own are the settings that it names as flags: their types come from its config,
their help from the docstrings there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import msgspec
from cyclopts import App, Group, Parameter

from .. import registry
from ..datasets.settings_docs import field_docs
from ..errors import InputError
from .options import ROOT, PresetName
from .sources import local_sources, recorded_command

if TYPE_CHECKING:
    from ..datasets.builder import Builder
    from ..run.build import RunOptions


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Options of every build."""

    version: str = "0.1.0"
    """Version N.N.N of what is made."""
    preset: PresetName = "tiny"
    """Models and settings of the run."""
    config: Path | None = None
    """TOML file over the preset, in the presets' format."""
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    """section.key=value over preset and config; repeatable."""
    from_: Annotated[tuple[str, ...], Parameter(name="--from")] = ()
    """name@version, a name, or ORG/NAME@REVISION on the Hub, to build on instead; repeatable."""
    dry_run: bool = False
    """Say what would be built, and build nothing."""
    root: Path = ROOT
    """Folder of the store."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(BuildOptions):
    """Options of builds that ask models, or whose parents are built by asking them."""

    engine: str | None = None
    """What runs the models: vllm, transformers, openai, ray, fake or FILE.py:NAME; vllm where it can run."""
    base_url: tuple[str, ...] = ()
    """Address of an OpenAI-compatible server, up to /v1; repeatable."""
    ray_address: str | None = None
    """Ray cluster; without it, this machine."""
    limit: int | None = None
    """Use only so many queries."""
    max_failures: float = 0.01
    """Share of a dataset's requests that may fail before the run stops."""
    retry_failed: bool = False
    """Ask again what failed in a published version of this dataset."""


@dataclass(frozen=True, kw_only=True)
class RewardOptions(ModelOptions):
    """Options of builds that ask reward models too."""

    take_turns: bool = False
    """Load the engine and the reward models in turns: for one small GPU."""
    recipes: Path | None = None
    """With --dry-run: plan all datasets, and training by the recipes of this YAML file."""


SETTINGS = Group("Settings of the dataset", sort_key=0)
app = App(
    name="build",
    help="Build a dataset, and what is missing upstream first, under one version.",
    group_parameters=Group("Options", sort_key=1),
)
for _name in registry.names("builders"):
    app.command(f"{__name__}:{_name}", name=_name)


@app.default
def unknown(
    name: Annotated[str, Parameter(help="One of the commands here, or a builder in a file: FILE.py:NAME.")],
    /,
    *options: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> None:
    """Refuse what is no builder's name."""
    registry.load("builders", name)


def __getattr__(name: str) -> Callable[..., None]:
    """The command of a builder, made when it is needed: only then is the builder loaded."""
    if name not in registry.names("builders"):
        raise AttributeError(name)
    return build_command(registry.load("builders", name))


def prepare(arguments: list[str]) -> None:
    """Make a file's builder (`FILE.py:NAME`) a command too; for help, load all builders, with their docs."""
    if not arguments or arguments[0].startswith("-"):
        app.resolved_commands()
    elif ".py:" in arguments[0] and arguments[0] not in app:
        app.command(build_command(registry.load("builders", arguments[0])), name=arguments[0])


def build_command(builder: "Builder") -> Callable[..., None]:
    """The command that builds a builder's dataset."""
    options_type = build_options(builder)

    def command(*, options: BuildOptions) -> None:
        _build(builder, options)

    command.__annotations__ = {"options": Annotated[options_type, Parameter(name="*")], "return": None}
    command.__kwdefaults__ = {"options": options_type()}
    command.__doc__ = builder.doc
    return command


def build_options(builder: "Builder") -> type[BuildOptions]:
    """The options that a builder takes, as a dataclass."""
    base = BuildOptions
    if any(upstream.uses_engine for upstream in [builder, *_upstream(builder)]):
        base = RewardOptions if builder.asks_reward_models else ModelOptions
    if clashes := {field.name for field in fields(base)} & set(builder.flags):
        raise InputError(f"builder {builder.name}: {min(clashes)!r} is an option of every build: rename it")
    docs = field_docs(builder.config)
    hints = {field.name: field.type for field in msgspec.structs.fields(builder.config)}
    settings = []
    for name in builder.flags:
        parameter = Parameter(name=_flag(name, hints[name]), help=docs.get(name), group=SETTINGS)
        settings.append((name, Annotated[hints[name] | None, parameter], None))
    namespace = {"__module__": __name__}
    return make_dataclass("Options", settings, bases=(base,), frozen=True, kw_only=True, namespace=namespace)


def _flag(name: str, hint: Any) -> str:
    """`--benchmark` for `benchmarks`: a flag that may be repeated is named for one value."""
    is_list = get_origin(hint) is tuple
    return f"--{(name.removesuffix('s') if is_list else name).replace('_', '-')}"


def _upstream(builder: "Builder") -> "list[Builder]":
    parents = [registry.load("builders", name) for name in builder.parents]
    return [upstream for parent in parents for upstream in [parent, *_upstream(parent)]]


def assignments(section: str, values: Mapping[str, Any]) -> list[str]:
    """Settings that flags give, as `--set` would."""
    return [
        f"{section}.{name}={json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in values.items()
        if value is not None
    ]


def _build(builder: "Builder", options: BuildOptions) -> None:
    from ..run.build import prepare_run
    from .console import print_line
    from .progress import Bars
    from .screens import build as screen

    if isinstance(options, RewardOptions) and options.recipes:
        _plan_loop(builder, options)
        return
    run_options, why = _run_options(builder, options)
    run = prepare_run(run_options)
    plan = run.plan(builder)
    if options.dry_run:
        screen.plan(plan, run)
        return
    if why:
        print_line(f"engine {run_options.engine}: {why}", "dim")
    with Bars() as bars:
        steps = run.execute(plan, bars)
    screen.summary(run.store, steps)


def _run_options(builder: "Builder", options: BuildOptions) -> "tuple[RunOptions, str]":
    """The options as the run takes them, and why the default engine is none of the better ones."""
    from ..generation import engines
    from ..run.build import RunOptions

    names = {field.name for field in fields(options)} & {field.name for field in fields(RunOptions)}
    common = {name: getattr(options, name) for name in names - {"engine"}}
    engine, why = None, ""
    if isinstance(options, ModelOptions):
        engine, why = (options.engine, "") if options.engine else engines.default()
    if isinstance(options, RewardOptions) and options.take_turns and engine == "openai":
        raise InputError("run.take_turns: the openai engine holds no model here: leave it out")
    sources = local_sources(options.root, options.from_)
    run_options = RunOptions(
        **common,
        engine=engine,
        assignments=_assignments(builder, options),
        sources=[sources[ref] for ref in options.from_],
        command=recorded_command(sources),
        builders=[builder],
    )
    return run_options, why


def _assignments(builder: "Builder", options: BuildOptions) -> list[str]:
    values = {name: getattr(options, name) for name in builder.flags}
    return [*options.set_, *assignments(builder.name, values)]


def _plan_loop(builder: "Builder", options: RewardOptions) -> None:
    """Print what all datasets and recipes would cost."""
    from ..run import presets
    from ..training.plan import ASSUMED, loop
    from .screens import build as screen

    assert options.recipes
    if not options.dry_run:
        raise InputError("run.recipes goes with run.dry_run: training is planned here, and run by recipes/")
    if options.from_ or getattr(options, "rm", None):
        raise InputError(
            f"run.recipes plans everything from its seeds: leave out run.from and {builder.name}.rm"
        )
    preset = presets.load(options.preset, options.config, _assignments(builder, options), options.limit)
    screen.loop(*loop(preset, options.recipes), ASSUMED)
