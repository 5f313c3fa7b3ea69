"""Recipes run in this process, on tiny models and the fake engine's data."""

import contextlib
import importlib.util
import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from almost_data.store.store import Store
from almost_data.training import trainers
from tests import command

RECIPES = Path(__file__).parents[2] / "recipes"
QUICK = {
    "per_device_train_batch_size": 4,
    "max_steps": 3,
    "learning_rate": 1e-3,
    "max_length": 768,
    "logging_steps": 1,
    "report_to": "none",
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
POLICY = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-4,
    "logging_steps": 1,
    "report_to": "none",
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "report_prompts": 2,
}
DPO = QUICK | {"limit": 4}  # one batch, again and again
PPO = POLICY | {"total_episodes": 8, "num_ppo_epochs": 1, "response_length": 12, "num_sample_generations": 0}
RLOO = POLICY | {"max_steps": 2, "num_generations": 2, "max_completion_length": 12}


def load(name: str) -> Any:
    """A fresh module of `recipes/NAME.py`."""
    spec = importlib.util.spec_from_file_location(f"recipes_{name}", RECIPES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def flags(arguments: dict[str, Any]) -> list[str]:
    return [word for name, value in arguments.items() for word in (f"--{name}", str(value))]


@dataclass
class Kept:
    """What a recipe had in memory just before it saved."""

    trainer: Any = None
    model: Any = None
    tokenizer: Any = None
    measured: Any = None


@contextlib.contextmanager
def keep(measure: Callable[[Any, Any], Any] | None = None) -> Any:
    """Holds on to what recipes save; `measure` sees model and tokenizer before an adapter is merged."""
    kept, save = Kept(), trainers.save

    def watched(trainer: Any, model: Any, tokenizer: Any, folder: Path) -> Path:
        kept.trainer, kept.model, kept.tokenizer = trainer, model, tokenizer
        if measure:
            kept.measured = measure(trainer.accelerator.unwrap_model(model).eval(), tokenizer)
        return save(trainer, model, tokenizer, folder)

    with mock.patch.object(trainers, "save", watched):
        yield kept


def run(
    name: str,
    store: Store,
    artifact: str,
    arguments: dict[str, Any],
    measure: Callable[[Any, Any], Any] | None = None,
    module: Any = None,
) -> Kept:
    """`recipes/NAME.py` through its own main."""
    whole = {"root": store.root, "artifact": artifact, **arguments}
    with keep(measure) as kept:
        (module or load(name)).main(flags(whole))
    return kept


def shell(name: str, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """`python recipes/NAME.py ...`, as a user runs it; or torchrun, with more than one process."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(RECIPES / f"{name}.py"), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `shell`, in this process, which has imported TRL; of `environment`, see `command.at_hub`."""
    file, output, errors = str(RECIPES / f"{name}.py"), io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        command.at_hub(environment) if environment else contextlib.nullcontext(),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        mock.patch.object(sys, "argv", [file, *arguments]),
    ):
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess([file, *arguments], code or 0, output.getvalue(), errors.getvalue())


def scores(model: Any, tokenizer: Any, talks: list[list[dict[str, str]]]) -> list[float]:
    """A classifier's scores of dialogues, one at a time, read at their last token."""
    import torch

    values = []
    with torch.inference_mode():
        for turns in talks:
            ids = tokenizer.apply_chat_template(turns, return_dict=True, return_tensors="pt")
            assert ids["input_ids"][0, -1] == tokenizer.eos_token_id
            values.append(model(**ids).logits.item())
    return values
