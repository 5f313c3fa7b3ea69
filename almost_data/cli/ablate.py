"""The verb `ablate`: what each filter of comparisons is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .options import ROOT, Markdown, PresetName, Root, Version

if TYPE_CHECKING:
    from ..run.ablation import Outcome


def ablate(
    *,
    from_: Annotated[
        str,
        Parameter(
            name="--from",
            help="responses@version, responses, or ORG/NAME@REVISION on the Hub, to build from.",
        ),
    ],
    version: Version,
    asis_rm: Annotated[
        str | None,
        Parameter(help="Reward model for the variants with the As-is RM: name@version, folder or Hub id."),
    ] = None,
    reviews: Annotated[
        Path | None,
        Parameter(help="JSONL or Parquet: prompt, responder_a, responder_b, score_a, score_b."),
    ] = None,
    preset: Annotated[PresetName, Parameter(help="Settings of the full filter.")] = "tiny",
    config: Annotated[Path | None, Parameter(help="TOML file over the preset.")] = None,
    set_: Annotated[
        tuple[str, ...],
        Parameter(name="--set", help="comparisons.key=value over preset and config; repeatable."),
    ] = (),
    markdown: Markdown = False,
    root: Root = ROOT,
) -> None:
    """Build comparisons without each of the filters, from the same responses, and compare them."""
    from ..readers import reviews as reviews_
    from ..run import ablation
    from ..run.build import prepare
    from .build import assignments
    from .console import print_markdown
    from .progress import Bars
    from .sources import local_sources, recorded_command

    judgments = reviews_.read(reviews) if reviews else None
    sources = local_sources(root, [from_])
    run = prepare(
        root=root,
        version=version,
        preset=preset,
        config=config,
        assignments=(*set_, *assignments("comparisons", {"asis_rm": asis_rm})),
        sources=list(sources.values()),
        command=recorded_command(sources),
    )
    with Bars() as bars:
        outcomes = ablation.ablate(run, judgments, bars)
    if markdown:
        rows = [outcome.cells() for outcome in outcomes]
        values = {"source": sources[from_], "header": ablation.HEADER, "note": ablation.NOTE, "rows": rows}
        print_markdown("ablation", values)
    else:
        _print(outcomes)


def _print(outcomes: "list[Outcome]") -> None:
    """A line for each variant, and what it was published as."""
    from ..run.ablation import HEADER, NOTE
    from .console import console, grid, text

    headings = (HEADER[0], *(f">{heading}" for heading in HEADER[1:]))
    table = grid(*headings, rows=(outcome.cells() for outcome in outcomes))
    table.columns[0].no_wrap, table.padding = True, (0, 1, 0, 0)
    console.print()
    console.print(table)
    refs = [outcome.manifest.ref for outcome in outcomes if outcome.manifest]
    console.print(text(f"\n{NOTE}", "dim"))
    console.print(text(f"\npublished: {', '.join(refs) or 'nothing'}", "dim"))
