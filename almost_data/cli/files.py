"""The verbs `export` and `rm`: rows out of the store, and an artifact out of it."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import InputError
from ..generation.journal_file import status
from ..store.export import Trainer, hand_over, launch_files
from ..store.export import export as write_rows
from ..store.removal import plan, remove
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
        bool, Parameter(help="Text in place of messages; in .csv, formulas are made harmless.")
    ] = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    ref = store.resolve(ref)
    if to:
        if where or flat or config != "default":
            raise InputError(
                "export.to writes whole comparisons: leave out export.where, export.flat and export.config"
            )
        for name, count in hand_over(store, ref, to, out).items():
            unit = ", one for each prompt, as PPO reads no replies" if to == "verl" else ""
            print_line(f"{out / name}: {count:,} rows{unit}")
        launch = launch_files(to)
        print_line(f"beside them: {', '.join(launch)}")
        script = next(name for name in launch if name.endswith(".sh"))
        variables = " ".join(f"{name}=..." for name in re.findall(r"\{(\w+):\?", launch[script]))
        print_line(f"next: {variables} sh {shlex.quote(str(out / script))}", "dim")
        _print_empty_splits(store, ref)
        return
    is_replaced = out.is_file()
    rows = write_rows(store, ref, out, config=config, where=where, is_flat=flat)
    place = ", in place of the file that was there" if is_replaced else ""
    print_line(f"{out}: {rows:,} rows, {byte_size(out.stat().st_size)}{place}")
    _print_empty_splits(store, ref, config)


def _print_empty_splits(store: Store, ref: str, config: str = "default") -> None:
    for split, rows in store.manifest(ref).splits(config).items():
        if not rows:
            print_line(f"split {split} has no row: no query of {ref} falls into it", "yellow")


def rm(
    *refs: Annotated[
        str, Parameter(required=True, help="name@version; several are deleted together, or none of them.")
    ],
    yes: Annotated[bool, Parameter(help="Delete without a question.")] = False,
    force: Annotated[
        bool, Parameter(help="Also where others were made from it; they stay, without its texts and lineage.")
    ] = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    store.sweep()
    for ref in refs:
        if "@" not in ref:
            raise InputError(f"{ref}: name the version to delete, such as {store.resolve(ref)}")
        if not store.has(ref) and any(build.name == ref for build in status(store.journal)):
            raise InputError(f"{ref} is unfinished: journal --prune --unfinished deletes its replies")
    removal = plan(store, refs)
    names, size = ", ".join(dict.fromkeys(refs)), byte_size(removal.bytes)
    for question in removal.unchecked:
        print_line(f"not checked: {question}", "yellow")
    if not yes and (force or not removal.children):
        if not sys.stdin.isatty():
            raise InputError(f"{names}, {size}: give rm.yes to delete without a question")
        if input(f"Delete {names}, {size}? [y/N] ").strip().lower() not in ("y", "yes"):
            print_line("nothing was deleted")
            return
    remove(store, refs, force=force)
    print_line(f"{names}: deleted, {size} freed")
    answered = sum(build.answered for build in status(store.journal) if build.name in refs)
    if answered:
        print_line(
            f"The journal keeps their {answered:,} replies and scores: a build asks no model for these, and "
            "`journal --prune` deletes them."
        )
