"""Preferences, and how each layout writes them: what the property tests read back."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st

from almost_data.readers.layout import Layout
from almost_data.readers.preferences import Rejected, read_all

Row = dict[str, Any]
Turns = list[dict[str, str]]


class Pair(NamedTuple):
    """A prompt as turns, and two replies."""

    prompt: Turns
    chosen: str
    rejected: str

    @property
    def text(self) -> str:
        return self.prompt[-1]["content"]


def pairs_of(layout: Layout, rows: list[Row]) -> tuple[list[Pair], list[str]]:
    """The pairs that are read, and the reasons of rejected rows."""
    good, reasons = [], []
    for read in read_all(layout, [(f"row {number}", row) for number, row in enumerate(rows)]):
        if isinstance(read.result, Rejected):
            reasons.append(read.result.reason)
            continue
        good += [Pair(list(p.prompt), p.chosen.text, p.rejected.text) for p in read.result]
    return good, reasons


TEXT = st.text(st.sampled_from("abc XYZ019.,?!'\"é。是ไ🙂"), min_size=1, max_size=12).map(
    lambda text: " ".join(f"x{text}z".split())
)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


QUESTION = TEXT.map(lambda text: f"Q{text}")
"""The last turn of a prompt, with which no reply begins."""
SINGLE = QUESTION.map(lambda text: [user(text)])
"""A prompt of one user turn."""
DIALOGUE = st.builds(
    lambda first, reply, last: [user(first), assistant(reply), user(last)], TEXT, TEXT, QUESTION
)
SYSTEM = st.builds(lambda system, text: [{"role": "system", "content": system}, user(text)], TEXT, QUESTION)


def pairs(prompts: st.SearchStrategy[Turns]) -> st.SearchStrategy[Pair]:
    return st.builds(
        lambda prompt, chosen, rejected: Pair(prompt, f"{chosen}+", f"{rejected}-"), prompts, TEXT, TEXT
    )


# --- forms of a list of turns ----------------------------------------------------------------------------

_NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
FORMS: dict[str, Callable[[Turns], Any]] = {
    "messages": lambda turns: turns,
    "sharegpt": lambda turns: [{"from": _NAMES[turn["role"]], "value": turn["content"]} for turn in turns],
    "parts": lambda turns: [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns
    ],
    "json": lambda turns: json.dumps(turns, ensure_ascii=False),
    "null fields": lambda turns: [turn | {"from": None, "value": None, "name": None} for turn in turns],
}


def hh(turns: Turns, ending: str = "\n\n") -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"{ending}{names[turn['role']]}: {turn['content']}" for turn in turns)


# --- how each layout writes a pair -----------------------------------------------------------------------

Writer = Callable[[Pair, Callable[[Turns], Any]], list[Row]]


def _sides(pair: Pair, form: Callable[[Turns], Any], head: Turns) -> Row:
    return {
        "chosen": form([*head, assistant(pair.chosen)]),
        "rejected": form([*head, assistant(pair.rejected)]),
    }


def _texts(column: str) -> Writer:
    return lambda pair, form: [{column: pair.text, "chosen": pair.chosen, "rejected": pair.rejected}]


def _system(column: str) -> Writer:
    def write(pair: Pair, form: Callable[[Turns], Any]) -> list[Row]:
        return [{"system": pair.prompt[0]["content"], **_texts(column)(pair, form)[0]}]

    return write


def _scored(column: str, name: str) -> Writer:
    """A list of objects with text and score, the chosen one second."""
    keys = {
        "completions": ("response", "overall_score"),
        "answers": ("text", "pm_score"),
    }[name]
    return lambda pair, form: [
        {
            column: pair.text,
            name: [
                dict(zip(keys, values, strict=True)) for values in ((pair.rejected, 1), (pair.chosen, 4.5))
            ],
        }
    ]


def _labelled(prompt: str, first: str, second: str, label: str, value: Any) -> Writer:
    """The chosen reply second, and a label that says so."""
    return lambda pair, form: [
        {prompt: pair.text, first: pair.rejected, second: pair.chosen, label: value},
    ]


def steer(turns: Turns) -> str:
    """A prompt as HelpSteer writes it."""
    names = {"user": "User", "assistant": "Assistant"}
    parts = [f"<extra_id_1>{names[turn['role']]}\n{turn['content']}" for turn in turns]
    return "\n".join(parts).removeprefix("<extra_id_1>User\n")


def tree(turns: Turns, pair: Pair) -> Row:
    """Turns as OASST nests them, with ranked replies after the last."""
    role, text = {"user": "prompter", "assistant": "assistant"}[turns[0]["role"]], turns[0]["content"]
    if len(turns) > 1:
        return {"role": role, "text": text, "replies": [tree(turns[1:], pair)]}
    ranks = ((1, pair.rejected), (0, pair.chosen), (None, "Not ranked."))
    replies = [{"role": "assistant", "text": reply, "rank": rank, "replies": []} for rank, reply in ranks]
    return {"role": role, "text": text, "replies": replies}


ANY = (SINGLE, DIALOGUE, SYSTEM)
CHAT = (SINGLE, DIALOGUE)
MESSAGE_LAYOUTS: dict[str, tuple[tuple[st.SearchStrategy[Turns], ...], Writer]] = {
    "trl": (ANY, lambda pair, form: [{"prompt": form(pair.prompt), **_sides(pair, form, [])}]),
    "trl whole": (ANY, lambda pair, form: [{"prompt": form(pair.prompt), **_sides(pair, form, pair.prompt)}]),
    "trl text and whole": (
        CHAT,
        lambda pair, form: [{"prompt": pair.text, **_sides(pair, form, pair.prompt)}],
    ),
    "trl-implicit": (ANY, lambda pair, form: [_sides(pair, form, pair.prompt)]),
    "messages": (ANY, lambda pair, form: [{"messages": form(pair.prompt), **_sides(pair, form, [])}]),
    "sharegpt": (ANY, lambda pair, form: [{"conversations": form(pair.prompt), **_sides(pair, form, [])}]),
    "context": (ANY, lambda pair, form: [{"context": form(pair.prompt), **_sides(pair, form, [])}]),
    "ultrainteract": (
        ANY,
        lambda pair, form: [
            {"trajectory": form(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected}
        ],
    ),
    "ms-swift": (
        ANY,
        lambda pair, form: [
            {"messages": form([*pair.prompt, assistant(pair.chosen)]), "rejected_response": pair.rejected}
        ],
    ),
    "ms-swift-messages": (
        ANY,
        lambda pair, form: [
            {
                "messages": form([*pair.prompt, assistant(pair.chosen)]),
                "rejected_messages": form([*pair.prompt, assistant(pair.rejected)]),
            }
        ],
    ),
    "nemo-rl": (
        ANY,
        lambda pair, form: [
            {
                "context": form(pair.prompt),
                "completions": [
                    {"rank": 2, "completion": form([assistant(pair.rejected)])},
                    {"rank": 0, "completion": form([assistant(pair.chosen)])},
                    {"rank": 1, "completion": form([assistant("Between.")])},
                ],
            }
        ],
    ),
    "helpsteer3-edits": (
        ANY,
        lambda pair, form: [
            {
                "context": form(pair.prompt),
                "good_edited_response": pair.chosen,
                "bad_edited_response": pair.rejected,
            }
        ],
    ),
    "openai": (
        ANY,
        lambda pair, form: [
            {
                "input": {"messages": form(pair.prompt)},
                "preferred_output": form([assistant(pair.chosen)]),
                "non_preferred_output": form([assistant(pair.rejected)]),
            }
        ],
    ),
    "helpsteer3": (
        ANY,
        lambda pair, form: [
            {
                "context": form(pair.prompt),
                "response1": pair.rejected,
                "response2": pair.chosen,
                "overall_preference": 2,
            }
        ],
    ),
    "kto": (
        ANY,
        lambda pair, form: [
            {"prompt": form(pair.prompt), "completion": form([assistant(reply)]), "label": label}
            for reply, label in ((pair.rejected, False), (pair.chosen, True))
        ],
    ),
    "ultrafeedback-binarized": (
        CHAT,
        lambda pair, form: [
            {
                "prompt": pair.text,
                "messages": form([*pair.prompt, assistant(pair.chosen)]),
                **_sides(pair, form, pair.prompt),
            }
        ],
    ),
    "orpo-mix": (
        CHAT,
        lambda pair, form: [
            {"prompt": pair.text, "question": pair.text, **_sides(pair, form, pair.prompt)},
        ],
    ),
    "arena": (
        ANY,
        lambda pair, form: [
            {
                "conversation_a": form([*pair.prompt, assistant(pair.rejected)]),
                "conversation_b": form([*pair.prompt, assistant(pair.chosen)]),
                "winner": "model_b",
            }
        ],
    ),
}
"""Layouts whose columns hold lists of turns: what their prompts may be, and how they write a pair."""
TEXT_LAYOUTS: dict[str, tuple[tuple[st.SearchStrategy[Turns], ...], Writer]] = {
    "trl": ((SINGLE,), _texts("prompt")),
    "orca-question": ((SINGLE,), _texts("question")),
    "orca-question with system": ((SYSTEM,), _system("question")),
    "orca-instruction": ((SINGLE,), _texts("instruction")),
    "orca-input": ((SYSTEM,), _system("input")),
    "hh-rlhf": (
        CHAT,
        lambda pair, form: [
            {
                "chosen": hh([*pair.prompt, assistant(pair.chosen)]),
                "rejected": hh([*pair.prompt, assistant(pair.rejected)]),
            }
        ],
    ),
    "hh-rlhf-prompt": (
        CHAT,
        lambda pair, form: [
            {
                "prompt": f"{hh(pair.prompt)}\n\nAssistant:",
                "chosen": f" {pair.chosen}",
                "rejected": f" {pair.rejected}",
            }
        ],
    ),
    "argilla": (
        (SINGLE,),
        lambda pair, form: [
            {
                "instruction": pair.text,
                "chosen_response": pair.chosen,
                "rejected_response": pair.rejected,
            }
        ],
    ),
    "nemo-binary": (
        (SINGLE,),
        lambda pair, form: [
            {"prompt": pair.text, "chosen_response": pair.chosen, "rejected_response": pair.rejected}
        ],
    ),
    "label-studio": (
        (SINGLE,),
        lambda pair, form: [
            {
                "data": {"prompt": pair.text, "answer1": pair.rejected, "answer2": pair.chosen},
                "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "right"}}]}] * 2,
            }
        ],
    ),
    "fastchat": (
        (SINGLE,),
        lambda pair, form: [
            {
                "prompt": pair.text,
                "response_1": pair.rejected,
                "response_2": pair.chosen,
                "winner": "model_2",
            }
        ],
    ),
    "kto of texts": (
        (SINGLE,),
        lambda pair, form: [
            {"prompt": pair.text, "completion": pair.chosen, "label": "True"},
            {"prompt": pair.text, "completion": pair.rejected, "label": "False"},
        ],
    ),
    "arena-55k": (
        (SINGLE,),
        lambda pair, form: [
            {
                "prompt": [pair.text],
                "response_a": json.dumps([pair.rejected]),
                "response_b": json.dumps([pair.chosen], ensure_ascii=False),
                "winner_model_a": "0",
                "winner_model_b": "1",
            }
        ],
    ),
    "summarize-from-feedback": (
        (SINGLE,),
        lambda pair, form: [
            {
                "info": {"post": pair.text, "title": "Tea"},
                "summaries": [{"text": pair.chosen, "policy": "a"}, {"text": pair.rejected, "policy": "b"}],
                "choice": 0,
            }
        ],
    ),
    "ultrafeedback": ((SINGLE,), _scored("instruction", "completions")),
    "stack-exchange": ((SINGLE,), _scored("question", "answers")),
    "distilabel-instruction": (
        (SINGLE,),
        lambda pair, form: [
            {"instruction": pair.text, "generations": [pair.rejected, pair.chosen], "ratings": [1, 5.0]}
        ],
    ),
    "distilabel-prompt": (
        (SINGLE,),
        lambda pair, form: [
            {"prompt": pair.text, "generations": [pair.chosen, pair.rejected], "ratings": ["5", "1"]}
        ],
    ),
    "rewardbench2": (
        (SINGLE,),
        lambda pair, form: [{"prompt": pair.text, "chosen": [pair.chosen], "rejected": [pair.rejected]}],
    ),
    "helpsteer": (
        (SINGLE,),
        lambda pair, form: [
            {"prompt": pair.text, "response": pair.rejected, "helpfulness": 1},
            {"prompt": pair.text, "response": pair.chosen, "helpfulness": 4},
        ],
    ),
    "helpsteer2-preference": (
        (SINGLE,),
        lambda pair, form: [
            {
                "prompt": pair.text,
                "response_1": pair.chosen,
                "response_2": pair.rejected,
                "preference_strength": -1,
            }
        ],
    ),
    "safe-rlhf-better": (
        (SINGLE,),
        lambda pair, form: [
            {
                "prompt": pair.text,
                "response_0": pair.rejected,
                "response_1": pair.chosen,
                "better_response_id": 1,
                "safer_response_id": 0,
            }
        ],
    ),
    "safe-rlhf-safer": (
        (SINGLE,),
        lambda pair, form: [
            {
                "prompt": pair.text,
                "response_0": pair.chosen,
                "response_1": pair.rejected,
                "safer_response_id": 0,
            }
        ],
    ),
    "distilabel-dpo": (
        (SINGLE,),
        lambda pair, form: [
            {"generations": [pair.rejected, pair.chosen], **_texts("prompt")(pair, form)[0]},
        ],
    ),
    "shp": ((SINGLE,), _labelled("history", "human_ref_A", "human_ref_B", "labels", 0)),
    "judgebench": ((SINGLE,), _labelled("question", "response_A", "response_B", "label", "B>A")),
    "arena-text": ((SINGLE,), _labelled("prompt", "response_a", "response_b", "winner", "model_b")),
    "medical-gpt": (
        (SINGLE,),
        lambda pair, form: [
            {"question": pair.text, "response_chosen": pair.chosen, "response_rejected": pair.rejected}
        ],
    ),
    "ms-swift-query with history": (
        (DIALOGUE,),
        lambda pair, form: [
            {
                "query": pair.text,
                "response": pair.chosen,
                "rejected_response": pair.rejected,
                "history": [[turn["content"] for turn in pair.prompt[:2]]],
            }
        ],
    ),
    "stack-exchange-paired": (
        (SINGLE,),
        lambda pair, form: [{"question": pair.text, "response_j": pair.chosen, "response_k": pair.rejected}],
    ),
    "llmbar": ((SINGLE,), _labelled("input", "output_1", "output_2", "label", 2)),
    "offsetbias": ((SINGLE,), _labelled("instruction", "output_1", "output_2", "label", "2")),
    "alpaca-eval": ((SINGLE,), _labelled("instruction", "output_1", "output_2", "preference", "2.0")),
    "nectar": (
        CHAT,
        lambda pair, form: [
            {
                "prompt": f"{hh(pair.prompt)}\n\nAssistant: ",
                "answers": [{"answer": pair.rejected, "rank": 7.0}, {"answer": pair.chosen, "rank": 1}],
            }
        ],
    ),
    "oasst": (
        CHAT,
        lambda pair, form: [{"message_tree_id": "1", "prompt": tree(pair.prompt, pair)}],
    ),
    "webgpt": (
        (SINGLE,),
        lambda pair, form: [
            {
                "question": {"id": "1", "full_text": pair.text},
                "answer_0": pair.chosen,
                "answer_1": pair.rejected,
                "score_0": 0.25,
                "score_1": -0.25,
            }
        ],
    ),
    "helpsteer with turns": (
        CHAT,
        lambda pair, form: [
            {"prompt": steer(pair.prompt), "response": pair.rejected, "helpfulness": 0},
            {"prompt": steer(pair.prompt), "response": pair.chosen, "helpfulness": 3},
        ],
    ),
    "trl with system_prompt": (
        (SYSTEM,),
        lambda pair, form: [
            {"system_prompt": pair.prompt[0]["content"], **_texts("prompt")(pair, form)[0]},
        ],
    ),
    "orca-instruction with history": (
        (DIALOGUE,),
        lambda pair, form: [
            {
                "history": [[turn["content"] for turn in pair.prompt[:2]]],
                **_texts("instruction")(pair, form)[0],
            }
        ],
    ),
}
"""Layouts whose columns hold texts."""
