"""The verb `lineage`: an artifact as a tree of what it was made from."""

from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from ..datasets.manifest import Manifest
from ..store.places import place
from ..store.store import Store
from .console import console, print_json, text
from .options import ROOT, Json, Ref, Root


@dataclass(frozen=True)
class Node:
    """An artifact, and what it was made from."""

    ref: str
    digest: str
    place: str = ""
    """Where it was pushed to or pulled from, and the commit; where it is, if it is not in the store."""
    kind: str | None = None
    rows: int | None = None
    """Of a model, those that it was trained on."""
    is_changed: bool = False
    """Whether the store holds another digest than the child was made from."""
    is_repeated: bool = False
    """Whether its parents are listed elsewhere: a policy and its reward model come from the same queries."""
    parents: "list[Node]" = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """Imported file, models and seeds."""


def lineage(ref: Ref, /, *, json: Json = False, root: Root = ROOT) -> None:
    store = Store(root)
    top = store.manifest(store.resolve(ref))
    node = _trace(store, top.ref, top.digest, set())
    if json:
        print_json(node)
        return
    tree = Tree(_label(node))
    _grow(tree, node)
    console.print(tree)


def _trace(store: Store, ref: str, digest: str, expanded: set[str]) -> Node:
    """The tree above an artifact. `expanded` are those whose parents are listed already."""
    if not store.has(ref):
        return Node(ref, digest, "on the Hub" if "/" in ref else "not in this store")
    manifest = store.manifest(ref)
    is_changed, is_repeated = manifest.digest != digest, ref in expanded
    on_hub = place(store, ref, manifest.digest)
    where = f"{on_hub.repo}@{on_hub.revision} commit {on_hub.commit[:12]}" if on_hub else ""
    node = Node(ref, manifest.digest, where, manifest.kind, manifest.rows, is_changed, is_repeated)
    if not is_repeated:
        expanded.add(ref)
        node.parents.extend(_trace(store, parent.ref, parent.digest, expanded) for parent in manifest.parents)
        node.sources.extend(_sources(manifest))
    return node


def _sources(manifest: Manifest) -> list[str]:
    """What is no artifact: a file, the models that wrote, scored or were the base, the seeds."""
    config: dict[str, Any] = manifest.config
    file = dict(config.get("file") or {})
    sources = [f"{file.pop('name')}  " + "  ".join(f"{k} {v[:12]}" for k, v in file.items())] if file else []
    models = [*config.get("resolved", {}).values(), *config.get("reward_models", {}).values()]
    if manifest.kind == "model":
        models += [config[name] for name in ("base", "reward_model") if config.get(name)]
    if manifest.kind == "evaluation":
        models += [*config["models"], *config["data"]]
    refs = {parent.ref for parent in manifest.parents}
    lines = [f"{model['id']}  revision {model['revision']}" for model in models if model["id"] not in refs]
    seeds = ["seed queries (in the manifest)"] if "seeds" in config.get("prompts", {}) else []
    return [*sources, *dict.fromkeys(lines), *seeds]


def _grow(tree: Tree, node: Node) -> None:
    for parent in node.parents:
        _grow(tree.add(_label(parent)), parent)
    for source in node.sources:
        tree.add(text(source, "dim"))


def _label(node: Node) -> Text:
    if node.rows is None:
        return text(f"{node.ref}  digest {node.digest[:12]}  {node.place}")
    rows = f"model  trained on {node.rows:,} rows" if node.kind == "model" else f"{node.rows:,} rows"
    label = Text.assemble((node.ref, "bold"), f"  {rows}  digest ", text(node.digest[:12]))
    where = "as above" if node.is_repeated else node.place
    label.append(f"  {where}" if where else "", "dim")
    return label.append("  another digest than the one built from" if node.is_changed else "", "red")
