"""How much of a label shows on the surface: a small logistic model that sees no content.

It sees only the differences between two responses in the features below, which describe how a response
looks. It has no intercept, and its loss is the same in either order, so neither side is favoured. Counts of
words and sentences enter as mean lengths: given the characters, these carry the same information.
"""

import hashlib
import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Numbers = NDArray[np.float64]

FOLDS = 5
MIN_ROWS, MIN_QUERIES = 50, 2 * FOLDS
"""With fewer, no model is fitted."""
FIRST_WORDS = 30
"""Most frequent first words that are features."""
LEARNT, NAMED, MIN_DIFFER = 0.01, 0.05, 20
"""The share of the comparisons whose sides must differ in a feature for the model to see it, or for the
result to name it, and the least number of such comparisons."""
STRONGEST, MIN_WEIGHT = 8, 0.05
"""How many features are named at most, and the weight that each must have."""
LENGTH = "longer in characters"
STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
"""The inverse of the penalty, where each comparison counts in both orders; cross-validation chooses one."""
STRENGTH = STRENGTHS[2]
"""Where none is chosen."""
SLOPE = 1e-6
"""Slope of the loss, for each comparison, at which a fit ends."""
TUNING_ROWS = 10_000
"""Most rows for this choice; with more the penalty hardly matters."""
FREEDOM = 30.0
"""How much less length is penalised: under the strongest penalty the model is nearly length alone."""


def probe(pairs: pl.DataFrame, seed: int = 0) -> tuple[dict[str, Any], Numbers | None]:
    """What a logistic model on the surface of `chosen` and `rejected` scores, and which rows it gets right.

    Cross-validated: a row is judged by a model that was fitted and tuned without any row of its query_id.
    Right is 1.0, wrong 0.0, a tie 0.5. With too little to fit, the result says why and the second part is
    None.
    """
    queries = pairs["query_id"].unique().sort()
    if len(pairs) < MIN_ROWS or len(queries) < MIN_QUERIES:
        reason = f"needs {MIN_ROWS} comparisons on {MIN_QUERIES} queries"
        return {"accuracy": None, "reason": f"{reason}; here are {len(pairs)} on {len(queries)}"}, None
    folds = pl.Series([int(draw(query, seed, "fold") * FOLDS) for query in queries], dtype=pl.Int64)
    fold = pairs["query_id"].replace_strict(queries, folds).to_numpy()
    names, differences = _differences(pairs)
    visible = _visible(differences)
    if not visible.any():
        reason = f"needs a feature in which the sides of {MIN_DIFFER} comparisons differ"
        return {"accuracy": None, "reason": f"{reason}, and of 1% of all"}, None
    names = [name for name, is_visible in zip(names, visible, strict=True) if is_visible]
    differences = differences[:, visible]
    freedom = np.array([FREEDOM if name == LENGTH else 1.0 for name in names])
    scores = np.zeros(len(pairs))
    # With several threads, so small products take as long, and many times longer on a busy machine.
    with threadpool_limits(1, "blas"):
        for number in np.unique(fold):
            test = fold == number
            if not test.all():
                scores[test] = differences[test] @ tuned_weights(differences[~test], freedom, fold[~test])
        tuned = tuned_weights(differences, freedom, fold)
    right = np.where(scores == 0, 0.5, scores > 0)
    low, high = interval(right, pairs["query_id"])
    features = _strongest(names, differences, tuned)
    accuracy = float(right.mean())
    return {"accuracy": accuracy, "low": low, "high": high, "folds": FOLDS, "features": features}, right


def _strongest(names: list[str], differences: Numbers, weights: Numbers) -> list[dict[str, Any]]:
    """The features that the model goes by: weight per standard deviation beside the other features, how often
    the sides differ in it, and how often the chosen one has more of it where they do."""
    differ, scaled = (differences != 0).sum(axis=0), weights * np.sqrt((differences**2).mean(axis=0))
    is_frequent = differ >= max(MIN_DIFFER, NAMED * len(differences))
    named = np.flatnonzero(is_frequent & (np.abs(scaled) >= MIN_WEIGHT))
    return [
        {
            "feature": names[i],
            "weight": round(float(scaled[i]), 4),
            "differs": float(differ[i] / len(differences)),
            "more_in_chosen": float((differences[:, i] > 0).sum() / differ[i]),
        }
        for i in sorted(named, key=lambda i: (-round(abs(scaled[i]), 4), names[i]))[:STRONGEST]
    ]


def transfer(train: pl.DataFrame, test: pl.DataFrame) -> Numbers | None:
    """Which comparisons of `test` a model fitted on `train` gets right: 1.0, wrong 0.0, a tie 0.5.

    None where there is too little to fit.
    """
    if len(train) < MIN_ROWS or not len(test):
        return None
    sides = ("chosen", "rejected")
    _, differences = _differences(pl.concat([train.select(sides), test.select(sides)]))
    learned, unseen = differences[: len(train)], differences[len(train) :]
    visible = _visible(learned)
    if not visible.any():
        return None
    scores = unseen[:, visible] @ fit_weights(learned[:, visible], np.ones(int(visible.sum())), STRENGTH)
    return np.where(scores == 0, 0.5, scores > 0)


def interval(
    right: Numbers, query_ids: pl.Series, strata: NDArray[np.generic] | None = None
) -> tuple[float, float]:
    """A 95% interval for a share, where the rows of a query are not independent of each other.

    With `strata`, the group of each row, it is that of the mean of the groups' shares. Wilson's, for as many
    independent rows as would have the variance between queries.
    """
    _, group, sizes = np.unique(
        np.zeros(len(right)) if strata is None else strata, return_inverse=True, return_counts=True
    )
    shares = np.bincount(group, weights=right) / sizes
    weight = 1 / (len(sizes) * sizes[group])
    share = float(shares.mean())
    rows = pl.DataFrame({"query": query_ids, "deviation": (right - shares[group]) * weight})
    deviation = rows.group_by("query").agg(pl.col("deviation").sum())["deviation"]
    queries, most = len(deviation), 1 / float((weight**2).sum())
    variance = float((deviation**2).sum()) * queries / max(1, queries - 1)
    n = min(most, share * (1 - share) / variance if variance > 0 else queries)
    low, high = wilson(share, n)
    return round(max(0.0, low), 4), round(min(1.0, high), 4)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval for a share of n independent rows."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def draw(query_id: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) for a query, by hash: independent of the order of rows and of the splits."""
    data = hashlib.blake2b(f"{purpose}:{seed}:{query_id}".encode(), digest_size=6).digest()
    return int.from_bytes(data) / 2**48


def _visible(differences: Numbers) -> NDArray[np.bool_]:
    """Which features the sides differ in often enough for a model to learn from."""
    enough: NDArray[np.bool_] = (differences != 0).sum(axis=0) >= max(MIN_DIFFER, LEARNT * len(differences))
    return enough


def tuned_weights(differences: Numbers, freedom: Numbers, fold: NDArray[np.int64]) -> Numbers:
    """The weights under the penalty with which the folds predict each other best, in log-likelihood."""
    sample, fold = differences[:TUNING_ROWS], fold[:TUNING_ROWS]
    scores = np.zeros((len(STRENGTHS), len(sample)))
    weights = np.zeros((len(STRENGTHS), differences.shape[1]))
    for number in np.unique(fold):
        test = fold == number
        if not test.all():
            training = sample[~test]
            for row, strength in enumerate(STRENGTHS):
                weights[row] = fit_weights(training, freedom, strength, weights[row])
                scores[row, test] = sample[test] @ weights[row]
    loss = np.logaddexp(0, -scores).mean(axis=1)
    best = int(np.argmin(loss))
    return fit_weights(differences, freedom, STRENGTHS[best], weights[best])


def fit_weights(
    differences: Numbers, freedom: Numbers, strength: float, near: Numbers | float = 0.0
) -> Numbers:
    """The weights of least penalised loss, which are found sooner from weights that are `near` them.

    Raises ValueError for a difference that is not finite.
    """
    from scipy.optimize import minimize

    if not np.isfinite(differences).all():
        raise ValueError("a difference between chosen and rejected is not finite: is a reply null?")
    spread = np.sqrt((differences**2).mean(axis=0))
    spread[spread == 0] = 1.0
    scaled = differences * (freedom / spread)
    penalty = 1 / (2 * strength)

    def loss_and_slope(weights: Numbers) -> tuple[float, Numbers]:
        margins = scaled @ weights
        wrong = (1 - np.tanh(margins / 2)) / 2
        loss = np.logaddexp(0, -margins).sum() + penalty * (weights @ weights) / 2
        return float(loss), penalty * weights - wrong @ scaled

    def curvature(weights: Numbers) -> Numbers:
        wrong = (1 - np.tanh(scaled @ weights / 2)) / 2
        curved = scaled * np.sqrt(wrong * (1 - wrong))[:, None]
        hessian: Numbers = curved.T @ curved + penalty * np.eye(len(weights))
        return hessian

    start, precision = near * spread / freedom, {"gtol": SLOPE * len(scaled)}
    fit = minimize(loss_and_slope, start, jac=True, hess=curvature, method="trust-exact", options=precision)
    if not fit.success:
        raise ValueError(f"the surface model did not converge: {fit.message}")
    weights: Numbers = fit.x * freedom / spread
    return weights


def _differences(pairs: pl.DataFrame) -> tuple[list[str], Numbers]:
    """Names of the features, and per comparison the feature of chosen minus that of rejected."""
    texts = pl.concat([pairs["chosen"], pairs["rejected"]]).unique(maintain_order=True).to_frame("text")
    surface = texts.select("text", **_features()).with_columns(pl.exclude("text", "first").cast(pl.Float64))
    chosen, rejected = (
        pairs.select(text=side).join(surface, on="text", how="left", maintain_order="left").drop("text")
        for side in ("chosen", "rejected")
    )
    first = [chosen.get_column("first"), rejected.get_column("first")]
    uses = pl.concat(first).value_counts(name="uses")
    uses = uses.filter(pl.col("first") != "").sort("uses", "first", descending=[True, False])
    common = uses["first"].head(FIRST_WORDS)
    starts = [(first[0] == word).cast(pl.Int8) - (first[1] == word).cast(pl.Int8) for word in common]
    plain = (chosen.drop("first") - rejected.drop("first")).to_numpy()
    names = [*chosen.drop("first").columns, *(f'starts with "{word}"' for word in common)]
    return names, np.column_stack([plain, *(start.to_numpy() for start in starts)]).astype(np.float64)


def _features() -> dict[str, pl.Expr]:
    """Each feature by its name; `first` is the first word, cut to 20 letters and digits."""
    text = pl.col("text")
    chars = text.str.len_chars()
    least = chars.clip(lower_bound=1)
    words = text.str.count_matches(r"\S+").clip(lower_bound=1)
    sentences = text.str.count_matches(r"[.!?](?:\s|$)").clip(lower_bound=1)
    last = text.str.strip_chars_end().str.tail(1)
    counts = {
        "more commas": ",",
        "more full stops": r"\.",
        "more exclamation marks": "!",
        "more question marks": r"\?",
        "more colons": ":",
        "more semicolons": ";",
        "more quotation marks": '["“”]',
        "more apostrophes": "['’]",
        "more brackets": r"[(\[{]",
        "more dashes": "[-–—]",
        "more code marks": "`",
        "more bold or headings": r"\*\*|(?m:^#{1,6} )",
        "more lines": r"\n",
        "more paragraphs": r"\n[ \t]*\n",
        "more list items": r"(?m)^[ \t]*[-*•] ",
        "more numbered items": r"(?m)^[ \t]*[0-9]+[.)] ",
        "more of the first person": r"\b(?:I|me|my|My|we|We|our|Our|us)\b",
    }
    ends = {
        "ends with a full stop": last == ".",
        "ends with an exclamation mark": last == "!",
        "ends with a question mark": last == "?",
        "ends with a colon": last == ":",
        "ends with a letter or digit": last.str.contains(r"^[\p{L}\p{N}]$"),
    }
    return {
        LENGTH: chars.log1p(),
        "longer words": (chars / words).log1p(),
        "longer sentences": (words / sentences).log1p(),
        **{name: text.str.count_matches(pattern).log1p() for name, pattern in counts.items()},
        "more digits per character": text.str.count_matches("[0-9]") / least,
        "more capitals per character": text.str.count_matches(r"\p{Lu}") / least,
        "more characters beyond ASCII": (text.str.len_bytes() - chars) / least,
        **ends,
        "first": text.str.extract(r"^[^\p{L}\p{N}]{0,20}([\p{L}\p{N}]{1,20})").fill_null(""),
    }
