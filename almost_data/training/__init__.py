"""What recipes share and TRL does not have: pinned rows, one chat template, checks, and the artifact.

A recipe (`recipes/*.py`) parses its arguments, opens the rows, finds the base model, checks, trains with
TRL's own trainer, judges and publishes. Nothing here imports TRL, and nothing here prints.
"""

from .arguments import Inputs, PolicyInputs, argument, parse
from .artifact import begin, find_model, publish
from .data import account, dropped, open_dataset
from .reward_report import leave_out
from .settings import is_main_process, processes
from .shapes import comparisons, dialogues, prompts
from .template import fit, prepare

__all__ = [
    "Inputs",
    "PolicyInputs",
    "account",
    "argument",
    "begin",
    "comparisons",
    "dialogues",
    "dropped",
    "find_model",
    "fit",
    "is_main_process",
    "leave_out",
    "open_dataset",
    "parse",
    "prepare",
    "processes",
    "prompts",
    "publish",
]
