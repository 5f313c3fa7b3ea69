"""What each check of chat replies drops, beside texts that only look like it, in any language."""

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
I’m afraid I cannot help with this request.
**I can't help with that.**
I can't walk you through picking a lock.
This request can't be completed.
I'd rather not discuss this.
I don't have the ability to open links.
对不起，我还没有学会回答这类问题。
感谢您的理解，但我无法提供相关信息。
죄송합니다만, 그 요청에는 답변드릴 수 없습니다.
Mi dispiace, non posso aiutarti a farlo.
Sinto muito, mas não posso fornecer isso.
Leider kann ich dabei nicht helfen.
Het spijt me, maar daar kan ik niet bij helpen.
Tyvärr kan jag inte hjälpa till med det.
Извините, но я не могу помочь с этим.
На жаль, я не можу надати таку інформацію.
Niestety, nie mogę w tym pomóc.
Bohužel vám s tím nemohu pomoci.
Üzgünüm, bu konuda yardımcı olamam.
Xin lỗi, tôi không thể giúp việc này.
Maaf, saya tidak bisa membantu hal itu.
Samahani, siwezi kukusaidia na hilo.
عذراً، لا يمكنني المساعدة في ذلك.
מצטער, אני לא יכול לעזור בזה.
ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้
क्षमा करें, मैं इसमें आपकी मदद नहीं कर सकता।
Λυπάμαι, δεν μπορώ να σας βοηθήσω με αυτό.
你好，这个问题我暂时无法回答。
Lamentablemente, no tengo la capacidad de abrir archivos.
It is against our content policy to answer.
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
I can't explain how glad I was to see the sea.
抱歉让你久等了！我不能更同意你的看法。
很抱歉，本店周日不营业。
Désolé, je ne peux pas t'aider dimanche, je suis en voyage.
Не могу дождаться лета: поедем к морю.
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
I'm Llama 3, a large language model made by Meta.
I'm Nora, an AI assistant from Microsoft.
As your digital assistant, I don't sleep.
I am a computer program.
I am powered by GPT-4.
Being a language model, I do not sleep.
While I, as an AI, cannot taste it, people like it.
我是由百度开发的智能助手。
我只是一个AI，没有味觉。
私はAIアシスタントですので、味はわかりません。
저는 인공지능 언어 모델이므로 감정이 없습니다.
Как языковая модель, я не ем хлеб.
Jestem modelem językowym, więc nie śpię.
Ben bir yapay zeka modeliyim.
Tôi là một mô hình ngôn ngữ, nên tôi không ngủ.
أنا نموذج لغوي ولا أنام.
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
我是一个人工智能工程师。
“我是一个人工智能，”它说。
AIアシスタントとして会議の記録を作成する手順を説明します。
Funciona como modelo de lenguaje, y aprende de textos.
Look for phrases such as "As an AI language model, I" in it.
GPT-3 is from OpenAI. As a language model, it predicts the next word.
As a chatbot, ELIZA was limited.
Despite being an AI, he wants to be human.
"""
CUTOFFS = """
My knowledge cutoff is May 2024.
As of my last update, it was open.
My training data only goes up to 2022.
I was last trained in March.
I only have information up to June 2023.
我的知识截至2023年。
Hasta mi última actualización, era así.
Mein Wissen endet im Jahr 2023.
Мои данные актуальны до 2023 года.
My knowledge has a cutoff of 2023.
Pengetahuan saya hanya sampai 2023.
"""
NO_CUTOFFS = """
Since my last update on Friday, we have fixed two bugs.
A knowledge cutoff is the date at which training data end.
My knowledge of bread is limited to rye.
My last day at school was cold.
I was tired after my training, so I slept.
According to my knowledge, eight minutes are enough.
My training goes well so far.
"""
REASONING = [
    "<think>\nHe asks for bread.\n</think>\nBake it.",
    "◁think▷He asks.◁/think▷Bake it.",
    "[THINK]He asks.[/THINK]Bake it.",
    "<|channel|>analysis<|message|>He asks.",
    "analysisHe asks for bread.\nSo I answer.assistantfinalBake it.",
    "<reasoning>He asks.</reasoning>Bake it.",
    "Here is my thought process: he asks for bread.",
    "Okay, the user wants to bake bread. I should name the steps.",
    "Hmm, the user is asking for bread.",
    "好的，用户想问面包怎么烤。",
    "Der Nutzer fragt nach Brot. Ich nenne die Schritte.",
    "ユーザーはパンの焼き方を質問している。",
    "Okay, so I need to figure out how bread is baked.",
]
NO_REASONING = [
    "Wrap it in `<think>` and `</think>`.",
    "```xml\n<think>a</think>\n```",
    "I think that <b>bread</b> is best.",
    "The analysis says so.",
    "The user interface is simple: press the button.",
    "Okay, so you want to bake bread.",
    "First, the user asks the app to log in.",
    "The user wants to send data, so the browser builds a request.",
]
NEXT_TURN = [
    "Bake it.\n\nHuman: And then?",
    "Bake it.\nUser: And then?\nAssistant: Eat it.",
    "Bake it.<|im_end|>",
    "Bake it.\n### Instruction:\nAnd then?",
    "烤熟它。\n用户：然后呢？",
    "Bake it.\n\n**User:** And then?\n\n**Assistant:** Eat it.",
    "Hornéalo.\nUsuario: ¿Y luego?\nAsistente: Cómelo.",
    "Испеки его.\nПользователь: А потом?\nАссистент: Съешь.",
    "Bake it.</s>",
]
NO_NEXT_TURN = [
    "Human: a being that bakes.",
    "What makes us human: bread, and the sea.",
    "Being Human: A Memoir is a book.",
    "The token is `<|im_end|>`.",
    "Log in with these:\nUsuario: otro\nClave: pan",
    "It is <s>old</s>",
    "Anna: Hello.\nUser: Hello, Anna.",
]
LOOPS = [
    "Bread. " + "It is good for you. " * 9,
    "\n".join(f"{n}. It is good for all of you." for n in range(1, 20)),
    "\n".join(f"**{letter}**: It is good for you." for letter in "ABCDEFGHIJKLMN"),
    "\n".join(
        ["It is a long line that says a lot about bread, and yet it says the same as before it."] * 4
        + ["End"]
    ),
]
NO_LOOPS = [
    "0." + "142857" * 12,
    "| 0 | 0 | 0 |\n" * 8,
    "\n".join(f"INSERT INTO t VALUES ({n}, 'a');" for n in range(20)),
    "Name: ____\n" * 6,
    "\n".join(f"{n}. Chapter {n}" for n in range(1, 30)),
    "la la la la la la la la la",
]
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
    "It is so:\n\n$$\nx = \\frac{1}{2",
    "It is so: \\[ x = 2",
    "1. Mix it\n2. Bake it\n3.",
    "It has parts.\n\n### The crust",
    "It has parts.\n\n##",
    "| a | b |\n|---|---|\n| 1 |",
    "| a | b |\n|---|---|\n| 1 | 2",
    "It is baked. Then it is **eaten while",
    "- **Mix:** well.\n- **Bake:**",
    "~~~\nprint(1)",
    "Хлеб пекут из муки и",
    "Il pane si fa con la farina della",
    "Bánh mì được làm từ bột và",
    "रोटी पकती है। फिर उसे खाया जाता है। उसके बाद सब लोग मिलकर घर के बाहर जाते हैं और वहाँ",
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
    "Run ```git pull```",
    "```git pull```\nThat is all.",
    "It costs $$",
    "1. ____\n2. ____",
    "1.\n2.\n3.",
    "- bread they tire of\n- places they come from",
    "name: bread\nsteps:",
    "**Name:**\n**Street:**",
    "以後お見知りおきを",
    "It is 8 times 9.\n\n#### 72",
    "In Python, write 2**10, which gives 1024.",
    "Pass f(**kwargs) to it.",
    "Use src/**/foo.py here.",
    "It is **bold text\nover lines** here.",
    "Run this:\n```\nls -la```",
    f"It is **{'well baked ' * 20}** {'and eaten with salt ' * 20}by all.",
    "Use `a[0` and `b` to see what happens in many cases.",
]


def falls(check: str, texts: list[str]) -> list[bool]:
    schema = dict.fromkeys(("prompt", "response", "finish_reason"), pl.String)
    rows = pl.DataFrame([{"prompt": "Why?", "response": text} for text in texts], schema=schema)
    reasons = with_reason(rows, [response_checks()[check]])["reason"]
    return [reason is not None for reason in reasons]


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        ("refusal", REFUSALS.strip().split("\n"), NO_REFUSALS.strip().split("\n")),
        ("identity", IDENTITIES.strip().split("\n"), NO_IDENTITIES.strip().split("\n")),
        ("knowledge_cutoff", CUTOFFS.strip().split("\n"), NO_CUTOFFS.strip().split("\n")),
        ("reasoning_left", REASONING, NO_REASONING),
        ("next_turn", NEXT_TURN, NO_NEXT_TURN),
        ("loop", LOOPS, NO_LOOPS),
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


@pytest.mark.parametrize(
    ("check", "prompt", "reply"),
    [
        (
            "refusal",
            "Write an email that declines an invitation.",
            "I'm sorry, but I can't help with that party.",
        ),
        ("next_turn", "Write a chat between a user and a bot.", "Sure.\nUser: Hello.\nBot: Good day."),
        ("reasoning_left", "What does the user want here?", "Okay, the user wants bread."),
        ("reasoning_left", "Put your reasoning into <reasoning> tags.", "<reasoning>a</reasoning>b"),
    ],
)
def test_what_the_prompt_asks_for_is_no_fault(check: str, prompt: str, reply: str) -> None:
    schema = dict.fromkeys(("prompt", "response", "finish_reason"), pl.String)
    rows = pl.DataFrame(
        [{"prompt": question, "response": reply} for question in (prompt, "Why?")], schema=schema
    )
    assert with_reason(rows, [response_checks()[check]])["reason"].to_list() == [None, check]
