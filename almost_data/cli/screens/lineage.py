"""What `lineage` prints: an artifact as a tree of what it was made from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from ...hub.places import place
from ..console import console, text

if TYPE_CHECKING:
    from ...datasets.manifest import Manifest
    from ...store.store import Store


@dataclass(frozen=True)
class Node:
    """An artifact, and what it was made from."""

    ref: str
    digest: str
    place: str
    """Repository, revision and commit, where it was pushed to or pulled from; where else it is."""
    rows: str = ""
    is_changed: bool = False
    """Whether the store holds another digest than the child was made from."""
    is_repeated: bool = False
    """Whether its own parents stand elsewhere in the tree: a policy and its RM come from the same queries."""
    parents: "list[Node]" = field(default_factory=list)
    file: dict[str, str] = field(default_factory=dict)
    """Name and hash of the imported file."""
    models: list[dict[str, Any]] = field(default_factory=list)
    has_seeds: bool = False


def trace(store: "Store", ref: str) -> Node:
    """The tree of an artifact, up to the seeds."""
    expanded: set[str] = set()

    def node(manifest: "Manifest", digest: str) -> Node:
        common: dict[str, Any] = {
            "ref": manifest.ref,
            "digest": manifest.digest,
            "place": _hub_place(store, manifest),
            "rows": _rows(manifest),
            "is_changed": manifest.digest != digest,
        }
        if manifest.ref in expanded:
            return Node(**common, is_repeated=True)
        expanded.add(manifest.ref)
        refs = {parent.ref for parent in manifest.parents}
        models = {model["id"]: model for model in _models(manifest) if model["id"] not in refs}
        return Node(
            **common,
            parents=[parent_node(parent.ref, parent.digest) for parent in manifest.parents],
            file=manifest.config.get("file", {}),
            models=list(models.values()),
            has_seeds="seeds" in manifest.config.get("prompts", {}),
        )

    def parent_node(ref: str, digest: str) -> Node:
        if store.has(ref):
            return node(store.manifest(ref), digest)
        return Node(ref, digest, "on the Hub" if "/" in ref else "not in this store")

    top = store.manifest(ref)
    return node(top, top.digest)


def lineage(top: Node) -> None:
    """Print the tree."""
    tree = Tree(_label(top))
    _grow(tree, top)
    console.print(tree)


def _grow(tree: Tree, node: Node) -> None:
    for parent in node.parents:
        _grow(tree.add(_label(parent)), parent)
    if node.file:
        hashes = (f"{key} {value[:12]}" for key, value in node.file.items() if key != "name")
        tree.add(text("  ".join([node.file["name"], *hashes])))
    for model in node.models:
        tree.add(text(f"{model['id']}  revision {model['revision']}", style="dim"))
    if node.has_seeds:
        tree.add(Text("seed queries (in the manifest)", style="dim"))


def _label(node: Node) -> Text:
    if not node.rows:
        return text(f"{node.ref}  digest {node.digest[:12]}  {node.place}")
    place_text = "as above" if node.is_repeated else node.place
    label = Text.assemble((node.ref, "bold"), f"  {node.rows}  digest ", text(node.digest[:12]))
    label.append(f"  {place_text}" if place_text else "", "dim")
    return label.append("  another digest than the one built from" if node.is_changed else "", "red")


def _hub_place(store: "Store", manifest: "Manifest") -> str:
    on_hub = place(store, manifest.ref)
    if on_hub is None or on_hub.digest != manifest.digest:
        return ""
    return f"{on_hub.repo}@{on_hub.revision} commit {on_hub.commit[:12]}"


def _rows(manifest: "Manifest") -> str:
    splits = manifest.counts.get("default", {})
    if manifest.kind == "model":
        return f"model  trained on {splits.get('train', 0):,} rows"
    return f"{sum(splits.values()):,} rows"


def _models(manifest: "Manifest") -> list[dict[str, Any]]:
    """The models that wrote a dataset's text or scored it, or that a model was made from."""
    if manifest.kind == "model":
        return [manifest.config[key] for key in ("base", "reward_model") if key in manifest.config]
    scorers = filter(None, map(manifest.config.get, ("scorer", "second")))
    return [*manifest.config.get("resolved", {}).values(), *scorers]
