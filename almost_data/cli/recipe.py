"""What recipes print: the preflight table, the published model, and errors as one line."""

import re
from collections.abc import Callable
from typing import NoReturn

from ..datasets.manifest import Manifest
from ..errors import InputError, Stopped
from ..training import is_main_process
from ..training.artifact import Training
from ..training.preflight import Preflight
from .console import accept_any_text, console, draw_to_files, grid, percent, print_line, text
from .ending import RESUMES, end, end_by_system, interruptible, received, traceback_file
from .options import root_flag

STYLES = {"warn": "yellow", "fatal": "red", "fine": "green"}
SETTING = re.compile(r"(?<![\w/.-])(?:recipe|run|import)\.(?!ya?ml|toml|json|py\b)([a-z]\w*)")
"""A setting as errors below the command line name it: `recipe.artifact` is the argument `--artifact`."""

TORCH_CANNOT_WRITE = re.compile(r"inline_container\.cc|iostream error")
"""What torch says of a file that it cannot write, without the system's reason."""


def run(main: Callable[[], None]) -> None:
    """Run a recipe: 0 done, 1 failed, 2 bad input, 128 and the signal's number; always with one line.

    The traceback of a failure inside torch and TRL is in the file that the line names.
    """
    accept_any_text()
    draw_to_files()
    with interruptible(RESUMES):
        try:
            main()
        except Exception as error:
            if received:
                raise
            _end(error)


def _end(error: Exception) -> NoReturn:
    if isinstance(error, InputError):
        end(2, SETTING.sub(r"--\1", str(error)))
    if isinstance(error, Stopped):
        end(1, str(error))
    end_by_system(error)
    if TORCH_CANNOT_WRITE.search(str(error)):
        end(1, "a checkpoint cannot be written, as on a full disk: free some and run the same command again")
    end(1, f"{type(error).__name__}: {error} (the traceback is in {traceback_file()})")


def require(checks: Preflight) -> None:
    """Print the findings as a table. Raises InputError for the first fatal one."""
    if is_main_process():
        rows = (
            (text(check.check, STYLES[check.level]), check.rows, percent(check.share), check.sentence)
            for check in checks.findings
        )
        console.print(grid("before training", ">rows", ">share", "what it means", rows=rows))
    checks.require()


def is_done(training: Training) -> bool:
    """Whether the store has the artifact already; says so."""
    if training.is_done and is_main_process():
        ref = training.draft.ref
        print_line(f"{ref} exists already, from the same recipe: nothing to train")
    return training.is_done


def show_model(training: Training, manifest: Manifest) -> None:
    """Print where the published model is, and what was measured of it."""
    folder = training.store.path(manifest.ref)
    print_line(f"\n{manifest.ref}: {folder}", "bold")
    for subset in (manifest.diagnostics.get("report") or {}).get("subsets", []):
        print_line(
            f"  {subset['name']}: {subset['accuracy']:.1%} of {subset['rows']:,} right "
            f"({subset['low']:.1%} to {subset['high']:.1%}); "
            f"always the longer: {subset['always_longer']:.1%}"
        )
    for rewards in manifest.diagnostics.get("rewards") or []:
        print_line(
            f"  reward on {rewards['n']} prompts {rewards['prompts']}: "
            f"{rewards['before']['mean']:+.3f} before, {rewards['after']['mean']:+.3f} after"
        )
    next_command = f"python -m almost_data show {manifest.ref}{root_flag(training.store.root)}"
    print_line(f"  card: {folder / 'README.md'}; next: {next_command}", "dim")
