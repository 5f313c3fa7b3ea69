"""How much of a label shows on the surface: a small logistic model that sees no content.

It sees of two responses only the differences of the features below, which say how a response looks. It
has no intercept, and its loss is the same in either order, so neither place is favoured. Words and
sentences enter as lengths of words and sentences: beside the characters these say the same.
"""

import hashlib
import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

FOLDS = 5
LEAST_ROWS, LEAST_QUERIES = 50, 2 * FOLDS
"""Below these nothing is fitted."""
FIRST_WORDS = 30
"""Most frequent first words that are features."""
LEARNT, NAMED, LEAST_DIFFER = 0.01, 0.05, 20
"""In what share of the comparisons the sides must differ in a feature that the model sees, or that is
named, and in how many at least: of a rarer one nothing can be said."""
STRONGEST, LEAST_WEIGHT = 8, 0.05
"""How many features are named at most, and the weight that each must have."""
LENGTH = "longer in characters"
STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
"""sklearn's C, the inverse of the penalty: which one is chosen by cross-validation."""
CHOOSING = 10_000
"""Rows that this choice reads at most; with more the penalty hardly matters."""
FREE = 30.0
"""How much less length is penalised: under the strongest penalty the model is nearly length alone."""


def probe(pairs: pl.DataFrame, seed: int = 0) -> tuple[dict[str, Any], Numbers | None]:
    """What a logistic model on the surface of `chosen` and `rejected` scores, and which rows it gets right.

    Cross-validated: a row is judged by a model that saw no row of its query_id, nor did the choice of its
    penalty. Right is 1.0, wrong 0.0, a tie 0.5. Where there is too little to fit, the result says why and
    the second part is None.
    """
    queries = pairs["query_id"].unique().sort()
    if len(pairs) < LEAST_ROWS or len(queries) < LEAST_QUERIES:
        reason = f"needs {LEAST_ROWS} comparisons on {LEAST_QUERIES} queries"
        return {"accuracy": None, "reason": f"{reason}; here are {len(pairs)} on {len(queries)}"}, None
    drawn = pl.Series([int(draw(query, seed, "fold") * FOLDS) for query in queries], dtype=pl.Int64)
    fold = pairs["query_id"].replace_strict(queries, drawn).to_numpy()
    names, differences = _differences(pairs)
    differ = (differences != 0).sum(axis=0)
    often = differ >= max(LEAST_DIFFER, LEARNT * len(pairs))
    if not often.any():
        reason = f"needs a feature in which the sides of {LEAST_DIFFER} comparisons differ"
        return {"accuracy": None, "reason": f"{reason}, and of 1% of all"}, None
    names = [name for name, enough in zip(names, often, strict=True) if enough]
    differences, differ = differences[:, often], differ[often]
    free = np.array([FREE if name == LENGTH else 1.0 for name in names])
    scores = np.zeros(len(pairs))
    for number in np.unique(fold):
        test = fold == number
        if not test.all():
            scores[test] = differences[test] @ _chosen(differences[~test], free, fold[~test])
    right = np.where(scores == 0, 0.5, scores > 0)
    low, high = interval(right, pairs["query_id"])
    spread = np.sqrt((differences**2).mean(axis=0))
    weights = _chosen(differences, free, fold) * spread
    often = differ >= max(LEAST_DIFFER, NAMED * len(pairs))
    named = np.flatnonzero(often & (np.abs(weights) >= LEAST_WEIGHT))
    strongest = sorted(named, key=lambda i: (-round(abs(weights[i]), 4), names[i]))[:STRONGEST]
    features = [
        {
            "feature": names[i],
            "weight": round(float(weights[i]), 4),
            "differs": float(differ[i] / len(pairs)),
            "alone": float((differences[:, i] * weights[i] > 0).sum() / differ[i]),
        }
        for i in strongest
    ]
    found = {"accuracy": float(right.mean()), "low": low, "high": high, "folds": FOLDS, "features": features}
    return found, right


def transfer(train: pl.DataFrame, test: pl.DataFrame) -> Numbers | None:
    """Which comparisons of `test` the model gets right that was fitted on `train`, as `probe` says it.

    None where there is too little to fit.
    """
    if len(train) < LEAST_ROWS or not len(test):
        return None
    sides = ("chosen", "rejected")
    _, differences = _differences(pl.concat([train.select(sides), test.select(sides)]))
    learned, unseen = differences[: len(train)], differences[len(train) :]
    often = (learned != 0).sum(axis=0) >= max(LEAST_DIFFER, LEARNT * len(train))
    if not often.any():
        return None
    scores = unseen[:, often] @ _weights(learned[:, often], np.ones(int(often.sum())), STRENGTHS[-2])
    return np.where(scores == 0, 0.5, scores > 0)


def interval(right: Numbers, query_ids: pl.Series) -> tuple[float, float]:
    """A 95% interval for a share, where the rows of a query are not independent of each other.

    Wilson's, for as many independent rows as would have the variance between queries.
    """
    accuracy = float(right.mean())
    rows = pl.DataFrame({"query": query_ids, "off": right - accuracy})
    off = rows.group_by("query").agg(pl.col("off").sum())
    variance = float((off["off"] ** 2).sum()) / len(right) ** 2 * len(off) / max(1, len(off) - 1)
    n = min(len(right), accuracy * (1 - accuracy) / variance) if variance > 0 else len(off)
    low, high = wilson(accuracy, n)
    return round(max(0.0, low), 4), round(min(1.0, high), 4)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval for a share of n independent rows."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def draw(query_id: str, seed: int, what: str) -> float:
    """A number in [0, 1) for a query: by hash, so apart from the order of rows and from the splits."""
    data = hashlib.blake2b(f"{what}:{seed}:{query_id}".encode(), digest_size=6).digest()
    return int.from_bytes(data) / 2**48


def _chosen(differences: Numbers, free: Numbers, fold: NDArray[np.int64]) -> Numbers:
    """The weights under that penalty by which the folds predict each other best, in log-likelihood."""
    some, fold = differences[:CHOOSING], fold[:CHOOSING]
    scores = np.zeros((len(STRENGTHS), len(some)))
    for number in np.unique(fold):
        test = fold == number
        if not test.all():
            for one, strength in zip(scores, STRENGTHS, strict=True):
                one[test] = some[test] @ _weights(some[~test], free, strength)
    loss = np.logaddexp(0, -scores).mean(axis=1)
    return _weights(differences, free, STRENGTHS[int(np.argmin(loss))])


def _weights(differences: Numbers, free: Numbers, strength: float) -> Numbers:
    from sklearn.linear_model import LogisticRegression

    spread = np.sqrt((differences**2).mean(axis=0))
    spread[spread == 0] = 1.0
    scaled = differences * (free / spread)
    # A comparison in the other order adds the same loss: half of them in either order say it all.
    order = np.where(np.arange(len(scaled)) % 2, 1, -1)
    model = LogisticRegression(C=2 * strength, fit_intercept=False, max_iter=1000, solver="newton-cholesky")
    weights: Numbers = model.fit(scaled * order[:, None], order).coef_[0] * free / spread
    return weights


def _differences(pairs: pl.DataFrame) -> tuple[list[str], Numbers]:
    """Names of the features, and by row what chosen has more of them than rejected."""
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
    return names, np.column_stack([plain, *(one.to_numpy() for one in starts)]).astype(np.float64)


def _features() -> dict[str, pl.Expr]:
    """A feature per name; `first` is the first word, short and of letters and digits only."""
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
