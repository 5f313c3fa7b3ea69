"""The verb `show`: counts, ledger, failures, cost, diagnostics and recipe of an artifact."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from ..cards.markdown import short
from ..datasets.digest import SPLITS
from ..datasets.ledger import rules
from ..datasets.manifest import Manifest, encode_manifest, total_usage
from ..evals.result import read
from ..generation.journal_file import Status, status
from ..store.samples import examples
from ..store.store import Store
from .console import console, grid, number, percent, print_line, print_rows, print_tables, text, write_json
from .options import ROOT, Json, Ref, Root
from .rows import row_panel
from .show_results import print_result, print_results_of

STYLES = {"fatal": "red", "worry": "red", "warn": "yellow", "watch": "yellow"}
"""How bad a finding is -> its colour, the worst first."""
LABELS = {"share_equal_length": "share_equal_length (half of it counts as longer above)"}
"""Diagnostics of which the name alone does not say how another measure counts them."""
SHARES = {"acceptance", "rating_agreement"}
"""Diagnostics that are shares, though their names do not say so."""
BASELINES = {"always_longer": "longer", "probe": "surface", "random_head": "untrained"}
"""What a reward model's accuracy is compared with -> the heading of its column."""


def show(ref: Ref, /, *, json: Json = False, root: Root = ROOT) -> None:
    store = Store(root)
    ref = store.resolve(ref)
    builds = () if store.has(ref) else status(store.journal, store.refs())
    unfinished = [build for build in builds if build.name == ref and not build.published]
    if unfinished and not json:
        _print_unfinished(unfinished[0])
        return
    manifest = store.manifest(ref)
    if json:
        write_json(encode_manifest(manifest).decode())
        return
    if manifest.kind == "evaluation":
        print_result(store, read(manifest))
        return
    _print(store, manifest)
    if manifest.kind == "model":
        print_results_of(store, manifest)


def _print_unfinished(build: Status) -> None:
    console.print(Text.assemble((build.name, "bold"), "  not in the store yet: being built, or interrupted"))
    parts = f"answered {build.answered:,} + failed {build.failed:,} + pending {build.pending:,}"
    console.print(f"requests {build.requests:,} = {parts}")
    for error, n in build.errors.items():
        print_line(f"  failed {n:,}: {short(error)}", "yellow")
    print_line("Run its build command again to go on: what was answered is not asked again.", "dim")


def _print(store: Store, manifest: Manifest) -> None:
    day = manifest.created[:10]
    heading = f"  {manifest.kind}, made by {manifest.builder.name}, {day}"
    console.print(Text.assemble((manifest.ref, "bold"), text(heading)))
    if manifest.is_empty:
        print_line("empty: every row was dropped, and the dropped ones are in the configs below", "yellow")
    if manifest.kind == "dataset":
        for row in examples(store, manifest, 1):
            console.print(row_panel(row, {}, 420))
    console.print()
    print_tables(_verdicts(manifest.diagnostics))
    if manifest.usage:
        first = manifest.ledger[0]
        entries = [entry for entry in manifest.ledger if entry.unit == first.unit]
        dropped = sum(n for entry in entries for n in entry.dropped.values())
        parts = f"kept {entries[-1].kept:,} + dropped {dropped:,} + failed {first.failed:,} + pending 0"
        counted = "pairs" if first.unit == "pair" else "requests"  # two requests judge a pair
        console.print(f"{counted} {first.n_in:,} = {parts}\n")
    is_model = manifest.kind == "model"
    print_tables(*_account(manifest), _failures(store, manifest))
    _print_usage(manifest)
    print_tables(
        _diagnostics(manifest.diagnostics),
        *(_training(manifest.diagnostics) if is_model else ()),
        _settings(manifest),
    )
    for note in manifest.diagnostics["notes"]:
        console.print(text(f"note: {note}", style="yellow"))
    print_line(f"digest       {manifest.digest}\nfingerprint  {manifest.fingerprint}", "dim")


def _account(manifest: Manifest) -> Iterator[Table]:
    """The ledger, why rows were dropped, rows by config and split, where ratings agreed by responder pair."""
    entries: list[tuple[Any, ...]] = []
    for heading, group in groupby(manifest.ledger, lambda entry: entry.heading):
        entries.append((text(heading, "bold"),))
        for entry in group:
            kept = percent(entry.kept / entry.n_in if entry.n_in else None)
            dropped = sum(entry.dropped.values())
            entries.append((f"  {entry.filter}", entry.n_in, dropped, entry.failed, entry.kept, kept))
    yield grid("account", ">in", ">dropped", ">failed", ">kept", ">", rows=entries)
    dropped_for = {reason for entry in manifest.ledger for reason, n in entry.dropped.items() if n}
    sentences = rules(manifest.ledger)
    yield grid("dropped as", "why", rows=[item for item in sentences.items() if item[0] in dropped_for])
    counts = ((config, manifest.splits(config)) for config in manifest.counts)
    rows = (
        (config, *(splits.get(split) for split in SPLITS), sum(splits.values())) for config, splits in counts
    )
    yield grid("config", *(f">{split}" for split in SPLITS), ">rows", rows=rows)
    judged = (entry for entry in manifest.ledger if entry.filter == "ratings_disagree")
    pairs = (
        (pair, n.n_in, n.kept, percent(n.kept / n.n_in if n.n_in else None))
        for entry in judged
        for pair, n in entry.by_pair.items()
    )
    yield grid("ratings, chosen > rejected", ">pairs", ">agreed", ">share", rows=pairs)


def _failures(store: Store, manifest: Manifest) -> Table:
    """The errors of failed requests, the most frequent first."""
    has_failures = manifest.kind == "dataset" and any(entry.failed for entry in manifest.ledger)
    configs = [config for config in ("rejected", "candidates") if config in manifest.counts]
    rows: list[tuple[int, str]] = []
    for config in configs if has_failures else ():
        errors = store.scan(manifest.ref, config).filter(reason="failed").group_by("error").len()
        errors = errors.sort("len", "error", descending=[True, False])
        rows += [(n, short(str(error))) for error, n in errors.collect().iter_rows()]
    return grid(">failed requests", "error", rows=rows)


def _print_usage(manifest: Manifest) -> None:
    """What the engine's replies cost, a line for each responder and one for all."""
    headings = ["replies of", ">replies", ">tokens in", ">cached", ">tokens out", ">tok/s", ">seconds"]
    headings += [">loading", ">cost"]
    counted = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    total = {"all": total_usage([manifest])} if len(manifest.usage) > 1 else {}
    rows = []
    for name, usage in (manifest.usage | total).items():
        rate = round(usage["completion_tokens"] / usage["seconds"]) if usage["seconds"] else ""
        seconds = (float(usage["seconds"]), float(usage["load_seconds"]))
        cost = f"{usage['cost']:,.4g}" if usage.get("cost") else ""
        rows.append((name, *[usage[field] for field in counted], rate, *seconds, cost))
    if rows:
        print_rows(*headings, rows=rows)
        console.print()


NARROWEST = 24
"""Characters in a line of what a verdict is about, on a narrow terminal."""


def _verdicts(diagnostics: dict[str, Any]) -> Table:
    """What the texts give away, the worst first: the card explains that in sentences."""
    rank = {level: place for place, level in enumerate(STYLES)}
    findings = diagnostics.get("text", {}).get("findings", [])
    findings = sorted(findings, key=lambda finding: rank.get(finding["level"], len(rank)))
    cells = ((_level(finding["level"]), finding["measure"], finding["value"]) for finding in findings)
    table = grid("verdict", "what to watch", ">value", rows=cells)
    level, measure, value = table.columns
    level.no_wrap, measure.min_width, value.no_wrap = True, NARROWEST, False  # values may be half a sentence
    return table


def _diagnostics(diagnostics: dict[str, Any]) -> Table:
    """Single numbers."""
    # The verdict above has this share, with equal lengths.
    omitted = {"share_chosen_longer"} if (diagnostics.get("text") or {}).get("findings") else set()
    values = (
        (name, value)
        for name, value in diagnostics.items()
        if not isinstance(value, list | dict) and name not in omitted
    )
    rows = ((LABELS.get(name, name), _measured(name, value)) for name, value in values)
    return grid("diagnostic", ">value", rows=rows)


def _measured(name: str, value: Any) -> Any:
    """A share as percent, another measured number to four digits; n/a where there was nothing to measure."""
    if value is None:
        return "n/a"
    if not isinstance(value, float):
        return str(value) if isinstance(value, bool) else value
    is_share = "share" in name.split("_") or name in SHARES
    return percent(value) if is_share else number(value)


def _level(level: str) -> Text:
    return text(level, style=STYLES.get(level, ""))


def _settings(manifest: Manifest) -> Table:
    settings = {name: _setting(value) for name, value in manifest.config["settings"].items()}
    rows = [(name, value) for name, value in settings.items() if value != "none"]
    if unset := [name for name, value in settings.items() if value == "none"]:
        rows.append(("not set", ", ".join(unset)))
    base = manifest.config["base"] if manifest.kind == "model" else None
    models = [model for model in manifest.diagnostics["models"] if model != base]
    labelled = [*([("base", base)] if base else []), *(("model", model) for model in models)]
    rows += [(label, f"{model['id']} at {model['revision']}") for label, model in labelled]
    return grid("setting", "value", rows=rows)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        names = (str(item["name"] if isinstance(item, dict) and "name" in item else item) for item in value)
        return "\n".join(names) or "none"
    if isinstance(value, dict):
        lines = {name: _setting(part) for name, part in value.items()}
        return "\n".join(f"{name}: {line}" for name, line in lines.items() if line != "none") or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _training(diagnostics: dict[str, Any]) -> Iterator[Table]:
    """What a recipe checked before it trained, and measured after."""
    report = diagnostics.get("report") or {}
    checks = (
        (check["check"], _level(check["level"]), check.get("rows"), short(check["sentence"], 200))
        for check in diagnostics.get("preflight") or []
    )
    yield grid("preflight", "verdict", ">rows", "finding", rows=checks)
    yield _accuracy("subset", report.get("subsets") or [])
    yield _accuracy("by length", report.get("buckets") or [])
    scores, calibration = report.get("rewards") or {}, report.get("calibration") or {}
    yield _values(
        "reward model",
        {
            "left out of training": report.get("left_out_pair"),
            "expected calibration error": percent(calibration.get("ece")) or None,
            "scores, mean": scores.get("mean"),
            "scores, standard deviation": scores.get("std"),
        },
    )
    rewards = []
    for row in diagnostics.get("rewards") or []:
        before, after = row["before"], row["after"]
        means = [number(value) for value in (before["mean"], after["mean"], row["gain"])]
        ranges = ((row["low"], row["high"]), (before["tokens"], after["tokens"]))
        intervals = [f"{number(low)} to {number(high)}" for low, high in ranges]
        rewards.append((row["prompts"], row["n"], *means, *intervals))
    headings = ("rewards on prompts", ">n", ">before", ">after", ">gain", ">95% interval", ">tokens")
    yield grid(*headings, rows=rewards)
    yield _values("last logged", diagnostics.get("metrics") or {})
    yield _values("speed", diagnostics.get("speed") or {})


def _accuracy(heading: str, subsets: list[dict[str, Any]]) -> Table:
    """Accuracy with its interval, beside the baselines that were measured."""
    measured = [key for key in BASELINES if any(subset.get(key) is not None for subset in subsets)]
    rows = []
    for subset in subsets:
        interval = f"{percent(subset['low'])} to {percent(subset['high'])}"
        shares = (percent(subset["accuracy"]), interval, *[percent(subset.get(key)) for key in measured])
        rows.append((subset["name"], subset["rows"], *shares))
    headings = (heading, ">rows", ">accuracy", ">95% interval", *(f">{BASELINES[key]}" for key in measured))
    return grid(*headings, rows=rows)


def _values(heading: str, values: dict[str, float | str | None]) -> Table:
    measured = ((name, value) for name, value in values.items() if value is not None)
    rows = ((name, value if isinstance(value, str) else number(value)) for name, value in measured)
    return grid(heading, ">value", rows=rows)
