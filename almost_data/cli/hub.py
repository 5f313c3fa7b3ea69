"""The verbs `push` and `pull`, and what `--from` names on the Hub."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .. import hub
from ..errors import InputError
from ..readers.files import TABLE_SUFFIXES
from ..store.names import on_disk
from ..store.store import Store
from .console import byte_size, console, grid, print_line
from .options import ROOT, Ref, Root, root_flag
from .progress import byte_bar

MAX_FOLDERS = 9
"""Lines of a plan that name files."""


def push(
    ref: Ref,
    /,
    *,
    repo: Annotated[str, Parameter(help="ORG/NAME; created if it does not exist.")],
    private: Annotated[bool, Parameter(help="Make it private; a public one is then refused.")] = False,
    dry_run: Annotated[bool, Parameter(help="Print files and operations, and ask the Hub nothing.")] = False,
    card: Annotated[bool, Parameter(help="With --dry-run: print the card that would be pushed.")] = False,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    ref = store.resolve(ref)
    if card and not dry_run:
        raise InputError("hub.card goes with hub.dry_run")
    if dry_run:
        plan = hub.plan(store, ref, repo)
        if card:
            print_line(plan.card)
        else:
            print_plan(plan, private)
        return
    with byte_bar("upload") as bar:
        pushed = hub.push(store, ref, repo, private=private, progress=bar)
    print_pushed(pushed)


def pull(
    repo: Annotated[str, Parameter(help="ORG/NAME, or ORG/NAME@REVISION: a tag or a commit.")],
    /,
    *,
    root: Root = ROOT,
) -> None:
    store = Store(root)
    pulled = fetch(store, repo)
    outcome = "unchanged" if pulled.action == "unchanged" else f"{pulled.bytes / 1e6:,.1f} MB, verified"
    print_line(f"{pulled.ref}: {store.path(pulled.ref)}, {outcome}", "bold")
    print_line(f"  {pulled.place.repo} at commit {pulled.place.commit}", "dim")
    print_line(f"  next: python -m almost_data show {pulled.ref}{root_flag(root)}", "dim")


def fetch(store: Store, repo: str) -> hub.Pulled:
    """Pull with a bar of bytes."""
    with byte_bar("fetch") as bar:
        return hub.pull(store, repo, progress=bar)


def local_sources(root: Path, refs: Iterable[str]) -> dict[str, str]:
    """What the user wrote -> `name@version` in the store: the highest of a name, or what was pulled."""
    store = Store(root)
    sources = {}
    for ref in refs:
        name, at, _ = ref.partition("@")
        if "/" in ref and (name.endswith(TABLE_SUFFIXES) or (not at and os.path.exists(name))):
            problem = on_disk(name) or "no such file; name a dataset, such as comparisons@1.0.0"
            raise InputError(f"run.from {ref}: {problem}")
        if "/" in ref and not at:
            raise InputError(f"run.from {ref}: name a tag or a commit, such as {ref}@v1.0.0")
        sources[ref] = fetch(store, ref).ref if "/" in ref else store.resolve(ref)
    return sources


def hub_origins(sources: Mapping[str, str]) -> dict[str, str]:
    """Those of the sources that were named on the Hub, where others find them."""
    return {source: ref for ref, source in sources.items() if "/" in ref}


def verify_on_hub(store: Store, ref: str, is_quiet: bool) -> list[str]:
    """What is wrong with an artifact on the Hub."""
    if is_quiet:
        return hub.verify(store, ref)
    with byte_bar("fetch") as bar:
        return hub.verify(store, ref, progress=bar)


def print_plan(push: hub.PushPlan, private: bool) -> None:
    """The files by folder, and the operations of a push: a screen at most."""
    folders: dict[str, list[int]] = {}
    for path, size in push.tree.items():
        folder, slash, _ = path.rpartition("/")
        folders.setdefault(folder + slash or path, []).append(size)
    rows = [(name, len(sizes), byte_size(sum(sizes))) for name, sizes in folders.items()]
    console.print(grid("path", ">files", ">size", rows=rows[:MAX_FOLDERS]))
    if len(rows) > MAX_FOLDERS:
        print_line(f"... and {len(rows) - MAX_FOLDERS} more folders", "dim")
    repository = f"{'private ' if private else ''}{push.kind} repository {push.repo}"
    for step in (
        f"create the {repository}, if it does not exist",
        f"make one commit: these {len(push.tree)} files, {byte_size(sum(push.tree.values()))} (unchanged "
        "ones are not sent), without files that only the version before has; your own text in the card stays",
        "check sizes and hashes on the Hub",
        f"tag the commit {push.tag}; if the tag exists already, change nothing",
    ):
        print_line(f"would {step}")
    print_line("nothing was sent, and the Hub was not asked; --card prints the card", "dim")


def print_pushed(push: hub.Pushed) -> None:
    """What was committed and tagged, and how others load it."""
    outcome = {
        "committed": f"one commit: {len(push.added)} files added or changed, {len(push.deleted)} deleted",
        "tagged": "it was committed before, and is tagged now",
        "card": "it is there already; one commit brings its card on main up to date, and the tag stays",
        "unchanged": "it is there already, with the same content: no commit",
    }[push.action]
    print_line(f"{push.ref}: {push.repo}@{push.tag}, {outcome}", "bold")
    print_line(f"  commit {push.commit}", "dim")
    if push.hidden:
        print_line(f"  not linked in the public card, as they are private: {', '.join(push.hidden)}")
    loader = "load_dataset" if push.kind == "dataset" else "from_pretrained"
    print_line(f'  {loader}("{push.repo}", revision="{push.tag}")', "dim")
