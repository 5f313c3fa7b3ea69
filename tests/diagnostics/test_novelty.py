import hypothesis.strategies as st
from hypothesis import example, given, settings
from rouge_score import rouge_scorer

from almost_data.diagnostics.novelty import Novelty

WORDS = st.sampled_from("how do i bake bread a the in 3 weeks Does DON'T café naïve 北京 ... ß".split())
TEXT = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=30)
SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6), TEXT)
@example(["a b c d"], "a b x y z w")  # F1 is 0.4
@example(["a b c d"], "a b x y")  # F1 is exactly 0.5
def test_scores_are_those_of_rouge_score_to_the_last_bit(known: list[str], text: str) -> None:
    novelty = Novelty()
    for one in known:
        novelty.add(one)
    want = [SCORER.score(one, text)["rougeL"].fmeasure for one in known]
    nearest, score = novelty.nearest(text)
    assert score == max(want)
    assert nearest == (known[want.index(max(want))] if max(want) > 0 else None)


def test_more_words_than_there_are_characters_below_the_surrogates() -> None:
    novelty = Novelty()
    for start in range(0, 60_000, 1000):
        novelty.add(" ".join(f"w{i}" for i in range(start, start + 1000)))
    text = " ".join(f"w{i}" for i in range(55_000, 56_000))
    assert novelty.nearest(text) == (novelty.texts[55], 1.0)
