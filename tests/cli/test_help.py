"""Help says the format of what an option or an argument takes, and shows an example."""

import re

import pytest

from tests.command import run


@pytest.mark.parametrize(
    ("command", "name", "example"),
    [
        ("import preferences", "--columns", "prompt=q,chosen=good,rejected=bad"),
        ("audit", "--columns", "prompt=q,chosen=good,rejected=bad"),
        ("view", "--columns", "prompt=q,chosen=good,rejected=bad"),
        ("import preferences", "FILE", "pairs.jsonl"),
        ("import responses", "FILE", "answers.jsonl"),
        ("import queries", "FILE", "questions.txt"),
        ("import responses", "--ladder", "large,medium,small"),
        ("import preferences", "--hub-config", "helpful-base"),
        ("import preferences", "--license", "cc-by-4.0"),
        ("build comparisons", "--checks", "chat,too_short"),
        ("build comparisons", "--set", "comparisons.min_chars=100"),
        ("build responses", "--base-url", "http://HOST:8000/v1"),
    ],
)
def test_help_shows_an_example(command: str, name: str, example: str) -> None:
    text = run(*command.split(), "--help", columns=200).stdout
    parts = re.split(r"(?m)^\W+(?=--|[A-Z]{3,} )", text)
    [part] = [part for part in parts if part.startswith(f"{name} ")]
    assert example in " ".join(part.replace("│", " ").split())


def test_help_shows_no_empty_default() -> None:
    assert "[default: ]" not in run("import", "responses", "--help", columns=200).stdout
