"""The table of benchmarks: new lines take the place of old ones, and the rest stays."""

import sys
import types
from pathlib import Path

import pytest

from tests.bench import Result, __main__, bench_peers


def test_a_line_is_measured_again_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(__main__, "RESULTS", results)
    monkeypatch.setattr("sys.argv", ["bench", "hub"])
    for measured in (
        [Result("a push", "s", 4.0, 8.0, ""), Result("a pull", "s", 3.0, None, "5 s")],
        [Result("a push", "s", 2.0, 8.0, "")],
    ):
        module = types.SimpleNamespace(run=lambda measured=measured: measured)
        monkeypatch.setitem(sys.modules, "tests.bench.bench_hub", module)
        __main__.main()
    lines = results.read_text().splitlines()
    assert "| a push | s | 2 | 8 | 0.25x |  |" in lines and "| a pull | s | 3 |  |  | 5 s |" in lines
    assert sum(line.startswith("| a ") for line in lines) == 2


def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_peers, "find_spec", lambda module: None)
    for peer in bench_peers.PEERS:
        monkeypatch.delenv(peer.variable, raising=False)
    assert bench_peers.run() == []
    assert capsys.readouterr().out.splitlines() == [
        "distilabel: not installed; BENCH_DISTILABEL names a Python that has it",
        "DataDesigner: not installed; BENCH_DATA_DESIGNER names a Python that has it",
    ]
