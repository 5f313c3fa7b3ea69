"""What `push` and `pull` print: what would be done, and what was done."""

from typing import TYPE_CHECKING

from ..console import console, grid, print_line

if TYPE_CHECKING:
    from ...hub import Plan, Pulled, Pushed
    from ...store.store import Store


def plan(push: "Plan", private: bool) -> None:
    """The card, the files and the operations of a push."""
    print_line(push.card)
    console.print(grid("path", ">bytes", rows=((path, f"{size:,}") for path, size in push.tree.items())))
    repository = f"{'private ' if private else ''}{push.kind} repository {push.repo}"
    for step in (
        f"make the {repository}, where it is not there",
        f"make one commit: add {len(push.tree)} files, {sum(push.tree.values()):,} bytes, without those that "
        "are there as they are; delete what only the version before has; keep what people wrote",
        "read back sizes and hashes",
        f"tag the commit {push.tag}; where that tag is there, nothing is done",
    ):
        print_line(f"would {step}")
    console.print("nothing was sent, and the Hub was not asked", style="dim")


def pushed(push: "Pushed") -> None:
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


def pulled(store: "Store", pull: "Pulled") -> None:
    """Where it is now, and the commit that it came from."""
    outcome = "unchanged" if pull.action == "unchanged" else f"{pull.bytes / 1e6:,.1f} MB, verified"
    print_line(f"{pull.ref}: {store.path(pull.ref)}, {outcome}", "bold")
    print_line(f"  {pull.place.repo} at commit {pull.place.commit}", "dim")
    print_line(f"  next: python -m almost_data show {pull.ref}", "dim")
