"""Scorers by name, their options, and those without a model."""

from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import Model
from almost_data.scoring import Dialogue, Scorer, load

DIALOGUES = [Dialogue.of(str(n), f"Why {n}?", "So it is. " * (n % 7)) for n in range(50)]


def values(scorer: Scorer) -> dict[str, float]:
    return {score.id: score.value for score in scorer.score(DIALOGUES)}


def test_a_fake_model_scores_the_same_text_alike_and_cannot_pass_for_a_real_one() -> None:
    scorer = load("fake/rm")
    assert scorer.model == Model("fake/rm", "1")
    assert values(scorer) == values(load("fake/rm"))
    assert values(scorer) != values(load("fake/other"))
    assert len(set(values(scorer).values())) == 50
    with pytest.raises(InputError, match="fake/NAME"):
        load("fake/")


def test_a_fake_model_reads_as_much_as_it_may() -> None:
    [score] = load("fake/rm", max_tokens=3).score([Dialogue.of("1", "Why?", "So it is.")])
    assert (score.tokens, score.truncated) == (3, True)


def test_baselines() -> None:
    assert values(load("baseline:longest")) == {dialogue.id: len(dialogue.turns[1]) for dialogue in DIALOGUES}
    assert set(values(load("baseline:first")).values()) == {0.0}
    chance = values(load("baseline:random"))
    assert chance == values(load("baseline:random"))
    assert len(set(chance.values())) == 50
    assert all(0 <= value < 1 for value in chance.values())
    with pytest.raises(InputError, match=r"baseline:best.*first, longest, random"):
        load("baseline:best")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 3}, r"unknown key scoring\.batch.*; known here: device, dtype, batch_tokens"),
        ({"batch_tokens": "many"}, r"scoring\.batch_tokens: needs a whole number or none"),
        ({"batch_tokens": 0}, r"scoring\.batch_tokens: needs a whole number >= 1"),
        ({"dtype": "int8"}, r"scoring\.dtype: Invalid enum value 'int8'"),
        ({"device": "gpu"}, r"scoring\.device: needs cpu, mps, cuda or cuda:NUMBER"),
    ],
)
def test_options_are_checked_whatever_the_scorer(options: dict[str, Any], message: str) -> None:
    for name in ("fake/rm", "baseline:first", "no/such"):
        with pytest.raises(InputError, match=message):
            load(name, options=options)


def test_something_must_be_read() -> None:
    with pytest.raises(InputError, match="max_tokens: 0"):
        load("fake/rm", max_tokens=0)


@pytest.mark.parametrize("turns", [(), ("Why?",), ("Why?", "So.", "And?")])
def test_a_dialogue_ends_with_a_response(turns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="assistant"):
        Dialogue.of("1", *turns)


def test_importing_it_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, almost_data.scoring.journaled, almost_data.scoring.reward_model\n"
    code += "assert not {'torch', 'transformers', 'polars'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
