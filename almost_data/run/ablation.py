"""What each filter is worth: the variants of the paper's Table 4, built from the same responses.

No filter, the heuristic filter only, the As-is RM only, both; then both (or, without an As-is RM, the
heuristic filter) with each single rule left out. The reward model is loaded once, and scores a
response once.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from ..builders.checks import check_names
from ..builders.comparisons.builder import BUILDER, ComparisonsConfig
from ..builders.comparisons.ranking import LENGTH_RULE
from ..datasets.builder import NothingLeft, Progress, silent
from ..datasets.manifest import Manifest
from ..diagnostics.agreement import Agreement, agreement
from ..errors import InputError
from .build import BuildRun


@dataclass(frozen=True)
class Variant:
    """Comparisons with other filters."""

    name: str
    """Suffix of its version."""
    label: str
    config: ComparisonsConfig


@dataclass(frozen=True)
class Outcome:
    """The result of a variant; no manifest where every comparison was dropped."""

    variant: Variant
    manifest: Manifest | None
    agreement: Agreement | None
    """With the reviews, where a file of them was given."""

    def cells(self) -> list[str]:
        """The line of the table, under `HEADER`."""
        if self.manifest is None:
            return [self.variant.label, "", "0", *[""] * (len(HEADER) - 3)]
        diagnostics = self.manifest.diagnostics
        text, kept = diagnostics["text"], sum(row["survivors"] for row in diagnostics["responders"])
        probe, agreed, reviewed = text["probe"], diagnostics.get("asis_agreement"), self.agreement
        return [
            self.variant.label,
            f"{kept:,}",
            f"{diagnostics['comparisons']:,}",
            f"{text['length_gap']['q50']:+,.0f}",
            f"{text['always_longer']:.1%}",
            "" if probe["accuracy"] is None else f"{probe['accuracy']:.1%}",
            "" if agreed is None else f"{agreed:.1%}",
            "" if reviewed is None else str(reviewed),
            "" if reviewed is None else f"{reviewed.agree + reviewed.disagree:,}+{reviewed.tie:,}",
        ]


HEADER = ("variant", "kept", "pairs", "gap", "longer", "surface", "as-is", "reviews", "judged")
NOTE = (
    "kept: responses that survive; gap: median of chosen - rejected, in characters; longer, surface: how "
    "often the longer response, and a model that sees only the surface, are right about which one is chosen; "
    "as-is: pairs where the As-is RM agreed, of those it was asked about; reviews: pairs where the judge "
    "agreed, of those that it decided, with a 95% interval; judged: pairs that it decided, and ties."
)


def variants(base: ComparisonsConfig) -> Iterator[Variant]:
    """The variants of a config, which itself is the one with all of its filters."""

    def changed(**fields: Any) -> ComparisonsConfig:
        return msgspec.structs.replace(base, **fields)

    bare: dict[str, Any] = {"checks": (), "filters": (), "length_sd": None}
    yield Variant("no-filter", "no filter", changed(**bare, asis_rm=None))
    yield Variant("heuristic", "heuristic only", changed(asis_rm=None))
    if base.asis_rm:
        yield Variant("asis", "as-is RM only", changed(**bare))
        yield Variant("both", "both", base)
    checks = check_names(base.checks)
    for check in checks:
        remaining = tuple(name for name in checks if name != check)
        yield Variant(_suffix(check), f"without {check}", changed(checks=remaining))
    if base.length_sd is not None:
        yield Variant(_suffix(LENGTH_RULE), "without length rule", changed(length_sd=None))
    for user_filter in base.filters:
        filters = tuple(rule for rule in base.filters if rule is not user_filter)
        yield Variant(_suffix(user_filter.name), f"without {user_filter.name}", changed(filters=filters))


def ablate(run: BuildRun, reviews: pl.DataFrame | None = None, progress: Progress = silent) -> list[Outcome]:
    """Build every variant as `comparisons@VERSION-NAME`. InputError where there are no responses."""
    if "-" in run.version:
        raise InputError(f"run.version {run.version}: give N.N.N, to which each variant adds its name")
    ref = run.sources.get("responses", f"responses@{run.version}")
    config = BUILDER.resolve(run.preset.settings(BUILDER), {"responses": run.store.manifest(ref)})
    outcomes = []
    for variant in variants(config):
        variant_run = dataclasses.replace(
            run,
            version=f"{run.version}-{variant.name}",
            preset=run.preset.with_config(BUILDER.name, variant.config),
            sources={"responses": ref},
        )

        def report(stage: str, done: int, total: int, tokens: int, name: str = variant.name) -> None:
            progress(name if stage == BUILDER.name else f"{name}, {stage}", done, total, tokens)

        try:
            manifest = variant_run.build(BUILDER, report)[-1].manifest
        except NothingLeft:
            outcomes.append(Outcome(variant, None, None))
            continue
        rows = run.store.scan(manifest.ref)
        measured = agreement(rows, reviews) if reviews is not None else None
        outcomes.append(Outcome(variant, manifest, measured))
    return outcomes


def _suffix(name: str) -> str:
    return f"without-{name.replace('_', '-')}"
