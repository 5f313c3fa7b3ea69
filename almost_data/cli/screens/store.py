"""What `list`, `verify` and `journal` print."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import console, grid, print_line, text

if TYPE_CHECKING:
    from ...datasets.manifest import Manifest
    from ...generation.journal_file import Status
    from ...store.store import Store


def listing(store: "Store", manifests: "Mapping[str, Manifest | str]") -> None:
    """A line for each artifact (a model's rows are those that it was trained on); last, what is damaged.

    `manifests` has by reference a manifest, or why it cannot be read.
    """
    table = grid("ref", "kind", ">rows", "made by", "created", "digest")
    table.columns[0].no_wrap = True
    for ref, manifest in manifests.items():
        if isinstance(manifest, str):
            table.add_row(ref, "", "", "damaged", "", "")
            continue
        splits = manifest.counts["default"]
        rows = splits.get("train", 0) if manifest.kind == "model" else sum(splits.values())
        builder = "fake engine" if manifest.is_fake else manifest.builder.name
        cells = map(text, (builder, manifest.created[:16].replace("T", " "), manifest.digest[:12]))
        table.add_row(ref, manifest.kind, f"{rows:,}", *cells)
    if table.row_count:
        console.print(table)
    for error in manifests.values():
        if isinstance(error, str):
            print_line(error, "red")


def verdict(ref: str, problems: list[str]) -> None:
    """The outcome of `verify`."""
    if not problems:
        console.print(f"{ref}: manifest, ledger, card and files agree")
    for problem in problems:
        print_line(f"{ref}: {problem}")


def journal(path: Path, counts: dict[str, Any], builds: "list[Status]", refs: list[str]) -> None:
    """The journal's size and hit rate, and the builds that use it."""
    from_journal, generated = (
        sum(build.from_journal for build in builds),
        sum(build.computed for build in builds),
    )
    requests = from_journal + generated
    rate = f", {from_journal / requests:.0%} of {requests:,} requests found in it" if requests else ""
    sizes = f"{counts['replies']:,} replies, {counts['scores']:,} scores, {counts['bytes'] / 1e6:,.1f} MB"
    print_line(f"{path}: {sizes}{rate}")
    table = grid("build", "", ">requests", ">answered", ">failed", ">pending")
    for build in builds:
        state = "in the store" if build.name in refs else "deleted" if build.published else "unfinished"
        numbers = (build.requests, build.answered, build.failed, build.pending)
        table.add_row(text(build.name), state, *[f"{n:,}" for n in numbers])
    if table.row_count:
        console.print(table)
