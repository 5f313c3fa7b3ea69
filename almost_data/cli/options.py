"""Options that several verbs take."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import App, ArgumentCollection, Parameter

from ..errors import InputError

ROOT = Path("build")
Root = Annotated[Path, Parameter(name="--root", help="Folder of the store.")]
Version = Annotated[str, Parameter(help="Version N.N.N of what is made.")]
Ref = Annotated[
    str, Parameter(help="name@version, or the name alone for its highest version without a suffix.")
]
Where = Annotated[
    str | None,
    Parameter(
        help="Polars SQL over the columns, such as \"chosen_length > 500 AND rejected LIKE '%sorry%'\"."
    ),
]
Json = Annotated[bool, Parameter(help="Print JSON.")]
Markdown = Annotated[bool, Parameter(help="Print Markdown.")]
Columns = Annotated[
    str | None,
    Parameter(
        help="Columns to read, as ROLE=NAME with commas between. Roles of preferences: prompt, system, "
        "history, chosen, rejected (prompt=q,chosen=good,rejected=bad); of queries: query, system (query=q); "
        "of responses: prompt, system, responder, response, finish_reason (responder=model,response=answer)."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file, a folder or a Hub dataset is read."""

    columns: Columns = None
    hub_config: Annotated[
        str | None, Parameter(help="Config of a Hub dataset, or a folder in it: helpful-base.")
    ] = None
    split: Annotated[str | None, Parameter(help="Split of a Hub dataset, such as train, or all.")] = None


def root_flag(root: Path) -> str:
    """` --root DIR` for a printed command; nothing where that is the default."""
    return "" if root == ROOT else f" --root {shlex.quote(str(root))}"


def format_default(value: Any) -> str | None:
    """A default as help shows it: not for a switch that is off, an empty list, or what has none."""
    return None if value is None or value is False or value == () else str(value)


def refuse_fractions(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raise InputError for a fraction where a whole number belongs, which would be rounded otherwise."""
    for argument in arguments:
        kinds = {argument.hint, *get_args(argument.hint)}
        for token in argument.tokens if int in kinds and not kinds & {float, str} else ():
            if "." in token.value:
                raise InputError(f"{token.keyword} {token.value}: give a whole number")


DEFAULTS = Parameter(negative=(), show_default=format_default)
"""What holds for every option: no `--no-...` and no `--empty-...` beside it."""
