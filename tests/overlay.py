"""TRL 1.12 with its PPO: a folder that `make test` fills, for tests to lay over the environment."""

import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "ppo"
HAS_PPO = any(trl.version.startswith("1.12.") for trl in distributions(name="trl"))
needs_ppo = pytest.mark.skipif(not HAS_PPO, reason="needs TRL 1.12: tests/recipes/test_overlay.py runs it")
