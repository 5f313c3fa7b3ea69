"""The layouts: how columns of foreign files are read as preferences, with the source and an example."""

from . import row_readers as rows
from .dialogue_text import is_hh, is_whole_hh
from .layout import (
    SIDES,
    Layout,
    Test,
    anything,
    conversation,
    flag,
    items,
    mapping,
    objects,
    pair,
    plain_text,
    side,
    text,
    text_lists,
    texts,
    tree,
    turns,
)

# The rows of the examples: "No, a leaf." is better than "Yes.".
_PROMPT, _GOOD, _BAD = "Is tea a fruit?", "No, a leaf.", "Yes."
_USER = [{"role": "user", "content": _PROMPT}]
_GOOD_TURNS, _BAD_TURNS = [[{"role": "assistant", "content": answer}] for answer in (_GOOD, _BAD)]
_REPLIES = {"chosen": _GOOD, "rejected": _BAD}
_CONVERSATIONS = {"chosen": _USER + _GOOD_TURNS, "rejected": _USER + _BAD_TURNS}
_HH = f"\n\nHuman: {_PROMPT}\n\nAssistant:"
_SIDES: dict[str, Test] = dict.fromkeys(SIDES, side)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="trl",
        title="TRL, explicit prompt",
        source="TRL dataset formats; RewardBench",
        columns={"prompt": side, **_SIDES},
        absent=["generations"],
        read=pair("prompt"),
        example={"prompt": _USER, "chosen": _GOOD_TURNS, "rejected": _BAD_TURNS},
    ),
    Layout(
        name="trl-implicit",
        title="TRL, implicit prompt",
        source="TRL dataset formats",
        columns=dict.fromkeys(SIDES, turns),
        read=pair(None),
        example=_CONVERSATIONS,
    ),
    Layout(
        name="kto",
        title="TRL, unpaired preference",
        source="TRL dataset formats",
        columns={"prompt": side, "completion": side, "label": flag},
        groups_by="prompt",
        read=rows.kto,
        rule="the rows of a prompt together, each true reply over each false one",
        example={"prompt": _PROMPT, "completion": _GOOD, "label": True},
    ),
    Layout(
        name="orpo-mix",
        title="ORPO-DPO mix",
        source="mlabonne/orpo-dpo-mix-40k",
        columns={"prompt": text, "question": text, **dict.fromkeys(SIDES, conversation)},
        read=rows.same_prompt("prompt", "question"),
        example={"prompt": _PROMPT, "question": _PROMPT, **_CONVERSATIONS},
    ),
    Layout(
        name="ultrafeedback-binarized",
        title="UltraFeedback, binarized",
        source="HuggingFaceH4/ultrafeedback_binarized",
        columns={"prompt": side, "messages": conversation, **dict.fromkeys(SIDES, conversation)},
        read=pair("prompt"),
        example={"prompt": _PROMPT, "messages": _CONVERSATIONS["chosen"], **_CONVERSATIONS},
    ),
    Layout(
        name="hh-rlhf",
        title="HH-RLHF",
        source="Anthropic/hh-rlhf",
        columns=dict.fromkeys(SIDES, is_whole_hh),
        read=rows.read_hh_pair,
        example={name: f"{_HH} {reply}" for name, reply in _REPLIES.items()},
    ),
    Layout(
        name="hh-rlhf-prompt",
        title="HH-RLHF with a prompt column",
        source="copies of Anthropic/hh-rlhf",
        columns={"prompt": is_hh, **dict.fromkeys(SIDES, text)},
        read=rows.read_hh_replies,
        example={"prompt": _HH, **_REPLIES},
    ),
    *(
        Layout(
            name=f"orca-{prompt}",
            title="Orca DPO",
            source="Intel/orca_dpo_pairs and its copies",
            columns={prompt: text, **_SIDES},
            optional=("status",),
            read=pair(prompt),
            example={"system": "Be brief.", prompt: _PROMPT, **_REPLIES},
        )
        for prompt in ("question", "instruction", "input")
    ),
    *(
        Layout(
            name=name,
            title=title,
            source=source,
            columns={prompt: turns, **_SIDES},
            read=pair(prompt),
            example={
                prompt: [{"from": "human", "value": _PROMPT}],
                **{side: {"from": "gpt", "value": reply} for side, reply in _REPLIES.items()},
            },
        )
        for name, title, source, prompt in (
            ("sharegpt", "ShareGPT preference", "LLaMA-Factory", "conversations"),
            ("messages", "Preference after messages", "axolotl", "messages"),
            ("context", "Preference after a context", "PKU-Alignment/processed-hh-rlhf", "context"),
            ("ultrainteract", "UltraInteract pairs", "openbmb/UltraInteract_pair", "trajectory"),
        )
    ),
    Layout(
        name="ms-swift",
        title="ms-swift preference",
        source="ms-swift's guide to custom datasets",
        columns={"messages": conversation, "rejected_response": text},
        read=rows.swift,
        example={"messages": _CONVERSATIONS["chosen"], "rejected_response": _BAD},
    ),
    Layout(
        name="ms-swift-messages",
        title="ms-swift preference, both conversations",
        source="ms-swift's guide to custom datasets",
        columns={"messages": conversation, "rejected_messages": conversation},
        read=rows.renamed(pair(None), chosen="messages", rejected="rejected_messages"),
        example={"messages": _CONVERSATIONS["chosen"], "rejected_messages": _CONVERSATIONS["rejected"]},
    ),
    Layout(
        name="nemo-rl",
        title="NeMo RL preferences",
        source="NeMo RL's guide to DPO",
        columns={"context": turns, "completions": objects},
        read=rows.nemo_rl,
        rule="the lowest rank over the highest",
        example={
            "context": _USER,
            "completions": [
                {"rank": 1, "completion": _BAD_TURNS},
                {"rank": 0, "completion": _GOOD_TURNS},
            ],
        },
    ),
    Layout(
        name="label-studio",
        title="Label Studio, pairwise",
        source="Label Studio's template of human preferences, exported as JSON",
        columns={"data": rows.is_pairwise_task, "annotations": objects},
        read=rows.label_studio,
        example={
            "data": {"prompt": _PROMPT, "answer1": _BAD, "answer2": _GOOD},
            "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "right"}}]}],
        },
    ),
    Layout(
        name="openai",
        title="OpenAI preference fine-tuning",
        source="OpenAI's fine-tuning guide",
        columns=dict.fromkeys(("input", "preferred_output", "non_preferred_output"), turns),
        read=rows.renamed(pair("input"), chosen="preferred_output", rejected="non_preferred_output"),
        example={
            "input": {"messages": _USER},
            "preferred_output": _GOOD_TURNS,
            "non_preferred_output": _BAD_TURNS,
        },
    ),
    Layout(
        name="ultrafeedback",
        title="UltraFeedback",
        source="openbmb/UltraFeedback",
        columns={"instruction": text, "completions": objects},
        read=rows.ultrafeedback,
        rule="the best completion over the worst, by overall_score or the mean rating",
        example={
            "instruction": _PROMPT,
            "completions": [{"response": _GOOD, "overall_score": 8}, {"response": _BAD, "overall_score": 2}],
        },
    ),
    *(
        Layout(
            name=f"distilabel-{prompt}",
            title="Argilla and distilabel",
            source="distilabel's UltraFeedback task",
            columns={prompt: anything, "generations": texts, "ratings": items},
            absent=["chosen"],
            optional=("generation_models",),
            read=rows.distilabel(prompt),
            rule="the best generation over the worst, by ratings",
            example={prompt: _PROMPT, "generations": [_GOOD, _BAD], "ratings": [5, 1]},
        )
        for prompt in ("instruction", "prompt")
    ),
    Layout(
        name="distilabel-dpo",
        title="distilabel's FormatTextGenerationDPO",
        source="distilabel",
        columns={"prompt": anything, "generations": texts, **_SIDES},
        optional=["instruction"],
        read=rows.same_prompt("prompt", "instruction"),
        example={"prompt": _PROMPT, "generations": [_BAD, _GOOD], **_CONVERSATIONS, "instruction": _PROMPT},
    ),
    *(
        Layout(
            name=name,
            title=title,
            source=source,
            columns=dict.fromkeys((prompt, chosen, rejected), text),
            absent=SIDES,
            read=rows.renamed(pair(prompt), chosen=chosen, rejected=rejected),
            example={prompt: _PROMPT, chosen: _GOOD, rejected: _BAD},
        )
        for name, title, source, prompt, chosen, rejected in (
            (
                *("argilla", "Argilla, binarized", "argilla/ultrafeedback-binarized-preferences"),
                *("instruction", "chosen_response", "rejected_response"),
            ),
            (
                *("nemo-binary", "NeMo RL, binary preferences", "NeMo RL's DPODataset"),
                *("prompt", "chosen_response", "rejected_response"),
            ),
            (
                *("medical-gpt", "MedicalGPT preference", "shibing624/DPO-En-Zh-20k-Preference"),
                *("question", "response_chosen", "response_rejected"),
            ),
            (
                *("ms-swift-query", "ms-swift 2 preference", "ms-swift 2's guide to custom datasets"),
                *("query", "response", "rejected_response"),
            ),
        )
    ),
    Layout(
        name="rewardbench2",
        title="RewardBench 2",
        source="allenai/reward-bench-2; THU-KEG/RM-Bench",
        columns={"prompt": anything, **dict.fromkeys(SIDES, text_lists)},
        optional=["num_correct", "domain"],
        read=rows.rewardbench2,
        rule="each chosen reply over each rejected one",
        example={"prompt": _PROMPT, "chosen": [_GOOD], "rejected": [_BAD]},
    ),
    Layout(
        name="helpsteer",
        title="HelpSteer ratings",
        source="nvidia/HelpSteer2",
        columns={"prompt": anything, "response": text, "helpfulness": anything},
        groups_by="prompt",
        read=rows.helpsteer,
        rule="the rows of a prompt together, the best response over the worst, by helpfulness",
        example={"prompt": _PROMPT, "response": _GOOD, "helpfulness": 4},
    ),
    Layout(
        name="helpsteer2-preference",
        title="HelpSteer2 preferences",
        source="nvidia/HelpSteer2",
        columns={"prompt": anything, "response_1": text, "response_2": text, "preference_strength": anything},
        labels={"preference_strength": rows.are_signed},
        read=rows.labelled(("response_1", "response_2"), "preference_strength", rows.by_sign),
        example={"prompt": _PROMPT, "response_1": _GOOD, "response_2": _BAD, "preference_strength": -2},
    ),
    Layout(
        name="helpsteer3-edits",
        title="HelpSteer3 edits",
        source="nvidia/HelpSteer3, edit_quality",
        columns={"context": turns, "good_edited_response": text, "bad_edited_response": text},
        read=rows.renamed(pair("context"), chosen="good_edited_response", rejected="bad_edited_response"),
        example={"context": _USER, "good_edited_response": _GOOD, "bad_edited_response": _BAD},
    ),
    Layout(
        name="helpsteer3",
        title="HelpSteer3 preferences",
        source="nvidia/HelpSteer3",
        columns={"context": turns, "response1": text, "response2": text, "overall_preference": anything},
        labels={"overall_preference": rows.are_signed},
        read=rows.labelled(("response1", "response2"), "overall_preference", rows.by_sign, "context"),
        example={"context": _USER, "response1": _BAD, "response2": _GOOD, "overall_preference": 3},
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
            optional=("response_0_source", "response_1_source"),
            absent=[f"{name}_response_id" for name in better_labels],
            labels={f"{label}_response_id": {0, 1}.issuperset},
            read=rows.labelled(
                ("response_0", "response_1"),
                f"{label}_response_id",
                rows.by_value(0, 1),
                models=("response_0_source", "response_1_source"),
            ),
            example={"prompt": _PROMPT, "response_0": _BAD, "response_1": _GOOD, f"{label}_response_id": 1},
        )
        for label, *better_labels in (("better",), ("safer", "better"))
    ),
    Layout(
        name="stack-exchange",
        title="Stack Exchange preferences",
        source="HuggingFaceH4/stack-exchange-preferences",
        columns={"question": text, "answers": objects},
        read=rows.stack_exchange,
        rule="of each two answers the one with the higher pm_score",
        example={
            "question": _PROMPT,
            "answers": [{"text": _GOOD, "pm_score": 4}, {"text": _BAD, "pm_score": 0}],
        },
    ),
    Layout(
        name="stack-exchange-paired",
        title="Stack Exchange, paired",
        source="lvwerra/stack-exchange-paired",
        columns=dict.fromkeys(("question", "response_j", "response_k"), text),
        read=rows.renamed(pair("question"), chosen="response_j", rejected="response_k"),
        example={"question": _PROMPT, "response_j": _GOOD, "response_k": _BAD},
    ),
    Layout(
        name="fastchat",
        title="FastChat judgments",
        source="lm-sys/FastChat, MT-bench",
        columns=dict.fromkeys(("prompt", "response_1", "response_2", "winner"), text),
        optional=("model_1", "model_2"),
        read=rows.labelled(
            ("response_1", "response_2"),
            "winner",
            rows.by_value("model_1", "model_2"),
            models=("model_1", "model_2"),
        ),
        example={"prompt": _PROMPT, "response_1": _BAD, "response_2": _GOOD, "winner": "model_2"},
    ),
    Layout(
        name="arena",
        title="Chatbot Arena",
        source="lmsys/chatbot_arena_conversations; lmsys/mt_bench_human_judgments",
        columns={"conversation_a": turns, "conversation_b": turns, "winner": text},
        optional=("model_a", "model_b", "turn", *rows.EARLIER),
        read=rows.up_to_turn(
            rows.labelled(
                ("conversation_a", "conversation_b"),
                "winner",
                rows.by_value("model_a", "model_b"),
                None,
                ("model_a", "model_b"),
            ),
            "conversation_a",
            "conversation_b",
        ),
        example={
            "conversation_a": _CONVERSATIONS["chosen"],
            "conversation_b": _CONVERSATIONS["rejected"],
            "winner": "model_a",
        },
    ),
    Layout(
        name="arena-text",
        title="Chatbot Arena, texts",
        source="LMArena's set of the WSDM Cup",
        columns={"prompt": plain_text, **dict.fromkeys(("response_a", "response_b", "winner"), text)},
        optional=("model_a", "model_b"),
        read=rows.labelled(
            ("response_a", "response_b"),
            "winner",
            rows.by_value("model_a", "model_b"),
            models=("model_a", "model_b"),
        ),
        example={"prompt": _PROMPT, "response_a": _BAD, "response_b": _GOOD, "winner": "model_b"},
    ),
    Layout(
        name="arena-55k",
        title="Chatbot Arena, 55k",
        source="lmarena-ai/arena-human-preference-55k",
        columns={
            **dict.fromkeys(("prompt", "response_a", "response_b"), text_lists),
            **dict.fromkeys(("winner_model_a", "winner_model_b"), flag),
        },
        optional=("model_a", "model_b", "winner_tie"),
        read=rows.arena_55k,
        example={
            **{"prompt": f'["{_PROMPT}"]', "response_a": f'["{_BAD}"]', "response_b": f'["{_GOOD}"]'},
            **{"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
        },
    ),
    Layout(
        name="summarize-from-feedback",
        title="Summaries compared",
        source="openai/summarize_from_feedback",
        columns={"info": mapping, "summaries": objects, "choice": anything},
        labels={"choice": {0, 1}.issuperset},
        read=rows.summaries,
        example={"info": {"post": _PROMPT}, "summaries": [{"text": _BAD}, {"text": _GOOD}], "choice": 1},
    ),
    Layout(
        name="shp",
        title="Stanford Human Preferences",
        source="stanfordnlp/SHP",
        columns={"history": text, "human_ref_A": text, "human_ref_B": text, "labels": anything},
        labels={"labels": {0, 1}.issuperset},
        read=rows.labelled(("human_ref_A", "human_ref_B"), "labels", rows.by_value(1, 0), "history"),
        example={"history": _PROMPT, "human_ref_A": _BAD, "human_ref_B": _GOOD, "labels": 0},
    ),
    Layout(
        name="judgebench",
        title="JudgeBench",
        source="ScalerLab/JudgeBench",
        columns=dict.fromkeys(("question", "response_A", "response_B", "label"), text),
        read=rows.labelled(("response_A", "response_B"), "label", rows.by_value("A>B", "B>A"), "question"),
        example={"question": _PROMPT, "response_A": _BAD, "response_B": _GOOD, "label": "B>A"},
    ),
    Layout(
        name="alpaca-eval",
        title="AlpacaEval annotations",
        source="tatsu-lab/alpaca_eval",
        columns={"instruction": text, "output_1": text, "output_2": text, "preference": anything},
        optional=("generator_1", "generator_2"),
        labels={"preference": rows.are_nearness},
        read=rows.labelled(
            ("output_1", "output_2"),
            "preference",
            rows.by_nearness,
            "instruction",
            ("generator_1", "generator_2"),
        ),
        example={"instruction": _PROMPT, "output_1": _BAD, "output_2": _GOOD, "preference": 2},
    ),
    *(
        Layout(
            name=name,
            title=title,
            source=source,
            columns={prompt: text, "output_1": text, "output_2": text, "label": anything},
            labels={"label": {1, 2}.issuperset},
            read=rows.labelled(("output_1", "output_2"), "label", rows.by_value(1, 2), prompt),
            example={prompt: _PROMPT, "output_1": _BAD, "output_2": _GOOD, "label": 2},
        )
        for name, title, source, prompt in (
            ("llmbar", "LLMBar", "princeton-nlp/LLMBar", "input"),
            ("offsetbias", "OffsetBias", "NCSOFT/offsetbias", "instruction"),
        )
    ),
    Layout(
        name="nectar",
        title="Nectar",
        source="berkeley-nest/Nectar",
        columns={"prompt": is_hh, "answers": objects},
        read=rows.nectar,
        rule="the lowest rank over the highest",
        example={"prompt": _HH, "answers": [{"answer": _BAD, "rank": 7.0}, {"answer": _GOOD, "rank": 1.0}]},
    ),
    Layout(
        name="oasst",
        title="OASST trees",
        source="OpenAssistant/oasst1 and oasst2, the files of ready trees",
        columns={"message_tree_id": text, "prompt": tree},
        read=rows.oasst,
        rule="after each turn the lowest rank over the highest",
        example={
            "message_tree_id": "1",
            "prompt": {
                "role": "prompter",
                "text": _PROMPT,
                "replies": [
                    {"role": "assistant", "text": text, "rank": rank, "replies": []}
                    for rank, text in ((1, _BAD), (0, _GOOD))
                ],
            },
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
        read=rows.webgpt,
        example={
            "question": {"full_text": _PROMPT},
            **{"answer_0": _BAD, "answer_1": _GOOD, "score_0": -1, "score_1": 1},
        },
    ),
)
