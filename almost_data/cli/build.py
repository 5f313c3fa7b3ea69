"""The verb `build`: what a user says of a dataset, as settings of its preset."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..errors import InputError
from ..readers.stackexchange import SUFFIXES as SOURCES

Root = Annotated[Path, Parameter(name="--root", help="Folder of the store.")]
Version = Annotated[str, Parameter(help="Version N.N.N of what is made.")]
ROOT = Path("build")


def build(
    name: Literal["queries", "responses", "comparisons", "demonstrations", "community"],
    /,
    *,
    version: Version = "0.1.0",
    preset: Annotated[
        Literal["tiny", "almost", "modern"], Parameter(help="Models and settings of the run.")
    ] = "tiny",
    config: Annotated[
        Path | None, Parameter(help="TOML file over the preset, in the presets' format.")
    ] = None,
    set_: Annotated[
        tuple[str, ...],
        Parameter(name="--set", negative=(), help="section.key=value over preset and config; repeatable."),
    ] = (),
    engine: Annotated[
        str | None,
        Parameter(
            help="What runs the models: vllm, transformers, openai, ray, fake or FILE.py:NAME; by default "
            "vllm where it can run, else transformers."
        ),
    ] = None,
    base_url: Annotated[
        tuple[str, ...],
        Parameter(negative=(), help="Address of an OpenAI-compatible server, up to /v1; repeatable."),
    ] = (),
    ray_address: Annotated[str | None, Parameter(help="Ray cluster; without it, this machine.")] = None,
    limit: Annotated[int | None, Parameter(help="Only so many queries.")] = None,
    pairing: Annotated[
        Literal["first", "all"] | None,
        Parameter(help="Pair rule of comparisons: released code, or every pair."),
    ] = None,
    asis_rm: Annotated[
        str | None,
        Parameter(help="Reward model that must agree with comparisons: name@version, folder or Hub id."),
    ] = None,
    benchmark: Annotated[
        tuple[str, ...],
        Parameter(negative=(), help="File of benchmark prompts to compare queries with; repeatable."),
    ] = (),
    rm: Annotated[
        str | None,
        Parameter(help="Reward model that picks demonstrations: name@version, folder or Hub id."),
    ] = None,
    second_rm: Annotated[
        str | None, Parameter(help="Another reward model, to see how far it agrees with the picks.")
    ] = None,
    n: Annotated[int | None, Parameter(help="Replies that it picks from; 1 is Self-Play.")] = None,
    turns: Annotated[int | None, Parameter(help="Turns of a demonstration, at most; an even number.")] = None,
    prompt: Annotated[
        str | None, Parameter(help="Another prompt for the assistant of demonstrations, such as hhh.")
    ] = None,
    preference: Annotated[
        bool, Parameter(negative=(), help="Also best against worst of N, as the config preference, for DPO.")
    ] = False,
    take_turns: Annotated[
        bool,
        Parameter(negative=(), help="Engine and reward model are in memory in turns: for one small GPU."),
    ] = False,
    source: Annotated[
        str | None,
        Parameter(help="Of community: Posts.xml, a packed dump (7z, zip), Parquet, JSONL or a Hub id."),
    ] = None,
    from_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--from",
            negative=(),
            help="name@version, or ORG/NAME@REVISION on the Hub, to build on instead; repeatable.",
        ),
    ] = (),
    max_failures: Annotated[
        float, Parameter(help="Share of a dataset's requests that may fail before the run stops.")
    ] = 0.01,
    retry_failed: Annotated[
        bool, Parameter(negative=(), help="Ask again what failed in a published version of this dataset.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Say what would be built, and build nothing.")
    ] = False,
    recipes: Annotated[
        Path | None,
        Parameter(help="With --dry-run of demonstrations: plan the whole loop, with recipes of this YAML."),
    ] = None,
    root: Root = ROOT,
) -> None:
    """Build a dataset, and what is missing upstream first, under one version."""
    from ..generation import engines
    from ..run import build as build_
    from ..run.command import shown_command
    from . import report

    why = ""
    if name != "comparisons" and (pairing or asis_rm or benchmark):
        raise InputError(
            f"--pairing, --asis-rm and --benchmark go with build comparisons, and this is {name}"
        )
    talks = (rm, second_rm, n, turns, prompt, preference or None)
    if name != "demonstrations" and any(one is not None for one in talks):
        raise InputError(
            "--rm, --second-rm, --n, --turns, --prompt and --preference go with build demonstrations, and "
            f"this is {name}"
        )
    if take_turns and (name not in ("comparisons", "demonstrations") or engine == "openai"):
        raise InputError(
            "--take-turns goes with build comparisons and demonstrations, on an engine that holds the models"
        )
    if source is not None and name != "community":
        raise InputError(f"--source goes with build community, and this is {name}")
    if recipes and (name != "demonstrations" or not dry_run):
        raise InputError("--recipes goes with build demonstrations --dry-run")
    if name == "community":
        if limit is not None or retry_failed:
            raise InputError("--limit and --retry-failed: no model writes it; see --set community.sample=N")
        engine = None  # none runs, so none has to be installed
    if source is not None and Path(source).suffix in SOURCES and not Path(source).is_absolute():
        source = f"./{Path(source)}"  # looks like a path, so that only its name is recorded
    if engine is None and name != "community":
        engine, why = engines.default()
    assignments = (
        *set_,
        *flags("comparisons", pairing=pairing, asis_rm=asis_rm, benchmarks=benchmark or None),
        *flags(
            "demonstrations",
            rm=rm,
            second_rm=second_rm,
            n=n,
            turns=turns,
            prompt=prompt,
            preference=preference or None,
        ),
        *flags("community", source=source),
    )
    if recipes:
        if rm or from_:
            raise InputError("--recipes plans the loop from its seeds: leave out --rm and --from")
        from ..run import presets
        from ..training.plan import ASSUMED, loop

        report.loop(*loop(presets.load(preset, config, assignments, limit), recipes), ASSUMED)
        return
    from_ = tuple(pulled(root, one) if "/" in one else one for one in from_)
    run = build_.prepare(
        engine,
        root=root,
        version=version,
        preset=preset,
        config=config,
        assignments=assignments,
        limit=limit,
        sources=from_,
        base_url=base_url,
        ray_address=ray_address,
        max_failures=max_failures,
        retry_failed=retry_failed,
        take_turns=take_turns,
        command=shown_command(sys.argv[1:]),
    )
    plan = run.plan(name)
    if dry_run:
        report.plan(plan, run)
        return
    if why:
        report.line(f"engine {engine}: {why}")
    with report.Bars() as bars:
        steps = run.execute(plan, bars)
    report.summary(run.store, steps)


def pulled(root: Path, where: str) -> str:
    """`name@version` of what is on the Hub at a tag or commit, which is in the store then."""
    from .. import hub
    from ..store.store import Store
    from . import show_hub

    if "@" not in where:
        raise InputError(f"--from {where}: name a tag or a commit, such as {where}@v1.0.0")
    with show_hub.Bytes("fetch") as bar:
        return hub.pull(Store(root), where, progress=bar).ref


def flags(section: str, **flags: object) -> list[str]:
    """What flags for one dataset set, as `--set` would."""
    from json import dumps

    return [
        f"{section}.{name}={dumps(value, ensure_ascii=False)}"
        for name, value in flags.items()
        if value is not None
    ]
