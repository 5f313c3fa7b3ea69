"""TruthfulQA, MC1 (Lin et al. 2021): of a question's answers, one is true.

A language model is asked of each answer whether it is true, and the answer with the highest P("true") is
taken (`true`, the paper's way; beside it, P("true") against P("false"), as some answers make either word less
likely). Or it takes the likeliest answer behind the prompt of lm-evaluation-harness (`likelihood`). A reward
model scores each answer as a reply. Always taking the longest and the shortest answer are beside it.

Deviation from the paper: its prompt was not published, so the wording is ours.
"""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal

from ..errors import InputError
from ..generation import prompts
from . import choices, sources
from .choices import Benchmark, ChoiceOptions, Scores, Texts, Values, Way
from .evaluation import Evaluation
from .sources import Item
from .subject import Likelihood

HUB = "truthfulqa/truthful_qa@741b8276f2d1982aa3d5b832d3ee81ed3b896490"
PROMPT = "truthfulqa_true"


@dataclass(frozen=True, kw_only=True)
class Options(ChoiceOptions):
    data: str = HUB
    """JSONL of question, choices and label, BIG-bench's task_mc.json, or ORG/NAME@REVISION on the Hub."""
    metric: Literal["true", "likelihood", "reward"] | None = None
    """How to ask: a language model true or likelihood, a reward model reward."""


def _true_or_false(model: Likelihood, item: Item) -> list[list[Texts]]:
    texts: list[list[Texts]] = []
    for answer in item.choices:
        text = prompts.question(PROMPT).format(question=item.text, answer=answer)
        context = model.context([{"role": "user", "content": text}])
        texts.append([(context, model.after(context, word)) for word in ("true", "false")])
    return texts


def _true_values(items: list[Item], scores: Scores, notes: list[str]) -> dict[str, Values]:
    return {
        "accuracy": [[true for true, _ in by_answer] for by_answer in scores],
        "accuracy, true against false": [[true - false for true, false in by_answer] for by_answer in scores],
    }


def _likelihood() -> Way:
    template = _harness_prompt()

    def texts(model: Likelihood, item: Item) -> list[list[Texts]]:
        from lm_eval.utils import apply_template

        context = apply_template(template, {"question": item.text})
        return [[(context, f" {answer}")] for answer in item.choices]

    return Way(
        texts,
        choices.likelihood_values,
        settings={
            "prompt": "truthfulqa_mc1 of lm_eval " + importlib.metadata.version("lm_eval"),
            "prompt_sha256": hashlib.sha256(template.encode()).hexdigest(),
        },
    )


def _harness_prompt() -> str:
    """The template of lm-evaluation-harness's own task. Raises InputError without the library."""
    if not find_spec("lm_eval"):
        raise InputError(
            "eval.metric likelihood takes its prompt from lm_eval: pip install 'almost_data[eval]'"
        )
    import lm_eval.tasks
    import yaml

    file = lm_eval.tasks.__path__[0] + "/truthfulqa/truthfulqa_mc1.yaml"
    try:
        with open(file, encoding="utf-8") as text:
            return str(yaml.safe_load(text)["doc_to_text"])
    except (OSError, KeyError, yaml.YAMLError) as error:
        raise InputError(
            f"truthfulqa_mc1.yaml of the installed lm_eval cannot be read ({type(error).__name__})"
        ) from None


BENCHMARK = Benchmark(
    read=partial(sources.read, configs=("multiple_choice",)),
    ways={
        "true": lambda: Way(_true_or_false, _true_values, {PROMPT: prompts.question(PROMPT)}),
        "likelihood": _likelihood,
        "reward": lambda: choices.reply_to(lambda item: (item.text,)),
    },
    rivals={choices.LONGEST: 1, choices.SHORTEST: -1},
)
EVALUATION = Evaluation(
    name="truthfulqa",
    logic_version=3,
    options=Options,
    plan=partial(choices.plan, BENCHMARK),
    description="TruthfulQA, MC1: which answer to a question is true, beside the longest and the shortest.",
    official=frozenset([HUB]),
    item_value=choices.item_value,
)
