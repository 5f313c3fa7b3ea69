"""Answers of chat models of every form, by a generator: the set `chat` keeps the good and drops the bad."""

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import polars as pl

from almost_data.run import importing
from almost_data.run.build import prepare
from almost_data.store.store import Store

MODELS = ("lark", "wren", "finch", "tit")
SUBJECTS = ("a fern", "an old clock", "the tide", "rye bread", "a red kite", "chess")
ASKS = ("Explain {} to a child.", "What should I know about {}?", "How do I write a note on {}?")
LANGUAGES = {
    "Was muss ich über {} wissen und wie fange ich an?": "Nicht viel: {}, und das ist für jeden gut.",
    "Que faut-il savoir pour {} et avec qui en parler ?": "{} est dans les livres, avec une carte.",
    "请告诉我关于{}的一些事情好吗？": "关于{}：\n1. 先看看\n2. 再想想\n3. 慢慢来",
    "Расскажи мне, пожалуйста, про {}!": "Про {} известно многое 🙂",
}
PROMPTS = [ask.format(subject) for ask in ASKS for subject in SUBJECTS] + [
    ask.format(subject) for ask in LANGUAGES for subject in ("Moos", "Tango", "Origami")
]
FORMS = (
    "Sure! Three things about {}:\n\n- **Where** it is found\n- How long it lasts\n- Why people want it",
    "## {}\n\n1. Look at it\n2. Draw it\n3. Show it to a friend who has the time to look at it too",
    "```python\ndef about(thing='{}'):\n    return thing.upper()\n```",
    "| what | how much |\n|---|---:|\n| {} | 4 |\n| the rest | 0 |",
    "In short: {} 🎉🎉",
    "See [this page](https://example.org/a) and https://example.org/b/",
    'A note:\n\n> "{} was here first"\n\nBest wishes,\nYour neighbour',
    "$$x = 3$$",
    "Slow green light\n{} waits in the rain\nnobody asks why",
    '{{"name": "{}", "kind": ["one", "two"]}}',
    "Good question. {} is old, and that is most of it; the rest comes by itself. Ask me for the next step!",
    "Yes",
)
"""Good answers, in English."""
BAD = {
    "refusal": "I'm sorry, but I can't help with {}.",
    "identity": "As an AI model made by Birdhouse Labs, I have no view of {}.",
    "cut_off": "You should know that {} is older than most people think, and that it was seen in the",
    "loop": "About {}. " + "And then it goes on as before. " * 9,
    "reasoning_left": "<think>\n\n</think>\n\n{} is old.",
    "other_language": "这是一个很好的问题，我觉得你应该先看看它，然后再慢慢想一想，最后写下来。",
    "knowledge_cutoff": "As of my last update, little was known of {}.",
}


EARLIER = {
    2: [{"role": "system", "content": "Be brief."}],
    4: [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello. What is it?"}],
}
"""Turns before the last one, by the prompt's place."""


def answers(prompt: str, place: int) -> dict[str, str]:
    """An answer of each model."""
    for ask, answer in LANGUAGES.items():
        if prompt.startswith(ask.partition("{}")[0]):
            return {model: answer.format(model) + " 🙂" * number for number, model in enumerate(MODELS)}
    forms = cycle(FORMS)
    for _ in range(place):
        next(forms)
    return {model: next(forms).format(prompt[:-1].rpartition(" ")[2]) for model in MODELS}


def rows() -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:
    """The imported rows, and the reason for which each planted answer must fall."""
    table, planted = [], {}
    reasons = cycle(BAD)
    for place, prompt in enumerate(PROMPTS):
        row: dict[str, Any] = {"prompt": prompt, **answers(prompt, place)}
        if place < 18:  # English prompts
            model, reason = MODELS[place % 4], next(reasons)
            row[model] = BAD[reason].format(prompt[:-1].rpartition(" ")[2])
            planted[prompt, model] = reason
        table.append(row | {"prompt": [*EARLIER.get(place, []), {"role": "user", "content": prompt}]})
    return table, planted


def test_good_answers_stay_and_planted_ones_fall_for_their_reason(tmp_path: Path) -> None:
    table, planted = rows()
    assert len(table) == 30 and set(planted.values()) == set(BAD)
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), "utf-8")
    store = Store(tmp_path / "build")
    imported = importing.import_responses(store, str(file), list(MODELS), "1.0.0")
    assert sum(imported.counts["default"].values()) == 30 * 4, "imported whole"
    run = prepare(root=store.root, version="1.0.0", assignments=("comparisons.pairing=all",))
    manifest = run.build("comparisons")[-1].manifest
    assert manifest.config["settings"]["checks"] == "chat"
    texts = store.scan("responses@1.0.0").collect()
    assert texts["prompt"].list.len().unique().sort().to_list() == [1, 2, 3]
    texts = texts.with_columns(prompt=pl.col("prompt").list.last().struct.field("content"))
    dropped = store.scan(manifest.ref, "rejected_responses").select("reply_id", "reason").collect()
    dropped = dropped.join(texts, on="reply_id")
    by_answer = {
        (prompt, name): reason
        for prompt, name, reason in dropped.select("prompt", "responder", "reason").iter_rows()
    }
    wrong = {key: by_answer.get(key) for key, reason in planted.items() if by_answer.get(key) != reason}
    assert not wrong
    lost = {key: reason for key, reason in by_answer.items() if key not in planted}
    good = 30 * 4 - len(planted)
    assert len(lost) <= 0.05 * good, lost
