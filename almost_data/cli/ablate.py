"""The verb `ablate`: what each filter of comparisons is worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..readers import reviews as reviews_
from ..run import ablation
from ..run.build import prepare
from ..run.presets import PresetName
from .build import assignments
from .console import console, grid, print_markdown, text
from .options import ROOT, Markdown, Root, Version
from .progress import progress_bars
from .sources import hub_origins, local_sources


@Parameter(name="*")
@dataclass(frozen=True)
class FilterSettings:
    """Where the settings of the full filter come from."""

    preset: Annotated[PresetName, Parameter(help="Settings of the full filter.")] = "tiny"
    config: Annotated[Path | None, Parameter(help="TOML file over the preset.")] = None
    set_: Annotated[
        tuple[str, ...],
        Parameter(name="--set", help="comparisons.key=value over preset and config; repeatable."),
    ] = ()


def ablate(
    *,
    from_: Annotated[
        str,
        Parameter(name="--from", help="responses@version, responses, or ORG/NAME@REVISION, to build from."),
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
    settings: FilterSettings = FilterSettings(),
    markdown: Markdown = False,
    root: Root = ROOT,
) -> None:
    judgments = reviews_.read(reviews) if reviews else None
    sources = local_sources(root, [from_])
    run = prepare(
        root=root,
        version=version,
        preset=settings.preset,
        config=settings.config,
        assignments=[*settings.set_, *assignments("comparisons", {"asis_rm": asis_rm})],
        sources=list(sources.values()),
        origins=hub_origins(sources),
    )
    with progress_bars() as bars:
        outcomes = ablation.ablate(run, judgments, bars)
    header, rows = ablation.HEADER, [outcome.cells() for outcome in outcomes]
    if markdown:
        values = {"source": sources[from_], "header": header, "note": ablation.NOTE, "rows": rows}
        print_markdown("ablation", values)
        return
    table = grid(header[0], *(f">{heading}" for heading in header[1:]), rows=rows)
    table.columns[0].no_wrap, table.padding = True, (0, 1, 0, 0)
    refs = [outcome.manifest.ref for outcome in outcomes if outcome.manifest]
    console.print()
    console.print(table)
    console.print(text(f"\n{ablation.NOTE}\n\npublished: {', '.join(refs) or 'nothing'}", "dim"))
