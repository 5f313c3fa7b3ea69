"""The verb `audit`: how far anybody's preference data can be trusted."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..datasets.builder import silent
from ..errors import InputError
from ..outputs import replacing
from ..readers.files import HubPart, not_read
from ..readers.preferences import parse_columns
from ..run.audit import AuditOptions
from ..run.audit import audit as run_audit
from ..store.store import Store
from .console import console, grid, print_cropped, print_json, print_line, print_markdown, print_prose, text
from .ending import end
from .options import ROOT, Json, Markdown, Reading, Root, root_flag
from .progress import progress_bars

STYLES = {"worry": "bold red", "watch": "yellow", "fine": "green"}
READING, OPTIONS = Reading(), AuditOptions()


def audit(
    source: Annotated[
        str,
        Parameter(
            help="Preference data in any layout: name@version, a name, file, folder or ORG/NAME[@REVISION]."
        ),
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
        print_line(f"next: {_next_step(result, source, reading, root)}")
    if out:
        from ..cards.card import audit_page

        with replacing(out, "audit.out") as staging:
            staging.write_text(audit_page(result), "utf-8")
        if is_text:
            print_line(f"written: {out}")
    limits = result["thresholds"]
    if broken := [limit for limit in limits if not limit["holds"]]:
        end(1, f"thresholds broken: {'; '.join(map(_compared, broken))}")
    if is_text and limits:
        print_line(f"all thresholds hold: {'; '.join(map(_compared, limits))}", "green")


def _print(result: dict[str, Any]) -> None:
    print_line(f"{result['source']}: read as {result['layout']}{not_read(result['not_read'])}")
    print_line(
        f"{result['rows']:,} rows, {result['comparisons']:,} comparisons on {result['prompts']:,} prompts"
    )
    measures = result["measures"]
    rows = ((row["name"], row["value"], text(row["level"], STYLES[row["level"]])) for row in measures)
    console.print()
    console.print(grid("measure", "value", "verdict", rows=rows))
    console.print()
    for row in measures:
        # Its reasons have the same sentence, and stand in the table and below.
        if row["level"] != "fine" and not row["name"].startswith("left_out."):
            _print_verdict(row)
    for reason, places in result["left_out_at"].items():
        ellipsis = ", ..." if result["left_out"][reason] > len(places) else ""
        label = "ties" if reason == "tie" else f"left out, {reason}"
        print_prose(f"{label}: {', '.join(places)}{ellipsis}", "dim")
    if features := _features(result["text"]["probe"]):
        print_prose(f"the surface model goes by, with the share that has more in chosen: {features}", "dim")
    for answer in result["text"]["responses"]["most_frequent"][:1]:
        sides = f"{answer['queries']:,} queries, chosen in {answer['chosen']:.0%}"
        print_prose(f"most frequent reply ({sides}): {answer['text']!r}", "dim")
    sampled = result["sampled"]["texts"]
    if sampled < result["comparisons"]:
        print_prose(f"the surface model and repeated responses: a sample of {sampled:,} comparisons", "dim")
    scripts = ", ".join(f"{name} {share:.1%}" for name, share in result["scripts"].items())
    turns = ", ".join(f"{number}: {share:.1%}" for number, share in result["turns"].items())
    system = f"; with a system turn: {result['system_prompts']:.1%}" if result["system_prompts"] else ""
    print_prose(f"prompts by script: {scripts or 'no letters'}; by turns: {turns}{system}", "dim")
    longest = ", ".join(f"{row['place']} ({row['characters']:,})" for row in result["longest"][:3])
    print_prose(f"longest replies, in characters: {longest}", "dim")


def _print_verdict(row: dict[str, Any]) -> None:
    """What is measured and what it means, and one comparison that has it."""
    level = row["level"]
    places = f" For example {', '.join(row['places'])}." if row.get("places") else ""
    sentence = f"{row['name']}: {row['measure']}: {row['value']}. {row['sentence']}{places}"
    print_prose(f"{level}: {sentence}", STYLES[level])
    if "example" in row:
        print_cropped(f"  > {row['example']}")


def _next_step(result: dict[str, Any], source: str, reading: Reading, root: Path) -> str:
    """Where to look; with nothing to look at, how to hold later data to these numbers."""
    flags = {"--columns": reading.columns, "--hub-config": reading.hub_config, "--split": reading.split}
    columns, *part = (f" {flag} {shlex.quote(value)}" if value else "" for flag, value in flags.items())
    name = shlex.quote(source) + columns
    whole = name + "".join(part)
    if all(row["level"] == "fine" for row in result["measures"]):
        command = f"almost-data audit {whole}{root_flag(root)} --thresholds FILE"
        return f"{command} fails where later data are worse"
    step = f"almost-data view {name}{root_flag(root)} -o rows.html shows the rows in a browser"
    if not result["left_out"]:
        return step
    command = f"almost-data import preferences {whole}{root_flag(root)} --version 1.0.0"
    return f"{step}; {command} keeps those that were left out, with the reason of each"


def _features(probe: dict[str, Any]) -> str:
    """What the surface model goes by, where it is better than a coin."""
    if probe["accuracy"] is None or probe["low"] <= 0.5:
        return ""
    return ", ".join(f"{feature['feature']} {feature['more_in_chosen']:.0%}" for feature in probe["features"])


def _compared(limit: dict[str, Any]) -> str:
    bound = "max" if "max" in limit else "min"
    unit = " times the rejected length" if limit["measure"] == "length_gap" else ""
    return f"{limit['measure']} is {limit['number']:.4g}, {bound} {limit[bound]:g}{unit}"
