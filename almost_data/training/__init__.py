"""What recipes share and TRL does not have: pinned rows, one chat template, checks, and the artifact.

A recipe (`recipes/*.py`) parses its arguments, opens the rows, finds the base model, checks, trains with
TRL's own trainer, judges and publishes. Nothing here imports TRL, and nothing here prints.
"""

from .arguments import Inputs as Inputs
from .arguments import PolicyInputs as PolicyInputs
from .arguments import argument as argument
from .arguments import parse as parse
from .artifact import begin as begin
from .artifact import find_model as find_model
from .artifact import publish as publish
from .data import account as account
from .data import dropped as dropped
from .data import open_dataset as open_dataset
from .reward_report import leave_out as leave_out
from .settings import is_main_process as is_main_process
from .settings import processes as processes
from .shapes import comparisons as comparisons
from .shapes import dialogues as dialogues
from .shapes import first_prompts as first_prompts
from .shapes import prompts as prompts
from .template import fit as fit
from .template import prepare as prepare
