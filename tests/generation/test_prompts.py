from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.generation import prompts
from almost_data.models.chat import user_turn


@pytest.mark.parametrize(("name", "dialogues"), [("hhh", 14), ("faithful", 3), ("user", 3)])
def test_shipped_prompts(name: str, dialogues: int) -> None:
    prompt = prompts.load(name)
    assert len(prompt.dialogues) == dialogues
    assert all(d.startswith("Human:  ") for d in prompt.dialogues)


def test_shipped_seeds() -> None:
    instruction, seeds = prompts.seeds()
    assert instruction.startswith("### Instruction: ")
    assert len(seeds) == len(set(seeds)) == 10


def test_the_prompt_is_the_papers_to_the_letter() -> None:
    prompt = prompts.parse(
        "Be good.\n\n-----\n\nHuman:  Hi\n\nAssistant:  Ho\n\n-----\n\nHuman:  A\n\nAssistant:  B\n", "x"
    )
    assert prompt.head(1) + prompts.ask(user_turn("Why?")) == (
        "Be good.\n\n-----\n\nHuman:  Hi\n\nAssistant:  Ho\n\n-----\n\nHuman: Why?\n\nAssistant:"
    )
    assert prompt.head(0) == "Be good.\n\n-----"


def test_the_original_files_can_be_pointed_at(shared: Path) -> None:
    hhh = prompts.load(str(shared / "almost_assets" / "HHH_prompt.txt"))
    faithful = prompts.load(str(shared / "almost_assets" / "Faithful_prompt.txt"))
    assert (len(hhh.dialogues), len(faithful.dialogues)) == (14, 3)
    text = (shared / "almost_assets" / "HHH_prompt.txt").read_text("utf-8")
    assert hhh.head(14).split() == text.split()  # blank lines around the dashes vary in the original
    assert len(prompts.seeds(str(shared / "almost_assets" / "seed_prompts.txt"))[1]) == 100


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("only words", "no dialogue"),
        ("Human: hi\n\n-----\n\nHuman: a\n\nAssistant: b", "x:1: a turn before"),
        ("p\n\n-----\n\nAssistant: b\n\nHuman: a", "x:4: turns must alternate"),
        ("p\n\n-----\n\nwords", "x:4: a dialogue without turns"),
    ],
)
def test_broken_prompt_files_name_file_and_line(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        prompts.parse(text, "x")


def test_text_before_the_first_turn_of_a_dialogue_is_no_chat() -> None:
    prompt = prompts.parse("p\n\n-----\n\nA garden.\n\nHuman: a\n\nAssistant: b", "x")
    assert "A garden." in prompt.head(1)
    with pytest.raises(InputError, match=r"text before its first turn: 'A garden\.'"):
        prompt.turns(1)


def test_more_shots_than_dialogues() -> None:
    with pytest.raises(InputError, match="15 shots"):
        prompts.load("hhh").head(15)


@pytest.mark.parametrize("name", ["nothing", "../hhh"])
def test_unknown_prompt(name: str) -> None:
    with pytest.raises(InputError, match="no prompt"):
        prompts.load(name)
