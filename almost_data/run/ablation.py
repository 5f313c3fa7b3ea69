"""What each filter is worth: the variants of the paper's Table 4, built from the same responses.

No filter, the heuristic filter only, the agreement of the ratings only, both; then the settings themselves
with each single check left out, with each of `SWITCHES` turned, and with the label by ratings alone. Ratings
are those of a reward model in the paper, its As-is RM; without ratings there are fewer variants.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from ..builders.checks import check_names
from ..builders.comparisons.builder import BUILDER
from ..builders.comparisons.config import ComparisonsConfig, needs_ratings, without_unread_settings
from ..datasets.builder import NothingLeft, Progress, silent
from ..datasets.manifest import Manifest
from ..diagnostics.agreement import NEAR, Agreement, Verdicts, agreement
from ..errors import InputError
from ..store.store import Store
from .build import BuildRun


@dataclass(frozen=True)
class Variant:
    """Comparisons with other filters."""

    name: str
    """Suffix of its version."""
    label: str
    config: ComparisonsConfig


@dataclass(frozen=True)
class Switch:
    """Settings that turn a rule on, and off; the state in which a config is not makes a variant."""

    label: str
    on: Mapping[str, Any]
    off: Mapping[str, Any]

    def variant(self, base: ComparisonsConfig) -> Variant:
        """The config without the rule where it has it, and with the rule where it does not."""
        is_on = any(getattr(base, setting) != value for setting, value in self.off.items())
        config = msgspec.structs.replace(base, **(self.off if is_on else self.on))
        return _variant(f"{'without' if is_on else 'with'} {self.label}", config)


SWITCHES = (
    Switch("length rule", {"length_sd": 0.5}, {"length_sd": None}),
    # As OLMo 3 limits its chat pairs: 100 tokens, of about 4 characters.
    Switch("length gap limit", {"max_length_gap": 400}, {"max_length_gap": None, "length_tokenizer": None}),
    Switch("balanced lengths", {"balance_length": 0.5}, {"balance_length": None}),
)


@dataclass(frozen=True)
class Outcome:
    """The result of a variant; no manifest where every comparison was dropped."""

    variant: Variant
    manifest: Manifest | None
    agreement: Agreement | None
    """With the judge, where its verdicts were given."""

    def numbers(self) -> dict[str, Any]:
        """What was measured, as JSON data; of a variant without a comparison only its name."""
        if self.manifest is None:
            return {"variant": self.variant.label, "comparisons": 0}
        diagnostics = self.manifest.diagnostics
        text = diagnostics["text"]
        return {
            "variant": self.variant.label,
            "ref": self.manifest.ref,
            "responses": sum(row["survivors"] for row in diagnostics["responders"]),
            "comparisons": diagnostics["comparisons"],
            "length_gap": text["length_gap"]["q50"],
            "always_longer": text["always_longer"],
            "surface_model": text["probe"]["accuracy"],
            "rating_agreement": diagnostics.get("rating_agreement"),
            "agreement": self.agreement,
        }


def filter_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """The lines of the table of what the filters keep, under `FILTERED`."""
    rows = []
    for numbers in (outcome.numbers() for outcome in outcomes):
        gap = numbers.get("length_gap")
        counts = [f"{numbers.get(name, 0):,}" for name in ("responses", "comparisons")]
        shares = [numbers.get(name) for name in ("always_longer", "surface_model", "rating_agreement")]
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        rows.append([numbers["variant"], *counts, "" if gap is None else f"{round(gap):+,}", *cells])
    return rows


def judge_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """The lines of the table of the judge's agreement, under `JUDGED`; none without a judge."""
    rows = []
    for outcome in outcomes:
        if agreed := outcome.agreement:
            shares = map(str, (agreed.plain, agreed.balanced, agreed.near))
            ties = "" if agreed.ties is None else f"{agreed.ties:,}"
            rows.append([outcome.variant.label, f"{agreed.plain.pairs:,}", ties, *shares])
    return rows


FILTERED = ("variant", "kept", "pairs", "gap", "longer", "surface", "agreed")
FILTERED_NOTE = (
    "kept: responses that survive; gap: median of chosen - rejected, in characters; longer, surface: how "
    "often the longer response, and a model that sees only the surface, are right about which one is chosen."
)
AGREED_NOTE = "agreed: pairs where the ratings agreed with the ladder, of those that all other rules keep."
"""What is said of `agreed` where there are ratings."""
JUDGED = ("variant", "decided", "ties", "agrees", "balanced", "near")
JUDGED_NOTE = (
    "decided: pairs between which the judge decided; agrees: share of them in which it prefers the chosen "
    "response; balanced: mean of that share where the chosen response is the longer one, and where it is the "
    f"shorter one; near: that share where the lengths are within {NEAR} characters; with 95% intervals."
)


def variants(base: ComparisonsConfig, is_rated: bool = False) -> list[Variant]:
    """The variants of a config, which itself is the one with all of its filters; each config once.

    `is_rated`: whether there are ratings, so that they can be a label.
    """
    first: list[Variant] = []
    for variant in _variants(base, is_rated):
        if all(variant.config != earlier.config for earlier in first):
            first.append(variant)
    return first


def _variants(base: ComparisonsConfig, is_rated: bool) -> Iterator[Variant]:

    def changed(**fields: Any) -> ComparisonsConfig:
        return msgspec.structs.replace(base, **fields)

    bare: dict[str, Any] = {"checks": (), "filters": (), "length_sd": None}
    unrated: dict[str, Any] = {"label": "ladder", "min_rejected_rating": None, "max_rating_gap": None}
    yield Variant("no-filter", "no filter", changed(**bare, **unrated))
    yield Variant("heuristic", "heuristic only", changed(**unrated))
    if is_rated:
        yield Variant("agreed", "agreement only", changed(**bare, **unrated | {"label": "both"}))
        yield Variant("both", "both", changed(label="both"))
        yield Variant("label-ratings", "label by ratings", changed(label="ratings"))
    checks = check_names(base.checks)
    for check in checks:
        remaining = tuple(name for name in checks if name != check)
        yield _variant(f"without {check}", changed(checks=remaining))
    yield from (switch.variant(base) for switch in SWITCHES)
    if base.pairing != "extremes":
        yield Variant("extremes", "best against worst", changed(pairing="extremes"))
    for user_filter in base.filters:
        filters = tuple(rule for rule in base.filters if rule is not user_filter)
        yield _variant(f"without {user_filter.name}", changed(filters=filters))


def ablate(run: BuildRun, verdicts: Verdicts | None = None, progress: Progress = silent) -> list[Outcome]:
    """Build every variant as `comparisons@VERSION-NAME`, and measure how far a judge agrees with each.

    A variant that is equal to `comparisons@VERSION` is not built again.
    Raises InputError where there are no responses, or none that the judge compared.
    """
    if "-" in run.version:
        raise InputError(f"run.version {run.version}: give N.N.N, to which each variant adds its name")
    [parent] = BUILDER.parents
    readable = {parent, *BUILDER.optional}
    if unread := next((source for name, source in run.sources.items() if name not in readable), None):
        raise InputError(f"run.from {unread}: give {parent}@VERSION, of which comparisons are built")
    sources = {parent: f"{parent}@{run.version}"}
    sources |= {name: source for name, source in run.sources.items() if name in readable}
    parents = {name: run.store.manifest(source) for name, source in sources.items()}
    config = BUILDER.resolve(run.preset.settings(BUILDER), parents)
    if verdicts is not None:
        verdicts = matched(verdicts, run.store, sources[parent])
    base_ref = f"{BUILDER.name}@{run.version}"
    base = run.store.manifest(base_ref) if run.store.has(base_ref) else None
    outcomes = []
    for variant in variants(config, is_rated=len(sources) > 1):
        variant_run = dataclasses.replace(
            run,
            version=f"{run.version}-{variant.name}",
            preset=run.preset.with_config(BUILDER.name, without_unread_settings(variant.config)),
            # A variant that reads no ratings is the same dataset with them and without.
            sources=sources if needs_ratings(variant.config) else {parent: sources[parent]},
        )

        def report(stage: str, done: int, total: int, tokens: int, name: str = variant.name) -> None:
            progress(name if stage == BUILDER.name else f"{name}, {stage}", done, total, tokens)

        try:
            plan = variant_run.plan(BUILDER)
            manifest = plan.target.manifest
            if base and not base.is_empty and base.fingerprint == manifest.fingerprint:
                manifest = base
            else:
                manifest = variant_run.execute(plan, report)[-1].manifest
        except NothingLeft:
            outcomes.append(Outcome(variant, None, None))
            continue
        rows = run.store.scan(manifest.ref)
        measured = agreement(rows, verdicts) if verdicts is not None else None
        outcomes.append(Outcome(variant, manifest, measured))
    return outcomes


def matched(verdicts: Verdicts, store: Store, ref: str) -> Verdicts:
    """The verdicts on two responses of `ref`, with its names of the responders. Raises InputError if none."""
    is_by_text = verdicts.answers_by == "text"
    answer = pl.col("response").str.strip_chars() if is_by_text else pl.col("responder")
    answers, rows = store.scan(ref).select("query_id", answer=answer).unique(), verdicts.rows.lazy()
    renamed = store.manifest(ref).config["settings"].get("names_in_file", {})
    if renamed and not is_by_text:
        names = {written: name for name, written in renamed.items()}
        rows = rows.with_columns(pl.col("a", "b").replace(names))
    for side in ("a", "b"):
        rows = rows.join(answers, left_on=["query_id", side], right_on=["query_id", "answer"], how="semi")
    if (usable := rows.collect()).is_empty():
        raise InputError(
            f"run.reviews: none of the {len(verdicts.rows):,} verdicts is on two responses of {ref}: give "
            f"the prompts and {'replies' if is_by_text else 'responders'} as they are in it"
        )
    return dataclasses.replace(verdicts, rows=usable)


def _variant(label: str, config: ComparisonsConfig) -> Variant:
    return Variant(label.replace("_", "-").replace(" ", "-"), label, config)
