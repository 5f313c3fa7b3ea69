"""The verbs `export` and `rm`: rows out of the store, and an artifact out of it."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import InputError
from ..generation.journal_file import status
from ..store.export import export as write_rows
from ..store.handover import CONSUMERS, Trainer, hand_over
from ..store.removal import children, remove
from ..store.store import Store
from .console import byte_size, print_line
from .options import ROOT, Ref, Root, Where


def export(
    ref: Ref,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="File to write: .jsonl, .csv or .parquet.")],
    to: Annotated[
        Trainer | None,
        Parameter(help="Trainer with a layout of its own; --out is then a new folder of data and scripts."),
    ] = None,
    config: Annotated[str, Parameter(help="Config whose rows are written.")] = "default",
    where: Where = None,
    flat: Annotated[
        bool, Parameter(help="Text in place of messages; in .csv, no cell that a spreadsheet calculates.")
    ] = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    if to:
        if where or flat or config != "default":
            raise InputError(
                "export.to writes whole comparisons: leave out export.where, export.flat and export.config"
            )
        for name, count in hand_over(store, store.resolve(ref), to, out).items():
            print_line(f"{out / name}: {count:,} rows")
        launch = CONSUMERS[to].launch
        print_line(f"beside them: {', '.join(launch)}")
        script = next(name for name in launch if name.endswith(".sh"))
        print_line(f"next: MODEL=FOLDER_OR_HUB_ID sh {shlex.quote(str(out / script))}", "dim")
        return
    rows = write_rows(store, store.resolve(ref), out, config=config, where=where, is_flat=flat)
    print_line(f"{out}: {rows:,} rows, {byte_size(out.stat().st_size)}")


def rm(
    ref: Annotated[str, Parameter(help="name@version.")],
    /,
    *,
    yes: Annotated[bool, Parameter(help="Delete without a question.")] = False,
    force: Annotated[
        bool, Parameter(help="Also where others were made from it; they stay, without its texts and lineage.")
    ] = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    store.sweep()
    if "@" not in ref:
        raise InputError(f"{ref}: name the version to delete, such as {store.resolve(ref)}")
    manifest = store.manifest(ref)
    if not yes and (force or not children(store, ref)):
        size = byte_size(sum(record.bytes for record in manifest.files.values()))
        if not sys.stdin.isatty():
            raise InputError(f"{ref}, {size}: set rm.yes to delete it without a question")
        if input(f"Delete {ref}, {size}? [y/N] ").strip().lower() not in ("y", "yes"):
            print_line("nothing was deleted")
            return
    remove(store, ref, force=force)
    print_line(f"{ref} is deleted")
    answered = sum(build.answered for build in status(store.journal) if build.name == ref)
    if answered:
        print_line(
            f"The journal keeps its {answered:,} replies and scores: building it again asks no model, and "
            "`journal --prune` deletes them."
        )
