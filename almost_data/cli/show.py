"""What `show`, `lineage`, `verify` and `journal` print."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..cards.markdown import clean, short
from ..errors import InputError
from ..hub.places import place
from . import show_model
from .report import console, text

if TYPE_CHECKING:
    from ..datasets.manifest import Manifest
    from ..run.ablation import Outcome
    from ..store.diff import Diff
    from ..store.store import Store


def manifest(store: Store, one: Manifest) -> None:
    """Counts, ledger, failures, cost, diagnostics and recipe of an artifact."""
    console.print(
        Text.assemble((one.ref, "bold"), f"  {one.kind}, made by {one.builder.name}, {one.created}")
    )
    console.print(f"digest       {one.digest}\nfingerprint  {one.fingerprint}\n", soft_wrap=True)
    counts = Table("config", "split", "rows", box=None, pad_edge=False)
    for config, splits in one.counts.items():
        for split, rows in splits.items():
            counts.add_row(config, split, f"{rows:,}")
    trained = one.kind == "model"
    ledger = Table("stage", "filter", "unit", "in", "kept", "dropped", "failed", box=None, pad_edge=False)
    for column in [*ledger.columns[3:], counts.columns[2]]:
        column.justify = "right"
    for e in one.ledger:
        numbers = (e.n_in, e.kept, sum(e.dropped.values()), e.failed)
        ledger.add_row(e.stage, e.filter, e.unit, *[f"{n:,}" for n in numbers])
    if one.usage:
        asked = one.ledger[0]
        same = [entry for entry in one.ledger if entry.unit == asked.unit]
        last, dropped = same[-1], sum(n for entry in same for n in entry.dropped.values())
        parts = f"kept {last.kept:,} + dropped {dropped:,} + failed {asked.failed:,} + pending 0"
        console.print(f"requests {asked.n_in:,} = {parts}\n")
    facts = Table("diagnostic", "value", box=None, pad_edge=False)
    for name, value in one.diagnostics.items():
        if not isinstance(value, list | dict):
            facts.add_row(name, f"{value:,.3f}" if isinstance(value, float) else f"{value}")
    settings = Table("setting", "value", box=None, pad_edge=False)
    for name, value in one.config["settings"].items():
        settings.add_row(name, text(_setting(value)))
    base = one.config["base"] if trained else None
    for model in [*filter(None, [base]), *(m for m in one.diagnostics["models"] if m != base)]:
        what = "base" if model is base else "model"
        settings.add_row(what, text(f"{model['id']} at {model['revision']}"))
    for table in (
        *(counts, ledger, _agreement(one), _failures(store, one), cost(one), facts, _findings(one)),
        *(show_model.tables(one) if trained else ()),
        settings,
    ):
        if table.row_count:
            console.print(table)
            console.print()
    for note in one.diagnostics["notes"]:
        console.print(text(f"note: {note}", style="yellow"))


def _agreement(one: Manifest) -> Table:
    """Where the As-is RM agreed, by responder pair."""
    table = Table("as-is rm, chosen > rejected", "asked", "agreed", "share", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in one.ledger:
        for pair, n in entry.by_pair.items() if entry.filter == "asis_disagrees" else ():
            share = f"{n.kept / n.n_in:.1%}" if n.n_in else ""
            table.add_row(clean(pair), f"{n.n_in:,}", f"{n.kept:,}", share)
    return table


def _findings(one: Manifest) -> Table:
    """What the texts give away, and how bad that is; the card has the sentences."""
    table = Table("what to watch", "value", "verdict", box=None, pad_edge=False)
    styles = {"worry": "red", "watch": "yellow"}
    for found in one.diagnostics.get("text", {}).get("findings", []):
        level = text(found["level"], style=styles.get(found["level"], ""))
        table.add_row(clean(found["measure"]), clean(found["value"]), level)
    return table


def cost(made: Manifest) -> Table:
    """What the engine's replies cost, a line for each responder and one for all."""
    table = Table("cost", "replies", "tokens in", "cached", "tokens out", "tok/s", "seconds", "loading")
    table.box, table.pad_edge = None, False
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    from ..datasets.manifest import total_usage

    usage = made.usage
    fields = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    lines = usage | ({"all": total_usage([made])} if len(usage) > 1 else {})
    for name, one in lines.items():
        rate = f"{one['completion_tokens'] / one['seconds']:,.0f}" if one["seconds"] else ""
        numbers = [f"{one[field]:,}" for field in fields]
        table.add_row(clean(name), *numbers, rate, f"{one['seconds']:,.1f}", f"{one['load_seconds']:,.1f}")
    return table


def _failures(store: Store, one: Manifest) -> Table:
    """The errors of failed requests, the most frequent first."""
    table = Table("failed requests", "error", box=None, pad_edge=False)
    for config in ("rejected", "candidates") if any(entry.failed for entry in one.ledger) else ():
        if one.kind != "dataset" or config not in one.counts:
            continue
        rows = store.scan(one.ref, config).filter(reason="failed").group_by("error").len()
        for error, n in rows.sort("len", "error", descending=[True, False]).collect().iter_rows():
            table.add_row(f"{n:,}", text(short(str(error))))
    return table


def unfinished(store: Store, ref: str) -> bool:
    """How far a build that is not in the store is; False where the journal knows of none."""
    from ..generation.journal_file import status

    one = next((one for one in status(store.journal, store.refs()) if one.name == ref), None)
    if one is None or one.published:
        return False
    console.print(Text.assemble((ref, "bold"), "  not in the store yet: being built, or interrupted"))
    parts = f"answered {one.answered:,} + failed {one.failed:,} + pending {one.pending:,}"
    console.print(f"requests {one.requests:,} = {parts}")
    for error, n in one.errors.items():
        console.print(text(f"  failed {n:,}: {short(error)}", style="yellow"), soft_wrap=True)
    console.print("Run its build command again to go on: what was answered is not asked again.", style="dim")
    return True


def journal(store: Store, prune: bool, unfinished: bool) -> None:
    """The journal's size and hit rate and the builds that use it; with `prune`, after pruning it."""
    from ..generation import journal_file as journal

    path, refs = store.journal, store.refs()
    if not path.is_file():
        console.print(f"no journal under {store.root}: nothing was generated yet")
        return
    if prune:
        with ExitStack() as locks:  # no build of these starts or ends meanwhile; a running one is left alone
            held = []
            for one in journal.status(path):
                try:
                    locks.enter_context(store.lock(one.name))
                except InputError:
                    continue
                held.append(one.name)
            refs = store.refs()
            deleted = journal.prune(path, refs, unfinished, held)
        console.print(f"{deleted:,} replies and scores deleted that no dataset refers to")
    table = Table("build", "", "requests", "answered", "failed", "pending", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    builds = journal.status(path, refs)
    for one in builds:
        state = "in the store" if one.name in refs else "deleted" if one.published else "unfinished"
        numbers = (one.requests, one.answered, one.failed, one.pending)
        table.add_row(clean(one.name), state, *[f"{n:,}" for n in numbers])
    found, asked = sum(one.from_journal for one in builds), sum(one.computed for one in builds)
    rate = (
        f", {found / (found + asked):.0%} of {found + asked:,} requests found in it" if found + asked else ""
    )
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    what = f"{journal.count(path):,} replies, {journal.count(path, 'score'):,} scores"
    console.print(f"{path}: {what}, {size / 1e6:,.1f} MB{rate}", soft_wrap=True)
    if builds:
        console.print(table)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return (
            "\n".join(v["name"] if isinstance(v, dict) and "name" in v else str(v) for v in value) or "none"
        )
    return "none" if value is None else str(value)


def lineage(store: Store, ref: str) -> None:
    """The artifact as a tree of what it was made from."""
    top = store.manifest(ref)
    tree = Tree(_node(top).append(_on_hub(store, top), "dim"))
    grown: set[str] = set()

    def grow(tree: Tree, one: Manifest) -> None:
        grown.add(one.ref)
        for parent in one.parents:
            if not store.has(parent.ref):
                where = "on the Hub" if "/" in parent.ref else "not in this store"
                tree.add(text(f"{parent.ref}  digest {parent.digest[:12]}  {where}"))
                continue
            there = store.manifest(parent.ref)
            changed = "" if there.digest == parent.digest else "  another digest than the one built from"
            node = tree.add(_node(there).append(_on_hub(store, there), "dim").append(changed, "red"))
            if there.ref in grown:  # a policy and its reward model come from the same queries
                node.label = _node(there).append("  as above", "dim").append(changed, "red")
            else:
                grow(node, there)
        if "file" in one.config:
            file = one.config["file"]
            tree.add(
                Text(f"{file['name']}  " + "  ".join(f"{k} {v[:12]}" for k, v in file.items() if k != "name"))
            )
        shown = {parent.ref for parent in one.parents}
        for model in {model["id"]: model for model in _asked(one) if model["id"] not in shown}.values():
            tree.add(text(f"{model['id']}  revision {model['revision']}", style="dim"))
        if "seeds" in one.config.get("prompts", {}):
            tree.add(Text("seed queries (in the manifest)", style="dim"))

    grow(tree, top)
    console.print(tree)


def _on_hub(store: Store, one: Manifest) -> str:
    """Where it was pushed to or pulled from, and the commit."""
    where = place(store, one.ref)
    same = where is not None and where.digest == one.digest
    return f"  {where.repo}@{where.revision} commit {where.commit[:12]}" if where and same else ""


def _asked(one: Manifest) -> list[dict[str, Any]]:
    """The models that wrote a dataset's text or scored it, or that a model was made from."""
    if one.kind == "model":
        return [one.config[key] for key in ("base", "reward_model") if key in one.config]
    return [
        *one.config.get("resolved", {}).values(),
        *filter(None, map(one.config.get, ("scorer", "second"))),
    ]


def _node(one: Manifest) -> Text:
    by_split = one.counts.get("default", {})
    rows = f"{sum(by_split.values()):,} rows"
    if one.kind == "model":
        rows = f"model  trained on {by_split.get('train', 0):,} rows"
    return Text.assemble((one.ref, "bold"), f"  {rows}  digest {clean(one.digest[:12])}")


def diff(one: Diff) -> None:
    """What two versions of a dataset do not share, and why."""
    console.print(Text.assemble((f"{one.a} to {one.b}", "bold")))
    changed = f" ({one.changed:,} of them with another content)" if one.changed else ""
    console.print(f"{one.kept:,} rows in both{changed}, {one.lost:,} lost, {one.gained:,} gained\n")
    for line in one.changes or ["the same recipe"]:
        console.print(text(f"  {line}"), soft_wrap=True)
    reasons = Table("reason", f"lost: {one.b} dropped it", f"gained: {one.a} had dropped it")
    pairs = Table("chosen > rejected", "in both", "lost", "gained", "why")
    for row in one.reasons:
        reasons.add_row(clean(row[0]), *[f"{n:,}" for n in row[1:]])
    for pair in one.pairs:
        pairs.add_row(clean(pair[0]), *[f"{n:,}" for n in pair[1:4]], clean(pair[4]))
    for table in (reasons, pairs):
        table.box, table.pad_edge = None, False
        for column in table.columns[1:4]:
            column.justify = "right"
        if table.row_count:
            console.print()
            console.print(table)
    for side, examples in one.examples.items():
        for example in examples:
            console.print()
            console.print(Text.assemble((f"{side} ", "bold"), clean(f"{example.reason}  {example.id}")))
            console.print(text(short(example.text, 1200)))


def verdict(ref: str, wrong: list[str]) -> None:
    """The outcome of `verify`."""
    if not wrong:
        console.print(f"{ref}: manifest, ledger, card and files agree")
    for line in wrong:
        console.print(Text(f"{ref}: {line}"), soft_wrap=True)


def ablation(outcomes: list[Outcome]) -> None:
    """A line for each variant, and what it was published as."""
    from ..run.ablation import HEADER, NOTE

    table = Table(*HEADER, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for one in outcomes:
        table.add_row(*map(clean, one.cells()))
    console.print()
    console.print(table)
    refs = [one.manifest.ref for one in outcomes if one.manifest]
    console.print(text(f"\n{NOTE}", style="dim"))
    console.print(text(f"\npublished: {', '.join(refs) or 'nothing'}", style="dim"))
