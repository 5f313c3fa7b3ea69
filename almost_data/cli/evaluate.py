"""The verb `eval`: one command for each evaluation, with the options that it takes."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any

from cyclopts import App, Parameter

from .. import registry
from ..datasets.builder import silent
from ..evals import model_card
from ..evals.evaluation import Evaluation, evaluate, load
from ..store.store import Store
from .console import print_json
from .options import ROOT, Json, Root
from .progress import progress_bars
from .show_results import print_result

app = App(
    name="eval",
    help="Evaluate a model on a benchmark, beside the baselines that expose shortcuts; FILE.py:NAME is an "
    "evaluation of yours.",
    version_flags=(),
)
_NAMES = {name.replace("-", "_"): name for name in registry.names("evals")}
for _attribute, _name in _NAMES.items():
    app.command(f"{__name__}:{_attribute}", name=_name)


def __getattr__(name: str) -> Callable[..., None]:
    """The command of an evaluation, made when it is needed: only then is the evaluation loaded."""
    if name not in _NAMES:
        raise AttributeError(name)
    return command(load(_NAMES[name]))


def load_commands(arguments: list[str]) -> None:
    """Make a file's evaluation (`FILE.py:NAME`) a command too; for help, load all evaluations.

    Raises InputError for a name that is no evaluation's.
    """
    if not arguments or arguments[0].startswith("-"):
        app.resolved_commands()
    elif arguments[0] not in app:
        app.command(command(load(arguments[0])), name=arguments[0])


def command(evaluation: Evaluation[Any]) -> Callable[..., None]:
    """The command that runs an evaluation."""

    def run(*, options: Any, json: Json = False, root: Root = ROOT) -> None:
        store = Store(root)
        with progress_bars() as bars:
            result = evaluate(store, evaluation, options, silent if json else bars)
        model_card.renew(store, result)
        if json:
            print_json(result)
        else:
            print_result(store, result)

    # cyclopts reads the flags off the signature, and the type of the options is known only here.
    options_type: Any = evaluation.options
    run.__annotations__["options"] = Annotated[options_type, Parameter(name="*")]
    if all(field.default is not MISSING for field in fields(evaluation.options)):
        run.__kwdefaults__ = {**(run.__kwdefaults__ or {}), "options": evaluation.options()}
    run.__doc__ = evaluation.description
    return run
