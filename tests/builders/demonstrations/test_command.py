"""The command line of demonstrations: refusals in one line, and flags."""

from pathlib import Path

import pytest

from almost_data.cli.app import main
from almost_data.datasets.builder import text_id
from almost_data.generation import Request
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.builders.demonstrations.scripted import QUERIES, REF, Scripted, build_dialogues, store_of


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the one line on stderr says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["build", *arguments])
    printed = capsys.readouterr().err
    assert end.value.code == 2 and printed.count("\n") == 1 and printed.startswith("almost-data: "), printed
    return printed


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path)
    here = ("--root", str(tmp_path), "--from", "queries@0.1.0")
    build = ("demonstrations", "--engine", "fake", *here)
    printed = refused(capsys, *build)
    assert "recipes/rm.py" in printed and "rm@V" in printed and "Self-Play" in printed
    assert "recipes/rm.py" in refused(capsys, *build, "--n", "2", "--dry-run")
    assert "turns" in refused(capsys, *build, "--n", "1", "--turns", "3")
    assert ">= 2" in refused(capsys, *build, "--n", "1", "--turns", "0")
    assert ">= 1" in refused(capsys, *build, "--n", "0")
    assert "no prompt 'hhhh'" in refused(capsys, *build, "--n", "1", "--prompt", "hhhh")
    real = ("demonstrations", "--engine", "transformers", *here)
    assert "queries@0.1.0 is a dataset" in refused(capsys, *real, "--rm", "queries@0.1.0")
    assert "no rm@0.9.0" in refused(capsys, *real, "--rm", "rm@0.9.0")
    for name in ("queries", "responses", "comparisons", "community"):
        for flag in (
            ("--rm", "rm@0.1.0"),
            ("--n", "4"),
            ("--turns", "4"),
            ("--prompt", "hhh"),
            ("--preference",),
        ):
            assert f"Unknown option: {flag[0]}" in refused(capsys, name, *flag)
    for name in ("queries", "responses", "community"):
        assert "Unknown option: --take-turns" in refused(capsys, name, "--take-turns")
    assert "--take-turns: the openai engine" in refused(
        capsys, "demonstrations", "--take-turns", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"
    )
    assert store.refs() == ["queries@0.1.0"]


def test_flags_are_settings(tmp_path: Path) -> None:
    """`--preference` is the setting of that name; `--take-turns` is of the machine, and is no recipe."""
    store = store_of(tmp_path)
    build = ("build", "demonstrations", "--engine", "fake", "--rm", "judge", "--root", str(tmp_path))
    manifests = []
    ways = (
        ("--preference",),
        ("--set", "demonstrations.preference=true"),
        ("--preference", "--take-turns"),
        (),
    )
    for number, flags in enumerate(ways):
        version = f"0.{number + 1}.0"
        main([*build, "--from", "queries@0.1.0", "--version", version, *flags])
        manifests.append(store.manifest(f"demonstrations@{version}"))
    flag, setting, turns, plain = manifests
    assert flag.fingerprint == setting.fingerprint == turns.fingerprint != plain.fingerprint
    assert flag.digest == setting.digest == turns.digest != plain.digest
    assert "preference" in flag.counts and "preference" not in plain.counts
    assert [manifest.environment["take_turns"] for manifest in manifests] == [False, False, True, False]


def test_the_command_builds_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["build", "demonstrations", "--n", "1", "--limit", "9", "--engine", "fake", "--root", str(tmp_path)])
    printed = capsys.readouterr().out
    store = Store(tmp_path)
    assert store.refs() == [REF, "queries@0.1.0"] and verify(store, REF) == []
    assert "demonstration" in printed and "user" in printed and "assistant" in printed
    main(["show", REF, "--root", str(tmp_path)])
    main(["lineage", REF, "--root", str(tmp_path)])
    main(["verify", REF, "--root", str(tmp_path)])


@pytest.mark.parametrize("rejected", [False, True])
def test_show_names_the_errors_of_failed_replies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rejected: bool
) -> None:
    def say(request: Request) -> Exception | None:
        bad = request.id.startswith(text_id(QUERIES[0])) and (rejected or request.sample == 1)
        return OSError("context too long") if bad else None

    build_dialogues(tmp_path, Scripted(say))
    capsys.readouterr()
    main(["show", REF, "--root", str(tmp_path)])
    assert "context too long" in capsys.readouterr().out
