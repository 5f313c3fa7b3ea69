"""The verbs `push` and `pull`."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .options import ROOT, Ref, Root

if TYPE_CHECKING:
    from ..hub import Pulled
    from ..store.store import Store


def push(
    ref: Ref,
    /,
    *,
    repo: Annotated[str, Parameter(help="ORG/NAME; made where it is not there.")],
    private: Annotated[bool, Parameter(help="Make it private; a public one is then refused.")] = False,
    dry_run: Annotated[
        bool, Parameter(help="Print card, files and operations, and ask the Hub nothing.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Publish a dataset or a model on the Hub: one commit, read back, with the tag v<version>."""
    from .. import hub
    from ..store.store import Store
    from .progress import Bytes
    from .screens import hub as screen

    store = Store(root)
    ref = store.resolve(ref)
    if dry_run:
        screen.plan(hub.plan(store, ref, repo), private)
        return
    with Bytes("upload") as bar:
        pushed = hub.push(store, ref, repo, private=private, progress=bar)
    screen.pushed(pushed)


def pull(
    repo: Annotated[str, Parameter(help="ORG/NAME, or ORG/NAME@REVISION: a tag or a commit.")],
    /,
    *,
    root: Root = ROOT,
) -> None:
    """Bring a published dataset or model into the store, checked, to build on it."""
    from ..store.store import Store
    from .screens import hub as screen

    store = Store(root)
    screen.pulled(store, fetch(store, repo))


def fetch(store: "Store", repo: str) -> "Pulled":
    """Pull with a bar of bytes."""
    from .. import hub
    from .progress import Bytes

    with Bytes("fetch") as bar:
        return hub.pull(store, repo, progress=bar)
