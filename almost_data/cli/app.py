"""The command line: its verbs, each loaded when it is called, and how a command ends."""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, signature
from itertools import takewhile
from typing import NoReturn

from cyclopts import (
    App,
    Argument,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Token,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from .. import __version__
from ..errors import Defect, InputError
from ..inputs import is_utf8
from .console import accept_any_text, draw_to_files, print_line
from .ending import end, end_by_system, interruptible, received, traceback_file
from .options import DEFAULTS, refuse_fractions

VERBS = {
    "ablate": ("ablate:ablate", "Build comparisons without each of the filters, and compare them."),
    "audit": (
        "audit:audit",
        "Measure how far preference data can be trusted: length, repeats, labels, contamination.",
    ),
    "build": (
        "build:app",
        "Build a dataset, and what is missing upstream first; FILE.py:NAME is a builder of yours.",
    ),
    "diff": (
        "diff:diff",
        "Compare two versions of a dataset: settings, rows gained and lost, why, examples.",
    ),
    "eval": ("evaluate:app", "Evaluate a model on a benchmark, beside the baselines that expose shortcuts."),
    "export": ("files:export", "Write rows to a file, or in the layout of another trainer."),
    "import": (
        "imports:app",
        "Import queries, responses or preferences from a file, a folder or a Hub dataset.",
    ),
    "journal": (
        "look:journal",
        "Show the journal of replies: its size, its hit rate, the builds that use it.",
    ),
    "lineage": ("lineage:lineage", "Show what an artifact was made from, up to the seeds."),
    "list": ("look:list_", "List the datasets, models and evaluation results of the store."),
    "pull": ("hub:pull", "Download a published dataset or model from the Hub into the store, and verify it."),
    "push": ("hub:push", "Publish a dataset or a model on the Hub: one commit, with the tag v<version>."),
    "rm": ("files:rm", "Delete artifacts from the store; the journal keeps their replies."),
    "sample": (
        "sample:sample",
        "Show rows with their texts: kept ones, or those that were dropped for a reason.",
    ),
    "show": (
        "show:show",
        "Show an example, the verdicts, the ledger and the recipe, or how far an unfinished build is.",
    ),
    "view": (
        "sample:view",
        "Write an HTML page of rows: of a dataset, of a file, or what two versions differ in.",
    ),
    "verify": ("look:verify", "Check that manifest, card and files agree; exit code 1 if they do not."),
}
"""Name -> where its function is, and its help."""
SECTIONS = ("run", "import", "engine", "eval", "hub", "audit", "sample", "view", "export", "rm")
"""What errors name settings by, besides the datasets: `run.max_failures` is `--max-failures`."""

USAGE = {"diff": "A [B]", "view": "REF [NEWER]"}
"""Positional arguments of verbs where the second may be left out."""
SYNONYMS = {
    **{"--rejected": "--dropped", "--reason": "--dropped", "--filter": "--where", "--output": "--out"},
    **{"--limit": "--n", "--rows": "--n", "--largest": "--sort"},
}
"""What people type -> the option that does it, where a verb has that."""
OTHER_WORDS = {
    **{"delete": "rm", "remove": "rm", "publish": "push", "upload": "push", "download": "pull"},
    **{"compare": "diff", "check": "verify", "evaluate": "eval", "inspect": "show", "head": "sample"},
}
"""What people type -> the verb that does it."""
NUMBERS = {int: "a whole number", float: "a number"}
"""Type of an option -> what people call it."""

app = App(
    name="almost-data",
    help="Preference data from synthetic feedback, as versioned and documented Hugging Face datasets.",
    help_format="plaintext",
    default_parameter=DEFAULTS,
    suppress_keyboard_interrupt=False,
    version_flags=(),  # elsewhere `--version` is an option of the verb
)
for _name, (_path, _help) in VERBS.items():
    _usage = {"usage": f"Usage: almost-data {_name} [OPTIONS] {USAGE[_name]}"} if _name in USAGE else {}
    app.command(f"{__package__}.{_path}", name=_name, help=_help, **_usage)
app.register_install_completion_command(add_to_startup=False, help="Install completion for your shell.")


@app.command(name="--version", help="Display application version.")
def _version() -> None:
    print_line(__version__)


def main(argv: list[str] | None = None, command: App = app) -> None:
    """Run a command; exit codes: 0 done, 1 failed, 2 bad usage or input, 130 interrupted.

    `command` is that of a script whose command line ends in the same ways.
    """
    accept_any_text()
    draw_to_files()
    command.config = (refuse_fractions,)
    arguments = _root_last(list(sys.argv[1:] if argv is None else argv))
    with interruptible():
        try:
            if foreign := [argument for argument in arguments if not is_utf8(argument)]:
                raise InputError(f"{foreign[0]!r}: not UTF-8 text: rename the file, or set a UTF-8 locale")
            if command is app and arguments[:1] in (["build"], ["eval"]):
                module = VERBS[arguments[0]][0].partition(":")[0]
                import_module(f".{module}", __package__).load_commands(arguments[1:])
            command(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        except Exception as error:
            if received:
                raise
            _end(error, arguments, command)


def _end(error: Exception, arguments: list[str], command: App) -> NoReturn:
    """End with the code and the line of an error."""
    if not isinstance(error, InputError | CycloptsError):
        end_by_system(error)
    match error:
        case MissingArgumentError(argument=Argument(tokens=[]), keyword=None):
            end(2, re.sub(r"^.*?arameter (\S+) requires [^.]*\.", r"\1 is missing (see --help).", str(error)))
        case UnknownOptionError():
            end(2, _unknown_option(error))
        case UnknownCommandError(unused_tokens=[word, *_]) if word in OTHER_WORDS and command is app:
            end(2, f'Unknown command "{word}". Did you mean "{OTHER_WORDS[word]}"?')
        case UnknownCommandError():
            end(2, str(error).replace(", ...", ", ... (see --help)"))
        case CoercionError(token=Token(value=value, keyword=keyword), target_type=kind) if kind in NUMBERS:
            end(2, f"{keyword} {value}: give {NUMBERS[kind]}")
        case UnusedCliTokensError(unused_tokens=[word, *_], target=verb):
            end(2, f"unexpected argument {word!r}: this command takes {_arguments(verb)} (see --help)")
        case CycloptsError():
            end(2, str(error))
        case InputError():
            end(2, name_flags(str(error), arguments, command))
        case Defect():
            end(1, f"{error} (traceback: {traceback_file()})")
        case RuntimeError():
            end(1, name_flags(str(error), arguments, command))
        case _:  # a defect, here or in a library
            where = f"unexpected, here or in code of yours; the traceback is in {traceback_file()}"
            end(1, f"{type(error).__name__}: {error} ({where})")


def _arguments(verb: Callable[..., None] | None) -> str:
    """How many arguments a command takes besides its options."""
    kinds = [parameter.kind for parameter in signature(verb).parameters.values()] if verb else []
    count = kinds.count(Parameter.POSITIONAL_ONLY)
    return f"only {count}" if count else "none"


def _unknown_option(error: UnknownOptionError) -> str:
    """The error of an option that a verb does not have, with the one that does what was typed."""
    word = (error.token.keyword or error.token.value).partition("=")[0]
    names = [name for argument in error.argument_collection for name in argument.names]
    synonym = SYNONYMS.get(word)
    return f"Unknown option: {word}. Did you mean {synonym}?" if synonym in names else str(error)


def name_flags(message: str, arguments: list[str], command: App = app) -> str:
    """An error, with the flags of the command that ran in place of the settings that the error names.

    A setting without a flag stays as it is: `--set` takes it. A flag that was typed short is named short.

    >>> name_flags("run.version 1: write N.N.N", ["import", "queries", "x.txt"])
    '--version 1: write N.N.N'
    """
    # Up to the first flag: `--help` would be taken for the command of that name.
    words = list(takewhile(lambda word: word[:1] != "-", arguments))
    sections = "|".join(map(re.escape, {*SECTIONS, *filter(None, words[1:])}))
    setting = re.compile(rf"(?<![\w./-])(?:{sections})\.([a-z_]+)(?!\w)")
    if not setting.search(message):
        return message
    try:
        options = command.parse_commands(words)[1][-1].assemble_argument_collection()
    except (InputError, ValueError):  # a builder that cannot be loaded; a group of commands
        return message
    typed = {word.partition("=")[0] for word in arguments}
    flags: dict[str, str] = {}
    for option in options:
        if option.name.startswith("--"):
            flag = next((name for name in option.names if name in typed), option.name)
            flags |= {option.field_info.name: flag, option.name[2:].replace("-", "_"): flag}
    return setting.sub(lambda match: flags.get(match[1], match[0]), message)


def _root_last(arguments: list[str]) -> list[str]:
    """`--root DIR` before the verb, moved behind it: every verb takes it there."""
    first = "".join(arguments[:1])
    size = 2 if first == "--root" else int(first.startswith("--root="))
    return arguments[size:] + arguments[:size] if len(arguments) > size else arguments
