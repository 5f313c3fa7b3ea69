import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from almost_data.diagnostics.novelty import Novelty

WORDS = st.sampled_from("how do i bake bread a the in 3 weeks Does DON'T café naïve ... ß".split())
TEXT = st.lists(WORDS, max_size=12).map(" ".join) | st.text(st.characters(max_codepoint=0x24F), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6), TEXT)
@example(["a b c d"], "a b x y z w")  # F1 is 0.4
@example(["a b c d"], "a b x y")  # F1 is exactly 0.5
def test_scores_are_those_of_rouge_score_to_the_last_bit(texts: list[str], text: str) -> None:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    novelty = Novelty()
    for earlier in texts:
        novelty.add(earlier)
    want = [scorer.score(earlier, text)["rougeL"].fmeasure for earlier in texts]
    nearest, score = novelty.nearest(text)
    assert score == max(want)
    assert nearest == (texts[want.index(max(want))] if max(want) > 0 else None)


def test_more_words_than_there_are_characters_below_the_surrogates() -> None:
    novelty = Novelty()
    for start in range(0, 60_000, 1000):
        novelty.add(" ".join(f"w{i}" for i in range(start, start + 1000)))
    text = " ".join(f"w{i}" for i in range(55_000, 56_000))
    assert novelty.nearest(text) == (novelty.texts[55], 1.0)


# A text, a near copy of it, and one that has nothing to do with it.
SCRIPTS = {
    "Chinese": ("怎样在室内种好薄荷呢", "怎样在室内种好罗勒呢", "天空为什么是蓝色的"),
    "Japanese": ("パンをおいしく焼くには", "ケーキをおいしく焼くには", "空はなぜ青いの"),
    "Korean": ("빵을 맛있게 굽는 방법", "떡을 맛있게 굽는 방법", "하늘은 왜 파란가요"),
    "Thai": ("ปลูกโหระพาในบ้านอย่างไร", "ปลูกสะระแหน่ในบ้านอย่างไร", "ฟ้า"),
    "Russian": ("как испечь хлеб дома зимой", "как испечь пирог дома зимой", "почему небо синее"),
    "Arabic": ("كيف أخبز الخبز في المنزل", "كيف أخبز الكعك في المنزل", "لماذا السماء زرقاء"),
    "Hindi": ("घर पर रोटी कैसे बनाएं", "घर पर दाल कैसे बनाएं", "आसमान नीला क्यों है"),
    "Greek": ("πώς να ψήσω ψωμί στο σπίτι", "πώς να ψήσω πίτα στο σπίτι", "γιατί είναι μπλε"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_near_copies_are_found_and_strangers_are_not_in_any_script(script: str) -> None:
    text, copy, stranger = SCRIPTS[script]
    novelty = Novelty()
    novelty.add(text)
    assert novelty.nearest(text) == (text, 1.0)
    assert 0.5 <= novelty.nearest(copy)[1] < 1
    assert novelty.nearest(stranger)[1] < 0.5


def test_one_shared_latin_word_makes_no_copy_of_texts_in_another_script() -> None:
    novelty = Novelty()
    novelty.add("怎样用 Python 读取文件")
    assert novelty.nearest("为什么要学习 Python 语言")[1] < 0.5


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_a_text_is_its_own_nearest_in_any_script(text: str) -> None:
    novelty = Novelty()
    novelty.add(text)
    assert novelty.nearest(text) in ((text, 1.0), (None, 0.0))
