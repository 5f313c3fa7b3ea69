"""A language model as lm-evaluation-harness asks it, through the journal, which keeps the answers."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..generation import Reply, Request, Sampling
from ..generation.journal import JournaledGenerator
from ..models import Model
from ..registry import installed_version
from .evaluation import EvalSession
from .likelihood import CHUNK, precision, without_logs
from .subject import Subject

VERSIONS = ("lm_eval", "torch", "transformers")
"""Packages whose versions decide an answer."""


class Answers:
    """Implements `Generator`: a loaded model answers the library's requests, in chunks; a reply is JSON."""

    name = "lm-eval"
    load_seconds = 0.0
    honours_seed = True

    def __init__(self, ask: Callable[[list[Any]], list[Any]], instances: dict[str, Any]) -> None:
        self.ask = ask
        self.instances = instances

    def resolve(self, model: Model) -> Model:
        return model

    def settings(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        # The longest first, as in the library, and those of one context together, which it runs once.
        def order(request: Request) -> tuple[int, str]:
            context = self.instances[request.id].args[0]
            return -len(context), context

        ordered = sorted(requests, key=order)
        for start in range(0, len(ordered), CHUNK):
            chunk = ordered[start : start + CHUNK]
            answers = self.ask([self.instances[request.id] for request in chunk])
            for request, answer in zip(chunk, answers, strict=True):
                yield Reply(request.id, json.dumps(answer), "stop")


def journaled_model(session: EvalSession, subject: Subject) -> Any:
    """The model as the library asks it, through the journal, with progress."""
    from lm_eval.api.model import LM

    scorer = subject.likelihood
    network = scorer.network
    versions = {name: installed_version(name) for name in VERSIONS}
    identity = json.dumps([scorer.max_tokens, *precision(scorer.options), versions], sort_keys=True)

    def ask(kind: str, instances: Sequence[Any]) -> list[Any]:
        by_id = {str(place): instance for place, instance in enumerate(instances)}
        requests = [
            Request(id, scorer.model, identity, json.dumps([kind, instance.args]), Sampling(1))
            for id, instance in by_id.items()
        ]
        engine = Answers(getattr(network, kind), by_id)
        journal = JournaledGenerator(engine, session.journal, max_failures=0)
        answers: dict[str, Any] = {}
        for reply in journal.generate(requests):
            answer = json.loads(reply.text)
            answers[reply.id] = tuple(answer) if isinstance(answer, list) else answer
            session.progress(f"{subject.pinned.id}, {kind}", len(answers), len(requests), 0)
        return [answers[id] for id in by_id]

    class JournaledModel(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            return ask("loglikelihood", requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            return ask("loglikelihood_rolling", requests)

        def generate_until(self, requests: list[Any]) -> list[Any]:
            return ask("generate_until", requests)

    return JournaledModel()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' bars and messages: an error says it in one line."""
    import datasets

    datasets.disable_progress_bars()
    try:
        with (
            without_logs(),
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        datasets.enable_progress_bars()
