"""The verbs that look at a store: `list`, `show`, `diff`, `lineage`, `verify` and `journal`."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .options import ROOT, Json, Markdown, Ref, Root

if TYPE_CHECKING:
    from ..datasets.manifest import Manifest
    from ..generation.journal_file import Status
    from ..store.store import Store


def list_(*, json: Json = False, root: Root = ROOT) -> None:
    """List what is in the store, and what was evaluated."""
    from ..store.store import Store
    from . import show_eval
    from .console import print_json, print_line
    from .screens import store as screen

    store = Store(root)
    manifests = {ref: _manifest_or_error(store, ref) for ref in store.refs()}
    if json:
        print_json([_list_entry(ref, manifest) for ref, manifest in manifests.items()])
        return
    if not manifests and not any((store.root / "evals").glob("*/*/result.json")):
        print_line(f"nothing under {store.root}; start with: python -m almost_data build comparisons")
    screen.listing(store, manifests)
    show_eval.listing(store)


def _manifest_or_error(store: "Store", ref: str) -> "Manifest | str":
    from ..errors import InputError

    try:
        return store.manifest(ref)
    except InputError as error:
        return str(error)


def _list_entry(ref: str, manifest: "Manifest | str") -> dict[str, Any]:
    if isinstance(manifest, str):
        return {"ref": ref, "error": manifest}
    fields = ("kind", "counts", "created", "digest", "fingerprint")
    common = {field: getattr(manifest, field) for field in fields}
    return {"ref": ref, "builder": manifest.builder.name, "is_fake": manifest.is_fake, **common}


def show(ref: Ref, /, *, json: Json = False, root: Root = ROOT) -> None:
    """Show an artifact: counts, ledger, failures, cost, recipe; of an unfinished build, how far it is."""
    import sys

    from ..datasets.manifest import encode_manifest
    from ..store.store import Store
    from . import show_eval
    from .screens import artifact as screen

    store = Store(root)
    ref = store.resolve(ref)
    build = None if store.has(ref) else _unfinished(store, ref)
    if build and not json:
        screen.unfinished(ref, build)
        return
    manifest = store.manifest(ref)
    if json:
        sys.stdout.write(encode_manifest(manifest).decode())
        return
    screen.artifact(store, manifest)
    show_eval.of_model(store, manifest)


def _unfinished(store: "Store", ref: str) -> "Status | None":
    """How far a build is that is not in the store, where the journal knows of it."""
    from ..generation.journal_file import status

    builds = (build for build in status(store.journal, store.refs()) if build.name == ref)
    return next((build for build in builds if not build.published), None)


def diff(a: Ref, b: Ref, /, *, markdown: Markdown = False, json: Json = False, root: Root = ROOT) -> None:
    """Compare two versions of a dataset: settings, rows gained and lost, why, examples."""
    from ..store import diff as diff_
    from ..store.store import Store
    from .console import print_json, print_markdown
    from .screens import diff as screen

    store = Store(root)
    difference = diff_.diff(store, store.resolve(a), store.resolve(b))
    if json:
        print_json(difference)
    elif markdown:
        print_markdown("diff", vars(difference))
    else:
        screen.diff(difference)


def lineage(ref: Ref, /, *, json: Json = False, root: Root = ROOT) -> None:
    """Show what an artifact was made from, up to the seeds."""
    from ..store.store import Store
    from .console import print_json
    from .screens import lineage as screen

    store = Store(root)
    tree = screen.trace(store, store.resolve(ref))
    if json:
        print_json(tree)
    else:
        screen.lineage(tree)


def verify(
    ref: Annotated[str, Parameter(help="name@version, a name, or ORG/NAME@REVISION of what is on the Hub.")],
    /,
    *,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Check that manifest, card and files of an artifact agree; exit code 1 if they do not."""
    from ..store.store import Store
    from ..store.verify import verify as verify_artifact
    from .console import print_json
    from .screens import store as screen

    store = Store(root)
    if "/" in ref:
        problems = _verify_on_hub(store, ref, quiet=json)
    else:
        ref = store.resolve(ref)
        problems = verify_artifact(store, ref)
    if json:
        print_json({"ref": ref, "problems": problems})
    else:
        screen.verdict(ref, problems)
    if problems:
        raise SystemExit(1)


def _verify_on_hub(store: "Store", ref: str, quiet: bool) -> list[str]:
    from .. import hub
    from .progress import Bytes

    if quiet:
        return hub.verify(store, ref)
    with Bytes("fetch") as bar:
        return hub.verify(store, ref, progress=bar)


def journal(
    *,
    prune: Annotated[
        bool, Parameter(help="Delete the replies that no dataset of the store refers to.")
    ] = False,
    unfinished: Annotated[bool, Parameter(help="With --prune: those of unfinished builds too.")] = False,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Show the journal of replies: its size, its hit rate, the builds that use it."""
    from ..errors import InputError
    from ..generation import journal_file
    from ..store.store import Store
    from .console import print_json, print_line
    from .screens import store as screen

    if unfinished and not prune:
        raise InputError("--unfinished goes with --prune")
    store = Store(root)
    path = store.journal
    if not path.is_file():
        if json:
            print_json({"path": path, "replies": 0, "scores": 0, "bytes": 0, "builds": []})
        else:
            print_line(f"no journal under {store.root}: nothing was generated yet")
        return
    deleted = _prune(store, unfinished) if prune else None
    builds, refs = journal_file.status(path, store.refs()), store.refs()
    counts = {
        "replies": journal_file.count(path),
        "scores": journal_file.count(path, "score"),
        "bytes": sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")),
    }
    if json:
        print_json({"path": str(path), **counts, "deleted": deleted, "builds": builds})
        return
    if prune:
        print_line(f"{deleted:,} replies and scores deleted that no dataset refers to")
    screen.journal(path, counts, builds, refs)


def _prune(store: "Store", unfinished: bool) -> int:
    """Prune the journal under the locks of its builds, so that none starts or ends meanwhile.

    A build that runs is left alone.
    """
    from contextlib import ExitStack

    from ..errors import InputError
    from ..generation import journal_file

    with ExitStack() as locks:
        locked = []
        for build in journal_file.status(store.journal):
            try:
                locks.enter_context(store.lock(build.name))
            except InputError:
                continue
            locked.append(build.name)
        return journal_file.prune(store.journal, store.refs(), unfinished, locked)
