"""Thresholds of the diagnostics: for each measure its levels, with a sentence for the card."""

from typing import Any

LEVELS = ("worry", "watch", "fine")
"""The levels of a verdict, worst first."""


class Rule:
    """The name of a measure, and its steps from high to low: lower bound, level and sentence."""

    def __init__(self, measure: str, *steps: tuple[float, str, str]) -> None:
        self.measure, self.steps = measure, steps


ANY, BELOW_CHANCE = 1e-12, -9.0
"""Lower bounds of any positive number, and of an accuracy that ends below its baseline."""

DROP_COPIES = "Imports drop them; build filtered --dedup-pairs drops near copies."
DROP_CONTRADICTIONS = "No rule drops them: delete one row of each two, or both."
DROP_PROMPTS = "After an import, build filtered --dedup-prompts keeps one of each."
TOO_FEW = "These are too few comparisons to say: the interval holds 50%."

RULES = {
    # Share of the comparisons whose longer response is the chosen one; equal lengths count half. Where its
    # interval holds 50%, the level is fine.
    "always_longer": Rule(
        "always picking the longer response is right",
        (0.70, "worry", "Length gives most of the label away: a model may learn length alone."),
        (0.60, "watch", "Length tells part of the label: a reward model must beat this number."),
        (0.40, "fine", "Length says little about the label."),
        (0.30, "watch", "Shorter responses win more often: a model may learn to be brief."),
        (0.00, "worry", "Shortness gives most of the label away: a model may learn it alone."),
    ),
    # Median of chosen - rejected, as a share of the median length of rejected.
    "length_gap": Rule(
        "chosen minus rejected, in characters (median; 5% to 95%), and as a share of the rejected length",
        (0.25, "watch", "The typical chosen response is longer by a quarter or more."),
        (-0.20, "fine", "The typical comparison has sides of similar length."),
        (-9e9, "watch", "The typical chosen response is shorter by a fifth or more."),
    ),
    # Lower end of the interval of the probe's accuracy, or the accuracy of length alone if that is more, as
    # length is form too; 0 where the interval holds 50% and length does not reach 60%, BELOW_CHANCE where
    # it ends below 50%.
    "surface_model": Rule(
        "a model that sees only the surface is right",
        (0.70, "worry", "Form, length included, gives most of the label away."),
        (0.60, "watch", "Form, length included, tells part of the label: a reward model must beat both."),
        (0.50, "fine", "Form alone tells a little of the label."),
        (0.00, "fine", "Form alone is no better than a coin."),
        (BELOW_CHANCE, "fine", "On unseen queries the model is wrong more often than right: noise."),
    ),
    # Lower end of the same interval, less the accuracy of the better of always-longer and always-shorter;
    # BELOW_CHANCE where the accuracy itself is below that.
    "surface_beyond_length": Rule(
        "the surface beyond length",
        (0.03, "watch", "More than length shows: features are named below. Equal lengths do not cure it."),
        (-1.0, "fine", "The rest of the surface adds little to length."),
        (BELOW_CHANCE, "fine", "On unseen queries length alone does better: the rest may be noise."),
    ),
    # Share of the distinct texts.
    "repeated_prompts": Rule(
        "prompts with a near twin",
        (0.10, "worry", "Many prompts repeat: twins in both splits make a score look better."),
        (0.01, "watch", "Some prompts repeat; twins can be in both splits."),
        (0.00, "fine", "Hardly any prompt repeats."),
    ),
    "repeated_responses": Rule(
        "responses with a near twin",
        (0.20, "worry", "Many responses use nearly the same words: there is little to learn from."),
        (0.05, "watch", "Some responses use nearly the same words."),
        (0.00, "fine", "Hardly any response repeats."),
    ),
    # Queries with the most frequent response, as a share of all.
    "stock_answer": Rule(
        "queries that got the most frequent response",
        (0.02, "worry", "A stock answer fits any prompt: a model may learn its wording as a label."),
        (0.005, "watch", "A stock answer recurs: a model may learn it, or to avoid it."),
        (0.00, "fine", "There is no frequent stock answer."),
    ),
    # Share of the comparisons.
    "equal_sides": Rule(
        "rows whose sides are the same text",
        (ANY, "worry", "These teach nothing. Imports and builds drop them."),
        (0.0, "fine", "No comparison has them."),
    ),
    "empty_sides": Rule(
        "rows with an empty side",
        (ANY, "worry", "These teach only that text beats no text. Imports drop them."),
        (0.0, "fine", "No comparison has one."),
    ),
    # Mean number.
    "pairs_per_query": Rule(
        "comparisons per query that has any",
        (2.5, "watch", "Comparisons of a query share responses and are not independent: sample by query."),
        (1.5, "fine", "Several comparisons share a query and responses: split by query, as here."),
        (0.0, "fine", "Most queries have a single comparison."),
    ),
    # Shares of what was read, for audits of anybody's data.
    "left_out": Rule(
        "rows that hold no comparison (ties are not counted)",
        (0.05, "worry", "Many rows cannot be used: left_out.REASON and equal_sides say why."),
        (ANY, "watch", "Some rows cannot be used: left_out.REASON and equal_sides say why."),
        (0.0, "fine", "Every row was read."),
    ),
    "ties": Rule(
        "rows whose sides are rated the same", (0.0, "fine", "A tie makes no comparison, and is no fault.")
    ),
    "duplicates": Rule(
        "comparisons that repeat an earlier one",
        (0.01, "worry", f"Copies count twice in training, or are in both splits. {DROP_COPIES}"),
        (ANY, "watch", f"A few copies. {DROP_COPIES}"),
        (0.0, "fine", "No comparison repeats another."),
    ),
    "contradictions": Rule(
        "comparisons whose sides are chosen the other way round elsewhere",
        (0.01, "worry", f"A model can be right about one of two such labels only. {DROP_CONTRADICTIONS}"),
        (ANY, "watch", f"A few labels contradict each other. {DROP_CONTRADICTIONS}"),
        (0.0, "fine", "No two labels contradict each other."),
    ),
    **{
        name: Rule(
            f"chosen replies that {plural}",
            (0.05, "worry", f"A model trained here learns that replies {plural}."),
            (0.005, "watch", f"Some chosen replies {plural}."),
            (0.0, "fine", f"Hardly any chosen reply {singular}."),
        )
        for name, plural, singular in (
            ("identity", "talk of themselves as an AI", "talks of itself as an AI"),
            ("refusal", "refuse to answer", "refuses to answer"),
            ("reasoning", "hold the marks of a model's reasoning", "holds the marks of a model's reasoning"),
            ("cut_off", "end in the middle", "ends in the middle"),
            ("loop", "repeat the same words again and again", "repeats the same words again and again"),
        )
    },
    "other_language": Rule(
        "chosen replies in another language than the prompt",
        (0.05, "worry", "Many replies are in another language than the question."),
        (0.005, "watch", "Some replies are in another language than the question."),
        (0.0, "fine", "Hardly any reply is in another language than the question."),
    ),
    "near_copies": Rule(
        "prompts that nearly repeat another one",
        (0.10, "worry", f"Many prompts could go. {DROP_PROMPTS}"),
        (0.01, "watch", f"Some prompts could go. {DROP_PROMPTS}"),
        (0.0, "fine", "Hardly any prompt could go."),
    ),
    # Share of the prompts. In tasks of arithmetic the numbers are what matters, so a few are no worry.
    "only_numbers": Rule(
        "prompts that differ from another one in their numbers alone",
        (0.50, "worry", "Most prompts only change the numbers of another: few questions are new."),
        (0.05, "watch", "Many prompts only change another's numbers: keep one, unless numbers matter."),
        (0.0, "fine", "Hardly any prompt is another one with other numbers."),
    ),
    # Share of the comparisons whose chosen side a reward model scores higher.
    "reward_model": Rule(
        "the reward model prefers the chosen reply",
        (0.75, "fine", "The reward model agrees with most labels."),
        (0.60, "watch", "The reward model disagrees with many labels: look at some of them."),
        (0.00, "worry", "The reward model hardly agrees with the labels, or prefers the rejected replies."),
    ),
    # Share of our queries.
    "contamination": Rule(
        "queries that have half of a prompt of the benchmark, or more",
        (ANY, "worry", "Look at these queries before this benchmark judges a model that was trained here."),
        (0.0, "fine", "No prompt of the benchmark was recognised."),
    ),
}


_NO_SHARES = ("length_gap", "surface_beyond_length", "pairs_per_query")
"""Measures whose number can be negative or above 1."""


def is_share(measure: str) -> bool:
    """Whether a measure's number is a share, from 0 to 1."""
    return measure.partition(".")[0] in RULES and measure not in _NO_SHARES


def verdict(rule: str, number: float) -> dict[str, str]:
    """Level and sentence of the first step that a number reaches."""
    steps = RULES[rule].steps
    level, sentence = next((level, sentence) for bound, level, sentence in steps if number >= bound)
    return {"level": level, "sentence": sentence}


def findings(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of `shortcuts.diagnose` as rows of a card: measure, value, level and sentence."""
    gap, queries, pairs = result["length_gap"], result["queries"], result["pairs_per_query"]["mean"]
    relative_gap = gap["q50"] / max(1, gap["median_rejected"])
    gaps = f"{gap['q50']:+,.0f} ({gap['q05']:+,.0f} to {gap['q95']:+,.0f}), {relative_gap:+.0%}"
    longer = result["always_longer"]
    rows = [
        _always_longer(longer, *result["always_longer_interval"]),
        finding("length_gap", gaps, relative_gap),
        *_surface(result["probe"], max(longer, 1 - longer)),
    ]
    for name in ("prompts", "responses"):
        twins = result[name]
        share, count = twins["share_with_a_near_twin"], f"{twins['with_a_near_twin']:,} of {twins['texts']:,}"
        largest = f", largest group {twins['largest_cluster']:,}" if share else ""
        rows.append(finding(f"repeated_{name}", f"{share:.1%} ({count} {name}{largest})", share))
    most_frequent = result["responses"]["most_frequent"]
    stock = max(most_frequent, key=lambda answer: answer["queries"], default=None)
    uses = stock["queries"] if stock else 0
    about = f", chosen in {stock['chosen']:.0%}" if stock else ""
    rows.append(finding("stock_answer", f"{uses:,} of {queries:,} queries{about}", uses / queries))
    for name in ("equal_sides", "empty_sides"):
        count = result[name]
        rows.append(finding(name, f"{count:,}", count / result["rows"]))
    return [*rows, finding("pairs_per_query", f"{pairs:.2f}", pairs)]


def finding(name: str, text: str, number: float, level_number: float | None = None) -> dict[str, Any]:
    """A row of a card: the measure, its value as text and as a number, level and sentence.

    The level is that of `level_number`, where a rule is about another number than the value.
    """
    facts = {"name": name, "measure": RULES[name].measure, "value": text, "number": number}
    return facts | verdict(name, number if level_number is None else level_number)


def _always_longer(share: float, low: float, high: float) -> dict[str, Any]:
    """The row of a share; there is no alarm where chance may have made it, as its interval holds 50%."""
    row = finding("always_longer", _with_interval(share, low, high), share)
    if row["level"] != "fine" and low <= 0.5 <= high:
        row |= {"level": "fine", "sentence": TOO_FEW}
    return row


def _surface(probe: dict[str, Any], baseline: float) -> list[dict[str, Any]]:
    """The probe's rows, with the accuracy of length alone as `baseline`; no rows if no model was fitted."""
    accuracy = probe["accuracy"]
    if accuracy is None:
        return []
    low, high = probe["low"], probe["high"]
    exposure = max(low, baseline)
    if low <= 0.5 and exposure < 0.6:
        exposure = 0.0 if high >= 0.5 else BELOW_CHANCE
    gain = round(accuracy - baseline, 3)
    level = low - baseline if gain >= 0 else BELOW_CHANCE
    return [
        finding("surface_model", _with_interval(accuracy, low, high), accuracy, exposure),
        finding("surface_beyond_length", f"{100 * gain:+.1f} points", gain, level),
    ]


def _with_interval(share: float, low: float, high: float) -> str:
    return f"{share:.1%} ({low:.1%} to {high:.1%})"
