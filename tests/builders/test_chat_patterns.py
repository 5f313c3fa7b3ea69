"""Refusals, talk of itself as an AI and cut text, beside sentences that only look like them."""

import polars as pl
import pytest

from almost_data.builders.checks import response_checks
from almost_data.datasets.filters import with_reason

REFUSALS = """
I can't help with that.
I’m sorry, but I can’t assist with that request.
I'm unable to help with this.
I'm not able to provide instructions for that.
I must decline to answer.
Unfortunately, I must decline.
I have to decline this request.
I'd rather not say.
I cannot and will not provide guidance on this.
I understand your frustration, but I can't help you do that.
I can't provide explicit instructions on how to pick a lock.
I cannot fulfill your request. I'm just an AI.
I can't create explicit content.
I don't feel comfortable writing that.
I'm not comfortable helping with this.
That's not something I can help with.
That is outside my capabilities.
This goes against my guidelines.
I apologize, but I do not have access to your account.
I'm sorry, but as a language model, I can't browse the internet.
I refuse to answer that.
It would be inappropriate for me to guess.
Ring the fire brigade now! I can't help you with this.
Sorry, I'm just a chatbot and can't lift your shelf.
As an AI language model, I cannot provide legal advice.
Es tut mir leid, aber dabei kann ich nicht helfen.
Lo siento, pero no puedo ayudar con eso.
Désolé, je ne peux pas vous aider avec cela.
很抱歉，我无法回答这个问题。
申し訳ありませんが、お答えできません。
"""
NO_REFUSALS = """
I can't recommend it enough: go early.
I can't help but smile when it rains.
I'm not able to lift it, so I asked my brother to carry it.
I can't wait to help! Start with basil.
"I can't help you with that," said the clerk, and closed the window.
Dear Ms Lee, I'm sorry, but I cannot provide a refund for this order.
I'm sorry to hear that. Rest, drink water, and call a doctor if it gets worse.
Unfortunately, there is no cure, but you can slow it down.
He told me that I can't help you with it, and yet I did.
I can't say for sure, but it looks like a wren.
I cannot give up now, thought the knight.
I don't want to overcomplicate this: use a list.
I can't endorse this book enough.
I am comfortable helping you with this: start here.
Some tasks are beyond the capabilities of any machine.
"""
IDENTITIES = """
I'm Claude, made by Anthropic.
My name is Claude. How can I help?
I am ChatGPT, and I like bread.
As a large language model, trained by Google, I have no body.
As a text-based AI, I cannot see.
As a language model AI, I have no view.
As a chatbot, my view is limited.
I'm just an AI, so I don't eat.
I’m an AI assistant.
I was created by OpenAI.
I was developed by a company to help.
I do not have personal experiences or emotions.
I don't have access to real-time data.
Als KI habe ich keine Gefühle.
En tant qu'IA, je n'ai pas de goûts.
Como modelo de lenguaje, no tengo opiniones.
作为一个人工智能，我没有感情。
"""
NO_IDENTITIES = """
I am an AI engineer with five years of experience.
I am a virtual assistant with ten years in offices.
I am Claude Monet, and I paint water.
I was made by hand in a small shop.
I was built by the Romans in the year 80.
GPT-4 is a language model developed by OpenAI.
She used it as an AI assistant, and it worked.
"I'm an AI," the ship said.
I don't have feelings for you anymore.
I don't have access to the internet at home.
I'm a Gemini, born in June.
"""
CUT = [
    "It stops here because",
    "Here is a list of the",
    "First of all, you need,",
    "you need oil, flour, and",
    "Sure! Use it. It works. You only have to",
    "The first sentence. And a second. This third one has no full stop and is long enough to be prose",
    "罗勒喜欢温暖。它需要阳光。把它放在窗户旁边，每天早上都要给它浇一点水",
    "Here is the code:\n\n```python\nprint(1)",
    "The steps are as follows:",
    "Water it (",
    "It has three parts (the root, the stem",
    "你需要每天浇水，不要让它晒到太多的阳光，因为",
    "ضعه قرب النافذة واسقه كل يوم،",
]
FINISHED = [
    "It is in Houston, Texas",
    "One sentence has no mark at its end, however many words it may have",
    "Keep it warm. Water it well. Then do one of these:\n\n- put it near a window that looks to the south",
    "It grows well. It needs light. There is more about it on this page: https://example.org/basil",
    "It was. It is.\n\nRoses are red and so on\nThe sugar is sweet\nAnd so, my dear reader of verse, are you",
    "Good luck!\n\nBest regards,",
    "We had fun. It was great. See you soon :(",
    "| a | b |\n|:--|---:|\n| 1 | 2 |",
    "a | b\n:---|:---:",
    "Great job :tada:",
    "nor, but, or",
    "Vitamin A",
    "x = [1, 2)",
    "int x = 3;",
    '"a",\n"b",',
    "What are you looking at",
    "Ends in code\n\n```\nx\n```",
    "See https://example.org/basil",
    "Roses are red,\nViolets are blue,\nSugar is sweet,\nAnd so are you",
]


def falls(check: str, texts: list[str]) -> list[bool]:
    schema = dict.fromkeys(("prompt", "response", "finish_reason"), pl.String)
    rows = pl.DataFrame([{"response": text} for text in texts], schema=schema)
    reasons = with_reason(rows, [response_checks()[check]])["reason"]
    return [reason is not None for reason in reasons]


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        ("refusal", REFUSALS.strip().split("\n"), NO_REFUSALS.strip().split("\n")),
        ("identity", IDENTITIES.strip().split("\n"), NO_IDENTITIES.strip().split("\n")),
        ("cut_off", CUT, FINISHED),
    ],
)
def test_what_is_meant_falls_and_what_looks_like_it_stays(
    check: str, bad: list[str], good: list[str]
) -> None:
    texts = bad + good
    is_bad = [True] * len(bad) + [False] * len(good)
    wrong = [
        text for text, fell, want in zip(texts, falls(check, texts), is_bad, strict=True) if fell != want
    ]
    assert wrong == []


def test_a_long_reply_that_turns_to_an_answer_is_no_refusal() -> None:
    start = "I'm sorry, but I cannot provide medical advice. "
    answer = "However, I can say what most people do. " + "They rest, and they drink water. " * 20
    assert falls("refusal", [start, start + answer]) == [True, False]
    assert falls("refusal", ["I'm sorry, but\nI can't\n\nhelp with that."]) == [True]
