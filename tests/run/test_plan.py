"""What `--dry-run` says that a build would ask: counted from the settings, before anything is built."""

from pathlib import Path

import pytest

from almost_data.cli import app as cli
from almost_data.cli.summary import print_costs
from almost_data.generation import prompts
from almost_data.run import build, cost
from almost_data.store.store import Store
from tests import trained


def planned(root: Path, name: str, **settings: object) -> dict[str, cost.CostLine]:
    run = build.prepare("fake", root=root, **settings)  # type: ignore[arg-type]
    return {line.task.removeprefix(f"{name}: "): line for line in cost.lines(run.plan(name), run.store)}


def test_every_responder_is_asked_every_query(tmp_path: Path) -> None:
    lines = planned(tmp_path, "responses", preset="almost", limit=100)
    assert lines.pop("queries").requests == 200  # about half of the candidates are kept
    assert len(lines) == 8 and {line.requests for line in lines.values()} == {100}
    best = lines["fake-30B-Faithful-3shot"]
    shared = len(prompts.load("faithful").head(3)) // 4
    assert best.tokens_out == 100 * 768 and best.tokens_in == shared + 100 * 15 and shared > 500
    assert best.gpu_hours == pytest.approx(2 * 30e9 * (best.tokens_in + best.tokens_out) / 1e14 / 3600)
    assert best.disk == 100 * (150 + 768 * 4 // 2)


def test_a_reward_model_rates_every_response_of_the_ladder(tmp_path: Path) -> None:
    rm = ("ratings.rm=fake/judge-7b",)
    lines = planned(tmp_path, "ratings", preset="almost", limit=100, assignments=rm)
    assert len(lines) == 1 + 8 + 1
    judge = lines["reward model"]
    # Five responders, and none of the three probes; the query's 15 tokens and the longest reply's 768.
    assert (judge.requests, judge.tokens_in, judge.tokens_out) == (500, 500 * (15 + 768), 0)
    assert judge.gpu_hours == pytest.approx(2 * 7e9 * 500 * 783 / 1e14 / 3600)
    assert len(planned(tmp_path, "comparisons", preset="almost")) == 1 + 8, "comparisons ask no model"
    settings = ("ratings.rm=fake/judge", "ratings.rm_max_tokens=64")
    short = planned(tmp_path, "ratings", limit=100, assignments=settings)["reward model"]
    assert short.tokens_in == short.requests * 64 and short.gpu_hours is None


def test_demonstrations_multiply(tmp_path: Path) -> None:
    how = {"preset": "almost", "limit": 10}
    rm = "demonstrations.rm=fake/judge-1b"
    single = planned(tmp_path, "demonstrations", assignments=(rm,), **how)
    assert single.keys() == {"queries", "fake-30B-Faithful-3shot", "reward model"}
    assert single["fake-30B-Faithful-3shot"].requests == single["reward model"].requests == 10 * 2 * 4
    assert single["reward model"].tokens_in == 80 * (15 + 768)
    assert single["reward model"].gpu_hours == pytest.approx(2 * 1e9 * 80 * 783 / 1e14 / 3600)
    assignments = (rm, "demonstrations.turns=6", "demonstrations.second_rm=fake/other")
    long = planned(tmp_path, "demonstrations", assignments=assignments, **how)
    assert long["fake-30B-Faithful-3shot"].requests == long["second reward model"].requests == 10 * 2 * 4 * 3
    assert long["fake-30B-User-3shot"].requests == 10 * 2 * 2
    # Before a reply stand none, 400 and 800 tokens: what is read of the whole is 1024 at most.
    assert long["reward model"].tokens_in == 240 * min(15 + 400 + 768, 1024)
    shared = single["fake-30B-Faithful-3shot"].tokens_in - 80 * 15
    assert long["fake-30B-Faithful-3shot"].tokens_in == shared + 240 * (15 + 400)


def test_self_play_is_not_scored(tmp_path: Path) -> None:
    lines = planned(tmp_path, "demonstrations", assignments=("demonstrations.n=1",))
    assert not any("reward model" in task for task in lines)


def test_what_is_there_is_not_asked_again(fake_store: Store) -> None:
    assert planned(fake_store.root, "comparisons") == {}
    rows = sum(fake_store.manifest("queries@0.1.0").counts["default"].values())
    rm = "demonstrations.rm=fake/judge"
    lines = planned(fake_store.root, "demonstrations", assignments=(rm,))
    assert [line.requests for line in lines.values()] == [rows * 4] * 2


def test_responses_that_exist_are_read_at_their_mean_length(fake_store: Store) -> None:
    responses = fake_store.scan("responses@0.1.0").collect()
    texts = [turn["content"] for turns in responses["prompt"] for turn in turns] + responses[
        "response"
    ].to_list()
    how: dict[str, object] = {"version": "0.2.0", "sources": ["responses@0.1.0"]}
    for limit, rows in ((None, len(responses)), (5, 5 * responses["responder"].n_unique())):
        [line] = planned(
            fake_store.root, "ratings", limit=limit, assignments=["ratings.rm=fake/judge"], **how
        ).values()
        assert (line.requests, line.tokens_in % rows) == (rows, 0)
        assert line.tokens_in / rows == pytest.approx(sum(map(len, texts)) / len(responses) / 4, abs=1)


def test_a_model_of_the_store_is_as_large_as_the_one_it_was_trained_from(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    store = Store(tmp_path)
    base = {"id": "huggyllama/llama-13b", "revision": "1"}
    trained.publish_reward(store, tmp_path / "one", "sft", base=base)
    trained.publish_reward(store, tmp_path / "two", "rm", base={"id": "sft@0.1.0", "revision": "1"})
    assert cost.parameters("rm@0.1.0", store) == 13e9
    assert cost.parameters("rm@0.1.0") is None and cost.parameters("rm@0.2.0", store) is None
    assert cost.parameters("served-7b@2", store) == 7e9, "a name on a server"


def test_a_model_whose_name_says_no_size_has_no_gpu_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cost.parameters("ORG/some-model") is None
    assert cost.parameters("Qwen/Qwen3-4B-Base") == 4e9 and cost.parameters("a/b-1.7b-4k") == 1.7e9
    cli.main(
        ["build", "comparisons", "--engine", "fake", "--limit", "5", "--dry-run", "--root", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    assert (
        "135M" in printed
        and "?" not in printed
        and "Rules of thumb" in printed
        and not any(tmp_path.iterdir())
    )
    price = "give engine.servers their price"
    assert price not in " ".join(printed.split())
    print_costs([cost.CostLine("queries", "some-model", 1, 2, 3, 4, gpu_hours=None)])
    printed = capsys.readouterr().out
    assert "?" in printed and price in " ".join(printed.split())
