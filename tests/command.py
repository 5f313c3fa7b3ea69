"""The command line without a process of its own, which takes longer to start than most commands run."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from almost_data.cli import app
from almost_data.cli.console import console
from almost_data.readers import files


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


def script(code: str, *arguments: str, env: Mapping[str, str]) -> CompletedProcess[str]:
    """Run `python -c` with these arguments in this process; of `env`, see `at_hub`."""
    output, errors, returncode = io.StringIO(), io.StringIO(), 0
    with (
        at_hub(env),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        patch.object(sys, "argv", ["-c", *arguments]),
    ):
        try:
            exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
        except Exception:
            returncode = 1
            traceback.print_exc()
    return CompletedProcess(arguments, returncode, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def at_hub(env: Mapping[str, str]) -> Iterator[None]:
    """Ask the Hub at HF_ENDPOINT and cache in HF_HOME, as a process does that starts with these variables."""
    import datasets
    from huggingface_hub import HfFileSystem, close_session, constants

    endpoint, home = env["HF_ENDPOINT"].rstrip("/"), Path(env["HF_HOME"])
    hub = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    reader = {"HF_ENDPOINT": endpoint, "HF_CACHE_HOME": str(home), "HF_DATASETS_CACHE": home / "datasets"}
    with (
        patch.dict(os.environ, env),
        patch.multiple(constants, **hub),
        patch.multiple(datasets.config, **reader),
    ):
        try:
            yield
        finally:
            close_session()
            HfFileSystem.clear_instance_cache()
            files.hub_commit.cache_clear()
