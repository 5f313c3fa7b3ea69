"""The table of benchmarks: new lines take the place of old ones, and the rest stays."""

import sys
import types
from pathlib import Path

import pytest

from tests.bench import Result, __main__


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
