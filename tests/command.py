"""The command line without a process of its own, which takes longer to start than most commands run."""

import contextlib
import io
import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from almost_data.cli import app
from almost_data.cli.console import console


def run(*arguments: str, cwd: Path | None = None, columns: int = 80) -> CompletedProcess[str]:
    """Run `python -m almost_data` with these arguments in this process, as wide as `columns`."""
    output, errors = io.StringIO(), io.StringIO()
    code: str | int | None = 0
    console.width, width = columns, console.width
    with (
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        patch.object(sys, "argv", ["almost_data", *arguments]),  # of which cards tell the command
    ):
        try:
            app.main(list(arguments))
        except SystemExit as end:
            code = end.code
        finally:
            console.width = width
    assert code is None or isinstance(code, int), "an exit code, and no text"
    return CompletedProcess(arguments, code or 0, output.getvalue(), errors.getvalue())
