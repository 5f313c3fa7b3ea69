"""A side of a comparison of answers: a model that writes them, or a file of answers that were written.

The prompt is the tokenizer's chat template, or the paper's turns where there is none. A server renders its
own: the openai engine asks it by chat.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..datasets.builder import row_seed
from ..errors import InputError
from ..generation import Generator, Model, Reply, Request, Sampling, engines, prompts
from ..generation.journal import MAX_FAILURES, JournaledGenerator
from ..generation.journal_file import JournalSession
from ..generation.openai import BY_CHAT
from ..store.names import is_ref
from ..store.store import Store
from . import judge, saved
from .result import Pinned
from .saved import Answer, Question
from .subject import Likelihood, Progress, find

BUILD = "eval-vicuna"
"""Under which the journal keeps what was asked."""


@dataclass(frozen=True)
class Side:
    """Who answers, pinned."""

    pinned: Pinned
    answers: dict[str, Answer] | None = None
    """Where they were written before."""
    model: Model | None = None
    """As the engine finds it."""
    likelihood: Likelihood | None = None
    """Renders the prompts of a model whose tokenizer is here."""


@dataclass
class Written:
    """The answers of both sides by (role, question's id), and how they came."""

    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    errors: dict[tuple[str, str], str] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    """Answers that ended at the token limit."""
    how: dict[str, Any] = field(default_factory=dict)


def engine(name: str | None, base_url: tuple[str, ...] = ()) -> Generator:
    """The engine that answers: the one named, or this machine's."""
    name = name or ("openai" if base_url else engines.default()[0])
    if name == "openai":
        return judge.chat(base_url, "--base-url")
    return engines.load(name, engines.options(name, {}, base_url, None))


def side(store: Store, name: str, role: str, generator: Generator | None) -> Side:
    """A side by what the user calls it. Without a generator only a file will do.

    Raises InputError where it is not there, or is a model that writes no text.
    """
    flag = f"--{role[-1]}"
    if name.endswith(".jsonl"):
        file = Path(name)
        found = saved.answers(file)
        fake = any((one.model_id or "").startswith("fake/") for one in found.values())
        return Side(msgspec.structs.replace(saved.pinned(file, role), fake=fake), answers=found)
    if generator is None:
        raise InputError(f"{flag} {name}: not a .jsonl file of answers")
    if generator.name in ("openai", "fake"):
        served = generator.resolve(Model(name))
        return Side(Pinned(served.id, str(served.revision), role), model=served)
    subject = find(store, name, flag=flag)
    if not isinstance(subject.scorer, Likelihood):
        raise InputError(
            f"{flag} {name}: a reward model or a baseline writes no answers: name a language model"
        )
    local = is_ref(name) or Path(name).is_dir()
    model = generator.resolve(Model(str(subject.folder)) if local else subject.model)
    pinned = msgspec.structs.replace(subject.pinned, role=role)
    return Side(pinned, model=model, likelihood=subject.scorer)


def write(
    store: Store,
    sides: Mapping[str, Side],
    questions: Mapping[str, Question],
    generator: Generator | None,
    sampling: Sampling,
    seed: int,
    max_failures: float = MAX_FAILURES,
    progress: Progress | None = None,
) -> Written:
    """Every side's answer to every question; the models' ones come from the journal or go there.

    Raises InputError where a file lacks an answer, and RuntimeError where more than `max_failures` of the
    requests fail.
    """
    made, wanted = Written(), []
    for role, one in sides.items():
        if one.answers is not None:
            if missing := [id for id in questions if id not in one.answers]:
                raise InputError(
                    f"{one.pinned.id}: no answer to question {missing[0]!r}, of {len(missing)} such"
                )
            for id in questions:
                if error := one.answers[id].error:
                    made.errors[role, id] = error
                else:
                    made.texts[role, id] = one.answers[id].text.strip()
        elif one.model is not None:
            wanted += _requests(role, one, questions, sampling, seed)
    if not wanted or generator is None:
        return made
    session = JournalSession(store.journal, BUILD, store.refs())
    journal = JournaledGenerator(generator, session, max_failures)
    tokens = 0
    for done, reply in enumerate(journal.generate(wanted), start=1):
        tokens += reply.completion_tokens
        _take(made, reply)
        if progress:
            progress("answers", done, len(wanted), tokens)
    names = {one.model.id: one.pinned.id for one in sides.values() if one.model}
    settings = generator.settings() | {"engine": generator.name}
    if isinstance(decoding := settings.get("decoding"), dict):  # by model, which may be a folder's path here
        settings["decoding"] = {names.get(id, id): how for id, how in decoding.items()}
    made.how = {"engine": settings, "seeded": generator.honours_seed}
    return made


def _take(made: Written, reply: Reply) -> None:
    role, _, id = reply.id.partition("\0")
    if reply.error is not None:
        made.errors[role, id] = reply.error
    else:
        made.texts[role, id] = reply.text.strip()
        if reply.finish_reason == "length":
            made.cut.add((role, id))


def _requests(
    role: str, one: Side, questions: Mapping[str, Question], sampling: Sampling, seed: int
) -> list[Request]:
    assert one.model is not None
    templated = one.pinned.revision == BY_CHAT or (one.likelihood and _tokenizer(one).chat_template)
    stop = () if templated else prompts.STOP
    how = Sampling(sampling.max_new_tokens, sampling.temperature, sampling.top_p, stop)
    return [
        # The side is no part of the seed: one model's answers serve in every comparison.
        Request(f"{role}\0{id}", one.model, "", _prompt(one, asked.text), how, row_seed(seed, "vicuna", id))
        for id, asked in questions.items()
    ]


def _prompt(one: Side, question: str) -> str:
    if one.pinned.revision == BY_CHAT:
        return question
    if one.likelihood is None:
        return prompts.ask(question).lstrip("\n")
    text, tokenizer = one.likelihood.context([{"role": "user", "content": question}]), _tokenizer(one)
    bos = tokenizer.bos_token
    # Engines let the tokenizer put BOS in front, where it does so: the template's would be a second one.
    if bos and text.startswith(bos) and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        return text.removeprefix(bos)
    return text


def _tokenizer(one: Side) -> Any:
    assert one.likelihood is not None
    if one.likelihood._tokenizer is None:
        one.likelihood.context([{"role": "user", "content": "?"}])
    return one.likelihood._tokenizer
