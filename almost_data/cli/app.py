"""The command line: its verbs, and how a command ends: exit codes, and errors in one line."""

import re
import sys
from itertools import takewhile
from typing import NoReturn

from cyclopts import App, CycloptsError

from ..errors import InputError
from . import ablate, build, evaluate, hub, imports, look
from .options import DEFAULTS

SECTIONS = ("run", "import", "eval", "hub", "audit")
"""What errors name settings by, besides the datasets: `run.max_failures` is `--max-failures`."""

app = App(
    name="almost-data",
    help="Preference data from synthetic feedback, as versioned and documented Hugging Face datasets.",
    help_format="plaintext",
    default_parameter=DEFAULTS,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
for group in (build.app, imports.app, evaluate.evaluate):
    app.command(group)
app.command(ablate.ablate)
app.command(look.list_, name="list")
for verb in (look.show, look.diff, look.lineage, look.verify, look.journal, hub.push, hub.pull):
    app.command(verb)
app.register_install_completion_command(
    add_to_startup=False, help="Install completion for the shell that runs this (bash, zsh, fish)."
)


def main(argv: list[str] | None = None) -> None:
    """Run a command; exit codes: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    arguments = _root_last(list(sys.argv[1:] if argv is None else argv))
    try:
        if arguments[:1] == ["build"]:
            build.prepare(arguments[1:])
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _exit(2, str(error))
    except InputError as error:
        _exit(2, name_flags(str(error), arguments))
    except KeyboardInterrupt:
        _exit(130, "interrupted: what was generated is kept; run the same command to go on")
    except (OSError, MemoryError) as error:
        _exit(1, f"{type(error).__name__}: {error}")
    except RuntimeError as error:
        _exit(1, name_flags(str(error), arguments))
    except Exception as error:  # a defect, here or in a library: one line, and the traceback in a file
        _exit(1, f"{type(error).__name__}: {error} (this is a defect; its traceback is in {_traceback()})")


def name_flags(message: str, arguments: list[str]) -> str:
    """An error with the flags of the command that was given in place of the settings that it names.

    What the command has no flag for stays: `--set` takes it.

    >>> name_flags("run.version 1: write N.N.N", ["import", "queries", "x.txt"])
    '--version 1: write N.N.N'
    """
    words, flags = _command(arguments)

    def flag(setting: re.Match[str]) -> str:
        return flags.get(setting["name"], setting[0])

    sections = "|".join(map(re.escape, {*SECTIONS, *words[1:]}))
    return re.sub(rf"(?<![\w./-])(?:{sections})\.(?P<name>[a-z_]+)(?!\w)", flag, message)


def _command(arguments: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The words that name a command, and its flags by the name of the setting."""
    try:
        # Up to the first flag: `--version` would be taken for the command of that name.
        words, commands, _ = app.parse_commands(takewhile(lambda word: word[:1] != "-", arguments))
        collection = commands[-1].assemble_argument_collection()
    except (InputError, ValueError):  # a builder that cannot be loaded; a group of commands
        return (), {}
    flags = ((argument.field_info.name.rstrip("_"), argument.name) for argument in collection)
    return words, {setting: flag for setting, flag in flags if flag.startswith("--")}


def _root_last(arguments: list[str]) -> list[str]:
    """`--root DIR` before the verb, moved behind it: every verb takes it there."""
    first = "".join(arguments[:1])
    size = 2 if first == "--root" else int(first.startswith("--root="))
    return arguments[size:] + arguments[:size] if len(arguments) > size else arguments


def _traceback() -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="almost-data-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    return file.name


def _exit(code: int, message: str) -> NoReturn:
    print(f"almost-data: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
