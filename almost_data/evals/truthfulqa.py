"""TruthfulQA, MC1 (Lin et al. 2021): which of a question's answers, of which one is true, is taken?

A language model is asked of each answer whether it is true, and that of the highest P("true") is taken
(`true`, the paper's way; beside it stands P("true") against P("false"), as some answers make either word less
likely). Or it takes the likeliest answer behind the prompt of lm-evaluation-harness (`likelihood`). A reward
model scores each answer as a reply. Always taking the longest and the shortest answer stand beside it.

Deviation from the paper: its prompt was not published, so the wording is ours.
"""

import hashlib
import importlib.metadata
import time
from typing import Literal, cast

from ..errors import InputError
from ..generation import prompts
from ..scoring import Dialogue
from ..store.store import Store
from . import choices, result, sources
from .choices import Values
from .result import Result
from .sources import Item
from .subject import Likelihood, Progress, Subject, scores

TASK = "truthfulqa"
LOGIC_VERSION = result.LOGIC[TASK]
PROMPT = "truthfulqa_true"
WORDS = ("true", "false")
Metric = Literal["true", "likelihood", "reward"]


def run(
    store: Store,
    subject: Subject,
    data: str,
    metric: Metric | None = None,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """The result of a model on the questions in `data`: MC1 accuracy, beside the longest and shortest answer.

    `data` is a JSONL file of question, choices and label, BIG-bench's task_mc.json, or `ORG/NAME@REVISION`
    with a config `multiple_choice`. Scores are kept as they come; the same evaluation again is read.
    Raises InputError for what is no such benchmark.
    """
    started = time.monotonic()
    how = choices.metric_of(subject, metric, ("true", "likelihood"))
    source = sources.read(data, ("multiple_choice",))
    items = sources.some(source.items, limit, seed)
    settings = {"metric": how, "seed": seed, "limit": limit, **subject.reading}
    template = _harness_prompt() if how == "likelihood" else ""
    if template:
        settings["prompt"] = "truthfulqa_mc1 of lm_eval " + importlib.metadata.version("lm_eval")
        settings["prompt_sha256"] = hashlib.sha256(template.encode()).hexdigest()
    draft = Result(
        TASK,
        LOGIC_VERSION,
        [subject.pinned],
        source.pinned,
        {PROMPT: prompts.question(PROMPT)} if how == "true" else {},
        settings,
        [],
    )
    if there := result.known(store, draft):
        return there
    notes = list(source.notes)
    if how == "reward":
        asked = [[[(item.text, answer)] for answer in item.choices] for item in items]
        [plain] = _asked(store, subject, items, asked, progress, notes)
        found = {"accuracy": plain}
    elif how == "likelihood":
        asked = [_continued(item, template) for item in items]
        [plain] = _asked(store, subject, items, asked, progress, notes)
        found = {"accuracy": plain, "accuracy per byte": choices.per_byte(items, plain)}
    else:
        asked = [_true_or_false(cast(Likelihood, subject.scorer), item) for item in items]
        true, false = _asked(store, subject, items, asked, progress, notes)
        odds = [[a - b for a, b in zip(*both, strict=True)] for both in zip(true, false, strict=True)]
        found = {"accuracy": true, "accuracy, true against false": odds}
    rivals = {choices.LONGEST: choices.lengths(items), choices.SHORTEST: choices.lengths(items, -1)}
    return choices.conclude(
        store, draft, subject, items, found, rivals, notes, (), time.monotonic() - started
    )


Asked = list[list[tuple[str, str]]]
"""Of each choice, the texts that are scored for it, as many for every one."""


def _asked(
    store: Store,
    subject: Subject,
    items: list[Item],
    asked: list[Asked],
    progress: Progress | None,
    notes: list[str],
) -> list[Values]:
    """The scores of the choices' first texts, of their second ones, ..."""
    wanted = [
        Dialogue(f"{item.id}/{place}/{at}", text)
        for item, texts in zip(items, asked, strict=True)
        for place, some in enumerate(texts)
        for at, text in enumerate(some)
    ]
    found = scores(store, subject, TASK, wanted, progress, notes)
    return [
        [
            [found[f"{item.id}/{place}/{at}"] for place in range(len(texts))]
            for item, texts in zip(items, asked, strict=True)
        ]
        for at in range(len(asked[0][0]))
    ]


def _true_or_false(model: Likelihood, item: Item) -> Asked:
    made = []
    for answer in item.choices:
        text = prompts.question(PROMPT).format(question=item.text, answer=answer)
        context = model.context([{"role": "user", "content": text}])
        made.append([(context, model.after(context, word)) for word in WORDS])
    return made


def _continued(item: Item, template: str) -> Asked:
    """As lm-evaluation-harness asks: its prompt, then a space and the answer."""
    from lm_eval.utils import apply_template

    context = apply_template(template, {"question": item.text})
    return [[(context, f" {answer}")] for answer in item.choices]


def _harness_prompt() -> str:
    """The template of lm-evaluation-harness's own task, from its file. InputError without the library."""
    from importlib.util import find_spec

    if not find_spec("lm_eval"):
        raise InputError("--metric likelihood takes its prompt from lm_eval: pip install 'almost_data[eval]'")
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
