"""How much of a label shows on the surface: a small logistic model that sees no content.

It sees of two responses only the differences of the features below, which say how a response looks. It
has no intercept and sees each comparison in both orders, so neither place is favoured. Words and
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
FIRST_WORDS, LEAST_USES = 30, 5
"""Most frequent first words that are features, and in how many responses one must stand."""
STRONGEST = 8
STRENGTH = 0.1
"""sklearn's C, the inverse of the penalty: small, since small sets have more features than they bear."""


def probe(pairs: pl.DataFrame, seed: int = 0) -> tuple[dict[str, Any], Numbers | None]:
    """What a logistic model on the surface of `chosen` and `rejected` scores, and which rows it gets right.

    Cross-validated: a row is judged by a model that saw no row of its query_id. Right is 1.0, wrong 0.0, a
    tie 0.5. Where there is too little to fit, the result says why and the second part is None.
    """
    queries = pairs["query_id"].unique().sort()
    if len(pairs) < LEAST_ROWS or len(queries) < LEAST_QUERIES:
        reason = f"needs {LEAST_ROWS} comparisons on {LEAST_QUERIES} queries"
        return {"accuracy": None, "reason": f"{reason}; here are {len(pairs)} on {len(queries)}"}, None
    drawn = pl.Series([int(draw(query, seed, "fold") * FOLDS) for query in queries], dtype=pl.Int64)
    fold = pairs["query_id"].replace_strict(queries, drawn).to_numpy()
    names, differences = _differences(pairs)
    differences = differences[:, moves := np.abs(differences).max(axis=0) > 0]
    names = [name for name, moved in zip(names, moves, strict=True) if moved]
    if not names:
        return {"accuracy": None, "reason": "no two responses of a comparison differ on the surface"}, None
    scores = np.zeros(len(pairs))
    for number in range(FOLDS):
        test = fold == number
        if test.any() and not test.all():
            scores[test] = differences[test] @ _weights(differences[~test])
    right = np.where(scores == 0, 0.5, scores > 0)
    low, high = interval(right, pairs["query_id"])
    spread = np.sqrt((differences**2).mean(axis=0))
    weights = _weights(differences) * spread
    strongest = sorted(range(len(names)), key=lambda i: (-round(abs(weights[i]), 4), names[i]))[:STRONGEST]
    features = [
        {
            "feature": names[i],
            "weight": round(float(weights[i]), 4),
            "differs": float((differences[:, i] != 0).mean()),
            "alone": float((differences[:, i] * weights[i] > 0).sum() / (differences[:, i] != 0).sum()),
        }
        for i in strongest
    ]
    found = {"accuracy": float(right.mean()), "low": low, "high": high, "folds": FOLDS, "features": features}
    return found, right


def interval(right: Numbers, query_ids: pl.Series) -> tuple[float, float]:
    """A 95% interval for a share, where the rows of a query are not independent of each other.

    Wilson's, for as many independent rows as would have the variance between queries.
    """
    accuracy = float(right.mean())
    rows = pl.DataFrame({"query": query_ids, "off": right - accuracy})
    off = rows.group_by("query").agg(pl.col("off").sum())
    variance = float((off["off"] ** 2).sum()) / len(right) ** 2 * len(off) / max(1, len(off) - 1)
    n = min(len(right), accuracy * (1 - accuracy) / variance) if variance > 0 else len(off)
    z = 1.96
    middle = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def draw(query_id: str, seed: int, what: str) -> float:
    """A number in [0, 1) for a query: by hash, so apart from the order of rows and from the splits."""
    data = hashlib.blake2b(f"{what}:{seed}:{query_id}".encode(), digest_size=6).digest()
    return int.from_bytes(data) / 2**48


def _weights(differences: Numbers) -> Numbers:
    from sklearn.linear_model import LogisticRegression

    spread = np.sqrt((differences**2).mean(axis=0))
    spread[spread == 0] = 1.0
    both = np.concatenate([differences / spread, -differences / spread])
    label = np.repeat([1, 0], len(differences))
    model = LogisticRegression(C=STRENGTH, fit_intercept=False, max_iter=1000)
    weights: Numbers = model.fit(both, label).coef_[0] / spread
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
    uses = uses.filter(pl.col("uses") >= LEAST_USES, pl.col("first") != "")
    common = uses.sort("uses", "first", descending=[True, False])["first"].head(FIRST_WORDS)
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
        "longer in characters": chars.log1p(),
        "longer words": (chars / words).log1p(),
        "longer sentences": (words / sentences).log1p(),
        **{name: text.str.count_matches(pattern).log1p() for name, pattern in counts.items()},
        "more digits per character": text.str.count_matches("[0-9]") / least,
        "more capitals per character": text.str.count_matches(r"\p{Lu}") / least,
        "more characters beyond ASCII": (text.str.len_bytes() - chars) / least,
        **ends,
        "first": text.str.extract(r"^[^\p{L}\p{N}]{0,20}([\p{L}\p{N}]{1,20})").fill_null(""),
    }
