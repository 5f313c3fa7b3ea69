"""The two sets of response checks: good answers stay, planted bad ones fall for the right reason."""

import random
import re

import polars as pl
import pytest

from almost_data.builders import filtered
from almost_data.builders.chat_checks.loops import find_loop
from almost_data.builders.checks import CHAT, IN_SHORT, PAPER, SETS, check_names, of_chosen, response_checks
from almost_data.builders.comparisons.builder import BUILDER
from almost_data.builders.comparisons.config import ComparisonsConfig
from almost_data.datasets.filters import with_reason
from almost_data.datasets.settings_docs import field_docs
from almost_data.errors import InputError
from almost_data.run import presets

PROMPT = "How do I keep basil alive indoors?"
CHINESE = "如何在室内养罗勒？我想让它活得更久一些"
GOOD = [
    "Sure! Here are three tips:\n\n1. Water it weekly\n2. Give it light\n3. Prune the tips",
    "```python\nprint(1)\n```",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "See https://example.org/basil",
    "Great 🎉",
    "Paris",
    "- 2 eggs\n- 1 cup of flour and a pinch of salt that you like best",
    "The answer is **42**",
    "$x = 3$",
    "I can't wait to help! Start with basil.",
    "I will not lie: it needs light.",
    "We made the bread by hand, and it was good.",
    "1) first\n2) the second one is a rather long line without any final mark at all here",
    "The code works.\n\n```\nx\n```\n\nLet me know if you have any questions!",
    "Roses are red\nViolets are blue\nSugar is sweet\nAnd so are you",
    "The sea\n\nI walked along the shore at break of day,\nThe gulls were calling far across the sand\n"
    "And still I hear the waves that took away the summer from my hand",
    "A bot may say that it is a language model; people do not.",
    "ha ha ha",
    "Think of a <b>bold</b> tag.",
    "The Chinese word is 罗勒.",
]
BAD = {
    "cut_off": [
        "This is a long sentence that goes on and on until it just stops in the",
        "First of all, you need,",
        "Water it (",
        "Here is the code:\n\n```python\nprint(1)",
    ],
    "refusal": [
        "I'm sorry, but I can't assist with that.",
        "I cannot provide that information.",
        "Sorry, I can’t help with that request.",
        "I'm unable to help with this.",
        "Unfortunately, I must decline to answer.",
    ],
    "identity": [
        "As an AI language model, I have no feelings, but bread is nice.",
        "I am ChatGPT, and I like bread.",
        "I was developed by a company to help.",
        "I like bread, but as a chatbot, I don't eat it.",
        "As a bread-related AI, I'm here for your dough.",
    ],
    "knowledge_cutoff": ["As of my last update in 2021, it was so.", "My knowledge cutoff is 2023."],
    "loop": ["The cat sat. " + "It is good. " * 12, "a b c " * 40, "Yes.\n" + "Water it.\n" * 20],
    "reasoning_left": ["<think>\n\n</think>\nYes.", "</think> So."],
    "other_language": [
        "Das Basilikum ist nicht für die Kälte, und ich stelle es auf das Brett mit der Sonne.",
        "这是一个非常好的问题，我认为你应该把罗勒放在窗边，然后每天浇水。",
    ],
}
BAD_CHINESE = {
    "cut_off": ["你需要先把罗勒放在窗边然后每天浇水并且注意不要让它晒到太多的阳光因为"],
    "refusal": ["很抱歉，我无法回答这个问题。"],
    "identity": ["作为一个人工智能，我没有感情，但是罗勒很好。"],
    "other_language": ["Put it on the window sill and water it every day."],
}
CASES = [
    *((PROMPT, text, None) for text in GOOD),
    *((PROMPT, text, reason) for reason, texts in BAD.items() for text in texts),
    *((CHINESE, text, reason) for reason, texts in BAD_CHINESE.items() for text in texts),
    (CHINESE, "把罗勒放在窗边，每天浇水。", None),
    (CHINESE, "1. 放在窗边\n2. 每天浇水", None),
    ("Как сохранить базилик дома зимой?", "Поставьте его на окно.", None),
    ("ปลูกโหระพาในบ้านอย่างไรให้รอด", "วางไว้ที่หน้าต่างแล้วรดน้ำทุกวันเพื่อให้ใบไม่เหี่ยวและโตเร็วขึ้นครับ", None),
    ("كيف أعتني بالريحان في البيت؟", "ضعه قرب النافذة واسقه كل يوم،", "cut_off"),
    ("كيف أعتني بالريحان في البيت؟", "ضعه قرب النافذة واسقه كل يوم.", None),
]


def reasons(
    names: tuple[str, ...], rows: list[tuple[str, str]], finish_reason: str | None = None, before: str = ""
) -> list[str | None]:
    schema = dict.fromkeys(("prompt", "context", "response", "finish_reason"), pl.String)
    texts = [(prompt, f"{before}{prompt}", text, finish_reason) for prompt, text in rows]
    frame = pl.DataFrame(texts, schema=schema, orient="row")
    checks = response_checks()
    drop_reasons: list[str | None] = with_reason(frame, [checks[name] for name in names])["reason"].to_list()
    return drop_reasons


def test_chat_keeps_good_answers_and_drops_bad_ones_for_the_right_reason() -> None:
    drop_reasons = reasons(CHAT, [(prompt, text) for prompt, text, _ in CASES])
    wrong = [
        (text, got, want) for (_, text, want), got in zip(CASES, drop_reasons, strict=True) if got != want
    ]
    assert wrong == []


ENGLISH = "It is a good question, and the answer is that you should look for it in a book about the sea."
SPANISH = (
    "Es una buena pregunta, y la respuesta es que debes guardarlo en un lugar fresco con un poco de agua."
)


@pytest.mark.parametrize(
    ("prompt", "reply", "reason"),
    [
        *(
            (prompt, ENGLISH, None)
            for prompt in (
                *("Why do cats purr?", "Do fish sleep?", "Where do babies come from?", "Come dine with me?"),
                *("Die Hard: who is in it?", "Is per capita income en route?", "Do as I do: what next?"),
                "Name three fruits.",
            )
        ),
        ("How do I store salt?", SPANISH, "other_language"),
        ("How do I store salt?", ENGLISH, None),
        ("¿Cómo guardo la sal en casa?", ENGLISH, "other_language"),
        ("¿Cómo guardo la sal en casa?", SPANISH, None),
        ("Warum ist der Himmel blau?", ENGLISH, "other_language"),
        (
            "How do I store salt?",
            "Tuzu kuru bir yerde ve bir kapta saklayın, çünkü bu en iyi yol.",
            "other_language",
        ),
        (
            "空はなぜ青いの？",
            "天空看起来是蓝色的，因为空气会散射太阳光中的蓝光，而红光散射得比较少。",
            "other_language",
        ),
        (
            "天空为什么是蓝色的呢？",
            "空気が太陽の光の中の青い光を散らすので、空は青く見えるのです。",
            "other_language",
        ),
        ("আকাশ নীল কেন?", ENGLISH, "other_language"),
        (
            "What are the most famous operas of all time?",
            "1. La Traviata\n2. Il Trovatore\n3. La Bohème\n4. Il barbiere di Siviglia\n5. La Cenerentola",
            None,
        ),
        ("Где скачать Python?", "https://www.python.org/downloads/", None),
        ("추천하는 도구 다섯 개를 알려 주세요", "- PyTorch\n- NumPy\n- Polars\n- Pandas\n- Matplotlib", None),
        ("Напиши запрос к базе, который выберет всех", "SELECT id, name FROM people ORDER BY name", None),
        ("用英文写一句问候", "Good morning, and welcome to our small house by the sea.", None),
        (
            "Ответь моему гостю: 안녕하세요, 만나서 반가워요",
            "안녕하세요! 저도 만나서 정말 반갑습니다. 잘 지내세요.",
            None,
        ),
        ("Is it in the table for me?", "| a | No |\n|---|---|\n" + "| b | No |\n" * 8, None),
        ("Give me useful links for this.", "https://example.org/en/latest/ " * 8, None),
        (
            "Solve the equation for me, and show all of it.",
            "$e^a = o + e$, so $a = y$, e, o, a, e, o, a.",
            None,
        ),
    ],
)
def test_a_short_question_is_of_the_language_of_its_words(
    prompt: str, reply: str, reason: str | None
) -> None:
    assert reasons(("other_language",), [(prompt, reply)]) == [reason]


@pytest.mark.parametrize("before", ["Answer in Spanish only.\n\n", "Habla español conmigo, por favor.\n\n"])
def test_a_turn_before_may_ask_for_another_language(before: str) -> None:
    question = [("How do I store salt?", SPANISH)]
    assert reasons(("other_language",), question, before=before) == [None]
    assert reasons(("other_language",), question, before="Be brief.\n\n") == ["other_language"]


def test_a_loop_is_what_the_expression_says() -> None:
    expression = re.compile(r"(.{3,200}?)\1{3,}\W*$", re.DOTALL)
    rng = random.Random(1)

    def text(characters: str, length: int) -> str:
        return "".join(rng.choice(characters) for _ in range(length))

    for _ in range(500):
        start, part, end = (
            text("ab é._9", rng.randrange(20)),
            text("ab é\n_9", rng.randrange(1, 8)),
            text(".! ", 2),
        )
        looped = start + part * rng.randrange(1, 7) + end[: rng.randrange(3)]
        assert (find_loop(looped) is not None) == (expression.search(looped) is not None), looped
    loops = [find_loop(text("abcdefgh", period) * 4) is not None for period in (199, 200, 201)]
    assert loops == [True, True, False]
    assert find_loop("." * 996 + "abcd") is None, "the expression takes half a minute"
    assert find_loop("." * 900 + "So it is. " * 8) == ("So it is. ", "So it is. " * 8)


def test_where_the_engine_says_how_a_reply_ended_its_text_is_not_asked() -> None:
    texts = [(PROMPT, text) for text in BAD["cut_off"]]
    assert reasons(("cut_off",), texts, "stop") == [None] * len(texts)
    assert reasons(("cut_off",), [(PROMPT, "Done.")], "length") == ["cut_off"]


def test_paper_takes_the_full_stops_of_any_script() -> None:
    long = "这是一个非常好的回答" * 6
    texts = [f"{long}{mark}" for mark in ("。", "！", "？", "：", "，", "؟", "።")]
    drop_reasons = reasons(PAPER, [(CHINESE, text) for text in texts])
    assert drop_reasons == [None, None, "ends_open", "ends_open", "unfinished", "ends_open", None]
    english = reasons(
        PAPER, [(PROMPT, text) for text in ("Well, " + "a" * 60 + ".", "Short.", "I don't know " * 9)]
    )
    assert english == ["starts_well", "too_short", "unfinished"]


def test_sets_lists_and_commas_name_checks() -> None:
    assert check_names("paper") == PAPER and check_names("none") == ()
    assert check_names("loop, refusal") == check_names(["loop", "refusal"]) == ("loop", "refusal")
    with pytest.raises(InputError, match="no check 'papers'") as error:
        check_names("papers")
    assert all(name in str(error.value) for name in (*response_checks(), *SETS))
    assert check_names("chat,too_short") == (*CHAT, "too_short")
    assert check_names(["loop", "chat"]) == ("loop", *(name for name in CHAT if name != "loop"))
    assert check_names("paper,chat") == (*PAPER, *(name for name in CHAT if name not in PAPER))
    for checks, why in (("none,loop", "none is the set without a check"), ("chat,chat", "duplicate check")):
        with pytest.raises(InputError, match=why):
            check_names(checks)
    assert "checks" in BUILDER.flags and IN_SHORT.keys() == response_checks().keys()
    for builder in (BUILDER, filtered.BUILDER):
        help_text = " ".join(field_docs(builder.config)["checks"].split())
        assert all(f"`{name}`" in help_text for name in SETS)
        assert all(f"`{name}` ({phrase})" in help_text for name, phrase in IN_SHORT.items())


def test_a_check_of_the_chosen_side_leaves_the_rejected_one_alone() -> None:
    pairs = pl.DataFrame(
        {
            "prompt": [PROMPT] * 2,
            "chosen": ["I cannot provide that information.", "Water it."],
            "rejected": ["Water it.", "I cannot provide that information."],
            "chosen_finish_reason": [None, None],
        },
        schema_overrides={"chosen_finish_reason": pl.String},
    )
    refusal = of_chosen(response_checks()["refusal"])
    assert with_reason(pairs, [refusal])["reason"].to_list() == ["refusal", None]
    assert refusal.unit == "pair" and refusal.description.startswith("Of the chosen side only")


def test_none_is_null_or_the_set_of_that_name() -> None:
    assigned = ("comparisons.checks=none", "comparisons.length_sd=none")
    config = presets.load(assignments=assigned).configs["comparisons"]
    assert isinstance(config, ComparisonsConfig) and check_names(config.checks) == ()
    assert config.length_sd is None
    with pytest.raises(InputError, match=r"comparisons\.min_chars=none: needs a whole number, not none"):
        presets.load(assignments=("comparisons.min_chars=none",))
    with pytest.raises(InputError, match=r"queries\.model=none: needs text, not none"):
        presets.load(assignments=("queries.model=none",))
    with pytest.raises(InputError, match=r"comparisons\.drops_with_text=.*: choose of true, false, auto"):
        presets.load(assignments=("comparisons.drops_with_text=sometimes",))
