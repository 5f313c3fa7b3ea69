"""Verbs that write, killed at a step each; `make stress` kills all of them at every step."""

from collections.abc import Iterator

import pytest

from tests.crash import Server
from tests.stress.verbs import VERBS, VerbRuns, at_hub

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
        ("export --to", "after replace", 2),
        ("eval", "half file", 1),
    ],
)
def test_the_same_command_again_ends_as_if_nothing_had_been(
    runs: VerbRuns, name: str, point: str, at: int
) -> None:
    [verb] = [verb for verb in VERBS if verb.name == name]
    assert runs.kill(verb, point=point, at=at) == [], f"points are {sorted(runs.clean(verb).passes)}"
