"""What `--dry-run` says that a build would ask: counted from the settings, before anything is built."""

from pathlib import Path

import pytest

from almost_data import cli, pipeline, plan
from almost_data.store import Store


def planned(root: Path, name: str, **settings: object) -> dict[str, plan.Ask]:
    run = pipeline.prepare("fake", root=root, **settings)  # type: ignore[arg-type]
    return {ask.responder: ask for ask in plan.asks(run, run.plan(name))}


def test_every_responder_is_asked_every_query(tmp_path: Path) -> None:
    found = planned(tmp_path, "comparisons", preset="almost", limit=100)
    assert found.pop("queries").requests == 200  # about half of the candidates are kept
    assert len(found) == 8 and {ask.requests for ask in found.values()} == {100}
    best = found["fake-30B-Faithful-3shot"]
    assert (best.written, best.tokens_out) == (768, 76_800)
    assert best.shared > 500 and best.gpu_hours == pytest.approx(
        2 * 30e9 * (100 * (best.own + best.written) + best.shared) / plan.FLOPS / 3600
    )


def test_demonstrations_multiply(tmp_path: Path) -> None:
    how = {"preset": "almost", "limit": 10}
    rm = "demonstrations.rm=fake/judge"
    one = planned(tmp_path, "demonstrations", assignments=(rm,), **how)
    assert one["fake-30B-Faithful-3shot"].requests == 10 * 2 * 4 and len(one) == 2
    long = planned(tmp_path, "demonstrations", assignments=(rm, "demonstrations.turns=6"), **how)
    assert long["fake-30B-Faithful-3shot"].requests == 10 * 2 * 4 * 3
    assert long["fake-30B-User-3shot"].requests == 10 * 2 * 2
    assert long["fake-30B-Faithful-3shot"].own > one["fake-30B-Faithful-3shot"].own


def test_what_is_there_is_not_asked_again(fake_store: Store) -> None:
    assert planned(fake_store.root, "comparisons") == {}
    rows = sum(fake_store.manifest("queries@0.1.0").counts["default"].values())
    rm = "demonstrations.rm=fake/judge"
    found = planned(fake_store.root, "demonstrations", assignments=(rm,))
    assert [ask.requests for ask in found.values()] == [rows * 4]


def test_a_model_whose_name_says_no_size_has_no_gpu_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.parameters("ORG/some-model") is None
    assert plan.parameters("Qwen/Qwen3-4B-Base") == 4e9 and plan.parameters("a/b-1.7b-4k") == 1.7e9
    cli.main(
        ["build", "comparisons", "--engine", "fake", "--limit", "5", "--dry-run", "--root", str(tmp_path)]
    )
    shown = capsys.readouterr().out
    assert "135M" in shown and "?" in shown and "Rules of thumb" in shown and not any(tmp_path.iterdir())
