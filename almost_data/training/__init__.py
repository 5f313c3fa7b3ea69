"""What the recipes share and TRL does not have: pinned rows, one chat template, checks, and the artifact.

A recipe (`recipes/*.py`) reads as: parse, open the rows, find the base model, check, train with TRL's own
trainer, judge, publish. Nothing here imports TRL.
"""

from .arguments import Inputs, PolicyInputs, parse, processes, run
from .artifact import begin, curves, find_model, is_done, publish
from .data import account, comparisons, dialogues, open_dataset, prompts
from .reward_report import leave_out
from .template import fit, prepare

__all__ = [
    "Inputs",
    "PolicyInputs",
    "account",
    "begin",
    "comparisons",
    "curves",
    "dialogues",
    "find_model",
    "fit",
    "is_done",
    "leave_out",
    "open_dataset",
    "parse",
    "prepare",
    "processes",
    "prompts",
    "publish",
    "run",
]
