"""RewardBench 2: scorers that know the answers get what they must, by the rule of each subset."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.errors import InputError
from almost_data.evals import rewardbench2
from almost_data.evals.evaluation import EvalSession, carry_out
from almost_data.evals.result import Line, Result
from almost_data.evals.rewardbench2 import credits, ties
from almost_data.evals.rewardbench2_data import FILE, HUB, SUBSETS, Item, read
from almost_data.evals.subject import Subject, find
from almost_data.store.store import Store
from tests.completions_server import CompletionsServer
from tests.evals.known import cli, frame, judged, language, reward, rows
from tests.hub_server import serve
from tests.tiny_models import save_tiny_reward

RIGHT, WRONG = "Right: boil the kettle first", "No"


def items(n: int = 8, pairs: int = 6) -> list[dict[str, Any]]:
    """Every right reply is longer than the wrong ones; in Math it is shorter."""
    items: list[dict[str, Any]] = []
    for subset in SUBSETS[:-1]:
        for number in range(n):
            wrong = [f"{WRONG} {number}{'!' * (40 * (subset == 'Math'))} {place}" for place in range(3)]
            chosen, prompt = [f"{RIGHT} {number}."], f"{subset}: how is tea {number} made?"
            names = {"id": str(number), "subset": subset, "prompt": prompt}
            items.append(names | {"chosen": chosen, "rejected": wrong})
    for number in range(pairs):
        for kind, right in (("tied", 3), ("ref", 1)):
            chosen = [f"{RIGHT} {number} {'a' * place}" for place in range(right)]
            names = {"id": f"{kind}:{number}", "subset": "Ties", "prompt": f"Name {kind} {number}."}
            items.append(names | {"chosen": chosen, "rejected": [f"{WRONG} {number} {x}" for x in "abcd"]})
    return items


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(rows(tmp_path / "rb2.jsonl", items()))


def measured(store: Store, subject: Subject, data: str, **options: Any) -> Result:
    return judged(rewardbench2, store, subject, data, **options)


def by(result: Result, who: str) -> dict[str, Line]:
    return {line.subset: line for line in result.lines if line.who == who}


def is_right(turns: tuple[str, ...]) -> float:
    return float(turns[-1].startswith("Right"))


def test_a_perfect_and_an_inverted_scorer_beside_the_lengths(store: Store, data: str) -> None:
    perfect = measured(store, reward(is_right), data)
    lines = by(perfect, "known")
    assert list(lines) == ["overall", *SUBSETS]
    assert all(lines[name].value == 1 and lines[name].chance == 0.25 for name in SUBSETS[:-1])
    assert lines["Ties"].value == pytest.approx(1.01) and lines["Ties"].n == 6
    assert lines["overall"].value == pytest.approx((5 + 1.01) / 6)
    longest, shortest = by(perfect, "baseline:longest"), by(perfect, "baseline:shortest")
    assert [longest[name].value for name in SUBSETS[:-1]] == [1, 1, 0, 1, 1]
    assert (shortest["Math"].value, shortest["Safety"].value) == (1, 0)
    assert perfect.details["ties"]["rows"][0][1:] == ["100.0%"] * 5 and not perfect.notes
    inverted = by(measured(store, reward(lambda turns: -is_right(turns), "inverted"), data), "inverted")
    assert inverted["overall"].value == pytest.approx(-0.01 / 6)
    for line in (*lines.values(), *longest.values()):
        assert line.value is not None and line.low is not None and line.high is not None
        assert line.low - 1e-4 <= line.value <= line.high + 1e-4


def test_replies_with_one_score_share_the_credit() -> None:
    item = Item("Math/1", "Math", (), ("a", "b", "c", "d"), 1)
    for values, credit in (([1, 1, 0, 0], 0.5), ([1] * 4, 0.25), ([2, 1, 1, 1], 1), ([0, 1, 0, 0], 0)):
        assert credits([item], {item.id: values}) == {"Math/1": credit}


@pytest.mark.parametrize(
    ("tied", "ref", "parts"),
    [
        # Right above wrong by 2, the right ones 1 apart; by 4 where one is right.
        ([5, 4, 2, 0], [4, 0, 0], [1, 1, 1, 1, math.tanh(1)]),
        ([5, 4, 2, 0], [0.5, 0, 0], [1, 1, 1, 0, math.tanh(-0.5)]),
        ([5, 2, 1, 0], [9, 0, 0], [1, 1, 0, 0, math.tanh(1 / 3 - 1)]),
        ([5, 1, 2, 0], [0, 3, 0], [0, 0, 0, 0, math.tanh(-3 / 4 - 1)]),
        # The right ones have one score: the limits of tanh.
        ([3, 3, 2, 0], [3, 0, 0], [1, 1, 1, 1, 1]),
        ([3, 3, 3, 0], [3, 3, 0], [0, 0, 0, 0, 0]),
        ([3, 3, 4, 0], [3, 0, 0], [0, 1, 0, 0, -1]),
    ],
)
def test_the_rule_of_ties(tied: list[float], ref: list[float], parts: list[float]) -> None:
    pair = [
        Item("Ties/tied:7", "Ties", (), ("a", "b", "c", "d"), 2),
        Item("Ties/ref:7", "Ties", (), ("a", "b", "c"), 1),
    ]
    values = {"Ties/tied:7": tied, "Ties/ref:7": ref}
    assert ties(pair, values) == {"Ties/7": pytest.approx(parts)}
    weighted = 0.3 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2] + 0.2 * parts[3] + 0.01 * parts[4]
    assert credits(pair, values) == {"Ties/7": pytest.approx(weighted)}


def test_a_limit_draws_pairs_of_ties_whole_and_no_text_is_kept(store: Store, data: str) -> None:
    result = measured(store, reward(is_right), data, limit=20)
    stored = frame(store, result)
    assert stored["group"].n_unique() == 20
    sizes = stored.filter(subset="Ties").group_by("group").len()["len"]
    assert len(sizes) and set(sizes) == {2}
    for file in (at for at in store.path(result.ref).rglob("*") if at.is_file()):
        assert b"kettle" not in file.read_bytes() and b"how is tea" not in file.read_bytes()
    few = measured(store, reward(is_right), data, limit=1)
    assert any("the overall number is not RewardBench 2's" in note for note in few.notes)


def test_every_format_is_read_alike_and_the_prompt_may_be_messages(tmp_path: Path, data: str) -> None:
    table = pl.DataFrame(items())
    table.write_parquet(tmp_path / "rb2.parquet")
    plain, pinned = read(data)
    assert read(str(tmp_path / "rb2.parquet"))[0] == plain
    assert pinned.id == "rb2.jsonl" and pinned.revision.startswith("sha256:")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = items()[0] | {"prompt": [*turns, {"role": "user", "content": "c"}]}
    [item], _ = read(str(rows(tmp_path / "turns.jsonl", [row])))
    assert [turn["content"] for turn in item.prompt] == ["a", "b", "c"]
    text = "User: a\n\nAssistant:"  # of an item the prompt is one turn, whatever it says
    [item], _ = read(str(rows(tmp_path / "text.jsonl", [items()[0] | {"prompt": text}])))
    assert item.prompt == ({"role": "user", "content": text},)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"subset": "Chat"}, "rb.jsonl:1: not an item of RewardBench 2: it needs id, subset, prompt"),
        ({"chosen": "text"}, "rb.jsonl:1: not an item"),
        ({"rejected": []}, "rb.jsonl:1: not an item"),
        ({"prompt": ""}, "rb.jsonl:1: There is no prompt"),
        ({"subset": "Ties", "id": "ref:3"}, "Ties/ref:3 has no partner"),
    ],
)
def test_wrong_items(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    file = rows(tmp_path / "rb.jsonl", [items()[0] | changes])
    with pytest.raises(InputError, match=re.escape(says)):
        read(str(file))
    twice = rows(tmp_path / "twice.jsonl", [items()[0]] * 2)
    with pytest.raises(
        InputError, match=re.escape("twice.jsonl:2: a second item with the id 0 in Factuality")
    ):
        read(str(twice))


def test_wrong_places_and_models(store: Store, data: str) -> None:
    with pytest.raises(InputError, match="name a tag or a commit"):
        read("allenai/reward-bench-2")
    with pytest.raises(InputError, match="no such file"):
        read("nowhere.jsonl")
    with pytest.raises(InputError, match="a language model, which scores no reply"):
        measured(store, language(lambda _: 0.0), data)
    assert {HUB, FILE} == rewardbench2.EVALUATION.official


def test_command_with_a_reward_model_of_weights(store: Store, data: str, tmp_path: Path) -> None:
    folder = save_tiny_reward(tmp_path / "rm")
    words = ("rewardbench2", "--model", str(folder), "--data", data, "--root", str(store.root))
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"score +overall +46 +0 +\d+\.\d%", done.stdout)
    assert "baseline:longest" in done.stdout and "baseline:shortest" in done.stdout
    longest = by(measured(store, find(store, "baseline:longest"), data), "baseline:longest")
    assert list(longest) == ["overall", *SUBSETS]


def test_a_judge_rates_every_reply_once(store: Store, data: str, server: CompletionsServer) -> None:
    """One verdict on Math cannot be read: its item is left out, and nothing else."""

    def answer(prompt: str) -> str:
        if "Math: how is tea 3 made?" in prompt and f"{WRONG} 3" in prompt:
            return "I cannot tell."
        return f"It is an answer.\nScore: {9 if RIGHT in prompt else 2}"

    server.models, server.chat, server.context = ("judge",), answer, 4000
    settings = rewardbench2.Options(model="judge", judge=server.url, data=data)
    session = EvalSession(store, rewardbench2.EVALUATION)
    result = carry_out(session, rewardbench2.plan(session, settings))
    requests = sum(server.answered.values())
    assert requests == sum(len(row["chosen"]) + len(row["rejected"]) for row in items())
    lines = by(result, "judge")
    assert [lines[name].n for name in SUBSETS] == [8, 8, 7, 8, 8, 6]
    assert all(lines[name].value == 1 for name in SUBSETS[:-1]) and lines["Ties"].value == pytest.approx(1.01)
    assert any(note.startswith("1 of 46 items have a verdict that cannot be read") for note in result.notes)
    assert list(result.prompts) == ["judge"] and result.models[0].id == "judge" and result.failed == 0
    session = EvalSession(store, rewardbench2.EVALUATION)
    assert carry_out(session, rewardbench2.plan(session, settings)) == result
    assert sum(server.answered.values()) == requests
    with pytest.raises(InputError, match=r"eval\.dtype is of a model that runs here"):
        rewardbench2.plan(session, replace(settings, dtype="float32"))


def test_from_the_hub_at_a_commit(tmp_path: Path, data: str) -> None:
    pl.DataFrame(items()).write_parquet(tmp_path / "test.parquet")
    files = {"data/test-00000-of-00001.parquet": (tmp_path / "test.parquet").read_bytes()}
    with serve("allenai/reward-bench-2", files) as (endpoint, commit):
        env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        words = ("rewardbench2", "--model", "baseline:longest", "--root", str(tmp_path / "build"), "--json")
        result = json.loads(cli(*words, "--data", "allenai/reward-bench-2@v1.0.0", **env).stdout)
        here = json.loads(cli(*words, "--data", data, **env).stdout)
    assert (result["data"][0]["id"], result["data"][0]["revision"]) == ("allenai/reward-bench-2", commit)
    assert result["lines"] == here["lines"]
