"""A side of a comparison of answers: a model that writes them, or a file of written answers.

A server, and a model with a chat template, gets messages; any other model a prompt in the paper's format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..datasets.builder import row_seed
from ..datasets.records import Pinned
from ..errors import InputError
from ..generation import Generator, Reply, Request, Sampling, engines, prompts
from ..generation.answered import warnings
from ..generation.journal import MAX_FAILURES, JournaledGenerator
from ..models import Model
from ..models.chat import user_turn
from ..store.names import is_ref
from ..store.store import Store
from . import judge, saved
from .evaluation import EvalSession
from .likelihood import Likelihood
from .saved import Question
from .subject import find


@dataclass(frozen=True)
class Side:
    """Who answers, pinned."""

    pinned: Pinned
    answers: dict[str, Reply] | None = None
    """Of a file, by question."""
    model: Model | None = None
    """As the engine finds it."""
    by_chat: bool = False
    """Whether it gets messages, as a server and a model with a chat template do."""

    def request(self, request_id: str, question: str, sampling: Sampling, seed: int) -> Request:
        """The request for the answer to a question. Raises ValueError for a file."""
        if self.model is None:
            raise ValueError(f"{self.pinned.id}: a file is asked nothing")
        if self.by_chat:
            return Request.chat(request_id, self.model, user_turn(question), sampling, seed=seed)
        stopped = Sampling(sampling.max_new_tokens, sampling.temperature, sampling.top_p, prompts.STOP)
        return Request(
            request_id, self.model, "", prompts.ask(user_turn(question)).lstrip("\n"), stopped, seed
        )


def engine(name: str | None, base_url: tuple[str, ...] = ()) -> Generator:
    """The engine of that name, or this machine's."""
    name = name or ("openai" if base_url else engines.default()[0])
    with judge.errors_name("eval.base_url"):
        return engines.load(name, engines.options(name, {}, base_url, None))


def side(store: Store, name: str, role: str, generator: Generator | None) -> Side:
    """A side by the name that the user gives. Without a generator only a file is accepted.

    Raises InputError where it does not exist, or is a model that writes no text.
    """
    setting = f"eval.{role[-1]}"
    if name.endswith(".jsonl"):
        file = Path(name)
        answers = saved.answers(file)
        is_fake = any((answer.model_id or "").startswith("fake/") for answer in answers.values())
        replies = {id: Reply(id, row.text, "stop", error=row.error or None) for id, row in answers.items()}
        return Side(replace(saved.pinned_file(file, role), fake=is_fake), replies)
    if generator is None:
        raise InputError(f"{setting} {name}: not a .jsonl file of answers")
    if generator.name in ("openai", "fake"):
        served = generator.resolve(Model(name))
        by_chat = generator.name == "openai"
        return Side(Pinned(served.id, str(served.revision), role), model=served, by_chat=by_chat)
    subject = find(store, name, setting=setting)
    if not isinstance(subject.scorer, Likelihood):
        raise InputError(
            f"{setting} {name}: a reward model or a baseline writes no answers: name a language model"
        )
    is_local = is_ref(name) or Path(name).is_dir()
    model = generator.resolve(Model(str(subject.folder)) if is_local else subject.model)
    by_chat = bool(subject.scorer.tokenizer.chat_template)
    return Side(replace(subject.pinned, role=role), model=model, by_chat=by_chat)


def replies(
    session: EvalSession,
    sides: Mapping[str, Side],
    questions: Mapping[str, Question],
    generator: Generator | None,
    sampling: Sampling,
    seed: int,
    max_failures: float = MAX_FAILURES,
) -> dict[str, dict[str, Reply]]:
    """The reply of each side to each question; the journal keeps those of models.

    Raises InputError where a file lacks an answer, and RuntimeError where more than `max_failures` of the
    requests fail.
    """
    by_side: dict[str, dict[str, Reply]] = {name: writer.answers or {} for name, writer in sides.items()}
    requests = list[Request]()
    for name, writer in sides.items():
        absent = [question_id for question_id in questions if question_id not in by_side[name]]
        if absent and writer.answers is not None:
            raise InputError(f"{writer.pinned.id}: no answer to {len(absent)} questions, as {absent[0]!r}")
        for question_id in absent:
            # The side is no part of the seed: one model's answers serve in every comparison.
            row = row_seed(seed, "vicuna", question_id)
            text = questions[question_id].text
            requests.append(writer.request(f"{name}\0{question_id}", text, sampling, row))
    if not requests or generator is None:
        return by_side
    journaled = JournaledGenerator(generator, session.journal, max_failures, retry_failed=True)
    tokens = 0
    for done, reply in enumerate(journaled.generate(requests), start=1):
        name, _, question_id = reply.id.partition("\0")
        by_side[name][question_id] = reply
        tokens += reply.completion_tokens
        session.progress("answers", done, len(requests), tokens)
    session.notes.extend(warnings(journaled.answered_as))
    return by_side


def environment(sides: Mapping[str, Side], generator: Generator | None) -> dict[str, Any]:
    """How answers were generated: the engine's settings, with the models' names in place of local folders."""
    names = {writer.model.id: writer.pinned.id for writer in sides.values() if writer.model}
    if generator is None or not names:
        return {}
    settings = generator.settings() | {"engine": generator.name}
    if isinstance(decoding := settings.get("decoding"), dict):
        settings["decoding"] = {names.get(model_id, model_id): how for model_id, how in decoding.items()}
    return {"engine": settings, "seeded": generator.honours_seed}
