"""Verbs that write, killed at a step each; `make stress` kills all of them at every step."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.crash import Server
from tests.stress import MISSES, VERBS, Clean, Verb, VerbRuns, at_hub

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerbRuns]:
    folder = tmp_path_factory.mktemp("verbs")
    with at_hub(folder) as hub, Server(folder / "runs") as server:
        yield VerbRuns(server, hub, folder)


@pytest.mark.parametrize(
    ("name", "point", "at"),
    [
        ("push", "after request", 5),
        ("pull", "before rename", 1),
        ("journal --prune", "DELETE", 1),
        ("rm", "before fsync", 1),
        ("export --to", "before rename", 1),
        ("eval", "half file", 1),
    ],
)
def test_the_same_command_again_ends_as_if_nothing_had_been(
    runs: VerbRuns, name: str, point: str, at: int
) -> None:
    [verb] = [verb for verb in VERBS if verb.name == name]
    assert runs.kill(verb, point=point, at=at) == [], f"points are {sorted(runs.clean(verb).passes)}"


class TooFast(VerbRuns):
    """Every verb has ended before it is killed."""

    def __init__(self) -> None:
        self.tries = 0

    def clean(self, verb: Verb) -> Clean:
        return Clean({}, {"after rename": 1}, 1.0)

    def kill(self, verb: Verb, **where: Any) -> None:
        self.tries += 1


def test_a_kill_that_comes_too_late_is_no_success() -> None:
    runs = TooFast()
    outcome = runs.sweep(VERBS[0], 6, random.Random(0))
    assert (outcome.missed, outcome.bad, outcome.good, outcome.kills.total()) == (6, 6, 0, 0)
    assert runs.tries == 6 + 2 * MISSES, "a random moment is tried again, earlier"
