"""The layouts: how columns of foreign files are read as preferences, with the source and an example."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from ..models.chat import Messages
from . import html_text
from .conversations import (
    Conversation,
    Unusable,
    check_prompt,
    check_reply,
    read_hh,
    read_prompt,
    read_reply,
    read_steer,
)
from .layout import (
    SIDES,
    Cells,
    Layout,
    Preference,
    Side,
    Test,
    anything,
    hh_text,
    items,
    mapping,
    name_of,
    number_of,
    objects,
    pair,
    preference,
    side,
    text,
    texts,
    turns,
    whole_hh_text,
)

PROMPT_COLUMNS = (
    "prompt",
    "question",
    "instruction",
    "query",
    "input",
    "messages",
    "conversations",
    "context",
)
"""Columns that can hold a prompt: a layout without one is only for files that have none of these."""


def read_hh_pair(row: Cells) -> list[Preference]:
    """Both sides are whole dialogues as text."""
    conversations = []
    for column in SIDES:
        if not row.get(column):
            raise Unusable("no_reply")
        *head, last = read_hh(row[column])
        if last["role"] != "assistant":
            raise Unusable("no_reply")
        conversations.append(Conversation(check_prompt(tuple(head)), last["content"]))
    return [preference(conversations)]


def read_hh_replies(row: Cells) -> list[Preference]:
    """Replies after a dialogue as text in `prompt`."""
    prompt = read_prompt(row.get("prompt") and read_hh(row["prompt"]))
    replies = (read_reply(row.get(side), prompt) for side in SIDES)
    return [preference([replace(reply, reply=reply.reply.strip()) for reply in replies])]


def _openai_pair(row: Cells) -> list[Preference]:
    """OpenAI's preference fine-tuning: `input.messages`, `preferred_output`, `non_preferred_output`."""
    prompt = read_prompt(row.get("input"))
    outputs = ("preferred_output", "non_preferred_output")
    return [preference([read_reply(row.get(name), prompt) for name in outputs])]


def _ranked(prompt: Messages, responses: Iterable[Side]) -> list[Preference]:
    """The best response over the worst, by score."""
    scored = [side for side in responses if side.score is not None and side.text.strip()]
    ordered = sorted(scored, key=lambda side: -(side.score or 0.0))
    if len(ordered) < 2 or ordered[0].score == ordered[-1].score:
        raise Unusable("no_preference")
    best, worst = ordered[0], ordered[-1]
    sides = [Conversation(prompt, check_reply(side.text)) for side in (best, worst)]
    return [preference(sides, (best.model, worst.model), (best.score, worst.score))]


def _ultrafeedback(row: Cells) -> list[Preference]:
    """`completions` with `overall_score`, or with the mean of the annotations' ratings."""
    prompt = read_prompt(row.get("instruction"))
    responses = [
        Side(_text(item.get("response")), name_of(item.get("model")), _ultrafeedback_score(item))
        for item in row.get("completions") or ()
    ]
    return _ranked(prompt, responses)


def _ultrafeedback_score(completion: Cells) -> float | None:
    if (overall := number_of(completion.get("overall_score"))) is not None:
        return overall
    annotations = completion.get("annotations")
    values = annotations.values() if isinstance(annotations, dict) else ()
    numbers = [number_of(value.get("Rating")) for value in values if isinstance(value, dict)]
    ratings = [number for number in numbers if number is not None]
    return sum(ratings) / len(ratings) if ratings else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _distilabel(prompt: str) -> Callable[[Cells], list[Preference]]:
    """`generations` with `ratings`, and their models where they are named."""

    def read(row: Cells) -> list[Preference]:
        turns = read_prompt(row.get(prompt), row.get("system_prompt"))
        generations, ratings = row.get("generations") or [], row.get("ratings") or []
        models = row.get("generation_models")
        models = models if isinstance(models, list) else [None] * len(generations)
        if not len(generations) == len(ratings) == len(models):
            raise Unusable("no_preference", "generations, ratings and models are not of one length")
        sides = zip(generations, models, ratings, strict=True)
        return _ranked(turns, [Side(_text(t), name_of(m), number_of(r)) for t, m, r in sides])

    return read


def _rewardbench2(row: Cells) -> list[Preference]:
    """Every right reply over every wrong one."""
    prompt = read_prompt(row.get("prompt"))
    chosen, rejected = ([read_reply(reply, prompt) for reply in row.get(side) or ()] for side in SIDES)
    if not chosen or not rejected:
        raise Unusable("no_reply")
    return [preference([right, wrong]) for right in chosen for wrong in rejected]


def _helpsteer(row: Cells) -> list[Preference]:
    """Rows of one prompt, the most helpful response over the least."""
    rows = row["rows"]
    prompt = read_prompt(read_steer(rows[0].get("prompt")))
    return _ranked(
        prompt, [Side(_text(r.get("response")), None, number_of(r.get("helpfulness"))) for r in rows]
    )


def _labelled(
    sides: Sequence[str],
    label: str,
    winners: Mapping[Any, int],
    models: Sequence[str] = (),
    prompt: str | None = "prompt",
) -> Callable[[Cells], list[Preference]]:
    """Two replies, or two whole conversations, and a label; `winners`: label -> place of the better one."""

    def read(row: Cells) -> list[Preference]:
        turns = read_prompt(row.get(prompt)) if prompt else None
        value = row.get(label)
        number = number_of(value)
        better = winners.get(value.strip() if isinstance(value, str) and number is None else number)
        if better is None:
            raise Unusable("no_preference")
        places = (better, 1 - better)
        names = [name_of(row.get(models[place])) if models else None for place in places]
        return [preference([read_reply(row.get(sides[place]), turns) for place in places], names)]

    return read


def _alpaca_eval(row: Cells) -> list[Preference]:
    """Two outputs and a number from 1, the first is better, to 2, the second is; 1.5 is a tie."""
    number = number_of(row.get("preference"))
    label = None if number is None or number == 1.5 or not 1 <= number <= 2 else round(number)
    models = ("generator_1", "generator_2")
    read = _labelled(("output_1", "output_2"), "preference", {1: 0, 2: 1}, models, "instruction")
    return read({**row, "preference": label})


def _nectar(row: Cells) -> list[Preference]:
    """Replies with ranks after a dialogue as text, the best over the worst."""
    answers = row.get("answers") or ()
    ranks = [number_of(answer.get("rank")) for answer in answers]
    sides = [
        Side(_text(answer.get("answer")), name_of(answer.get("model")), None if rank is None else -rank)
        for answer, rank in zip(answers, ranks, strict=True)
    ]
    [ranked] = _ranked(read_prompt(row.get("prompt") and read_hh(row["prompt"])), sides)
    return [replace(ranked, **{side: replace(getattr(ranked, side), score=None) for side in SIDES})]


def _webgpt(row: Cells) -> list[Preference]:
    """Two answers, each with a score."""
    question = row.get("question")
    prompt = read_prompt(question.get("full_text") if isinstance(question, dict) else None)
    return _ranked(
        prompt, [Side(_text(row.get(f"answer_{n}")), None, number_of(row.get(f"score_{n}"))) for n in "01"]
    )


def _strength(prompt: str, names: Sequence[str], strength: str) -> Callable[[Cells], list[Preference]]:
    """Two responses and how much better the second one is than the first, below 0 the other way."""

    def read(row: Cells) -> list[Preference]:
        turns = read_prompt(read_steer(row.get(prompt)))
        gap = number_of(row.get(strength))
        if not gap:
            raise Unusable("no_preference")
        better, worse = names if gap < 0 else reversed(names)
        return [preference([read_reply(row.get(name), turns) for name in (better, worse)])]

    return read


def _argilla(row: Cells) -> list[Preference]:
    """`chosen_response` and `rejected_response`, and the mean of their ratings."""
    sides = {side: row.get(f"{side}_response") for side in SIDES}
    return pair("instruction")({**row, **sides})


def _stack_exchange(row: Cells) -> list[Preference]:
    """Answers with `pm_score`, in HTML: every two with different scores."""
    prompt = read_prompt(_from_html(row.get("question")))
    scored = [(number_of(answer.get("pm_score")), answer.get("text")) for answer in row.get("answers") or ()]
    answers = [
        Side(reply, None, score)
        for score, html in scored
        if score is not None and (reply := _from_html(html))
    ]
    pairs = (sorted(two, key=lambda side: -(side.score or 0.0)) for two in combinations(answers, 2))
    preferences = [
        preference([Conversation(prompt, side.text) for side in two], scores=[side.score for side in two])
        for two in pairs
        if two[0].score != two[1].score and two[0].text != two[1].text
    ]
    if not preferences:
        raise Unusable("no_preference")
    return preferences


def _from_html(html: Any) -> str | None:
    return html_text.to_text(html) if isinstance(html, str) else None


_USER = [{"role": "user", "content": "Is tea a fruit?"}]
_YES, _NO = [[{"role": "assistant", "content": answer}] for answer in ("Yes.", "No, a leaf.")]
_SIDES: dict[str, Test] = {"chosen": side, "rejected": side}
_REPLIES: dict[str, Test] = {"chosen": text, "rejected": text}


_ORCA = {(name, name) for name in ("question", "instruction", "input")} | {("instruction", "input")}
"""Column of the prompt, and columns beside it that hold prompts."""

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="trl",
        title="TRL, explicit prompt",
        source="TRL dataset formats; UltraFeedback-binarized; RewardBench",
        columns={"prompt": side, **_SIDES},
        absent=[*(name for name in PROMPT_COLUMNS if name not in ("prompt", "messages")), "generations"],
        optional=("system",),
        read=pair("prompt"),
        example={"prompt": _USER, "chosen": _NO, "rejected": _YES},
    ),
    Layout(
        name="trl-implicit",
        title="TRL, implicit prompt",
        source="TRL dataset formats",
        columns={"chosen": turns, "rejected": turns},
        absent=PROMPT_COLUMNS,
        read=pair(None),
        example={"chosen": _USER + _NO, "rejected": _USER + _YES},
    ),
    Layout(
        name="hh-rlhf",
        title="HH-RLHF",
        source="Anthropic/hh-rlhf",
        columns={"chosen": whole_hh_text, "rejected": whole_hh_text},
        absent=PROMPT_COLUMNS,
        read=read_hh_pair,
        example={
            "chosen": "\n\nHuman: Is tea a fruit?\n\nAssistant: No, a leaf.",
            "rejected": "\n\nHuman: Is tea a fruit?\n\nAssistant: Yes.",
        },
    ),
    Layout(
        name="hh-rlhf-prompt",
        title="HH-RLHF with a prompt column",
        source="copies of Anthropic/hh-rlhf",
        columns={"prompt": hh_text, **_REPLIES},
        read=read_hh_replies,
        example={
            "prompt": "\n\nHuman: Is tea a fruit?\n\nAssistant:",
            "chosen": " No, a leaf.",
            "rejected": " Yes.",
        },
    ),
    *(
        Layout(
            name=f"orca-{prompt}",
            title="Orca DPO",
            source="Intel/orca_dpo_pairs and its copies",
            columns={prompt: text, **_SIDES},
            optional=("system",),
            absent=[name for name in PROMPT_COLUMNS if (prompt, name) not in _ORCA],
            read=pair(prompt, addition="input" if prompt == "instruction" else None),
            example={
                "system": "Be brief.",
                prompt: "Is tea a fruit?",
                "chosen": "No, a leaf.",
                "rejected": "Yes.",
            },
        )
        for prompt in ("question", "instruction", "input")
    ),
    *(
        Layout(
            name=name,
            title=title,
            source=source,
            columns={column: turns, **_SIDES},
            absent=[name for name in PROMPT_COLUMNS if name != column],
            optional=("system",),
            read=pair(column),
            example={
                column: [{"from": "human", "value": "Is tea a fruit?"}],
                "chosen": {"from": "gpt", "value": "No, a leaf."},
                "rejected": {"from": "gpt", "value": "Yes."},
            },
        )
        for name, title, source, column in (
            ("sharegpt", "ShareGPT preference", "LLaMA-Factory", "conversations"),
            ("messages", "Preference after messages", "axolotl", "messages"),
        )
    ),
    Layout(
        name="openai",
        title="OpenAI preference fine-tuning",
        source="OpenAI's fine-tuning guide",
        columns={
            "input": turns,
            "preferred_output": turns,
            "non_preferred_output": turns,
        },
        read=_openai_pair,
        example={"input": {"messages": _USER}, "preferred_output": _NO, "non_preferred_output": _YES},
    ),
    Layout(
        name="ultrafeedback",
        title="UltraFeedback",
        source="openbmb/UltraFeedback",
        columns={"instruction": text, "completions": objects},
        read=_ultrafeedback,
        example={
            "instruction": "Is tea a fruit?",
            "completions": [
                {"model": "a", "response": "No, a leaf.", "overall_score": 8.0},
                {"model": "b", "response": "Yes.", "overall_score": 2.0},
            ],
        },
    ),
    *(
        Layout(
            name=f"distilabel-{prompt}",
            title="Argilla and distilabel",
            source="distilabel's UltraFeedback task",
            columns={prompt: anything, "generations": texts, "ratings": items},
            absent=[name for name in ("prompt", "instruction", "chosen") if name != prompt],
            optional=("system_prompt", "generation_models"),
            read=_distilabel(prompt),
            example={prompt: "Is tea a fruit?", "generations": ["No, a leaf.", "Yes."], "ratings": [5, 1]},
        )
        for prompt in ("instruction", "prompt")
    ),
    Layout(
        name="rewardbench2",
        title="RewardBench 2",
        source="allenai/reward-bench-2",
        columns={"prompt": anything, "chosen": texts, "rejected": texts},
        read=_rewardbench2,
        example={"prompt": "Is tea a fruit?", "chosen": ["No, a leaf."], "rejected": ["Yes."]},
    ),
    Layout(
        name="helpsteer",
        title="HelpSteer ratings",
        source="nvidia/HelpSteer2",
        columns={"prompt": anything, "response": text, "helpfulness": anything},
        groups_by="prompt",
        read=_helpsteer,
        example={"prompt": "Is tea a fruit?", "response": "No, a leaf.", "helpfulness": 4},
    ),
    *(
        Layout(
            name=f"safe-rlhf-{label}",
            title="PKU-SafeRLHF",
            source="PKU-Alignment/PKU-SafeRLHF",
            columns={
                "prompt": anything,
                "response_0": text,
                "response_1": text,
                f"{label}_response_id": anything,
            },
            absent=() if label == "better" else ("better_response_id",),
            read=_labelled(("response_0", "response_1"), f"{label}_response_id", {0: 0, 1: 1}),
            example={
                "prompt": "Is tea a fruit?",
                "response_0": "Yes.",
                "response_1": "No, a leaf.",
                f"{label}_response_id": 1,
            },
        )
        for label in ("better", "safer")
    ),
    Layout(
        name="stack-exchange",
        title="Stack Exchange preferences",
        source="HuggingFaceH4/stack-exchange-preferences",
        columns={"question": text, "answers": objects},
        read=_stack_exchange,
        example={
            "question": "Is tea a fruit?",
            "answers": [{"text": "No, a leaf.", "pm_score": 4}, {"text": "Yes.", "pm_score": 0}],
        },
    ),
    Layout(
        name="distilabel-dpo",
        title="distilabel's FormatTextGenerationDPO",
        source="distilabel",
        columns={"prompt": anything, "generations": texts, **_SIDES},
        optional=("system",),
        read=pair("prompt"),
        example={
            "instruction": "Is tea a fruit?",
            "generations": ["Yes.", "No, a leaf."],
            "prompt": "Is tea a fruit?",
            "chosen": _USER + _NO,
            "rejected": _USER + _YES,
        },
    ),
    Layout(
        name="argilla",
        title="Argilla, binarized",
        source="argilla/ultrafeedback-binarized-preferences",
        columns={"instruction": text, "chosen_response": text, "rejected_response": text},
        absent=("prompt", "chosen", "rejected"),
        read=_argilla,
        example={
            "instruction": "Is tea a fruit?",
            "chosen_response": "No, a leaf.",
            "rejected_response": "Yes.",
            "chosen_avg_rating": 4.5,
            "rejected_avg_rating": 2.0,
        },
    ),
    Layout(
        name="helpsteer2-preference",
        title="HelpSteer2 preferences",
        source="nvidia/HelpSteer2",
        columns={"prompt": anything, "response_1": text, "response_2": text, "preference_strength": anything},
        read=_strength("prompt", ("response_1", "response_2"), "preference_strength"),
        example={
            "prompt": "Is tea a fruit?",
            "response_1": "No, a leaf.",
            "response_2": "Yes.",
            "preference_strength": -2,
        },
    ),
    Layout(
        name="helpsteer3",
        title="HelpSteer3 preferences",
        source="nvidia/HelpSteer3",
        columns={"context": turns, "response1": text, "response2": text, "overall_preference": anything},
        read=_strength("context", ("response1", "response2"), "overall_preference"),
        example={
            "context": _USER,
            "response1": "Yes.",
            "response2": "No, a leaf.",
            "overall_preference": 3,
        },
    ),
    Layout(
        name="fastchat",
        title="FastChat judgments",
        source="lm-sys/FastChat, MT-bench",
        columns={"prompt": text, "response_1": text, "response_2": text, "winner": text},
        optional=("model_1", "model_2"),
        read=_labelled(
            ("response_1", "response_2"), "winner", {"model_1": 0, "model_2": 1}, ("model_1", "model_2")
        ),
        example={
            "prompt": "Is tea a fruit?",
            "model_1": "small",
            "model_2": "large",
            "response_1": "Yes.",
            "response_2": "No, a leaf.",
            "winner": "model_2",
        },
    ),
    Layout(
        name="arena",
        title="Chatbot Arena",
        source="lmsys/chatbot_arena_conversations",
        columns={"conversation_a": turns, "conversation_b": turns, "winner": text},
        optional=("model_a", "model_b"),
        read=_labelled(
            ("conversation_a", "conversation_b"),
            "winner",
            {"model_a": 0, "model_b": 1},
            ("model_a", "model_b"),
            None,
        ),
        example={
            "model_a": "large",
            "model_b": "small",
            "conversation_a": _USER + _NO,
            "conversation_b": _USER + _YES,
            "winner": "model_a",
        },
    ),
    Layout(
        name="shp",
        title="Stanford Human Preferences",
        source="stanfordnlp/SHP",
        columns={"history": text, "human_ref_A": text, "human_ref_B": text, "labels": anything},
        read=_labelled(("human_ref_A", "human_ref_B"), "labels", {1: 0, 0: 1}, prompt="history"),
        example={
            "history": "Is tea a fruit?",
            "human_ref_A": "Yes.",
            "human_ref_B": "No, a leaf.",
            "labels": 0,
        },
    ),
    Layout(
        name="judgebench",
        title="JudgeBench",
        source="ScalerLab/JudgeBench",
        columns={"question": text, "response_A": text, "response_B": text, "label": text},
        read=_labelled(("response_A", "response_B"), "label", {"A>B": 0, "B>A": 1}, prompt="question"),
        example={
            "question": "Is tea a fruit?",
            "response_A": "Yes.",
            "response_B": "No, a leaf.",
            "label": "B>A",
        },
    ),
    Layout(
        name="alpaca-eval",
        title="AlpacaEval annotations",
        source="tatsu-lab/alpaca_eval",
        columns={"instruction": text, "output_1": text, "output_2": text, "preference": anything},
        optional=("generator_1", "generator_2"),
        read=_alpaca_eval,
        example={
            "instruction": "Is tea a fruit?",
            "output_1": "Yes.",
            "output_2": "No, a leaf.",
            "preference": 2,
        },
    ),
    Layout(
        name="nectar",
        title="Nectar",
        source="berkeley-nest/Nectar",
        columns={"prompt": hh_text, "answers": objects},
        read=_nectar,
        example={
            "prompt": "\n\nHuman: Is tea a fruit?\n\nAssistant: ",
            "answers": [
                {"answer": "Yes.", "rank": 7.0},
                {"answer": "No, a leaf.", "model": "a", "rank": 1.0},
            ],
        },
    ),
    Layout(
        name="webgpt",
        title="WebGPT comparisons",
        source="openai/webgpt_comparisons",
        columns={
            "question": mapping,
            "answer_0": text,
            "answer_1": text,
            "score_0": anything,
            "score_1": anything,
        },
        read=_webgpt,
        example={
            "question": {"full_text": "Is tea a fruit?"},
            "answer_0": "Yes.",
            "answer_1": "No, a leaf.",
            "score_0": -0.5,
            "score_1": 0.5,
        },
    ),
)
