"""The verbs `list`, `verify` and `journal`."""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..datasets.manifest import Manifest
from ..errors import InputError
from ..generation import journal_file
from ..store.store import Store
from .console import byte_size, print_json, print_line, print_rows
from .options import ROOT, Json, Root, root_flag


def list_(*, json: Json = False, root: Root = ROOT) -> None:
    store = Store(root)
    refs = store.refs()
    if json:
        print_json([_entry(store, ref) for ref in refs])
        return
    if not refs:
        start = f"python -m almost_data build comparisons{root_flag(root)}"
        print_line(f"nothing under {store.root}; start with: {start}")
    rows: list[tuple[str | int, ...]] = []
    results: list[Manifest] = []
    errors: list[str] = []
    size = 0
    # No other manifest is kept: thousands of them slow down the garbage collector.
    for ref in refs:
        manifest = store.read(ref)
        if isinstance(manifest, str):
            errors.append(manifest)
            rows.append((ref, "", "", "", "damaged"))
            continue
        size += store.disk_bytes(manifest)
        if manifest.kind == "evaluation":
            results.append(manifest)
        else:
            rows.append(_row(store, manifest))
    if rows:
        print_rows("ref", ">rows", ">size", "created", "what", rows=rows)
    _print_unfinished(store, refs)
    for error in errors:
        print_line(error, "red")
    if results:
        from .show_results import print_results

        print_results(results)
    if refs:
        print_line(f"{len(refs):,} {'version' if len(refs) == 1 else 'versions'}, {byte_size(size)}", "dim")


def _print_unfinished(store: Store, refs: Iterable[str]) -> None:
    """The builds that were begun and not ended; a journal that cannot be read hides nothing else."""
    try:
        builds = journal_file.status(store.journal, refs)
    except InputError as error:
        print_line(str(error), "red")
        return
    for build in builds:
        if build.published:
            continue
        answered = f"{build.answered:,} of {build.requests:,} requests answered"
        print_line(f"{build.name}  unfinished: {answered}", "yellow")


def _entry(store: Store, ref: str) -> dict[str, Any]:
    manifest = store.read(ref)
    if isinstance(manifest, str):
        return {"ref": ref, "error": manifest}
    values = {name: getattr(manifest, name) for name in ("kind", "counts", "created", "digest", "is_fake")}
    return {"ref": ref, "builder": manifest.builder.name, "bytes": store.disk_bytes(manifest), **values}


def _row(store: Store, manifest: Manifest) -> tuple[str | int, ...]:
    created, builder = manifest.created[:10], manifest.builder.name
    words = ["empty"] * manifest.is_empty + ["fake"] * manifest.is_fake + [manifest.kind]
    made_by = "" if builder == manifest.name else f" by {builder}"
    size = byte_size(store.disk_bytes(manifest))
    return manifest.ref, manifest.rows, size, created, " ".join(words) + made_by


def verify(
    ref: Annotated[str, Parameter(help="name@version, a name, or ORG/NAME@REVISION of what is on the Hub.")],
    /,
    *,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    store, not_proven = Store(root), list[str]()
    if "/" in ref and not Path(ref).exists():  # of a path, the store's error says how to name it
        from .hub import verify_on_hub

        problems = verify_on_hub(store, ref, is_quiet=json)
    else:
        from ..evals import model_card
        from ..store.verify import unproven
        from ..store.verify import verify as verify_artifact

        ref = store.resolve(ref)
        problems = verify_artifact(store, ref, partial(model_card.render, store))
        not_proven = [] if problems else unproven(store, ref, _place(store, ref))
    if json:
        print_json({"ref": ref, "problems": problems, "unproven": not_proven})
    elif problems:
        for problem in problems:
            print_line(f"{ref}: {problem}")
    else:
        print_line(f"{ref}: manifest, ledger, card and files agree")
        if not_proven:
            print_line("nothing is wrong. This check cannot show:", "dim")
        for sentence in not_proven:
            print_line(f"  {sentence}", "dim")
    if problems:
        raise SystemExit(1)


def _place(store: Store, ref: str) -> str | None:
    """`ORG/NAME@COMMIT` where a push or a pull recorded this content."""
    from ..store.places import place

    recorded = place(store, ref, store.manifest(ref).digest)
    return f"{recorded.repo}@{recorded.commit}" if recorded else None


def journal(
    *,
    prune: Annotated[
        bool, Parameter(help="Delete the replies that no dataset of the store refers to.")
    ] = False,
    unfinished: Annotated[bool, Parameter(help="With --prune: those of unfinished builds too.")] = False,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    if unfinished and not prune:
        raise InputError("--unfinished goes with --prune")
    store = Store(root)
    path = store.journal
    if not path.is_file() and not json:
        print_line(f"no journal under {store.root}: nothing was generated yet")
        return
    deleted = _prune(store, unfinished) if prune and path.is_file() else 0
    builds, refs = journal_file.status(path, store.refs()), store.refs()
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    replies, scores = (
        journal_file.count(path, table) if path.is_file() else 0 for table in ("reply", "score")
    )
    if json:
        totals = {"replies": replies, "scores": scores, "bytes": size, "deleted": deleted}
        print_json({"path": str(path), **totals, "builds": builds})
        return
    if prune:
        print_line(f"{deleted:,} replies and scores deleted that no dataset refers to")
    from_journal = sum(build.from_journal for build in builds)
    requests = from_journal + sum(build.computed for build in builds)
    print_line(f"{path}: {replies:,} replies, {scores:,} scores, {size / 1e6:,.1f} MB")
    if requests:
        share = f"{from_journal:,} ({from_journal / requests:.0%})"
        print_line(f"of the {requests:,} answers that all builds needed, {share} were in it already")
    rows = (
        (build.name, _state(build, refs), build.answered, build.failed, build.pending) for build in builds
    )
    if builds:
        print_rows("build", "", ">answered", ">failed", ">pending", rows=rows)


def _state(build: journal_file.Status, refs: list[str]) -> str:
    return "in the store" if build.name in refs else "deleted" if build.published else "unfinished"


def _prune(store: Store, unfinished: bool) -> int:
    """Prune under the locks of the builds, so that none starts or ends meanwhile; what runs is left alone."""
    with ExitStack() as locks:
        locked = []
        for build in journal_file.status(store.journal):
            try:
                locks.enter_context(store.lock(build.name))
            except InputError:
                continue
            locked.append(build.name)
        return journal_file.prune(store.journal, store.refs(), unfinished, locked)
