"""TruthfulQA, MC1 (Lin et al. 2021): of a question's answers, one is true.

A language model is asked of each answer whether it is true, and the answer with the highest P("true") is
taken (the paper's way; beside it, P("true") against P("false"), as some answers make either word less
likely). A reward model scores each answer as a reply. Always taking the longest and the shortest answer are
beside it.

Deviation from the paper: its prompt was not published, so the wording is ours. The likelihood of an answer is
what `eval lm-eval --tasks truthfulqa_mc1` goes by.
"""

from dataclasses import dataclass
from functools import partial

from ..generation import prompts
from ..models.chat import user_turn
from ..readers.files import ALL_SPLITS, HubPart, read_rows
from . import choices, sources
from .choices import Benchmark, ChoiceOptions, Scores, Texts, Values
from .evaluation import Evaluation
from .likelihood import Likelihood
from .sources import Item, Items

HUB = "truthfulqa/truthful_qa@741b8276f2d1982aa3d5b832d3ee81ed3b896490"
CONFIG = "multiple_choice"
PROMPT = "truthfulqa_true"


@dataclass(frozen=True, kw_only=True)
class Options(ChoiceOptions):
    data: str = HUB
    """JSONL of question, choices and label, BIG-bench's task_mc.json, or ORG/NAME@REVISION on the Hub."""


def _read(data: str) -> Items:
    if hub := sources.hub_pin(data):
        source = Items(pinned=[hub])
        source.add(CONFIG, read_rows(data, sources.SUFFIXES, part=HubPart(CONFIG, ALL_SPLITS)), data)
    else:
        source = sources.read_files(data)
    if [f"{pinned.id}@{pinned.revision}" for pinned in source.pinned] != [HUB]:
        source.notes.append(f"Not known to be the items of TruthfulQA's MC1, which are those of {HUB}.")
    return source


def _true_or_false(model: Likelihood, item: Item) -> list[list[Texts]]:
    texts: list[list[Texts]] = []
    for answer in item.choices:
        text = prompts.question(PROMPT).format(question=item.text, answer=answer)
        context = model.context(user_turn(text))
        texts.append([(context, model.after(context, word)) for word in ("true", "false")])
    return texts


def _true_values(scores: Scores, notes: list[str]) -> dict[str, Values]:
    return {
        "accuracy": [[true for true, _ in by_answer] for by_answer in scores],
        "accuracy, true against false": [[true - false for true, false in by_answer] for by_answer in scores],
    }


BENCHMARK = Benchmark(
    read=_read,
    metric="true",
    prompt=PROMPT,
    texts=_true_or_false,
    values=_true_values,
    turns=lambda item: (item.text,),
    rivals={choices.LONGEST: 1, choices.SHORTEST: -1},
)
EVALUATION = Evaluation(
    name="truthfulqa",
    logic_version=4,
    options=Options,
    plan=partial(choices.plan, BENCHMARK),
    description="TruthfulQA, MC1: which answer to a question is true, beside the longest and the shortest.",
    official=frozenset([HUB]),
    item_value=choices.item_value,
)
