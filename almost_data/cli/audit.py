"""The verb `audit`: how far anybody's preference data can be trusted."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..datasets.builder import silent
from ..errors import InputError
from ..outputs import replacing
from ..readers.files import HubPart
from ..readers.preferences import parse_columns
from ..run.audit import AuditOptions
from ..run.audit import audit as run_audit
from ..store.store import Store
from .console import console, grid, print_json, print_line, print_markdown, text
from .options import ROOT, Json, Markdown, Reading, Root
from .progress import progress_bars

LEVELS = {"worry": "bold red", "watch": "yellow", "fine": "green"}
READING, OPTIONS = Reading(), AuditOptions()


def audit(
    source: Annotated[
        str, Parameter(help="File, folder, Hub id, or name@version: preference data in any layout.")
    ],
    /,
    *,
    reading: Reading = READING,
    options: Annotated[AuditOptions, Parameter(name="*")] = OPTIONS,
    json: Json = False,
    markdown: Markdown = False,
    out: Annotated[
        Path | None, Parameter(name=["--out", "-o"], help="HTML file to write, with figures.")
    ] = None,
    root: Root = ROOT,
) -> None:
    if out and out.suffix != ".html":
        raise InputError(f"audit.out {out}: name an .html file")
    is_text = not json and not markdown
    columns, part = parse_columns(reading.columns), HubPart(reading.hub_config, reading.split)
    with progress_bars() as bars:
        result = run_audit(Store(root), source, options, bars if is_text else silent, columns, part)
    if json:
        print_json(result)
    elif markdown:
        print_markdown("audit", result)
    else:
        _print(result)
    if out:
        from ..cards.card import audit_page

        with replacing(out, "audit.out") as staging:
            staging.write_text(audit_page(result), "utf-8")
        if is_text:
            print_line(f"written: {out}")
    limits = result["thresholds"]
    broken = [limit for limit in limits if not limit["holds"]]
    for limit in broken if is_text else ():
        print_line(f"threshold broken: {_compared(limit)}", "bold red")
    if is_text and limits and not broken:
        print_line(f"all thresholds hold: {'; '.join(map(_compared, limits))}", "green")
    if broken:
        raise SystemExit(1)


def _print(result: dict[str, Any]) -> None:
    print_line(f"{result['source']}: read as {result['layout']}")
    print_line(
        f"{result['rows']:,} rows, {result['comparisons']:,} comparisons on {result['prompts']:,} prompts"
    )
    measures = result["measures"]
    levels = [text(row["level"], LEVELS[row["level"]]) for row in measures]
    rows = ((row["name"], row["value"], level) for row, level in zip(measures, levels, strict=True))
    console.print()
    console.print(grid("measure", "value", "verdict", rows=rows))
    console.print()
    for level in ("worry", "watch"):
        for row in measures:
            # Its reasons have the same sentence, and stand in the table and below.
            if row["level"] == level and not row["name"].startswith("left_out."):
                sentence = f"{row['name']}: {row['measure']}: {row['value']}. {row['sentence']}"
                places = f" For example {', '.join(row['places'])}." if row.get("places") else ""
                print_line(f"{level}: {sentence}{places}", LEVELS[level])
    for reason, places in result["left_out_at"].items():
        ellipsis = ", ..." if result["left_out"][reason] > len(places) else ""
        print_line(f"left out, {reason}: {', '.join(places)}{ellipsis}", "dim")
    if features := _features(result["text"]["probe"]):
        print_line(f"the surface model goes by: {features}", "dim")
    for answer in result["text"]["responses"]["most_frequent"][:1]:
        sides = f"{answer['queries']:,} queries, chosen in {answer['chosen']:.0%}"
        print_line(f"most frequent reply ({sides}): {answer['text']!r}", "dim")
    sampled = result["sampled"]["texts"]
    if sampled < result["comparisons"]:
        print_line(f"the surface model and repeated responses: a sample of {sampled:,} comparisons", "dim")
    scripts = ", ".join(f"{name} {share:.1%}" for name, share in result["scripts"].items())
    turns = ", ".join(f"{number}: {share:.1%}" for number, share in result["turns"].items())
    system = f"; with a system turn: {result['system_prompts']:.1%}" if result["system_prompts"] else ""
    print_line(f"prompts by script: {scripts or 'no letters'}; by turns: {turns}{system}", "dim")
    longest = ", ".join(f"{row['place']} ({row['characters']:,})" for row in result["longest"][:3])
    print_line(f"longest replies, in characters: {longest}", "dim")


def _features(probe: dict[str, Any]) -> str:
    """What the surface model goes by, where it is better than a coin."""
    if probe["accuracy"] is None or probe["low"] <= 0.5:
        return ""
    return ", ".join(
        f"{feature['feature']} ({'chosen' if feature['weight'] > 0 else 'rejected'})"
        for feature in probe["features"]
    )


def _compared(limit: dict[str, Any]) -> str:
    bound = "max" if "max" in limit else "min"
    return f"{limit['measure']} is {limit['number']:.4g}, {bound} {limit[bound]:g}"
