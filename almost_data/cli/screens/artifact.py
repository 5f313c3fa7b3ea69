"""What `show` prints: counts, ledger, failures, cost, diagnostics and recipe of an artifact."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ...cards.markdown import short
from ..console import console, grid, number, percent, print_line, print_tables, text

if TYPE_CHECKING:
    from ...datasets.manifest import Manifest
    from ...generation.journal_file import Status
    from ...store.store import Store

STYLES = {"fatal": "red", "worry": "red", "warn": "yellow", "watch": "yellow"}
"""How bad a finding is -> its colour."""
BASELINES = {"always_longer": "longer", "probe": "surface", "random_head": "untrained"}
"""What a reward model's accuracy is compared with -> the heading of its column."""


def artifact(store: "Store", manifest: "Manifest") -> None:
    """Print a dataset or a model."""
    heading = f"  {manifest.kind}, made by {manifest.builder.name}, {manifest.created}"
    console.print(Text.assemble((manifest.ref, "bold"), heading))
    print_line(f"digest       {manifest.digest}\nfingerprint  {manifest.fingerprint}\n")
    if manifest.usage:
        _print_requests(manifest)
    print_tables(
        _counts(manifest),
        _ledger(manifest),
        _agreement(manifest),
        _failures(store, manifest),
        _usage(manifest),
        _diagnostics(manifest),
        _findings(manifest),
        *(_training(manifest.diagnostics) if manifest.kind == "model" else ()),
        _settings(manifest),
    )
    for note in manifest.diagnostics["notes"]:
        console.print(text(f"note: {note}", style="yellow"))


def unfinished(ref: str, status: "Status") -> None:
    """Print how far a build is that is not in the store."""
    console.print(Text.assemble((ref, "bold"), "  not in the store yet: being built, or interrupted"))
    parts = f"answered {status.answered:,} + failed {status.failed:,} + pending {status.pending:,}"
    console.print(f"requests {status.requests:,} = {parts}")
    for error, n in status.errors.items():
        print_line(f"  failed {n:,}: {short(error)}", "yellow")
    console.print("Run its build command again to go on: what was answered is not asked again.", style="dim")


def _print_requests(manifest: "Manifest") -> None:
    first = manifest.ledger[0]
    entries = [entry for entry in manifest.ledger if entry.unit == first.unit]
    dropped = sum(n for entry in entries for n in entry.dropped.values())
    parts = f"kept {entries[-1].kept:,} + dropped {dropped:,} + failed {first.failed:,} + pending 0"
    console.print(f"requests {first.n_in:,} = {parts}\n")


def _counts(manifest: "Manifest") -> Table:
    rows = ((config, split, f"{n:,}") for config, by in manifest.counts.items() for split, n in by.items())
    return grid("config", "split", ">rows", rows=rows)


def _ledger(manifest: "Manifest") -> Table:
    table = grid("stage", "filter", "unit", ">in", ">kept", ">dropped", ">failed")
    for entry in manifest.ledger:
        numbers = (entry.n_in, entry.kept, sum(entry.dropped.values()), entry.failed)
        table.add_row(entry.stage, text(entry.filter), entry.unit, *[f"{n:,}" for n in numbers])
    return table


def _agreement(manifest: "Manifest") -> Table:
    """Where the As-is RM agreed, by responder pair."""
    table = grid("as-is rm, chosen > rejected", ">scored", ">agreed", ">share")
    for entry in manifest.ledger:
        for pair, n in entry.by_pair.items() if entry.filter == "asis_disagrees" else ():
            share = percent(n.kept / n.n_in) if n.n_in else ""
            table.add_row(text(pair), f"{n.n_in:,}", f"{n.kept:,}", share)
    return table


def _failures(store: "Store", manifest: "Manifest") -> Table:
    """The errors of failed requests, the most frequent first."""
    table = grid(">failed requests", "error")
    has_failures = manifest.kind == "dataset" and any(entry.failed for entry in manifest.ledger)
    for config in ("rejected", "candidates") if has_failures else ():
        if config not in manifest.counts:
            continue
        rows = store.scan(manifest.ref, config).filter(reason="failed").group_by("error").len()
        for error, n in rows.sort("len", "error", descending=[True, False]).collect().iter_rows():
            table.add_row(f"{n:,}", text(short(str(error))))
    return table


def _usage(manifest: "Manifest") -> Table:
    """What the engine's replies cost, a line for each responder and one for all."""
    from ...datasets.manifest import total_usage

    table = grid("cost", ">replies", ">tokens in", ">cached", ">tokens out", ">tok/s", ">seconds", ">loading")
    total = {"all": total_usage([manifest])} if len(manifest.usage) > 1 else {}
    for name, usage in (manifest.usage | total).items():
        fields = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
        rate = f"{usage['completion_tokens'] / usage['seconds']:,.0f}" if usage["seconds"] else ""
        seconds = (f"{usage[field]:,.1f}" for field in ("seconds", "load_seconds"))
        table.add_row(text(name), *[f"{usage[field]:,}" for field in fields], rate, *seconds)
    return table


def _diagnostics(manifest: "Manifest") -> Table:
    values = ((k, v) for k, v in manifest.diagnostics.items() if not isinstance(v, list | dict))
    rows = ((name, f"{value:,.3f}" if isinstance(value, float) else f"{value}") for name, value in values)
    return grid("diagnostic", "value", rows=rows)


def _findings(manifest: "Manifest") -> Table:
    """What the texts give away, and how bad that is; the card explains it in sentences."""
    findings = manifest.diagnostics.get("text", {}).get("findings", [])
    rows = ((finding["measure"], finding["value"], _level(finding["level"])) for finding in findings)
    return grid("what to watch", "value", "verdict", rows=rows)


def _level(level: str) -> Text:
    return text(level, style=STYLES.get(level, ""))


def _settings(manifest: "Manifest") -> Table:
    rows = [(name, _setting(value)) for name, value in manifest.config["settings"].items()]
    base = manifest.config["base"] if manifest.kind == "model" else None
    models = [model for model in manifest.diagnostics["models"] if model != base]
    labelled = [*([("base", base)] if base else []), *(("model", model) for model in models)]
    rows += [(label, f"{model['id']} at {model['revision']}") for label, model in labelled]
    return grid("setting", "value", rows=rows)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        names = (item["name"] if isinstance(item, dict) and "name" in item else str(item) for item in value)
        return "\n".join(names) or "none"
    return "none" if value is None else str(value)


def _training(diagnostics: dict[str, Any]) -> Iterator[Table]:
    """What a recipe checked before it trained, and measured after."""
    report = diagnostics.get("report") or {}
    yield _preflight(diagnostics.get("preflight") or [])
    yield _accuracy("subset", report.get("subsets") or [])
    yield _accuracy("by length", report.get("buckets") or [])
    yield _reward_model(report)
    yield _rewards(diagnostics.get("rewards") or [])
    yield _measurements("last logged", diagnostics.get("metrics") or {})
    yield _measurements("speed", diagnostics.get("speed") or {})


def _preflight(checks: list[dict[str, Any]]) -> Table:
    table = grid("preflight", "verdict", ">rows", "finding")
    for check in checks:
        rows = "" if check.get("rows") is None else f"{check['rows']:,}"
        table.add_row(text(check["check"]), _level(check["level"]), rows, text(short(check["sentence"], 200)))
    return table


def _accuracy(heading: str, subsets: list[dict[str, Any]]) -> Table:
    """Accuracy with its interval, beside the baselines that were measured."""
    measured = [key for key in BASELINES if any(subset.get(key) is not None for subset in subsets)]
    headings = (f">{BASELINES[key]}" for key in measured)
    table = grid(heading, ">rows", ">accuracy", ">95% interval", *headings)
    for subset in subsets:
        interval = f"{percent(subset['low'])} to {percent(subset['high'])}"
        shares = (percent(subset["accuracy"]), interval, *[percent(subset.get(key)) for key in measured])
        table.add_row(text(subset["name"]), f"{subset['rows']:,}", *shares)
    return table


def _reward_model(report: dict[str, Any]) -> Table:
    rewards, calibration = report.get("rewards") or {}, report.get("calibration") or {}
    facts = {
        "left out of training": report.get("left_out_pair"),
        "expected calibration error": percent(calibration.get("ece")),
        "scores, mean": number(rewards.get("mean")),
        "scores, standard deviation": number(rewards.get("std")),
    }
    return grid("reward model", ">value", rows=((name, value) for name, value in facts.items() if value))


def _rewards(rows: list[dict[str, Any]]) -> Table:
    headings = ("rewards on prompts", ">n", ">before", ">after", ">gain", ">95% interval", ">tokens")
    table = grid(*headings)
    for row in rows:
        interval = f"{number(row['low'])} to {number(row['high'])}"
        means = [number(value) for value in (row["before"]["mean"], row["after"]["mean"], row["gain"])]
        tokens = f"{number(row['before']['tokens'])} to {number(row['after']['tokens'])}"
        table.add_row(text(row["prompts"]), f"{row['n']:,}", *means, interval, tokens)
    return table


def _measurements(heading: str, values: dict[str, float | str | None]) -> Table:
    rows = (
        (name, value if isinstance(value, str) else number(value))
        for name, value in values.items()
        if value is not None
    )
    return grid(heading, ">value", rows=rows)
