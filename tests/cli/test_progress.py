"""What the command line prints while it works."""

import io

import pytest
from rich.console import Console

from almost_data.cli import progress


def test_a_stage_that_begins_anew_has_a_rate_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where one model after the other is judged on the same benchmark."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.progress_bars() as bars:
        for _ in range(3):
            for done in range(1, 11):
                clock[0] += 1
                bars("static-hhh", done, 10, 0)
            clock[0] += 20  # the next one is loaded
    ends = [line for line in capsys.readouterr().out.splitlines() if "10 of 10" in line]
    assert ends == ["static-hhh: 10 of 10, 1.0 rows/s"] * 3


def test_a_rate_counts_from_the_first_call_however_long_the_first_reply_took(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.progress_bars() as bars:
        bars("preference", 0, 6, 0)
        clock[0] += 480  # the model is loaded
        for done in range(1, 7):
            clock[0] += 0.2
            bars("preference", done, 6, 100 * done)
    assert capsys.readouterr().out.splitlines()[-1] == "preference: 6 of 6, 80 s a row  1 tok/s"


def test_ten_thousand_replies_a_second_are_a_few_updates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar is not drawn anew for each reply; the last one is shown at once."""
    clock, updates = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        progress.progress.Progress, "update", lambda self, task, **values: updates.append(values)
    )
    with progress.progress_bars() as bars:
        for done in range(10_001):
            bars("responses", done, 10_000, 0)
            clock[0] += 1e-4
    assert len(updates) <= 12 and updates[-1]["completed"] == 10_000
    assert capsys.readouterr().out.splitlines()[-1].startswith("responses: 10,000 of 10,000, 10,0")


def test_a_stage_of_another_author_s_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(
        progress, "console", Console(file=output, force_terminal=True, width=120, markup=False)
    )
    with progress.progress_bars() as bars:
        bars("[/a] \x9b31m", 1, 2, 0)
    assert "[/a]" in output.getvalue() and "\x9b" not in output.getvalue()
