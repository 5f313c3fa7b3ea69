"""The verb `ablate`: what each filter of comparisons is worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..readers.preferences import parse_columns
from ..readers.reviews import read as read_reviews
from ..run import ablation
from ..run.build import prepare
from ..run.presets import PresetName
from .console import console, print_json, print_rows, text
from .hub import hub_origins, local_sources
from .options import ROOT, Columns, Json, Root
from .progress import progress_bars

REVIEWS = (
    "A judge's preferences: a file of prompt, responder_a, responder_b, score_a, score_b, or preferences in "
    "any layout, whose replies are found by their text."
)


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
    version: Annotated[str, Parameter(help="Version N.N.N, to which each variant adds its name.")],
    ratings: Annotated[
        str | None,
        Parameter(help="Ratings of the responses: with them, the label by ladder, ratings and both."),
    ] = None,
    reviews: Annotated[str | None, Parameter(help=REVIEWS)] = None,
    columns: Columns = None,
    settings: FilterSettings = FilterSettings(),
    json: Json = False,
    root: Root = ROOT,
) -> None:
    verdicts = read_reviews(reviews, parse_columns(columns)) if reviews else None
    sources = local_sources(root, [from_, *([ratings] if ratings else [])])
    run = prepare(
        root=root,
        version=version,
        preset=settings.preset,
        config=settings.config,
        assignments=settings.set_,
        sources=list(sources.values()),
        origins=hub_origins(sources),
    )
    with progress_bars() as bars:
        outcomes = ablation.ablate(run, verdicts, *([] if json else [bars]))
    if json:
        print_json([outcome.numbers() for outcome in outcomes])
        return
    filtered_note = ablation.FILTERED_NOTE + (f" {ablation.AGREED_NOTE}" if ratings else "")
    for header, rows, note in (
        (ablation.FILTERED, ablation.filter_rows(outcomes), filtered_note),
        (ablation.JUDGED, ablation.judge_rows(outcomes), ablation.JUDGED_NOTE),
    ):
        if rows:
            console.print()
            print_rows(header[0], *(f">{heading}" for heading in header[1:]), rows=rows)
            console.print(text(f"\n{note}", "dim"))
    if verdicts:
        [responses] = [source for ref, source in sources.items() if ref == from_]
        used = len(ablation.matched(verdicts, run.store, responses).rows)
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in verdicts.unread.items())
        unread = f"; rows without a verdict: {reasons}" if reasons else ""
        counts = (
            f"{used:,} of {len(verdicts.rows):,} verdicts of {reviews} are on two responses of {responses}"
        )
        console.print(text(f"{counts}{unread}.", "dim"))
    refs = [outcome.manifest.ref for outcome in outcomes if outcome.manifest]
    console.print(text(f"\nin the store: {', '.join(refs) or 'nothing'}", "dim"))
